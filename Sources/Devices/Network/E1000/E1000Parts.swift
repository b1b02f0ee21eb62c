// What stands around the controller on an 82540EM: the serial EEPROM with its address, and the transceiver (Intel
// 317453, chapters 5 and 13.4.3, 13.4.4; M88E1000 registers by IEEE 802.3, 22.2.4).

/// The EEPROM of 64 words, behind four pins (Microwire) or one register.
struct E1000EEPROM: Codable, Sendable, Equatable {
  /// Pins, as bits of the register EECD.
  enum Pin {
    static let clock: UInt32 = 1 << 0
    static let select: UInt32 = 1 << 1
    static let input: UInt32 = 1 << 2
    static let output: UInt32 = 1 << 3
    static let request: UInt32 = 1 << 6
    static let grant: UInt32 = 1 << 7
    static let present: UInt32 = 1 << 8
    static let driven: UInt32 = clock | select | input | request
  }

  /// READ and its six bits of address behind a start bit; other instructions change nothing here.
  private static let instructionBits = 9
  private static let read: UInt32 = 0b110

  private(set) var words: [UInt16]
  private var pins: UInt32 = 0
  private var shifted: UInt32 = 0
  private var bitCount = 0
  private var reading: UInt16?
  private var bitsLeft = 0
  private var next = 0
  private var isHigh = true

  init(address: HardwareAddress) {
    words = [UInt16](repeating: 0, count: 64)
    let bytes = address.bytes
    for index in 0..<3 {
      words[index] = UInt16(bytes[2 * index]) | UInt16(bytes[2 * index + 1]) << 8
    }
    words[0x0A] = 0x4008
    words[0x0B] = 0x001E
    words[0x0C] = 0x8086
    words[0x0D] = E1000.deviceNumber
    words[0x0E] = 0x8086
    words[0x0F] = 0x3040
    words[0x3F] = 0xBABA &- words.reduce(0) { $0 &+ $1 }
  }

  /// EECD as it reads.
  var register: UInt32 {
    var value = pins | Pin.present
    if pins & Pin.request != 0 { value |= Pin.grant }
    return isHigh ? value | Pin.output : value
  }

  mutating func write(_ value: UInt32) {
    let old = pins
    pins = value & Pin.driven
    guard pins & Pin.select != 0 else {
      (shifted, bitCount, reading, isHigh) = (0, 0, nil, true)
      return
    }
    guard pins & Pin.clock != 0, old & Pin.clock == 0 else { return }
    if reading != nil { return shiftOut() }
    let bit: UInt32 = pins & Pin.input != 0 ? 1 : 0
    // Zeros before the start bit do not count.
    if bitCount == 0 && bit == 0 { return }
    shifted = shifted << 1 | bit
    bitCount += 1
    guard bitCount == Self.instructionBits else { return }
    if shifted >> 6 == Self.read {
      next = Int(shifted & 63)
      load()
      // A zero goes before the first word.
      isHigh = false
    } else {
      (shifted, bitCount) = (0, 0)
    }
  }

  private mutating func load() {
    reading = words[next & 63]
    next = (next + 1) & 63
    bitsLeft = 16
  }

  private mutating func shiftOut() {
    if bitsLeft == 0 { load() }
    bitsLeft -= 1
    isHigh = (reading ?? 0) >> UInt16(bitsLeft) & 1 != 0
  }

  /// Whether a saved state is one: its words are read by index.
  var isSound: Bool { words.count == 64 && bitsLeft >= 0 && bitsLeft <= 16 && bitCount <= 9 }
}

/// The transceiver: always done with its negotiation, a gigabit and full duplex as long as the cable is in.
struct E1000Transceiver: Codable, Sendable, Equatable {
  private enum Register {
    static let control = 0
    static let status = 1
    static let identifierHigh = 2
    static let identifierLow = 3
    static let advertisement = 4
    static let partner = 5
    static let expansion = 6
    static let gigabitControl = 9
    static let gigabitStatus = 10
    static let extendedStatus = 15
    static let specificStatus = 17
  }

  private static let resetOrRestart: UInt16 = 1 << 15 | 1 << 9

  /// What the driver wrote; most of it changes nothing.
  private var written = [UInt16](repeating: 0, count: 32)

  init() {
    written[Register.control] = 0x1140
    written[Register.advertisement] = 0x0DE1
    written[Register.gigabitControl] = 0x0E00
  }

  func read(_ register: Int, isUp: Bool) -> UInt16 {
    switch register {
    // Every speed, negotiation done, link.
    case Register.status: isUp ? 0x796D : 0x7949
    case Register.identifierHigh: 0x0141
    case Register.identifierLow: 0x0C20
    case Register.partner: isUp ? 0x45E1 : 0
    case Register.expansion: isUp ? 1 : 0
    case Register.gigabitStatus: isUp ? 0x3C00 : 0
    case Register.extendedStatus: 0x3000
    // 1000 Mb/s, full duplex, resolved, link.
    case Register.specificStatus: isUp ? 0xAC00 : 0
    default: register < written.count ? written[register] : 0
    }
  }

  /// - Returns: whether a negotiation was asked for, which is over at once.
  mutating func write(_ register: Int, _ value: UInt16) -> Bool {
    guard register < written.count else { return false }
    guard register == Register.control else {
      written[register] = value
      return false
    }
    if value & 1 << 15 != 0 { self = Self() } else { written[register] = value & ~(1 << 9) }
    return value & Self.resetOrRestart != 0
  }

  var isSound: Bool { written.count == 32 }
}
