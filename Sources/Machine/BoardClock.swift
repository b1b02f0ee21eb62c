import Devices
import Platform

/// Machine time: host time less the time spent paused. Timers fire on one thread of their own, which sleeps while no
/// deadline is set.
final class BoardClock: MachineClock {
  private struct State {
    var pausedAt: UInt64?
    /// Host nanoseconds that are not machine time.
    var skipped: UInt64
    /// Machine time that passed before this process.
    var past: UInt64 = 0
    /// A timer that waits is kept alive by its entry here.
    var deadlines: [ObjectIdentifier: (deadline: UInt64, timer: BoardTimer)] = [:]
    var isStopping = false
    /// Grows with every change, so that the thread does not sleep through one.
    var generation: UInt64 = 0
  }

  private let state: Monitor<State>
  private let thread: Monitor<PosixThread?>

  /// Starts paused at time zero.
  init() throws(PlatformError) {
    let start = MonotonicClock.now
    let state = Monitor(State(pausedAt: start, skipped: start))
    self.state = state
    thread = Monitor(try PosixThread(name: "timers") { Self.serve(state) })
  }

  var now: MachineTime {
    let host = MonotonicClock.now
    return state.read {
      MachineTime(
        nanoseconds: ($0.pausedAt ?? max(host, $0.skipped)) &- $0.skipped &+ $0.past)
    }
  }

  /// Time goes on from here with the next `resume`. Only while paused.
  func restore(_ time: MachineTime) {
    change { state in
      guard let pausedAt = state.pausedAt else { return }
      state.skipped = pausedAt
      state.past = time.rawValue
    }
  }

  func makeTimer(_ body: @escaping @Sendable () -> Void) -> any MachineTimer {
    BoardTimer(clock: self, body: body)
  }

  func resume() {
    let host = MonotonicClock.now
    change { state in
      guard let pausedAt = state.pausedAt else { return }
      state.skipped &+= max(host, pausedAt) &- pausedAt
      state.pausedAt = nil
    }
  }

  func pause() {
    let host = MonotonicClock.now
    change { state in
      if state.pausedAt == nil { state.pausedAt = host }
    }
  }

  /// Ends the timer thread. No timer fires afterwards.
  func stop() {
    change { state in
      state.isStopping = true
      state.deadlines = [:]
    }
    let thread = self.thread.update { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
  }

  fileprivate func set(_ timer: BoardTimer, deadline: MachineTime?) {
    let key = ObjectIdentifier(timer)
    change { state in
      if let deadline, !state.isStopping {
        state.deadlines[key] = (deadline.rawValue, timer)
      } else {
        state.deadlines.removeValue(forKey: key)
      }
    }
  }

  private func change(_ body: (inout State) -> Void) {
    state.update { state in
      state.generation &+= 1
      body(&state)
    }
  }

  /// What the timer thread found under the lock.
  private enum Step {
    case fire([BoardTimer])
    case sleep(until: UInt64?, generation: UInt64)
    case stop
  }

  private static func serve(_ state: Monitor<State>) {
    while true {
      switch state.update({ nextStep(&$0) }) {
      case .stop: return
      case .fire(let timers):
        for timer in timers { timer.body() }
      case .sleep(let deadline, let generation):
        let changed: (inout State) -> Bool? = { $0.generation != generation ? true : nil }
        if let deadline {
          _ = state.wait(until: deadline, changed)
        } else {
          _ = state.wait(changed)
        }
      }
    }
  }

  private static func nextStep(_ state: inout State) -> Step {
    if state.isStopping { return .stop }
    guard state.pausedAt == nil else { return .sleep(until: nil, generation: state.generation) }
    let now = MonotonicClock.now &- state.skipped &+ state.past
    let due = state.deadlines.filter { $0.value.deadline <= now }
    if !due.isEmpty {
      for key in due.keys { state.deadlines.removeValue(forKey: key) }
      return .fire(due.values.map(\.timer))
    }
    let next = state.deadlines.values.lazy.map(\.deadline).min()
    let wakeup = next.map { deadline in
      // What is due was fired: deadlines lie after `past`.
      let (sum, overflow) = (deadline &- min(state.past, deadline)).addingReportingOverflow(
        state.skipped)
      return overflow ? UInt64.max : sum
    }
    return .sleep(until: wakeup, generation: state.generation)
  }
}

/// A deadline of a `BoardClock`.
private final class BoardTimer: MachineTimer {
  private let clock: BoardClock
  fileprivate let body: @Sendable () -> Void

  init(clock: BoardClock, body: @escaping @Sendable () -> Void) {
    self.clock = clock
    self.body = body
  }

  func set(deadline: MachineTime?) { clock.set(self, deadline: deadline) }
}
