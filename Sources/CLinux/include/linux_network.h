// Taps (linux/if_tun.h): what Swift does not import of ioctl numbers and struct ifreq.
#pragma once
#include <errno.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/// Attaches an open /dev/net/tun to the tap `name`, IFNAMSIZ bytes, with virtio headers, as one queue of `several` or
/// the only one. A name with %d in it makes a new tap; `name` becomes what it is called. As ioctl(2).
static inline int linux_tap_attach(int descriptor, char *name, int several) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0);
  memcpy(request.ifr_name, name, IFNAMSIZ - 1);
  int result = ioctl(descriptor, TUNSETIFF, &request);
  if (result == 0) memcpy(name, request.ifr_name, IFNAMSIZ);
  return result;
}

/// What a tap's descriptor is (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR), and its name, IFNAMSIZ bytes. -1: it is no tap's.
static inline int linux_tap_flags(int descriptor, char *name) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (ioctl(descriptor, TUNGETIFF, &request) != 0) return -1;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  return (unsigned short)request.ifr_flags;
}

/// Whether the kernel gives frames to this queue of a tap.
static inline int linux_tap_set_queue(int descriptor, int attached) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  return ioctl(descriptor, TUNSETQUEUE, &request);
}

/// Puts the tap `name` on a bridge and switches it on: with the bridge's largest packet, and an address so high that
/// the bridge does not take it for its own.
static inline int linux_bridge_add(const char *bridge, const char *name) {
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return -1;
  struct ifreq port, master;
  memset(&port, 0, sizeof port);
  memset(&master, 0, sizeof master);
  strncpy(port.ifr_name, name, IFNAMSIZ - 1);
  strncpy(master.ifr_name, bridge, IFNAMSIZ - 1);
  int result = ioctl(control, SIOCGIFHWADDR, &port);
  if (result == 0) {
    port.ifr_hwaddr.sa_data[0] = (char)0xFE;
    result = ioctl(control, SIOCSIFHWADDR, &port);
  }
  if (result == 0) result = ioctl(control, SIOCGIFMTU, &master);
  if (result == 0) {
    port.ifr_mtu = master.ifr_mtu;
    result = ioctl(control, SIOCSIFMTU, &port);
  }
  if (result == 0) {
    master.ifr_ifindex = (int)if_nametoindex(name);
    result = ioctl(control, SIOCBRADDIF, &master);
  }
  if (result == 0) result = ioctl(control, SIOCGIFFLAGS, &port);
  if (result == 0) {
    port.ifr_flags |= IFF_UP;
    result = ioctl(control, SIOCSIFFLAGS, &port);
  }
  int code = errno;
  close(control);
  errno = code;
  return result;
}

/// Sends `count` descriptors, at most 8, with one byte (SCM_RIGHTS, unix(7)). As sendmsg(2).
static inline ssize_t linux_send_descriptors(int socket, const int *descriptors, int count) {
  char byte = 0;
  struct iovec piece = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } room;
  struct msghdr message;
  if (count < 1 || count > 8) { errno = EINVAL; return -1; }
  memset(&message, 0, sizeof message);
  memset(&room, 0, sizeof room);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes;
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memcpy(CMSG_DATA(control), descriptors, (size_t)count * sizeof(int));
  return sendmsg(socket, &message, MSG_NOSIGNAL);
}

/// Takes at most 8 descriptors, closed on exec. Returns how many came; 0 at the end; -1 with errno.
static inline int linux_receive_descriptors(int socket, int descriptors[8]) {
  char byte;
  struct iovec piece = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } room;
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes;
  message.msg_controllen = sizeof room.bytes;
  ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (count <= 0) return (int)count;
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) return 0;
  size_t size = control->cmsg_len - CMSG_LEN(0);
  if (size > 8 * sizeof(int)) size = 8 * sizeof(int);
  memcpy(descriptors, CMSG_DATA(control), size);
  return (int)(size / sizeof(int));
}

/// Whether the program has rights that whoever started it has not: it is setuid, setgid or has file capabilities.
static inline int linux_has_foreign_rights(void) {
  if (geteuid() != getuid() || getegid() != getgid()) return 1;
  if (getuid() == 0 || !getauxval(AT_SECURE)) return 0;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  memset(data, 0, sizeof data);
  return syscall(SYS_capget, &header, data) == 0 && (data[0].permitted || data[1].permitted);
}

/// Says what the reader of a tap can do itself (TUN_F_*).
static inline int linux_tap_set_offload(int descriptor, unsigned long flags) {
  return ioctl(descriptor, TUNSETOFFLOAD, flags);
}

static inline int linux_tap_set_header_size(int descriptor, int size) {
  return ioctl(descriptor, TUNSETVNETHDRSZ, &size);
}

enum {
  LINUX_TUN_F_CSUM = TUN_F_CSUM,
  LINUX_TUN_F_TSO4 = TUN_F_TSO4,
  LINUX_TUN_F_TSO6 = TUN_F_TSO6,
  LINUX_IFF_TAP = IFF_TAP,
  LINUX_IFF_NO_PI = IFF_NO_PI,
  LINUX_IFF_VNET_HDR = IFF_VNET_HDR,
};

/// Sends two pieces as one packet, without a wait and without SIGPIPE. As sendmsg(2).
static inline ssize_t linux_send_two(
    int descriptor, void *first, size_t first_count, void *second, size_t second_count) {
  struct iovec pieces[2] = {{first, first_count}, {second, second_count}};
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  return sendmsg(descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/// A TCP socket that neither blocks nor waits to fill a segment. As socket(2).
static inline int linux_tcp_socket(void) {
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int on = 1;
  if (descriptor >= 0) {
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  return descriptor;
}

static inline void linux_tcp_without_delay(int descriptor) {
  int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline struct sockaddr_in linux_tcp_address(uint32_t address, uint16_t port) {
  struct sockaddr_in result;
  memset(&result, 0, sizeof result);
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
}

/// `address` and `port` in the host's order. As bind(2).
static inline int linux_tcp_bind(int descriptor, uint32_t address, uint16_t port) {
  struct sockaddr_in target = linux_tcp_address(address, port);
  return bind(descriptor, (struct sockaddr *)&target, sizeof target);
}

static inline int linux_tcp_connect(int descriptor, uint32_t address, uint16_t port) {
  struct sockaddr_in target = linux_tcp_address(address, port);
  return connect(descriptor, (struct sockaddr *)&target, sizeof target);
}

/// The error that a connection ended its beginning with; 0 when it stands.
static inline int linux_socket_error(int descriptor) {
  int code = 0;
  socklen_t size = sizeof code;
  return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 ? code : errno;
}

/// Gives the calling thread a network of its own (CLONE_NEWNET). As unshare(2).
static inline int linux_leave_network(void) { return (int)syscall(SYS_unshare, 0x40000000); }

/// Gives the calling thread a network that it had before. As setns(2).
static inline int linux_enter_network(int descriptor) {
  return (int)syscall(SYS_setns, descriptor, 0x40000000);
}
