// Files as disks: positions, holes and byte-range locks whose names need _GNU_SOURCE.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <unistd.h>

// linux/fs.h, asm-generic/fcntl.h: part of the kernel's ABI.
static inline int64_t linux_seek_data(int fd, int64_t offset) { return lseek(fd, offset, 3); }
static inline int64_t linux_seek_hole(int fd, int64_t offset) { return lseek(fd, offset, 4); }
static inline int linux_open_direct_flag(void) {
#ifdef __aarch64__
  return 0200000;
#else
  return 040000;
#endif
}

// OFD lock (F_OFD_SETLK 37): shared, one byte. 0 or -1 with errno.
static inline int linux_ofd_share_byte(int fd, int64_t offset, int unlock) {
  struct flock lock = {0};
  lock.l_type = unlock ? F_UNLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = 1;
  return fcntl(fd, 37, &lock);
}
// 1 when somebody else holds a lock on that byte, 0 when not, -1 with errno (F_OFD_GETLK 36).
static inline int linux_ofd_byte_is_held(int fd, int64_t offset) {
  struct flock lock = {0};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = 1;
  if (fcntl(fd, 36, &lock) == -1) return -1;
  return lock.l_type != F_UNLCK;
}
