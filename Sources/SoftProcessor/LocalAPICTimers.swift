import CLinux
import CSoftProcessor
import Platform
import Synchronization

/// The timers of all local APICs of a machine, on one thread that sleeps until the earliest deadline.
///
/// A processor sets its deadline thousands of times a second, mostly later than the one before. The thread is woken only
/// for an earlier one; otherwise it finds at its next wake-up that there is nothing to do yet.
package final class LocalAPICTimers: @unchecked Sendable {
  // @unchecked: everything but `clock` is touched with `mutex` held.
  private struct Entry {
    /// Nanoseconds of `MonotonicClock`.
    var deadline: UInt64
    /// Of a periodic timer.
    var period: UInt64
    let apic: Unmanaged<LocalAPIC>
  }

  private struct Shared {
    var entries: [UInt32: Entry] = [:]
    /// When the thread will look again.
    var wakeup: UInt64 = 0
    /// The machine's time stands still since then: nothing fires.
    var stoppedAt: UInt64?
    var isStopping = false
  }

  let clock: TimeStampClock
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  /// Of the kernel (timerfd_create(2)): a processor that sets its timer changes no thread for that.
  private let alarm: FileDescriptor
  private var shared = Shared()
  private var thread: PosixThread?

  /// Ticks of a periodic timer are at least this far apart, whatever the guest asks for.
  private static let shortestPeriod: UInt64 = 100_000

  /// - Throws: `PlatformError` when the process has no descriptors left.
  init(clock: TimeStampClock) throws(PlatformError) {
    self.clock = clock
    alarm = FileDescriptor(
      owning: try systemCall("timerfd_create") {
        timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC))
      })
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  private func locked<Result>(_ body: (inout Shared) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body(&shared)
  }

  /// The thread looks again at `time`; .max: only when it is told to. With the lock held.
  private func wake(at time: UInt64, _ shared: inout Shared) {
    shared.wakeup = time
    var setting = itimerspec()
    if time != .max {
      // Zero would turn the alarm off.
      let time = max(time, 1)
      setting.it_value = timespec(
        tv_sec: Int(clamping: time / 1_000_000_000), tv_nsec: Int(time % 1_000_000_000))
    }
    _ = timerfd_settime(alarm.rawValue, Int32(TFD_TIMER_ABSTIME), &setting, nil)
  }

  /// Starts the thread.
  package func start() throws(PlatformError) {
    guard thread == nil else { return }
    thread = try PosixThread(name: "apic timers", role: .processor) { [unowned self] in serve() }
  }

  /// Ends the thread; no timer fires afterwards. Must be called before this object goes.
  package func stop() {
    locked { shared in
      shared.isStopping = true
      shared.entries = [:]
      wake(at: 0, &shared)
    }
    thread?.join()
    thread = nil
  }

  // MARK: Time

  /// Nanoseconds of `MonotonicClock`, or those at which the machine's time stands still.
  var now: UInt64 { locked { $0.stoppedAt } ?? MonotonicClock.now }

  /// Nothing fires from here on.
  func stopTime(at time: UInt64) { locked { $0.stoppedAt = $0.stoppedAt ?? time } }

  /// All deadlines move by as much as time stood still.
  func continueTime(at time: UInt64) {
    locked { shared in
      guard let stopped = shared.stoppedAt else { return }
      shared.stoppedAt = nil
      for key in shared.entries.keys {
        guard let deadline = shared.entries[key]?.deadline else { continue }
        let (moved, overflow) = deadline.addingReportingOverflow(time &- stopped)
        shared.entries[key]?.deadline = overflow ? .max - 1 : moved
      }
      wake(at: 0, &shared)
    }
  }

  // MARK: Setting

  /// - Parameters:
  ///   - deadline: as `now`.
  ///   - period: nanoseconds between later ticks; 0 for none.
  func set(_ apic: LocalAPIC, deadline: UInt64, period: UInt64 = 0) {
    locked { shared in
      guard !shared.isStopping else { return }
      shared.entries[apic.identity] = Entry(
        deadline: deadline, period: period == 0 ? 0 : max(period, Self.shortestPeriod),
        apic: .passUnretained(apic))
      if deadline < shared.wakeup { wake(at: deadline, &shared) }
    }
  }

  func cancel(_ apic: LocalAPIC) {
    locked { _ = $0.entries.removeValue(forKey: apic.identity) }
  }

  /// When the timer fires next, or nil.
  func deadline(of apic: LocalAPIC) -> UInt64? {
    locked { $0.entries[apic.identity]?.deadline }
  }

  // MARK: The thread

  private func serve() {
    while true {
      let isStopping = locked { shared in
        let next = shared.stoppedAt == nil ? fireDue(at: MonotonicClock.now) : .max
        if !shared.isStopping { wake(at: next, &shared) }
        return shared.isStopping
      }
      if isStopping { return }
      var count: UInt64 = 0
      // Until the alarm goes off; whatever else ends the wait, there is no harm in looking.
      _ = read(alarm.rawValue, &count, MemoryLayout<UInt64>.size)
    }
  }

  /// Fires what is due. With the lock held, so that a processor that sets its timer anew at this moment finds it either
  /// fired or replaced; a request bit needs no lock of its own.
  private func fireDue(at now: UInt64) -> UInt64 {
    var earliest = UInt64.max
    for (key, entry) in shared.entries {
      guard entry.deadline <= now else {
        earliest = min(earliest, entry.deadline)
        continue
      }
      entry.apic._withUnsafeGuaranteedRef { $0.timerFired() }
      if entry.period > 0 {
        // Ticks that were missed become one.
        let missed = (now &- entry.deadline) / entry.period
        let next = entry.deadline &+ (missed &+ 1) &* entry.period
        shared.entries[key]?.deadline = next
        earliest = min(earliest, next)
      } else {
        shared.entries.removeValue(forKey: key)
      }
    }
    return earliest
  }
}

/// Guest time stamps in terms of host time.
package struct TimeStampClock: Sendable {
  /// Frequency of the guest's (and the host's) time stamp counter.
  package let kilohertz: UInt64

  package init(kilohertz: UInt64) { self.kilohertz = max(1, kilohertz) }

  /// This host's, measured once in a process.
  package static let host = TimeStampClock(kilohertz: measure())

  /// Nanoseconds that `ticks` take; saturates.
  package func nanoseconds(ticks: UInt64) -> UInt64 {
    let product = ticks.multipliedFullWidth(by: 1_000_000)
    guard product.high < kilohertz else { return .max }
    return kilohertz.dividingFullWidth(product).quotient
  }

  /// Multiplier and shift of a paravirtual clock: ns = ((ticks << shift) * multiplier) >> 32, a negative shift going to
  /// the right.
  package var scale: (multiplier: UInt32, shift: Int8) {
    // multiplier / 2^32 * 2^shift = 10^6 / kHz, multiplier as large as it can be.
    var shift: Int8 = 0
    var numerator: UInt64 = 1_000_000
    var denominator = kilohertz
    while numerator >= denominator {
      denominator <<= 1
      shift += 1
    }
    while numerator << 1 < denominator {
      numerator <<= 1
      shift -= 1
    }
    return (UInt32(clamping: (numerator << 32) / denominator), shift)
  }

  /// The frequency that the host's CPUID tells, or else what five milliseconds of counting give.
  private static func measure() -> UInt64 {
    var registers: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    func leaf(_ number: UInt32) -> (UInt32, UInt32, UInt32, UInt32) {
      withUnsafeMutablePointer(to: &registers) { pointer in
        pointer.withMemoryRebound(to: UInt32.self, capacity: 4) {
          soft_host_cpuid(number, 0, $0)
        }
      }
      return registers
    }
    if leaf(0).0 >= 0x15 {
      let (denominator, numerator, crystal, _) = leaf(0x15)
      if denominator > 0 && numerator > 0 && crystal > 0 {
        return UInt64(crystal) &* UInt64(numerator) / UInt64(denominator) / 1000
      }
    }
    let start = samplePair()
    usleep(5000)
    let end = samplePair()
    guard end.time > start.time else { return 1_000_000 }
    let product = (end.ticks &- start.ticks).multipliedFullWidth(by: 1_000_000)
    let elapsed = end.time - start.time
    guard product.high < elapsed else { return 1_000_000 }
    return elapsed.dividingFullWidth(product).quotient
  }

  /// Counter and clock at one moment: the tightest of several tries.
  static func samplePair() -> (ticks: UInt64, time: UInt64) {
    var best: (ticks: UInt64, time: UInt64) = (0, 0)
    var width = UInt64.max
    for _ in 0..<8 {
      let before = soft_host_tsc()
      let time = MonotonicClock.now
      let after = soft_host_tsc()
      if after &- before < width {
        width = after &- before
        best = (before &+ (after &- before) / 2, time)
      }
    }
    return best
  }
}
