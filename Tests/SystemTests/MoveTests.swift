import CLinux
import Hosting
import Inventory
import Platform
import TestGuests
import Testing

/// What these tests need and this host lacks.
private let missing: String? =
  access(Underjack.program, X_OK) == 0 ? LinuxGuest.missing : "uj is not built"

/// A Linux machine that goes from one inventory to another and back while it works.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct MoveTests {
  /// Two inventories, as if they were two hosts, and a demonstration machine at the first.
  final class World {
    let here: Underjack
    let there: Underjack
    /// What the guest has printed where it was.
    var printed = ""

    init() throws {
      here = try Underjack()
      there = try Underjack()
      try here.run("demo", "--no-console")
      try GuestLine(here, "demo1").wait(for: "/ # ", seconds: 120)
    }

    deinit {
      here.close()
      there.close()
    }

    /// The words that lead to `uj receive` in an inventory.
    func receiver(_ uj: Underjack, _ words: String...) -> [String] {
      ["/usr/bin/env"] + uj.environment.map { "\($0.key)=\($0.value)" }
        + [Underjack.program, "receive"] + words
    }

    /// Moves the machine, and keeps what it has printed so far.
    @discardableResult
    func move(from: Underjack, to: Underjack, _ options: String...) throws -> String {
      let text = try from.run(["send", "demo1"] + options + ["--"] + receiver(to))
      printed += try log(from)
      return text
    }

    /// Has the guest keep a word, in its shell and on its disk.
    static func write(_ word: String, _ line: GuestLine) throws {
      _ = try line.run(
        "x=\(word); echo \(word) | dd of=/dev/vda bs=512 seek=8 conv=sync 2>/dev/null")
    }

    /// What it has kept, twice.
    static func seen(_ line: GuestLine) throws -> String {
      try line.run(
        "echo $x; echo 3 > /proc/sys/vm/drop_caches; "
          + "dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | tr -d '\\0'"
      ).split(separator: "\n").map { $0.filter { $0.isLetter } }.joined(separator: " ")
    }

    func log(_ uj: Underjack) throws -> String {
      let bytes = try readBytes("\(uj.folder)/home/machines/demo1/log/serial0.log")
      return String(decoding: bytes, as: UTF8.self)
    }

    func state(_ uj: Underjack) throws -> String? {
      let inventory = Inventory(
        location: try InventoryLocation(environment: { uj.environment[$0] }),
        images: DiskImageStore())
      return try StatusSurvey(inventory).statuses(timeout: 5)
        .first { $0.name.description == "demo1" }?.state.rawValue
    }
  }

  /// Counts, and writes to memory and disk as fast as it can.
  private static let load = """
    (i=0; while true; do i=$((i+1)); read u x < /proc/uptime; echo "<$i $u>"; \
    busybox usleep 20000; done) & \
    (while true; do dd if=/dev/urandom of=/dev/vda bs=64k seek=64 count=16 conv=notrunc,fsync; \
    done) >/dev/null 2>&1 &
    """

  /// Waits until the guest has counted on, however busy the host is.
  private static func counts(_ times: Int, _ line: GuestLine) throws {
    for _ in 0..<times { try line.wait(for: "<") }
  }

  @Test("There and back under load: nothing is lost, nothing is doubled, time does not go back")
  func thereAndBack() throws {
    let world = try World()
    var line = try GuestLine(world.here, "demo1")
    try World.write("first", line)
    try line.type(Self.load)
    try line.wait(for: "<20 ")
    let text = try world.move(from: world.here, to: world.there, "--downtime", "1000")
    #expect(text.contains("runs at"))
    #expect(text.contains("stood still for"))
    #expect(try world.state(world.there) == "running")
    #expect(try world.state(world.here) == "stopped")
    let refused = try world.here("start", "demo1")
    #expect(refused.status == 1)
    #expect(refused.output.contains("was sent to"))

    line = try GuestLine(world.there, "demo1")
    try Self.counts(20, line)
    try world.move(from: world.there, to: world.here, "--downtime", "1000")
    #expect(try world.state(world.here) == "running")
    line = try GuestLine(world.here, "demo1")
    try Self.counts(20, line)
    try world.here.run("stop", "-f", "demo1")
    world.printed += try world.log(world.here)

    var last: (count: Int, time: Double) = (0, 0)
    for part in world.printed.split(separator: "<").dropFirst() {
      let words = part.prefix { $0 != ">" }.split(separator: " ")
      guard words.count == 2, let count = Int(words[0]), let time = Double(words[1]) else {
        continue
      }
      #expect(count == last.count + 1)
      #expect(time >= last.time)
      last = (count, time)
    }
    #expect(last.count > 50)
  }

  @Test("What the guest wrote to its disk and memory is there; the disk is sound") func content()
    throws
  {
    let world = try World()
    var line = try GuestLine(world.here, "demo1")
    try World.write("first", line)
    try world.move(from: world.here, to: world.there)
    line = try GuestLine(world.there, "demo1")
    #expect(try World.seen(line) == "first first")
    try World.write("second", line)
    try world.move(from: world.there, to: world.here)
    line = try GuestLine(world.here, "demo1")
    #expect(try World.seen(line) == "second second")
    try world.here.run("stop", "-f", "demo1")
    let found = try TestProcess.run([
      "/usr/bin/find", world.here.folder + "/home/machines", "-name", "*.qcow2",
    ]).output.split(separator: "\n").map(String.init)
    #expect(!found.isEmpty)
    for file in found {
      let result = try world.here("disk", "check", file)
      #expect(result.status == 0, "\(file): \(result.output)")
    }
  }

  @Test("Refused, broken off or failed there, the machine goes on here") func goesOn() throws {
    let world = try World()
    let line = try GuestLine(world.here, "demo1")
    try World.write("kept", line)
    func fails(_ words: [String]) throws -> String {
      let result = try world.here(["send", "demo1", "--"] + words)
      #expect(result.status == 1, "\(words)")
      #expect(result.output.contains("goes on here"))
      #expect(try World.seen(line) == "kept kept")
      return result.output
    }
    try world.there.run("new", "demo1", "--disk", "1M")
    let taken = try fails(world.receiver(world.there))
    #expect(taken.contains("there is a machine of that name already"))
    _ = try fails(["/bin/true"])
    _ = try fails(["/bin/sh", "-c", "head -c 100 > /dev/null"])
    let stranger = try fails(["/bin/sh", "-c", "echo uj: command not found; sleep 1"])
    #expect(stranger.contains("the other side is no uj, but says: uj: command not f"))
    // Another name is free.
    try world.here.run(
      ["send", "demo1", "--"] + world.receiver(world.there, "--as", "moved"))
    #expect(try World.seen(try GuestLine(world.there, "moved")) == "kept kept")
  }

  @Test("In a plain pipe the machine waits for a person's word") func onlyOneWay() throws {
    let world = try World()
    try World.write("kept", try GuestLine(world.here, "demo1"))
    func pipe(_ words: [String]) throws -> ChildProcess.Result {
      let receiver = words.map { "'\($0)'" }.joined(separator: " ")
      return try TestProcess.run(
        ["/bin/sh", "-c", "'\(Underjack.program)' send demo1 | \(receiver)"],
        environment: world.here.environment)
    }
    // Nobody receives it.
    #expect(try pipe(["/usr/bin/tail", "-c", "1"]).output.contains("stands still here"))
    #expect(try world.state(world.here) == "paused")
    let refused = try world.here("unpause", "demo1")
    #expect(refused.status == 1)
    #expect(refused.output.contains("uj send --take-back demo1"))
    try world.here.run("send", "--take-back", "demo1")
    #expect(try World.seen(try GuestLine(world.here, "demo1")) == "kept kept")

    let sent = try pipe(world.receiver(world.there))
    #expect(sent.output.contains("stands still here"))
    #expect(sent.output.contains("demo1: runs here"))
    #expect(try world.state(world.here) == "paused")
    #expect(try World.seen(try GuestLine(world.there, "demo1")) == "kept kept")
    try world.here.run("send", "--finish", "demo1")
    let refusedStart = try world.here("start", "demo1")
    #expect(refusedStart.output.contains("was sent to"))
    try world.here.run("delete", "-y", "demo1")
  }
}
