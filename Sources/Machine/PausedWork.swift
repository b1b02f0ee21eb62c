import Platform

/// Something to be done while the guest stands still, on its way to the supervisor and back.
final class PausedWork: Sendable {
  /// The machine ends as suspended when the work is done.
  let ends: Bool
  private let body: @Sendable (Board) throws -> Void
  private let result = Monitor<Result<UInt64, any Error>?>(nil)

  init(ends: Bool, _ body: @escaping @Sendable (Board) throws -> Void) {
    self.ends = ends
    self.body = body
  }

  /// With the board paused.
  func run(_ board: Board) throws { try body(board) }

  func end(_ outcome: Result<UInt64, any Error>) { result.update { $0 = $0 ?? outcome } }

  /// The supervisor always answers: it does the work or ends.
  ///
  /// - Returns: nanoseconds for which the guest stood still.
  func wait() throws -> UInt64 { try result.wait { $0 }.get() }
}
