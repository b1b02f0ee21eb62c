import Hosting
import Inventory
import Testing

@Suite struct AutostartTests {
  private func inventory(_ folder: TestFolder) -> Inventory {
    Inventory(location: folder.location, images: NoImages())
  }

  @Test func orderThenName() throws {
    let folder = TestFolder()
    let inventory = inventory(folder)
    for (name, order, delay, isEnabled) in [
      ("b", 1, 3, true), ("a", 1, 0, true), ("z", 0, 5, true), ("off", 0, 0, false),
      ("running", 0, 0, true), ("template", 0, 0, true),
    ] {
      var definition = MachineDefinition()
      definition.autostart.isEnabled = isEnabled
      definition.autostart.order = order
      definition.autostart.delay = delay
      definition.isTemplate = name == "template"
      try inventory.create(try MachineName(name), definition)
    }
    try inventory.create(try MachineName("broken"), MachineDefinition())
    let path = inventory.location.definition(try MachineName("broken"))
    try FileChanges().write("autostart = 1\n", to: path)
    let lock = try inventory.lock(try MachineName("running"), .host)
    defer { _ = lock }
    let queue = try AutostartQueue(inventory)
    #expect(queue.entries.map(\.name.description) == ["z", "a", "b"])
    #expect(queue.entries.map(\.delay) == [5, 0, 3])
    #expect(queue.problems.map(\.description).first?.hasPrefix("\(path):1: autostart") == true)
    #expect(queue.problems.count == 1)
  }

  @Test func unitsNameTheProgramAndTheHome() {
    let unit = SystemdUnit(program: "/opt/my programs/100%/uj", home: "/srv/\"vm\"")
    let machine = unit.machine
    #expect(machine.contains("\nExecStart=\"/opt/my programs/100%%/uj\" host %i\n"))
    #expect(machine.contains("\nEnvironment=\"UNDERJACK_HOME=/srv/\\\"vm\\\"\"\n"))
    #expect(machine.contains("\nExecStop=\"/opt/my programs/100%%/uj\" stop --wait"))
    let plain = SystemdUnit(program: "/usr/bin/uj")
    #expect(plain.autostart.contains("\nExecStart=/usr/bin/uj autostart\n"))
    #expect(!plain.machine.contains("Environment="))
    for text in [plain.machine, plain.autostart] {
      let sections = text.split(separator: "\n").filter { $0.hasPrefix("[") }
      #expect(sections == ["[Unit]", "[Service]", "[Install]"])
    }
  }
}
