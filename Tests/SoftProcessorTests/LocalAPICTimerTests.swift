import CSoftProcessor
import Glibc
import Platform
import SoftProcessor
import Testing

private typealias Register = APICFixture.Register

/// The local APIC's timer, waiting for events, and the paravirtual clock.
@Suite struct LocalAPICTimerTests {
  @Test("One-shot: fires once after count times divider nanoseconds")
  func oneShot() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.timer, value: 0x40)
    apic.writePage(Register.divide, value: 0b0011)  // by 16
    let start = MonotonicClock.now
    apic.writePage(Register.initialCount, value: 1_000_000)  // 16 ms
    let count = apic.readPage(Register.currentCount, size: 4)
    #expect(count > 0 && count <= 1_000_000)
    #expect(!apic.hasInterrupt())
    #expect(fixture.waitForInterrupt(0, seconds: 5))
    #expect(MonotonicClock.now - start >= 16_000_000)
    #expect(apic.acknowledge() == 0x40)
    apic.endInterrupt()
    #expect(apic.readPage(Register.currentCount, size: 4) == 0)
    #expect(!fixture.waitForInterrupt(0, seconds: 0.04))
  }

  @Test("Periodic: goes on until the count is zero")
  func periodic() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.timer, value: 0x41 | 1 << 17)
    apic.writePage(Register.divide, value: 0b1011)  // by 1
    apic.writePage(Register.initialCount, value: 2_000_000)
    for _ in 0..<5 {
      #expect(fixture.waitForInterrupt(0, seconds: 5))
      #expect(apic.acknowledge() == 0x41)
      apic.endInterrupt()
    }
    apic.writePage(Register.initialCount, value: 0)
    _ = apic.acknowledge()
    apic.endInterrupt()
    #expect(!fixture.waitForInterrupt(0, seconds: 0.02))
  }

  @Test("Deadline: of the time stamp counter; reads zero once it has passed")
  func deadline() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.setDeadline(1)
    #expect(fixture.cpus[0].pointee.tsc_deadline == 0, "not in deadline mode")
    apic.writePage(Register.timer, value: 0x42 | 2 << 17)
    let now = soft_host_tsc() &+ fixture.cpus[0].pointee.tsc_offset
    let ticks = TimeStampClock.host.kilohertz * 10  // 10 ms
    let start = MonotonicClock.now
    apic.setDeadline(now + ticks)
    #expect(soft_get_tsc_deadline(fixture.cpus[0]) == now + ticks)
    #expect(fixture.waitForInterrupt(0, seconds: 5))
    #expect(MonotonicClock.now - start >= 9_500_000)
    #expect(soft_get_tsc_deadline(fixture.cpus[0]) == 0)
    #expect(apic.acknowledge() == 0x42)
    apic.endInterrupt()
    // One in the past fires at once.
    apic.setDeadline(1)
    #expect(apic.acknowledge() == 0x42)
    apic.endInterrupt()
    // Zero disarms.
    apic.setDeadline(soft_host_tsc() &+ fixture.cpus[0].pointee.tsc_offset &+ ticks)
    apic.setDeadline(0)
    #expect(!fixture.waitForInterrupt(0, seconds: 0.03))
  }

  @Test("A processor that waits is woken by an interrupt, and uses no time meanwhile")
  func waiting() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.timer, value: 0x40)
    apic.writePage(Register.divide, value: 0b1011)
    apic.writePage(Register.initialCount, value: 300_000_000)
    var before = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before)
    let start = MonotonicClock.now
    soft_wait(fixture.cpus[0])
    let passed = MonotonicClock.now - start
    var after = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after)
    #expect(passed >= 290_000_000)
    #expect(fixture.events(0) == UInt32(SOFT_EVENT_INTERRUPT))
    let used = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec
    #expect(used < 3_000_000, "under one percent")
  }

  @Test("A clock's multiplier and shift give nanoseconds")
  func scale() {
    for kilohertz: UInt64 in [1_000_000, 2_294_608, 3_000_000, 4_999_999, 800_000, 999_999] {
      let clock = TimeStampClock(kilohertz: kilohertz)
      let (multiplier, shift) = clock.scale
      let ticks = kilohertz * 1000 * 3600  // an hour
      let shifted = shift < 0 ? ticks >> UInt64(-shift) : ticks << UInt64(shift)
      let product = shifted.multipliedFullWidth(by: UInt64(multiplier))
      let nanoseconds = product.high << 32 | product.low >> 32
      let expected = clock.nanoseconds(ticks: ticks)
      let difference = max(nanoseconds, expected) - min(nanoseconds, expected)
      #expect(difference < 2000, "\(kilohertz) kHz: \(nanoseconds)")
      #expect(multiplier >= 1 << 31)
    }
  }
}
