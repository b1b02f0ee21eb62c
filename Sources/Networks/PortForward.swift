/// A port of the host that leads to a port of the guest.
public struct PortForward: Sendable, Codable, Hashable, CustomStringConvertible {
  public enum Transport: String, Sendable, Codable, CaseIterable {
    case tcp, udp
  }

  public var transport = Transport.tcp
  /// Where the host listens; the loopback address keeps it from other hosts.
  public var hostAddress = IPv4Address.loopback
  public var hostPort: UInt16
  /// nil: the guest's address by DHCP.
  public var guestAddress: IPv4Address?
  public var guestPort: UInt16

  public init(hostPort: UInt16, guestPort: UInt16) {
    self.hostPort = hostPort
    self.guestPort = guestPort
  }

  /// Reads `[tcp|udp:][HOST-ADDRESS:]HOST-PORT:[GUEST-ADDRESS:]GUEST-PORT`, such as `2222:22` or `udp:0.0.0.0:53:53`.
  public init?(_ text: some StringProtocol) {
    let pieces: [some StringProtocol] = text.split(separator: ":", omittingEmptySubsequences: false)
    var parts = pieces.map { String($0) }
    if let first = parts.first, let transport = Transport(rawValue: first) {
      self.transport = transport
      parts.removeFirst()
    }
    if parts.count > 2, let address = IPv4Address(parts[0]) {
      hostAddress = address
      parts.removeFirst()
    }
    guard parts.count >= 2, let host = Self.port(parts.removeFirst()) else { return nil }
    hostPort = host
    if parts.count == 2 {
      guard let address = IPv4Address(parts.removeFirst()) else { return nil }
      guestAddress = address
    }
    guard parts.count == 1, let guest = Self.port(parts[0]) else { return nil }
    guestPort = guest
  }

  private static func port(_ text: String) -> UInt16? {
    guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(text), port > 0
    else { return nil }
    return port
  }

  public var description: String {
    let host = hostAddress == .loopback ? "" : "\(hostAddress):"
    let guest = guestAddress.map { "\($0):" } ?? ""
    return "\(transport.rawValue):\(host)\(hostPort):\(guest)\(guestPort)"
  }
}

/// An IPv4 address.
public struct IPv4Address: Sendable, Codable, Hashable, CustomStringConvertible {
  /// The first number is the most significant byte.
  public var value: UInt32

  public static let loopback = IPv4Address(0x7F00_0001)

  public init(_ value: UInt32) { self.value = value }

  /// Reads four decimal numbers with dots.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard part.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let byte = UInt8(part) else {
        return nil
      }
      value = value << 8 | UInt32(byte)
    }
    self.value = value
  }

  public var description: String {
    (0..<4).map { String(value >> (24 - 8 * UInt32($0)) & 0xFF) }.joined(separator: ".")
  }
}
