// How kernels are written: the operands are loaded into the host's registers, the host's own instruction does the work.
// Inline assembly and not intrinsics, so that the compiler neither folds nor moves what depends on MXCSR, and so that
// no feature beyond the baseline must be switched on for a whole file.
#pragma once

#include <string.h>

#include "soft_vectors.h"

typedef long long vector128 __attribute__((vector_size(16)));
typedef long long vector128_unaligned __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t unaligned64 __attribute__((aligned(1), may_alias));
typedef uint32_t unaligned32 __attribute__((aligned(1), may_alias));
typedef uint16_t unaligned16 __attribute__((aligned(1), may_alias));

#define LOAD128(pointer) (*(const vector128_unaligned *)(pointer))
#define STORE128(pointer, value) (*(vector128_unaligned *)(pointer) = (value))
#define LOAD64(pointer) (*(const unaligned64 *)(pointer))
#define STORE64(pointer, value) (*(unaligned64 *)(pointer) = (value))
#define LOAD32(pointer) (*(const unaligned32 *)(pointer))
#define STORE32(pointer, value) (*(unaligned32 *)(pointer) = (value))
#define LOAD16(pointer) (*(const unaligned16 *)(pointer))

/// The head of a kernel. The parameters are named here: cpu, d, s, i.
#define KERNEL(name) \
  static uint32_t name( \
      __attribute__((unused)) soft_cpu *cpu, __attribute__((unused)) void *d, \
      __attribute__((unused)) const void *s, __attribute__((unused)) uint32_t i)

/// xmm from xmm and xmm.
#define BINARY_BODY(mnemonic) \
  { \
    vector128 a = LOAD128(d), b = LOAD128(s); \
    __asm__ volatile(mnemonic " %1, %0" : "+x"(a) : "x"(b)); \
    STORE128(d, a); \
    return 0; \
  }

/// mm from mm and mm. EMMS leaves the host's x87 as the compiler expects it.
#define MMX_BODY(mnemonic) \
  { \
    __asm__ volatile("movq %0, %%mm0\n\t" mnemonic " %1, %%mm0\n\tmovq %%mm0, %0\n\temms" \
                     : "+m"(*(unaligned64 *)d) \
                     : "m"(*(const unaligned64 *)s)); \
    return 0; \
  }

// One case for each value of an immediate: the instruction has it in its code.
#define CASES_4(X, n) X(n) X((n) + 1) X((n) + 2) X((n) + 3)
#define CASES_16(X, n) CASES_4(X, n) CASES_4(X, (n) + 4) CASES_4(X, (n) + 8) CASES_4(X, (n) + 12)
#define CASES_64(X, n) CASES_16(X, n) CASES_16(X, (n) + 16) CASES_16(X, (n) + 32) CASES_16(X, (n) + 48)
#define CASES_256(X) CASES_64(X, 0) CASES_64(X, 64) CASES_64(X, 128) CASES_64(X, 192)

#define BINARY_CASE(mnemonic, n) \
  case n: \
    __asm__ volatile(mnemonic " %2, %1, %0" : "+x"(a) : "x"(b), "i"(n)); \
    break;

// MXCSR.
enum {
  MXCSR_FLAGS = 0x3F,
  MXCSR_INVALID = 1 << 0,
  MXCSR_DENORMAL = 1 << 1,
  MXCSR_DIVIDE = 1 << 2,
  MXCSR_UNDERFLOW = 1 << 4,
  MXCSR_DENORMALS_ARE_ZERO = 1 << 6,
  MXCSR_MASKS = 0x1F80,
  MXCSR_FLUSH = 1 << 15,
  /// All exceptions masked, to nearest: how the host runs.
  MXCSR_DEFAULT = 0x1F80,
  /// What a program may set here.
  MXCSR_VALID = 0xFFFF,
};

/// Results that can be too small for a normal number even when exact: which elements to look at.
enum { TINY_NONE, TINY_SS, TINY_SD, TINY_PS, TINY_PD, TINY_PH };

static inline uint32_t host_mxcsr(void) {
  uint32_t value;
  __asm__ volatile("stmxcsr %0" : "=m"(value));
  return value;
}
static inline void set_host_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }

/// For a guest that unmasked an exception or changed rounding: see soft_vectors.c.
uint32_t soft_vector_float_slow(
    soft_cpu *cpu, soft_vector_kernel kernel, void *d, const void *s, uint32_t i, uint32_t tiny);

/// Most guests leave MXCSR's control bits as the host has them; then only the flags need care, and the host's
/// register collects them until somebody asks.
static inline __attribute__((always_inline)) uint32_t float_run(
    soft_cpu *cpu, soft_vector_kernel kernel, void *d, const void *s, uint32_t i, uint32_t tiny) {
  if (__builtin_expect((cpu->mxcsr & 0xFFC0) != MXCSR_DEFAULT, 0))
    return soft_vector_float_slow(cpu, kernel, d, s, i, tiny);
  if (__builtin_expect(!cpu->mxcsr_live, 0)) {
    set_host_mxcsr(MXCSR_DEFAULT);
    cpu->mxcsr_live = 1;
  }
  return kernel(cpu, d, s, i);
}

/// Defines the kernel `name` from `name_raw`.
#define FLOAT_WRAP(name, tiny) \
  KERNEL(name) { return float_run(cpu, name##_raw, d, s, i, tiny); }

// Lists of entries that soft_vectors.c puts together.
extern const soft_vector_entry soft_integer_entries[], soft_float_entries[], soft_move_entries[],
    soft_extension_entries[];
extern const uint32_t soft_integer_count, soft_float_count, soft_move_count, soft_extension_count;
