import CLinux
import Inventory
import Testing

/// Snapshots that the clock takes, and going back in time to them.
@Suite struct AutosnapTests {
  @Test("The setting is read, written and refused with what it should be") func setting() throws {
    #expect(Autosnap("every 30s keep 20") == Autosnap(interval: 30, count: 20))
    #expect(Autosnap("every 5 keep 1") == Autosnap(interval: 5, count: 1))
    #expect(Autosnap("every 1h30m keep 3")?.text == "every 90m keep 3")
    for text in [
      "", "every", "every 0s keep 2", "every 30s keep 0", "every 30s keep 1001", "every 2d keep 1",
      "every 30 s keep 1", "each 30s keep 1", "every 30s keep 1 more", "every -1s keep 1",
      "every 99999999999999999999s keep 1",
    ] {
      #expect(Autosnap(text) == nil, "\(text)")
    }
    for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5400), ("1d", 86400)] {
      #expect(Autosnap.seconds(text) == seconds)
    }
    for text in ["", "m", "1x", "1m5", "-5", "9999999999h"] {
      #expect(Autosnap.seconds(text) == nil, "\(text)")
    }
    let definition = try MachineDefinition(
      text: "autosnap = \"every 2m keep 7\"\n", path: "machine.toml")
    #expect(definition.autosnap == Autosnap(interval: 120, count: 7))
    let again = try MachineDefinition(
      text: definition.text(name: try MachineName("m")), path: "machine.toml")
    #expect(again.autosnap == definition.autosnap)
    let line = refusal {
      _ = try MachineDefinition(text: "autosnap = \"hourly\"\n", path: "machine.toml")
    }
    #expect(line.contains("autosnap must be \"every TIME keep NUMBER\""))
  }

  /// What a host does for a checkpoint; a file stands for the memory.
  private func checkpoint(_ world: World, _ title: String) throws -> Snapshot {
    var prepared = try world.inventory.prepareSnapshot(
      world.name, title: title, isCheckpoint: true)
    try world.inventory.shareLayers(world.name, &prepared)
    try world.inventory.commit(world.name, prepared)
    let (identifier, path) = try world.inventory.prepareMemoryState(world.name)
    try FileChanges().write(title, to: path)
    try world.inventory.keepMemory(world.name, of: prepared.snapshot, identifier)
    return prepared.snapshot
  }

  @Test("The oldest go, those of a person's stay, and unwritten disks get no layers")
  func pruning() throws {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "mine")
    for number in 1...5 {
      let snapshot = try checkpoint(world, "c\(number)")
      // Nothing was written since 'mine'.
      let before = try world.inventory.snapshots(world.name).snapshots[0].layers
      #expect(snapshot.layers == before)
    }
    try world.guestWrites("2")
    let written = try checkpoint(world, "c6")
    let first = try world.inventory.snapshots(world.name).snapshots[0].layers
    #expect(written.layers != first)
    #expect(try world.inventory.pruneCheckpoints(world.name, Autosnap(interval: 1, count: 2)) == 4)
    let left = try world.inventory.snapshots(world.name).snapshots
    #expect(left.map(\.name) == ["mine", "c5", "c6"])
    #expect(left.map(\.isCheckpoint) == [false, true, true])
    let folder = world.inventory.location.memoryStates(world.name)
    #expect(try FileReading.entries(of: folder).count == 2)
    #expect(try world.brokenInvariant() == nil)
    try world.inventory.renameSnapshot(world.name, "c5", to: "kept")
    #expect(try world.inventory.pruneCheckpoints(world.name, Autosnap(interval: 1, count: 1)) == 0)
    #expect(try world.guestSees() == "12")
    // Further back than the oldest is refused with how far it goes.
    let now = left[1].created + 100
    #expect(try world.inventory.rewindTarget(world.name, seconds: 60, now: now).name == "c6")
    #expect(
      refusal { _ = try world.inventory.rewindTarget(world.name, seconds: 7200, now: now) }
        .contains("the oldest snapshot with memory, kept, is"))
    try world.inventory.rollBack(world.name, to: "kept")
    #expect(try world.guestSees() == "1")
    #expect(try world.brokenInvariant() == nil)
  }
}
