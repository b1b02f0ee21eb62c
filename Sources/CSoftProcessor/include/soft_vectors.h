// MMX, SSE and what followed: one kernel for each instruction, which the host's own instruction does.
//
// A kernel gets pointers to its operands and never touches guest memory by address. The handlers (Vector*.swift) find
// the operands; this table says how, for each instruction.
#pragma once

#include "soft_processor.h"

#pragma clang assume_nonnull begin

/// Gives 0, or 1 when an unmasked floating-point exception keeps the instruction from completing (MXCSR has its flags).
/// `destination` is read too where the instruction does so. 16 bytes can be read at `source` unless the operand comes
/// from a general register or memory of 16 bytes.
typedef uint32_t (*soft_vector_kernel)(
    soft_cpu *cpu, void *destination, const void *source, uint32_t immediate);

/// Where the operands are.
enum {
  /// XMM register from XMM register or memory.
  SOFT_SHAPE_LOAD,
  /// XMM register or memory from XMM register (ModRM.reg).
  SOFT_SHAPE_STORE,
  /// General register from XMM register or memory.
  SOFT_SHAPE_TO_GENERAL,
  /// General register or memory from XMM register (ModRM.reg).
  SOFT_SHAPE_EXTRACT,
  /// XMM register from general register or memory.
  SOFT_SHAPE_INSERT,
  /// ZF, PF, CF from XMM register and XMM register or memory.
  SOFT_SHAPE_FLAGS,
  /// PCMPxSTRx: flags, and ECX or XMM0.
  SOFT_SHAPE_STRING,
  /// XMM register (ModRM.rm) alone: shifts by an immediate.
  SOFT_SHAPE_GROUP,
  /// Memory at rDI under the mask of a register.
  SOFT_SHAPE_MASKED_STORE,
};

enum {
  /// ModRM.reg, or the only register, is an MMX register.
  SOFT_VECTOR_MMX_REG = 1 << 0,
  /// ModRM.rm, as a register, is an MMX register.
  SOFT_VECTOR_MMX_RM = 1 << 1,
  /// 16-byte memory operands must be aligned.
  SOFT_VECTOR_ALIGNED = 1 << 2,
  /// ModRM.mod must be 3, or must not.
  SOFT_VECTOR_REGISTER_ONLY = 1 << 3,
  SOFT_VECTOR_MEMORY_ONLY = 1 << 4,
  /// The general register or memory operand is 64 bits wide with REX.W (and the kernel's immediate has bit 8 set).
  SOFT_VECTOR_WIDE = 1 << 5,
  /// May raise #XM.
  SOFT_VECTOR_FLOAT = 1 << 6,
  /// An immediate byte follows.
  SOFT_VECTOR_IMMEDIATE = 1 << 7,
};

/// What the host's processor must have.
enum {
  SOFT_FEATURE_BASE,
  SOFT_FEATURE_SSE3,
  SOFT_FEATURE_SSSE3,
  SOFT_FEATURE_SSE41,
  SOFT_FEATURE_SSE42,
  SOFT_FEATURE_AES,
  SOFT_FEATURE_CLMUL,
  SOFT_FEATURE_SHA,
  SOFT_FEATURE_COUNT,
};

typedef struct {
  soft_vector_kernel kernel;
  /// 1: 0F, 2: 0F 38, 3: 0F 3A.
  uint8_t map;
  /// Mandatory prefix: 0, 0x66, 0xF2, 0xF3.
  uint8_t prefix;
  uint8_t opcode;
  /// ModRM.reg of a group, or SOFT_VECTOR_ANY.
  uint8_t group;
  uint8_t shape;
  uint8_t flags;
  /// Bytes of the memory operand.
  uint8_t size;
  uint8_t feature;
} soft_vector_entry;

enum { SOFT_VECTOR_ANY = 0xFF, SOFT_VECTOR_NONE = 0xFFFF };

/// Number of the instruction's entry, or SOFT_VECTOR_NONE: also when the host lacks the feature.
uint32_t soft_vector_find(uint32_t map, uint32_t prefix, uint32_t opcode, uint32_t modrm);
const soft_vector_entry *soft_vector_at(uint32_t number);
uint32_t soft_vector_count(void);
/// Whether the host can execute the instructions of a feature.
uint32_t soft_vector_host_has(uint32_t feature);

/// All entries in a row, for handlers.
extern soft_vector_entry soft_vector_table[];

/// Runs the kernel whose number is in bits 32 to 47; the immediate byte is in bits 0 to 7.
static inline uint32_t soft_vector_call(
    soft_cpu *cpu, uint64_t immediate, void *destination, const void *source) {
  return soft_vector_table[immediate >> 32 & 0xFFFF].kernel(
      cpu, destination, source, (uint32_t)(immediate & 0xFF));
}
/// The same of an instruction with REX.W.
static inline uint32_t soft_vector_call_wide(
    soft_cpu *cpu, uint64_t immediate, void *destination, const void *source) {
  return soft_vector_table[immediate >> 32 & 0xFFFF].kernel(
      cpu, destination, source, (uint32_t)(immediate & 0xFF) | 0x100);
}

static inline void soft_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/// The guest's MXCSR with all that its instructions have set in it.
uint32_t soft_vector_status(soft_cpu *cpu);
void soft_vector_set_status(soft_cpu *cpu, uint32_t value);
/// Must be called on the processor's thread before another processor runs there, or the state is read elsewhere:
/// collects the exception flags that the host's MXCSR holds for the guest.
void soft_vector_leave(soft_cpu *cpu);

#pragma clang assume_nonnull end
