import CLinux
import Platform

/// Signals as events of a poll loop: handlers set a bit and raise an eventfd.
///
/// Not signalfd(2): that needs the signals blocked, and child processes would inherit the mask.
final class SignalInbox {
  static let numbers: [Int32] = [SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGCONT, SIGTSTP]

  nonisolated(unsafe) private static var descriptor: Int32 = -1
  /// One flag a signal number; written by handlers, which may run on any thread.
  nonisolated(unsafe) private static let flags: UnsafeMutablePointer<UInt8> = {
    let flags = UnsafeMutablePointer<UInt8>.allocate(capacity: 65)
    flags.initialize(repeating: 0, count: 65)
    return flags
  }()

  private let notifier: EventNotifier
  private var old: [Int32: sigaction] = [:]

  init() throws(PlatformError) {
    notifier = try EventNotifier()
    Self.descriptor = notifier.rawDescriptor
    for number in Self.numbers {
      // Made before a handler can run.
      Self.flags[Int(number)] = 0
      install(number)
    }
    // A parent may have left some of them blocked.
    var set = sigset_t()
    sigemptyset(&set)
    for number in Self.numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
  }

  deinit {
    for (number, action) in old {
      var action = action
      sigaction(number, &action, nil)
    }
    Self.descriptor = -1
  }

  var rawDescriptor: Int32 { notifier.rawDescriptor }

  /// The signals that came since the last call.
  func take() -> [Int32] {
    notifier.drain()
    return Self.numbers.filter { number in
      // Only what was seen is cleared: a signal may come at any moment.
      guard Self.flags[Int(number)] != 0 else { return false }
      Self.flags[Int(number)] = 0
      return true
    }
  }

  /// Stops the process as C-z would have; returns when it goes on.
  func stopProcess() {
    var action = old[SIGTSTP] ?? sigaction()
    sigaction(SIGTSTP, &action, nil)
    raise(SIGTSTP)
    install(SIGTSTP)
    Self.flags[Int(SIGCONT)] = 0
  }

  private func install(_ number: Int32) {
    var previous = sigaction()
    _ = linux_handle_signal(number, { SignalInbox.handle($0) }, &previous)
    if old[number] == nil { old[number] = previous }
    // nohup(1): who ignored a hang-up goes on ignoring it.
    if number == SIGHUP, linux_is_ignored(&previous) != 0 { sigaction(number, &previous, nil) }
  }

  private static func handle(_ number: Int32) {
    let saved = linux_error_number()
    flags[Int(number)] = 1
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
    linux_set_error_number(saved)
  }
}
