// Kernels of AVX, AVX2, FMA and F16C that have no older form, and their entries.
#include "vector_kernels.h"
#include "vex_kernels.h"

// MARK: One lane from two

#define LANE_BODY(mnemonic) \
  { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    __asm__ volatile(mnemonic " %1, %0, %0" : "+x"(a) : "x"(b)); \
    STORE128(d, a); \
    return 0; \
  }
#define LANES(X) \
  X(vpermilps) X(vpermilpd) X(vpsllvd) X(vpsllvq) X(vpsrlvd) X(vpsrlvq) X(vpsravd)
#define DEFINE(mnemonic) KERNEL(mnemonic) LANE_BODY(#mnemonic)
LANES(DEFINE)
#undef DEFINE

// Comparisons, with all 32 predicates.
#define CASE(n) \
  case n: \
    __asm__ volatile(MNEMONIC " %2, %1, %0, %0" : "+x"(a) : "x"(b), "i"(n)); \
    break;
#define DEFINE(mnemonic) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    switch (i & 31) { CASES_16(CASE, 0) CASES_16(CASE, 16) } \
    STORE128(d, a); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, TINY_NONE)
#define MNEMONIC "vcmpps"
DEFINE(vcmpps)
#undef MNEMONIC
#define MNEMONIC "vcmppd"
DEFINE(vcmppd)
#undef MNEMONIC
#define MNEMONIC "vcmpss"
DEFINE(vcmpss)
#undef MNEMONIC
#define MNEMONIC "vcmpsd"
DEFINE(vcmpsd)
#undef MNEMONIC
#undef DEFINE
#undef CASE

// Fused multiply and add: `s` has the second and the third operand.
#define FMA_KERNEL(mnemonic, tiny) \
  KERNEL(mnemonic##_raw) { \
    vector128 a = LOAD128(d), b = LOAD128(s), c = LOAD128((const uint8_t *)s + 16); \
    __asm__ volatile(#mnemonic " %2, %1, %0" : "+x"(a) : "x"(b), "x"(c)); \
    STORE128(d, a); \
    return 0; \
  } \
  FLOAT_WRAP(mnemonic, tiny)
#define FMA_PACKED(X, name, order, opcode) \
  X(name##order##ps, opcode, SOFT_VEX_W0, 16, TINY_PS) X(name##order##pd, opcode, SOFT_VEX_W1, 16, TINY_PD)
#define FMA_SCALAR(X, name, order, opcode) \
  X(name##order##ss, opcode, SOFT_VEX_W0 | SOFT_VEX_SCALAR, 4, TINY_SS) \
  X(name##order##sd, opcode, SOFT_VEX_W1 | SOFT_VEX_SCALAR, 8, TINY_SD)
#define FMA_ORDER(X, order, base) \
  FMA_PACKED(X, vfmaddsub, order, base + 6) FMA_PACKED(X, vfmsubadd, order, base + 7) \
  FMA_PACKED(X, vfmadd, order, base + 8) FMA_SCALAR(X, vfmadd, order, base + 9) \
  FMA_PACKED(X, vfmsub, order, base + 10) FMA_SCALAR(X, vfmsub, order, base + 11) \
  FMA_PACKED(X, vfnmadd, order, base + 12) FMA_SCALAR(X, vfnmadd, order, base + 13) \
  FMA_PACKED(X, vfnmsub, order, base + 14) FMA_SCALAR(X, vfnmsub, order, base + 15)
#define FMAS(X) FMA_ORDER(X, 132, 0x90) FMA_ORDER(X, 213, 0xA0) FMA_ORDER(X, 231, 0xB0)
#define DEFINE(mnemonic, opcode, flags, size, tiny) FMA_KERNEL(mnemonic, tiny)
FMAS(DEFINE)
#undef DEFINE

// Half precision.
KERNEL(vcvtph2ps_raw) {
  vector128 a, b = {(long long)LOAD64(s), 0};
  __asm__ volatile("vcvtph2ps %1, %0" : "=x"(a) : "x"(b));
  STORE128(d, a);
  return 0;
}
FLOAT_WRAP(vcvtph2ps, TINY_NONE)
#define CASE(n) \
  case n: \
    __asm__ volatile("vcvtps2ph %2, %1, %0" : "=x"(a) : "x"(b), "i"(n)); \
    break;
KERNEL(vcvtps2ph_raw) {
  vector128 a = {0, 0}, b = LOAD128(s);
  switch (i & 7) { CASES_4(CASE, 0) CASES_4(CASE, 4) }
  STORE128(d, a);
  return 0;
}
FLOAT_WRAP(vcvtps2ph, TINY_PH)
#undef CASE

// Tests of signs.
#define DEFINE(mnemonic) \
  KERNEL(mnemonic) { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    uint8_t zero, carry; \
    __asm__(#mnemonic " %3, %2" : "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b)); \
    cpu->vector_flags = (uint32_t)carry | (uint32_t)zero << 6; \
    return 0; \
  }
DEFINE(vtestps)
DEFINE(vtestpd)
#undef DEFINE

// Shuffles and blends by an immediate.
KERNEL(permute_singles) {
  uint8_t result[16];
  for (uint32_t n = 0; n < 4; n++)
    memcpy(result + 4 * n, (const uint8_t *)s + 4 * (i >> 2 * n & 3), 4);
  memcpy(d, result, 16);
  return 0;
}
KERNEL(permute_doubles) {
  uint8_t result[16];
  for (uint32_t n = 0; n < 2; n++) memcpy(result + 8 * n, (const uint8_t *)s + 8 * (i >> n & 1), 8);
  memcpy(d, result, 16);
  return 0;
}
KERNEL(blend_doublewords) {
  for (uint32_t n = 0; n < 4; n++)
    if (i >> n & 1) memcpy((uint8_t *)d + 4 * n, (const uint8_t *)s + 4 * n, 4);
  return 0;
}
// Blends by the signs of a fourth register, whose number is in the immediate's upper half.
#define DEFINE(name, element) \
  KERNEL(name) { \
    const uint8_t *mask = cpu->vectors[i >> 4 & 15] + 16 * (i >> 9 & 1); \
    for (uint32_t n = 0; n < 16; n += element) \
      if (mask[n + element - 1] & 0x80) memcpy((uint8_t *)d + n, (const uint8_t *)s + n, element); \
    return 0; \
  }
DEFINE(blend_singles_by, 4)
DEFINE(blend_doubles_by, 8)
DEFINE(blend_bytes_by, 1)
#undef DEFINE

// MARK: Across lanes

static void permute_halves(uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t i) {
  for (uint32_t half = 0; half < 2; half++) {
    uint32_t choice = i >> 4 * half;
    const uint8_t *from = choice & 2 ? second : first;
    if (choice & 8)
      memset(result + 16 * half, 0, 16);
    else
      memcpy(result + 16 * half, from + 16 * (choice & 1), 16);
  }
}
static void permute_quadwords(uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t i) {
  (void)first;
  for (uint32_t n = 0; n < 4; n++) memcpy(result + 8 * n, second + 8 * (i >> 2 * n & 3), 8);
}
static void permute_doublewords(uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t i) {
  (void)i;
  for (uint32_t n = 0; n < 8; n++) memcpy(result + 4 * n, second + 4 * (first[4 * n] & 7), 4);
}
static void insert_half(uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t i) {
  memcpy(result, first, 32);
  memcpy(result + 16 * (i & 1), second, 16);
}
static void extract_half(uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t i) {
  (void)first;
  memcpy(result, second + 16 * (i & 1), 16);
}

// MARK: Entries

#define ENTRY(KERNEL_, WHOLE_, MAP, PREFIX, OPCODE, SHAPE, FLAGS, SIZE, SIZE256, STRIDE, BITS) \
  {.kernel = KERNEL_, .whole = WHOLE_, .map = MAP, .prefix = PREFIX, .opcode = OPCODE, \
   .group = SOFT_VECTOR_ANY, .shape = SOFT_SHAPE_##SHAPE, .flags = (uint16_t)(FLAGS), .size = SIZE, \
   .size256 = SIZE256, .stride = STRIDE, .lane_bits = BITS},

enum {
  FIRST = SOFT_VEX_FIRST,
  W0 = SOFT_VEX_W0,
  W1 = SOFT_VEX_W1,
  IMMEDIATE = SOFT_VEX_IMMEDIATE,
  MEMORY = SOFT_VEX_MEMORY_ONLY,
  WIDE_ONLY = SOFT_VEX_ONLY_256,
  SCALAR = SOFT_VEX_SCALAR,
  REPEAT = SOFT_VEX_REPEAT,
  FLOAT = SOFT_VEX_FLOAT,
};

const soft_vex_entry soft_vex_new_entries[] = {
    ENTRY(vcmpps, 0, 1, 0, 0xC2, LOAD, FIRST | IMMEDIATE | FLOAT, 16, 32, 16, 0)
    ENTRY(vcmppd, 0, 1, 0x66, 0xC2, LOAD, FIRST | IMMEDIATE | FLOAT, 16, 32, 16, 0)
    ENTRY(vcmpss, 0, 1, 0xF3, 0xC2, LOAD, FIRST | IMMEDIATE | FLOAT | SCALAR, 4, 4, 16, 0)
    ENTRY(vcmpsd, 0, 1, 0xF2, 0xC2, LOAD, FIRST | IMMEDIATE | FLOAT | SCALAR, 8, 8, 16, 0)
    ENTRY(vpermilps, 0, 2, 0x66, 0x0C, LOAD, FIRST | W0, 16, 32, 16, 0)
    ENTRY(vpermilpd, 0, 2, 0x66, 0x0D, LOAD, FIRST | W0, 16, 32, 16, 0)
    ENTRY(vtestps, 0, 2, 0x66, 0x0E, FLAGS, W0, 16, 32, 16, 0)
    ENTRY(vtestpd, 0, 2, 0x66, 0x0F, FLAGS, W0, 16, 32, 16, 0)
    ENTRY(vcvtph2ps, 0, 2, 0x66, 0x13, LOAD, W0 | FLOAT, 8, 16, 8, 0)
    ENTRY(0, permute_doublewords, 2, 0x66, 0x16, LOAD, FIRST | W0 | WIDE_ONLY, 32, 32, 16, 0)
    ENTRY(0, permute_doublewords, 2, 0x66, 0x36, LOAD, FIRST | W0 | WIDE_ONLY, 32, 32, 16, 0)
    ENTRY(0, 0, 2, 0x66, 0x18, LOAD, REPEAT | W0, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x19, LOAD, REPEAT | W0 | WIDE_ONLY, 8, 8, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x1A, LOAD, REPEAT | W0 | WIDE_ONLY | MEMORY, 16, 16, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x58, LOAD, REPEAT | W0, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x59, LOAD, REPEAT | W0, 8, 8, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x5A, LOAD, REPEAT | W0 | WIDE_ONLY | MEMORY, 16, 16, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x78, LOAD, REPEAT | W0, 1, 1, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x79, LOAD, REPEAT | W0, 2, 2, 0, 0)
    ENTRY(vpsrlvd, 0, 2, 0x66, 0x45, LOAD, FIRST | W0, 16, 32, 16, 0)
    ENTRY(vpsrlvq, 0, 2, 0x66, 0x45, LOAD, FIRST | W1, 16, 32, 16, 0)
    ENTRY(vpsravd, 0, 2, 0x66, 0x46, LOAD, FIRST | W0, 16, 32, 16, 0)
    ENTRY(vpsllvd, 0, 2, 0x66, 0x47, LOAD, FIRST | W0, 16, 32, 16, 0)
    ENTRY(vpsllvq, 0, 2, 0x66, 0x47, LOAD, FIRST | W1, 16, 32, 16, 0)
    ENTRY(0, 0, 2, 0x66, 0x2C, MASKED_LOAD, FIRST | W0 | MEMORY, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x2D, MASKED_LOAD, FIRST | W0 | MEMORY, 8, 8, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x2E, MASKED_ELEMENTS, FIRST | W0 | MEMORY, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x2F, MASKED_ELEMENTS, FIRST | W0 | MEMORY, 8, 8, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x8C, MASKED_LOAD, FIRST | W0 | MEMORY, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x8C, MASKED_LOAD, FIRST | W1 | MEMORY, 8, 8, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x8E, MASKED_ELEMENTS, FIRST | W0 | MEMORY, 4, 4, 0, 0)
    ENTRY(0, 0, 2, 0x66, 0x8E, MASKED_ELEMENTS, FIRST | W1 | MEMORY, 8, 8, 0, 0)
#define GATHER(opcode) \
  ENTRY(0, 0, 2, 0x66, opcode, GATHER, FIRST | W0 | MEMORY | SOFT_VEX_GATHER, 4, 4, 0, 0) \
  ENTRY(0, 0, 2, 0x66, opcode, GATHER, FIRST | W1 | MEMORY | SOFT_VEX_GATHER, 8, 8, 0, 0)
    GATHER(0x90) GATHER(0x91) GATHER(0x92) GATHER(0x93)
#undef GATHER
#define FMA_ENTRY(mnemonic, opcode, flags, size, tiny) \
  ENTRY(mnemonic, 0, 2, 0x66, opcode, LOAD, FIRST | SOFT_VEX_THREE | FLOAT | flags, size, \
        (size == 16 ? 32 : size), 16, 0)
    FMAS(FMA_ENTRY)
#undef FMA_ENTRY
    ENTRY(0, permute_quadwords, 3, 0x66, 0x00, LOAD, W1 | WIDE_ONLY | IMMEDIATE, 32, 32, 16, 0)
    ENTRY(0, permute_quadwords, 3, 0x66, 0x01, LOAD, W1 | WIDE_ONLY | IMMEDIATE, 32, 32, 16, 0)
    ENTRY(blend_doublewords, 0, 3, 0x66, 0x02, LOAD, FIRST | W0 | IMMEDIATE, 16, 32, 16, 4)
    ENTRY(permute_singles, 0, 3, 0x66, 0x04, LOAD, W0 | IMMEDIATE, 16, 32, 16, 0)
    ENTRY(permute_doubles, 0, 3, 0x66, 0x05, LOAD, W0 | IMMEDIATE, 16, 32, 16, 2)
    ENTRY(0, permute_halves, 3, 0x66, 0x06, LOAD, FIRST | W0 | WIDE_ONLY | IMMEDIATE, 32, 32, 16, 0)
    ENTRY(0, permute_halves, 3, 0x66, 0x46, LOAD, FIRST | W0 | WIDE_ONLY | IMMEDIATE, 32, 32, 16, 0)
    ENTRY(0, insert_half, 3, 0x66, 0x18, LOAD, FIRST | W0 | WIDE_ONLY | IMMEDIATE, 16, 16, 16, 0)
    ENTRY(0, insert_half, 3, 0x66, 0x38, LOAD, FIRST | W0 | WIDE_ONLY | IMMEDIATE, 16, 16, 16, 0)
    ENTRY(0, extract_half, 3, 0x66, 0x19, STORE, W0 | WIDE_ONLY | IMMEDIATE, 16, 16, 16, 0)
    ENTRY(0, extract_half, 3, 0x66, 0x39, STORE, W0 | WIDE_ONLY | IMMEDIATE, 16, 16, 16, 0)
    ENTRY(vcvtps2ph, 0, 3, 0x66, 0x1D, STORE, W0 | IMMEDIATE | FLOAT | SOFT_VEX_NARROW, 8, 16, 16, 0)
    ENTRY(blend_singles_by, 0, 3, 0x66, 0x4A, LOAD, FIRST | W0 | IMMEDIATE, 16, 32, 16, 0)
    ENTRY(blend_doubles_by, 0, 3, 0x66, 0x4B, LOAD, FIRST | W0 | IMMEDIATE, 16, 32, 16, 0)
    ENTRY(blend_bytes_by, 0, 3, 0x66, 0x4C, LOAD, FIRST | W0 | IMMEDIATE, 16, 32, 16, 0)
};
const uint32_t soft_vex_new_count = sizeof soft_vex_new_entries / sizeof soft_vex_new_entries[0];
