import CLinux
import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? =
  access(Underjack.program, X_OK) == 0 ? LinuxGuest.missing : "uj is not built"

/// Eight consoles on one port, each a process of its own, one of them stopped, and a guest that prints without a pause.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct ConsoleFloodTests {
  /// MiB that the guest prints: all of it only in the long tests, as a UART takes some million bytes a second.
  private static let mebibytes = getenv("UNDERJACK_LONG_TESTS") == nil ? 4 : 100

  private func resident(_ process: Int32) throws -> Int {
    let text = try TestProcess.run(["/bin/cat", "/proc/\(process)/statm"]).output
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
  }

  private func size(_ path: String) -> Int {
    var information = stat()
    return stat(path, &information) == 0 ? Int(information.st_size) : 0
  }

  @Test func sevenGetEveryByteThoughOneIsStopped() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("demo", "--no-console")
    let line = try GuestLine(uj, "demo1")
    try line.wait(for: "/ # ", seconds: 120)
    let host = Int32(
      try uj.run("status", "demo1").split(separator: "\n").last?.split(separator: " ").first ?? "")
    let process = try #require(host)
    var children: [pid_t] = []
    var files: [String] = []
    for number in 0..<8 {
      let file = "\(uj.folder)/console\(number)"
      files.append(file)
      let child = try ChildProcess.start(
        [
          "/bin/sh", "-c",
          "sleep 100000 | exec '\(Underjack.program)' console demo1 --read-only --no-replay > '\(file)'",
        ], environment: uj.environment)
      children.append(child.identifier)
    }
    defer {
      for child in children {
        _ = try? TestProcess.run(["/usr/bin/pkill", "-9", "-P", "\(child)"])
        kill(child, SIGKILL)
        _ = ChildProcess.wait(for: child)
      }
    }
    let limit = MonotonicClock.now + 60_000_000_000
    while MonotonicClock.now < limit,
      !(try uj.run("rpc", "demo1", "status")).contains("\"clients\": 8")
    {
      usleep(100_000)
    }
    // The first one is stopped and reads nothing.
    let stopped = try TestProcess.run([
      "/usr/bin/pgrep", "-f", "-P", "\(children[0])", "console demo1",
    ])
    let victim = try #require(Int32(stopped.output.split(separator: "\n").first ?? ""))
    kill(victim, SIGSTOP)
    defer { kill(victim, SIGCONT) }
    let before = try resident(process)
    let begin = MonotonicClock.now
    // A MiB of lines of 64 bytes, each with its number in it, again and again.
    try line.type(
      "stty -onlcr; awk 'BEGIN{for(i=0;i<16384;i++)printf \"%062d\\r\\n\",i}' > /flood; "
        + "i=0; while [ $i -lt \(Self.mebibytes) ]; do cat /flood; i=$((i+1)); done; "
        + "echo FLOOD\"\"END; stty onlcr")
    var most = 0
    let patience = MonotonicClock.now + UInt64(60 + Self.mebibytes * 8) * 1_000_000_000
    while MonotonicClock.now < patience,
      files.dropFirst().contains(where: { size($0) < Self.mebibytes << 20 })
    {
      most = max(most, try resident(process))
      usleep(200_000)
    }
    let seconds = Double(MonotonicClock.now - begin) / 1e9
    try line.wait(for: "FLOODEND", seconds: 60)
    // A ring, the terminal's scrollback and what queues hold; not what was printed.
    #expect(most - before < 64 << 20)
    usleep(500_000)
    let digests = try files.dropFirst().map { file in
      try TestProcess.run([
        "/bin/sh", "-c", "tr -d '\\r' < '\(file)' | grep -E '^0[0-9]{61}$' | md5sum",
      ])
      .output
    }
    let expected = try TestProcess.run([
      "/bin/sh", "-c",
      "for n in $(seq \(Self.mebibytes)); do seq -f %062.0f 0 16383; done | md5sum",
    ]).output
    #expect(digests == Array(repeating: expected, count: 7))
    print(
      "console flood: \(Self.mebibytes) MiB to 7 clients in \(Int(seconds)) s, +\((most - before) >> 20) MiB"
    )
  }
}
