import CLinux
import DiskImage
import Glibc
import Inventory
import Platform
import TestGuests
import Testing

private let strace = "/usr/bin/strace"
private let missing: String? =
  access(Underjack.program, X_OK) != 0
  ? "uj is not built" : access(strace, X_OK) == 0 ? nil : "strace is missing: install strace"

/// Every command that changes files, killed (SIGKILL, by strace's fault injection) at each of its system calls that
/// change or open a file. Afterwards every command works and nothing that was on the disks is lost.
///
/// The short form takes some of the calls of each command; UNDERJACK_LONG_TESTS takes all.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct KillTests {
  private static let calls = [
    "openat", "write", "pwrite64", "pwritev", "fsync", "fdatasync", "rename", "renameat2", "unlink",
    "rmdir", "mkdir", "ftruncate", "fallocate", "linkat", "fcntl",
  ]
  private static let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
  /// Calls tried of each command in the short form.
  private static let shortCount = 6

  /// A machine `a` from template `t`, with snapshots `one` and `two`; each sector 8 says in which state it was written.
  private struct World {
    let uj: Underjack
    let inventory: Inventory
    let name: MachineName

    init(copying other: World? = nil) throws {
      uj = try Underjack()
      if let other {
        let result = try TestProcess.run([
          "/bin/cp", "-a", "\(other.uj.folder)/home", uj.folder,
        ])
        guard result.status == 0 else { throw TestGuestError(result.output) }
      }
      inventory = Inventory(
        location: InventoryLocation(home: "\(uj.folder)/home", runtime: "\(uj.folder)/run"),
        images: DiskImageStore())
      name = try MachineName("a")
    }

    /// What a guest would read.
    func sees(_ machine: MachineName? = nil) throws -> String {
      let disk = try inventory.resolvedDisks(machine ?? name)[0]
      let image = try DiskImage.open(
        disk.path, format: .qcow2, mode: .readOnly, backing: .allowExplicit(disk.backing))
      defer { try? image.close() }
      var bytes = [UInt8](repeating: 0, count: 512)
      try bytes.withUnsafeMutableBytes { try image.read(into: $0, at: 4096) }
      return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// What a guest writes and flushes.
    func write(_ text: String) throws {
      let disk = try inventory.resolvedDisks(name)[0]
      let image = try DiskImage.open(
        disk.path, format: .qcow2, backing: .allowExplicit(disk.backing))
      var bytes = Array(text.utf8)
      bytes += Array(repeating: 0, count: 512 - bytes.count)
      try bytes.withUnsafeBytes { try image.write(from: $0, at: 4096) }
      try image.flush()
      try image.close()
    }

    /// `a`, or what it was renamed to.
    func presentName() throws -> MachineName {
      inventory.exists(name) ? name : try MachineName("renamed")
    }

    func remove() { _ = try? TestProcess.run(["/bin/rm", "-rf", "--", uj.folder]) }
  }

  private func prepared() throws -> World {
    let world = try World()
    try world.uj.run("new", "t", "--template", "--disk", "64M")
    try world.uj.run("clone", "t", "a", "t2")
    for state in ["one", "two", "three"] {
      try world.write(state)
      try world.uj.run("snapshot", "take", "a", state)
    }
    try world.write("now")
    return world
  }

  /// The calls that a command makes: name and number of each, in order.
  private func trace(_ arguments: [String], _ world: World) throws -> [(call: String, number: Int)]
  {
    let file = "\(world.uj.folder)/trace"
    let result = try TestProcess.run(
      [
        strace, "-f", "-o", file, "-e", "trace=\(Self.calls.joined(separator: ","))",
        Underjack.program,
      ] + arguments, environment: world.uj.environment)
    guard result.status == 0 else { throw TestGuestError(result.output) }
    let text = try FileReading.text(file, limit: 64 << 20) ?? ""
    var counts: [String: Int] = [:]
    var calls: [(String, Int)] = []
    for line in text.split(separator: "\n") {
      // Short process ids are padded: "57    openat(", "12345 openat(".
      let call = line.drop { $0 != " " }.drop { $0 == " " }
      guard let name = call.split(separator: "(").first.map(String.init),
        Self.calls.contains(name)
      else { continue }
      counts[name, default: 0] += 1
      // What comes before the first look at the inventory is the loader's business.
      if calls.isEmpty, !line.contains(world.uj.folder) { continue }
      calls.append((name, counts[name] ?? 0))
    }
    return calls
  }

  private func killing(
    _ arguments: [String], old: Set<String>, new: Set<String>,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let original = try prepared()
    defer { original.remove() }
    let rehearsal = try World(copying: original)
    let calls = try trace(arguments, rehearsal)
    rehearsal.remove()
    #expect(calls.count > 5, sourceLocation: sourceLocation)
    let step = Self.isLong ? 1 : max(1, calls.count / Self.shortCount)
    for index in stride(from: 0, to: calls.count, by: step) {
      let (call, number) = calls[index]
      let world = try World(copying: original)
      defer { world.remove() }
      _ = try TestProcess.run(
        [
          strace, "-f", "-o", "/dev/null", "-e", "trace=none", "-e",
          "inject=\(call):signal=KILL:when=\(number)", Underjack.program,
        ] + arguments, environment: world.uj.environment)
      let place: Comment = "killed at \(call) number \(number) of \(arguments)"
      let name = try world.presentName()
      #expect(old.union(new).contains(try world.sees(name)), place, sourceLocation: sourceLocation)
      try look(world, name, place, sourceLocation)
    }
  }

  /// Every command works, and every snapshot holds what it held.
  private func look(
    _ world: World, _ name: MachineName, _ place: Comment, _ sourceLocation: SourceLocation
  ) throws {
    let inventory = world.inventory
    let broken = try inventory.state(name).brokenInvariant { disk, layer in
      FileReading.exists(inventory.layerPath(name, disk, layer))
    }
    #expect(broken == nil, place, sourceLocation: sourceLocation)
    let present = try world.sees(name)
    let after = try inventory.takeSnapshot(name, title: "after")
    for snapshot in try inventory.snapshots(name).snapshots {
      guard ["one", "two", "three"].contains(snapshot.name) else { continue }
      try inventory.rollBack(name, to: snapshot.identifier)
      #expect(try world.sees(name) == snapshot.name, place, sourceLocation: sourceLocation)
    }
    try inventory.rollForward(name, to: after.identifier)
    #expect(try world.sees(name) == present, place, sourceLocation: sourceLocation)
    try inventory.deleteSnapshot(name, "one")
    try inventory.mergeLayers(name)
    #expect(try world.sees(name) == present, place, sourceLocation: sourceLocation)
    let copy = try MachineName("copy")
    try inventory.clone(name, at: "after", as: copy)
    #expect(try world.sees(copy) == present, place, sourceLocation: sourceLocation)
    for disk in try inventory.state(name).disks {
      for layer in disk.parents.keys {
        let file = inventory.layerPath(name, disk, layer)
        // Lost space is allowed, damage is not.
        let check = try DiskImage.check(file)
        #expect(check.corruptions == 0, place, sourceLocation: sourceLocation)
      }
    }
  }

  @Test func take() throws {
    try killing(["snapshot", "take", "a", "four"], old: ["now"], new: ["now"])
  }

  @Test func rollBack() throws {
    try killing(["snapshot", "rollback", "a", "one"], old: ["now"], new: ["one"])
  }

  @Test func forward() throws {
    try killing(["snapshot", "forward", "a", "two"], old: ["now"], new: ["two"])
  }

  /// With the merge of its layers.
  @Test func deleteInTheMiddle() throws {
    try killing(["snapshot", "delete", "a", "two"], old: ["now"], new: ["now"])
  }

  @Test func rename() throws {
    try killing(["snapshot", "rename", "a", "three", "renamed"], old: ["now"], new: ["now"])
  }

  @Test func clone() throws {
    try killing(["clone", "t", "b"], old: ["now"], new: ["now"])
  }

  @Test func create() throws {
    try killing(["new", "b", "--disk", "1G"], old: ["now"], new: ["now"])
  }

  @Test func renamingAMachine() throws {
    try killing(["rename", "a", "renamed"], old: ["now"], new: ["now"])
  }

  @Test func deletingAMachine() throws {
    try killing(["delete", "-y", "t2"], old: ["now"], new: ["now"])
  }
}
