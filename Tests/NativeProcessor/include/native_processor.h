// Runs one instruction on the host's own processor, at CPL 3, and tells everything that it did: registers, flags,
// x87 and SSE state, memory, or the exception with its address. The other side of differential tests.
//
// The instruction lies in a page of its own at a fixed address; data pages are at fixed addresses too, so that the
// software processor can run the same bytes at the same addresses. Not reentrant: one thread.
#pragma once

#include <stdint.h>

enum {
  NATIVE_CODE = 0x10000000,
  /// Two writable pages; then one that can only be read; nothing before and after.
  NATIVE_DATA = 0x20000000,
  NATIVE_DATA_SIZE = 0x2000,
  NATIVE_READ_ONLY_SIZE = 0x1000,
  /// Where branches may go: slot n is at NATIVE_CODE + NATIVE_SLOT_START + n * NATIVE_SLOT_SIZE.
  NATIVE_SLOT_START = 0x400,
  NATIVE_SLOT_SIZE = 16,
  NATIVE_SLOT_COUNT = 16,
  /// The instruction begins here.
  NATIVE_ENTRY = NATIVE_CODE + 0x200,
};

/// Before and after an instruction.
typedef struct {
  uint64_t registers[16];
  uint64_t rip;
  uint64_t flags;
  /// FXSAVE format with 64-bit pointers.
  __attribute__((aligned(16))) uint8_t fx[512];
  /// Exception vector, or 0xFFFF when the instruction completed.
  uint32_t vector;
  uint32_t error;
  /// Of page faults.
  uint64_t address;
} native_state;

/// Maps the pages and takes the signals. 0 when the host does not let us; then nothing else may be called.
int native_open(void);
/// Whether a 32-bit code segment can be used.
int native_has_32bit(void);
void native_close(void);
/// The data pages, NATIVE_DATA_SIZE + NATIVE_READ_ONLY_SIZE bytes; all writable through this alias.
uint8_t *native_data(void);
/// The upper halves of the YMM registers, 16 bytes each: before and after an instruction, where the host has them.
uint8_t *native_upper(void);
int native_has_avx(void);
/// Runs the instruction from `state` and leaves there what came of it.
void native_run(native_state *state, const uint8_t *code, uint32_t length, int is_32bit);
