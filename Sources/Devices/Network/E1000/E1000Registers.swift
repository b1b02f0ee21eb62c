// The registers of the 82540EM (Intel 317453, chapter 13) as a value: what a write asks for is returned, not done.

struct E1000Registers: Codable, Sendable, Equatable {
  /// Offsets, bytes (table 13-2).
  enum Offset {
    static let control = 0x0000
    static let status = 0x0008
    static let eeprom = 0x0010
    static let eepromRead = 0x0014
    static let extendedControl = 0x0018
    static let transceiver = 0x0020
    static let flowControlLow = 0x0028
    static let flowControlHigh = 0x002C
    static let flowControlType = 0x0030
    static let tagType = 0x0038
    static let interruptCause = 0x00C0
    static let interruptThrottle = 0x00C4
    static let interruptCauseSet = 0x00C8
    static let interruptMaskSet = 0x00D0
    static let interruptMaskClear = 0x00D8
    static let receiveControl = 0x0100
    static let flowControlTimer = 0x0170
    static let transmitControl = 0x0400
    static let interPacketGap = 0x0410
    static let adaptiveSpacing = 0x0458
    static let leds = 0x0E00
    static let packetBuffer = 0x1000
    static let flowControlThresholds = 0x2160...0x216C
    static let receiveRing = 0x2800
    static let receiveTimers = 0x2820...0x282F
    static let smallReceive = 0x2C00
    static let transmitRing = 0x3800
    static let transmitTimers = 0x3820...0x3833
    static let statistics = 0x4000...0x4127
    static let receiveChecksums = 0x5000
    static let multicastTable = 0x5200...0x53FF
    static let addresses = 0x5400...0x547F
    static let networkTable = 0x5600...0x57FF
    static let wakeUp = 0x5800...0x58FF
    static let end = 0x6000
  }

  /// Offsets within a ring's registers.
  enum Ring {
    static let base = 0x00
    static let baseHigh = 0x04
    static let length = 0x08
    static let head = 0x10
    static let tail = 0x18
  }

  /// Statistics that are kept; the others read as zero.
  enum Count {
    static let missed = 0x4010
    static let received = 0x4074
    static let sent = 0x4080
    static let octetsReceived = 0x4088
    static let octetsSent = 0x4090
    static let totalOctetsReceived = 0x40C0
    static let totalOctetsSent = 0x40C8
    static let totalReceived = 0x40D0
    static let totalSent = 0x40D4
  }

  enum Control {
    static let reset: UInt32 = 1 << 26
    static let tags: UInt32 = 1 << 30
    static let transceiverReset: UInt32 = 1 << 31
  }

  struct Cause: OptionSet, Codable, Sendable {
    var rawValue: UInt32
    static let transmitDone = Cause(rawValue: 1 << 0)
    static let transmitEmpty = Cause(rawValue: 1 << 1)
    static let link = Cause(rawValue: 1 << 2)
    static let receiveLow = Cause(rawValue: 1 << 4)
    static let overrun = Cause(rawValue: 1 << 6)
    static let received = Cause(rawValue: 1 << 7)
    static let transceiver = Cause(rawValue: 1 << 9)
    static let all = Cause(rawValue: 0x1FFFF)
  }

  /// What a write asks the adapter to do.
  struct Effects: OptionSet {
    var rawValue: UInt8
    static let interrupt = Effects(rawValue: 1 << 0)
    static let work = Effects(rawValue: 1 << 1)
    static let reset = Effects(rawValue: 1 << 2)
  }

  private static let wordCount = Offset.end / 4
  private var words = [UInt32](repeating: 0, count: wordCount)
  private(set) var causes: Cause = []
  private(set) var mask: Cause = []
  private var eeprom: E1000EEPROM
  private var transceiver = E1000Transceiver()
  /// The cable is in.
  private(set) var isUp: Bool
  private let address: HardwareAddress

  init(address: HardwareAddress, isUp: Bool) {
    self.address = address
    self.isUp = isUp
    eeprom = E1000EEPROM(address: address)
    self[Offset.packetBuffer] = 0x0010_0030
    self[Offset.leds] = 0x0706_8302
    let bytes = address.bytes
    self[Offset.addresses.lowerBound] =
      UInt32(bytes[0]) | UInt32(bytes[1]) << 8 | UInt32(bytes[2]) << 16 | UInt32(bytes[3]) << 24
    // With its valid bit.
    self[Offset.addresses.lowerBound + 4] = UInt32(bytes[4]) | UInt32(bytes[5]) << 8 | 1 << 31
  }

  /// As after power-on; the cable stays as it is.
  mutating func reset() { self = Self(address: address, isUp: isUp) }

  /// A register as it stands.
  subscript(offset: Int) -> UInt32 {
    get { words[offset >> 2] }
    set { words[offset >> 2] = newValue }
  }

  // MARK: Interrupts

  var isInterrupting: Bool { !causes.intersection(mask).isEmpty }

  mutating func raise(_ cause: Cause) { causes.formUnion(cause) }

  mutating func setUp(_ up: Bool) {
    guard up != isUp else { return }
    isUp = up
    raise(.link)
  }

  /// Adds to a statistic, which stops at its end. Octets take two registers.
  mutating func count(_ which: Int, _ amount: UInt32 = 1, isWide: Bool = false) {
    let (low, overflow) = self[which].addingReportingOverflow(amount)
    guard isWide else {
      self[which] = overflow ? .max : low
      return
    }
    self[which] = low
    if overflow { self[which + 4] = self[which + 4] &+ 1 }
  }

  // MARK: Accesses

  mutating func read(_ offset: Int) -> UInt32 {
    switch offset {
    case Offset.status:
      // 1000 Mb/s, full duplex, and the link.
      return 0x0000_0281 | (isUp ? 2 : 0)
    case Offset.eeprom: return eeprom.register
    case Offset.interruptCause:
      defer { causes = [] }
      return causes.rawValue
    case Offset.interruptMaskSet: return mask.rawValue
    case Offset.statistics:
      defer { self[offset] = 0 }
      return self[offset]
    case 0..<Offset.end: return self[offset]
    default: return 0
    }
  }

  mutating func write(_ offset: Int, _ value: UInt32) -> Effects {
    switch offset {
    case Offset.control:
      if value & Control.reset != 0 {
        reset()
        return [.reset, .interrupt, .work]
      }
      if value & Control.transceiverReset != 0 { transceiver = E1000Transceiver() }
      self[offset] = value & ~Control.transceiverReset
    case Offset.eeprom: eeprom.write(value)
    case Offset.eepromRead:
      // Done at once; without the start bit it only stands there.
      guard value & 1 != 0 else { break }
      let word = eeprom.words[Int(value >> 8 & 63)]
      self[offset] = value & 0xFF00 | 1 << 4 | UInt32(word) << 16
    case Offset.transceiver: return accessTransceiver(value)
    case Offset.interruptCause:
      causes.subtract(Cause(rawValue: value))
      return .interrupt
    case Offset.interruptCauseSet:
      causes.formUnion(Cause(rawValue: value).intersection(.all))
      return .interrupt
    case Offset.interruptMaskSet:
      mask.formUnion(Cause(rawValue: value).intersection(.all))
      return .interrupt
    case Offset.interruptMaskClear:
      mask.subtract(Cause(rawValue: value))
      return .interrupt
    default: return store(offset, value)
    }
    return []
  }

  /// MDIC (13.4.4): one access to the transceiver, done at once.
  private mutating func accessTransceiver(_ value: UInt32) -> Effects {
    let register = Int(value >> 16 & 31)
    var result = value & 0x23FF_FFFF | 1 << 28
    // There is one transceiver, number 1.
    if value >> 21 & 31 != 1 {
      result |= 1 << 30
    } else if value >> 26 & 3 == 2 {
      result = result & ~0xFFFF | UInt32(transceiver.read(register, isUp: isUp))
    } else if value >> 26 & 3 == 1 {
      if transceiver.write(register, UInt16(truncatingIfNeeded: value)) { raise(.link) }
    } else {
      result |= 1 << 30
    }
    self[Offset.transceiver] = result
    if value & 1 << 29 != 0 { raise(.transceiver) }
    return .interrupt
  }

  private mutating func store(_ offset: Int, _ value: UInt32) -> Effects {
    switch offset {
    case Offset.receiveRing..<Offset.receiveRing + 0x1C:
      self[offset] = value & Self.ringMask(offset - Offset.receiveRing)
      return .work
    case Offset.transmitRing..<Offset.transmitRing + 0x1C:
      self[offset] = value & Self.ringMask(offset - Offset.transmitRing)
      return .work
    case Offset.receiveControl, Offset.transmitControl:
      self[offset] = value
      return .work
    case Offset.extendedControl, Offset.flowControlLow, Offset.flowControlHigh,
      Offset.flowControlType, Offset.tagType, Offset.interruptThrottle, Offset.flowControlTimer,
      Offset.interPacketGap, Offset.adaptiveSpacing, Offset.leds, Offset.packetBuffer,
      Offset.smallReceive, Offset.receiveChecksums, Offset.flowControlThresholds,
      Offset.receiveTimers, Offset.transmitTimers, Offset.multicastTable, Offset.addresses,
      Offset.networkTable, Offset.wakeUp:
      self[offset] = value
    default: break
    }
    return []
  }

  /// Bits that a ring's register keeps.
  private static func ringMask(_ offset: Int) -> UInt32 {
    switch offset {
    case Ring.base: ~0xF
    case Ring.baseHigh: .max
    case Ring.length: 0xF_FF80
    case Ring.head, Ring.tail: 0xFFFF
    default: 0
    }
  }

  /// Whether a saved state is one: its parts are read by index.
  var isSound: Bool {
    words.count == Self.wordCount && eeprom.isSound && transceiver.isSound
  }
}
