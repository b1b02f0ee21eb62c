import Platform

/// One-line messages for a person, from anywhere on the board to whoever listens to the machine's events.
final class BoardNotices: Sendable {
  private let handler = Monitor<(@Sendable (String) -> Void)?>(nil)

  func set(_ handler: @escaping @Sendable (String) -> Void) {
    self.handler.update { $0 = handler }
  }

  func send(_ line: String) { handler.read { $0 }?(line) }
}
