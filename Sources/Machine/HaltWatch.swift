import Platform

/// Finds out that a guest has halted for good, without costing a running one anything: it only looks at the processors
/// when they have neither come out nor used any time since the last look at the counters.
struct HaltWatch {
  private static let shortest: UInt64 = 1_000_000_000
  private static let longest: UInt64 = 64_000_000_000

  private var interval = shortest
  private var last: ProcessorCounters?
  /// When to look next (`MonotonicClock`).
  private(set) var deadline = MonotonicClock.now + shortest

  /// The guest was started, stopped or reset.
  mutating func restart() { self = HaltWatch() }

  /// At `deadline`, while the machine runs. True: the guest has halted for good; the board was looked at.
  mutating func look(at board: Board) -> Bool {
    defer { deadline = MonotonicClock.now + interval }
    let counters = board.counters
    guard counters == last else {
      last = counters
      interval = Self.shortest
      return false
    }
    let isStuck = board.isStuck()
    // The look itself counts as exits; a guest that sleeps soundly is looked at ever more rarely.
    last = board.counters
    interval = min(interval * 2, Self.longest)
    return isStuck
  }

  /// At `deadline`, while the machine counts as halted: whether it does something again.
  mutating func hasWoken(_ board: Board) -> Bool {
    defer { deadline = MonotonicClock.now + interval }
    interval = Self.shortest
    return board.counters != last
  }
}
