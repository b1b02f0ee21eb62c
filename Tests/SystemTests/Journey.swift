import CLinux
import DiskImage
import Inventory
import Platform
import TestGuests
import Testing

/// A machine's way through snapshots with their memory: so many are taken while it runs, and so many times it goes back
/// to one of them at random, or forward to what was left.
struct Journey {
  /// What the guest is like at a moment.
  struct Moment {
    /// How far it had counted, at least.
    var count: Int
    /// A checksum of what it holds in memory.
    var pattern: String
  }

  let uj: Underjack
  let machine: String
  /// Snapshots, and as many jumps.
  let count: Int
  /// A guest counts no more than this while a jump is made and it is looked at.
  let most: Int
  /// Gives the guest another pattern.
  let change: (GuestLine) throws -> Void
  /// Where the guest is: asserts that it has lost nothing and counted nothing twice, and that its clock has not gone back.
  let look: (GuestLine, Comment) throws -> Moment

  /// - Parameters:
  ///   - taken: called when all snapshots were taken, with the present.
  ///   - jump: makes one of the jumps.
  /// - Returns: the guest's line at the end.
  func run(
    taken: (Moment) throws -> Void = { _ in },
    jump: (_ place: Comment, _ body: () throws -> Void) throws -> Void = { _, body in try body() }
  ) throws -> GuestLine {
    var line = try GuestLine(uj, machine)
    var moments: [Moment] = []
    for number in 0..<count {
      try change(line)
      moments.append(try look(line, "before snapshot \(number)"))
      let text = try uj.run("snapshot", "take", machine, "s\(number)", "--memory")
      #expect(text.contains("with its memory"))
    }
    let present = try look(line, "after all snapshots")
    try taken(present)
    var last = (identifier: "", moment: present)
    for step in 0..<count {
      let isForward = !last.identifier.isEmpty && step % 3 == 2
      let number = Int.random(in: 0..<count)
      let target = isForward ? last.moment : moments[number]
      let place: Comment = "step \(step), \(isForward ? last.identifier : "s\(number)")"
      let left = try look(line, place)
      try jump(place) {
        let kept =
          isForward
          ? try go("forward", "-f", machine, last.identifier)
          : try go("rollback", "-f", machine, "s\(number)")
        line = try GuestLine(uj, machine)
        let seen = try look(line, place)
        #expect(seen.pattern == target.pattern, place)
        #expect(seen.count >= target.count, place)
        // It went on from there, and not from anywhere else.
        #expect(seen.count < target.count + most, place)
        last = (kept, left)
      }
    }
    return line
  }

  /// - Returns: the identifier of what was left.
  private func go(_ words: String...) throws -> String {
    let text = try uj.run(["snapshot"] + words)
    #expect(text.contains("\(machine): goes on from there"))
    let kept = text.split(separator: "\n").first { $0.hasPrefix("what was left is kept as ") }
    return String(kept?.dropFirst("what was left is kept as ".count).prefix { $0 != "," } ?? "")
  }

  /// The images of all layers, each of which is sound, for us and for qemu-img(1). The machine is off.
  func soundLayers() throws -> [String] {
    let files = try TestProcess.run([
      "/usr/bin/find", "\(uj.folder)/home/machines/\(machine)", "-name", "*.qcow2",
    ]).output.split(separator: "\n").map(String.init)
    #expect(files.count > count)
    let peer = "/usr/bin/qemu-img"
    for file in files {
      let own = try uj("disk", "check", file)
      #expect(own.status == 0, "\(file): \(own.output)")
      guard access(peer, X_OK) == 0 else { continue }
      let result = try TestProcess.run([peer, "check", file])
      #expect(result.status == 0, "\(file): \(result.output)")
    }
    return files
  }

  /// A raw copy of what a layer shows.
  func copy(_ file: String) throws -> String {
    let copy = "\(uj.folder)/copy.raw"
    try uj.run("disk", "convert", "--trust", "--replace", file, copy)
    return copy
  }

  /// The present layer of one of the machine's disks.
  func present(disk: Int = 0) throws -> String {
    let inventory = Inventory(
      location: InventoryLocation(home: "\(uj.folder)/home", runtime: "\(uj.folder)/run"),
      images: DiskImageStore())
    return try inventory.resolvedDisks(try MachineName(machine))[disk].path
  }

  /// The file system of every layer is sound: of the present as it is, of snapshots after its journal was read.
  func checkFileSystems(_ files: [String], present: String) throws {
    for file in files {
      let copy = try copy(file)
      if file != present {
        // 1: the journal was read, as after any crash.
        let result = try TestProcess.run(["/usr/sbin/e2fsck", "-p", copy])
        #expect(result.status <= 1, "\(file): \(result.output)")
      }
      let result = try TestProcess.run(["/usr/sbin/e2fsck", "-fn", copy])
      #expect(result.status == 0, "\(file): \(result.output)")
    }
  }
}
