import CLinux
import Platform

/// A terminal in raw mode: every key goes to the guest. Given back as it was when the value ends.
struct RawTerminal: ~Copyable {
  private let descriptor: Int32
  private var saved = termios()
  private let isTerminal: Bool

  /// Does nothing when the descriptor is no terminal.
  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    isTerminal = tcgetattr(descriptor, &saved) == 0
    guard isTerminal else { return }
    var raw = saved
    cfmakeraw(&raw)
    tcsetattr(descriptor, TCSANOW, &raw)
  }

  deinit {
    guard isTerminal else { return }
    // What a guest's program may have left switched on: full screen, mouse, bracketed paste, hidden cursor, colours.
    let reset =
      "\u{1B}[?1049l\u{1B}[?1000l\u{1B}[?1002l\u{1B}[?1003l\u{1B}[?1006l\u{1B}[?1004l"
      + "\u{1B}[?2004l\u{1B}[?1l\u{1B}>\u{1B}[?7h\u{1B}[?25h\u{1B}[0m\u{1B}(B\u{0F}"
    _ = reset.utf8CString.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count - 1) }
    var old = saved
    tcsetattr(descriptor, TCSADRAIN, &old)
  }
}
