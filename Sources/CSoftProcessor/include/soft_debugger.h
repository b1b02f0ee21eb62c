// What a debugger of the host's wants of a processor, and why it was stopped. Addresses are linear.
#pragma once

#include <stdint.h>

#pragma clang assume_nonnull begin

enum {
  SOFT_BREAKPOINT_LIMIT = 256,
  SOFT_WATCHPOINT_LIMIT = 16,
};

/// Why the loop came back for the debugger.
enum {
  SOFT_STOP_NONE,
  SOFT_STOP_STEP,
  SOFT_STOP_BREAKPOINT,
  SOFT_STOP_WATCHPOINT,
};

/// Bits of soft_watchpoint.kinds.
enum {
  SOFT_WATCH_WRITE = 1 << 0,
  SOFT_WATCH_READ = 1 << 1,
};

typedef struct {
  /// `end` is the last byte.
  uint64_t start, end;
  uint32_t kinds;
} soft_watchpoint;

/// The processor's thread alone uses it, or who holds the processor while it does not run.
typedef struct {
  /// One instruction is to be executed, without interrupts; and it has been.
  uint32_t is_stepping, has_stepped;
  /// One of SOFT_STOP_, of the last stop.
  uint32_t stop;
  /// Number of the watchpoint that the instruction in hand met, plus 1; and of the last stop.
  uint32_t hit, stop_watchpoint;
  uint32_t breakpoint_count, watchpoint_count;
  uint64_t breakpoints[SOFT_BREAKPOINT_LIMIT];
  soft_watchpoint watchpoints[SOFT_WATCHPOINT_LIMIT];
} soft_debugger;

static inline uint64_t *soft_breakpoints(soft_debugger *debugger) { return debugger->breakpoints; }
static inline soft_watchpoint *soft_watchpoints(soft_debugger *debugger) { return debugger->watchpoints; }

#pragma clang assume_nonnull end
