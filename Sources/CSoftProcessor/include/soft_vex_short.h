// The vector instructions that string functions are made of, on 128 or 256 bits. A handler has them in its own code: no
// kernel is called, and nothing is copied. What is above the result is cleared.
#pragma once

#include "soft_vex.h"

#pragma clang assume_nonnull begin

typedef uint8_t soft_bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef char soft_signed_bytes __attribute__((vector_size(16)));

#define SOFT_VEX_SHORT(name, result) \
  static inline __attribute__((always_inline)) void soft_vex_##name( \
      void *destination, const void *first, const void *second, uint32_t is_256) { \
    soft_bytes low, high = {0}; \
    { \
      soft_bytes a = ((const soft_bytes *)first)[0], b = ((const soft_bytes *)second)[0]; \
      low = (soft_bytes)(result); \
    } \
    if (is_256) { \
      soft_bytes a = ((const soft_bytes *)first)[1], b = ((const soft_bytes *)second)[1]; \
      high = (soft_bytes)(result); \
    } \
    ((soft_bytes *)destination)[0] = low; \
    ((soft_bytes *)destination)[1] = high; \
  }
SOFT_VEX_SHORT(equal_bytes, a == b)
SOFT_VEX_SHORT(least_bytes, __builtin_elementwise_min(a, b))
SOFT_VEX_SHORT(and, a &b)
SOFT_VEX_SHORT(and_not, ~a & b)
SOFT_VEX_SHORT(or, a | b)
SOFT_VEX_SHORT(xor, a ^ b)
#undef SOFT_VEX_SHORT

/// A register from 16 or 32 bytes; all that is read is read before anything is written.
static inline __attribute__((always_inline)) void soft_vex_move(
    void *destination, const void *source, uint32_t is_256) {
  soft_bytes low = ((const soft_bytes *)source)[0], high = {0};
  if (is_256) high = ((const soft_bytes *)source)[1];
  ((soft_bytes *)destination)[0] = low;
  ((soft_bytes *)destination)[1] = high;
}

/// A register from 64 bits.
static inline __attribute__((always_inline)) void soft_vex_set(void *destination, uint64_t value) {
  typedef uint64_t pair __attribute__((vector_size(16), aligned(1), may_alias));
  ((pair *)destination)[0] = (pair){value, 0};
  ((pair *)destination)[1] = (pair){0, 0};
}

/// VPBROADCASTB.
static inline __attribute__((always_inline)) void soft_vex_repeat_byte(
    void *destination, uint8_t value, uint32_t is_256) {
  soft_bytes all = {value, value, value, value, value, value, value, value,
                    value, value, value, value, value, value, value, value};
  ((soft_bytes *)destination)[0] = all;
  ((soft_bytes *)destination)[1] = is_256 ? all : (soft_bytes){0};
}

/// VPMOVMSKB.
static inline __attribute__((always_inline)) uint32_t soft_vex_byte_signs(
    const void *source, uint32_t is_256) {
  const soft_bytes *from = (const soft_bytes *)source;
  uint32_t signs = (uint32_t)__builtin_ia32_pmovmskb128((soft_signed_bytes)from[0]);
  if (is_256) signs |= (uint32_t)__builtin_ia32_pmovmskb128((soft_signed_bytes)from[1]) << 16;
  return signs;
}

/// VPTEST: CF and ZF as in RFLAGS.
static inline __attribute__((always_inline)) uint32_t soft_vex_test(
    const void *first, const void *second, uint32_t is_256) {
  typedef uint64_t word __attribute__((aligned(1), may_alias));
  const word *a = (const word *)first, *b = (const word *)second;
  uint64_t both = 0, only = 0;
  for (uint32_t n = 0; n < (is_256 ? 4 : 2); n++) {
    both |= a[n] & b[n];
    only |= ~a[n] & b[n];
  }
  return (uint32_t)(only == 0) | (uint32_t)(both == 0) << 6;
}

/// VZEROUPPER in 64-bit mode.
static inline __attribute__((always_inline)) void soft_vex_zero_upper(soft_cpu *cpu) {
#pragma clang loop unroll(full)
  for (uint32_t n = 0; n < 16; n++) ((soft_bytes *)cpu->vectors[n])[1] = (soft_bytes){0};
}

#pragma clang assume_nonnull end
