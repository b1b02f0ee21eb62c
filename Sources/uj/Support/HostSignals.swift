import CLinux

/// Signals of a process that runs a machine.
enum HostSignals {
  /// For `uj host`: TERM and INT are taken by the host's loop; a hang-up of some terminal means nothing.
  static func prepare() {
    block([SIGTERM, SIGINT])
    _ = linux_ignore_signal(SIGHUP)
    _ = linux_ignore_signal(SIGPIPE)
  }

  /// For `uj run`: the console session takes them. Blocked before there are threads, so that no other gets them.
  static func blockForConsole() {
    block(ending + [SIGTSTP])
  }

  /// Signals that end a machine in the foreground.
  static let ending = [SIGTERM, SIGINT, SIGHUP, SIGQUIT]

  private static func block(_ numbers: [Int32]) {
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }
}
