// A network of a guest and this host alone, as vmd's local interfaces are.

import Devices

extension UserNetwork {
  private static let packet = 14

  /// Whether a frame of the guest is for this host: for an address of the network that is not the name server's, which
  /// would ask others, or for all on the wire.
  func staysHere(_ frame: UnsafeRawBufferPointer) -> Bool {
    guard frame.count >= Self.packet + 20 else { return false }
    switch UInt16(frame[12]) << 8 | UInt16(frame[13]) {
    case 0x0806: return true
    case 0x0800:
      let target = (16..<20).reduce(UInt32(0)) { $0 << 8 | UInt32(frame[Self.packet + $1]) }
      if target == .max { return true }
      let mask = ~UInt32(0) << UInt32(32 - options.prefixLength)
      return (target ^ options.network.value) & mask == 0 && target != nameServer.value
    case 0x86DD:
      guard frame.count >= Self.packet + 40 else { return false }
      let target = frame[Self.packet + 24..<Self.packet + 40]
      let first = UInt16(target[target.startIndex]) << 8 | UInt16(target[target.startIndex + 1])
      let last = target[target.startIndex + 15]
      // All on the link; fe80::/10 is this side of every router.
      if first >> 8 == 0xFF || first & 0xFFC0 == 0xFE80 { return true }
      // fec0::/64 is the network; its third address is the name server.
      let isOurs = first == 0xFEC0 && target.dropFirst(2).prefix(6).allSatisfy { $0 == 0 }
      let isHost = target.dropFirst(8).prefix(7).allSatisfy { $0 == 0 } && last == 3
      return isOurs && !isHost
    default: return false
    }
  }
}
