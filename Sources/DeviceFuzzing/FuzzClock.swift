import Devices
import Synchronization

/// Machine time that the fuzzer moves. Timers fire inside `advance`, on its thread, in the order of their deadlines.
package final class FuzzClock: MachineClock {
  private final class Timer: MachineTimer {
    let body: @Sendable () -> Void
    let deadline = Atomic<UInt64>(.max)
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func set(deadline: MachineTime?) {
      self.deadline.store(deadline?.rawValue ?? .max, ordering: .relaxed)
    }
  }

  /// More than this many timers a call do not fire: the host was too busy, and the rest comes late.
  private static let firingLimit = 64
  private let time = Atomic<UInt64>(0)
  private let timers = Mutex<[Timer]>([])

  package init() {}

  package var now: MachineTime { MachineTime(rawValue: time.load(ordering: .relaxed)) }

  package func makeTimer(_ body: @escaping @Sendable () -> Void) -> any MachineTimer {
    let timer = Timer(body)
    timers.withLock { $0.append(timer) }
    return timer
  }

  /// Lets `nanoseconds` pass.
  package func advance(nanoseconds: UInt64) {
    let end = now.advanced(nanoseconds: nanoseconds).rawValue
    let timers = timers.withLock { $0 }
    for _ in 0..<Self.firingLimit {
      var next: Timer?
      var earliest = UInt64.max
      for timer in timers {
        let deadline = timer.deadline.load(ordering: .relaxed)
        if deadline < earliest { (next, earliest) = (timer, deadline) }
      }
      guard let next, earliest <= end else { break }
      time.store(max(now.rawValue, earliest), ordering: .relaxed)
      next.deadline.store(.max, ordering: .relaxed)
      next.body()
    }
    time.store(end, ordering: .relaxed)
  }
}
