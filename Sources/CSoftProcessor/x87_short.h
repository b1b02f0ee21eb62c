// See x87_short.c. For soft_x87.c alone.
#pragma once

#include "soft_x87.h"

/// The state after a store form, which becomes the guest's only once the operand is in memory.
typedef struct {
  uint16_t status;
  uint8_t tags;
  uint8_t is_store;
} soft_x87_outcome;

/// 0 when the instruction must go the long way; then nothing happened.
int soft_x87_short(
    soft_cpu *cpu, uint32_t opcode, uint32_t modrm, const uint8_t *memory_stubs,
    const uint8_t *register_stubs, void *memory, soft_x87_outcome *outcome);
