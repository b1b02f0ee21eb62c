/// The 8254 of a PC (Intel 8254 data sheet, 231164-005): ports 0x40 to 0x43 at offsets 0 to 3.
///
/// Counter 0 is output 0, IRQ 0; counter 2 has its gate and output at port 0x61 (`SystemControlPortB`). Every rise of
/// output 0 is one pulse of the line, also those that came while the host was busy: up to `edgeLimit` are owed, and the
/// interrupt chips count those that they cannot deliver yet. A period under 125 us (8 kHz) makes at most one edge each
/// time that the host looks, at most 8000 times a second.
package struct ProgrammableIntervalTimer: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let port: UInt16 = 0x40
  package static let portCount = 4
  package static let interrupt: UInt32 = 0
  package static let stateVersion = 1
  /// In hertz: 105/88 MHz.
  package static let frequency: UInt64 = 1_193_182
  package static let edgeLimit: UInt64 = 1024

  package enum Offset {
    package static let control: UInt64 = 3
  }

  package enum Control {
    /// Bits 7 and 6 choose the counter; 3 is the read-back command.
    package static let readBack: UInt8 = 3
    /// Read-back: low latches the status.
    package static let noStatus: UInt8 = 1 << 4
    /// Read-back: low latches the count.
    package static let noCount: UInt8 = 1 << 5
  }

  private static let second: UInt64 = 1_000_000_000
  /// Ticks between two deadlines.
  private static let shortestWait: UInt64 = 146

  private var counters = [
    PIT8254Counter(gate: true), PIT8254Counter(gate: true), PIT8254Counter(gate: false),
  ]
  private var tick: UInt64 = 0
  private var owedEdges: UInt64 = 0

  package init() {}

  /// Power-on state.
  package mutating func reset() { self = Self() }

  // MARK: Port 0x61's side

  package mutating func setGate2(_ level: Bool) { counters[2].setGate(level, at: tick) }
  /// OUT of counter 2.
  package var output2: Bool { counters[2].output(at: tick) }

  // MARK: Chip

  package var outputs: UInt32 {
    var outputs: UInt32 = 0
    for index in counters.indices where counters[index].output(at: tick) {
      outputs |= 1 << UInt32(index)
    }
    return outputs
  }

  package var deadline: MachineTime? {
    guard let next = counters[0].nextRise else { return nil }
    let due = counters[0].isFast ? max(next, tick + Self.shortestWait) : next
    return MachineTime(rawValue: scale(due, by: Self.second, over: Self.frequency) &+ 1)
  }

  package mutating func advance(to now: MachineTime) {
    let new = scale(now.rawValue, by: Self.frequency, over: Self.second)
    guard new > tick else { return }
    tick = new
    for index in counters.indices { counters[index].advance(to: tick) }
    collectEdges()
  }

  private mutating func collectEdges() {
    let rises = counters[0].takeRises()
    owedEdges = min(
      owedEdges + (counters[0].isFast ? min(rises, 1) : min(rises, Self.edgeLimit)), Self.edgeLimit)
    _ = counters[1].takeRises()
    _ = counters[2].takeRises()
  }

  package mutating func takePulses() -> UInt32 {
    guard owedEdges > 0 else { return 0 }
    owedEdges -= 1
    return 1
  }

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    offset < 3 ? counters[Int(offset)].read(at: tick) : 0xFF
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    switch offset {
    case 0...2: counters[Int(offset)].writeCount(value, at: tick)
    case Offset.control: writeControl(value)
    default: break
    }
    collectEdges()
  }

  private mutating func writeControl(_ value: UInt8) {
    let selected = value >> 6
    guard selected == Control.readBack else {
      counters[Int(selected)].writeControl(value, at: tick)
      return
    }
    for index in counters.indices where value >> UInt8(index + 1) & 1 != 0 {
      if value & Control.noCount == 0 { counters[index].latchCount(at: tick) }
      if value & Control.noStatus == 0 { counters[index].latchStatus(at: tick) }
    }
  }

  // MARK: Snapshottable

  package func saveState() -> ProgrammableIntervalTimer { self }

  package func check(_ state: Self) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.counters.count == 3, "it has \(state.counters.count) counters")
    for counter in state.counters {
      try DeviceStateError.require(counter.isSound, "a counter's values cannot be")
    }
    try DeviceStateError.require(
      state.tick <= .max / 4 && state.owedEdges <= Self.edgeLimit, "its time cannot be")
  }

  package mutating func restoreState(_ state: ProgrammableIntervalTimer) {
    let fresh = counters
    self = state
    counters = Array((state.counters + fresh).prefix(3))
    if state.counters.count < 3 { counters = fresh }
    for index in counters.indices { counters[index].normalize() }
    tick = min(tick, .max / 4)
    owedEdges = min(owedEdges, Self.edgeLimit)
  }
}

extension ProgrammableIntervalTimer {
  /// struct kvm_pit_state2: three counters, flags, nothing.
  private static let kernelFlags = 3 * PIT8254Counter.kernelSize
  private static let kernelSize = kernelFlags + 40

  package enum KernelFlag {
    /// The event timer stands in for the counters.
    package static let replaced: UInt32 = 1
    /// Bit 1 of port 0x61.
    package static let speakerData: UInt32 = 2
  }

  /// - Parameters:
  ///   - bytes: struct kvm_pit_state2 (Linux, arch/x86/include/uapi/asm/kvm.h).
  ///   - read: when it was read, nanoseconds of the monotonic clock that the kernel's load times are of; nil: unknown.
  ///   - now: the machine's time.
  package init(
    kernel bytes: [UInt8], read: UInt64?, now: MachineTime
  ) throws(DeviceStateError) {
    guard bytes.count == Self.kernelSize else {
      throw DeviceStateError("a kernel's 8254 has \(bytes.count) bytes")
    }
    self.init()
    tick = scale(now.rawValue, by: Self.frequency, over: Self.second)
    for index in counters.indices {
      let size = PIT8254Counter.kernelSize
      let part = Array(bytes[index * size..<(index + 1) * size])
      let loaded = PIT8254Counter.kernelLoadTime(part)
      // Years at most: nothing overflows.
      let passed = read.map { $0 > loaded ? min($0 - loaded, 1 << 58) : 0 } ?? 0
      counters[index] = try PIT8254Counter(
        kernel: part, elapsed: scale(passed, by: Self.frequency, over: Self.second), at: tick)
    }
  }

  /// What port 0x61 holds by the kernel's account.
  package static func kernelPort(_ bytes: [UInt8]) -> UInt8 {
    let gate = bytes.number(at: 3 * PIT8254Counter.kernelSize - 9, count: 1) != 0
    let speaker = bytes.number(at: kernelFlags, count: 4) & UInt64(KernelFlag.speakerData) != 0
    return (gate ? SystemControlPortB.Bit.timer2Gate : 0)
      | (speaker ? SystemControlPortB.Bit.speakerData : 0)
  }

  /// - Parameter flags: of `KernelFlag`.
  package func kernelBytes(flags: UInt32) -> [UInt8] {
    var bytes = counters.flatMap { $0.kernelBytes(at: tick) }
    bytes.append(number: UInt64(flags), count: 4)
    return bytes + [UInt8](repeating: 0, count: Self.kernelSize - bytes.count)
  }
}

extension SystemControlPortB {
  /// Port 0x61 with counter 2 of our own timer.
  package convenience init(timer: ChipDevice<ProgrammableIntervalTimer>, clock: any MachineClock) {
    self.init(
      clock: clock, setGate: { level in timer.withChip { chip, _ in chip.setGate2(level) } },
      output: { timer.withChip { chip, _ in chip.output2 } })
  }
}
