import Platform
import Synchronization

/// One-line messages for a person, from anywhere on the board to whoever listens to the machine's events.
final class BoardNotices: Sendable {
  private let handler = Monitor<(@Sendable (String) -> Void)?>(nil)

  func set(_ handler: @escaping @Sendable (String) -> Void) {
    self.handler.update { $0 = handler }
  }

  func send(_ line: String) { handler.read { $0 }?(line) }
}

/// Sends a message once: a guest that runs into an error again and again must not fill anybody's log.
final class FirstReport: Sendable {
  private let notices: BoardNotices
  private let isSpent = Atomic<Bool>(false)

  init(_ notices: BoardNotices) { self.notices = notices }

  func send(_ line: @autoclosure () -> String) {
    if !isSpent.exchange(true, ordering: .relaxed) { notices.send(line()) }
  }
}
