// Moves and shuffles, and what goes between vector and general registers: MMX, SSE, SSE2.
#include "vector_kernels.h"

KERNEL(copy16) {
  STORE128(d, LOAD128(s));
  return 0;
}
KERNEL(copy8) {
  STORE64(d, LOAD64(s));
  return 0;
}
KERNEL(copy4) {
  STORE32(d, LOAD32(s));
  return 0;
}
KERNEL(copy8_zero) {
  STORE128(d, ((vector128){(long long)LOAD64(s), 0}));
  return 0;
}
KERNEL(copy4_zero) {
  STORE128(d, ((vector128){LOAD32(s), 0}));
  return 0;
}
KERNEL(low_to_high) {
  STORE64((uint8_t *)d + 8, LOAD64(s));
  return 0;
}
KERNEL(high_to_low) {
  STORE64(d, LOAD64((const uint8_t *)s + 8));
  return 0;
}

// MOVD and MOVQ between general and vector registers.
KERNEL(from_general) {
  STORE128(d, ((vector128){i & 0x100 ? (long long)LOAD64(s) : (long long)LOAD32(s), 0}));
  return 0;
}
KERNEL(from_general_mmx) {
  STORE64(d, i & 0x100 ? LOAD64(s) : LOAD32(s));
  return 0;
}
KERNEL(to_general) {
  STORE64(d, i & 0x100 ? LOAD64(s) : LOAD32(s));
  return 0;
}

#define DEFINE(mnemonic) \
  KERNEL(mnemonic) { \
    vector128 b = LOAD128(s); \
    uint32_t result; \
    __asm__(#mnemonic " %1, %0" : "=r"(result) : "x"(b)); \
    STORE64(d, result); \
    return 0; \
  }
DEFINE(movmskps)
DEFINE(movmskpd)
DEFINE(pmovmskb)
#undef DEFINE
KERNEL(pmovmskb_mmx) {
  vector128 b = {(long long)LOAD64(s), 0};
  uint32_t result;
  __asm__("pmovmskb %1, %0" : "=r"(result) : "x"(b));
  STORE64(d, result);
  return 0;
}

KERNEL(pinsrw) {
  memcpy((uint8_t *)d + 2 * (i & 7), s, 2);
  return 0;
}
KERNEL(pinsrw_mmx) {
  memcpy((uint8_t *)d + 2 * (i & 3), s, 2);
  return 0;
}
KERNEL(pextrw) {
  STORE64(d, LOAD16((const uint8_t *)s + 2 * (i & 7)));
  return 0;
}
KERNEL(pextrw_mmx) {
  STORE64(d, LOAD16((const uint8_t *)s + 2 * (i & 3)));
  return 0;
}

#define CASE(n) BINARY_CASE(MNEMONIC, n)
#define DEFINE(name) \
  KERNEL(name) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    switch (i & 0xFF) { CASES_256(CASE) } \
    STORE128(d, a); \
    return 0; \
  }
#define MNEMONIC "pshufd"
DEFINE(pshufd)
#undef MNEMONIC
#define MNEMONIC "pshufhw"
DEFINE(pshufhw)
#undef MNEMONIC
#define MNEMONIC "pshuflw"
DEFINE(pshuflw)
#undef MNEMONIC
#define MNEMONIC "shufps"
DEFINE(shufps)
#undef MNEMONIC
#undef DEFINE
KERNEL(shufpd) {
  uint64_t low = LOAD64((const uint8_t *)d + 8 * (i & 1));
  uint64_t high = LOAD64((const uint8_t *)s + 8 * (i >> 1 & 1));
  STORE128(d, ((vector128){(long long)low, (long long)high}));
  return 0;
}
KERNEL(pshufw) {
  uint64_t from = LOAD64(s), result = 0;
  for (uint32_t n = 0; n < 4; n++)
    result |= (from >> 16 * (i >> 2 * n & 3) & 0xFFFF) << 16 * n;
  STORE64(d, result);
  return 0;
}

/// Bit n of the result: byte n is to be stored. The handler stores.
KERNEL(byte_mask) { return pmovmskb(cpu, d, s, i); }
KERNEL(byte_mask_mmx) { return pmovmskb_mmx(cpu, d, s, i); }

#define ENTRY(kernel, prefix, opcode, shape, flags, size, feature) \
  {kernel, 1, prefix, opcode, SOFT_VECTOR_ANY, SOFT_SHAPE_##shape, flags, size, \
   SOFT_FEATURE_##feature},

enum {
  ALIGNED = SOFT_VECTOR_ALIGNED,
  REGISTER = SOFT_VECTOR_REGISTER_ONLY,
  MEMORY = SOFT_VECTOR_MEMORY_ONLY,
  MMX = SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM,
  MMX_REG = SOFT_VECTOR_MMX_REG,
  MMX_RM = SOFT_VECTOR_MMX_RM,
  WIDE = SOFT_VECTOR_WIDE,
  IMMEDIATE = SOFT_VECTOR_IMMEDIATE,
};

const soft_vector_entry soft_move_entries[] = {
    // MOVUPS, MOVUPD, MOVSS, MOVSD
    ENTRY(copy16, 0, 0x10, LOAD, 0, 16, BASE)
    ENTRY(copy16, 0x66, 0x10, LOAD, 0, 16, BASE)
    ENTRY(copy4, 0xF3, 0x10, LOAD, REGISTER, 4, BASE)
    ENTRY(copy4_zero, 0xF3, 0x10, LOAD, MEMORY, 4, BASE)
    ENTRY(copy8, 0xF2, 0x10, LOAD, REGISTER, 8, BASE)
    ENTRY(copy8_zero, 0xF2, 0x10, LOAD, MEMORY, 8, BASE)
    ENTRY(copy16, 0, 0x11, STORE, 0, 16, BASE)
    ENTRY(copy16, 0x66, 0x11, STORE, 0, 16, BASE)
    ENTRY(copy4, 0xF3, 0x11, STORE, 0, 4, BASE)
    ENTRY(copy8, 0xF2, 0x11, STORE, 0, 8, BASE)
    // MOVLPS, MOVHLPS, MOVLPD, MOVHPS, MOVLHPS, MOVHPD
    ENTRY(copy8, 0, 0x12, LOAD, MEMORY, 8, BASE)
    ENTRY(high_to_low, 0, 0x12, LOAD, REGISTER, 8, BASE)
    ENTRY(copy8, 0x66, 0x12, LOAD, MEMORY, 8, BASE)
    ENTRY(copy8, 0, 0x13, STORE, MEMORY, 8, BASE)
    ENTRY(copy8, 0x66, 0x13, STORE, MEMORY, 8, BASE)
    ENTRY(low_to_high, 0, 0x16, LOAD, 0, 8, BASE)
    ENTRY(low_to_high, 0x66, 0x16, LOAD, MEMORY, 8, BASE)
    ENTRY(high_to_low, 0, 0x17, STORE, MEMORY, 8, BASE)
    ENTRY(high_to_low, 0x66, 0x17, STORE, MEMORY, 8, BASE)
    // MOVAPS, MOVAPD, MOVNTPS, MOVNTPD
    ENTRY(copy16, 0, 0x28, LOAD, ALIGNED, 16, BASE)
    ENTRY(copy16, 0x66, 0x28, LOAD, ALIGNED, 16, BASE)
    ENTRY(copy16, 0, 0x29, STORE, ALIGNED, 16, BASE)
    ENTRY(copy16, 0x66, 0x29, STORE, ALIGNED, 16, BASE)
    ENTRY(copy16, 0, 0x2B, STORE, MEMORY | ALIGNED, 16, BASE)
    ENTRY(copy16, 0x66, 0x2B, STORE, MEMORY | ALIGNED, 16, BASE)
    // MOVDQA, MOVDQU, MOVQ, MOVNTDQ, MOVNTQ, LDDQU
    ENTRY(copy16, 0x66, 0x6F, LOAD, ALIGNED, 16, BASE)
    ENTRY(copy16, 0xF3, 0x6F, LOAD, 0, 16, BASE)
    ENTRY(copy8, 0, 0x6F, LOAD, MMX, 8, BASE)
    ENTRY(copy16, 0x66, 0x7F, STORE, ALIGNED, 16, BASE)
    ENTRY(copy16, 0xF3, 0x7F, STORE, 0, 16, BASE)
    ENTRY(copy8, 0, 0x7F, STORE, MMX, 8, BASE)
    ENTRY(copy8_zero, 0xF3, 0x7E, LOAD, 0, 8, BASE)
    ENTRY(copy8, 0x66, 0xD6, STORE, MEMORY, 8, BASE)
    ENTRY(copy8_zero, 0x66, 0xD6, STORE, REGISTER, 8, BASE)
    ENTRY(copy16, 0x66, 0xE7, STORE, MEMORY | ALIGNED, 16, BASE)
    ENTRY(copy8, 0, 0xE7, STORE, MMX | MEMORY, 8, BASE)
    ENTRY(copy16, 0xF2, 0xF0, LOAD, MEMORY, 16, SSE3)
    // MOVD, MOVQ with general registers; MOVQ2DQ, MOVDQ2Q
    ENTRY(from_general, 0x66, 0x6E, INSERT, WIDE, 4, BASE)
    ENTRY(from_general_mmx, 0, 0x6E, INSERT, WIDE | MMX_REG, 4, BASE)
    ENTRY(to_general, 0x66, 0x7E, EXTRACT, WIDE, 4, BASE)
    ENTRY(to_general, 0, 0x7E, EXTRACT, WIDE | MMX_REG, 4, BASE)
    ENTRY(copy8_zero, 0xF3, 0xD6, LOAD, MMX_RM | REGISTER, 8, BASE)
    ENTRY(copy8, 0xF2, 0xD6, LOAD, MMX_REG | REGISTER, 8, BASE)
    // Masks
    ENTRY(movmskps, 0, 0x50, TO_GENERAL, REGISTER, 16, BASE)
    ENTRY(movmskpd, 0x66, 0x50, TO_GENERAL, REGISTER, 16, BASE)
    ENTRY(pmovmskb, 0x66, 0xD7, TO_GENERAL, REGISTER, 16, BASE)
    ENTRY(pmovmskb_mmx, 0, 0xD7, TO_GENERAL, REGISTER | MMX_RM, 8, BASE)
    ENTRY(byte_mask, 0x66, 0xF7, MASKED_STORE, REGISTER, 16, BASE)
    ENTRY(byte_mask_mmx, 0, 0xF7, MASKED_STORE, REGISTER | MMX, 8, BASE)
    // Words
    ENTRY(pinsrw, 0x66, 0xC4, INSERT, IMMEDIATE, 2, BASE)
    ENTRY(pinsrw_mmx, 0, 0xC4, INSERT, IMMEDIATE | MMX_REG, 2, BASE)
    ENTRY(pextrw, 0x66, 0xC5, TO_GENERAL, IMMEDIATE | REGISTER, 16, BASE)
    ENTRY(pextrw_mmx, 0, 0xC5, TO_GENERAL, IMMEDIATE | REGISTER | MMX_RM, 8, BASE)
    // Shuffles
    ENTRY(pshufd, 0x66, 0x70, LOAD, IMMEDIATE | ALIGNED, 16, BASE)
    ENTRY(pshufhw, 0xF3, 0x70, LOAD, IMMEDIATE | ALIGNED, 16, BASE)
    ENTRY(pshuflw, 0xF2, 0x70, LOAD, IMMEDIATE | ALIGNED, 16, BASE)
    ENTRY(pshufw, 0, 0x70, LOAD, IMMEDIATE | MMX, 8, BASE)
    ENTRY(shufps, 0, 0xC6, LOAD, IMMEDIATE | ALIGNED, 16, BASE)
    ENTRY(shufpd, 0x66, 0xC6, LOAD, IMMEDIATE | ALIGNED, 16, BASE)
};
const uint32_t soft_move_count = sizeof soft_move_entries / sizeof soft_move_entries[0];
