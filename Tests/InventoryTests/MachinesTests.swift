import CLinux
import Inventory
import Platform
import Testing

@Suite struct MachinesTests {
  @Test func createListRenameDelete() throws {
    let world = try World()
    #expect(try world.inventory.names() == [world.name])
    let other = try MachineName("b")
    try world.inventory.rename(world.name, to: other)
    #expect(try world.inventory.names() == [other])
    try world.guestWrites("x", other)
    #expect(try world.guestSees(other) == "x")
    try world.inventory.delete(other)
    #expect(try world.inventory.names().isEmpty)
    #expect(try FileReading.entries(of: world.inventory.location.machines).isEmpty)
    #expect(refusal { try world.inventory.delete(other) }.contains("b: no such machine"))
  }

  @Test func existingNameIsRefused() throws {
    let world = try World()
    #expect(
      refusal { try world.inventory.create(world.name, MachineDefinition()) }
        .contains("there is a machine of that name already"))
    #expect(
      refusal { try world.inventory.clone(world.name, as: world.name) }
        .contains("there is a machine of that name already"))
  }

  @Test func missingExternalDiskMakesNothing() throws {
    let world = try World()
    var definition = MachineDefinition()
    definition.disks = [.init(name: "d", path: "/nowhere/x.img", format: .raw)]
    let b = try MachineName("b")
    #expect(refusal { try world.inventory.create(b, definition) }.contains("/nowhere/x.img"))
    #expect(try FileReading.entries(of: world.inventory.location.machines) == ["a"])
  }

  @Test func runningMachineIsLeftAlone() throws {
    let world = try World()
    let lock = try world.inventory.lock(world.name, .host)
    let expected = "a: is running (host process \(getpid())); stop it first"
    // The lock belongs to the open file, so it holds against this process too.
    #expect(refusal { try world.inventory.delete(world.name) } == expected)
    #expect(refusal { try world.inventory.takeSnapshot(world.name) } == expected)
    #expect(refusal { _ = try world.inventory.lock(world.name, .host) } == expected)
    #expect(
      world.inventory.holder(world.name) == MachineLock.Holder(role: .host, process: getpid()))
    _ = consume lock
    #expect(world.inventory.holder(world.name) == nil)
    try world.inventory.delete(world.name)
  }

  @Test func whoWaitedForARenamedMachineIsTold() throws {
    let world = try World()
    let lock = try world.inventory.lock(world.name, .change)
    let inventory = world.inventory
    let name = world.name
    let outcome = Monitor<String?>(nil)
    let thread = try PosixThread(name: "waiter") {
      let line = refusal { _ = try inventory.lock(name, .change) }
      outcome.update { $0 = line }
    }
    usleep(100_000)
    // Somebody else renames it and makes another of that name.
    let machines = world.inventory.location.machines
    #expect(rename(machines + "/a", machines + "/b") == 0)
    try world.inventory.create(name, MachineDefinition())
    _ = consume lock
    thread.join()
    #expect(outcome.read { $0 } == "a: was deleted or renamed meanwhile")
  }

  @Test func brokenDefinitionIsReportedAndRepairable() throws {
    let world = try World()
    let path = world.inventory.location.definition(world.name)
    try FileChanges().write("processors = \"x\"\n", to: path)
    #expect(refusal { _ = try world.inventory.definition(world.name) }.contains("machine.toml:1:"))
    #expect(try world.inventory.names() == [world.name])
    #expect(
      refusal { try world.inventory.saveDefinition("memory = 3", of: world.name) }
        .contains("multiple of 1M"))
    try world.inventory.saveDefinition("processors = 3\n", of: world.name)
    #expect(try world.inventory.definition(world.name).processors == 3)
  }

  @Test func hostileFilesAreErrors() throws {
    let world = try World()
    let path = world.inventory.location.definition(world.name)
    try FileChanges().write(String(repeating: "#", count: (1 << 20) + 1), to: path)
    #expect(refusal { _ = try world.inventory.definition(world.name) }.contains("larger than"))
    let state = world.inventory.location.state(world.name)
    let good = try #require(try FileReading.text(state))
    for bad in ["current = \"../../x\"", "current = 3", "layers = { a = \"/etc/passwd\" }"] {
      try FileChanges().write("[[disk]]\nname = \"disk0\"\n\(bad)\n", to: state)
      #expect(refusal { _ = try world.inventory.state(world.name) }.contains(":3: "))
    }
    try FileChanges().write(String(good.prefix(good.count / 2)), to: state)
    _ = refusal { _ = try world.inventory.state(world.name) }
  }

  @Test func crashIsToldFromStop() throws {
    let world = try World()
    #expect(world.inventory.crashReason(world.name) == nil)
    var record = RunRecord(process: 4711)
    try world.inventory.write(record, world.name)
    let log = world.inventory.location.hostLog(world.name)
    #expect(world.inventory.crashReason(world.name)?.hasSuffix("died without a word") == true)
    try FileChanges().write("2026-01-02 03:04:05 a: started\n", to: log)
    #expect(world.inventory.crashReason(world.name)?.hasSuffix("died without a word") == true)
    try FileChanges().write(
      "old\n2026-01-02 03:04:05 a: started\n\nlast words\n at frame 1\n", to: log)
    #expect(world.inventory.crashReason(world.name) == "host process 4711 died: last words")
    record.end(reason: "stopped", isClean: true)
    try world.inventory.write(record, world.name)
    #expect(world.inventory.crashReason(world.name) == nil)
    #expect(try world.inventory.runRecord(world.name) == record)
    record.ended = nil
    record.boot = "another"
    try world.inventory.write(record, world.name)
    #expect(world.inventory.crashReason(world.name)?.contains("went down") == true)
  }

  @Test func templateMakesClones() throws {
    let world = try World(machine: "tmpl")
    try world.guestWrites("base")
    let text = try world.inventory.definitionText(world.name)
    try world.inventory.saveDefinition("template = true\n" + text, of: world.name)
    let one = try MachineName("one")
    try world.inventory.clone(world.name, as: one) { $0.memory = 512 << 20 }
    try world.guestWrites("+one", one)
    #expect(try world.guestSees(one) == "base+one")
    #expect(try world.guestSees() == "base")
    let definition = try world.inventory.definition(one)
    #expect(definition.parent == "tmpl")
    #expect(definition.memory == 512 << 20)
    #expect(!definition.isTemplate)
    #expect(definition.uuid != nil)
    let template = try world.inventory.lock(world.name, .host)
    #expect(
      refusal { _ = try world.inventory.prepareStart(world.name, lock: template) }
        .contains("is a template"))
    _ = consume template
    let blocked = refusal { try world.inventory.delete(world.name) }
    #expect(blocked.contains("the disks of one rest on its own"))
    #expect(
      refusal { try world.inventory.rename(world.name, to: try MachineName("t2")) }
        .contains("rest on its own"))
    // A clone's clone, and renaming a leaf.
    let two = try MachineName("two")
    try world.inventory.clone(one, as: two)
    try world.inventory.rename(two, to: try MachineName("three"))
    #expect(try world.guestSees(try MachineName("three")) == "base+one")
    try world.inventory.delete(try MachineName("three"))
    try world.inventory.delete(one)
    try world.inventory.delete(world.name)
  }

  @Test func startAfterBeingClonedNeverTouchesTheFrozenLayer() throws {
    let world = try World()
    try world.guestWrites("1")
    let clone = try MachineName("b")
    try world.inventory.clone(world.name, as: clone)
    let lock = try world.inventory.lock(world.name, .host)
    let prepared = try world.inventory.prepareStart(world.name, lock: lock)
    try FakeImages.append("2", to: prepared.disks[0].path)
    _ = consume lock
    #expect(try world.guestSees() == "12")
    #expect(try world.guestSees(clone) == "1")
  }

  @Test func thousandMachinesListFast() throws {
    let world = try World()
    for index in 0..<1000 {
      let folder = world.inventory.location.machines + "/m\(index)"
      mkdir(folder, 0o700)
      let file = try #require(fopen(folder + "/machine.toml", "w"))
      fputs("processors = 2\nmemory = \"1G\"\n", file)
      fclose(file)
    }
    let clock = ContinuousClock()
    let first = try clock.measure {
      for name in try world.inventory.names() { _ = try world.inventory.definition(name) }
    }
    let again = try clock.measure {
      for name in try world.inventory.names() { _ = try world.inventory.definition(name) }
    }
    #expect(try world.inventory.names().count == 1001)
    #expect(first < .seconds(3))
    #expect(again < .milliseconds(500))
    print("1,001 definitions: \(first), from the cache \(again)")
  }
}
