// Core scheduling: prctl(2), PR_SCHED_CORE, since Linux 5.14.
#pragma once
#include <stdint.h>
#include <sys/prctl.h>

// The numbers, for headers that are older.
enum {
  LINUX_SCHED_CORE = 62,
  LINUX_SCHED_CORE_CREATE = 1,
  LINUX_SCHED_CORE_SHARE_FROM = 3,
  LINUX_SCHED_CORE_SCOPE_THREAD = 0,
};

// Gives the calling thread a cookie of its own.
static inline int linux_make_scheduling_cookie(void) {
  return prctl(LINUX_SCHED_CORE, LINUX_SCHED_CORE_CREATE, 0, LINUX_SCHED_CORE_SCOPE_THREAD, 0);
}

// Reads the cookie of a thread: 0 for none.
static inline int linux_get_scheduling_cookie(int thread, uint64_t *cookie) {
  return prctl(LINUX_SCHED_CORE, 0 /* PR_SCHED_CORE_GET */, thread, LINUX_SCHED_CORE_SCOPE_THREAD, (unsigned long)cookie);
}

// Gives the calling thread the cookie of another.
static inline int linux_take_scheduling_cookie(int thread) {
  return prctl(LINUX_SCHED_CORE, LINUX_SCHED_CORE_SHARE_FROM, thread, LINUX_SCHED_CORE_SCOPE_THREAD, 0);
}
