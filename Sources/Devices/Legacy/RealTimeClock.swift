/// The clock and the 128 bytes of battery-backed memory of a PC: MC146818A (Motorola data sheet, 1984) behind ports 0x70
/// (offset 0, index) and 0x71 (offset 1, data). Output 0 is IRQ 8.
///
/// Time is computed from the machine's clock when it is asked for; nothing ticks unless an enabled interrupt needs it.
/// The update is instantaneous at the boundary of the second, with UIP up for the 244 us before it. The interrupt line
/// stays up until register C is read, so that periodic ticks in between become one, as on the chip; rates above 8192 Hz
/// are delivered at 8192 Hz.
package struct RealTimeClock: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let port: UInt16 = 0x70
  package static let portCount = 2
  package static let interrupt: UInt32 = 8
  package static let stateVersion = 1
  package static let memorySize = 128

  package enum Register {
    package static let seconds = 0x00
    package static let secondsAlarm = 0x01
    package static let minutes = 0x02
    package static let minutesAlarm = 0x03
    package static let hours = 0x04
    package static let hoursAlarm = 0x05
    /// 1 is Sunday.
    package static let weekday = 0x06
    package static let day = 0x07
    package static let month = 0x08
    package static let year = 0x09
    package static let a = 0x0A
    package static let b = 0x0B
    package static let c = 0x0C
    package static let d = 0x0D
    /// Not in the chip: where PC firmware and the FADT keep the century.
    package static let century = 0x32
  }

  package enum A {
    /// UIP: an update begins within 244 us.
    package static let updateInProgress: UInt8 = 1 << 7
    /// DV: 2 is 32.768 kHz, 6 and 7 hold the divider in reset.
    package static let divider: UInt8 = 0x70
    package static let rate: UInt8 = 0x0F
  }

  package enum B {
    /// SET: the registers hold still to be written.
    package static let set: UInt8 = 1 << 7
    package static let squareWave: UInt8 = 1 << 3
    /// DM: binary instead of BCD.
    package static let binary: UInt8 = 1 << 2
    package static let hours24: UInt8 = 1 << 1
    /// Stored; there is no daylight saving here.
    package static let daylightSaving: UInt8 = 1 << 0
  }

  /// The same bits enable an interrupt in register B and report it in register C.
  package enum Interrupt {
    package static let periodic: UInt8 = 1 << 6
    package static let alarm: UInt8 = 1 << 5
    package static let updateEnded: UInt8 = 1 << 4
    package static let all: UInt8 = 0x70
    /// IRQF, in register C.
    package static let any: UInt8 = 1 << 7
  }

  /// VRT in register D: the battery is good.
  package static let validMemory: UInt8 = 1 << 7
  /// Nanoseconds for which UIP announces an update.
  package static let updateHold: UInt64 = 244_140
  private static let second: UInt64 = 1_000_000_000
  private static let crystal: UInt64 = 32_768
  /// Crystal cycles: the host is not woken more often than 8192 times a second.
  private static let shortestPeriod: UInt64 = 4
  private static let dontCare: UInt8 = 0xC0

  private var index: UInt8 = 0
  /// Registers 0 to 9 and the century are current only while the clock is frozen.
  private var memory: [UInt8]
  private var registerA: UInt8 = 0x26
  private var registerB: UInt8 = B.hours24
  private var flags: UInt8 = 0
  /// The clock: `baseSeconds` since 1970 and `baseNanoseconds` into the second at `baseTime`.
  private var baseSeconds: Int64
  private var baseNanoseconds: UInt64
  private var baseTime: MachineTime
  /// What the guest added to the host's time by setting the clock.
  private var guestOffset: Int64 = 0
  private var weekdayOffset = 0
  /// Flags are right up to here.
  private var checked: MachineTime

  /// - Parameters:
  ///   - secondsSince1970: what the clock shows at `now` (in UTC, or local time for guests that expect it).
  ///   - nanoseconds: into that second.
  ///   - content: memory by index; the clock's own registers are ignored.
  package init(
    secondsSince1970: Int64, nanoseconds: UInt64 = 0, now: MachineTime = MachineTime(rawValue: 0),
    content: [UInt8: UInt8] = [:]
  ) {
    memory = Array(repeating: 0, count: Self.memorySize)
    baseSeconds = Self.bounded(secondsSince1970)
    baseNanoseconds = nanoseconds % Self.second
    baseTime = now
    checked = now
    for (index, value) in content { self[memory: index] = value }
  }

  /// A byte of the memory; registers of the clock itself read 0 and cannot be set.
  package subscript(memory index: UInt8) -> UInt8 {
    get { Self.isMemory(Int(index)) ? memory[Int(index)] : 0 }
    set { if Self.isMemory(Int(index)) { memory[Int(index)] = newValue } }
  }

  /// Bit 7 of port 0x70: NMI does not reach the processor.
  package var nonMaskableInterruptDisabled: Bool { index & 0x80 != 0 }

  /// Seconds that the guest has put between this clock and the host's.
  package var offsetFromHost: Int64 { guestOffset }

  /// Sets the clock to the host's time plus the guest's own offset: after a pause, or on another host.
  package mutating func synchronize(
    hostSecondsSince1970 seconds: Int64, nanoseconds: UInt64, now: MachineTime
  ) {
    advance(to: now)
    baseSeconds = Self.bounded(Self.bounded(seconds) &+ guestOffset)
    baseNanoseconds = nanoseconds % Self.second
    baseTime = now
  }

  /// The RESET pin: interrupts off. Time and memory stay.
  package mutating func reset() {
    registerB &= ~(Interrupt.all | B.squareWave)
    flags = 0
  }

  // MARK: Chip

  package var outputs: UInt32 { flags & registerB & Interrupt.all != 0 ? 1 : 0 }

  package var deadline: MachineTime? {
    guard outputs == 0 else { return nil }
    var earliest: UInt64?
    func consider(_ candidate: UInt64) { earliest = min(earliest ?? .max, candidate) }
    let elapsed = self.elapsed(at: checked)
    if registerB & Interrupt.periodic != 0, let period = periodicCycles {
      let interval = max(period, Self.shortestPeriod)
      let next = (Self.cycles(elapsed) / interval + 1) * interval
      consider(scale(next, by: Self.second, over: Self.crystal) &+ 1)
    }
    if !isFrozen {
      if registerB & Interrupt.updateEnded != 0 {
        consider((elapsed / Self.second + 1) * Self.second)
      }
      if registerB & Interrupt.alarm != 0, let alarm = nextAlarm(after: seconds(at: checked)) {
        consider(UInt64(clamping: alarm - baseSeconds).multipliedSaturating(by: Self.second))
      }
    }
    return earliest.map { baseTime.advanced(nanoseconds: $0 - min($0, baseNanoseconds)) }
  }

  package mutating func advance(to now: MachineTime) {
    guard now > checked else { return }
    if let period = periodicCycles {
      let before = Self.cycles(elapsed(at: checked)) / period
      if Self.cycles(elapsed(at: now)) / period != before { flags |= Interrupt.periodic }
    }
    if !isFrozen {
      let before = seconds(at: checked)
      let after = seconds(at: now)
      if after > before {
        flags |= Interrupt.updateEnded
        if let alarm = nextAlarm(after: before), alarm <= after { flags |= Interrupt.alarm }
      }
    }
    checked = now
  }

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    guard offset == 1 else { return 0xFF }
    let register = Int(index & 0x7F)
    switch register {
    case Register.a: return registerA | (isUpdating(now) ? A.updateInProgress : 0)
    case Register.b: return registerB
    case Register.c:
      let value = flags | (outputs != 0 ? Interrupt.any : 0)
      flags = 0
      return value
    case Register.d: return Self.validMemory
    case _ where Self.isTime(register) && !isFrozen: return timeRegisters(at: now)(register)
    default: return memory[register]
    }
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    if offset == 0 { index = value }
    guard offset == 1 else { return }
    let register = Int(index & 0x7F)
    switch register {
    case Register.a: changeFreezing(now) { $0.registerA = value & ~A.updateInProgress }
    case Register.b:
      changeFreezing(now) { clock in
        let starts = value & B.set != 0 && clock.registerB & B.set == 0
        clock.registerB = starts ? value & ~Interrupt.updateEnded : value
      }
    case Register.c, Register.d: break
    case _ where Self.isTime(register) && !isFrozen:
      copyTimeToMemory(now)
      memory[register] = value
      takeTimeFromMemory(now)
    default: memory[register] = value
    }
  }

  // MARK: Time

  private static func isTime(_ register: Int) -> Bool {
    switch register {
    case Register.seconds, Register.minutes, Register.hours, Register.century: true
    case Register.weekday...Register.year: true
    default: false
    }
  }

  private static func isMemory(_ register: Int) -> Bool {
    register > Register.d && register < memorySize && register != Register.century
  }

  /// Years 0 to 9999, so that sums of times cannot overflow.
  private static func bounded(_ seconds: Int64) -> Int64 {
    min(max(seconds, -62_167_219_200), 253_402_300_799)
  }

  private var isDividerReset: Bool { registerA & 0x60 == 0x60 }
  private var isFrozen: Bool { registerB & B.set != 0 || isDividerReset }

  /// Nanoseconds from the start of the base second.
  private func elapsed(at now: MachineTime) -> UInt64 {
    let (sum, overflow) = baseNanoseconds.addingReportingOverflow(now.nanoseconds(since: baseTime))
    return overflow ? .max / 2 : min(sum, .max / 2)
  }

  private func seconds(at now: MachineTime) -> Int64 {
    baseSeconds + Int64(elapsed(at: now) / Self.second)
  }

  private func isUpdating(_ now: MachineTime) -> Bool {
    !isFrozen && elapsed(at: now) % Self.second >= Self.second - Self.updateHold
  }

  private static func cycles(_ nanoseconds: UInt64) -> UInt64 {
    scale(nanoseconds, by: crystal, over: second)
  }

  /// Crystal cycles between two periodic interrupts (data sheet, table 5); nil is off.
  private var periodicCycles: UInt64? {
    let rate = UInt64(registerA & A.rate)
    guard rate > 0 && !isDividerReset else { return nil }
    // With the 32 kHz time base the two highest rates are those of 8 and 9.
    let slow = registerA & A.divider >= 0x20
    return 1 << (slow && rate <= 2 ? rate + 6 : rate - 1)
  }

  private mutating func changeFreezing(_ now: MachineTime, _ change: (inout Self) -> Void) {
    let wasFrozen = isFrozen
    let wasReset = isDividerReset
    if !wasFrozen { copyTimeToMemory(now) }
    change(&self)
    if wasReset && !isDividerReset {
      // The first update comes half a second after the divider is let go.
      baseSeconds = Self.bounded(seconds(at: now))
      baseNanoseconds = Self.second / 2
      baseTime = now
    }
    if wasFrozen && !isFrozen { takeTimeFromMemory(now) }
  }

  private mutating func copyTimeToMemory(_ now: MachineTime) {
    let registers = timeRegisters(at: now)
    for register in [
      Register.seconds, Register.minutes, Register.hours, Register.weekday, Register.day,
      Register.month, Register.year, Register.century,
    ] { memory[register] = registers(register) }
  }

  private mutating func takeTimeFromMemory(_ now: MachineTime) {
    let running = seconds(at: now)
    let phase = elapsed(at: now) % Self.second
    let time = CivilTime(
      year: decode(memory[Register.century]) * 100 + decode(memory[Register.year]),
      month: decode(memory[Register.month]), day: decode(memory[Register.day]),
      hour: decodeHour(memory[Register.hours]), minute: decode(memory[Register.minutes]),
      second: decode(memory[Register.seconds]))
    baseSeconds = Self.bounded(time.secondsSince1970)
    baseNanoseconds = phase
    baseTime = now
    checked = max(checked, now)
    guestOffset = Self.bounded(guestOffset &+ baseSeconds &- running)
    let natural = CivilTime.weekday(secondsSince1970: baseSeconds)
    weekdayOffset = (decode(memory[Register.weekday]) - natural) % 7
  }

  /// What the time registers show, by register.
  private func timeRegisters(at now: MachineTime) -> (Int) -> UInt8 {
    let seconds = seconds(at: now)
    let time = CivilTime(secondsSince1970: seconds)
    let weekday = (CivilTime.weekday(secondsSince1970: seconds) + weekdayOffset + 13) % 7 + 1
    return { register in
      switch register {
      case Register.seconds: encode(time.second)
      case Register.minutes: encode(time.minute)
      case Register.hours: encodeHour(time.hour)
      case Register.weekday: encode(weekday)
      case Register.day: encode(time.day)
      case Register.month: encode(time.month)
      case Register.year: encode(time.year % 100)
      default: encode(time.year / 100 % 100)
      }
    }
  }

  // MARK: Alarm

  /// The first second after `seconds` that the alarm registers match; nil if none ever does.
  ///
  /// Skips hours, minutes and seconds that do not match: at most some 150 steps.
  private func nextAlarm(after seconds: Int64) -> Int64? {
    let hourByte = memory[Register.hoursAlarm]
    let hour = alarmField(hourByte, value: decodeHour(hourByte), below: 24)
    let minute = alarmField(memory[Register.minutesAlarm], below: 60)
    let second = alarmField(memory[Register.secondsAlarm], below: 60)
    guard let hour, let minute, let second else { return nil }
    var candidate = seconds + 1
    let end = seconds + CivilTime.secondsPerDay
    while candidate <= end {
      let inDay = Int(candidate.flooredRemainder(by: CivilTime.secondsPerDay))
      if !hour.contains(inDay / 3600) {
        candidate += Int64(3600 - inDay % 3600)
      } else if !minute.contains(inDay / 60 % 60) {
        candidate += Int64(60 - inDay % 60)
      } else if !second.contains(inDay % 60) {
        candidate += 1
      } else {
        return candidate
      }
    }
    return nil
  }

  /// The values that an alarm byte means; nil where it is none that the clock ever shows.
  private func alarmField(_ byte: UInt8, value: Int? = nil, below limit: Int) -> Range<Int>? {
    if byte & Self.dontCare == Self.dontCare { return 0..<limit }
    let value = value ?? decode(byte)
    let shown = limit == 24 ? encodeHour(value % 24) : encode(value)
    return value < limit && shown == byte ? value..<value + 1 : nil
  }

  // MARK: Formats

  private func encode(_ value: Int) -> UInt8 {
    registerB & B.binary != 0
      ? UInt8(clamping: value) : UInt8(clamping: (value / 10) << 4 | value % 10)
  }

  private func decode(_ value: UInt8) -> Int {
    registerB & B.binary != 0 ? Int(value) : Int(value >> 4) * 10 + Int(value & 0x0F)
  }

  private func encodeHour(_ hour: Int) -> UInt8 {
    if registerB & B.hours24 != 0 { return encode(hour) }
    return encode((hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0)
  }

  private func decodeHour(_ value: UInt8) -> Int {
    if registerB & B.hours24 != 0 { return decode(value) }
    return decode(value & 0x7F) % 12 + (value & 0x80 != 0 ? 12 : 0)
  }

  // MARK: Snapshottable

  package func saveState() -> RealTimeClock { self }

  package func check(_ state: Self) throws(DeviceStateError) { try checkByRestoring(state) }

  package mutating func restoreState(_ state: RealTimeClock) {
    self = state
    memory = Array((state.memory + Array(repeating: 0, count: Self.memorySize)).prefix(128))
    baseSeconds = Self.bounded(state.baseSeconds)
    baseNanoseconds = state.baseNanoseconds % Self.second
    guestOffset = Self.bounded(state.guestOffset)
    weekdayOffset %= 7
    flags &= Interrupt.all
  }
}

extension UInt64 {
  package func multipliedSaturating(by factor: UInt64) -> UInt64 {
    let (product, overflow) = multipliedReportingOverflow(by: factor)
    return overflow ? .max : product
  }
}
