import DeviceFuzzing
import Devices
import Testing

private typealias Power = PowerManagement

extension PowerManagement {
  fileprivate mutating func read16(_ offset: UInt64, _ now: UInt64 = 0) -> UInt16 {
    advance(to: MachineTime(rawValue: now))
    return UInt16(read(at: offset, width: .word, now: MachineTime(rawValue: now)))
  }
  fileprivate mutating func write16(_ offset: UInt64, _ value: UInt16, _ now: UInt64 = 0) {
    advance(to: MachineTime(rawValue: now))
    write(at: offset, width: .word, value: UInt64(value), now: MachineTime(rawValue: now))
  }
}

/// Intel 82371AB data sheet, 7.2; ACPI 6.4, 4.8.
@Suite struct PowerManagementTests {
  @Test func powerButtonRaisesTheSystemControlInterrupt() {
    let lines = LineRecorder()
    let device = ChipDevice(Power(), lines: [InterruptLine(9, of: lines)], clock: HandClock())
    #expect(device.withChip { chip, _ in chip.pressPowerButton() } == false)
    #expect(!lines.level(9), "ACPI is off")
    device.write(at: 0, width: .word, value: 0xFFFF)
    device.write8(Power.Window.command.offset, Power.SystemManagementCommand.enableACPI)
    #expect(device.read8(4) & 1 == 1)
    device.write(at: 2, width: .word, value: 0x100)
    #expect(device.withChip { chip, _ in chip.pressPowerButton() } == true)
    #expect(lines.level(9))
    #expect(device.read(at: 0, width: .doubleword) == 0x0100_0100)
    device.write(at: 0, width: .word, value: 0x0001)
    #expect(lines.level(9), "another bit does not clear it")
    device.write(at: 0, width: .word, value: 0x0100)
    #expect(!lines.level(9))
    device.write8(Power.Window.command.offset, Power.SystemManagementCommand.disableACPI)
    #expect(device.read8(4) & 1 == 0)
  }

  @Test func timerRateAndWidth() {
    var chip = Power()
    for seconds: UInt64 in [0, 1, 4, 5, 3600] {
      let now = MachineTime(rawValue: seconds * 1_000_000_000)
      let expected = seconds * 3_579_545 & 0xFF_FFFF
      #expect(chip.read(at: 8, width: .doubleword, now: now) == expected)
    }
    #expect(chip.read16(8, 1_000_000) == 3579)
    chip.write16(8, 0xFFFF)
    #expect(chip.read16(8) == 0)
  }

  @Test func timerCarryOnlyTicksWhenWanted() {
    let lines = LineRecorder()
    let clock = HandClock()
    let device = ChipDevice(Power(), lines: [InterruptLine(9, of: lines)], clock: clock)
    #expect(!clock.hasDeadline)
    device.withChip { chip, _ in chip.isACPIEnabled = true }
    device.write(at: 2, width: .word, value: 1)
    let half: UInt64 = (1 << 23) * 1_000_000_000 / 3_579_545
    clock.advance(nanoseconds: half - 10)
    #expect(!lines.level(9))
    clock.advance(nanoseconds: 20)
    #expect(lines.level(9))
    #expect(!clock.hasDeadline)
    device.write(at: 0, width: .word, value: 1)
    #expect(!lines.level(9))
    clock.advance(nanoseconds: half)
    #expect(lines.rises(9) == 2)
  }

  @Test func sleepStatesAndReset() {
    var chip = Power()
    chip.write16(4, Power.SleepType.softOff << 10)
    #expect(chip.takeRequests() == [])
    chip.write16(4, Power.SleepType.softOff << 10 | Power.Control.sleepEnable | 1)
    #expect(chip.takeRequests() == .powerOff)
    #expect(chip.read16(4) == 1, "SLP_EN reads as 0")
    chip.write16(4, Power.SleepType.suspendToMemory << 10 | Power.Control.sleepEnable)
    #expect(chip.takeRequests() == .suspendToMemory)
    chip.write16(4, 7 << 10 | Power.Control.sleepEnable)
    #expect(chip.takeRequests() == [])
    chip.write8(Power.Window.resetControl.offset, 0x02)
    #expect(chip.takeRequests() == [])
    chip.write8(Power.Window.resetControl.offset, 0x06)
    #expect(chip.takeRequests() == .reset)
    #expect(chip.read8(Power.Window.resetControl.offset) == 0x06)
    chip.write8(Power.Window.resetControl.offset, 0x06)
    #expect(chip.takeRequests() == [], "only the edge resets")
    chip.reset()
    chip.write8(Power.Window.resetControl.offset, Power.ResetControl.value)
    #expect(chip.takeRequests() == .reset)
  }

  @Test func generalPurposeEvents() {
    var chip = Power()
    chip.isACPIEnabled = true
    let base = Power.Window.generalEvents.offset
    chip.write16(base + 2, 0x0004)
    chip.raiseGeneralEvent(1)
    chip.raiseGeneralEvent(99)
    #expect(chip.outputs == 0)
    chip.raiseGeneralEvent(2)
    #expect(chip.outputs == 1)
    #expect(chip.read16(base) == 0x0006)
    chip.write16(base, 0x0004)
    #expect(chip.outputs == 0 && chip.read16(base) == 0x0002)
  }

  @Test func fuzzed() throws {
    try fuzz(Power(), offsets: 0...0x5A, seed: 4) { chip, random, _ in
      chip.pressPowerButton()
      chip.raiseGeneralEvent(Int(truncatingIfNeeded: random.next() % 20))
    }
  }
}
