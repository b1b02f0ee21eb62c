// Packed integers: MMX, SSE2, and the plain two-operand instructions of SSSE3, SSE4, AES-NI and SHA.
#include "vector_kernels.h"

// mnemonic, opcode, bytes of memory operand in the MMX form. Opcode map 0F; with 66 the operands are XMM registers.
#define BOTH(X) \
  X(punpcklbw, 0x60, 4) X(punpcklwd, 0x61, 4) X(punpckldq, 0x62, 4) X(packsswb, 0x63, 8) \
  X(pcmpgtb, 0x64, 8) X(pcmpgtw, 0x65, 8) X(pcmpgtd, 0x66, 8) X(packuswb, 0x67, 8) \
  X(punpckhbw, 0x68, 8) X(punpckhwd, 0x69, 8) X(punpckhdq, 0x6A, 8) X(packssdw, 0x6B, 8) \
  X(pcmpeqb, 0x74, 8) X(pcmpeqw, 0x75, 8) X(pcmpeqd, 0x76, 8) \
  X(psrlw, 0xD1, 8) X(psrld, 0xD2, 8) X(psrlq, 0xD3, 8) X(paddq, 0xD4, 8) X(pmullw, 0xD5, 8) \
  X(psubusb, 0xD8, 8) X(psubusw, 0xD9, 8) X(pminub, 0xDA, 8) X(pand, 0xDB, 8) \
  X(paddusb, 0xDC, 8) X(paddusw, 0xDD, 8) X(pmaxub, 0xDE, 8) X(pandn, 0xDF, 8) \
  X(pavgb, 0xE0, 8) X(psraw, 0xE1, 8) X(psrad, 0xE2, 8) X(pavgw, 0xE3, 8) \
  X(pmulhuw, 0xE4, 8) X(pmulhw, 0xE5, 8) X(psubsb, 0xE8, 8) X(psubsw, 0xE9, 8) \
  X(pminsw, 0xEA, 8) X(por, 0xEB, 8) X(paddsb, 0xEC, 8) X(paddsw, 0xED, 8) \
  X(pmaxsw, 0xEE, 8) X(pxor, 0xEF, 8) X(psllw, 0xF1, 8) X(pslld, 0xF2, 8) X(psllq, 0xF3, 8) \
  X(pmuludq, 0xF4, 8) X(pmaddwd, 0xF5, 8) X(psadbw, 0xF6, 8) X(psubb, 0xF8, 8) \
  X(psubw, 0xF9, 8) X(psubd, 0xFA, 8) X(psubq, 0xFB, 8) X(paddb, 0xFC, 8) X(paddw, 0xFD, 8) \
  X(paddd, 0xFE, 8)

// The same of SSSE3, opcode map 0F 38.
#define BOTH_SSSE3(X) \
  X(pshufb, 0x00) X(phaddw, 0x01) X(phaddd, 0x02) X(phaddsw, 0x03) X(pmaddubsw, 0x04) \
  X(phsubw, 0x05) X(phsubd, 0x06) X(phsubsw, 0x07) X(psignb, 0x08) X(psignw, 0x09) \
  X(psignd, 0x0A) X(pmulhrsw, 0x0B) X(pabsb, 0x1C) X(pabsw, 0x1D) X(pabsd, 0x1E)

// mnemonic, map, prefix, opcode, bytes in memory, feature. XMM only.
#define ONLY_XMM(X) \
  X(punpcklqdq, 1, 0x66, 0x6C, 16, BASE) X(punpckhqdq, 1, 0x66, 0x6D, 16, BASE) \
  X(andps, 1, 0, 0x54, 16, BASE) X(andpd, 1, 0x66, 0x54, 16, BASE) \
  X(andnps, 1, 0, 0x55, 16, BASE) X(andnpd, 1, 0x66, 0x55, 16, BASE) \
  X(orps, 1, 0, 0x56, 16, BASE) X(orpd, 1, 0x66, 0x56, 16, BASE) \
  X(xorps, 1, 0, 0x57, 16, BASE) X(xorpd, 1, 0x66, 0x57, 16, BASE) \
  X(unpcklps, 1, 0, 0x14, 16, BASE) X(unpcklpd, 1, 0x66, 0x14, 16, BASE) \
  X(unpckhps, 1, 0, 0x15, 16, BASE) X(unpckhpd, 1, 0x66, 0x15, 16, BASE) \
  X(rsqrtps, 1, 0, 0x52, 16, BASE) X(rsqrtss, 1, 0xF3, 0x52, 4, BASE) \
  X(rcpps, 1, 0, 0x53, 16, BASE) X(rcpss, 1, 0xF3, 0x53, 4, BASE) \
  X(movddup, 1, 0xF2, 0x12, 8, SSE3) X(movsldup, 1, 0xF3, 0x12, 16, SSE3) \
  X(movshdup, 1, 0xF3, 0x16, 16, SSE3) \
  X(pmovsxbw, 2, 0x66, 0x20, 8, SSE41) X(pmovsxbd, 2, 0x66, 0x21, 4, SSE41) \
  X(pmovsxbq, 2, 0x66, 0x22, 2, SSE41) X(pmovsxwd, 2, 0x66, 0x23, 8, SSE41) \
  X(pmovsxwq, 2, 0x66, 0x24, 4, SSE41) X(pmovsxdq, 2, 0x66, 0x25, 8, SSE41) \
  X(pmuldq, 2, 0x66, 0x28, 16, SSE41) X(pcmpeqq, 2, 0x66, 0x29, 16, SSE41) \
  X(packusdw, 2, 0x66, 0x2B, 16, SSE41) \
  X(pmovzxbw, 2, 0x66, 0x30, 8, SSE41) X(pmovzxbd, 2, 0x66, 0x31, 4, SSE41) \
  X(pmovzxbq, 2, 0x66, 0x32, 2, SSE41) X(pmovzxwd, 2, 0x66, 0x33, 8, SSE41) \
  X(pmovzxwq, 2, 0x66, 0x34, 4, SSE41) X(pmovzxdq, 2, 0x66, 0x35, 8, SSE41) \
  X(pcmpgtq, 2, 0x66, 0x37, 16, SSE42) \
  X(pminsb, 2, 0x66, 0x38, 16, SSE41) X(pminsd, 2, 0x66, 0x39, 16, SSE41) \
  X(pminuw, 2, 0x66, 0x3A, 16, SSE41) X(pminud, 2, 0x66, 0x3B, 16, SSE41) \
  X(pmaxsb, 2, 0x66, 0x3C, 16, SSE41) X(pmaxsd, 2, 0x66, 0x3D, 16, SSE41) \
  X(pmaxuw, 2, 0x66, 0x3E, 16, SSE41) X(pmaxud, 2, 0x66, 0x3F, 16, SSE41) \
  X(pmulld, 2, 0x66, 0x40, 16, SSE41) X(phminposuw, 2, 0x66, 0x41, 16, SSE41) \
  X(aesimc, 2, 0x66, 0xDB, 16, AES) X(aesenc, 2, 0x66, 0xDC, 16, AES) \
  X(aesenclast, 2, 0x66, 0xDD, 16, AES) X(aesdec, 2, 0x66, 0xDE, 16, AES) \
  X(aesdeclast, 2, 0x66, 0xDF, 16, AES) \
  X(sha1nexte, 2, 0, 0xC8, 16, SHA) X(sha1msg1, 2, 0, 0xC9, 16, SHA) \
  X(sha1msg2, 2, 0, 0xCA, 16, SHA) X(sha256msg1, 2, 0, 0xCC, 16, SHA) \
  X(sha256msg2, 2, 0, 0xCD, 16, SHA)

#define DEFINE(mnemonic, opcode, size) \
  KERNEL(mnemonic) BINARY_BODY(#mnemonic) KERNEL(mnemonic##_mmx) MMX_BODY(#mnemonic)
BOTH(DEFINE)
#undef DEFINE
#define DEFINE(mnemonic, opcode) \
  KERNEL(mnemonic) BINARY_BODY(#mnemonic) KERNEL(mnemonic##_mmx) MMX_BODY(#mnemonic)
BOTH_SSSE3(DEFINE)
#undef DEFINE
#define DEFINE(mnemonic, map, prefix, opcode, size, feature) KERNEL(mnemonic) BINARY_BODY(#mnemonic)
ONLY_XMM(DEFINE)
#undef DEFINE

// Shifts by an immediate: the same as by a register that holds it.
#define SHIFTS(X) \
  X(psrlw, 0x71, 2) X(psraw, 0x71, 4) X(psllw, 0x71, 6) X(psrld, 0x72, 2) X(psrad, 0x72, 4) \
  X(pslld, 0x72, 6) X(psrlq, 0x73, 2) X(psllq, 0x73, 6)
#define DEFINE(mnemonic, opcode, group) \
  KERNEL(mnemonic##_by) { \
    vector128 count = {i & 0xFF, 0}; \
    return mnemonic(cpu, d, &count, 0); \
  } \
  KERNEL(mnemonic##_mmx_by) { \
    uint64_t count = i & 0xFF; \
    return mnemonic##_mmx(cpu, d, &count, 0); \
  }
SHIFTS(DEFINE)
#undef DEFINE

KERNEL(psrldq) {
  uint8_t wide[32] = {0};
  uint32_t count = (i & 0xFF) > 16 ? 16 : i & 0xFF;
  memcpy(wide, d, 16);
  memcpy(d, wide + count, 16);
  return 0;
}
KERNEL(pslldq) {
  uint8_t wide[32] = {0};
  uint32_t count = (i & 0xFF) > 16 ? 16 : i & 0xFF;
  memcpy(wide + 16, d, 16);
  memcpy(d, wide + 16 - count, 16);
  return 0;
}

// AMD's processors do not ask for alignment of SHA's operands.
const soft_vector_entry soft_integer_entries[] = {
#define ENTRY(mnemonic, opcode, size) \
  {mnemonic, 1, 0x66, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, SOFT_VECTOR_ALIGNED, 16, \
   SOFT_FEATURE_BASE}, \
  {mnemonic##_mmx, 1, 0, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, \
   SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM, size, SOFT_FEATURE_BASE},
    BOTH(ENTRY)
#undef ENTRY
#define ENTRY(mnemonic, opcode) \
  {mnemonic, 2, 0x66, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, SOFT_VECTOR_ALIGNED, 16, \
   SOFT_FEATURE_SSSE3}, \
  {mnemonic##_mmx, 2, 0, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, \
   SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM, 8, SOFT_FEATURE_SSSE3},
    BOTH_SSSE3(ENTRY)
#undef ENTRY
#define ENTRY(mnemonic, map, prefix, opcode, size, feature) \
  {mnemonic, map, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, \
   size == 16 && SOFT_FEATURE_##feature != SOFT_FEATURE_SHA ? SOFT_VECTOR_ALIGNED : 0, size, \
   SOFT_FEATURE_##feature},
    ONLY_XMM(ENTRY)
#undef ENTRY
#define ENTRY(mnemonic, opcode, group) \
  {mnemonic##_by, 1, 0x66, opcode, group, SOFT_SHAPE_GROUP, \
   SOFT_VECTOR_REGISTER_ONLY | SOFT_VECTOR_IMMEDIATE, 0, SOFT_FEATURE_BASE}, \
  {mnemonic##_mmx_by, 1, 0, opcode, group, SOFT_SHAPE_GROUP, \
   SOFT_VECTOR_REGISTER_ONLY | SOFT_VECTOR_IMMEDIATE | SOFT_VECTOR_MMX_RM, 0, \
   SOFT_FEATURE_BASE},
    SHIFTS(ENTRY)
#undef ENTRY
    {psrldq, 1, 0x66, 0x73, 3, SOFT_SHAPE_GROUP,
     SOFT_VECTOR_REGISTER_ONLY | SOFT_VECTOR_IMMEDIATE, 0, SOFT_FEATURE_BASE},
    {pslldq, 1, 0x66, 0x73, 7, SOFT_SHAPE_GROUP,
     SOFT_VECTOR_REGISTER_ONLY | SOFT_VECTOR_IMMEDIATE, 0, SOFT_FEATURE_BASE},
};
const uint32_t soft_integer_count = sizeof soft_integer_entries / sizeof soft_integer_entries[0];
