import Platform

/// Something to be done while the guest stands still, on its way to the supervisor and back.
final class PausedWork: Sendable {
  /// What follows.
  enum After {
    /// The guest goes on, if it did not stand still before.
    case resumes
    /// It stands still, as if a person had asked for it.
    case stays
    case ends(MachineEnd)
  }
  private let body: @Sendable (Board) throws -> After
  private let result = Monitor<Result<UInt64, any Error>?>(nil)

  init(_ body: @escaping @Sendable (Board) throws -> After) { self.body = body }

  /// With the board paused.
  func run(_ board: Board) throws -> After { try body(board) }

  func end(_ outcome: Result<UInt64, any Error>) { result.update { $0 = $0 ?? outcome } }

  /// The supervisor always answers: it does the work or ends.
  ///
  /// - Returns: nanoseconds for which the guest stood still.
  func wait() throws -> UInt64 { try result.wait { $0 }.get() }
}
