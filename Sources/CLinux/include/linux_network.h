// Taps (linux/if_tun.h): what Swift does not import of ioctl numbers and struct ifreq.
#pragma once
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/// Attaches an open /dev/net/tun to the tap `name` with virtio headers. As ioctl(2).
static inline int linux_tap_attach(int descriptor, const char *name) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return ioctl(descriptor, TUNSETIFF, &request);
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
