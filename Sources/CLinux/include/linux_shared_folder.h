// What a folder that is shared with a guest needs of Linux: opening beneath, reading entries, locks of descriptions.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma clang assume_nonnull begin

enum {
  LINUX_O_PATH = 010000000,
  LINUX_O_DIRECTORY = 0200000,
  LINUX_O_NOFOLLOW = 0400000,
  LINUX_AT_REMOVEDIR = 0x200,
  LINUX_AT_SYMLINK_NOFOLLOW = 0x100,
  LINUX_UTIME_NOW = 0x3FFFFFFF,
  LINUX_UTIME_OMIT = 0x3FFFFFFE,
  LINUX_S_IFMT = 0170000,
  LINUX_S_IFSOCK = 0140000,
  LINUX_S_IFLNK = 0120000,
  LINUX_S_IFREG = 0100000,
  LINUX_S_IFDIR = 0040000,
  LINUX_S_IFIFO = 0010000,
};

/// What stat(2) tells. Times are seconds and nanoseconds.
typedef struct {
  uint64_t device, number, links, special_device, size, block_size, blocks;
  uint32_t mode, owner, group;
  int64_t access_time, access_nanoseconds, change_time, change_nanoseconds, status_time, status_nanoseconds;
} linux_file_facts;

static inline void linux_take_facts(const struct stat *from, linux_file_facts *to) {
  to->device = from->st_dev;
  to->number = from->st_ino;
  to->links = from->st_nlink;
  to->special_device = from->st_rdev;
  to->size = (uint64_t)from->st_size;
  to->block_size = (uint64_t)from->st_blksize;
  to->blocks = (uint64_t)from->st_blocks;
  to->mode = from->st_mode;
  to->owner = from->st_uid;
  to->group = from->st_gid;
  to->access_time = from->st_atim.tv_sec;
  to->access_nanoseconds = from->st_atim.tv_nsec;
  to->change_time = from->st_mtim.tv_sec;
  to->change_nanoseconds = from->st_mtim.tv_nsec;
  to->status_time = from->st_ctim.tv_sec;
  to->status_nanoseconds = from->st_ctim.tv_nsec;
}

/// Of the entry itself, also where it is a symbolic link.
static inline int linux_entry_facts(int folder, const char *name, linux_file_facts *facts) {
  struct stat status;
  if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return -1;
  linux_take_facts(&status, facts);
  return 0;
}

static inline int linux_descriptor_facts(int file, linux_file_facts *facts) {
  struct stat status;
  if (fstat(file, &status) != 0) return -1;
  linux_take_facts(&status, facts);
  return 0;
}

/// Size of a block; blocks, free ones, free ones for everybody; files, free ones.
typedef struct {
  uint64_t block_size, blocks, free, available, files, free_files;
} linux_volume_facts;

static inline int linux_take_volume_facts(int file, linux_volume_facts *facts) {
  struct statfs status;
  if (fstatfs(file, &status) != 0) return -1;
  facts->block_size = (uint64_t)status.f_bsize;
  facts->blocks = status.f_blocks;
  facts->free = status.f_bfree;
  facts->available = status.f_bavail;
  facts->files = status.f_files;
  facts->free_files = status.f_ffree;
  return 0;
}

/// Descriptors that this process may have.
static inline uint64_t linux_descriptor_limit(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 256;
}

/// utimensat(2), which follows no link.
static inline int linux_change_times(
    int folder, const char *name, int64_t access, int64_t access_nanoseconds, int64_t change, int64_t change_nanoseconds) {
  struct timespec times[2] = {{access, access_nanoseconds}, {change, change_nanoseconds}};
  return utimensat(folder, name, times, AT_SYMLINK_NOFOLLOW);
}

/// openat2(2) that stays beneath `folder` and follows no link.
static inline int linux_open_beneath(int folder, const char *name, int flags, uint32_t mode) {
  struct open_how how;
  memset(&how, 0, sizeof how);
  how.flags = (uint64_t)(uint32_t)(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (int round = 0; ; round++) {
    int result = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
    // The tree has changed under the kernel's eyes.
    if (result >= 0 || (errno != EAGAIN && errno != EINTR) || round == 16) return result;
  }
}

/// getdents64(2): linux_entry records, as many as fit.
static inline long linux_read_entries(int folder, void *buffer, unsigned int size) {
  return syscall(SYS_getdents64, folder, buffer, size);
}

/// fchmodat2(2), which follows no link. ENOSYS before Linux 6.6.
static inline int linux_change_mode(int folder, const char *name, uint32_t mode) {
  return (int)syscall(452, folder, name, mode, 0x100);
}

static inline int linux_rename_at(int from, const char *name, int to, const char *new_name) {
  return (int)syscall(SYS_renameat2, from, name, to, new_name, 0);
}

/// An open file description's lock on a range; `test` asks only. `type`: F_RDLCK, F_WRLCK or F_UNLCK, also of the answer.
static inline int linux_description_lock(
    int file, int test, short *type, uint64_t *start, uint64_t *length) {
  struct flock lock;
  memset(&lock, 0, sizeof lock);
  lock.l_type = *type;
  lock.l_whence = SEEK_SET;
  lock.l_start = (off_t)*start;
  lock.l_len = (off_t)*length;
  // F_OFD_GETLK, F_OFD_SETLK.
  if (fcntl(file, test ? 36 : 37, &lock) != 0) return -1;
  *type = lock.l_type;
  *start = (uint64_t)lock.l_start;
  *length = (uint64_t)lock.l_len;
  return 0;
}

#pragma clang assume_nonnull end
