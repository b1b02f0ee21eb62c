import Platform

/// What a board asks of its owner.
enum BoardOutcome: Sendable {
  case reset, powerOff
  case tripleFault(processor: Int)
  /// The board lives on.
  case pause
  case debugExit(status: Int32)
  case failed(report: String)
}

/// From the devices and processors of a board to its owner. The first outcome counts: a board that is asked to go takes
/// no second wish.
final class BoardSignals: Sendable {
  private struct State {
    var handler: (@Sendable (BoardOutcome) -> Void)?
    var isSpent = false
  }

  private let state = Monitor(State())

  func set(_ handler: @escaping @Sendable (BoardOutcome) -> Void) {
    state.update { $0.handler = handler }
  }

  func send(_ outcome: BoardOutcome) {
    let handler = state.update { state -> (@Sendable (BoardOutcome) -> Void)? in
      guard !state.isSpent, let handler = state.handler else { return nil }
      if case .pause = outcome { return handler }
      state.isSpent = true
      return handler
    }
    handler?(outcome)
  }
}
