import Foundation
import Testing
import VirtualTerminal

/// Debian's vttest, in our terminal and in tmux: the same keys to both, and the screens compared.
private enum Vttest {
  static let missing: String? = ["/usr/bin/vttest", "/usr/bin/tmux", "/usr/bin/script"].first {
    !FileManager.default.isExecutableFile(atPath: $0)
  }

  static let command = "stty rows 24 cols 80; TERM=vt100 exec vttest"
}

/// vttest on a pseudo-terminal whose other end is a `VirtualTerminal`.
private final class OwnVttest {
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()
  private(set) var terminal = VirtualTerminal(columns: 80, rows: 24)

  init() throws {
    process.executableURL = URL(fileURLWithPath: "/usr/bin/script")
    process.arguments = ["-qfec", Vttest.command, "/dev/null"]
    process.environment = ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "vt100"]
    process.standardInput = input
    process.standardOutput = output
    try process.run()
  }

  func press(_ text: String) { input.fileHandleForWriting.write(Data(text.utf8)) }

  /// Takes what is printed, answering questions, until nothing more comes.
  func settle() {
    let descriptor = output.fileHandleForReading.fileDescriptor
    var quiet = 0
    for _ in 0..<400 where quiet < 4 {
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&ready, 1, 60) > 0 else {
        quiet += 1
        continue
      }
      quiet = 0
      let data = output.fileHandleForReading.availableData
      if data.isEmpty { return }
      terminal.feed(Array(data))
      let answers = terminal.drainAnswers()
      if !answers.isEmpty { input.fileHandleForWriting.write(Data(answers)) }
    }
  }

  func close() {
    process.terminate()
  }
}

/// vttest in a session of tmux.
private struct TmuxVttest {
  private let socket = "/tmp/underjack-vttest-\(getpid())"

  init() throws {
    _ = try tmux(["new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", Vttest.command])
    _ = try tmux(["set", "-g", "status", "off"])
    _ = try tmux(["resize-window", "-x", "80", "-y", "24"])
  }

  func press(_ text: String) throws {
    for character in text {
      let keys = character == "\r" ? ["send-keys", "Enter"] : ["send-keys", "-l", "\(character)"]
      _ = try tmux(keys)
    }
  }

  func screen() throws -> String {
    var text = try tmux(["capture-pane", "-p"])
    if text.hasSuffix("\n") { text.removeLast() }
    return text
  }

  /// The screen once it holds still.
  func settledScreen() throws -> String {
    var last = try screen()
    for _ in 0..<40 {
      usleep(120_000)
      let new = try screen()
      if new == last { return new }
      last = new
    }
    return last
  }

  func close() { _ = try? tmux(["kill-server"]) }

  /// By the shell: a server that Foundation's Process has started keeps that waiting for ever.
  private func tmux(_ arguments: [String]) throws -> String {
    let words = (["/usr/bin/tmux", "-S", socket, "-f", "/dev/null", "-u"] + arguments)
      .map { "'" + $0.replacingOccurrences(of: "'", with: "'\\''") + "'" }
    let command =
      "TMUX= LC_ALL=C.UTF-8 TERM=xterm-256color timeout 20 \(words.joined(separator: " "))"
    _ = system("\(command) </dev/null >\(socket).out 2>/dev/null")
    defer { unlink("\(socket).out") }
    return try String(contentsOfFile: "\(socket).out", encoding: .utf8)
  }
}

extension String {
  /// tmux captures line drawing as the letters that select it, we as what is seen: both as letters.
  fileprivate var withLettersForLines: String {
    let drawn = Array("\u{A0}◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
    let letters = Array("_`abcdefghijklmnopqrstuvwxyz{|}~")
    // tmux has no British set; of that only the pound sign differs.
    let british = replacingOccurrences(of: "\"£$%", with: "\"#$%")
    return String(
      british.map { character in drawn.firstIndex(of: character).map { letters[$0] } ?? character })
  }

  fileprivate var rightTrimmedLines: String {
    split(separator: "\n", omittingEmptySubsequences: false).map { line in
      var line = line
      while line.last == " " { line.removeLast() }
      return String(line)
    }.joined(separator: "\n")
  }
}

@Suite(
  .enabled(if: Vttest.missing == nil, "vttest, tmux or script is not installed"), .serialized)
struct VttestTests {
  /// Screens where tmux (3.3) does not show what vttest asks for, and what they must show.
  private func isRight(_ lines: [String]) -> Bool? {
    let text = lines.joined(separator: "\n")
    if text.contains("Test of autowrap, mixing control") {
      // "The left/right margins should have letters in order": tmux breaks lines where a control character follows the
      // last column.
      let letters = lines[2..<20].map { line in (line.first, line.last, line.count) }
      let first = letters.first?.0?.asciiValue ?? 0
      return letters.enumerated().allSatisfy { offset, ends in
        ends.0?.asciiValue == first + UInt8(offset) && ends.2 == 80
          && ends.1?.asciiValue == first + UInt8(offset) + 32
      }
    }
    if text.contains("Origin mode test. This line should be at the bottom") {
      return lines[23].hasPrefix("Origin mode test") && lines[22].hasPrefix("This line should be")
    }
    if text.contains("*'s and +'s around the edge"), lines[14].hasPrefix("Push") {
      // Drawn for 132 columns: what is beyond the edge ends in the last column. tmux lets the cursor stand behind it, so
      // that moving left and erasing are one column off there.
      return lines[2] == "*+" + String(repeating: " ", count: 76) + "+*"
    }
    return nil
  }

  /// Walks through a menu and compares every screen.
  ///
  /// - Parameter own: The keys for ours, which vttest takes for a VT220 with more menus.
  private func walk(_ choice: String, own: String? = nil, limit: Int = 60) throws -> (
    compared: Int, different: [String]
  ) {
    let ours = try OwnVttest()
    defer { ours.close() }
    let theirs = try TmuxVttest()
    defer { theirs.close() }
    ours.settle()
    _ = try theirs.settledScreen()
    var compared = 0
    var different: [String] = []
    ours.press(own ?? choice)
    if own?.contains("\r8") ?? false { ours.settle() }
    try theirs.press(choice)
    while compared < limit {
      ours.settle()
      let wanted = try theirs.settledScreen().withLettersForLines.rightTrimmedLines
      let seen = ours.terminal.text().withLettersForLines.rightTrimmedLines
      if wanted.contains("Choose test type"), seen.contains("Choose test type") { break }
      compared += 1
      if seen != wanted,
        isRight(seen.split(separator: "\n", omittingEmptySubsequences: false).map(String.init))
          != true
      {
        different.append(
          "screen \(compared) of menu \(choice):\ntmux:\n\(wanted)\nours:\n\(seen)\n")
      }
      ours.press("\r")
      try theirs.press("\r")
    }
    return (compared, different)
  }

  @Test(arguments: [("1\r", 6), ("2\r", 15)])
  func showsWhatTmuxShows(menu: String, atLeast: Int) throws {
    let (compared, different) = try walk(menu)
    #expect(compared >= atLeast)
    for text in different { Issue.record("\(text)") }
  }

  @Test func characterSets() throws {
    let (compared, different) = try walk("3\r", own: "3\r8\r", limit: 1)
    #expect(compared == 1)
    for text in different { Issue.record("\(text)") }
  }
}
