// What SSSE3, SSE4, AES-NI, PCLMULQDQ and SHA have with an immediate or with implicit operands.
#include "vector_kernels.h"

KERNEL(palignr) {
  uint8_t wide[48] = {0};
  memcpy(wide, s, 16);
  memcpy(wide + 16, d, 16);
  uint32_t shift = (i & 0xFF) > 32 ? 32 : i & 0xFF;
  memcpy(d, wide + shift, 16);
  return 0;
}
KERNEL(palignr_mmx) {
  uint8_t wide[24] = {0};
  memcpy(wide, s, 8);
  memcpy(wide + 8, d, 8);
  uint32_t shift = (i & 0xFF) > 16 ? 16 : i & 0xFF;
  memcpy(d, wide + shift, 8);
  return 0;
}

// Those with XMM0 as a third operand.
#define DEFINE(mnemonic) \
  KERNEL(mnemonic) { \
    register vector128 third __asm__("xmm0") = LOAD128(cpu->vectors[0]); \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    __asm__ volatile(#mnemonic " %%xmm0, %1, %0" : "+x"(a) : "x"(b), "x"(third)); \
    STORE128(d, a); \
    return 0; \
  }
DEFINE(pblendvb)
DEFINE(blendvps)
DEFINE(blendvpd)
DEFINE(sha256rnds2)
#undef DEFINE

KERNEL(ptest) {
  vector128 a = LOAD128(d), b = LOAD128(s);
  uint8_t zero, carry;
  __asm__("ptest %3, %2" : "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b));
  cpu->vector_flags = (uint32_t)carry | (uint32_t)zero << 6;
  return 0;
}

#define DEFINE(name, element, mask) \
  KERNEL(name) { \
    for (uint32_t n = 0; n < 16 / element; n++) \
      if (i >> n & 1) memcpy((uint8_t *)d + element * n, (const uint8_t *)s + element * n, element); \
    return 0; \
  }
DEFINE(blendps, 4, 15)
DEFINE(blendpd, 8, 3)
DEFINE(pblendw, 2, 255)
#undef DEFINE

KERNEL(pextrb) {
  STORE64(d, ((const uint8_t *)s)[i & 15]);
  return 0;
}
KERNEL(pextrw) {
  STORE64(d, LOAD16((const uint8_t *)s + 2 * (i & 7)));
  return 0;
}
KERNEL(pextrd) {
  STORE64(
      d, i & 0x100 ? LOAD64((const uint8_t *)s + 8 * (i & 1))
                   : LOAD32((const uint8_t *)s + 4 * (i & 3)));
  return 0;
}
KERNEL(extractps) {
  STORE64(d, LOAD32((const uint8_t *)s + 4 * (i & 3)));
  return 0;
}
KERNEL(pinsrb) {
  ((uint8_t *)d)[i & 15] = *(const uint8_t *)s;
  return 0;
}
KERNEL(pinsrd) {
  if (i & 0x100)
    STORE64((uint8_t *)d + 8 * (i & 1), LOAD64(s));
  else
    STORE32((uint8_t *)d + 4 * (i & 3), LOAD32(s));
  return 0;
}
static void insert_single(uint8_t *d, uint32_t value, uint32_t i) {
  STORE32(d + 4 * (i >> 4 & 3), value);
  for (uint32_t n = 0; n < 4; n++)
    if (i >> n & 1) STORE32(d + 4 * n, 0);
}
KERNEL(insertps_register) {
  insert_single(d, LOAD32((const uint8_t *)s + 4 * (i >> 6 & 3)), i);
  return 0;
}
KERNEL(insertps_memory) {
  insert_single(d, LOAD32(s), i);
  return 0;
}

KERNEL(aeskeygenassist) {
  vector128 a, b = LOAD128(s);
  __asm__("aeskeygenassist $0, %1, %0" : "=x"(a) : "x"(b));
  // The round constant goes into the two rotated words.
  a ^= (vector128){(long long)((uint64_t)(i & 0xFF) << 32), (long long)((uint64_t)(i & 0xFF) << 32)};
  STORE128(d, a);
  return 0;
}

#define CASE(n) BINARY_CASE(MNEMONIC, n)
#define DEFINE(name, selector, CASES) \
  KERNEL(name) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    switch (selector) { CASES } \
    STORE128(d, a); \
    return 0; \
  }
#define MNEMONIC "mpsadbw"
DEFINE(mpsadbw, i & 7, CASES_4(CASE, 0) CASES_4(CASE, 4))
#undef MNEMONIC
#define MNEMONIC "pclmulqdq"
DEFINE(pclmulqdq, i & 17, CASES_4(CASE, 0) CASES_4(CASE, 16))
#undef MNEMONIC
#define MNEMONIC "sha1rnds4"
DEFINE(sha1rnds4, i & 3, CASES_4(CASE, 0))
#undef MNEMONIC
#undef DEFINE

// PCMPxSTRx. Their lengths saturate far below 32 bits, so that REX.W needs no instruction of its own.
static int32_t string_length(uint64_t value, uint32_t is_wide) {
  int64_t length = is_wide ? (int64_t)value : (int32_t)value;
  return length > 100 ? 100 : length < -100 ? -100 : (int32_t)length;
}

#define STRING_FLAGS "=@ccc"(carry), "=@ccz"(zero), "=@ccs"(sign), "=@cco"(overflow)
#define EXPLICIT_CASE(n) \
  case n: \
    __asm__ volatile(MNEMONIC " %7, %6, %5" \
                     : OUTPUT, STRING_FLAGS \
                     : "x"(a), "x"(b), "i"(n), "a"(length1), "d"(length2)); \
    break;
#define IMPLICIT_CASE(n) \
  case n: \
    __asm__ volatile(MNEMONIC " %7, %6, %5" : OUTPUT, STRING_FLAGS : "x"(a), "x"(b), "i"(n)); \
    break;
#define DEFINE(name, CASE, RESULT) \
  KERNEL(name) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    uint8_t carry = 0, zero = 0, sign = 0, overflow = 0; \
    __attribute__((unused)) int32_t length1 = \
        string_length(cpu->registers[SOFT_RAX], i & 0x100); \
    __attribute__((unused)) int32_t length2 = \
        string_length(cpu->registers[SOFT_RDX], i & 0x100); \
    uint32_t index = 0; \
    vector128 mask = {0, 0}; \
    switch (i & 0x7F) { CASES_64(CASE, 0) CASES_64(CASE, 64) } \
    (void)index, (void)mask; \
    RESULT; \
    cpu->vector_flags = (uint32_t)carry | (uint32_t)zero << 6 | (uint32_t)sign << 7 \
        | (uint32_t)overflow << 11; \
    return 0; \
  }
#define OUTPUT "=c"(index)
#define MNEMONIC "pcmpestri"
DEFINE(pcmpestri, EXPLICIT_CASE, cpu->registers[SOFT_RCX] = index)
#undef MNEMONIC
#define MNEMONIC "pcmpistri"
DEFINE(pcmpistri, IMPLICIT_CASE, cpu->registers[SOFT_RCX] = index)
#undef MNEMONIC
#undef OUTPUT
#define OUTPUT "=Yz"(mask)
#define MNEMONIC "pcmpestrm"
DEFINE(pcmpestrm, EXPLICIT_CASE, STORE128(cpu->vectors[0], mask))
#undef MNEMONIC
#define MNEMONIC "pcmpistrm"
DEFINE(pcmpistrm, IMPLICIT_CASE, STORE128(cpu->vectors[0], mask))
#undef MNEMONIC
#undef OUTPUT

KERNEL(copy16) {
  STORE128(d, LOAD128(s));
  return 0;
}

enum {
  ALIGNED = SOFT_VECTOR_ALIGNED,
  REGISTER = SOFT_VECTOR_REGISTER_ONLY,
  MEMORY = SOFT_VECTOR_MEMORY_ONLY,
  MMX = SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM,
  WIDE = SOFT_VECTOR_WIDE,
  IMMEDIATE = SOFT_VECTOR_IMMEDIATE,
};
#define ENTRY(kernel, map, prefix, opcode, shape, flags, size, feature) \
  {kernel, map, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_##shape, flags, size, \
   SOFT_FEATURE_##feature},

const soft_vector_entry soft_extension_entries[] = {
    ENTRY(palignr, 3, 0x66, 0x0F, LOAD, IMMEDIATE | ALIGNED, 16, SSSE3)
    ENTRY(palignr_mmx, 3, 0, 0x0F, LOAD, IMMEDIATE | MMX, 8, SSSE3)
    ENTRY(pblendvb, 2, 0x66, 0x10, LOAD, ALIGNED, 16, SSE41)
    ENTRY(blendvps, 2, 0x66, 0x14, LOAD, ALIGNED, 16, SSE41)
    ENTRY(blendvpd, 2, 0x66, 0x15, LOAD, ALIGNED, 16, SSE41)
    ENTRY(ptest, 2, 0x66, 0x17, FLAGS, ALIGNED, 16, SSE41)
    ENTRY(copy16, 2, 0x66, 0x2A, LOAD, ALIGNED | MEMORY, 16, SSE41)
    ENTRY(blendps, 3, 0x66, 0x0C, LOAD, IMMEDIATE | ALIGNED, 16, SSE41)
    ENTRY(blendpd, 3, 0x66, 0x0D, LOAD, IMMEDIATE | ALIGNED, 16, SSE41)
    ENTRY(pblendw, 3, 0x66, 0x0E, LOAD, IMMEDIATE | ALIGNED, 16, SSE41)
    ENTRY(pextrb, 3, 0x66, 0x14, EXTRACT, IMMEDIATE, 1, SSE41)
    ENTRY(pextrw, 3, 0x66, 0x15, EXTRACT, IMMEDIATE, 2, SSE41)
    ENTRY(pextrd, 3, 0x66, 0x16, EXTRACT, IMMEDIATE | WIDE, 4, SSE41)
    ENTRY(extractps, 3, 0x66, 0x17, EXTRACT, IMMEDIATE, 4, SSE41)
    ENTRY(pinsrb, 3, 0x66, 0x20, INSERT, IMMEDIATE, 1, SSE41)
    ENTRY(insertps_register, 3, 0x66, 0x21, LOAD, IMMEDIATE | REGISTER, 4, SSE41)
    ENTRY(insertps_memory, 3, 0x66, 0x21, LOAD, IMMEDIATE | MEMORY, 4, SSE41)
    ENTRY(pinsrd, 3, 0x66, 0x22, INSERT, IMMEDIATE | WIDE, 4, SSE41)
    ENTRY(mpsadbw, 3, 0x66, 0x42, LOAD, IMMEDIATE | ALIGNED, 16, SSE41)
    ENTRY(pclmulqdq, 3, 0x66, 0x44, LOAD, IMMEDIATE | ALIGNED, 16, CLMUL)
    ENTRY(pcmpestrm, 3, 0x66, 0x60, STRING, IMMEDIATE | WIDE, 16, SSE42)
    ENTRY(pcmpestri, 3, 0x66, 0x61, STRING, IMMEDIATE | WIDE, 16, SSE42)
    ENTRY(pcmpistrm, 3, 0x66, 0x62, STRING, IMMEDIATE, 16, SSE42)
    ENTRY(pcmpistri, 3, 0x66, 0x63, STRING, IMMEDIATE, 16, SSE42)
    ENTRY(aeskeygenassist, 3, 0x66, 0xDF, LOAD, IMMEDIATE | ALIGNED, 16, AES)
    ENTRY(sha256rnds2, 2, 0, 0xCB, LOAD, 0, 16, SHA)
    ENTRY(sha1rnds4, 3, 0, 0xCC, LOAD, IMMEDIATE, 16, SHA)
};
const uint32_t soft_extension_count =
    sizeof soft_extension_entries / sizeof soft_extension_entries[0];
