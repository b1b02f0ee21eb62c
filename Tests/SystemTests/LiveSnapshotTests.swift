import CLinux
import DiskImage
import Inventory
import Platform
import TestGuests
import Testing

/// What these tests need and this host lacks.
private let missing: String? =
  access(Underjack.program, X_OK) == 0 ? LinuxGuest.missing : "uj is not built"

/// Snapshots of a machine whose Linux works on its disk meanwhile.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct LiveSnapshotTests {
  /// What the guest writes before each snapshot while its disk is busy.
  private static let words = ["alpha", "beta", "gamma", "delta", "epsilon"]

  /// A sector of the guest's disk, as it says so itself.
  private func sector(_ line: GuestLine) throws -> String {
    try line.run("dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | tr -d '\\0'")
      .split(separator: "\n").first.map { $0.filter { $0.isLetter } } ?? ""
  }

  private func write(_ text: String, _ line: GuestLine) throws {
    _ = try line.run(
      "echo \(text) | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync,notrunc 2>/dev/null")
  }

  @Test func backAndForwardWhileTheGuestWrites() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("demo", "--no-console")
    var line = try GuestLine(uj, "demo1")
    try line.wait(for: "/ # ", seconds: 120)
    try write("first", line)
    let taken = try uj.run("snapshot", "take", "demo1", "one")
    #expect(taken.contains("crash-consistent"))
    try write("second", line)
    // Requests are in flight all the time now.
    try line.type(
      "(while true; do dd if=/dev/zero of=/dev/vda bs=64k seek=64 count=64 conv=fsync,notrunc; "
        + "done) >/dev/null 2>&1 &")
    for (number, word) in Self.words.enumerated() {
      // It is durable when the guest's shell comes back: the snapshot must have it.
      try write(word, line)
      try uj.run("snapshot", "take", "demo1", "during\(number + 1)")
    }
    #expect(try sector(line) == Self.words[4])

    // Rolling back under a running guest is refused, and -f is the way that is named.
    let refused = try uj("snapshot", "rollback", "demo1", "one")
    #expect(refused.status == 1)
    #expect(refused.output.contains("say -f"))
    // A branch and a name can be had meanwhile.
    try uj.run("snapshot", "branch", "demo1", "one", "other")
    try uj.run("snapshot", "rename", "demo1", "during2", "renamed")
    #expect(
      try uj.run("snapshot", "delete", "demo1", "during4").contains("when the machine is off"))

    let rolled = try uj.run("snapshot", "rollback", "-f", "demo1", "one")
    #expect(rolled.contains("started again"))
    line = try GuestLine(uj, "demo1")
    try line.wait(for: "/ # ", seconds: 120)
    #expect(try sector(line) == "first")
    try uj.run("stop", "-f", "demo1")
    try uj.run("snapshot", "merge", "demo1")
    try uj.run("snapshot", "forward", "demo1")
    try uj.run("snapshot", "delete", "demo1", "during1")
    #expect(try uj.run("snapshot", "diff", "demo1", "renamed", "during3").contains("disk0"))
    try uj.run("start", "demo1", "other")
    line = try GuestLine(uj, "demo1")
    try line.wait(for: "/ # ", seconds: 120)
    #expect(try sector(line) == Self.words[4])
    let branch = try GuestLine(uj, "other")
    try branch.wait(for: "/ # ", seconds: 120)
    #expect(try sector(branch) == "first")
    // The guest heeds the power button.
    try uj.run("stop", "-w", "--timeout", "60", "-a")
    #expect(try !uj.run("status").contains("running"))
    try checkImages(uj)
    for (name, word) in [
      ("one", "first"), ("renamed", Self.words[1]), ("during3", Self.words[2]),
      ("during5", Self.words[4]),
    ] {
      try uj.run("snapshot", "rollback", "demo1", name)
      #expect(try stored(uj) == word, "snapshot \(name)")
    }
  }

  /// The same sector as the host finds it in the machine's present state.
  private func stored(_ uj: Underjack) throws -> String {
    let inventory = Inventory(
      location: InventoryLocation(home: "\(uj.folder)/home", runtime: "\(uj.folder)/run"),
      images: DiskImageStore())
    let disk = try inventory.resolvedDisks(try MachineName("demo1"))[0]
    let image = try DiskImage.open(
      disk.path, format: .qcow2, mode: .readOnly, backing: .allowExplicit(disk.backing))
    defer { try? image.close() }
    var bytes = [UInt8](repeating: 0, count: 512)
    try bytes.withUnsafeMutableBytes { try image.read(into: $0, at: 4096) }
    return String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self)
  }

  /// Every layer is a sound image.
  private func checkImages(_ uj: Underjack) throws {
    let found = try TestProcess.run([
      "/usr/bin/find", "\(uj.folder)/home/machines", "-name", "*.qcow2",
    ]).output.split(separator: "\n").map(String.init)
    #expect(found.count > 3)
    for file in found {
      let result = try uj("disk", "check", file)
      #expect(result.status == 0, "\(file): \(result.output)")
    }
  }
}
