import CLinux
import Inventory
import Synchronization
import Testing

@Suite struct SnapshotTests {
  @Test func backAndForward() throws {
    let world = try World()
    try world.guestWrites("1")
    let before = try world.inventory.takeSnapshot(world.name, title: "before")
    #expect(try world.guestSees() == "1")
    try world.guestWrites("2")
    let back = try world.inventory.rollBack(world.name, to: "before")
    #expect(back.kept?.isAutomatic == true)
    #expect(back.kept?.name == "before rollback to before")
    #expect(try world.guestSees() == "1")
    let forward = try world.inventory.rollForward(world.name)
    #expect(forward.target == back.kept)
    #expect(forward.kept == nil, "nothing was written since")
    #expect(try world.guestSees() == "12")
    // Unchanged states leave no nodes and no files behind.
    for _ in 0..<5 {
      try world.inventory.rollBack(world.name, to: before.identifier)
      #expect(try world.guestSees() == "1")
      try world.inventory.rollForward(world.name)
      #expect(try world.guestSees() == "12")
    }
    #expect(try world.inventory.snapshots(world.name).snapshots.count == 2)
    #expect(try world.layerFiles() == 3)
  }

  @Test func severalStepsBackAreSeveralForward() throws {
    let world = try World()
    for number in 1...3 {
      try world.guestWrites("\(number)")
      try world.inventory.takeSnapshot(world.name, title: "s\(number)")
    }
    try world.guestWrites("4")
    try world.inventory.rollBack(world.name, to: "s2")
    try world.inventory.rollBack(world.name, to: "s1")
    #expect(try world.guestSees() == "1")
    #expect(try world.inventory.rollForward(world.name).target.name == "s2")
    #expect(try world.guestSees() == "12")
    #expect(try world.inventory.rollForward(world.name).target.isAutomatic)
    #expect(try world.guestSees() == "1234")
    #expect(
      refusal { try world.inventory.rollForward(world.name) }.contains("nothing to roll forward"))
  }

  @Test func forwardAsksWhereThereAreSeveral() throws {
    let world = try World()
    try world.inventory.takeSnapshot(world.name, title: "root")
    for branch in ["left", "right"] {
      try world.guestWrites(branch)
      try world.inventory.takeSnapshot(world.name, title: branch)
      try world.inventory.rollBack(world.name, to: "root")
    }
    // `right` was left last; a new snapshot starts a new line, and then both are equal.
    try world.inventory.takeSnapshot(world.name, title: "third")
    try world.inventory.rollBack(world.name, to: "root")
    try world.inventory.rollForward(world.name)
    try world.inventory.rollBack(world.name, to: "root")
    try world.inventory.rollForward(world.name, to: "left")
    #expect(try world.guestSees() == "left")
    let rows = try world.inventory.snapshots(world.name).rows()
    #expect(rows.map(\.snapshot.name) == ["root", "left", "right", "third"])
    #expect(rows.map(\.branch) == ["", "├─ ", "├─ ", "└─ "])
    #expect(rows.map(\.isPosition) == [false, true, false, false])
  }

  @Test func branchGrowsFromASnapshot() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "one")
    try world.guestWrites("2")
    try world.inventory.takeSnapshot(world.name, title: "two")
    let branch = try MachineName("b")
    try world.inventory.clone(world.name, at: "one", as: branch)
    #expect(try world.guestSees(branch) == "1")
    try world.guestWrites("x", branch)
    #expect(try world.guestSees() == "12")
    // The source goes on as it was: nothing of it was moved.
    #expect(try world.inventory.snapshots(world.name).find("two").parent != nil)
    try world.inventory.renameSnapshot(world.name, "one", to: "first")
    #expect(
      refusal { try world.inventory.renameSnapshot(world.name, "first", to: "two") }
        .contains("already"))
    try world.inventory.rollBack(world.name, to: "first")
    try world.inventory.deleteSnapshot(world.name, "two")
    #expect(try world.guestSees(branch) == "1x")
    #expect(refusal { try world.inventory.delete(world.name) }.contains("b rest on its own"))
  }

  @Test func cloneOfAnUntouchedStateSurvivesRollingBack() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "one")
    // The clone rests on a layer without data, which no snapshot has.
    let clone = try MachineName("c")
    try world.inventory.clone(world.name, as: clone)
    try world.inventory.rollBack(world.name, to: "one")
    try world.inventory.takeSnapshot(world.name, title: "two")
    #expect(try world.guestSees(clone) == "1")
    #expect(try world.brokenInvariant() == nil)
  }

  @Test func namesAndIdentifiersSelect() throws {
    let world = try World()
    let one = try world.inventory.takeSnapshot(world.name)
    #expect(one.name == "snapshot-1")
    #expect(
      refusal { try world.inventory.takeSnapshot(world.name, title: "snapshot-1") }
        .contains("already"))
    #expect(
      refusal { try world.inventory.takeSnapshot(world.name, title: "a\nb") }
        .contains("control"))
    let tree = try world.inventory.snapshots(world.name)
    #expect(try tree.find(String(one.identifier.prefix(4))) == one)
    #expect(refusal { _ = try tree.find("") }.contains("no such snapshot"))
  }

  @Test func externalDiskGetsLayersAndIsNeverWrittenAgain() throws {
    let world = try World()
    let file = world.scratch.path + "/ext.img"
    try FileChanges().write("data=E\n", to: file)
    var definition = MachineDefinition()
    definition.disks = [.init(name: "disk0", path: file, format: .raw)]
    let name = try MachineName("ext")
    try world.inventory.create(name, definition)
    #expect(try world.inventory.resolvedDisks(name)[0].path == file)
    try world.inventory.takeSnapshot(name, title: "s")
    try world.guestWrites("2", name)
    #expect(try FileReading.text(file) == "data=E\n")
    #expect(try world.inventory.resolvedDisks(name)[0].format == .qcow2)
    try world.inventory.rollBack(name, to: "s")
    #expect(try world.guestSees(name) == "E")
    try world.inventory.rollForward(name)
    #expect(try world.guestSees(name) == "E2")
    let text = try world.inventory.definitionText(name)
    let moved = text.split(separator: "\n").map { $0.hasPrefix("path") ? "path = \"/other\"" : $0 }
    try world.inventory.saveDefinition(moved.joined(separator: "\n"), of: name)
    #expect(
      refusal { _ = try world.inventory.resolvedDisks(name) }.contains("cannot change while"))
  }

  @Test func diskYoungerThanTheSnapshotIsKept() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "s")
    let file = world.scratch.path + "/late.img"
    try FileChanges().write("data=L\n", to: file)
    let text = try world.inventory.definitionText(world.name)
    try world.inventory.saveDefinition(
      text + "[[disk]]\nname = \"late\"\npath = \"\(file)\"\nformat = \"raw\"\n", of: world.name)
    try world.guestWrites("2")
    try world.inventory.rollBack(world.name, to: "s")
    let disks = try world.inventory.resolvedDisks(world.name)
    #expect(try FakeImages.content(disks[0].path) == "1")
    #expect(try FakeImages.content(disks[1].path) == "L")
    #expect(disks[1].path != file, "kept by the automatic snapshot, so never written again")
  }
}

/// Lets every command die before each of its steps in turn, and looks at what is left.
@Suite struct CrashTests {
  /// Fails at step number `limit` and at every later one, as a dead process does.
  final class Death: Sendable {
    private let steps = Mutex<(count: Int, limit: Int)>((0, .max))
    var gate: FileChanges.Gate {
      { [self] (step) throws(InventoryError) in
        let isDead = steps.withLock { steps in
          steps.count += 1
          return steps.count > steps.limit
        }
        if isDead { throw InventoryError(.io, "died before: \(step)") }
      }
    }
    func arm(after count: Int) { steps.withLock { $0 = (0, count) } }
    func disarm() { steps.withLock { $0 = (0, .max) } }
  }

  private func everyStep(
    _ command: (World) throws -> Void, old: String, new: String,
    see: (World) throws -> String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    var outcomes: Set<String> = []
    for step in 0..<200 {
      let death = Death()
      let world = try World(gate: death.gate)
      try world.guestWrites("1")
      try world.inventory.takeSnapshot(world.name, title: "one")
      try world.guestWrites("2")
      death.arm(after: step)
      var isDone = true
      do { try command(world) } catch { isDone = false }
      death.disarm()
      let seen = try see(world)
      #expect(
        seen == old || seen == new, "died before step \(step): \(seen)",
        sourceLocation: sourceLocation)
      outcomes.insert(seen)
      #expect(
        try world.brokenInvariant() == nil, "died before step \(step)",
        sourceLocation: sourceLocation)
      // Every command works afterwards, and sees all data.
      try world.inventory.takeSnapshot(world.name, title: "after")
      try world.inventory.rollBack(world.name, to: "one")
      #expect(try world.guestSees() == "1", sourceLocation: sourceLocation)
      try world.inventory.rollForward(world.name)
      for name in try world.inventory.names() { _ = try world.guestSees(name) }
      #expect(try world.brokenInvariant() == nil, sourceLocation: sourceLocation)
      if isDone {
        #expect(step > 4, "the gate must have been passed", sourceLocation: sourceLocation)
        #expect(outcomes == [old, new], sourceLocation: sourceLocation)
        return
      }
    }
    Issue.record("the command never came to its end", sourceLocation: sourceLocation)
  }

  private func describe(_ world: World) throws -> String {
    let tree = try world.inventory.snapshots(world.name)
    return try world.guestSees() + " " + tree.snapshots.map(\.name).joined(separator: ",")
  }

  @Test func take() throws {
    try everyStep(
      { try $0.inventory.takeSnapshot($0.name, title: "two") }, old: "12 one", new: "12 one,two",
      see: describe)
  }

  @Test func rollBack() throws {
    try everyStep(
      { try $0.inventory.rollBack($0.name, to: "one") }, old: "12 one",
      new: "1 one,before rollback to one", see: describe)
  }

  @Test func clone() throws {
    let names: (World) throws -> String = { world in
      let names = try world.inventory.names().map(\.description)
      for name in try world.inventory.names() {
        #expect(try world.guestSees(name) == "12")
      }
      return names.joined(separator: " ")
    }
    try everyStep(
      { try $0.inventory.clone($0.name, as: try MachineName("b")) }, old: "a", new: "a b",
      see: names)
  }

  @Test func deleteAndRename() throws {
    let names: (World) throws -> String = { world in
      try world.inventory.names().map(\.description).joined(separator: " ")
    }
    var outcomes: Set<String> = []
    for step in 0..<100 {
      let death = Death()
      let world = try World(gate: death.gate)
      try world.inventory.clone(world.name, as: try MachineName("b"))
      death.arm(after: step)
      do {
        try world.inventory.delete(try MachineName("b"))
        outcomes.insert("end")
      } catch {}
      death.disarm()
      outcomes.insert(try names(world))
      try world.inventory.clone(world.name, as: try MachineName("c"))
      #expect(try world.guestSees() == "")
      if outcomes.contains("end") { break }
    }
    #expect(outcomes == ["a b", "a", "end"])
  }
}
