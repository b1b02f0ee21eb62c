// passt (https://passt.top), a program that translates a guest's packets to sockets of the host as this user, and keeps
// the host's addresses. It speaks the stream protocol on a socket that it inherits.

import CLinux
import Devices
import Platform

/// The program of one adapter. Used by whoever holds its network's gate.
final class PasstProgram: @unchecked Sendable {
  // @unchecked: see above.
  /// Where distributions and administrators put it.
  private static let places = ["/usr/bin/passt", "/usr/local/bin/passt", "/bin/passt"]
  /// What is kept of what it prints, bytes: enough to say why it ended.
  private static let outputLimit = 2048

  private let program: String
  private let options: [String]
  private var child: ChildProcess.Running?
  private var lines: [UInt8] = []

  /// - Throws: `NetworkError` when it is not installed.
  init(_ user: UserNetwork.Options) throws(NetworkError) {
    guard let program = Self.places.first(where: { access($0, X_OK) == 0 }) else {
      throw NetworkError("passt is not installed: apt install passt")
    }
    self.program = program
    var options = user.hasVersion6 ? [] : ["--ipv4-only"]
    for forward in user.forwards {
      options += [
        forward.transport == .tcp ? "--tcp-ports" : "--udp-ports",
        "\(forward.hostAddress)/\(forward.hostPort):\(forward.guestPort)",
      ]
    }
    self.options = options
  }

  /// Its output, while it runs.
  var output: Int32? { child?.output.rawValue }

  /// Starts it, and gives it a moment to find a port that is taken.
  ///
  /// - Returns: our end of its socket.
  func start() throws(NetworkError) -> SharedDescriptor {
    end()
    let ours: SharedDescriptor
    do throws(PlatformError) {
      var ends: [Int32] = [-1, -1]
      try systemCall("socketpair") {
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
      }
      ours = SharedDescriptor(owning: ends[0])
      // Not shared: it is closed at the end of this scope, not before.
      let theirs = FileDescriptor(owning: ends[1])
      try ours.descriptor.setNonBlocking(true)
      let started = try ChildProcess.start(
        [program, "--foreground", "--fd", "3"] + options, passing: theirs.rawValue)
      child = started
      try started.output.descriptor.setNonBlocking(true)
      lines = []
    } catch {
      throw NetworkError("passt cannot be started: \(error)")
    }
    let deadline = MonotonicClock.now + 100_000_000
    while let child {
      let now = MonotonicClock.now
      guard now < deadline else { return ours }
      var entry = pollfd(fd: child.output.rawValue, events: Int16(POLLIN), revents: 0)
      if poll(&entry, 1, Int32((deadline - now) / 1_000_000 + 1)) > 0 { readOutput() }
    }
    throw NetworkError("passt: \(lastWords)")
  }

  /// Takes what it prints, so that it never waits for us; its end is the program's.
  func readOutput() {
    guard let child else { return }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = bytes.withUnsafeMutableBytes {
      read(child.output.rawValue, $0.baseAddress, $0.count)
    }
    if count > 0 {
      lines = (lines + bytes[..<count]).suffix(Self.outputLimit)
    } else if count == 0 || linux_error_number() != EAGAIN && linux_error_number() != EINTR {
      end()
    }
  }

  /// After its socket was closed: what it said at last; nil when nothing.
  func collect() -> String? {
    let deadline = MonotonicClock.now + 50_000_000
    while let child, MonotonicClock.now < deadline {
      var entry = pollfd(fd: child.output.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, 50) > 0 else { break }
      readOutput()
    }
    end()
    return "has ended" + (lines.isEmpty ? "" : ": \(lastWords)") + "; is started again"
  }

  /// The last line that says something, without what a terminal would obey.
  private var lastWords: String {
    let text = String(decoding: lines, as: UTF8.self)
    let line = text.split(whereSeparator: \.isNewline).last { line in
      // It tells of a system log that is not there after every line.
      !line.hasPrefix("Failed to send") && line.contains { !$0.isWhitespace }
    }
    let printable = (line ?? "it says nothing").unicodeScalars.prefix(200).map {
      $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0)
    }
    return String(printable)
  }

  /// Ends it, for good or to start it again.
  func end() {
    guard let child else { return }
    self.child = nil
    var status: Int32 = 0
    kill(child.identifier, SIGTERM)
    for _ in 0..<100 {
      if waitpid(child.identifier, &status, WNOHANG) != 0 { return }
      usleep(2_000)
    }
    kill(child.identifier, SIGKILL)
    _ = ChildProcess.wait(for: child.identifier)
  }
}
