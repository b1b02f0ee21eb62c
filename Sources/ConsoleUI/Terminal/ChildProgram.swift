import CLinux

/// Runs a program on the user's terminal, which has been given back before.
enum ChildProgram {
  /// - Returns: its exit status, or 128 and the signal that ended it.
  static func run(_ path: String, _ arguments: [String]) -> Int32 {
    let strings = ([path] + arguments).map { strdup($0) } + [nil]
    defer { for string in strings { free(string) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Our own standard error goes to a file while the screen is ours.
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
    var child = pid_t()
    guard
      posix_spawn(&child, path, &actions, nil, strings, linux_process_environment()) == 0
    else { return 127 }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, linux_error_number() == EINTR {}
    return status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
  }
}
