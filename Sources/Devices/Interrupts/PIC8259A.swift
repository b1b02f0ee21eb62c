/// One 8259A programmable interrupt controller (Intel 8259A data sheet, 231468-003, December 1988).
///
/// A rising edge stays latched until it is acknowledged, even if the line falls again, as the chipsets that replaced
/// the 8259A have it; a level-triggered request goes away with its line and then gives a spurious interrupt 7.
package struct PIC8259A: Codable, Sendable, Equatable {
  package enum Offset {
    /// A0 low: ICW1, OCW2, OCW3; reads IRR, ISR or a poll.
    package static let command: UInt64 = 0
    /// A0 high: ICW2 to ICW4, OCW1 (mask).
    package static let data: UInt64 = 1
  }

  package enum ICW1 {
    package static let needsICW4: UInt8 = 1 << 0
    /// No cascade, and so no ICW3.
    package static let single: UInt8 = 1 << 1
    /// LTIM: all inputs by level.
    package static let levelTriggered: UInt8 = 1 << 3
    /// Tells ICW1 from OCW2 and OCW3.
    package static let initialize: UInt8 = 1 << 4
  }

  package enum ICW4 {
    package static let automaticEnd: UInt8 = 1 << 1
    package static let specialFullyNested: UInt8 = 1 << 4
  }

  package enum OCW2 {
    /// R, SL and EOI: what to do.
    package static let specific: UInt8 = 1 << 6
    package static let level: UInt8 = 7
    package static let clearRotateOnAutomaticEnd: UInt8 = 0x00
    package static let endOfInterrupt: UInt8 = 0x20
    package static let noOperation: UInt8 = 0x40
    package static let specificEnd: UInt8 = 0x60
    package static let setRotateOnAutomaticEnd: UInt8 = 0x80
    package static let rotateOnEnd: UInt8 = 0xA0
    package static let setPriority: UInt8 = 0xC0
    package static let rotateOnSpecificEnd: UInt8 = 0xE0
  }

  package enum OCW3 {
    /// Tells OCW3 from OCW2.
    package static let select: UInt8 = 1 << 3
    package static let readServiced: UInt8 = 1 << 0
    package static let changeRead: UInt8 = 1 << 1
    package static let poll: UInt8 = 1 << 2
    package static let specialMask: UInt8 = 1 << 5
    package static let changeSpecialMask: UInt8 = 1 << 6
  }

  private enum Expecting: UInt8, Codable, Sendable {
    case nothing, icw2, icw3, icw4
  }

  /// What a spurious interrupt and the lowest input are called.
  package static let lowest = 7

  /// IRR
  package private(set) var requested: UInt8 = 0
  /// ISR
  package private(set) var serviced: UInt8 = 0
  /// IMR
  package private(set) var masked: UInt8 = 0
  /// ICW2: the vector of input 0; the low three bits are the input's.
  package private(set) var vectorBase: UInt8 = 0
  /// ELCR: inputs by level. ICW1's LTIM makes all of them so.
  package private(set) var levelTriggered: UInt8 = 0
  private var levels: UInt8 = 0
  private var isAllLevel = false
  private var expecting = Expecting.nothing
  private var needsICW4 = false
  private var isSingle = false
  private var automaticEnd = false
  private var rotateOnAutomaticEnd = false
  private var specialFullyNested = false
  private var specialMask = false
  private var readsServiced = false
  private var polls = false
  /// The input of the highest priority.
  private var first = 0
  /// The input that a slave drives; no slave, no bit.
  private let cascade: UInt8

  /// - Parameter cascade: a bit for the input that a slave drives.
  package init(cascade: UInt8 = 0) { self.cascade = cascade }

  // MARK: Inputs and INT

  private var byLevel: UInt8 { isAllLevel ? 0xFF : levelTriggered }

  /// Sets an input. True: it is an edge whose predecessor has not been acknowledged, so that the two are one.
  @discardableResult
  package mutating func setInput(_ input: Int, _ level: Bool) -> Bool {
    let bit = UInt8(1) << UInt8(input & 7)
    let rose = level && levels & bit == 0
    if level { levels |= bit } else { levels &= ~bit }
    if byLevel & bit != 0 {
      if level { requested |= bit } else { requested &= ~bit }
      return false
    }
    guard rose else { return false }
    let coalesced = requested & bit != 0
    requested |= bit
    return coalesced
  }

  /// INT to the processor or to the master.
  package var output: Bool { pending != nil }

  /// Whether the input's requests reach the processor at all.
  package func isMasked(_ input: Int) -> Bool { masked >> UInt8(input & 7) & 1 != 0 }

  package func isRequested(_ input: Int) -> Bool { requested >> UInt8(input & 7) & 1 != 0 }

  /// Latches a request as an edge does: for edges that were counted while one was pending.
  package mutating func request(_ input: Int) { requested |= 1 << UInt8(input & 7) }

  /// The requesting input that may interrupt what is in service.
  private var pending: Int? {
    let requests = requested & ~masked
    guard requests != 0 else { return nil }
    var inService = serviced
    // In special mask mode a masked input in service holds back nobody.
    if specialMask { inService &= ~masked }
    // The slave's own input must be able to interrupt again with a higher request of the slave's.
    if specialFullyNested { inService &= ~cascade }
    let candidate = highest(of: requests)
    guard inService != 0 else { return candidate }
    return rank(candidate) < rank(highest(of: inService)) ? candidate : nil
  }

  /// 0 for the input of the highest priority.
  private func rank(_ input: Int) -> Int { (input - first) & 7 }

  private func highest(of bits: UInt8) -> Int {
    for offset in 0..<8 where bits >> UInt8((first + offset) & 7) & 1 != 0 {
      return (first + offset) & 7
    }
    return Self.lowest
  }

  // MARK: Acknowledge and end

  /// The processor's INTA cycles: which input is served; nil is the spurious interrupt, which leaves no trace.
  package mutating func acknowledge() -> Int? {
    guard let input = pending else { return nil }
    let bit = UInt8(1) << UInt8(input)
    if byLevel & bit == 0 { requested &= ~bit }
    if automaticEnd {
      if rotateOnAutomaticEnd { first = (input + 1) & 7 }
    } else {
      serviced |= bit
    }
    return input
  }

  package func vector(of input: Int) -> UInt8 { vectorBase & 0xF8 | UInt8(input & 7) }

  private mutating func end(_ input: Int?, rotate: Bool) {
    let candidates = specialMask ? serviced & ~masked : serviced
    guard let input = input ?? (candidates != 0 ? highest(of: candidates) : nil) else { return }
    serviced &= ~(1 << UInt8(input))
    if rotate { first = (input + 1) & 7 }
  }

  // MARK: Ports

  package mutating func read(at offset: UInt64) -> UInt8 {
    if polls {
      polls = false
      guard let input = acknowledge() else { return 0 }
      return 0x80 | UInt8(input)
    }
    if offset == Offset.data { return masked }
    return readsServiced ? serviced : requested
  }

  package mutating func write(at offset: UInt64, value: UInt8) {
    if offset == Offset.data {
      writeData(value)
    } else if value & ICW1.initialize != 0 {
      initialize(value)
    } else if value & OCW3.select != 0 {
      writeOCW3(value)
    } else {
      writeOCW2(value)
    }
  }

  private mutating func initialize(_ value: UInt8) {
    // Edges must come again; levels are still there.
    isAllLevel = value & ICW1.levelTriggered != 0
    requested = levels & byLevel
    serviced = 0
    masked = 0
    first = 0
    specialMask = false
    readsServiced = false
    polls = false
    automaticEnd = false
    rotateOnAutomaticEnd = false
    specialFullyNested = false
    needsICW4 = value & ICW1.needsICW4 != 0
    isSingle = value & ICW1.single != 0
    expecting = .icw2
  }

  private mutating func writeData(_ value: UInt8) {
    switch expecting {
    case .nothing: masked = value
    case .icw2:
      vectorBase = value & 0xF8
      expecting = !isSingle ? .icw3 : needsICW4 ? .icw4 : .nothing
    // The wiring of the cascade is the board's, whatever ICW3 says.
    case .icw3: expecting = needsICW4 ? .icw4 : .nothing
    case .icw4:
      automaticEnd = value & ICW4.automaticEnd != 0
      specialFullyNested = value & ICW4.specialFullyNested != 0
      expecting = .nothing
    }
  }

  private mutating func writeOCW2(_ value: UInt8) {
    let level = Int(value & OCW2.level)
    switch value & 0xE0 {
    case OCW2.clearRotateOnAutomaticEnd: rotateOnAutomaticEnd = false
    case OCW2.setRotateOnAutomaticEnd: rotateOnAutomaticEnd = true
    case OCW2.endOfInterrupt: end(nil, rotate: false)
    case OCW2.rotateOnEnd: end(nil, rotate: true)
    case OCW2.specificEnd: end(level, rotate: false)
    case OCW2.rotateOnSpecificEnd: end(level, rotate: true)
    case OCW2.setPriority: first = (level + 1) & 7
    default: break
    }
  }

  private mutating func writeOCW3(_ value: UInt8) {
    if value & OCW3.changeSpecialMask != 0 { specialMask = value & OCW3.specialMask != 0 }
    if value & OCW3.poll != 0 {
      polls = true
    } else if value & OCW3.changeRead != 0 {
      readsServiced = value & OCW3.readServiced != 0
    }
  }

  /// The ELCR changed: a level that is up requests at once, one that is down no longer does.
  package mutating func setLevelTriggered(_ inputs: UInt8) {
    levelTriggered = inputs
    requested = requested & ~inputs | levels & inputs
  }

  mutating func normalize() { first &= 7 }
}

extension PIC8259A {
  /// From and into struct kvm_pic_state (Linux, arch/x86/include/uapi/asm/kvm.h).
  private enum Field {
    static let lastRequests = 0
    static let requested = 1
    static let masked = 2
    static let serviced = 3
    static let first = 4
    static let base = 5
    static let readsServiced = 6
    static let polls = 7
    static let specialMask = 8
    static let expecting = 9
    static let automaticEnd = 10
    static let rotates = 11
    static let fullyNested = 12
    static let needsICW4 = 13
    static let levelTriggered = 14
    static let levelCapable = 15
    static let count = 16
  }

  init(kernel bytes: [UInt8], cascade: UInt8) throws(DeviceStateError) {
    guard bytes.count >= Field.count, let expecting = Expecting(rawValue: bytes[Field.expecting]),
      bytes[Field.first] < 8
    else { throw DeviceStateError("a kernel's 8259A is none") }
    self.init(cascade: cascade)
    levels = bytes[Field.lastRequests]
    requested = bytes[Field.requested]
    masked = bytes[Field.masked]
    serviced = bytes[Field.serviced]
    first = Int(bytes[Field.first])
    vectorBase = bytes[Field.base] & 0xF8
    readsServiced = bytes[Field.readsServiced] != 0
    polls = bytes[Field.polls] != 0
    specialMask = bytes[Field.specialMask] != 0
    self.expecting = expecting
    automaticEnd = bytes[Field.automaticEnd] != 0
    rotateOnAutomaticEnd = bytes[Field.rotates] != 0
    specialFullyNested = bytes[Field.fullyNested] != 0
    needsICW4 = bytes[Field.needsICW4] != 0
    levelTriggered = bytes[Field.levelTriggered]
  }

  func kernelBytes(levelCapable: UInt8) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Field.count)
    bytes[Field.lastRequests] = levels
    bytes[Field.requested] = requested
    bytes[Field.masked] = masked
    bytes[Field.serviced] = serviced
    bytes[Field.first] = UInt8(first & 7)
    bytes[Field.base] = vectorBase
    bytes[Field.readsServiced] = readsServiced ? 1 : 0
    bytes[Field.polls] = polls ? 1 : 0
    bytes[Field.specialMask] = specialMask ? 1 : 0
    bytes[Field.expecting] = expecting.rawValue
    bytes[Field.automaticEnd] = automaticEnd ? 1 : 0
    bytes[Field.rotates] = rotateOnAutomaticEnd ? 1 : 0
    bytes[Field.fullyNested] = specialFullyNested ? 1 : 0
    bytes[Field.needsICW4] = needsICW4 ? 1 : 0
    bytes[Field.levelTriggered] = byLevel
    bytes[Field.levelCapable] = levelCapable
    return bytes
  }

  /// The processor did not take `input` after all: it requests again.
  mutating func takeBack(_ input: Int) {
    serviced &= ~(1 << UInt8(input & 7))
    request(input)
  }
}
