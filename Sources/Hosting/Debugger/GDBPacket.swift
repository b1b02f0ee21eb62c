// Packets of GDB's remote protocol (GDB manual, appendix E.1): $CONTENT#SUM, acknowledged by + or - until both sides have
// agreed to do without.

/// Cuts what a debugger sends into packets. Whatever comes, it keeps no more than `limit` bytes of one.
package struct GDBPacketReader: Sendable {
  package enum Item: Equatable, Sendable {
    /// Content with its escapes taken out.
    case packet([UInt8])
    /// The sum was wrong, or the packet too long: it is to be sent again.
    case damaged
    /// The other side's answer to a packet.
    case acknowledged, refused
    /// Control-C: the target is to stop.
    case interrupt
  }

  private enum State {
    case idle
    case content
    case sum(first: UInt8?)
  }

  /// Bytes of a packet's content.
  package static let limit = 16384

  private var state = State.idle
  private var content: [UInt8] = []
  private var sum: UInt8 = 0
  private var isEscaped = false
  private var isTooLong = false

  package init() {}

  /// Takes one byte in; what it completes, if anything.
  package mutating func take(_ byte: UInt8) -> Item? {
    switch state {
    case .idle:
      switch byte {
      case UInt8(ascii: "$"): begin()
      case UInt8(ascii: "+"): return .acknowledged
      case UInt8(ascii: "-"): return .refused
      case 3: return .interrupt
      default: break
      }
    case .content:
      if byte == UInt8(ascii: "#") {
        state = .sum(first: nil)
      } else if byte == UInt8(ascii: "$") {
        // The end of the packet before was lost.
        begin()
      } else {
        add(byte)
      }
    case .sum(nil): state = .sum(first: byte)
    case .sum(let first?):
      state = .idle
      guard let high = hexDigit(first), let low = hexDigit(byte), high << 4 | low == sum,
        !isTooLong, !isEscaped
      else { return .damaged }
      return .packet(content)
    }
    return nil
  }

  private mutating func begin() {
    state = .content
    content = []
    sum = 0
    isEscaped = false
    isTooLong = false
  }

  private mutating func add(_ byte: UInt8) {
    sum &+= byte
    if isEscaped {
      isEscaped = false
      append(byte ^ 0x20)
    } else if byte == UInt8(ascii: "}") {
      isEscaped = true
    } else {
      append(byte)
    }
  }

  private mutating func append(_ byte: UInt8) {
    guard content.count < Self.limit else {
      isTooLong = true
      return
    }
    content.append(byte)
  }
}

package enum GDBPacket {
  /// A packet as it is sent.
  package static func framed(_ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = [UInt8(ascii: "$")]
    bytes.reserveCapacity(content.count + 4)
    for byte in content {
      switch byte {
      case UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "}"), UInt8(ascii: "*"):
        bytes += [UInt8(ascii: "}"), byte ^ 0x20]
      default: bytes.append(byte)
      }
    }
    let sum = bytes.dropFirst().reduce(UInt8(0)) { $0 &+ $1 }
    bytes.append(UInt8(ascii: "#"))
    bytes += hexBytes([sum])
    return bytes
  }

  /// Two digits a byte.
  package static func hexBytes(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    var text: [UInt8] = []
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return text
  }

  /// nil where that are not pairs of digits.
  package static func bytes(ofHex text: some Collection<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in text {
      guard let value = hexDigit(digit) else { return nil }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return high == nil ? bytes : nil
  }

  /// A number of up to 64 bits; nil where the text is no such number.
  package static func number(_ text: some Collection<UInt8>) -> UInt64? {
    guard !text.isEmpty, text.count <= 16 else { return nil }
    var value: UInt64 = 0
    for digit in text {
      guard let part = hexDigit(digit) else { return nil }
      value = value << 4 | UInt64(part)
    }
    return value
  }

  private static let digits = Array("0123456789abcdef".utf8)
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}
