import Devices
import GuestMemory
import Testing

/// The watchdog's registers, with a clock of the test's.
@Suite struct WatchdogTimerTests {
  private func write(
    _ timer: inout WatchdogTimer, _ offset: UInt64, _ value: UInt64, _ now: UInt64
  ) {
    for step: UInt64 in [0x80, 0x86] {
      timer.write(at: 0xC, width: .word, value: step, now: MachineTime(nanoseconds: now))
    }
    timer.write(at: offset, width: .doubleword, value: value, now: MachineTime(nanoseconds: now))
  }

  @Test("preloads need the sequence before them, and keep 20 bits")
  func unlocking() {
    var timer = WatchdogTimer()
    timer.write(at: 0, width: .doubleword, value: 5, now: MachineTime(nanoseconds: 0))
    #expect(timer.read(at: 0, width: .doubleword, now: MachineTime(nanoseconds: 0)) == 0xF_FFFF)
    write(&timer, 0, 0xFFF0_0005, 0)
    #expect(timer.read(at: 0, width: .doubleword, now: MachineTime(nanoseconds: 0)) == 5)
    timer.write(at: 0, width: .doubleword, value: 7, now: MachineTime(nanoseconds: 0))
    #expect(timer.read(at: 0, width: .doubleword, now: MachineTime(nanoseconds: 0)) == 5)
  }

  @Test("a timer that nobody has enabled never expires")
  func disabled() {
    var timer = WatchdogTimer()
    write(&timer, 0xC, 0x100, 0)
    #expect(timer.deadline == nil)
    timer.advance(to: MachineTime(nanoseconds: .max))
    #expect(timer.takeRequests() == [])
  }
}
