import CLinux
import Inventory
import Testing

/// What becomes of the memory of suspended machines, and of snapshots with memory.
@Suite struct SuspendedTests {
  /// What a host does when it suspends its machine. The file stands for the memory.
  @discardableResult
  private func suspend(_ world: World, _ content: String) throws -> String {
    let (identifier, path) = try world.inventory.prepareMemoryState(world.name)
    try FileChanges().write(content, to: path)
    try world.inventory.suspend(world.name, memory: identifier)
    return identifier
  }

  private func memory(_ world: World) throws -> String? {
    guard let path = try world.inventory.suspendedState(world.name) else { return nil }
    return try FileReading.text(path)
  }

  private func files(_ world: World) throws -> Int {
    try FileReading.entries(of: world.inventory.location.memoryStates(world.name)).count
  }

  @Test("A machine is suspended until it goes on, and its memory is gone then") func plain() throws
  {
    let world = try World()
    #expect(!world.inventory.isSuspended(world.name))
    try suspend(world, "m1")
    #expect(world.inventory.isSuspended(world.name))
    #expect(try memory(world) == "m1")
    // What a killed host leaves.
    _ = try world.inventory.prepareMemoryState(world.name)
    #expect(try files(world) == 2)
    try world.inventory.forgetSuspended(world.name)
    #expect(!world.inventory.isSuspended(world.name))
    #expect(try memory(world) == nil)
    #expect(try files(world) == 0)
    #expect(try world.brokenInvariant() == nil)
  }

  @Test("Rolling a suspended machine keeps its memory with its disks, both ways") func rolling()
    throws
  {
    let world = try World()
    try world.guestWrites("1")
    try world.inventory.takeSnapshot(world.name, title: "plain")
    try world.guestWrites("2")
    try suspend(world, "m2")
    let back = try world.inventory.rollBack(world.name, to: "plain")
    #expect(back.kept?.memory != nil)
    #expect(try memory(world) == nil)
    #expect(try world.guestSees() == "1")
    let forward = try world.inventory.rollForward(world.name)
    #expect(try memory(world) == "m2")
    #expect(try world.guestSees() == "12")
    #expect(forward.kept == nil)
    // It goes on from there: the snapshot keeps its memory.
    try world.inventory.forgetSuspended(world.name)
    #expect(try files(world) == 1)
    try world.guestWrites("3")
    try suspend(world, "m3")
    let again = try world.inventory.rollBack(world.name, to: forward.target.identifier)
    #expect(try memory(world) == "m2")
    #expect(again.kept?.memory != nil)
    #expect(try files(world) == 2)
    // Suspended and not gone on since: there is nothing to keep.
    let third = try world.inventory.rollBack(world.name, to: again.kept?.identifier ?? "")
    #expect(third.kept == nil)
    #expect(try memory(world) == "m3")
    #expect(try world.guestSees() == "123")
    #expect(try world.brokenInvariant() == nil)
  }

  @Test("A snapshot of a suspended machine has its memory, and the machine goes on with it")
  func taking() throws {
    let world = try World()
    try world.guestWrites("1")
    try suspend(world, "m1")
    let taken = try world.inventory.takeSnapshot(world.name, title: "s")
    #expect(taken.memory != nil)
    #expect(try memory(world) == "m1")
    try world.inventory.forgetSuspended(world.name)
    #expect(try files(world) == 1)
    #expect(try world.inventory.snapshots(world.name).snapshots[0].memory == taken.memory)
    try world.inventory.deleteSnapshot(world.name, "s")
    #expect(try files(world) == 0)
  }

  @Test("A host keeps the memory of a snapshot that it took") func whileRunning() throws {
    let world = try World()
    try world.guestWrites("1")
    let snapshot = try world.inventory.takeSnapshotWhileRunning(world.name, title: "s") {
      _, commit in
      try commit()
    }
    let (identifier, path) = try world.inventory.prepareMemoryState(world.name)
    try FileChanges().write("m", to: path)
    try world.inventory.keepMemory(world.name, of: snapshot, identifier)
    #expect(!world.inventory.isSuspended(world.name))
    try world.inventory.rollBack(world.name, to: "s")
    #expect(try memory(world) == "m")
    var other = snapshot
    other.identifier = "zzzz"
    #expect(
      refusal { try world.inventory.keepMemory(world.name, of: other, identifier) }
        .contains("deleted meanwhile"))
  }
}
