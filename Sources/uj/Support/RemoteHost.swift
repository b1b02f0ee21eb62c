import CLinux
import Platform

/// A program that is asked and answers, such as ssh.
struct RemoteProgram {
  let identifier: pid_t
  /// Its standard input and output: a socket.
  let descriptor: Int32

  /// - Parameter words: found by PATH.
  init(_ words: [String]) throws {
    guard let program = words.first, !program.isEmpty else {
      throw UsageFailure("name the program that leads to the other host")
    }
    var ends: [Int32] = [-1, -1]
    try systemCall("socketpair") {
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
    }
    defer { close(ends[1]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 0)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    let list = CStringVector(words)
    var child = pid_t()
    let code = posix_spawnp(
      &child, program, &actions, nil, list.pointer, linux_process_environment())
    guard code == 0 else {
      close(ends[0])
      throw UsageFailure("\(program): \(String(cString: strerror(code)))")
    }
    identifier = child
    descriptor = ends[0]
  }

  /// Ends the talk and waits for the program's end: its status.
  func end() -> Int32 {
    close(descriptor)
    return ChildProcess.wait(for: identifier)
  }
}

/// Where a machine goes, as a person writes it: `ssh://[USER@]HOST[:PORT]`.
struct RemoteHost {
  /// For messages: `USER@HOST`.
  let text: String
  private let arguments: [String]

  init(_ address: String) throws {
    let prefix = "ssh://"
    guard address.hasPrefix(prefix) else {
      throw UsageFailure("\(address): must look like ssh://user@server")
    }
    var rest = address.dropFirst(prefix.count)
    if rest.last == "/" { rest.removeLast() }
    var options: [String] = []
    if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("]") {
      guard let port = UInt16(rest[rest.index(after: colon)...]) else {
        throw UsageFailure("\(address): its port must be a number")
      }
      options = ["-p", "\(port)"]
      rest = rest[..<colon]
    }
    // What begins with a dash would be an option of ssh.
    guard !rest.isEmpty, !rest.hasPrefix("-"), !rest.contains("@-"),
      rest.unicodeScalars.allSatisfy({ $0.value > 0x20 && $0.value != 0x7F && $0 != "/" })
    else { throw UsageFailure("\(address): must look like ssh://user@server") }
    text = String(rest)
    arguments = options + [text.filter { $0 != "[" && $0 != "]" }]
  }

  /// The words that run `uj` there.
  ///
  /// - Parameters:
  ///   - words: of uj there; the shell there sees them quoted.
  ///   - options: more for ssh.
  func command(_ words: [String], options: [String] = []) -> [String] {
    ["ssh"] + options + arguments + ["--", (["uj"] + words).map(Self.quote).joined(separator: " ")]
  }

  private static func quote(_ word: String) -> String {
    let isPlain = word.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "-_./:=,@%+".utf8.contains(byte)
      }
    }
    guard word.isEmpty || !isPlain else { return word }
    let parts = word.split(separator: "'", omittingEmptySubsequences: false)
    return "'\(parts.joined(separator: "'\\''"))'"
  }
}

extension RemoteHost {
  /// `--host ssh://USER@SERVER` in front: this process becomes ssh, which runs all the rest there.
  static func runIfAsked(_ words: [String]) throws {
    guard let first = words.first, first == "--host" || first.hasPrefix("--host=") else { return }
    let address: String
    let rest: [String]
    if first == "--host" {
      guard words.count > 1 else { throw UsageFailure("--host needs ssh://user@server") }
      (address, rest) = (words[1], Array(words.dropFirst(2)))
    } else {
      (address, rest) = (String(first.dropFirst("--host=".count)), Array(words.dropFirst()))
    }
    // A console there has keys of its own to leave it: ssh's must not take them.
    let isTerminal = isatty(0) == 1 && isatty(1) == 1
    let command = try RemoteHost(address).command(
      rest, options: isTerminal ? ["-t", "-e", "none"] : [])
    let list = CStringVector(command)
    execvp("ssh", list.pointer)
    throw UsageFailure("ssh: \(String(cString: strerror(linux_error_number())))")
  }
}
