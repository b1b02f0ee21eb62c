/// A PS/2 keyboard behind its cable (IBM PS/2 Hardware Interface Technical Reference, "Keyboard").
///
/// Answers to commands go before scan codes. Both queues are bounded: a key that does not fit is refused whole, so that
/// the guest never sees half a code.
package struct PS2Keyboard: Codable, Sendable, Equatable {
  package enum Command {
    package static let setIndicators: UInt8 = 0xED
    package static let echo: UInt8 = 0xEE
    package static let selectScanCodeSet: UInt8 = 0xF0
    package static let readIdentity: UInt8 = 0xF2
    package static let setTypematic: UInt8 = 0xF3
    package static let enable: UInt8 = 0xF4
    package static let defaultAndDisable: UInt8 = 0xF5
    package static let setDefault: UInt8 = 0xF6
    /// 0xF7 to 0xFA change all keys of set 3; 0xFB to 0xFD are followed by keys.
    package static let setAllKeys: ClosedRange<UInt8> = 0xF7...0xFA
    package static let setKeyType: ClosedRange<UInt8> = 0xFB...0xFD
    package static let resend: UInt8 = 0xFE
    package static let reset: UInt8 = 0xFF
    /// Anything from here up is a command, even where a parameter is due.
    static let first: UInt8 = 0xED
  }

  package enum Reply {
    package static let acknowledge: UInt8 = 0xFA
    /// The basic assurance test passed.
    package static let testPassed: UInt8 = 0xAA
    package static let resend: UInt8 = 0xFE
    package static let identity: [UInt8] = [0xAB, 0x83]
  }

  package static let scanCodeLimit = 64
  private static let replyLimit = 16
  /// 10.9 characters a second after 500 ms.
  private static let defaultTypematic: UInt8 = 0x2B

  private var scanCodes = BoundedQueue<UInt8>(capacity: scanCodeLimit)
  private var replies = BoundedQueue<UInt8>(capacity: replyLimit)
  private var isScanning = true
  private var scanCodeSet: UInt8 = 2
  private var awaiting: UInt8?
  private var lastSent: UInt8 = Reply.testPassed
  /// Bit 0 scroll lock, 1 num lock, 2 caps lock.
  package private(set) var indicators: UInt8 = 0
  private var typematic = defaultTypematic

  package init() {}

  /// A key goes down or up. False: no room, offer it again later.
  package mutating func key(_ key: KeyCode, pressed: Bool) -> Bool {
    guard isScanning else { return true }
    let bytes = ScanCode.bytes(of: key, pressed: pressed, set: scanCodeSet)
    guard bytes.count <= scanCodes.space else { return false }
    for byte in bytes { scanCodes.append(byte) }
    return true
  }

  /// The next byte on the cable.
  package mutating func nextByte() -> UInt8? {
    guard let byte = replies.popFirst() ?? scanCodes.popFirst() else { return nil }
    lastSent = byte
    return byte
  }

  /// A byte from the controller.
  package mutating func receive(_ byte: UInt8) {
    if let command = awaiting {
      awaiting = nil
      if byte < Command.first {
        parameter(byte, of: command)
        return
      }
    }
    switch byte {
    case Command.setIndicators, Command.selectScanCodeSet, Command.setTypematic,
      Command.setKeyType:
      reply(Reply.acknowledge)
      awaiting = byte
    case Command.echo: reply(Command.echo)
    case Command.readIdentity:
      reply(Reply.acknowledge)
      for byte in Reply.identity { reply(byte) }
    case Command.enable:
      scanCodes.removeAll()
      isScanning = true
      reply(Reply.acknowledge)
    case Command.defaultAndDisable:
      setDefaults()
      isScanning = false
      reply(Reply.acknowledge)
    case Command.setDefault:
      setDefaults()
      reply(Reply.acknowledge)
    case Command.setAllKeys: reply(Reply.acknowledge)
    case Command.resend: reply(lastSent)
    case Command.reset:
      self = PS2Keyboard()
      reply(Reply.acknowledge)
      reply(Reply.testPassed)
    default: reply(Reply.resend)
    }
  }

  private mutating func parameter(_ byte: UInt8, of command: UInt8) {
    switch command {
    case Command.setIndicators: indicators = byte & 7
    case Command.setTypematic: typematic = byte & 0x7F
    case Command.selectScanCodeSet:
      guard byte <= 3 else {
        reply(Reply.resend)
        return
      }
      reply(Reply.acknowledge)
      if byte == 0 { reply(scanCodeSet) } else { scanCodeSet = byte }
      return
    case Command.setKeyType: awaiting = command
    default: break
    }
    reply(Reply.acknowledge)
  }

  private mutating func setDefaults() {
    scanCodes.removeAll()
    scanCodeSet = 2
    typematic = Self.defaultTypematic
  }

  private mutating func reply(_ byte: UInt8) { replies.append(byte) }

  /// After decoding: queues get their sizes back, values their ranges.
  mutating func normalize() {
    scanCodes = BoundedQueue(capacity: Self.scanCodeLimit, contentsOf: scanCodes)
    replies = BoundedQueue(capacity: Self.replyLimit, contentsOf: replies)
    if !(1...3).contains(scanCodeSet) { scanCodeSet = 2 }
  }
}
