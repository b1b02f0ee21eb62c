// Descriptors, threads and signals: calls that are variadic, are macros, or are missing from Glibc's Swift overlay.
#pragma once
// Without _GNU_SOURCE: with it, C structures would differ from those of Swift's Glibc module. Calls that need it go by
// number.
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static inline int linux_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static inline int linux_openat(int directory, const char *path, int flags, mode_t mode) {
  return openat(directory, path, flags, mode);
}
static inline int linux_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }
static inline int linux_fcntl_lock(int fd, int command, struct flock *lock) { return fcntl(fd, command, lock); }
static inline int linux_ioctl(int fd, unsigned long request, unsigned long argument) {
  return ioctl(fd, request, argument);
}
static inline int linux_ioctl_pointer(int fd, unsigned long request, void *argument) {
  return ioctl(fd, request, argument);
}
static inline int linux_memfd_create(const char *name, unsigned flags) { return (int)syscall(SYS_memfd_create, name, flags); }
static inline int linux_gettid(void) { return (int)syscall(SYS_gettid); }
static inline int linux_fallocate(int fd, int mode, int64_t offset, int64_t length) {
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
static inline int linux_renameat2(int olddir, const char *from, int newdir, const char *to, unsigned flags) {
  return (int)syscall(SYS_renameat2, olddir, from, newdir, to, flags);
}
static inline int linux_close_range(unsigned first, unsigned last, unsigned flags) {
  return (int)syscall(SYS_close_range, first, last, flags);
}
static inline int linux_error_number(void) { return errno; }
static inline void linux_set_error_number(int number) { errno = number; }
static inline int linux_accept4(int fd, int flags) { return (int)syscall(SYS_accept4, fd, NULL, NULL, flags); }
static inline int linux_pipe2(int descriptors[2], int flags) { return (int)syscall(SYS_pipe2, descriptors, flags); }
static inline void linux_name_thread(const char *name) { prctl(PR_SET_NAME, (unsigned long)name, 0, 0, 0); }
static inline void *linux_map_failed(void) { return MAP_FAILED; }

// An empty handler: its only effect is that a blocking system call returns EINTR.
static inline void linux_empty_handler(int number) { (void)number; }
static inline int linux_install_kick_signal(int number) {
  struct sigaction action = {0};
  action.sa_handler = linux_empty_handler;
  sigemptyset(&action.sa_mask);
  return sigaction(number, &action, NULL);
}
static inline int linux_ignore_signal(int number) {
  struct sigaction action = {0};
  action.sa_handler = SIG_IGN;
  return sigaction(number, &action, NULL);
}
static inline int linux_default_signal(int number) {
  struct sigaction action = {0};
  action.sa_handler = SIG_DFL;
  return sigaction(number, &action, NULL);
}
static inline int linux_realtime_signal(int offset) { return SIGRTMIN + offset; }

extern char **environ;
static inline char **linux_environment(void) { return environ; }
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
static inline int linux_spawn_change_folder(posix_spawn_file_actions_t *actions, const char *path) {
  return posix_spawn_file_actions_addchdir_np(actions, path);
}
