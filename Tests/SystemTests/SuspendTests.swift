import CLinux
import Hosting
import Inventory
import Platform
import TestGuests
import Testing

/// What these tests need and this host lacks.
private let missing: String? =
  access(Underjack.program, X_OK) == 0 ? LinuxGuest.missing : "uj is not built"

/// Linux machines that are saved with their memory and go on in another process.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct SuspendTests {
  /// A machine `m` with Linux at its prompt.
  private struct World {
    let uj: Underjack
    let inventory: Inventory
    let name: MachineName

    /// The demonstration, whose Linux has a driver for its disk.
    static func demonstration() throws -> World {
      let world = try World(name: "demo1")
      try world.uj.run("demo", "--no-console")
      _ = try world.line()
      return world
    }

    private init(name: String) throws {
      let uj = try Underjack()
      let environment = uj.environment
      inventory = Inventory(
        location: try InventoryLocation(environment: { environment[$0] }), images: DiskImageStore())
      self.uj = uj
      self.name = try MachineName(name)
    }

    init(processors: Int = 1) throws {
      let files = try LinuxGuest.prepared.get()
      try self.init(name: "m")
      try uj.run(
        "new", "m", "--disk", "16M", "-m", "256M", "-p", "\(processors)", "--accel", "soft",
        "--kernel", files.kernel, "--initrd", files.initrd, "--append", "console=ttyS0 quiet")
      try uj.run("start", "m")
      _ = try line()
    }

    /// The guest's line, after its first prompt where it was just started.
    func line(isNew: Bool = true) throws -> GuestLine {
      let line = try GuestLine(uj, name.description)
      if isNew { try line.wait(for: "/ # ", seconds: 120) }
      return line
    }

    var state: String {
      get throws {
        StatusSurvey(inventory).resting(name).state.rawValue
      }
    }

    /// All that the guest has printed.
    var printed: String {
      get throws {
        String(
          decoding: try readBytes(inventory.location.serialLog(name, port: 0)), as: UTF8.self)
      }
    }
  }

  @Test("What counts goes on without a gap, and time does not go back", arguments: [1, 4])
  func counts(processors: Int) throws {
    let world = try World(processors: processors)
    defer { world.uj.close() }
    let line = try GuestLine(world.uj, "m")
    try line.type(
      "for n in 1 2 3 4; do (i=0; while true; do i=$((i+1)); read u x < /proc/uptime; "
        + "echo \"<$n $i $u>\"; busybox usleep 20000; done) & done")
    try line.wait(for: "<4 20 ")
    for _ in 0..<3 {
      let text = try world.uj.run("suspend", "m")
      #expect(text.contains("m: suspended, "))
      #expect(try world.state == "suspended")
      #expect(try world.uj.run("status").contains("suspended"))
      #expect(try world.uj.run("start", "m").contains("m: goes on"))
      let next = try world.line(isNew: false)
      try next.wait(for: "<1 ")
      usleep(500_000)
    }
    try world.uj.run("stop", "-f", "m")
    var last: [Int: (count: Int, time: Double)] = [:]
    for part in try world.printed.split(separator: "<").dropFirst() {
      let words = part.prefix { $0 != ">" }.split(separator: " ")
      guard words.count == 3, let number = Int(words[0]), let count = Int(words[1]),
        let time = Double(words[2])
      else { continue }
      let before = last[number] ?? (0, 0)
      #expect(count == before.count + 1, "counter \(number)")
      #expect(time >= before.time, "counter \(number) at \(count)")
      last[number] = (count, time)
    }
    #expect(last.count == 4)
    let least = last.values.map(\.count).min() ?? 0
    #expect(least > 60)
  }

  @Test("Snapshots with memory are gone back and forward to, and what was left is kept")
  func snapshots() throws {
    let world = try World.demonstration()
    defer { world.uj.close() }
    var line = try world.line(isNew: false)
    func write(_ word: String) throws {
      _ = try line.run(
        "x=\(word); echo \(word) | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync 2>/dev/null")
    }
    func seen() throws -> String {
      try line.run("echo $x; dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | tr -d '\\0'")
        .filter { $0.isLetter || $0 == "\n" }
    }
    try write("one")
    let taken = try world.uj.run("snapshot", "take", "demo1", "first", "--memory")
    #expect(taken.contains("with its memory"))
    try write("two")
    try world.uj.run("snapshot", "take", "demo1", "second", "--memory")
    try write("three")
    #expect(try seen() == "three\nthree")
    for (target, word) in [("first", "one"), ("second", "two")] {
      let text = try world.uj.run("snapshot", "rollback", "-f", "demo1", target)
      #expect(text.contains("goes on from there"))
      line = try world.line(isNew: false)
      #expect(try seen() == "\(word)\n\(word)")
    }
    // What was there before the first roll-back.
    try world.uj.run("snapshot", "rollback", "-f", "demo1", "before rollback to first")
    line = try world.line(isNew: false)
    #expect(try seen() == "three\nthree")
    // Without a power cut: suspended there first.
    try world.uj.run("suspend", "demo1")
    #expect(try world.uj.run("snapshot", "rollback", "demo1", "second").contains("suspended there"))
    #expect(try world.state == "suspended")
    try world.uj.run("start", "demo1")
    line = try world.line(isNew: false)
    #expect(try seen() == "two\ntwo")
    try world.uj.run("stop", "-f", "demo1")
    for name in try world.inventory.snapshots(world.name).snapshots.map(\.identifier) {
      try world.uj.run("snapshot", "delete", "demo1", name)
    }
    let left = try FileReading.entries(of: world.inventory.location.memoryStates(world.name))
    #expect(left.isEmpty)
  }

  @Test("A changed machine is refused with what differs; it can be switched on anew") func changed()
    throws
  {
    let world = try World()
    defer { world.uj.close() }
    let line = try GuestLine(world.uj, "m")
    _ = try line.run("x=kept")
    try world.uj.run("suspend", "m")
    try world.uj.run("set", "m", "memory=128M")
    let refused = try world.uj("start", "m")
    #expect(refused.status == 1)
    #expect(refused.output.contains("memory was 256 MiB and is 128 MiB now"))
    #expect(try world.state == "suspended")
    try world.uj.run("set", "m", "memory=256M")
    try world.uj.run("start", "m")
    #expect(try world.line(isNew: false).run("echo $x") == "kept")
    #expect(try world.uj("suspend", "nobody").output.contains("no such machine"))
    try world.uj.run("suspend", "m")
    #expect(try world.uj("suspend", "m").output.contains("is not running"))
    #expect(try world.uj.run("start", "--discard-state", "m").contains("m: started"))
    #expect(try world.line().run("echo -$x-") == "--")
    let left = try FileReading.entries(of: world.inventory.location.memoryStates(world.name))
    #expect(left.isEmpty)
  }

  @Test("A damaged state is refused with a line, and stays for whoever mends it") func damaged()
    throws
  {
    let world = try World()
    defer { world.uj.close() }
    try world.uj.run("suspend", "m")
    let path = try #require(try world.inventory.suspendedState(world.name))
    let file = try FileDescriptor.open(path, O_RDWR)
    var byte: UInt8 = 0
    // Where Linux puts its kernel.
    let place = off_t(4096 + 0x100_0000)
    pread(file.rawValue, &byte, 1, place)
    byte ^= 4
    pwrite(file.rawValue, &byte, 1, place)
    let refused = try world.uj("start", "m")
    #expect(refused.status == 1)
    #expect(refused.output.contains("is damaged: the memory at 16777216"))
    byte ^= 4
    pwrite(file.rawValue, &byte, 1, place)
    #expect(try world.uj.run("start", "m").contains("goes on"))
    _ = try world.line(isNew: false).run("true")
  }

  @Test("Killed while it is suspended, a machine is either whole or crashed") func killed() throws {
    let world = try World()
    defer { world.uj.close() }
    var suspended = 0
    for delay: UInt32 in [0, 30_000, 100_000, 300_000] {
      let holder = try #require(world.inventory.holder(world.name))
      let client = try MachineClient(world.name, at: world.inventory.location)
      let done = Monitor(false)
      let thread = try PosixThread(name: "killer") {
        usleep(delay)
        kill(holder.process, SIGKILL)
        done.update { $0 = true }
      }
      _ = try? client.call("suspend", timeout: 20)
      thread.join()
      let deadline = MonotonicClock.now + 10_000_000_000
      while world.inventory.holder(world.name)?.role == .host, MonotonicClock.now < deadline {
        usleep(5000)
      }
      let state = try world.state
      #expect(["suspended", "crashed"].contains(state))
      if state == "suspended" { suspended += 1 }
      try world.uj.run("start", "m")
      _ = try world.line(isNew: state == "crashed").run("true")
    }
    try world.uj.run("suspend", "m")
    // Left-overs are gone.
    let left = try FileReading.entries(of: world.inventory.location.memoryStates(world.name))
    #expect(left.count == 1)
  }
}
