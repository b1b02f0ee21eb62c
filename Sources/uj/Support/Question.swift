import CLinux
import Hosting

/// Asking the person at the terminal, and running programs there.
enum Question {
  /// false when there is nobody to ask.
  static func ask(_ text: String) -> Bool {
    guard isatty(0) == 1 else { return false }
    write("\(text) [y/N] ", to: 2)
    let answer = readLine()?.lowercased() ?? ""
    return answer == "y" || answer == "yes"
  }

  /// Runs a shell command on this terminal; `$0` is the argument. Returns its exit status.
  static func runShell(_ command: String, _ argument: String) -> Int32 {
    let strings: [UnsafeMutablePointer<CChar>?] =
      [strdup("sh"), strdup("-c"), strdup(command), strdup(argument), nil]
    defer { for string in strings { free(string) } }
    var child = pid_t()
    guard
      posix_spawn(&child, "/bin/sh", nil, nil, strings, linux_process_environment()) == 0
    else { return 127 }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, linux_error_number() == EINTR {}
    return status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
  }
}
