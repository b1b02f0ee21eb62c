/// One counter of the 8254 (Intel 8254 data sheet, 231164-005, September 1993), in ticks of its clock.
///
/// Nothing counts: the value, OUT and how often OUT rose follow from the tick at which counting began. As on the chip,
/// a count is loaded with the tick after its write (modes 0, 2, 3, 4) or after a rising gate (1, 2, 3, 5).
package struct PIT8254Counter: Codable, Sendable, Equatable {
  package enum Mode: UInt8, Codable, Sendable {
    case interruptOnTerminalCount, hardwareOneShot, rateGenerator, squareWave
    case softwareStrobe, hardwareStrobe

    /// Modes 2 and 3 are also written as 6 and 7.
    init(bits: UInt8) {
      switch bits & 7 {
      case 0: self = .interruptOnTerminalCount
      case 1: self = .hardwareOneShot
      case 2, 6: self = .rateGenerator
      case 3, 7: self = .squareWave
      case 4: self = .softwareStrobe
      default: self = .hardwareStrobe
      }
    }

    var isPeriodic: Bool { self == .rateGenerator || self == .squareWave }
    var startsByGate: Bool { self == .hardwareOneShot || self == .hardwareStrobe }
  }

  /// The RW bits of the control word.
  enum Access: UInt8, Codable, Sendable {
    case low = 1
    case high = 2
    case both = 3
  }

  package enum Status {
    package static let output: UInt8 = 1 << 7
    package static let nullCount: UInt8 = 1 << 6
  }

  var mode = Mode.interruptOnTerminalCount
  var isDecimal = false
  var access = Access.both
  var gate: Bool

  /// CR: what was written last; 1 to 65536 (decimal: 10000).
  var reload: UInt64 = 0x1_0000
  var writtenLow: UInt8?
  var readsHigh = false
  var latchedCount: UInt16?
  var latchedStatus: UInt8?

  /// A count was written since the control word and, where the mode needs one, a gate edge came.
  var isArmed = false
  /// A count was written since the control word.
  var hasCount = false
  /// CR is not in CE yet.
  var isNull = true
  /// Modes 0, 1, 4, 5: ticks counted before `start`; periodic modes do not use it.
  var counted: UInt64 = 0
  /// When counting began or went on; when the half-period began.
  var start: UInt64 = 0
  /// CE's start value.
  var count: UInt64 = 0x1_0000
  /// OUT in the periodic modes.
  var isHigh = true
  /// OUT's rise after the count was seen.
  var hasRisen = false
  /// Rises of OUT that nobody took yet.
  var rises: UInt64 = 0

  /// - Parameter gate: tied high, or low until somebody drives it.
  package init(gate: Bool) { self.gate = gate }

  // MARK: Counting

  /// The period in ticks, in the periodic modes. A count of 1 is illegal there and taken as 2.
  var period: UInt64 { max(count, 2) }

  var halfPeriod: UInt64 {
    switch mode {
    case .rateGenerator: isHigh ? period - 1 : 1
    default: isHigh ? (period + 1) / 2 : period / 2
    }
  }

  /// Whether a full period passes so fast that single edges cannot matter.
  package var isFast: Bool { period < 146 }

  /// Ticks since the count was loaded, in the modes that count once.
  func elapsed(_ tick: UInt64) -> UInt64 {
    counted &+ (isCounting && tick > start ? tick - start : 0)
  }

  var isCounting: Bool { isArmed && (gate || mode.startsByGate) }

  package mutating func advance(to tick: UInt64) {
    guard isArmed else { return }
    if mode.isPeriodic {
      advancePeriods(to: tick)
      return
    }
    if isNull && !mode.startsByGate && tick >= start { isNull = false }
    let rise = mode == .softwareStrobe || mode == .hardwareStrobe ? count + 1 : count
    if !hasRisen && elapsed(tick) >= rise {
      hasRisen = true
      rises += 1
    }
  }

  private mutating func advancePeriods(to tick: UInt64) {
    guard gate else { return }
    if tick >= start && count == reload { isNull = false }
    while tick >= start, tick - start >= halfPeriod {
      if count == reload, case let periods = (tick - start) / period, periods > 1 {
        start += (periods - 1) * period
        rises += periods - 1
        continue
      }
      start += halfPeriod
      isHigh.toggle()
      if isHigh { rises += 1 }
      // Mode 2 takes a new count with its next period, mode 3 with its next half.
      if isHigh || mode == .squareWave {
        count = reload
        isNull = false
      }
    }
  }

  /// OUT at `tick`, up to which `advance` has gone.
  package func output(at tick: UInt64) -> Bool {
    switch mode {
    case .rateGenerator, .squareWave: return isHigh
    case .interruptOnTerminalCount: return isArmed && elapsed(tick) >= count
    case .hardwareOneShot: return !isArmed || tick < start || elapsed(tick) >= count
    case .softwareStrobe, .hardwareStrobe: return !isArmed || elapsed(tick) != count
    }
  }

  /// The tick at which OUT rises next; nil if it does not.
  package var nextRise: UInt64? {
    guard isArmed else { return nil }
    if mode.isPeriodic {
      guard gate else { return nil }
      guard isHigh else { return start + halfPeriod }
      // The low half may have another length by then: ask again when it begins.
      return count == reload ? start + period : start + halfPeriod
    }
    guard isCounting, !hasRisen else { return nil }
    let rise = mode == .softwareStrobe || mode == .hardwareStrobe ? count + 1 : count
    return start + (rise > counted ? rise - counted : 0)
  }

  /// Rises of OUT since the last call.
  package mutating func takeRises() -> UInt64 {
    defer { rises = 0 }
    return rises
  }

  /// CE as a guest reads it.
  private func value(at tick: UInt64) -> UInt16 {
    var value: UInt64
    if mode.isPeriodic {
      let passed = gate && tick > start ? tick - start : 0
      if mode == .squareWave {
        let even = period & ~1
        value = even - min(2 * passed, even)
      } else {
        value = isHigh ? period - min(passed, period - 1) : 1
      }
      if !isArmed { value = count }
    } else {
      let modulus: UInt64 = isDecimal ? 10_000 : 0x1_0000
      value = (count + modulus - elapsed(tick) % modulus) % modulus
    }
    guard isDecimal else { return UInt16(truncatingIfNeeded: value) }
    value %= 10_000
    let digits =
      (value / 1000) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 | value % 10
    return UInt16(truncatingIfNeeded: digits)
  }

  // MARK: Gate

  package mutating func setGate(_ level: Bool, at tick: UInt64) {
    guard level != gate else { return }
    switch mode {
    case .interruptOnTerminalCount, .softwareStrobe:
      counted = elapsed(tick)
      gate = level
      start = max(start, tick)
    case .rateGenerator, .squareWave:
      gate = level
      // OUT goes high at once when the gate falls; counting starts anew when it rises.
      if !isHigh {
        isHigh = true
        rises += 1
      }
      if level { load(at: tick) }
    case .hardwareOneShot, .hardwareStrobe:
      gate = level
      if level && hasCount {
        isArmed = true
        load(at: tick)
      }
    }
  }

  private mutating func load(at tick: UInt64) {
    count = reload
    counted = 0
    start = tick + 1
    hasRisen = false
    if mode.startsByGate { isNull = false }
  }

  // MARK: Ports

  /// A control word for this counter: bits 5 and 4 access, 3 to 1 mode, 0 BCD. Access 0 latches the count.
  package mutating func writeControl(_ word: UInt8, at tick: UInt64) {
    guard let access = Access(rawValue: word >> 4 & 3) else {
      latchCount(at: tick)
      return
    }
    let before = output(at: tick)
    self.access = access
    mode = Mode(bits: word >> 1)
    isDecimal = word & 1 != 0
    writtenLow = nil
    readsHigh = false
    latchedCount = nil
    latchedStatus = nil
    isArmed = false
    hasCount = false
    isNull = true
    isHigh = true
    counted = 0
    rises = 0
    if !before && output(at: tick) { rises = 1 }
  }

  package mutating func writeCount(_ byte: UInt8, at tick: UInt64) {
    switch access {
    case .low: setCount(UInt16(byte), at: tick)
    case .high: setCount(UInt16(byte) << 8, at: tick)
    case .both:
      guard let low = writtenLow else {
        writtenLow = byte
        // The first byte stops mode 0.
        if mode == .interruptOnTerminalCount { isArmed = false }
        return
      }
      writtenLow = nil
      setCount(UInt16(byte) << 8 | UInt16(low), at: tick)
    }
  }

  private mutating func setCount(_ written: UInt16, at tick: UInt64) {
    if isDecimal {
      let digits = (0..<4).map { UInt64(written >> ($0 * 4) & 15) }
      let value = digits[0] + digits[1] * 10 + digits[2] * 100 + digits[3] * 1000
      reload = value == 0 ? 10_000 : min(value, 10_000)
    } else {
      reload = written == 0 ? 0x1_0000 : UInt64(written)
    }
    isNull = true
    hasCount = true
    switch mode {
    case .interruptOnTerminalCount, .softwareStrobe:
      isArmed = true
      load(at: tick)
    case .rateGenerator, .squareWave:
      if !isArmed {
        isArmed = true
        load(at: tick)
      }
    case .hardwareOneShot, .hardwareStrobe: break
    }
  }

  package mutating func latchCount(at tick: UInt64) {
    if latchedCount == nil { latchedCount = value(at: tick) }
  }

  package mutating func latchStatus(at tick: UInt64) {
    guard latchedStatus == nil else { return }
    var status = access.rawValue << 4 | mode.rawValue << 1 | (isDecimal ? 1 : 0)
    if output(at: tick) { status |= Status.output }
    if isNull { status |= Status.nullCount }
    latchedStatus = status
  }

  package mutating func read(at tick: UInt64) -> UInt8 {
    if let status = latchedStatus {
      latchedStatus = nil
      return status
    }
    let value = latchedCount ?? value(at: tick)
    switch access {
    case .low:
      latchedCount = nil
      return UInt8(truncatingIfNeeded: value)
    case .high:
      latchedCount = nil
      return UInt8(value >> 8)
    case .both:
      readsHigh.toggle()
      if readsHigh { return UInt8(truncatingIfNeeded: value) }
      latchedCount = nil
      return UInt8(value >> 8)
    }
  }

  /// Whether counts and times are such as the chip can have.
  var isSound: Bool {
    var possible = self
    possible.normalize()
    possible.rises = rises
    return possible == self
  }

  /// After decoding: counts in range, and no time so far off that sums overflow.
  mutating func normalize() {
    reload = min(max(reload, 1), 0x1_0000)
    count = min(max(count, 1), 0x1_0000)
    counted = min(counted, UInt64.max / 4)
    start = min(start, UInt64.max / 4)
    rises = min(rises, 1)
  }
}
