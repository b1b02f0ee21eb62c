// What a process still does when a signal ends it: says so on standard error, lets a thread that waits for this write a
// report, and dies of the signal all the same. Only one module may use it: it has variables of its own.
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "linux_sandbox.h"

struct linux_crash {
  // 0: none; 1: one has happened; 2: the report is done.
  uint32_t state;
  int signal;
  int code;
  int thread;
  int reporter;
  uint64_t address, instruction, stack;
  // Where the program's first byte is in memory, for addr2line.
  uint64_t program;
  char thread_name[17];
};
// Within a function, because Swift's compiler knows no variables of headers.
static inline struct linux_crash *linux_crash_state(void) {
  static struct linux_crash crash;
  return &crash;
}

static inline void linux_crash_rest(long nanoseconds) {
  struct timespec pause = {0, nanoseconds};
  nanosleep(&pause, NULL);
}

extern const char __ehdr_start[] __attribute__((weak, visibility("hidden")));

// Async-signal-safe: no allocation, no locks.
static inline void linux_crash_handler(int number, siginfo_t *information, void *context) {
  int saved = errno;
  struct linux_crash *crash = linux_crash_state();
  int thread = (int)syscall(SYS_gettid);
  uint32_t none = 0;
  if (__atomic_compare_exchange_n(&crash->state, &none, 3u, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    ucontext_t *state = context;
    crash->signal = number;
    crash->code = information->si_code;
    crash->thread = thread;
    crash->address = (uint64_t)(uintptr_t)information->si_addr;
    crash->instruction = (uint64_t)state->uc_mcontext.gregs[16 /* RIP */];
    crash->stack = (uint64_t)state->uc_mcontext.gregs[15 /* RSP */];
    crash->program = (uint64_t)(uintptr_t)__ehdr_start;
    prctl(PR_GET_NAME, (unsigned long)crash->thread_name, 0, 0, 0);
    char line[200];
    const char *end = line + sizeof line - 2;
    char *at = linux_append_text(line, end, "signal ");
    at = linux_append_number(at, end, (uint64_t)number, 10);
    at = linux_append_text(at, end, " in thread ");
    at = linux_append_text(at, end, crash->thread_name);
    at = linux_append_text(at, end, " at instruction 0x");
    at = linux_append_number(at, end, crash->instruction - crash->program, 16);
    at = linux_append_text(at, end, " of the program");
    *at++ = '\n';
    ssize_t ignored = write(2, line, (size_t)(at - line));
    (void)ignored;
    __atomic_store_n(&crash->state, 1u, __ATOMIC_RELEASE);
    syscall(SYS_futex, &crash->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    // The reporter may need a lock that this thread holds: it is not waited for longer.
    for (int round = 0; round < 300 && __atomic_load_n(&crash->state, __ATOMIC_ACQUIRE) != 2u; round++)
      linux_crash_rest(10000000);
  } else if (thread != crash->reporter) {
    // Another thread has been first: the process is about to end.
    for (int round = 0; round < 400; round++) linux_crash_rest(10000000);
  }
  // By default from now on (SA_RESETHAND), and delivered when this returns, also where nothing would happen again.
  syscall(SYS_tgkill, getpid(), thread, number);
  errno = saved;
}

// For the signals of faults. 0, or -1 with errno.
static inline int linux_install_crash_handler(void) {
  static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
  for (unsigned index = 0; index < sizeof numbers / sizeof *numbers; index++) {
    struct sigaction action = {0};
    action.sa_sigaction = linux_crash_handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND;
    sigfillset(&action.sa_mask);
    // A blocked one would end the process where a filter refuses a call.
    sigdelset(&action.sa_mask, SIGSYS);
    if (sigaction(numbers[index], &action, NULL) != 0) return -1;
  }
  return 0;
}

// On the reporter's thread: waits until another thread has crashed.
static inline void linux_await_crash(void) {
  struct linux_crash *crash = linux_crash_state();
  crash->reporter = (int)syscall(SYS_gettid);
  uint32_t state;
  while ((state = __atomic_load_n(&crash->state, __ATOMIC_ACQUIRE)) != 1u)
    syscall(SYS_futex, &crash->state, FUTEX_WAIT_PRIVATE, state, NULL, NULL, 0);
}

static inline void linux_crash_reported(void) {
  __atomic_store_n(&linux_crash_state()->state, 2u, __ATOMIC_RELEASE);
}
static inline struct linux_crash linux_crash_found(void) { return *linux_crash_state(); }
static inline const char *linux_crash_thread_name(void) { return linux_crash_state()->thread_name; }
