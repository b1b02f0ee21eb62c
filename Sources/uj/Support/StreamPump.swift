import CLinux
import Platform

/// Carries a machine's stream between its host process and whatever leads to the other host.
struct StreamPump {
  /// The host process: a socket that does not block.
  let host: Int32
  let output: Int32
  /// Where answers come from; nil: nowhere.
  var input: Int32?

  private static let chunk = 512 << 10
  /// Milliseconds between two looks at how far it is.
  private static let interval: UInt64 = 200

  /// Comes back when the host process has ended the stream, or its reader is gone.
  mutating func run(_ look: () -> Void) {
    var buffer = [UInt8](repeating: 0, count: Self.chunk)
    var next = MonotonicClock.now &+ Self.interval &* 1_000_000
    while true {
      var entries = [pollfd(fd: host, events: Int16(POLLIN), revents: 0)]
      if let input { entries.append(pollfd(fd: input, events: Int16(POLLIN), revents: 0)) }
      let count = poll(&entries, nfds_t(entries.count), Int32(Self.interval))
      if MonotonicClock.now >= next {
        look()
        next = MonotonicClock.now &+ Self.interval &* 1_000_000
      }
      if count < 0, linux_error_number() != EINTR { return }
      guard count > 0 else { continue }
      if entries.count > 1, entries[1].revents != 0, let source = input {
        if !carry(from: source, to: host, &buffer) {
          // The end of the answers is told on.
          shutdown(host, Int32(SHUT_WR))
          input = nil
        }
      }
      if entries[0].revents != 0, !carry(from: host, to: output, &buffer) { return }
    }
  }

  /// - Returns: false at the end of either.
  private func carry(from source: Int32, to target: Int32, _ buffer: inout [UInt8]) -> Bool {
    let count = read(source, &buffer, buffer.count)
    if count < 0 { return linux_error_number() == EAGAIN || linux_error_number() == EINTR }
    var done = 0
    while done < count {
      let written = buffer.withUnsafeBytes {
        CLinux.write(target, $0.baseAddress.map { $0 + done }, count - done)
      }
      if written > 0 {
        done += written
        continue
      }
      switch linux_error_number() {
      case EINTR: continue
      case EAGAIN:
        var entry = pollfd(fd: target, events: Int16(POLLOUT), revents: 0)
        _ = poll(&entry, 1, -1)
      default: return false
      }
    }
    return count > 0
  }
}

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
    let isPlain = !word.isEmpty && word.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "-_./:=,@%+".utf8.contains(byte)
      }
    }
    return isPlain ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false)
      .joined(separator: "'\\''") + "'"
  }
}
