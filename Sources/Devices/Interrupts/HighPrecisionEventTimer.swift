/// The high precision event timer (IA-PC HPET Specification 1.0a, October 2004): a 64-bit counter of 10 ns and three
/// comparators, all 64 bits wide and able to repeat; no FSB (message) delivery.
///
/// Outputs 0 to 23 are I/O APIC inputs; 24 to 26 are `InterruptRouter.Line`s for the legacy replacement route. A
/// repeating comparator that falls due several times before the host looks makes one interrupt (lost ticks are not made
/// up for: the guest reads the counter); periods under 125 us (8 kHz) are served at that rate.
package struct HighPrecisionEventTimer: Chip, Snapshottable, Codable, Equatable {
  package static let baseAddress: UInt64 = 0xFED0_0000
  package static let size: UInt64 = 0x400
  package static let stateVersion = 1
  package static let timerCount = 3
  /// Nanoseconds a tick.
  package static let tickLength: UInt64 = 10

  package enum Output {
    package static let pins = 24
    package static let replacedTimer = 24
    package static let replacedClock = 25
    package static let legacyReplacement = 26
    package static let count = 27
  }

  package enum Register {
    package static let capabilities: UInt64 = 0x000
    package static let configuration: UInt64 = 0x010
    package static let status: UInt64 = 0x020
    package static let counter: UInt64 = 0x0F0
    /// Timers follow each other at 0x20: configuration, comparator, FSB route.
    package static let timers: UInt64 = 0x100
    static let timerStride: UInt64 = 0x20
  }

  package enum Configuration {
    package static let enable: UInt64 = 1 << 0
    package static let legacyReplacement: UInt64 = 1 << 1
  }

  package enum TimerConfiguration {
    package static let levelTriggered: UInt64 = 1 << 1
    package static let interruptEnable: UInt64 = 1 << 2
    package static let periodic: UInt64 = 1 << 3
    package static let periodicCapable: UInt64 = 1 << 4
    package static let wideCapable: UInt64 = 1 << 5
    /// Tn_VAL_SET: the next comparator write sets the accumulator, not the period.
    package static let setValue: UInt64 = 1 << 6
    package static let mode32: UInt64 = 1 << 8
    package static let routeShift: UInt64 = 9
    static let routeMask: UInt64 = 0x1F << routeShift
    static let writable: UInt64 =
      levelTriggered | interruptEnable | periodic | setValue | mode32 | routeMask
  }

  /// Revision 1, three timers, 64 bits, legacy replacement, vendor 8086, period in femtoseconds.
  package static let capabilities: UInt64 =
    1 | UInt64(timerCount - 1) << 8 | 1 << 13 | 1 << 15 | 0x8086 << 16
    | tickLength * 1_000_000 << 32

  private static let shortestWait: UInt64 = 12_500
  /// I/O APIC inputs that a timer may use: 16 to 23 are free of ISA devices.
  private static let routes: UInt64 = 0x00FF_0000

  private struct Timer: Codable, Equatable {
    var configuration: UInt64 = 0
    var comparator: UInt64 = .max
    var period: UInt64 = 0

    var is32Bit: Bool { configuration & TimerConfiguration.mode32 != 0 }
    var mask: UInt64 { is32Bit ? 0xFFFF_FFFF : .max }
    var isPeriodic: Bool {
      configuration & TimerConfiguration.periodic != 0 && period & mask != 0
    }
    var isFast: Bool { isPeriodic && period & mask < shortestWait }
    var isEnabled: Bool { configuration & TimerConfiguration.interruptEnable != 0 }
    var isLevel: Bool { configuration & TimerConfiguration.levelTriggered != 0 }
    var route: Int {
      Int((configuration & TimerConfiguration.routeMask) >> TimerConfiguration.routeShift)
    }
    /// Ticks from `counter` until the comparator matches: 1 to 2^32 or 2^64 - 1.
    func distance(from counter: UInt64) -> UInt64 {
      let ticks = (comparator &- counter) & mask
      if ticks != 0 { return ticks }
      return is32Bit ? 1 << 32 : .max
    }
  }

  private var configuration: UInt64 = 0
  private var status: UInt32 = 0
  private var timers = Array(repeating: Timer(), count: timerCount)
  /// The counter at `base`; while it is halted, the counter.
  private var counter: UInt64 = 0
  private var base = MachineTime(rawValue: 0)
  /// Pulses of edge-triggered timers that are not taken yet.
  private var pulses: UInt32 = 0
  private var nextAllowed: UInt64 = 0

  package init() {}

  /// Power-on state.
  package mutating func reset() { self = Self() }

  private var isRunning: Bool { configuration & Configuration.enable != 0 }
  private var isReplacing: Bool { configuration & Configuration.legacyReplacement != 0 }

  // MARK: Chip

  package var outputs: UInt32 {
    var outputs: UInt32 = isReplacing ? 1 << UInt32(Output.legacyReplacement) : 0
    for (index, timer) in timers.enumerated()
    where timer.isLevel && timer.isEnabled && status >> UInt32(index) & 1 != 0 {
      outputs |= line(of: index)
    }
    return outputs
  }

  package mutating func takePulses() -> UInt32 {
    defer { pulses = 0 }
    return pulses
  }

  private func line(of index: Int) -> UInt32 {
    if isReplacing && index == 0 { return 1 << UInt32(Output.replacedTimer) }
    if isReplacing && index == 1 { return 1 << UInt32(Output.replacedClock) }
    let route = timers[index].route
    return Self.routes >> UInt64(route) & 1 != 0 ? 1 << UInt32(route) : 0
  }

  package var deadline: MachineTime? {
    guard isRunning else { return nil }
    var nearest: UInt64?
    for (index, timer) in timers.enumerated() where timer.isEnabled {
      // A level that is up says nothing new.
      if timer.isLevel && status >> UInt32(index) & 1 != 0 { continue }
      var distance = timer.distance(from: counter)
      if timer.isFast && nextAllowed > counter { distance = max(distance, nextAllowed - counter) }
      nearest = min(nearest ?? .max, distance)
    }
    guard let distance = nearest else { return nil }
    return base.advanced(nanoseconds: distance.multipliedSaturating(by: Self.tickLength))
  }

  package mutating func advance(to now: MachineTime) {
    guard isRunning else {
      base = max(base, now)
      return
    }
    let ticks = now.nanoseconds(since: base) / Self.tickLength
    guard ticks > 0 else { return }
    base = base.advanced(nanoseconds: ticks * Self.tickLength)
    for index in timers.indices where timers[index].distance(from: counter) <= ticks {
      match(index, after: ticks)
    }
    counter &+= ticks
  }

  /// The comparator was passed at least once within the next `ticks`.
  private mutating func match(_ index: Int, after ticks: UInt64) {
    let timer = timers[index]
    if timer.isLevel { status |= 1 << UInt32(index) }
    if timer.isEnabled {
      if !timer.isLevel { pulses |= line(of: index) }
      if timer.isFast { nextAllowed = counter &+ ticks &+ Self.shortestWait }
    }
    if timer.isPeriodic {
      let period = timer.period & timer.mask
      let late = ticks - timer.distance(from: counter)
      let steps = late / period + 1
      timers[index].comparator = (timer.comparator &+ steps &* period) & timer.mask
    }
  }

  // MARK: Registers

  package mutating func read(at offset: UInt64, width: AccessWidth, now: MachineTime) -> UInt64 {
    guard offset < Self.size else { return .max }
    return register(offset & ~7) >> ((offset & 7) * 8)
  }

  package mutating func write(
    at offset: UInt64, width: AccessWidth, value: UInt64, now: MachineTime
  ) {
    guard offset < Self.size else { return }
    let shift = (offset & 7) * 8
    let mask = width.mask << shift
    // The rest of a register keeps its value; status bits are cleared by ones, so the rest is written as zero there.
    let old = offset & ~7 == Register.status ? 0 : register(offset & ~7)
    setRegister(offset & ~7, old & ~mask | value << shift & mask, mask: mask)
  }

  private func register(_ offset: UInt64) -> UInt64 {
    switch offset {
    case Register.capabilities: return Self.capabilities
    case Register.configuration: return configuration
    case Register.status: return UInt64(status)
    case Register.counter: return counter
    default:
      guard let (index, part) = timer(at: offset) else { return 0 }
      switch part {
      case 0:
        return timers[index].configuration | TimerConfiguration.periodicCapable
          | TimerConfiguration.wideCapable | Self.routes << 32
      case 8: return timers[index].comparator & timers[index].mask
      default: return 0
      }
    }
  }

  private func timer(at offset: UInt64) -> (index: Int, part: UInt64)? {
    guard offset >= Register.timers else { return nil }
    let index = (offset - Register.timers) / Register.timerStride
    guard index < UInt64(Self.timerCount) else { return nil }
    return (Int(index), (offset - Register.timers) % Register.timerStride)
  }

  private mutating func setRegister(_ offset: UInt64, _ value: UInt64, mask: UInt64) {
    switch offset {
    case Register.configuration:
      configuration = value & (Configuration.enable | Configuration.legacyReplacement)
    case Register.status: status &= ~UInt32(truncatingIfNeeded: value)
    case Register.counter:
      if !isRunning {
        counter = value
        nextAllowed = 0
      }
    default:
      guard let (index, part) = timer(at: offset) else { return }
      if part == 0 { setConfiguration(index, value) }
      if part == 8 { setComparator(index, value, mask: mask) }
    }
  }

  private mutating func setConfiguration(_ index: Int, _ value: UInt64) {
    var new = value & TimerConfiguration.writable
    let route = (new & TimerConfiguration.routeMask) >> TimerConfiguration.routeShift
    // A route that is not allowed does not stick: the guest reads back whether it was.
    if Self.routes >> route & 1 == 0 { new &= ~TimerConfiguration.routeMask }
    timers[index].configuration = new
    if new & TimerConfiguration.mode32 != 0 {
      timers[index].comparator &= 0xFFFF_FFFF
      timers[index].period &= 0xFFFF_FFFF
    }
    if new & TimerConfiguration.levelTriggered == 0 { status &= ~(1 << UInt32(index)) }
  }

  /// In periodic mode a write sets the period; with Tn_VAL_SET it sets the accumulator too and clears that bit.
  private mutating func setComparator(_ index: Int, _ value: UInt64, mask: UInt64) {
    let timer = timers[index]
    let value = value & timer.mask
    guard timer.configuration & TimerConfiguration.periodic != 0 else {
      timers[index].comparator = value
      return
    }
    if timer.configuration & TimerConfiguration.setValue != 0 {
      timers[index].comparator = value
      timers[index].configuration &= ~TimerConfiguration.setValue
    }
    timers[index].period = (timer.period & ~mask | value & mask) & timer.mask
  }

  // MARK: Snapshottable

  package func saveState() -> HighPrecisionEventTimer { self }

  package func check(_ state: Self) throws(DeviceStateError) { try checkByRestoring(state) }

  package mutating func restoreState(_ state: HighPrecisionEventTimer) {
    self = state
    timers = Array((timers + Array(repeating: Timer(), count: 3)).prefix(Self.timerCount))
  }
}
