import CLinux
import Inventory
import Platform
import TestGuests
import Testing

private let strace = "/usr/bin/strace"
private let missing: String? =
  access(Underjack.program, X_OK) != 0
  ? "uj is not built" : access(strace, X_OK) == 0 ? LinuxGuest.missing : "strace is missing"

/// The two commands between which a machine moves, each killed (SIGKILL, by strace's fault injection) at its system calls
/// that change a file or talk. The machine goes on at one place and not at two, and has all that it had.
///
/// The short form takes some of the calls; UNDERJACK_LONG_TESTS more of them.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct MoveKillTests {
  private static let count = getenv("UNDERJACK_LONG_TESTS") == nil ? 8 : 60
  private static let calls = [
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "unlink", "mkdir",
    "ftruncate", "close", "read", "clone", "poll", "sendto", "recvfrom", "shutdown", "wait4",
  ]

  private func traced(_ file: String) -> [String] {
    [strace, "-o", file, "-e", "trace=\(Self.calls.joined(separator: ","))"]
  }

  private func killed(_ call: String, _ number: Int) -> [String] {
    [
      strace, "-o", "/dev/null", "-e", "trace=none", "-e",
      "inject=\(call):signal=KILL:when=\(number)",
    ]
  }

  /// Calls of a trace, from all over it and more of those at its end, where the machine changes hands.
  private func chosen(_ file: String, after mark: String) throws -> [(call: String, number: Int)] {
    var counts: [String: Int] = [:]
    var found: [(String, Int)] = []
    var hasBegun = false
    for line in (try FileReading.text(file, limit: 64 << 20) ?? "").split(separator: "\n") {
      hasBegun = hasBegun || line.contains(mark)
      guard let name = line.split(separator: "(").first.map(String.init),
        Self.calls.contains(name)
      else { continue }
      counts[name, default: 0] += 1
      if hasBegun { found.append((name, counts[name] ?? 0)) }
    }
    let early = found.dropLast(40)
    let step = max(1, early.count / (Self.count / 3 + 1))
    let late = Array(found.suffix(40))
    let lateStep = max(1, 40 * 3 / (Self.count * 2))
    return stride(from: 0, to: early.count, by: step).map { early[$0] }
      + stride(from: 0, to: late.count, by: lateStep).map { late[$0] }
  }

  /// Brings the machine back to where it began, wherever it is, after it was seen to have its word.
  private func settle(
    _ world: MoveTests.World, _ result: ChildProcess.Result, _ place: Comment
  ) throws {
    let (here, there) = (try world.state(world.here), try world.state(world.there))
    if result.status == 0 || here == "stopped" {
      #expect(there == "running", place)
    } else if here == "running" {
      // It may have been placed there before it was refused, but then it is not there any more.
      #expect(there != "running", place)
      #expect(try MoveTests.World.seen(try GuestLine(world.here, "demo1")) == "kept kept", place)
      return
    } else {
      // Uncertain: nobody runs it twice by himself, and a person can tell.
      #expect(here == "paused", place)
      guard there != nil else {
        try world.here.run("send", "--take-back", "demo1")
        #expect(try MoveTests.World.seen(try GuestLine(world.here, "demo1")) == "kept kept", place)
        return
      }
      if there != "running" { try world.there.run("start", "demo1") }
      try world.here.run("send", "--finish", "demo1")
    }
    #expect(try MoveTests.World.seen(try GuestLine(world.there, "demo1")) == "kept kept", place)
    try world.move(from: world.there, to: world.here)
    try world.there.run("delete", "-y", "demo1")
  }

  @Test("The receiver is killed") func receiver() throws {
    let world = try MoveTests.World()
    try MoveTests.World.write("kept", try GuestLine(world.here, "demo1"))
    let file = "\(world.here.folder)/trace"
    func send(_ prefix: [String]) throws -> ChildProcess.Result {
      let words = world.receiver(world.there)
      let end = words.firstIndex(of: Underjack.program) ?? 0
      return try world.here(
        ["send", "demo1", "--"] + words[..<end] + prefix + words[end...])
    }
    var result = try send(traced(file))
    #expect(result.status == 0)
    try settle(world, result, "first")
    for (call, number) in try chosen(file, after: "Underjack moves") {
      result = try send(killed(call, number))
      try settle(world, result, "killed at \(call) number \(number): \(result.output)")
    }
    // What was half there is gone with the next command that changes anything.
    try world.there.run("new", "other", "--disk", "1M")
    let left = try FileReading.entries(of: "\(world.there.folder)/home/machines")
    #expect(left == ["other"])
  }

  @Test("The sender is killed") func sender() throws {
    let world = try MoveTests.World()
    try MoveTests.World.write("kept", try GuestLine(world.here, "demo1"))
    let file = "\(world.here.folder)/trace"
    func send(_ prefix: [String]) throws -> ChildProcess.Result {
      let result = try TestProcess.run(
        prefix + [Underjack.program, "send", "demo1", "--"] + world.receiver(world.there),
        environment: world.here.environment)
      // Its ends hear of it.
      let deadline = MonotonicClock.now + 20_000_000_000
      while MonotonicClock.now < deadline {
        let entries = try FileReading.entries(of: "\(world.there.folder)/home/machines")
        if !entries.contains(where: { $0.hasPrefix(".new") }), try isOver(world) { break }
        usleep(50_000)
      }
      return result
    }
    var result = try send(traced(file))
    #expect(result.status == 0)
    try settle(world, result, "first")
    for (call, number) in try chosen(file, after: "control.sock") {
      result = try send(killed(call, number))
      try settle(world, result, "killed at \(call) number \(number): \(result.output)")
    }
  }

  /// Nothing is being sent.
  private func isOver(_ world: MoveTests.World) throws -> Bool {
    let status = try world.here("rpc", "demo1", "move.status").output
    return !["preparing", "disks", "memory", "rounds", "standstill"].contains {
      status.contains("\"\($0)\"")
    }
  }
}
