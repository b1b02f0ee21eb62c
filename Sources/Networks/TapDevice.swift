// Opens taps of the host (tuntap.rst): existing ones, new ones on a bridge, and those that come as open descriptors.

import CLinux
import Devices
import Platform

enum TapDevice {
  /// IFNAMSIZ.
  private static let nameSize = 16
  /// A new tap's name; the kernel puts a number in.
  private static let pattern = "uj%d"

  /// Queues of an existing tap.
  ///
  /// - Throws: `NetworkError` when there is no such tap or it belongs to somebody else.
  static func open(_ name: String, queues: Int) throws(NetworkError) -> [SharedDescriptor] {
    do throws(PlatformError) {
      guard queues == 1 else { return try attach(name, queues).devices }
      do throws(PlatformError) {
        return try attach(name, 1).devices
      } catch {
        // One that was made for several queues takes no other kind.
        guard error.code == EINVAL else { throw error }
        return try attach(name, 1, several: true).devices
      }
    } catch {
      throw NetworkError(advice(name, error, queues))
    }
  }

  private static func advice(_ name: String, _ error: PlatformError, _ queues: Int) -> String {
    switch error.code {
    case EPERM, EACCES:
      "tap \(name): not allowed; an administrator makes it for you: ip tuntap add \(name) mode tap user $USER"
        + (queues > 1 ? " multi_queue" : "")
    case ENOENT, ENODEV, ENXIO: "tap \(name): this host has no /dev/net/tun (modprobe tun)"
    case EBUSY: "tap \(name): another program uses it"
    case EINVAL where queues > 1:
      "tap \(name): is not made for several queues; ip tuntap add \(name) mode tap multi_queue"
    default: "tap \(name): \(error.reason)"
    }
  }

  /// Makes a tap, which is gone with the last of its descriptors, and puts it on a bridge. Needs CAP_NET_ADMIN.
  static func make(
    onBridge bridge: String, queues: Int
  ) throws(PlatformError) -> [SharedDescriptor] {
    let (devices, name) = try attach(pattern, queues)
    try systemCall("SIOCBRADDIF", bridge) { linux_bridge_add(bridge, name) }
    return devices
  }

  private static func attach(
    _ name: String, _ queues: Int, several: Bool = false
  ) throws(PlatformError) -> (devices: [SharedDescriptor], name: String) {
    var bytes = [CChar](repeating: 0, count: nameSize)
    for (index, byte) in name.utf8.prefix(nameSize - 1).enumerated() {
      bytes[index] = CChar(bitPattern: byte)
    }
    var devices: [SharedDescriptor] = []
    for _ in 0..<queues {
      let device = SharedDescriptor(
        try FileDescriptor.open("/dev/net/tun", O_RDWR | O_NONBLOCK))
      let number = device.rawValue
      // From the second on, `bytes` is the name that the kernel made.
      try systemCall("TUNSETIFF", name) {
        linux_tap_attach(number, &bytes, queues > 1 || several ? 1 : 0)
      }
      devices.append(device)
    }
    return (devices, text(bytes))
  }

  /// Checks descriptors that another program opened.
  ///
  /// - Throws: `NetworkError` when one is not open, or no tap's.
  static func take(_ numbers: [Int32]) throws(NetworkError) -> [SharedDescriptor] {
    for number in numbers {
      let flags = linux_fcntl(number, F_GETFD, 0)
      guard flags >= 0, number > 2 else {
        throw NetworkError("tap:fd=\(number): the descriptor is not open")
      }
      var bytes = [CChar](repeating: 0, count: nameSize)
      let kind = linux_tap_flags(number, &bytes)
      guard kind >= 0, kind & Int32(LINUX_IFF_TAP) != 0, kind & Int32(LINUX_IFF_NO_PI) != 0 else {
        throw NetworkError(
          "tap:fd=\(number): the descriptor is not a tap's (IFF_TAP and IFF_NO_PI)")
      }
      _ = linux_fcntl(number, F_SETFD, flags | FD_CLOEXEC)
      let status = linux_fcntl(number, F_GETFL, 0)
      _ = linux_fcntl(number, F_SETFL, status | O_NONBLOCK)
    }
    return numbers.map { SharedDescriptor(owning: $0) }
  }

  /// A tap's name, and whether its frames have a virtio header before them; nil when the descriptor is no tap's.
  static func describe(_ device: SharedDescriptor) -> (name: String, hasHeader: Bool)? {
    var bytes = [CChar](repeating: 0, count: nameSize)
    let flags = linux_tap_flags(device.rawValue, &bytes)
    guard flags >= 0 else { return nil }
    return (text(bytes), flags & Int32(LINUX_IFF_VNET_HDR) != 0)
  }

  private static func text(_ bytes: [CChar]) -> String {
    String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
