// What confines a process: namespaces, capabilities, Landlock (Linux Documentation/userspace-api/landlock.rst) and
// seccomp(2). The newer numbers are spelled out: headers of older systems lack them.
#pragma once
#include "linux_system_call_names.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

// Any system call, for tests: its result, or the negative error number.
static inline long linux_system_call(long number, const unsigned long a[6]) {
  long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return result == -1 ? -(long)errno : result;
}

// MARK: Landlock

struct linux_landlock_ruleset {
  uint64_t files;
  uint64_t network;
  uint64_t scopes;
};

// The ABI version, or -1 with errno.
static inline int linux_landlock_version(void) {
  return (int)syscall(444 /* landlock_create_ruleset */, NULL, 0, 1u);
}
static inline int linux_landlock_create(const struct linux_landlock_ruleset *rules, size_t size) {
  return (int)syscall(444, rules, size, 0u);
}
// Rights on a file, or on a folder and all that is in it.
static inline int linux_landlock_allow(int ruleset, uint64_t rights, int file) {
  struct __attribute__((packed)) {
    uint64_t rights;
    int32_t file;
  } rule = {rights, file};
  return (int)syscall(445 /* landlock_add_rule */, ruleset, 1 /* path beneath */, &rule, 0u);
}
static inline int linux_open_path_flag(void) { return 010000000; /* O_PATH */ }

// MARK: What each thread does to itself

static inline int linux_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static inline int linux_set_dumpable(int on) { return prctl(PR_SET_DUMPABLE, on, 0, 0, 0); }
static inline int linux_limit_core_files(const struct rlimit *limit) { return setrlimit(RLIMIT_CORE, limit); }
static inline int linux_get_descriptor_limit(struct rlimit *limit) { return getrlimit(RLIMIT_NOFILE, limit); }
static inline int linux_set_descriptor_limit(const struct rlimit *limit) { return setrlimit(RLIMIT_NOFILE, limit); }
static inline long linux_list_folder(int folder, void *bytes, unsigned count) {
  return syscall(SYS_getdents64, folder, bytes, count);
}
static inline int linux_unshare(int flags) { return (int)syscall(SYS_unshare, flags); }
static inline int linux_namespace_flag_ipc(void) { return 0x08000000; }
static inline int linux_namespace_flag_names(void) { return 0x04000000; }
static inline int linux_namespace_flag_network(void) { return 0x40000000; }

struct linux_confinement {
  // Descriptors of namespaces to enter, or -1.
  int ipc, names, network;
  // A Landlock ruleset, or -1.
  int ruleset;
};

// The calling thread: namespaces, no new privileges, no capabilities, Landlock. 0 or errno.
static inline int linux_confine_thread(const struct linux_confinement *wanted) {
  if (wanted->ipc >= 0 && syscall(SYS_setns, wanted->ipc, 0x08000000) != 0) return errno;
  if (wanted->names >= 0 && syscall(SYS_setns, wanted->names, 0x04000000) != 0) return errno;
  if (wanted->network >= 0 && syscall(SYS_setns, wanted->network, 0x40000000) != 0) return errno;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  // EINVAL behind the last one that the kernel has; EPERM for who has none anyway.
  for (int capability = 0; capability < 64; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;
  prctl(47 /* PR_CAP_AMBIENT */, 4 /* clear all */, 0, 0, 0);
  struct {
    uint32_t version;
    int32_t process;
  } header = {0x20080522 /* version 3 */, 0};
  uint32_t none[6] = {0};
  if (syscall(SYS_capset, &header, none) != 0) return errno;
  if (wanted->ruleset >= 0 && syscall(446 /* landlock_restrict_self */, wanted->ruleset, 0u) != 0) return errno;
  return 0;
}

// MARK: The same on threads that run already, by a signal to each. Of the process's main thread, once.

struct linux_confinement_order {
  struct linux_confinement wanted;
  // The thread that has done it last.
  int thread;
  int failure;
};
// Within a function, because Swift's compiler knows no variables of headers.
static inline struct linux_confinement_order *linux_confinement_order(void) {
  static struct linux_confinement_order order;
  return &order;
}

static inline void linux_confinement_handler(int number) {
  (void)number;
  int saved = errno;
  struct linux_confinement_order *order = linux_confinement_order();
  order->failure = linux_confine_thread(&order->wanted);
  __atomic_store_n(&order->thread, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
  errno = saved;
}

// Makes another thread of this process confine itself. 0; ESRCH where it has ended; ETIMEDOUT where it does not heed
// signals; what failed in it.
static inline int linux_confine_other_thread(int thread, const struct linux_confinement *wanted) {
  int signal = SIGRTMIN + 7;
  struct linux_confinement_order *order = linux_confinement_order();
  order->wanted = *wanted;
  __atomic_store_n(&order->thread, 0, __ATOMIC_RELEASE);
  struct sigaction action = {0};
  action.sa_handler = linux_confinement_handler;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  if (sigaction(signal, &action, NULL) != 0) return errno;
  int process = (int)getpid();
  if (syscall(SYS_tgkill, process, thread, signal) != 0) return errno;
  for (int round = 0; round < 20000; round++) {
    if (__atomic_load_n(&order->thread, __ATOMIC_ACQUIRE) == thread) return order->failure;
    if (round % 16 == 15 && syscall(SYS_tgkill, process, thread, 0) != 0) return errno;
    struct timespec pause = {0, round < 100 ? 10000 : 100000};
    nanosleep(&pause, NULL);
  }
  return ETIMEDOUT;
}

// MARK: seccomp

// How often a filter has refused.
static inline unsigned *linux_refusal_count(void) {
  static unsigned count;
  return &count;
}

static inline char *linux_append_text(char *at, const char *end, const char *text) {
  while (*text && at < end) *at++ = *text++;
  return at;
}
static inline char *linux_append_number(char *at, const char *end, uint64_t value, unsigned base) {
  char digits[24];
  int count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (count > 0 && at < end) *at++ = digits[--count];
  return at;
}

// Says on standard error which system call was refused, and makes it fail with EPERM, or, where the filter's data is 1,
// ends the process. Only what may be called from a signal handler.
static inline void linux_refusal_handler(int number, siginfo_t *information, void *context) {
  (void)number;
  ucontext_t *state = context;
  int ends = information->si_errno == 1;
  unsigned count = __atomic_add_fetch(linux_refusal_count(), 1, __ATOMIC_RELAXED);
  if (count <= 32 || ends) {
    char line[256], thread[17] = {0};
    const char *end = line + sizeof line - 4;
    prctl(PR_GET_NAME, (unsigned long)thread, 0, 0, 0);
    char *at = linux_append_text(line, end, "sandbox: thread ");
    at = linux_append_text(at, end, thread);
    at = linux_append_text(at, end, ": refused system call ");
    at = linux_append_text(at, end, linux_system_call_name(information->si_syscall));
    at = linux_append_text(at, end, " (");
    at = linux_append_number(at, end, (uint64_t)(unsigned)information->si_syscall, 10);
    at = linux_append_text(at, end, ") with 0x");
    // RDI, RSI, RDX: the first three arguments.
    at = linux_append_number(at, end, (uint64_t)state->uc_mcontext.gregs[8], 16);
    at = linux_append_text(at, end, ", 0x");
    at = linux_append_number(at, end, (uint64_t)state->uc_mcontext.gregs[9], 16);
    at = linux_append_text(at, end, ", 0x");
    at = linux_append_number(at, end, (uint64_t)state->uc_mcontext.gregs[12], 16);
    at = linux_append_text(at, end, ends ? "; the process ends" : "");
    if (count == 32) at = linux_append_text(at, end, "; later ones are only counted");
    *at++ = '\r';
    *at++ = '\n';
    ssize_t ignored = write(2, line, (size_t)(at - line));
    (void)ignored;
  }
  if (ends) syscall(SYS_exit_group, 159 /* 128 + SIGSYS */);
  state->uc_mcontext.gregs[13 /* RAX */] = -EPERM;
}
static inline int linux_install_refusal_handler(void) {
  struct sigaction action = {0};
  action.sa_sigaction = linux_refusal_handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGSYS, &action, NULL);
}
static inline unsigned linux_refusals(void) { return __atomic_load_n(linux_refusal_count(), __ATOMIC_RELAXED); }

// Puts a filter on this thread, or on all threads. 0, -1 with errno, or the number of a thread that could not take it.
static inline int linux_install_filter(const struct sock_filter *code, unsigned short count, int all) {
  struct sock_fprog program = {count, (struct sock_filter *)code};
  unsigned flags = 4u /* SPEC_ALLOW: no code of a guest's runs in this process */ | (all ? 1u /* TSYNC */ : 0u);
  long result = syscall(SYS_seccomp, 1 /* SET_MODE_FILTER */, flags, &program);
  // A kernel before 4.17 knows no SPEC_ALLOW.
  if (result == -1 && errno == EINVAL) result = syscall(SYS_seccomp, 1, flags & ~4u, &program);
  return (int)result;
}
