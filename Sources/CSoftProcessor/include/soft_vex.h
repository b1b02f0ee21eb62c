// Instructions with a VEX prefix: AVX, AVX2, FMA, F16C.
//
// Most are an older instruction done to one or two lanes of 128 bits, with a first source of its own and the rest of the
// destination cleared; their kernels are those of soft_vectors.h. What crosses lanes, and what is new, has its own.
#pragma once

#include "soft_vectors.h"

#pragma clang assume_nonnull begin

/// What crosses lanes: writes all 32 bytes of `result`.
typedef void (*soft_vex_whole)(
    uint8_t *result, const uint8_t *first, const uint8_t *second, uint32_t immediate);

enum {
  /// The first source is VEX.vvvv; without it VEX.vvvv must be unused.
  SOFT_VEX_FIRST = 1 << 0,
  /// VEX.L must be 0, or must be 1, or is ignored (scalars).
  SOFT_VEX_ONLY_128 = 1 << 1,
  SOFT_VEX_ONLY_256 = 1 << 2,
  SOFT_VEX_SCALAR = 1 << 3,
  /// VEX.W must be 0, or must be 1.
  SOFT_VEX_W0 = 1 << 4,
  SOFT_VEX_W1 = 1 << 5,
  SOFT_VEX_REGISTER_ONLY = 1 << 6,
  SOFT_VEX_MEMORY_ONLY = 1 << 7,
  SOFT_VEX_ALIGNED = 1 << 8,
  /// The kernel's destination is the instruction's too (FMA); its source is a lane of each of the others.
  SOFT_VEX_THREE = 1 << 9,
  /// The low halves of the lanes' results are put together.
  SOFT_VEX_NARROW = 1 << 10,
  /// The result is the first `size` bytes of the source again and again.
  SOFT_VEX_REPEAT = 1 << 11,
  SOFT_VEX_IMMEDIATE = 1 << 12,
  /// The memory operand is addressed by a vector of indices.
  SOFT_VEX_GATHER = 1 << 13,
  SOFT_VEX_FLOAT = 1 << 14,
};

/// Operands: those of soft_vectors.h, and
enum {
  /// Elements of memory under the mask in VEX.vvvv, to and from ModRM.reg. `size` is an element's.
  SOFT_SHAPE_MASKED_LOAD = 32,
  SOFT_SHAPE_MASKED_ELEMENTS,
  SOFT_SHAPE_GATHER,
  /// Upper halves, or all, of all registers to 0.
  SOFT_SHAPE_ZERO,
};

typedef struct {
  soft_vector_kernel _Nullable kernel;
  soft_vex_whole _Nullable whole;
  /// In soft_vector_table, 0 for none.
  uint16_t number;
  uint16_t flags;
  uint8_t map, prefix, opcode;
  /// ModRM.reg of a group, or SOFT_VECTOR_ANY.
  uint8_t group;
  uint8_t shape;
  /// Bytes of the memory operand with VEX.L 0 and 1.
  uint8_t size, size256;
  /// From one lane's source to the next one's, bytes.
  uint8_t stride;
  /// Bits of the immediate that belong to one lane; 0: all are for each.
  uint8_t lane_bits;
} soft_vex_entry;

/// All entries in a row; the first stands for none.
extern soft_vex_entry soft_vex_table[];
uint32_t soft_vex_count(void);
static inline soft_vex_entry soft_vex_table_entry(uint32_t number) { return soft_vex_table[number]; }
/// Number of the instruction's entry, or 0.
uint32_t soft_vex_find(
    uint32_t map, uint32_t prefix, uint32_t opcode, uint32_t modrm, uint32_t is_wide, uint32_t is_256);
/// Whether the host has AVX2, FMA and F16C, and its kernel keeps their registers.
uint32_t soft_vex_host_has(void);

static inline const soft_vex_entry *soft_vex_of(uint64_t immediate) {
  return &soft_vex_table[immediate >> 32 & 0xFFFF];
}
static inline uint32_t soft_vex_first(uint64_t immediate) { return immediate >> 48 & 15; }
static inline uint32_t soft_vex_is_256(uint64_t immediate) { return immediate >> 52 & 1; }

/// Computes into register `target`. `source` has as many bytes as the operand, and 16 more that can be read. 1: an
/// unmasked floating-point exception, and nothing is written.
uint32_t soft_vex_run(
    soft_cpu *cpu, uint64_t immediate, uint32_t target, const void *source, uint32_t is_wide);
/// The same without a register: 32 bytes of `result`.
uint32_t soft_vex_compute(
    soft_cpu *cpu, uint64_t immediate, uint32_t target, const void *source, uint32_t is_wide,
    uint8_t *result);
/// MOVMSKPS, PMOVMSKB, CVTSS2SI and their kin.
uint32_t soft_vex_to_general(
    soft_cpu *cpu, uint64_t immediate, const void *source, uint32_t is_wide, uint64_t *result);
/// Flags of comparisons, in `vector_flags`.
uint32_t soft_vex_compare(soft_cpu *cpu, uint64_t immediate, uint32_t register_, const void *source);
/// Clears what is above 128 bits of a register.
void soft_vex_clear_upper(soft_cpu *cpu, uint32_t number);
/// VZEROUPPER, or VZEROALL. In 64-bit mode there are 16 registers, else 8.
void soft_vex_zero(soft_cpu *cpu, uint32_t count, uint32_t is_all);
/// XINUSE: components of the state that are not in their initial configuration.
uint64_t soft_states_in_use(const soft_cpu *cpu);

#pragma clang assume_nonnull end
