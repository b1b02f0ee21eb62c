// Which frames a driver wants (Virtual I/O Device 1.2, 5.1.6.5.1 to 5.1.6.5.3).

/// Addresses and modes that the control queue sets.
struct ReceiveFilter: Codable, Sendable, Equatable {
  /// More addresses of a kind than this mean all of that kind.
  static let addressLimit = 64

  /// Commands of class VIRTIO_NET_CTRL_RX, which are bits here.
  struct Modes: OptionSet, Codable, Sendable, Equatable {
    var rawValue: UInt8
    static let promiscuous = Modes(rawValue: 1 << 0)
    static let allMulticast = Modes(rawValue: 1 << 1)
    static let allUnicast = Modes(rawValue: 1 << 2)
    static let noMulticast = Modes(rawValue: 1 << 3)
    static let noUnicast = Modes(rawValue: 1 << 4)
    static let noBroadcast = Modes(rawValue: 1 << 5)
  }

  /// Drivers that never say anything get everything.
  var modes: Modes = [.promiscuous]
  var unicast: Set<HardwareAddress> = []
  var multicast: Set<HardwareAddress> = []
  var unicastOverflows = false
  var multicastOverflows = false
  /// One bit for each VLAN; nil: the driver does not filter.
  var networks: [UInt64]?

  /// - Parameter own: the adapter's address.
  func accepts(_ frame: UnsafeRawBufferPointer, own: HardwareAddress) -> Bool {
    guard frame.count >= 14, let base = frame.baseAddress else { return false }
    if modes.contains(.promiscuous) { return true }
    if let networks, frame[12] == 0x81, frame[13] == 0, frame.count >= 18 {
      let number = Int(frame[14] & 0x0F) << 8 | Int(frame[15])
      guard networks[number >> 6] >> UInt64(number & 63) & 1 != 0 else { return false }
    }
    let target = HardwareAddress(base.assumingMemoryBound(to: UInt8.self))
    if target.isBroadcast { return !modes.contains(.noBroadcast) }
    if target.isMulticast {
      return !modes.contains(.noMulticast)
        && (modes.contains(.allMulticast) || multicastOverflows || multicast.contains(target))
    }
    return !modes.contains(.noUnicast)
      && (target == own || modes.contains(.allUnicast) || unicastOverflows
        || unicast.contains(target))
  }
}
