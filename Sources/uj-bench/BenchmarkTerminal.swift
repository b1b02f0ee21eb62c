import CLinux
import Platform
import VirtualTerminal

/// A program in a pseudo-terminal, with our own terminal at the other end.
final class BenchmarkTerminal {
  let process: pid_t
  private let master: FileDescriptor
  private var terminal: VirtualTerminal
  private(set) var byteCount = 0
  private var chunk = [UInt8](repeating: 0, count: 65536)

  init(_ arguments: [String], columns: Int, rows: Int, folder: String) throws {
    terminal = VirtualTerminal(columns: columns, rows: rows, scrollbackLimit: 0)
    let number = linux_open_terminal_master()
    guard number >= 0, linux_unlock_terminal(number) == 0 else {
      throw BenchmarkError("no pseudo-terminal can be opened")
    }
    master = FileDescriptor(owning: number)
    let slave = linux_open_terminal_slave(number)
    guard slave >= 0 else { throw BenchmarkError("no pseudo-terminal can be opened") }
    defer { CLinux.close(slave) }
    // The shell gives the terminal its size and becomes the program.
    let command =
      "stty rows \(rows) cols \(columns); exec env -u TMUX TERM=xterm-256color LC_ALL=C.UTF-8"
      + " UNDERJACK_HOME='\(folder)/home' XDG_RUNTIME_DIR='\(folder)'"
      + " XDG_CONFIG_HOME='\(folder)/config' \"$@\""
    let strings = (["/bin/sh", "-c", command, "sh"] + arguments).map { strdup($0) } + [nil]
    defer { for string in strings { free(string) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for target: Int32 in 0...2 { posix_spawn_file_actions_adddup2(&actions, slave, target) }
    var child = pid_t()
    guard
      posix_spawn(&child, "/bin/sh", &actions, nil, strings, linux_process_environment()) == 0
    else { throw BenchmarkError("\(arguments[0]) can not be started") }
    process = child
  }

  func close() {
    kill(process, SIGKILL)
    _ = ChildProcess.wait(for: process)
  }

  var text: String { terminal.text() }

  func press(_ keys: [UInt8]) {
    _ = keys.withUnsafeBytes { write(master.rawValue, $0.baseAddress, $0.count) }
  }

  /// Takes what the program has written; waits for it at most so long.
  @discardableResult
  func take(milliseconds: Int32) -> Bool {
    var ready = pollfd(fd: master.rawValue, events: Int16(POLLIN), revents: 0)
    guard poll(&ready, 1, milliseconds) > 0 else { return false }
    let count = chunk.withUnsafeMutableBytes { read(master.rawValue, $0.baseAddress, $0.count) }
    guard count > 0 else { return false }
    byteCount += count
    chunk[..<count].withUnsafeBytes { terminal.feed($0) }
    _ = terminal.drainAnswers()
    return true
  }

  func drain() { while take(milliseconds: 0) {} }

  func watch(seconds: Double) {
    let end = MonotonicClock.now &+ UInt64(seconds * 1e9)
    while MonotonicClock.now < end { take(milliseconds: 50) }
  }

  func wait(seconds: Double, until fits: (String) -> Bool) throws {
    let end = MonotonicClock.now &+ UInt64(seconds * 1e9)
    while !fits(text) {
      take(milliseconds: 100)
      guard MonotonicClock.now < end else {
        throw BenchmarkError("the screen did not come within \(seconds) s; it shows:\n\(text)")
      }
    }
  }

  /// Milliseconds from a key to the screen that answers it.
  func time(pressing keys: [UInt8], until fits: (String) -> Bool) throws -> Double {
    drain()
    let start = MonotonicClock.now
    press(keys)
    while !fits(text) {
      take(milliseconds: 100)
      guard MonotonicClock.now - start < 10_000_000_000 else {
        throw BenchmarkError("no answer to a key within 10 s; the screen shows:\n\(text)")
      }
    }
    return Double(MonotonicClock.now - start) / 1e6
  }
}
