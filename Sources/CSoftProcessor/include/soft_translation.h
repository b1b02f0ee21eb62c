// How translated code, the interpreter's handlers and the loop between blocks pass control to each other. Included by
// soft_processor.h.
//
// Translated code is entered like a handler, by a tail call with RDI the processor, and leaves the same way. It may use
// every register but RSP and RDI, so the loop calls the first handler through `soft_run`, which saves what a C caller
// relies on.
#pragma once

#pragma clang assume_nonnull begin

/// Calls an operation's handler and saves the registers that translated code does not.
void soft_run(soft_cpu *cpu, const soft_operation *operation);

/// From translated code to the interpreter at `operation`, by the handler in `leaving`, which was the operation's before
/// it was translated.
void soft_leave_translated(soft_cpu *cpu, const soft_operation *operation);

/// From translated code to the start of the block in `cpu->block`, which is not translated.
void soft_enter_interpreted(soft_cpu *cpu, const soft_operation *_Nullable operation);

/// For translated code alone: makes `flags_raw` of the interpreter's flags. Keeps all registers but RAX and RCX.
void soft_take_flags(soft_cpu *cpu);

static inline const void *soft_taking_code(void) { return (const void *)&soft_take_flags; }
static inline const void *soft_interpreted_code(void) { return (const void *)&soft_enter_interpreted; }
static inline const void *soft_leaving_code(void) { return (const void *)&soft_leave_translated; }
/// Machine code as a handler.
static inline soft_handler soft_handler_at(const void *code) { return (soft_handler)code; }
static inline const void *soft_code_of(soft_handler handler) { return (const void *)handler; }

/// Offsets that translated code uses.
enum {
  SOFT_OFFSET_RIP = offsetof(soft_cpu, rip),
  SOFT_OFFSET_BLOCK = offsetof(soft_cpu, block),
  SOFT_OFFSET_FLAGS_RAW = offsetof(soft_cpu, flags_raw),
  SOFT_OFFSET_MODE = offsetof(soft_cpu, mode),
  SOFT_OFFSET_EVENTS = offsetof(soft_cpu, events),
  SOFT_OFFSET_TLB = offsetof(soft_cpu, tlb),
  SOFT_OFFSET_TLB_GENERATION = offsetof(soft_cpu, tlb_generation),
  SOFT_OFFSET_JUMP_CACHE = offsetof(soft_cpu, jump_cache),
  SOFT_OFFSET_SEGMENTS = offsetof(soft_cpu, segments),
  SOFT_OFFSET_SEGMENT_SIZE = sizeof(soft_segment),
  SOFT_OFFSET_LEAVING = offsetof(soft_cpu, leaving),
  SOFT_OFFSET_INSTRUCTIONS = offsetof(soft_cpu, instructions),
  SOFT_OFFSET_BLOCK_GENERATION = offsetof(soft_block, generation),
  SOFT_OFFSET_BLOCK_PAGE = offsetof(soft_block, page_generation),
  SOFT_OFFSET_BLOCK_CODE = offsetof(soft_block, code),
  SOFT_OFFSET_BLOCK_LINK0 = offsetof(soft_block, link0),
  SOFT_OFFSET_BLOCK_LINK1 = offsetof(soft_block, link1),
  SOFT_OFFSET_JUMP_LINEAR = offsetof(soft_jump_entry, linear),
  SOFT_OFFSET_JUMP_BLOCK = offsetof(soft_jump_entry, block),
  SOFT_OFFSET_JUMP_GENERATION = offsetof(soft_jump_entry, generation),
  SOFT_OFFSET_JUMP_MODE = offsetof(soft_jump_entry, mode),
  SOFT_OFFSET_TLB_READ = offsetof(soft_tlb_entry, read_tag),
  SOFT_OFFSET_TLB_WRITE = offsetof(soft_tlb_entry, write_tag),
  SOFT_OFFSET_TLB_ADDEND = offsetof(soft_tlb_entry, addend),
};

#pragma clang assume_nonnull end
