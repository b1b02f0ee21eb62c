// Before liburing.h, which asks for X/Open's names: they must be the same in every module.
#include <sys/select.h>
#include <sys/stat.h>

#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

// io_uring_register(2) by number: Debian's library keeps its functions for restrictions to itself. 0, or -1.
static inline int uring_register(int ring, unsigned operation, const void *argument, unsigned count) {
  return syscall(SYS_io_uring_register, ring, operation, argument, count) < 0 ? -1 : 0;
}
