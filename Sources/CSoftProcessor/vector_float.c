// Packed and scalar floating point: SSE, SSE2, SSE3, and the rounding and dot products of SSE4.1.
#include "vector_kernels.h"

// mnemonic, prefix, opcode, bytes in memory, feature, which results may be tiny. Opcode map 0F.
#define FOUR(X, name, opcode, tiny) \
  X(name##ps, 0, opcode, 16, BASE, tiny##PS) X(name##pd, 0x66, opcode, 16, BASE, tiny##PD) \
  X(name##ss, 0xF3, opcode, 4, BASE, tiny##SS) X(name##sd, 0xF2, opcode, 8, BASE, tiny##SD)
enum { TINY_NEVER_PS, TINY_NEVER_PD = 0, TINY_NEVER_SS = 0, TINY_NEVER_SD = 0 };

#define FLOATS(X) \
  FOUR(X, sqrt, 0x51, TINY_NEVER_) FOUR(X, add, 0x58, TINY_) FOUR(X, mul, 0x59, TINY_) \
  FOUR(X, sub, 0x5C, TINY_) FOUR(X, min, 0x5D, TINY_NEVER_) FOUR(X, div, 0x5E, TINY_) \
  FOUR(X, max, 0x5F, TINY_NEVER_) \
  X(cvtps2pd, 0, 0x5A, 8, BASE, TINY_NONE) X(cvtpd2ps, 0x66, 0x5A, 16, BASE, TINY_PS) \
  X(cvtss2sd, 0xF3, 0x5A, 4, BASE, TINY_NONE) X(cvtsd2ss, 0xF2, 0x5A, 8, BASE, TINY_SS) \
  X(cvtdq2ps, 0, 0x5B, 16, BASE, TINY_NONE) X(cvtps2dq, 0x66, 0x5B, 16, BASE, TINY_NONE) \
  X(cvttps2dq, 0xF3, 0x5B, 16, BASE, TINY_NONE) X(cvttpd2dq, 0x66, 0xE6, 16, BASE, TINY_NONE) \
  X(cvtdq2pd, 0xF3, 0xE6, 8, BASE, TINY_NONE) X(cvtpd2dq, 0xF2, 0xE6, 16, BASE, TINY_NONE) \
  X(haddpd, 0x66, 0x7C, 16, SSE3, TINY_PD) X(haddps, 0xF2, 0x7C, 16, SSE3, TINY_PS) \
  X(hsubpd, 0x66, 0x7D, 16, SSE3, TINY_PD) X(hsubps, 0xF2, 0x7D, 16, SSE3, TINY_PS) \
  X(addsubpd, 0x66, 0xD0, 16, SSE3, TINY_PD) X(addsubps, 0xF2, 0xD0, 16, SSE3, TINY_PS)

#define DEFINE(mnemonic, prefix, opcode, size, feature, tiny) \
  KERNEL(mnemonic##_raw) BINARY_BODY(#mnemonic) FLOAT_WRAP(mnemonic, tiny)
FLOATS(DEFINE)
#undef DEFINE

// With an immediate: mnemonic, map, prefix, opcode, bytes, feature, used bits of the immediate.
#define COMPARES(X) \
  X(cmpps, 1, 0, 0xC2, 16, BASE) X(cmppd, 1, 0x66, 0xC2, 16, BASE) X(cmpss, 1, 0xF3, 0xC2, 4, BASE) \
  X(cmpsd, 1, 0xF2, 0xC2, 8, BASE)
#define ROUNDS(X) \
  X(roundps, 3, 0x66, 0x08, 16, SSE41) X(roundpd, 3, 0x66, 0x09, 16, SSE41) \
  X(roundss, 3, 0x66, 0x0A, 4, SSE41) X(roundsd, 3, 0x66, 0x0B, 8, SSE41)
#define PRODUCTS(X) X(dpps, 3, 0x66, 0x40, 16, SSE41) X(dppd, 3, 0x66, 0x41, 16, SSE41)

#define DEFINE_WITH(mnemonic, mask, CASES) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    switch (i & mask) { CASES } \
    STORE128(d, a); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)

#define CASE(n) BINARY_CASE(MNEMONIC, n)
#define MNEMONIC "cmpps"
DEFINE_WITH(cmpps, 7, CASES_4(CASE, 0) CASES_4(CASE, 4))
#undef MNEMONIC
#define MNEMONIC "cmppd"
DEFINE_WITH(cmppd, 7, CASES_4(CASE, 0) CASES_4(CASE, 4))
#undef MNEMONIC
#define MNEMONIC "cmpss"
DEFINE_WITH(cmpss, 7, CASES_4(CASE, 0) CASES_4(CASE, 4))
#undef MNEMONIC
#define MNEMONIC "cmpsd"
DEFINE_WITH(cmpsd, 7, CASES_4(CASE, 0) CASES_4(CASE, 4))
#undef MNEMONIC
#define MNEMONIC "roundps"
DEFINE_WITH(roundps, 15, CASES_16(CASE, 0))
#undef MNEMONIC
#define MNEMONIC "roundpd"
DEFINE_WITH(roundpd, 15, CASES_16(CASE, 0))
#undef MNEMONIC
#define MNEMONIC "roundss"
DEFINE_WITH(roundss, 15, CASES_16(CASE, 0))
#undef MNEMONIC
#define MNEMONIC "roundsd"
DEFINE_WITH(roundsd, 15, CASES_16(CASE, 0))
#undef MNEMONIC
#define MNEMONIC "dpps"
DEFINE_WITH(dpps, 255, CASES_256(CASE))
#undef MNEMONIC
#define MNEMONIC "dppd"
DEFINE_WITH(dppd, 255, CASES_256(CASE))
#undef MNEMONIC

// Ordered and unordered comparison into ZF, PF, CF.
#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    uint8_t zero, parity, carry; \
    __asm__ volatile(#mnemonic " %4, %3" \
                     : "=@ccz"(zero), "=@ccp"(parity), "=@ccc"(carry) \
                     : "x"(a), "x"(b)); \
    cpu->vector_flags = (uint32_t)carry | (uint32_t)parity << 2 | (uint32_t)zero << 6; \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
DEFINE(ucomiss)
DEFINE(ucomisd)
DEFINE(comiss)
DEFINE(comisd)
#undef DEFINE

// To and from general registers.
#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 b = LOAD128(s); \
    if (i & 0x100) { \
      uint64_t result; \
      __asm__ volatile(#mnemonic " %1, %0" : "=r"(result) : "x"(b)); \
      STORE64(d, result); \
    } else { \
      uint32_t result; \
      __asm__ volatile(#mnemonic " %1, %0" : "=r"(result) : "x"(b)); \
      STORE64(d, result); \
    } \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
DEFINE(cvtss2si)
DEFINE(cvtsd2si)
DEFINE(cvttss2si)
DEFINE(cvttsd2si)
#undef DEFINE

#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d); \
    if (i & 0x100) { \
      __asm__ volatile(#mnemonic "q %1, %0" : "+x"(a) : "r"(LOAD64(s))); \
    } else { \
      __asm__ volatile(#mnemonic "l %1, %0" : "+x"(a) : "r"(LOAD32(s))); \
    } \
    STORE128(d, a); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
DEFINE(cvtsi2ss)
DEFINE(cvtsi2sd)
#undef DEFINE

// To and from MMX registers.
#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d); \
    __asm__ volatile("movq %1, %%mm0\n\t" #mnemonic " %%mm0, %0\n\temms" \
                     : "+x"(a) \
                     : "m"(*(const unaligned64 *)s)); \
    STORE128(d, a); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
DEFINE(cvtpi2ps)
DEFINE(cvtpi2pd)
#undef DEFINE
#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 b = LOAD128(s); \
    __asm__ volatile(#mnemonic " %1, %%mm0\n\tmovq %%mm0, %0\n\temms" \
                     : "=m"(*(unaligned64 *)d) \
                     : "x"(b)); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
DEFINE(cvtps2pi)
DEFINE(cvttps2pi)
DEFINE(cvtpd2pi)
DEFINE(cvttpd2pi)
#undef DEFINE

#define SIMPLE(kernel, prefix, opcode, shape, flags, size) \
  {kernel, 1, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_##shape, SOFT_VECTOR_FLOAT | (flags), \
   size, SOFT_FEATURE_BASE},

const soft_vector_entry soft_float_entries[] = {
#define ENTRY(mnemonic, prefix, opcode, size, feature, tiny) \
  {mnemonic, 1, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, \
   SOFT_VECTOR_FLOAT | (size == 16 ? SOFT_VECTOR_ALIGNED : 0), size, SOFT_FEATURE_##feature},
    FLOATS(ENTRY)
#undef ENTRY
#define ENTRY(mnemonic, map, prefix, opcode, size, feature) \
  {mnemonic, map, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_LOAD, \
   SOFT_VECTOR_FLOAT | SOFT_VECTOR_IMMEDIATE | (size == 16 ? SOFT_VECTOR_ALIGNED : 0), size, \
   SOFT_FEATURE_##feature},
    COMPARES(ENTRY) ROUNDS(ENTRY) PRODUCTS(ENTRY)
#undef ENTRY
    SIMPLE(ucomiss, 0, 0x2E, FLAGS, 0, 4) SIMPLE(ucomisd, 0x66, 0x2E, FLAGS, 0, 8)
    SIMPLE(comiss, 0, 0x2F, FLAGS, 0, 4) SIMPLE(comisd, 0x66, 0x2F, FLAGS, 0, 8)
    SIMPLE(cvtss2si, 0xF3, 0x2D, TO_GENERAL, SOFT_VECTOR_WIDE, 4)
    SIMPLE(cvtsd2si, 0xF2, 0x2D, TO_GENERAL, SOFT_VECTOR_WIDE, 8)
    SIMPLE(cvttss2si, 0xF3, 0x2C, TO_GENERAL, SOFT_VECTOR_WIDE, 4)
    SIMPLE(cvttsd2si, 0xF2, 0x2C, TO_GENERAL, SOFT_VECTOR_WIDE, 8)
    SIMPLE(cvtsi2ss, 0xF3, 0x2A, INSERT, SOFT_VECTOR_WIDE, 4)
    SIMPLE(cvtsi2sd, 0xF2, 0x2A, INSERT, SOFT_VECTOR_WIDE, 4)
    SIMPLE(cvtpi2ps, 0, 0x2A, LOAD, SOFT_VECTOR_MMX_RM, 8)
    SIMPLE(cvtpi2pd, 0x66, 0x2A, LOAD, SOFT_VECTOR_MMX_RM, 8)
    SIMPLE(cvtps2pi, 0, 0x2D, LOAD, SOFT_VECTOR_MMX_REG, 8)
    SIMPLE(cvttps2pi, 0, 0x2C, LOAD, SOFT_VECTOR_MMX_REG, 8)
    SIMPLE(cvtpd2pi, 0x66, 0x2D, LOAD, SOFT_VECTOR_MMX_REG | SOFT_VECTOR_ALIGNED, 16)
    SIMPLE(cvttpd2pi, 0x66, 0x2C, LOAD, SOFT_VECTOR_MMX_REG | SOFT_VECTOR_ALIGNED, 16)
};
const uint32_t soft_float_count = sizeof soft_float_entries / sizeof soft_float_entries[0];
