// Taps (linux/if_tun.h): what Swift does not import of ioctl numbers and struct ifreq.
#pragma once
#include <linux/if_tun.h>
#include <net/if.h>
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
