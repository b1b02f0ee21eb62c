import Inventory
import Processor
import Testing

@Suite struct DefinitionTests {
  @Test func fullRoundTrip() throws {
    var definition = MachineDefinition()
    definition.topology = ProcessorTopology(sockets: 2, cores: 3, threads: 2)
    definition.processorModel = .v2
    definition.allowsNesting = true
    definition.interruptChip = .split
    definition.display = .vga
    definition.memory = 3 << 30
    definition.accelerator = .kvm
    definition.serialPorts = [.none, .file("/a b"), .pty, .console]
    definition.opticalDrive = .disc("/iso/a \"b\".iso")
    definition.opticalDriveBus = .ahci
    definition.prefersHugePages = false
    definition.bootOrder = [.cdrom, .disk]
    definition.kernel = "/k"
    definition.initrd = "/i"
    definition.commandLine = #"console=ttyS0 x="y\z""#
    definition.isTemplate = true
    definition.parent = "debian"
    definition.uuid = .random()
    definition.notes = "two\nlines\u{1}"
    definition.tags = ["a", "b"]
    definition.autostart.isEnabled = true
    definition.autostart.delay = 3
    var cloudInit = MachineDefinition.CloudInit()
    cloudInit.user = "alice"
    cloudInit.authorizedKeys = ["ssh-ed25519 AAAAC3 me@\"host\"", "from=\"::1\" ssh-rsa AAAAB3"]
    cloudInit.password = "$6$salt$hash"
    cloudInit.hostname = "web.example"
    cloudInit.userData = "/u"
    cloudInit.networkConfiguration = "/n"
    definition.cloudInit = cloudInit
    definition.socketDevice = .init(contextIdentifier: 7, path: "/s/vsock")
    definition.disks = [
      .init(name: "root", serial: "S1", bus: .ahci),
      .init(name: "data", path: "/d.img", format: .raw, isReadOnly: true),
    ]
    let text = definition.text(name: try MachineName("m"))
    #expect(try MachineDefinition(text: text, path: "m") == definition)
  }

  @Test func emptyFileHasDefaults() throws {
    let definition = try MachineDefinition(text: "", path: "m")
    #expect(definition == MachineDefinition())
  }

  @Test func buses() throws {
    func read(_ text: String) throws -> MachineDefinition {
      try MachineDefinition(text: text, path: "m")
    }
    let both = try read(
      "cdrom = \"empty\"\ncdrom-bus = \"ahci\"\n[[disk]]\nbus = \"ahci\"\n[[disk]]\n")
    #expect(both.opticalDriveBus == .ahci)
    #expect(both.disks.map(\.bus) == [.ahci, .virtio])
    #expect(throws: InventoryError.self) { try read("cdrom-bus = \"ahci\"\n") }
    #expect(try read("[[disk]]\nbus = \"ide\"\n").disks.map(\.bus) == [.ide])
    #expect(throws: InventoryError.self) { try read("[[disk]]\nbus = \"scsi\"\n") }
    let text = try DefinitionEditor.set(
      "disk.disk0.bus", to: "ahci", in: "[[disk]]\nname = \"disk0\"\n", path: "m")
    #expect(try read(text).disks[0].bus == .ahci)
  }

  @Test func relativePathsStartAtTheFolder() throws {
    let text =
      "cdrom = \"a.iso\"\nserial = [\"file:o\", \"file:/o\"]\n[boot]\nkernel = \"/k\"\ninitrd = \"./i\"\n"
    let definition = try MachineDefinition(text: text, path: "m", folder: "/f")
    #expect(definition.opticalDrive == .disc("/f/a.iso"))
    #expect(definition.serialPorts == [.file("/f/o"), .file("/o")])
    #expect(definition.kernel == "/k")
    #expect(definition.initrd == "/f/i")
  }

  @Test func cloneDoesNotShareAFile() throws {
    let world = try World()
    var definition = MachineDefinition()
    definition.serialPorts = [.file("/out"), .pty, .none]
    let template = try MachineName("template")
    try world.inventory.create(template, definition)
    let clone = try MachineName("clone")
    try world.inventory.clone(template, as: clone)
    #expect(try world.inventory.definition(clone).serialPorts == [.console, .pty, .none])
  }

  @Test func formsOfOneThing() throws {
    func read(_ text: String) throws -> MachineDefinition {
      try MachineDefinition(text: text, path: "m")
    }
    #expect(try read("processors = 3").topology == ProcessorTopology(sockets: 1, cores: 3))
    let table = try read("[processors]\nsockets = 2\nthreads = 2")
    #expect(table.topology == ProcessorTopology(sockets: 2, cores: 1, threads: 2))
    #expect(table.processors == 4)
    #expect(try read("serial-ports = 2").serialPorts == [.console, .console])
    #expect(try read("serial = []").serialPorts.isEmpty)
    #expect(try read("cdrom = \"empty\"").opticalDrive == .empty)
    #expect(try read("cdrom = \"./empty\"").opticalDrive == .disc("./empty"))
    #expect(try read("").opticalDrive == nil)
  }

  @Test(arguments: [
    ("4", 1, 4, 1), ("sockets=2", 2, 1, 1), ("threads=2,cores=4,sockets=8", 8, 4, 2),
  ])
  func topologyByWord(_ text: String, _ sockets: Int, _ cores: Int, _ threads: Int) {
    let expected = ProcessorTopology(sockets: sockets, cores: cores, threads: threads)
    #expect(ProcessorTopology(text: text) == expected)
  }

  @Test(arguments: [
    "", "0", "256", "-1", "x", "cores=", "cores=0", "cores=256", "cores=2,cores=2",
    "cores=32,threads=8",
    "sockets=9223372036854775807", "dies=2", "cores=2,", "cores==2",
  ])
  func topologyRefused(_ text: String) {
    #expect(ProcessorTopology(text: text) == nil)
  }

  @Test func bootMustBePossible() throws {
    let name = try MachineName("m")
    func check(_ order: [MachineDefinition.BootDevice], drive: Bool = false) -> String {
      var definition = MachineDefinition()
      definition.bootOrder = order
      if drive { definition.opticalDrive = .empty }
      return refusal { try definition.checkBoot(name) }
    }
    #expect(check([.net]).contains("it has no network adapter"))
    #expect(check([.net, .cdrom]).contains("no CD-ROM drive"))
    #expect(check([.cdrom], drive: true) == "nothing was refused")
    #expect(check([.net, .disk]) == "nothing was refused")
  }

  @Test func overridesForOneStart() throws {
    var definition = MachineDefinition()
    definition.kernel = "/k"
    definition.initrd = "/i"
    definition.commandLine = "x"
    var overrides = DefinitionOverrides()
    overrides.commandLine = "y"
    var changed = definition
    try overrides.apply(to: &changed)
    #expect(changed.kernel == "/k" && changed.initrd == "/i" && changed.commandLine == "y")
    // Another kernel does not get the first one's RAM disk.
    overrides.kernel = "/other"
    changed = definition
    try overrides.apply(to: &changed)
    #expect(changed.kernel == "/other" && changed.initrd == nil)
    // A boot device is meant to be booted from.
    overrides = DefinitionOverrides()
    overrides.bootOrder = [.disk]
    changed = definition
    try overrides.apply(to: &changed)
    #expect(changed.kernel == nil && changed.initrd == nil && changed.commandLine.isEmpty)
    overrides.kernel = "/k"
    #expect(refusal { try overrides.apply(to: &changed) }.contains("leave out --boot"))
    // Except that a kernel may be an installer that DHCP tells what to do.
    overrides.bootOrder = [.net]
    try overrides.apply(to: &changed)
    #expect(changed.kernel == "/k" && changed.bootOrder == [.net])
    overrides.bootOrder = nil
    overrides.firmware = .standard
    #expect(refusal { try overrides.apply(to: &changed) }.contains("--firmware"))
    overrides = DefinitionOverrides()
    overrides.initrd = "/i"
    changed = MachineDefinition()
    #expect(refusal { try overrides.apply(to: &changed) } == "--initrd and --append need --kernel")
  }

  /// The text, the line that must be named, and what the message must say.
  @Test(arguments: [
    ("memroy = \"1G\"", 1, "unknown key \"memroy\"; did you mean memory?"),
    ("\n# x\nfrobnicate = 1", 3, "unknown key \"frobnicate\"; expected one of accelerator"),
    ("memory = true", 1, "memory must be a size such as \"512M\", not true or false"),
    ("memory = \"12Q\"", 1, "memory must be a size such as \"512M\", not \"12Q\""),
    ("memory = \"1K\"", 1, "multiple of 1M"),
    ("memory = -5", 1, "memory must be a size"),
    ("memory = 9223372036854775807", 1, "multiple of 1M"),
    ("processors = \"2\"", 1, "processors must be a number from 1 to 255, not a text"),
    ("processors = 0", 1, "from 1 to 255, not 0"),
    ("processors = 1.5", 1, "not a fraction"),
    ("processors = { cores = 0 }", 1, "processors.cores must be a number from 1 to 255"),
    ("processors = { cores = 32, threads = 8 }", 1, "256 in all, but a machine has at most 255"),
    ("[processors]\ncore = 2", 2, "did you mean cores?"),
    ("cpus = 2", 1, "did you mean processors?"),
    ("cpu = \"486\"", 1, "cpu must be one of \"host\", \"x86-64-v1\""),
    ("irqchip = \"off\"", 1, "irqchip must be one of \"kernel\", \"split\""),
    ("display = \"cga\"", 1, "display must be one of \"none\", \"vga\""),
    ("nested = 1", 1, "nested must be true or false"),
    ("serial = \"pty\"", 1, "serial must be a list"),
    ("serial = [\"stdio\"]", 1, "\"file:PATH\", \"none\", not \"stdio\""),
    ("serial = [\"file:\"]", 1, "serial must be a list of"),
    ("serial = [\"pty\", \"pty\", \"pty\", \"pty\", \"pty\"]", 1, "at most 4 serial ports"),
    ("serial = []\nserial-ports = 1", 2, "remove one of the two"),
    ("serial-ports = 5", 1, "from 0 to 4"),
    ("cdrom = \"\"", 1, "cdrom must name a file"),
    ("accelerator = \"xen\"", 1, "one of \"auto\", \"kvm\", \"soft\", not \"xen\""),
    ("template = \"yes\"", 1, "template must be true or false, not a text"),
    ("uuid = \"1234\"", 1, "uuid must look like"),
    ("parent = \"../x\"", 1, "parent must be a machine's name"),
    ("tags = \"a\"", 1, "tags must be a list of texts"),
    ("tags = [1]", 1, "tags must be a list of texts"),
    ("processors = 1\n[boot]\norder = [\"floppy\"]", 3, "boot.order must be one of"),
    ("[boot]\nkernle = \"x\"", 2, "unknown key \"kernle\" in [boot]; did you mean kernel?"),
    ("[boot]\ninitrd = \"x\"", 2, "boot.initrd needs boot.kernel"),
    ("[boot]\nkernel = \"x\"\nfirmware = \"y\"", 2, "remove one of the two"),
    ("[boot]\nkernel = \"\"", 2, "kernel must name a file"),
    ("boot = { ordre = [] }", 1, "did you mean order?"),
    ("boot = 3", 1, "boot must be a table"),
    ("[[disk]]\nname = \"a/b\"", 2, "a disk's name"),
    ("[[disk]]\nname = \"a\"\n[[disk]]\nname = \"a\"", 4, "two disks are called a"),
    ("[[disk]]\npath = \"/x\"", 2, "disk disk0 needs format"),
    ("[[disk]]\n[[disk]]\nformat = \"vmdk\"", 3, "one of \"raw\", \"qcow2\""),
    ("[[disk]]\nformat = \"raw\"", 2, "needs a path"),
    ("[[disk]]\nserial = \"123456789012345678901\"", 2, "at most 20"),
    ("disk = 1", 1, "disk must be a table [[disk]]"),
    ("processors = 1\nprocessors = 2", 2, ""),
    ("processors = ", 1, ""),
    ("notes = \"\"\"\nmemroy = 1\n\"\"\"\nx = 1", 4, "unknown key \"x\""),
    ("[autostart]\nenabled = 1", 2, "true or false"),
  ])
  func badInput(_ text: String, _ line: Int, _ message: String) {
    let error = refusal { _ = try MachineDefinition(text: text, path: "m.toml") }
    #expect(error.hasPrefix("m.toml:\(line): "), "\(error)")
    #expect(error.contains(message), "\(error)")
    #expect(!error.contains("\n"))
  }

  @Test func setOfTheBoard() throws {
    func set(_ key: String, _ value: String, in text: String) throws -> String {
      try DefinitionEditor.set(key, to: value, in: text, path: "m")
    }
    var text = "processors = 1 # few\n"
    text = try set("processors", "sockets=2,cores=2", in: text)
    #expect(text == "processors = { sockets = 2, cores = 2, threads = 1 } # few\n")
    #expect(refusal { _ = try set("processors.cores", "2", in: text) }.contains("set it whole"))
    text = try set("processors", "2", in: text)
    text = try set("serial", "console,none", in: text)
    text = try set("cdrom", DefinitionEditor.resolved("/a.iso", of: "cdrom"), in: text)
    text = try set("nested", "true", in: text)
    text = try set("irqchip", "split", in: text)
    text = try set("cpu", "x86-64-v1", in: text)
    text = try set("display", "vga", in: text)
    let definition = try MachineDefinition(text: text, path: "m")
    #expect(definition.processors == 2)
    #expect(definition.serialPorts == [.console, .none])
    #expect(definition.opticalDrive == .disc("/a.iso"))
    #expect(definition.allowsNesting && definition.interruptChip == .split)
    #expect(definition.processorModel == .v1 && definition.display == .vga)
    // What cannot be read back is not hidden by the editor: the reader names it.
    let broken = try set("processors", "many", in: text)
    #expect(refusal { _ = try MachineDefinition(text: broken, path: "m") }.contains("processors"))
    let table = "[processors]\ncores = 2\n"
    #expect(
      refusal { _ = try set("processors", "4", in: table) }.contains("m:1: processors is a table"))
    #expect(
      try MachineDefinition(text: try set("processors.cores", "3", in: table), path: "m").processors
        == 3)
  }

  @Test func typedPathsCountFromTheWorkingFolder() {
    let here = InventoryLocation.absolute("x")
    #expect(DefinitionEditor.resolved("x", of: "cdrom") == here)
    #expect(DefinitionEditor.resolved("empty", of: "cdrom") == "empty")
    #expect(DefinitionEditor.resolved("", of: "cdrom").isEmpty)
    #expect(DefinitionEditor.resolved("x", of: "boot.kernel") == here)
    #expect(DefinitionEditor.resolved("x", of: "disk.root.path") == here)
    #expect(DefinitionEditor.resolved("pty,file:x", of: "serial") == "pty,file:\(here)")
    #expect(DefinitionEditor.resolved("x", of: "notes") == "x")
  }

  @Test func manyDisksAreRefused() {
    let text = String(repeating: "[[disk]]\n", count: 17)
    #expect(
      refusal { _ = try MachineDefinition(text: text, path: "m") }.contains("at most 16 disks"))
  }

  @Test func setKeepsComments() throws {
    let text = """
      # mine
      memory = "256M"  # enough? "#"
      notes = "a # b" # c

      [boot]
      # order matters
      order = ["disk"]

      [[disk]]
      name = "root" # the root

      """
    var edited = try DefinitionEditor.set("memory", to: "1G", in: text, path: "m")
    edited = try DefinitionEditor.set("processors", to: "2", in: edited, path: "m")
    edited = try DefinitionEditor.set("boot.order", to: "cdrom, disk", in: edited, path: "m")
    edited = try DefinitionEditor.set("disk.root.serial", to: "X", in: edited, path: "m")
    edited = try DefinitionEditor.set("autostart.enabled", to: "true", in: edited, path: "m")
    edited = try DefinitionEditor.set("notes", to: "", in: edited, path: "m")
    let definition = try MachineDefinition(text: edited, path: "m")
    #expect(definition.memory == 1 << 30)
    #expect(definition.processors == 2)
    #expect(definition.bootOrder == [.cdrom, .disk])
    #expect(definition.disks[0].serial == "X")
    #expect(definition.autostart.isEnabled)
    #expect(definition.notes.isEmpty)
    for comment in ["# mine", "# enough? \"#\"", "# order matters", "# the root"] {
      #expect(edited.contains(comment), "\(comment)\n\(edited)")
    }
    #expect(
      refusal { _ = try DefinitionEditor.set("disk.x.y", to: "1", in: text, path: "m") }
        .contains("disk.NAME.KEY"))
    #expect(
      refusal { _ = try DefinitionEditor.set("a\n[b", to: "1", in: text, path: "m") }
        .contains("no such key"))
  }
}
