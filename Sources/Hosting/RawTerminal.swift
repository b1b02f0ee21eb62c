import CLinux
import Platform

/// A terminal in raw mode: every key goes to the guest. Given back as it was when the value ends, when the process is
/// stopped for a while, and when it dies by a fault.
struct RawTerminal: ~Copyable {
  private let descriptor: Int32
  private var saved = termios()
  let isTerminal: Bool

  /// What a guest's program may have left switched on: full screen, mouse, bracketed paste, hidden cursor, colours.
  private static let reset = Array(
    ("\u{1B}[?1049l\u{1B}[?1000l\u{1B}[?1002l\u{1B}[?1003l\u{1B}[?1006l\u{1B}[?1004l"
      + "\u{1B}[?2004l\u{1B}[?1l\u{1B}>\u{1B}[?7h\u{1B}[?25h\u{1B}[0m\u{1B}(B\u{0F}").utf8)

  /// Does nothing when the descriptor is no terminal.
  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    isTerminal = tcgetattr(descriptor, &saved) == 0
    take()
  }

  /// Raw mode, again after `giveBack`.
  func take() {
    guard isTerminal else { return }
    var raw = saved
    cfmakeraw(&raw)
    TerminalRescue.arm(modes: saved, text: Self.reset, input: descriptor, output: descriptor)
    tcsetattr(descriptor, TCSANOW, &raw)
  }

  /// The mode that it had before.
  func giveBack() {
    guard isTerminal else { return }
    _ = Self.reset.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    var old = saved
    tcsetattr(descriptor, TCSADRAIN, &old)
    TerminalRescue.disarm()
  }

  deinit { giveBack() }
}
