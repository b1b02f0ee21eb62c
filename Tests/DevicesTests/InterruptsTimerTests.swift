import DeviceFuzzing
import Devices
import Testing

private typealias Timer = ProgrammableIntervalTimer

/// The first nanosecond of a tick of 1.193182 MHz.
private func at(_ tick: UInt64) -> MachineTime {
  MachineTime(rawValue: (tick * 1_000_000_000 + 1_193_181) / 1_193_182)
}

extension ProgrammableIntervalTimer {
  fileprivate mutating func program(
    _ counter: UInt64, mode: UInt8, count: UInt16, tick: UInt64 = 0, bcd: Bool = false
  ) {
    write8(3, UInt8(counter) << 6 | 0x30 | mode << 1 | (bcd ? 1 : 0), at(tick))
    write8(counter, UInt8(count & 0xFF), at(tick))
    write8(counter, UInt8(count >> 8), at(tick))
  }
  fileprivate mutating func count(_ counter: UInt64, _ tick: UInt64) -> UInt16 {
    write8(3, UInt8(counter) << 6, at(tick))
    return UInt16(read8(counter, at(tick))) | UInt16(read8(counter, at(tick))) << 8
  }
  fileprivate mutating func output(_ counter: UInt64, _ tick: UInt64) -> Bool {
    advance(to: at(tick))
    return outputs >> UInt32(counter) & 1 != 0
  }
  fileprivate mutating func status(_ counter: UInt64, _ tick: UInt64) -> UInt8 {
    write8(3, 0xE0 | 2 << UInt8(counter), at(tick))
    return read8(counter, at(tick))
  }
  fileprivate mutating func gate(_ level: Bool, _ tick: UInt64) {
    advance(to: at(tick))
    setGate2(level)
  }
  fileprivate mutating func edges(to tick: UInt64) -> Int {
    advance(to: at(tick))
    var count = 0
    while takePulses() != 0 { count += 1 }
    return count
  }
}

/// Intel 8254 data sheet, 231164-005: figures 15 to 20 give the values by clock pulse.
@Suite struct InterruptsTimerTests {
  @Test func mode0InterruptOnTerminalCount() {
    var timer = Timer()
    timer.program(0, mode: 0, count: 4)
    #expect((1...5).map { timer.count(0, $0) } == [4, 3, 2, 1, 0])
    timer.program(0, mode: 0, count: 4, tick: 100)
    #expect(timer.output(0, 104) == false)
    #expect(timer.output(0, 105) == true, "N + 1 pulses after the write")
    #expect(timer.count(0, 106) == 0xFFFF, "counts on")
    #expect(timer.edges(to: 200) == 2)
    #expect(timer.deadline == nil)
    // Writing the first byte of a new count stops the counter and lowers OUT.
    timer.write8(0, 5, at(200))
    #expect(timer.output(0, 300) == false)
  }

  @Test func mode0GatePauses() {
    var timer = Timer()
    timer.gate(true, 0)
    timer.program(2, mode: 0, count: 10)
    #expect(timer.count(2, 4) == 7)
    timer.gate(false, 4)
    #expect(timer.count(2, 50) == 7)
    timer.gate(true, 50)
    #expect(timer.count(2, 53) == 4)
    #expect(!timer.output(2, 56) && timer.output(2, 57))
  }

  @Test func mode1OneShotStartsWithTheGate() {
    var timer = Timer()
    timer.program(2, mode: 1, count: 3)
    #expect(timer.output(2, 10) == true)
    timer.gate(true, 10)
    #expect(timer.output(2, 10) && !timer.output(2, 11) && !timer.output(2, 13))
    #expect(timer.output(2, 14) == true)
    timer.gate(false, 20)
    timer.gate(true, 21)
    timer.gate(false, 22)
    timer.gate(true, 23)
    #expect(!timer.output(2, 26) && timer.output(2, 27), "retriggered")
  }

  @Test func mode2RateGenerator() {
    var timer = Timer()
    timer.program(0, mode: 2, count: 3)
    #expect((1...7).map { timer.count(0, $0) } == [3, 2, 1, 3, 2, 1, 3])
    timer.program(0, mode: 2, count: 3, tick: 10)
    #expect((11...17).map { timer.output(0, $0) } == [true, true, false, true, true, false, true])
    timer.program(0, mode: 2, count: 1000, tick: 20)
    _ = timer.edges(to: 20)
    #expect(timer.edges(to: 1020) == 0 && timer.edges(to: 1021) == 1)
    #expect(timer.edges(to: 5021) == 4)
    // A new count takes over at the end of the period.
    timer.write8(0, 0xF4, at(5500))
    timer.write8(0, 0x01, at(5500))
    #expect(timer.status(0, 5600) & 0x40 != 0, "null count")
    #expect(timer.edges(to: 6021) == 1 && timer.edges(to: 6521) == 1)
    #expect(timer.status(0, 6521) == 0xB4)
  }

  @Test func mode3SquareWave() {
    var timer = Timer()
    timer.program(0, mode: 3, count: 4)
    #expect(
      (1...8).map { timer.output(0, $0) } == [true, true, false, false, true, true, false, false])
    timer.program(0, mode: 3, count: 4, tick: 20)
    #expect((21...25).map { timer.count(0, $0) } == [4, 2, 4, 2, 4])
    timer.program(0, mode: 7, count: 5, tick: 40)
    #expect(
      (41...51).map { timer.output(0, $0) } == [
        true, true, true, false, false, true, true, true, false, false, true,
      ])
    #expect(timer.status(0, 51) & 0x0E == 6, "7 is 3")
    // A new count takes over with the next half: 10 high, then 3 low instead of 10.
    timer.program(0, mode: 3, count: 20, tick: 60)
    timer.write8(0, 6, at(65))
    timer.write8(0, 0, at(65))
    #expect(timer.output(0, 70) && !timer.output(0, 71) && !timer.output(0, 73))
    #expect(timer.output(0, 74) && timer.output(0, 76) && !timer.output(0, 77))
    timer.program(2, mode: 3, count: 100, tick: 100)
    timer.gate(true, 100)
    #expect(timer.output(2, 150) && !timer.output(2, 151))
    timer.gate(false, 160)
    #expect(timer.output(2, 160) == true, "OUT goes high with a low gate")
  }

  @Test func strobes() {
    var timer = Timer()
    timer.gate(true, 0)
    timer.program(2, mode: 4, count: 3)
    #expect((1...6).map { timer.output(2, $0) } == [true, true, true, false, true, true])
    timer.program(2, mode: 5, count: 3, tick: 10)
    #expect(timer.output(2, 30) == true)
    timer.gate(false, 30)
    timer.gate(true, 31)
    #expect((32...36).map { timer.output(2, $0) } == [true, true, true, false, true])
  }

  @Test func decimalAndByteAccess() {
    var timer = Timer()
    timer.program(0, mode: 0, count: 0x1000, bcd: true)
    #expect(timer.count(0, 2) == 0x0999)
    timer.program(0, mode: 2, count: 0, tick: 10, bcd: true)
    #expect(timer.count(0, 12) == 0x9999)
    timer.write8(3, 0x14, at(20))
    timer.write8(0, 10, at(20))
    #expect(timer.read8(0, at(21)) == 10 && timer.read8(0, at(22)) == 9, "low byte only")
    timer.write8(3, 0x24, at(40))
    timer.write8(0, 1, at(40))
    #expect(timer.read8(0, at(41)) == 1 && timer.read8(0, at(42)) == 0, "high byte only")
  }

  @Test func latchesAndReadBack() {
    var timer = Timer()
    timer.program(0, mode: 2, count: 0x1234)
    timer.write8(3, 0x00, at(1))
    timer.write8(3, 0x00, at(50))
    #expect(timer.read8(0, at(60)) == 0x34 && timer.read8(0, at(61)) == 0x12)
    timer.write8(3, 0xC2, at(101))
    #expect(timer.read8(0, at(200)) == 0xB4, "status first")
    let count = UInt16(timer.read8(0, at(201))) | UInt16(timer.read8(0, at(202))) << 8
    #expect(count == 0x1234 - 100)
    timer.write8(3, 0x34, at(300))
    #expect(timer.status(0, 300) & 0x40 != 0)
    #expect(timer.read8(3, at(300)) == 0xFF)
  }

  @Test func everyTickReachesTheLine() {
    let lines = LineRecorder()
    let clock = HandClock()
    let device = ChipDevice(Timer(), lines: [InterruptLine(0, of: lines)], clock: clock)
    for (offset, value) in [(3, 0x34), (0, 0xA9), (0, 0x04)] as [(UInt64, UInt8)] {
      device.write8(offset, value)
    }
    let before = lines.rises(0)
    clock.advance(nanoseconds: 1_000_000_000)
    #expect(abs(lines.rises(0) - before - 1000) <= 1)
    // Mode 3 with a late host: nobody looked for a second, and nothing is lost.
    for (offset, value) in [(3, 0x36), (0, 0xA9), (0, 0x04)] as [(UInt64, UInt8)] {
      device.write8(offset, value)
    }
    let start = lines.rises(0)
    clock.jump(nanoseconds: 1_000_000_000)
    _ = device.read8(0)
    #expect(abs(lines.rises(0) - start - 1000) <= 1)
  }

  @Test func fastPeriodsDoNotFlood() {
    let lines = LineRecorder()
    let clock = HandClock()
    let device = ChipDevice(Timer(), lines: [InterruptLine(0, of: lines)], clock: clock)
    for (offset, value) in [(3, 0x34), (0, 2), (0, 0)] as [(UInt64, UInt8)] {
      device.write8(offset, value)
    }
    clock.advance(nanoseconds: 1_000_000_000)
    #expect(clock.fired <= 8200 && clock.fired > 4000)
  }

  @Test func port61DrivesTheGate() {
    let clock = HandClock()
    let device = ChipDevice(Timer(), clock: clock)
    let port = SystemControlPortB(timer: device, clock: clock)
    // Calibration as kernels do it: mode 0 on counter 2, gate up, wait for OUT at port 0x61.
    port.write8(0, 0)
    for (offset, value) in [(3, 0xB0), (2, 0x9C), (2, 0x2E)] as [(UInt64, UInt8)] {
      device.write8(offset, value)
    }
    port.write8(0, 1)
    clock.advance(nanoseconds: 9_990_000)
    #expect(port.read8(0) & 0x20 == 0)
    clock.advance(nanoseconds: 20_000)
    #expect(port.read8(0) & 0x21 == 0x21)
  }

  @Test func fuzzed() throws {
    try fuzz(Timer(), offsets: 0...4, seed: 6) { timer, random, _ in
      timer.setGate2(random.next() & 1 != 0)
    }
  }
}

/// IA-PC HPET Specification 1.0a.
@Suite struct InterruptsHighPrecisionEventTimerTests {
  private let lines = LineRecorder()
  private let clock = HandClock()
  private let device: ChipDevice<HighPrecisionEventTimer>

  init() {
    let lines = lines
    device = ChipDevice(
      HighPrecisionEventTimer(),
      lines: (0..<24).map { InterruptLine($0, of: lines) } + [
        InterruptLine(InterruptRouter.Line.replacedTimer, of: lines),
        InterruptLine(InterruptRouter.Line.replacedClock, of: lines),
        InterruptLine(InterruptRouter.Line.legacyReplacement, of: lines),
      ], clock: clock)
  }

  private func set(_ offset: UInt64, _ value: UInt64) {
    device.write(at: offset, width: .quadword, value: value)
  }
  private func get(_ offset: UInt64) -> UInt64 { device.read(at: offset, width: .quadword) }

  @Test func capabilitiesAndCounter() {
    #expect(get(0) == 10_000_000 << 32 | 0x8086_A201)
    set(0xF0, 0x1_0000_0000)
    clock.advance(nanoseconds: 1000)
    #expect(get(0xF0) == 0x1_0000_0000, "halted")
    set(0x10, 1)
    clock.advance(nanoseconds: 1000)
    #expect(get(0xF0) == 0x1_0000_0064)
    set(0xF0, 5)
    #expect(get(0xF0) == 0x1_0000_0064, "not writable while it runs")
    #expect(device.read(at: 0xF4, width: .doubleword) & 0xFFFF_FFFF == 1)
    #expect(get(0x100) == 0x00FF_0000_0000_0030)
    set(0x100, 0x0A << 9)
    #expect(get(0x100) >> 9 & 0x1F == 0, "a route that is not allowed does not stick")
    #expect(!clock.hasDeadline)
  }

  @Test func oneShotByEdge() {
    set(0x108, 1000)
    set(0x100, 17 << 9 | 4)
    set(0x10, 1)
    clock.advance(nanoseconds: 9_999)
    #expect(lines.rises(17) == 0)
    clock.advance(nanoseconds: 2)
    #expect(lines.rises(17) == 1 && !lines.level(17))
    clock.advance(nanoseconds: 1_000_000_000)
    #expect(lines.rises(17) == 1)
  }

  @Test func levelStaysUntilItsStatusIsCleared() {
    set(0x128, 100)
    set(0x120, 16 << 9 | 4 | 2)
    set(0x10, 1)
    clock.advance(nanoseconds: 2000)
    #expect(lines.level(16) && get(0x20) == 2)
    set(0x20, 1)
    #expect(lines.level(16))
    set(0x20, 2)
    #expect(!lines.level(16))
  }

  /// As Linux sets up its periodic clock event: value and period by two 32-bit writes.
  @Test func periodicWithLegacyReplacement() {
    device.write(at: 0x10, width: .doubleword, value: 3)
    #expect(lines.level(InterruptRouter.Line.legacyReplacement))
    device.write(at: 0x100, width: .doubleword, value: 4 | 8 | 0x40 | 0x100)
    device.write(at: 0x108, width: .doubleword, value: 50_000)
    #expect(get(0x100) & 0x40 == 0)
    device.write(at: 0x108, width: .doubleword, value: 100_000)
    clock.advance(nanoseconds: 100_000_000)
    #expect(lines.rises(InterruptRouter.Line.replacedTimer) == 100)
    #expect(lines.rises(0) == 0)
    // Tick 50 000 + n * 100 000 of 10 ns.
    clock.advance(nanoseconds: 499_980)
    #expect(lines.rises(InterruptRouter.Line.replacedTimer) == 100)
    clock.advance(nanoseconds: 40)
    #expect(lines.rises(InterruptRouter.Line.replacedTimer) == 101)
    clock.jump(nanoseconds: 50_000_000)
    _ = get(0)
    #expect(lines.rises(InterruptRouter.Line.replacedTimer) == 102, "lost ticks become one")
    clock.advance(nanoseconds: 5_000_000)
    #expect(lines.rises(InterruptRouter.Line.replacedTimer) == 107, "and the phase stays")
  }

  @Test func timer1ReplacesTheClock() {
    set(0x128, 100)
    set(0x120, 4)
    set(0x10, 3)
    clock.advance(nanoseconds: 2000)
    #expect(lines.rises(InterruptRouter.Line.replacedClock) == 1)
    set(0x10, 1)
    #expect(!lines.level(InterruptRouter.Line.legacyReplacement))
  }

  @Test func a32BitTimerWraps() {
    set(0xF0, 0xFFFF_FF00)
    set(0x108, 0x10)
    set(0x100, 18 << 9 | 4 | 0x100)
    set(0x10, 1)
    clock.advance(nanoseconds: 0x10F * 10)
    #expect(lines.rises(18) == 0)
    clock.advance(nanoseconds: 20)
    #expect(lines.rises(18) == 1)
  }

  @Test func fastPeriodsDoNotFlood() {
    set(0x100, 16 << 9 | 4 | 8 | 0x40)
    set(0x108, 1)
    set(0x10, 1)
    clock.advance(nanoseconds: 1_000_000_000)
    #expect(clock.fired <= 8100 && lines.rises(16) > 7000)
  }

  @Test func fuzzed() throws {
    try fuzz(HighPrecisionEventTimer(), offsets: 0...0x17F, seed: 7)
  }
}
