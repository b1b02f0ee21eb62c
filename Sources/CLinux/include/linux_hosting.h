// What inventory and hosting need: locks of an open file description, peer credentials, and a detached child.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// fcntl(2): locks that belong to the open file and not to the process. The names need _GNU_SOURCE.
static inline int linux_lock_command_get(void) { return 36; }
static inline int linux_lock_command_set(void) { return 37; }

// struct ucred of unix(7), SO_PEERCRED; the C library's needs _GNU_SOURCE.
struct linux_peer_credentials {
  int32_t process;
  uint32_t user;
  uint32_t group;
};
static inline int linux_get_peer_credentials(int fd, struct linux_peer_credentials *credentials) {
  socklen_t size = sizeof *credentials;
  return getsockopt(fd, SOL_SOCKET, 17 /* SO_PEERCRED */, credentials, &size);
}

// The supplementary groups of the process at the other end (SO_PEERGROUPS, Linux 4.13). How many; -1 with errno, ERANGE
// where they do not fit.
static inline int linux_get_peer_groups(int fd, uint32_t *groups, int limit) {
  socklen_t size = (socklen_t)limit * sizeof *groups;
  if (getsockopt(fd, SOL_SOCKET, 59 /* SO_PEERGROUPS */, groups, &size) != 0) return -1;
  return (int)(size / sizeof *groups);
}

// sync_file_range(2); the name needs _GNU_SOURCE.
static inline int linux_sync_file_range(int fd, int64_t offset, int64_t count, unsigned flags) {
  return (int)syscall(SYS_sync_file_range, fd, offset, count, flags);
}
static inline unsigned linux_rename_noreplace(void) { return 1; }
static inline unsigned linux_rename_exchange(void) { return 2; }
static inline int linux_resource_usage(struct rusage *usage) { return getrusage(RUSAGE_SELF, usage); }

extern char **environ;
static inline char **linux_process_environment(void) { return environ; }

// Fills an address; returns its length or 0 when the path does not fit.
static inline socklen_t linux_unix_address(struct sockaddr_un *address, const char *path) {
  size_t length = strlen(path);
  memset(address, 0, sizeof *address);
  if (length >= sizeof address->sun_path) return 0;
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
}
static inline int linux_unix_bind(int fd, const char *path) {
  struct sockaddr_un address;
  socklen_t length = linux_unix_address(&address, path);
  if (length == 0) { errno = ENAMETOOLONG; return -1; }
  return bind(fd, (struct sockaddr *)&address, length);
}
static inline int linux_unix_connect(int fd, const char *path) {
  struct sockaddr_un address;
  socklen_t length = linux_unix_address(&address, path);
  if (length == 0) { errno = ENAMETOOLONG; return -1; }
  return connect(fd, (struct sockaddr *)&address, length);
}
static inline int linux_unix_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}
static inline ssize_t linux_send(int fd, const void *bytes, size_t count) {
  return send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Sends a byte with a descriptor (SCM_RIGHTS, unix(7)). As sendmsg(2).
static inline ssize_t linux_send_with_descriptor(int fd, char byte, int descriptor) {
  struct iovec piece = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } room;
  struct msghdr message;
  memset(&message, 0, sizeof message);
  memset(&room, 0, sizeof room);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes;
  message.msg_controllen = sizeof room.bytes;
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(control), &descriptor, sizeof(int));
  return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
// Reads what is there, and takes at most one descriptor; more are closed. `descriptor` is -1 without. As recvmsg(2).
static inline ssize_t linux_receive_with_descriptor(int fd, void *bytes, size_t count, int *descriptor) {
  struct iovec piece = {bytes, count};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } room;
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes;
  message.msg_controllen = sizeof room.bytes;
  *descriptor = -1;
  ssize_t result = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (result < 0) return result;
  // Room for one: the kernel drops the rest (MSG_CTRUNC), but alignment may let a second in.
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
    size_t size = control->cmsg_len - CMSG_LEN(0);
    for (size_t place = 0; place + sizeof(int) <= size; place += sizeof(int)) {
      int number;
      memcpy(&number, CMSG_DATA(control) + place, sizeof(int));
      if (*descriptor < 0) *descriptor = number; else close(number);
    }
  }
  return result;
}

// Runs a program as a child of nobody: own session, working directory /, standard input from /dev/null, standard
// output and error to `log`, descriptor 3 = `report`, descriptor 4 = `begin` unless that is -1, everything else closed.
// fork(2) cannot be called from Swift.
// Returns 0 or -1 with errno; the program's own failures are seen as the end of the report pipe.
static inline int linux_spawn_detached(const char *program, char *const arguments[], char *const environment[],
                                       int log, int report, int begin) {
  int status;
  pid_t child = fork();
  if (child < 0) return -1;
  if (child > 0) {
    while (waitpid(child, &status, 0) < 0)
      if (errno != EINTR) return -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    errno = EAGAIN;
    return -1;
  }
  if (setsid() < 0) _exit(1);
  child = fork();
  if (child != 0) _exit(child < 0);
  // Far out of the way first, so that no dup2 below can hit its own source.
  int null = open("/dev/null", O_RDONLY);
  null = fcntl(null, F_DUPFD, 64);
  log = fcntl(log, F_DUPFD, 64);
  report = fcntl(report, F_DUPFD, 64);
  if (null < 0 || log < 0 || report < 0 || chdir("/") < 0) _exit(127);
  if (begin >= 0 && (begin = fcntl(begin, F_DUPFD, 64)) < 0) _exit(127);
  dup2(null, 0);
  dup2(log, 1);
  dup2(log, 2);
  dup2(report, 3);
  if (begin >= 0) dup2(begin, 4);
  syscall(SYS_close_range, begin >= 0 ? 5u : 4u, ~0u, 0u);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int number = 1; number < 32; number++) {
    struct sigaction action = {0};
    action.sa_handler = SIG_DFL;
    sigaction(number, &action, NULL);
  }
  execve(program, arguments, environment);
  _exit(127);
}
