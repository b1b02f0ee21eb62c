import CLinux
import Inventory
import Platform
import Synchronization
import Testing

@Suite struct MergingTests {
  /// Snapshots `1`, `2`, `3` in a row, each with its own datum, and `4` in the present.
  private func row(_ gate: FileChanges.Gate? = nil) throws -> World {
    let world = try World(gate: gate)
    for number in 1...3 {
      try world.guestWrites("\(number)")
      try world.inventory.takeSnapshot(world.name, title: "\(number)")
    }
    try world.guestWrites("4")
    return world
  }

  @Test func deletingInTheMiddleKeepsEverything() throws {
    let world = try row()
    let middle = try world.inventory.snapshots(world.name).find("2")
    try world.inventory.deleteSnapshot(world.name, "2")
    let tree = try world.inventory.snapshots(world.name)
    #expect(tree.snapshots.map(\.name) == ["1", "3"])
    #expect(tree.snapshots[1].parent == middle.parent)
    #expect(try world.inventory.mergeableLayers(world.name) == 1)
    #expect(try world.inventory.mergeLayers(world.name).merged == 1)
    #expect(try world.inventory.mergeableLayers(world.name) == 0)
    #expect(try world.layerFiles() == 3)
    #expect(try world.guestSees() == "1234")
    try world.inventory.rollBack(world.name, to: "3")
    #expect(try world.guestSees() == "123")
    try world.inventory.rollBack(world.name, to: "1")
    #expect(try world.guestSees() == "1")
    #expect(try world.brokenInvariant() == nil)
  }

  @Test func deletingWhatThePresentGrewFrom() throws {
    let world = try row()
    for title in ["3", "1", "2"] {
      try world.inventory.deleteSnapshot(world.name, title)
      try world.inventory.mergeLayers(world.name)
      #expect(try world.guestSees() == "1234")
      #expect(try world.brokenInvariant() == nil)
    }
    #expect(try world.layerFiles() == 1)
    #expect(try world.inventory.snapshots(world.name).position == nil)
    // What no snapshot holds any more is kept when the machine is rolled away from it.
    try world.inventory.takeSnapshot(world.name, title: "new")
    try world.guestWrites("5")
    #expect(try world.inventory.rollBack(world.name, to: "new").kept != nil)
  }

  @Test func aForkStaysUntilOneBranchIsLeft() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "fork")
    for branch in ["a", "b"] {
      try world.guestWrites(branch)
      try world.inventory.takeSnapshot(world.name, title: branch)
      try world.inventory.rollBack(world.name, to: "fork")
    }
    try world.inventory.rollBack(world.name, to: "a")
    try world.inventory.deleteSnapshot(world.name, "fork")
    #expect(try world.inventory.mergeableLayers(world.name) == 0)
    try world.inventory.deleteSnapshot(world.name, "b")
    try world.inventory.mergeLayers(world.name)
    #expect(try world.guestSees() == "1a")
    #expect(try world.layerFiles() == 2)
  }

  @Test func layersUnderOtherMachinesStay() throws {
    let world = try row()
    let branch = try MachineName("b")
    try world.inventory.clone(world.name, at: "2", as: branch)
    try world.guestWrites("x", branch)
    try world.inventory.deleteSnapshot(world.name, "2")
    try world.inventory.mergeLayers(world.name)
    #expect(try world.guestSees(branch) == "12x")
    #expect(try world.layerFiles() == 4)
    // With the other machine goes the reason.
    try world.inventory.delete(branch)
    #expect(try world.inventory.mergeLayers(world.name).merged == 1)
    #expect(try world.layerFiles() == 3)
    #expect(try world.guestSees() == "1234")
  }

  @Test(arguments: ["1", "2", "3"])
  func dyingAtAnyStepLosesNothing(_ title: String) throws {
    for step in 0..<400 {
      let death = CrashTests.Death()
      let world = try row(death.gate)
      // Which direction the data move depends on which layer is the smaller.
      if title == "2" { try world.guestWrites(String(repeating: "y", count: 50)) }
      let present = try world.guestSees()
      death.arm(after: step)
      var isDone = true
      do {
        try world.inventory.deleteSnapshot(world.name, title)
        try world.inventory.mergeLayers(world.name)
        if try world.inventory.mergeableLayers(world.name) > 0 { isDone = false }
      } catch {
        isDone = false
      }
      death.disarm()
      #expect(try world.guestSees() == present, "died before step \(step)")
      #expect(try world.brokenInvariant() == nil, "died before step \(step)")
      let report = try world.inventory.mergeLayers(world.name)
      #expect(report.postponed == [], "died before step \(step)")
      #expect(try world.inventory.mergeableLayers(world.name) == 0, "died before step \(step)")
      for snapshot in try world.inventory.snapshots(world.name).snapshots
      where !snapshot.isAutomatic {
        try world.inventory.rollBack(world.name, to: snapshot.identifier)
        let all = (1...3).map(String.init).joined()
        let expected = String(all.prefix(Int(snapshot.name) ?? 0))
        #expect(try world.guestSees() == expected, "died before step \(step)")
      }
      #expect(try world.brokenInvariant() == nil, "died before step \(step)")
      if isDone {
        #expect(step > 4)
        return
      }
    }
    Issue.record("the command never came to its end")
  }

  @Test func aSnapshotWhileRunningIsAllOrNothing() throws {
    struct NoRoom: Error {}
    let world = try World()
    try world.guestWrites("1")
    let before = try world.inventory.state(world.name)
    #expect(throws: NoRoom.self) {
      _ = try world.inventory.takeSnapshotWhileRunning(world.name) { _, _ in throw NoRoom() }
    }
    #expect(try world.inventory.state(world.name) == before)
    var seen: [String] = []
    let taken = try world.inventory.takeSnapshotWhileRunning(
      world.name, title: "live"
    ) { layers, commit in
      #expect(try world.inventory.snapshots(world.name).snapshots.isEmpty)
      for layer in layers {
        #expect(FileReading.exists(layer.path))
        seen.append(layer.disk)
      }
      try commit()
    }
    #expect(seen == ["disk0"])
    #expect(taken.name == "live")
    #expect(try world.guestSees() == "1")
    try world.guestWrites("2")
    #expect(try world.layerFiles() == 2, "what the failed one left is gone")
    try world.inventory.rollBack(world.name, to: "live")
    #expect(try world.guestSees() == "1")
  }

  @Test func whoMergesMakesWay() throws {
    let world = try row()
    try world.inventory.deleteSnapshot(world.name, "2")
    let changes = FileChanges()
    let slow = Inventory(
      location: world.inventory.location, images: FakeImages(changes: changes, neverEnds: true),
      changes: changes)
    let reports = Mutex<[Inventory.MergeReport]>([])
    let begun = Atomic<Bool>(false)
    let (name, lock) = (world.name, world.inventory.location.lock(world.name))
    let merge = try PosixThread(name: "merge") {
      let report = try? slow.mergeLayers(name) { _, _ in begun.store(true, ordering: .relaxed) }
      if let report { reports.withLock { $0.append(report) } }
    }
    for _ in 0..<60_000 where !begun.load(ordering: .relaxed) { usleep(1000) }
    #expect(MachineLock.holder(path: lock)?.role == .merge)
    // Two merges would push each other aside for ever.
    #expect(
      refusal { try world.inventory.mergeLayers(name) }.contains("is merging its layers"))
    #expect(reports.withLock { $0.isEmpty })
    // By a thread of the same process, as in the console: it must not end itself either.
    let snapshot = try world.inventory.takeSnapshot(name, title: "now")
    #expect(snapshot.name == "now")
    merge.join()
    let report = try #require(reports.withLock { $0.first })
    #expect(report.hasMadeWay)
    #expect(report.merged == 0)
    #expect(report.postponed.isEmpty)
    #expect(try world.inventory.mergeLayers(name).merged == 1)
    #expect(try world.guestSees() == "1234")
  }

  /// Killed between a commit and the change of the state file, with another machine made from the committed layer since.
  @Test func aCommitCutOffAndThenABranch() throws {
    let death = CrashTests.Death()
    let world = try row(death.gate)
    // The layer of snapshot 3 is the smaller one: it is committed, and the present is laid on what it went to.
    let one = try world.inventory.resolvedDisks(world.name)[0]
    let layer = try #require(one.backing.dropFirst().first)
    try FakeImages.append(String(repeating: "y", count: 50), to: layer)
    let present = try world.guestSees()
    var rested: [String] = []
    for step in 0..<100 {
      let copy = try row(death.gate)
      let disk = try copy.inventory.resolvedDisks(copy.name)[0]
      try FakeImages.append(
        String(repeating: "y", count: 50), to: try #require(disk.backing.dropFirst().first))
      death.arm(after: step)
      let isDone =
        (try? copy.inventory.deleteSnapshot(copy.name, "2")) != nil
        && (try? copy.inventory.mergeLayers(copy.name)) != nil
      death.disarm()
      try copy.inventory.clone(copy.name, at: "3", as: try MachineName("b"))
      let branch = try copy.guestSees(try MachineName("b"))
      #expect(try copy.inventory.mergeLayers(copy.name).postponed == [])
      #expect(try copy.guestSees() == present, "died before step \(step)")
      #expect(try copy.guestSees(try MachineName("b")) == branch, "died before step \(step)")
      rested.append(branch)
      if isDone { break }
    }
    #expect(rested.count > 4)
    #expect(Set(rested).count == 1)
  }
}

@Suite struct RetentionTests {
  private func snapshots(_ times: [Int64]) -> [Snapshot] {
    times.enumerated().map { index, time in
      Snapshot(
        identifier: "s\(index)", name: "n\(index)", parent: index == 0 ? nil : "s\(index - 1)",
        created: time, isAutomatic: false, layers: [:])
    }
  }

  @Test func partsAddUp() {
    // Every 20 minutes for three days.
    let start: Int64 = 1_700_000_000
    let all = snapshots((0..<216).map { start + Int64($0) * 1200 })
    var rule = RetentionRule()
    rule.last = 2
    #expect(rule.kept(all).keys.sorted() == ["s214", "s215"])
    rule = RetentionRule()
    rule.hourly = 5
    let hours = rule.kept(all)
    #expect(hours.count == 5)
    #expect(hours["s215"] == "hourly")
    rule.daily = 3
    let both = rule.kept(all)
    #expect(both.count == 7)
    #expect(both["s215"] == "hourly, daily")
    rule.daily = 100
    #expect(rule.kept(all).count <= 5 + 4)
  }

  @Test func pruneKeepsWhereOneStands() throws {
    let world = try World()
    for number in 1...6 {
      try world.guestWrites("\(number)")
      try world.inventory.takeSnapshot(world.name, title: "\(number)")
    }
    try world.inventory.rollBack(world.name, to: "2")
    #expect(refusal { _ = try world.inventory.prunePlan(world.name) }.contains("[keep]"))
    let text = try world.inventory.definitionText(world.name)
    try world.inventory.saveDefinition(text + "\n[keep]\nlast = 1\n", of: world.name)
    let plan = try world.inventory.prunePlan(world.name)
    #expect(plan.going.map(\.name) == ["1", "3", "4", "5"])
    try world.inventory.prune(world.name)
    try world.inventory.mergeLayers(world.name)
    #expect(try world.guestSees() == "12")
    #expect(try world.inventory.rollForward(world.name).target.name == "6")
    #expect(try world.guestSees() == "123456")
    #expect(try world.brokenInvariant() == nil)
  }

  @Test func differences() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "one")
    try world.inventory.takeSnapshot(world.name, title: "same")
    try world.guestWrites("2")
    try world.inventory.takeSnapshot(world.name, title: "two")
    let same = try world.inventory.difference(world.name, from: "one", to: "same")
    #expect(same.map(\.byteCount) == [0])
    let other = try world.inventory.difference(world.name, from: "one", to: "two")
    #expect(other.map(\.byteCount) == [65536])
    let now = try world.inventory.difference(world.name, from: "two")
    #expect(now.map(\.byteCount) == [0])
  }
}
