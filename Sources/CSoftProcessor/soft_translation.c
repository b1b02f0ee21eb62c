#include "soft_processor.h"

_Static_assert(sizeof(soft_tlb_entry) == 32, "translated code shifts a page's number to its entry");
_Static_assert(sizeof(soft_jump_entry) == 24, "translated code multiplies by 3 and 8");
_Static_assert(offsetof(soft_block, page_generation) < 128, "near");

__asm__(
    ".text\n"
    ".globl soft_run\n"
    ".hidden soft_run\n"
    ".type soft_run,@function\n"
    "soft_run:\n"
    ".cfi_startproc\n"
    "  pushq %rbp\n"
    "  .cfi_def_cfa_offset 16\n"
    "  .cfi_offset %rbp, -16\n"
    "  pushq %rbx\n"
    "  .cfi_def_cfa_offset 24\n"
    "  .cfi_offset %rbx, -24\n"
    "  pushq %r12\n"
    "  .cfi_def_cfa_offset 32\n"
    "  .cfi_offset %r12, -32\n"
    "  pushq %r13\n"
    "  .cfi_def_cfa_offset 40\n"
    "  .cfi_offset %r13, -40\n"
    "  pushq %r14\n"
    "  .cfi_def_cfa_offset 48\n"
    "  .cfi_offset %r14, -48\n"
    "  pushq %r15\n"
    "  .cfi_def_cfa_offset 56\n"
    "  .cfi_offset %r15, -56\n"
    "  subq $8, %rsp\n"
    "  .cfi_def_cfa_offset 64\n"
    "  callq *(%rsi)\n"
    "  addq $8, %rsp\n"
    "  .cfi_def_cfa_offset 56\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  .cfi_def_cfa_offset 8\n"
    "  retq\n"
    ".cfi_endproc\n"
    ".size soft_run,.-soft_run\n"
    ".globl soft_take_flags\n"
    ".hidden soft_take_flags\n"
    ".type soft_take_flags,@function\n"
    "soft_take_flags:\n"
    "  pushq %rdi\n"
    "  pushq %rsi\n"
    "  pushq %rdx\n"
    "  pushq %r8\n"
    "  pushq %r9\n"
    "  pushq %r10\n"
    "  pushq %r11\n"
    "  subq $8, %rsp\n"
    "  callq soft_make_raw_flags\n"
    "  addq $8, %rsp\n"
    "  popq %r11\n"
    "  popq %r10\n"
    "  popq %r9\n"
    "  popq %r8\n"
    "  popq %rdx\n"
    "  popq %rsi\n"
    "  popq %rdi\n"
    "  retq\n"
    ".size soft_take_flags,.-soft_take_flags\n");

__attribute__((visibility("hidden"), used)) void soft_make_raw_flags(soft_cpu *cpu) {
  uint64_t result = cpu->flag_result, carries = cpu->flag_operand1;
  uint32_t carry = (uint32_t)(carries >> 63), overflow = carry ^ (uint32_t)(carries >> 62 & 1);
  uint32_t parity = (uint32_t)__builtin_parity((uint32_t)(result ^ carries >> 8) & 0xFF) ^ 1;
  uint32_t sign = (uint32_t)(result >> 63) ^ (uint32_t)(carries >> 16 & 1);
  cpu->flags_raw = overflow | 1 << 9 | carry << 8 | parity << 10 | (uint32_t)(carries >> 3 & 1) << 12 |
                   (result == 0 ? 1u << 14 : 0) | sign << 15;
}

// As `writeFlags` does it: see Flags.swift.
static void interpret_flags(soft_cpu *cpu) {
  uint32_t raw = cpu->flags_raw;
  if (raw == 0) return;
  cpu->flags_raw = 0;
  uint32_t carry = raw >> 8 & 1, parity = raw >> 10 & 1, adjust = raw >> 12 & 1, zero = raw >> 14 & 1;
  uint32_t sign = raw >> 15 & 1, overflow = raw & 1;
  uint64_t carries = (uint64_t)carry << 63 | (uint64_t)(carry ^ overflow) << 62 | (uint64_t)adjust << 3;
  // 0 and 3 both have even parity and no sign.
  cpu->flag_result = zero ? 0 : 3;
  cpu->flag_operand1 = carries | (parity ? 0 : 1 << 8) | (uint64_t)sign << 16;
}

void soft_leave_translated(soft_cpu *cpu, const soft_operation *operation) {
  interpret_flags(cpu);
  __attribute__((musttail)) return cpu->leaving(cpu, operation);
}

void soft_enter_interpreted(soft_cpu *cpu, const soft_operation *operation) {
  interpret_flags(cpu);
  soft_block *block = cpu->block;
  cpu->instructions += block->count;
  operation = block->entry;
  __attribute__((musttail)) return operation->handler(cpu, operation);
}
