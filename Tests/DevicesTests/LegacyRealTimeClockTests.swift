import DeviceFuzzing
import Devices
import Testing

private typealias Clock = RealTimeClock
private let second: UInt64 = 1_000_000_000

/// 2024-02-28 23:59:50 UTC, a Wednesday, the day before a leap day.
private let start: Int64 = 1_709_164_790

private func at(_ nanoseconds: UInt64) -> MachineTime { MachineTime(rawValue: nanoseconds) }

extension RealTimeClock {
  fileprivate mutating func get(_ register: Int, _ now: UInt64 = 0) -> UInt8 {
    write8(0, UInt8(register), at(now))
    return read8(1, at(now))
  }
  fileprivate mutating func put(_ register: Int, _ value: UInt8, _ now: UInt64 = 0) {
    write8(0, UInt8(register), at(now))
    write8(1, value, at(now))
  }
  fileprivate mutating func time(_ now: UInt64 = 0) -> [UInt8] {
    [
      Register.century, Register.year, Register.month, Register.day, Register.hours,
      Register.minutes, Register.seconds, Register.weekday,
    ].map { get($0, now) }
  }
}

@Suite struct LegacyRealTimeClockTests {
  @Test func calendarRoundTrips() {
    var random = SeededGenerator(seed: 4)
    for _ in 0..<2000 {
      let seconds = Int64.random(in: -62_167_219_200...253_402_300_799, using: &random)
      #expect(CivilTime(secondsSince1970: seconds).secondsSince1970 == seconds)
    }
    let leap = CivilTime(secondsSince1970: 951_782_400)
    #expect((leap.year, leap.month, leap.day) == (2000, 2, 29))
    #expect(CivilTime.weekday(secondsSince1970: 0) == 5, "1970-01-01 was a Thursday")
  }

  @Test func showsTimeInAllFormats() {
    var clock = Clock(secondsSince1970: start)
    #expect(clock.time() == [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50, 0x04])
    #expect(clock.time(10 * second) == [0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00, 0x05])
    clock.put(Clock.Register.b, 0x06, 10 * second)
    #expect(clock.time(10 * second) == [20, 24, 2, 29, 0, 0, 0, 5])
    clock.put(Clock.Register.b, 0x00, 10 * second)
    #expect(clock.get(Clock.Register.hours, 10 * second) == 0x12)
    #expect(clock.get(Clock.Register.hours, 12 * 3600 * second + 10 * second) == 0x92)
    #expect(clock.get(Clock.Register.hours, 13 * 3600 * second + 10 * second) == 0x81)
    #expect(clock.get(Clock.Register.d) == 0x80)
    #expect(clock.get(Clock.Register.a) == 0x26)
  }

  @Test func updateInProgressComesBeforeTheSecond() {
    var clock = Clock(secondsSince1970: start)
    #expect(clock.get(0x0A, second - 245_000) & 0x80 == 0)
    #expect(clock.get(0x0A, second - 244_000) & 0x80 != 0)
    #expect(clock.get(0x00, second - 1) == 0x50)
    #expect(clock.get(0x0A, second) & 0x80 == 0)
    #expect(clock.get(0x00, second) == 0x51)
    clock.put(0x0B, 0x82, second)
    #expect(clock.get(0x0A, 2 * second - 1) & 0x80 == 0, "SET holds the update off")
  }

  @Test func guestSetsTheTime() {
    var clock = Clock(secondsSince1970: start)
    clock.put(0x0B, 0x82 | 0x10)
    #expect(clock.get(0x0B) & 0x10 == 0, "SET clears UIE")
    for (register, value) in [
      (0x00, 0x30), (0x02, 0x15), (0x04, 0x08), (0x06, 0x02), (0x07, 0x17), (0x08, 0x06),
      (0x09, 0x99), (0x32, 0x19),
    ] {
      clock.put(register, UInt8(value), second)
    }
    #expect(clock.get(0x00, 5 * second) == 0x30, "frozen")
    clock.put(0x0B, 0x02, 5 * second + 300)
    let expected: [UInt8] = [0x19, 0x99, 0x06, 0x17, 0x08, 0x15, 0x31, 0x02]
    #expect(clock.time(6 * second) == expected)
    #expect(clock.offsetFromHost == 929_607_330 - start - 5)
    clock.synchronize(hostSecondsSince1970: start + 7, nanoseconds: 0, now: at(6 * second))
    #expect(clock.get(0x00, 6 * second) == 0x32)
  }

  @Test func aSingleRegisterMayBeSetWhileRunning() {
    var clock = Clock(secondsSince1970: start)
    clock.put(0x04, 0x11)
    #expect(clock.time() == [0x20, 0x24, 0x02, 0x28, 0x11, 0x59, 0x50, 0x04])
  }

  /// Linux: SET, divider in reset, write, SET off, divider on: next second half a second later.
  @Test func dividerResetDelaysTheNextSecond() {
    var clock = Clock(secondsSince1970: start, nanoseconds: 900_000_000)
    clock.put(0x0B, 0x82)
    clock.put(0x0A, 0x76)
    clock.put(0x00, 0x10)
    clock.put(0x0B, 0x02)
    #expect(clock.get(0x00, second) == 0x10)
    clock.put(0x0A, 0x26, second)
    #expect(clock.get(0x00, second + second / 2 - 1) == 0x10)
    #expect(clock.get(0x00, second + second / 2) == 0x11)
  }

  @Test(arguments: [(3, 8192), (6, 1024), (15, 2), (1, 256), (2, 128)])
  func periodicRates(rate: Int, hertz: Int) {
    let lines = LineRecorder()
    let hand = HandClock()
    let device = ChipDevice(
      Clock(secondsSince1970: start), lines: [InterruptLine(8, of: lines)], clock: hand)
    device.write8(0, 0x0A)
    device.write8(1, 0x20 | UInt8(rate))
    device.write8(0, 0x0B)
    device.write8(1, 0x42)
    device.write8(0, 0x0C)
    for _ in 0..<20_000 {
      hand.advance(nanoseconds: 50_000)
      if lines.level(8) { #expect(device.read8(1) & 0xC0 == 0xC0) }
    }
    #expect(abs(lines.rises(8) - hertz) <= hertz / 200 + 1)
  }

  @Test func unreadPeriodicTicksBecomeOneAndStopTheTimer() {
    let lines = LineRecorder()
    let hand = HandClock()
    let device = ChipDevice(
      Clock(secondsSince1970: start), lines: [InterruptLine(8, of: lines)], clock: hand)
    #expect(!hand.hasDeadline, "an idle clock does not tick")
    device.write8(0, 0x0B)
    device.write8(1, 0x42)
    hand.advance(nanoseconds: 10 * second)
    #expect(lines.rises(8) == 1 && lines.level(8))
    #expect(hand.fired == 1)
    device.write8(0, 0x0C)
    #expect(device.read8(1) & 0xD0 == 0xD0)
    #expect(!lines.level(8))
  }

  @Test func updateEndedInterrupt() {
    var clock = Clock(secondsSince1970: start, nanoseconds: 250_000_000)
    clock.put(0x0B, 0x12)
    #expect(clock.deadline == at(750_000_000))
    clock.advance(to: at(750_000_000 - 1))
    #expect(clock.outputs == 0)
    clock.advance(to: at(750_000_000))
    #expect(clock.outputs == 1)
    #expect(clock.deadline == nil)
    #expect(clock.get(0x0C, 750_000_000) & 0xB0 == 0x90)
    #expect(clock.get(0x0C, 750_000_000) == 0)
    #expect(clock.deadline == at(1_750_000_000))
  }

  @Test func alarmAtItsTime() {
    var clock = Clock(secondsSince1970: start)
    clock.put(0x01, 0x05)
    clock.put(0x03, 0x00)
    clock.put(0x05, 0x00)
    clock.put(0x0B, 0x22)
    #expect(clock.deadline == at(15 * second))
    clock.advance(to: at(15 * second - 1))
    #expect(clock.outputs == 0)
    clock.advance(to: at(15 * second))
    #expect(clock.outputs == 1)
    #expect(clock.get(0x0C, 15 * second) & 0xA0 == 0xA0)
    #expect(clock.deadline == at((15 + 86400) * second), "again tomorrow")
  }

  @Test func alarmWithDontCares() {
    var clock = Clock(secondsSince1970: start)
    for register in [0x01, 0x03, 0x05] { clock.put(register, 0xFF) }
    clock.put(0x0B, 0x22)
    #expect(clock.deadline == at(second))
    clock.put(0x01, 0x07)
    #expect(clock.deadline == at(17 * second))
    clock.put(0x05, 0x33)
    #expect(clock.deadline == nil, "an hour that never comes")
    clock.put(0x05, 0xFF)
    clock.put(0x01, 0x1A)
    #expect(clock.deadline == nil, "no BCD second looks like that")
    clock.put(0x01, 0x07)
    clock.put(0x0B, 0x20)
    clock.put(0x05, 0x81)
    #expect(clock.deadline == at((13 * 3600 + 17) * second), "1 pm in 12-hour mode")
  }

  @Test func memoryHoldsWhatFirmwareNeeds() {
    var clock = Clock(secondsSince1970: start, content: [0x34: 0xAB, 0x0A: 0xFF, 0x32: 0x55])
    #expect(clock.get(0x34) == 0xAB)
    #expect(clock.get(0x0A) == 0x26 && clock.get(0x32) == 0x20)
    clock.put(0x7F, 0x77)
    #expect(clock.get(0x7F) == 0x77)
    clock.write8(0, 0xFF)
    #expect(clock.nonMaskableInterruptDisabled && clock.read8(1) == 0x77)
    clock.put(0x0B, 0x7A)
    clock.reset()
    #expect(clock.get(0x0B) == 0x02)
  }

  @Test func nonsenseDoesNotTrap() {
    var clock = Clock(secondsSince1970: .max)
    for value in [UInt8(0), 0xFF, 0x99, 0x1F] {
      for register in 0..<128 where register != 0x0C { clock.put(register, value) }
      clock.put(0x0A, 0x2F)
      clock.put(0x0B, 0x70 | value & 6)
      clock.advance(to: at(.max))
      _ = clock.time(.max)
      _ = clock.deadline
    }
  }

  @Test func fuzzed() throws {
    try fuzz(Clock(secondsSince1970: start), offsets: 0...2, seed: 2) { clock, random, now in
      clock.synchronize(
        hostSecondsSince1970: Int64(truncatingIfNeeded: random.next()),
        nanoseconds: random.next(), now: now)
      clock[memory: UInt8(truncatingIfNeeded: random.next())] = 1
    }
  }
}
