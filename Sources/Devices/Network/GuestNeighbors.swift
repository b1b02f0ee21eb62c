// Which addresses a guest uses, as any station on its wire could tell: from ARP (RFC 826), neighbour discovery (RFC 4861)
// and what a DHCP server granted (RFC 2131).

import Synchronization

/// Looks at the frames of one adapter.
public final class GuestNeighbors: Sendable {
  /// More than this are forgotten, the oldest first: a guest can claim any number.
  static let limit = 8

  private struct Guarded {
    var version4: [UInt32] = []
    var version6: [[UInt8]] = []
  }

  private let guarded = Mutex(Guarded())

  public init() {}

  /// Dotted IPv4 addresses, the newest first.
  public var addresses4: [String] {
    guarded.withLock { $0.version4 }.reversed().map { value in
      (0..<4).map { String(value >> (24 - 8 * UInt32($0)) & 0xFF) }.joined(separator: ".")
    }
  }

  /// IPv6 addresses in full, 8 groups, the newest first.
  public var addresses6: [String] {
    guarded.withLock { $0.version6 }.reversed().map { bytes in
      stride(from: 0, to: 16, by: 2)
        .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
        .joined(separator: ":")
    }
  }

  func observe(_ frame: UnsafeRawBufferPointer, fromGuest: Bool) {
    guard frame.count >= 42 else { return }
    let type = UInt16(frame[12]) << 8 | UInt16(frame[13])
    switch type {
    case 0x0806 where fromGuest: observeResolution(frame)
    case 0x0800 where !fromGuest && frame[23] == 17: observeGrant(frame)
    case 0x86DD where fromGuest && frame.count >= 78 && frame[20] == 58: observeDiscovery(frame)
    default: break
    }
  }

  /// The sender of an ARP packet says where it is.
  private func observeResolution(_ frame: UnsafeRawBufferPointer) {
    guard frame[14] == 0, frame[15] == 1, frame[16] == 8, frame[17] == 0, frame[18] == 6,
      frame[19] == 4
    else { return }
    let value = word(frame, at: 28)
    guard value != 0 else { return }
    add(value)
  }

  /// A DHCP answer grants `yiaddr`. Only an acknowledgement counts.
  private func observeGrant(_ frame: UnsafeRawBufferPointer) {
    let start = 14 + Int(frame[14] & 15) * 4
    let message = start + 8
    guard frame.count >= message + 244, frame[start] == 0, frame[start + 1] == 67,
      frame[start + 2] == 0, frame[start + 3] == 68, frame[message] == 2
    else { return }
    var option = message + 240
    while option + 2 < frame.count && frame[option] != 255 {
      if frame[option] == 0 {
        option += 1
        continue
      }
      if frame[option] == 53 {
        if frame[option + 2] == 5 { add(word(frame, at: message + 16)) }
        return
      }
      option += 2 + Int(frame[option + 1])
    }
  }

  /// Duplicate address detection and advertisements name the address that is meant.
  private func observeDiscovery(_ frame: UnsafeRawBufferPointer) {
    guard frame[54] == 135 || frame[54] == 136 else { return }
    let isDetection = frame[22..<38].allSatisfy { $0 == 0 }
    guard isDetection || frame[54] == 136 else { return }
    let bytes = Array(frame[62..<78])
    guard bytes[0] != 0xFF else { return }
    guarded.withLock { state in
      state.version6.removeAll { $0 == bytes }
      state.version6.append(bytes)
      if state.version6.count > Self.limit { state.version6.removeFirst() }
    }
  }

  private func add(_ value: UInt32) {
    guard value != 0 else { return }
    guarded.withLock { state in
      if state.version4.last == value { return }
      state.version4.removeAll { $0 == value }
      state.version4.append(value)
      if state.version4.count > Self.limit { state.version4.removeFirst() }
    }
  }

  private func word(_ frame: UnsafeRawBufferPointer, at offset: Int) -> UInt32 {
    guard offset + 4 <= frame.count else { return 0 }
    return UInt32(frame[offset]) << 24 | UInt32(frame[offset + 1]) << 16
      | UInt32(frame[offset + 2]) << 8 | UInt32(frame[offset + 3])
  }
}
