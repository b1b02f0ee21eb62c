import ArgumentParser
import CLinux
import Glibc
import Platform
import SerialMux
import Synchronization

/// `uj-bench console`: how fast a serial port's multiplexer takes text, beside tmux with `cat` of the same file.
///
/// Both parse everything into a terminal with scrollback, and both have one attached client whose output is read. Ours
/// gives that client every byte; tmux draws its screen now and then.
struct ConsoleBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "console",
    abstract: "Bytes per second through a serial port with a client, beside tmux.")

  @Option(help: "MiB of text.") var mebibytes = 64
  @Option(help: "Rounds; the median counts.") var rounds = 5

  func run() throws {
    let folder = try temporaryFolder("console")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let bytes = Self.text(mebibytes << 20)
    let file = "\(folder)/text"
    try writeBytes(bytes, to: file)
    let hasTmux = access("/usr/bin/tmux", X_OK) == 0
    var ours = Measurement(name: "uj")
    var theirs = Measurement(name: "tmux")
    for round in 0..<rounds {
      ours.values.append(Double(mebibytes) / (try multiplexer(bytes, "\(folder)/log\(round)")))
      if hasTmux {
        theirs.values.append(Double(mebibytes) / (try tmux(file, "\(folder)/tmux\(round)")))
      }
    }
    print("\(mebibytes) MiB of text with one client attached, MiB/s, median of \(rounds)")
    print("  uj    \(decimal(ours.median, 1))  (log written, every byte delivered)")
    guard hasTmux else { return print("  tmux  not installed") }
    print("  tmux  \(decimal(theirs.median, 1))")
    print("  ratio \(decimal(ours.median / theirs.median))")
  }

  /// What a busy guest prints: lines of all lengths, some in colour, some beyond ASCII.
  private static func text(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 200)
    var number: UInt64 = 1
    while bytes.count < count {
      number = number &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let length = Int(number >> 40 % 70)
      if number >> 33 & 7 == 0 { bytes += "\u{1B}[3\(number >> 50 & 7)m".utf8 }
      bytes += "[\(number >> 44)] ".utf8
      bytes += repeatElement(UInt8(ascii: "a") + UInt8(number >> 60), count: length)
      if number >> 33 & 7 == 0 { bytes += "\u{1B}[m — fertig ✓".utf8 }
      bytes += "\r\n".utf8
    }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  /// Seconds until the client has every byte, and terminal and log have seen it.
  private func multiplexer(_ bytes: [UInt8], _ log: String) throws -> Double {
    var settings = SerialMuxConfiguration()
    settings.log = LogConfiguration(path: log)
    // As a host's, but nothing may be lost here.
    settings.guestWaitForClients = 60_000
    settings.guestWaitForTerminal = 60_000
    let port = try SerialMux(
      configuration: settings, send: { $0.count }, sendBreak: {}, report: { _ in })
    defer { port.close() }
    var ends: [Int32] = [0, 0]
    try systemCall("socketpair") {
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
    }
    port.attach(FileDescriptor(owning: ends[0]), options: SerialMuxClientOptions(readOnly: true))
    let reader = FileDescriptor(owning: ends[1])
    let number = reader.rawValue
    let total = bytes.count
    let start = MonotonicClock.now
    let thread = try Drain(number, total)
    var index = 0
    while index < total {
      // The virtio console's and the UART's bursts are of this order.
      let end = min(index + 4096, total)
      bytes[index..<end].withUnsafeBytes { port.guestDidSend($0) }
      index = end
    }
    thread.join()
    let passed = Double(MonotonicClock.now - start) / 1e9
    guard thread.count == total else {
      throw BenchmarkError("the client got \(thread.count) of \(total) bytes")
    }
    _ = consume reader
    return passed
  }

  /// Reads until so many bytes came, or nothing more does.
  private final class Drain: Sendable {
    private let received = Atomic<Int>(0)
    private let thread = Mutex<PosixThread?>(nil)
    var count: Int { received.load(ordering: .relaxed) }

    init(_ descriptor: Int32, _ total: Int) throws {
      let thread = try PosixThread(name: "reader") { [self] in
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while count < total {
          let number = buffer.withUnsafeMutableBytes {
            read(descriptor, $0.baseAddress, $0.count)
          }
          if number < 0, linux_error_number() == EAGAIN {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&request, 1, 20_000) <= 0 { return }
            continue
          }
          guard number > 0 else { return }
          received.add(number, ordering: .relaxed)
        }
      }
      self.thread.withLock { $0 = thread }
    }

    func join() { thread.withLock { $0 }?.join() }
  }

  /// Seconds until `cat` in a pane has written the file and ended, with a client attached in a terminal of its own.
  private func tmux(_ file: String, _ socket: String) throws -> Double {
    let environment = ["LC_ALL": "C.UTF-8", "TMUX": "", "TERM": "xterm-256color"]
    func call(_ arguments: [String]) throws -> ChildProcess.Result {
      try ChildProcess.run(
        ["/usr/bin/tmux", "-S", socket, "-f", "/dev/null"] + arguments, environment: environment)
    }
    let begun = try call([
      "new-session", "-d", "-x", "80", "-y", "24", ";", "set", "-g", "history-limit", "10000",
    ])
    guard begun.status == 0 else { throw BenchmarkError("tmux: \(begun.output)") }
    defer { _ = try? call(["kill-server"]) }
    // script(1) gives the client a terminal and reads what it draws.
    let client = try ChildProcess.start(
      ["/usr/bin/script", "-qec", "/usr/bin/tmux -S \(socket) attach", "/dev/null"],
      environment: environment)
    let output = client.output
    let reader = try Drain(output.rawValue, .max)
    defer {
      kill(client.identifier, SIGKILL)
      _ = ChildProcess.wait(for: client.identifier)
      reader.join()
    }
    usleep(300_000)
    let start = MonotonicClock.now
    _ = try call([
      "respawn-pane", "-k", "cat \(file); /usr/bin/tmux -S \(socket) wait-for -S done; sleep 100",
    ])
    _ = try call(["wait-for", "done"])
    return Double(MonotonicClock.now - start) / 1e9
  }
}
