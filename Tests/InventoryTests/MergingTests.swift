import CLinux
import Inventory
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
      try world.inventory.mergeLayers(world.name)
      let left = try world.inventory.mergeableLayers(world.name)
      withKnownIssue(
        "a layer may be left to be merged once more; no data is lost", isIntermittent: true
      ) {
        #expect(left == 0)
      }
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

  @Test(
    .enabled(if: access("/usr/bin/python3", X_OK) == 0, "python3 is missing"),
    .disabled("a merge does not make way for another command here: to be mended"))
  func whoMergesMakesWay() throws {
    let world = try World()
    let child = mergingProcess(world.inventory.location.lock(world.name))
    defer { waitpid(child, nil, 0) }
    // The child holds the lock as one who merges; without the signal this would time out.
    let snapshot = try world.inventory.takeSnapshot(world.name, title: "now")
    #expect(snapshot.name == "now")
  }

  /// A process that holds a lock in the role of a merge until it is ended.
  private func mergingProcess(_ path: String) -> pid_t {
    let script = """
      import fcntl,os,struct,time
      f=os.open("\(path)",os.O_RDWR|os.O_CREAT)
      fcntl.fcntl(f,37,struct.pack("hhqqi4x",fcntl.F_WRLCK,0,0,0,0))
      os.ftruncate(f,0)
      os.pwrite(f,("merge %d\\n"%os.getpid()).encode(),0)
      print("held",flush=True)
      time.sleep(60)
      """
    var ends: [Int32] = [0, 0]
    pipe(&ends)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    var child = pid_t()
    var arguments: [UnsafeMutablePointer<CChar>?] = [
      strdup("python3"), strdup("-c"), strdup(script), nil,
    ]
    posix_spawn(&child, "/usr/bin/python3", &actions, nil, &arguments, nil)
    close(ends[1])
    var byte: UInt8 = 0
    _ = read(ends[0], &byte, 1)
    close(ends[0])
    return child
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
