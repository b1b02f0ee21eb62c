// The x87: every arithmetic instruction is executed by the host's own x87 from the guest's state, so that precision,
// rounding, stack faults, tags and exceptions are the processor's.
#pragma once

#include "soft_processor.h"

#pragma clang assume_nonnull begin

/// What an instruction of the D8 to DF group does with its memory operand.
enum {
  SOFT_X87_UNDEFINED,
  /// No memory operand.
  SOFT_X87_REGISTER,
  SOFT_X87_LOAD,
  SOFT_X87_STORE,
  /// Not arithmetic: control, status, environment. See `soft_x87_control`.
  SOFT_X87_CONTROL,
};

/// Kinds of control instructions.
enum {
  SOFT_X87_FLDENV, SOFT_X87_FLDCW, SOFT_X87_FNSTENV, SOFT_X87_FNSTCW, SOFT_X87_FRSTOR, SOFT_X87_FNSAVE,
  SOFT_X87_FNSTSW, SOFT_X87_FNSTSW_AX, SOFT_X87_FNCLEX, SOFT_X87_FNINIT, SOFT_X87_NOTHING,
};

typedef struct {
  uint8_t kind;
  /// Bytes of the memory operand.
  uint8_t size;
  /// Of SOFT_X87_CONTROL.
  uint8_t control;
} soft_x87_form;

soft_x87_form soft_x87_classify(uint32_t opcode, uint32_t modrm);

/// Bits of the status word.
enum {
  SOFT_X87_SUMMARY = 1 << 7,
  SOFT_X87_BUSY = 1 << 15,
};

/// Executes a register or load form. `memory` holds the operand.
void soft_x87_execute(soft_cpu *cpu, uint32_t opcode, uint32_t modrm, const void *memory);
/// Executes a store form on a copy of the state; the operand is written to `memory`. Nonzero when it is to be stored:
/// an unmasked exception keeps it from memory. `soft_x87_commit` makes the new state the guest's.
uint32_t soft_x87_execute_store(soft_cpu *cpu, uint32_t opcode, uint32_t modrm, void *memory);
void soft_x87_commit(soft_cpu *cpu);

void soft_x87_initialize(soft_cpu *cpu);
void soft_x87_clear_exceptions(soft_cpu *cpu);
void soft_x87_set_control(soft_cpu *cpu, uint32_t value);

/// FNSTENV and FLDENV images: 14 bytes (16-bit operand size) or 28; `is_protected` is false in real and virtual-8086
/// mode. The return value is the length.
uint32_t soft_x87_store_environment(soft_cpu *cpu, uint8_t *image, uint32_t is_wide, uint32_t is_protected);
void soft_x87_load_environment(soft_cpu *cpu, const uint8_t *image, uint32_t is_wide, uint32_t is_protected);
/// The eight registers behind the environment, ST0 first, 80 bytes.
void soft_x87_store_registers(soft_cpu *cpu, uint8_t *image);
void soft_x87_load_registers(soft_cpu *cpu, const uint8_t *image);

/// FXSAVE's first 416 (or in 32-bit code 288) bytes. `is_long` says that XMM8 to XMM15 are there too, `is_wide` that the
/// pointers have 64 bits (REX.W).
void soft_x87_store_legacy_area(soft_cpu *cpu, uint8_t *image, uint32_t is_long, uint32_t is_wide);
/// 0 when MXCSR in the image has reserved bits: nothing is loaded.
uint32_t soft_x87_load_legacy_area(
    soft_cpu *cpu, const uint8_t *image, uint32_t is_long, uint32_t is_wide);
/// The parts of it, as XSAVE and XRSTOR know them.
void soft_x87_store_x87_part(soft_cpu *cpu, uint8_t *image, uint32_t is_wide);
void soft_x87_load_x87_part(soft_cpu *cpu, const uint8_t *image, uint32_t is_wide);

/// What an MMX instruction does to the x87: TOP is 0, all registers are valid.
static inline void soft_x87_enter_mmx(soft_cpu *cpu) {
  cpu->fsw &= (uint16_t)~0x3800;
  cpu->ftw = 0xFF;
}
/// Bits 64 to 79 of a register that an MMX instruction wrote.
static inline void soft_x87_set_mmx_exponent(soft_cpu *cpu, uint32_t number) {
  *(uint16_t *)(void *)(cpu->x87[number & 7] + 8) = 0xFFFF;
}

#pragma clang assume_nonnull end
