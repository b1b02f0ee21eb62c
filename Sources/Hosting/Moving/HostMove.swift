import Inventory
import Machine
import Platform
import Synchronization

/// A running machine's way to another host: the one that is under way, or the last.
final class HostMove: Sendable {
  let progress = MovingProgress()
  /// In words.
  let destination: String
  /// Disks that both hosts use, by their place in the configuration.
  let sharedDisks: Set<Int>
  /// Whoever asked for it has heard that it is done.
  let isReported = Atomic<Bool>(false)

  init(destination: String, sharedDisks: Set<Int>) {
    self.destination = destination
    self.sharedDisks = sharedDisks
  }

  /// It is not over.
  var isUnderWay: Bool {
    switch progress.state.phase {
    case .preparing, .disks, .memory, .rounds, .standstill: true
    case .uncertain, .done, .failed: false
    }
  }

  var isUncertain: Bool { progress.state.phase == .uncertain }

  var json: JSONValue {
    let state = progress.state
    return [
      "phase": .string(state.phase.rawValue), "done": .unsigned(state.done),
      "total": .unsigned(state.total), "sent": .unsigned(state.sent),
      "round": .unsigned(state.round), "left": .unsigned(state.left),
      "rate": .unsigned(state.rate), "throttle": .unsigned(state.throttle),
      "standstillMilliseconds": .number(Double(state.standstill) / 1e6),
      "destination": .string(destination),
      "reason": .optional(state.reason, JSONValue.string),
    ]
  }
}
