import Inventory
import Testing

@Suite struct DefinitionTests {
  @Test func fullRoundTrip() throws {
    var definition = MachineDefinition()
    definition.processors = 4
    definition.memory = 3 << 30
    definition.accelerator = .kvm
    definition.serialPorts = 2
    definition.cdrom = "/iso/a \"b\".iso"
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
    definition.disks = [
      .init(name: "root", serial: "S1"),
      .init(name: "data", path: "/d.img", format: .raw, isReadOnly: true),
    ]
    let text = definition.text(name: try MachineName("m"))
    #expect(try MachineDefinition(text: text, path: "m") == definition)
  }

  @Test func emptyFileHasDefaults() throws {
    let definition = try MachineDefinition(text: "", path: "m")
    #expect(definition == MachineDefinition())
  }

  @Test func relativePathsStartAtTheFolder() throws {
    let text = "cdrom = \"a.iso\"\n[boot]\nkernel = \"/k\"\ninitrd = \"./i\"\n"
    let definition = try MachineDefinition(text: text, path: "m", folder: "/f")
    #expect(definition.cdrom == "/f/a.iso")
    #expect(definition.kernel == "/k")
    #expect(definition.initrd == "/f/i")
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
    ("processors = \"2\"", 1, "processors must be a number from 1 to 64, not a text"),
    ("processors = 0", 1, "from 1 to 64, not 0"),
    ("processors = 1.5", 1, "not a fraction"),
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
