import Glibc
import Platform
import TestGuests

/// A program in a real terminal: a private tmux server, driven by keys and read back as text.
struct TerminalSession {
  static let missingTool: String? =
    access("/usr/bin/tmux", X_OK) == 0 ? nil : "tmux is missing: install tmux"

  let socket: String

  /// Starts `command` in a terminal of the given size.
  init(
    _ command: String, columns: Int = 100, rows: Int = 30, environment: [String: String] = [:],
    terminal: String = "screen-256color"
  ) throws {
    let folder = try TestFolder.make("tmux")
    socket = "\(folder)/socket"
    let configuration = "\(folder)/tmux.conf"
    try writeFile(
      configuration,
      "set -g default-terminal \(terminal)\nset -g status off\nset -g escape-time 10\n"
        + "set -g remain-on-exit on\nset -g history-limit 5000\n")
    let variables = environment.map { "\($0.key)='\($0.value)'" }.joined(separator: " ")
    let result = try TestProcess.run(
      [
        "/usr/bin/tmux", "-S", socket, "-f", configuration, "new-session", "-d", "-x",
        "\(columns)", "-y", "\(rows)", "env \(variables) \(command)",
      ], environment: ["LC_ALL": "C.UTF-8", "TMUX": ""])
    guard result.status == 0 else { throw TestGuestError("tmux: \(result.output)") }
  }

  /// Keys by tmux's names: `Enter`, `Escape`, `C-]`, `Down`.
  func press(_ keys: String...) throws {
    for key in keys { _ = try tmux(["send-keys", key]) }
  }

  /// Characters as they are.
  func type(_ text: String) throws { _ = try tmux(["send-keys", "-l", text]) }

  /// What stands on the screen.
  func screen() throws -> String {
    let screen = try tmux(["capture-pane", "-p"])
    // tmux moves the screen up by a line to tell of a program's end.
    return screen.contains("Pane is dead (")
      ? try tmux(["capture-pane", "-p", "-S", "-1"]) : screen
  }

  /// Waits until the screen holds `text`; returns the screen.
  @discardableResult
  func wait(for text: String, seconds: Double = 15) throws -> String {
    try wait("shows '\(text)'", seconds: seconds) { $0.contains(text) }
  }

  /// Waits until the screen fits; returns it.
  @discardableResult
  func wait(_ what: String, seconds: Double = 15, until fits: (String) -> Bool) throws -> String {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    var seen = ""
    while MonotonicClock.now < deadline {
      seen = try screen()
      if fits(seen) { return seen }
      usleep(50_000)
    }
    throw TestGuestError("no screen that \(what) within \(seconds) s; the last one was:\n\(seen)")
  }

  func resize(columns: Int, rows: Int) throws {
    _ = try tmux(["resize-window", "-x", "\(columns)", "-y", "\(rows)"])
  }

  func close() { _ = try? tmux(["kill-server"]) }

  /// The process that runs in the terminal.
  func processIdentifier() throws -> pid_t {
    let text = try tmux(["display-message", "-p", "#{pane_pid}"])
    // 0 and -1 would mean every process there is, to those who send it a signal.
    guard let process = pid_t(text.filter(\.isNumber)), process > 1 else {
      throw TestGuestError("tmux names no process: \(text)")
    }
    return process
  }

  /// The process that a shell in the terminal has started.
  func childIdentifier(named name: String) throws -> pid_t {
    let shell = try processIdentifier()
    let children = try TestProcess.run(["/usr/bin/pgrep", "-P", "\(shell)", "-x", name])
    guard let first = children.output.split(separator: "\n").first, let process = pid_t(first),
      process > 1
    else { throw TestGuestError("\(name) is no child of \(shell): \(children.output)") }
    return process
  }

  private func tmux(_ arguments: [String]) throws -> String {
    let result = try TestProcess.run(
      ["/usr/bin/tmux", "-S", socket] + arguments, environment: ["LC_ALL": "C.UTF-8", "TMUX": ""])
    guard result.status == 0 else { throw TestGuestError("tmux: \(result.output)") }
    return result.output
  }
}

/// Writes a small text file.
func writeFile(_ path: String, _ text: String) throws {
  let file = try FileDescriptor.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o644)
  var text = text
  _ = try text.withUTF8 { try file.write(UnsafeRawBufferPointer($0)) }
}
