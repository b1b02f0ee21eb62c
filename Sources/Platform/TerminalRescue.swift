import CLinux

/// Leaves the user's terminal whole when the process crashes: handlers of fatal signals write a fixed string and set the
/// line's modes back, then let the signal do what it would have done, so that Swift's backtrace is readable.
///
/// Everything a handler touches is allocated before and never freed: it must not call anything but write(2),
/// tcsetattr(3), dup2(2), sigaction(2) and raise(3).
package enum TerminalRescue {
  nonisolated(unsafe) private static var modes: UnsafeMutablePointer<termios>?
  nonisolated(unsafe) private static var text: UnsafeMutablePointer<UInt8>?
  nonisolated(unsafe) private static var textCount = 0
  nonisolated(unsafe) private static var oldActions: UnsafeMutablePointer<sigaction>?
  nonisolated(unsafe) private static var input: Int32 = STDIN_FILENO
  nonisolated(unsafe) private static var output: Int32 = STDOUT_FILENO
  nonisolated(unsafe) private static var errorCopy: Int32 = -1
  nonisolated(unsafe) private static var isArmed = false

  package static let fatal: [Int32] = [SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE]
  private static let signalCount = 65

  /// - Parameters:
  ///   - modes: The terminal's modes to set back.
  ///   - text: What undoes our modes of the terminal.
  ///   - input: The terminal whose modes those are.
  ///   - output: Where the text goes.
  ///   - errorCopy: Where standard error went before it was redirected; -1 when it was not.
  package static func arm(
    modes: termios, text: [UInt8], input: Int32 = STDIN_FILENO, output: Int32 = STDOUT_FILENO,
    errorCopy: Int32 = -1
  ) {
    if Self.modes == nil {
      Self.modes = .allocate(capacity: 1)
      oldActions = .allocate(capacity: signalCount)
      oldActions?.initialize(repeating: sigaction(), count: signalCount)
      Self.text = .allocate(capacity: 256)
      installStack()
    }
    Self.modes?.pointee = modes
    textCount = min(256, text.count)
    Self.text?.update(from: text, count: textCount)
    Self.input = input
    Self.output = output
    Self.errorCopy = errorCopy
    isArmed = true
    for number in fatal {
      guard let old = oldActions?.advanced(by: Int(number)) else { continue }
      _ = linux_handle_signal(number, { TerminalRescue.handle($0) }, old)
    }
  }

  /// The terminal is whole again: fatal signals do what they did before.
  package static func disarm() {
    guard isArmed else { return }
    isArmed = false
    for number in fatal {
      if let old = oldActions?.advanced(by: Int(number)) { sigaction(number, old, nil) }
    }
  }

  private static func handle(_ number: Int32) {
    if isArmed {
      isArmed = false
      if let text { _ = write(output, text, textCount) }
      if let modes { tcsetattr(input, TCSANOW, modes) }
      if errorCopy >= 0 { dup2(errorCopy, STDERR_FILENO) }
    }
    if let old = oldActions?.advanced(by: Int(number)) { sigaction(number, old, nil) }
    raise(number)
  }

  /// A stack of its own, because the first one may be what overflowed. Never freed.
  private static func installStack() {
    let size = 65536
    var stack = stack_t()
    stack.ss_sp = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    stack.ss_size = size
    sigaltstack(&stack, nil)
  }
}
