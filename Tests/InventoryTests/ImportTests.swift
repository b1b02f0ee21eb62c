import CLinux
import Inventory
import Networks
import Testing

@Suite struct ImportTests {
  private let scratch = Scratch()

  /// A file of the other system.
  private func add(_ path: String, _ content: String = "x") throws {
    let file = scratch.path + "/root" + path
    let folder = String(file[..<(file.lastIndex(of: "/") ?? file.startIndex)])
    try FileChanges().makeFolder(folder)
    try FileChanges().write(content, to: file)
  }

  private func read(
    _ text: String, macros: [String: String] = [:]
  ) throws -> VMConfigurationImport {
    try add("/etc/vm.conf", text)
    return try VMConfigurationImport(
      scratch.path + "/root/etc/vm.conf", root: scratch.path + "/root", macros: macros,
      images: FakeImages())
  }

  /// The three things that the manual page shows: a machine on a switch with an owner, an instance of it, the switch.
  @Test func theManualsExamples() throws {
    try add("/home/joe/vm2-disk.img")
    try add("/home/joe/vm3-disk.img")
    let result = try read(
      """
      # a machine
      vm "vm2.example.com" {
        memory 1G
        disk "/home/joe/vm2-disk.img"
        interface { switch "uplink" }
        owner root
      }
      vm "vm2.example.com" instance "vm3.example.com" {
        disk "/home/joe/vm3-disk.img"
      }
      switch "uplink" {
        interface bridge0
      }

      """)
    #expect(result.machines.map(\.name.description) == ["vm2.example.com", "vm3.example.com"])
    let inventory = Inventory(location: scratch.location, images: FakeImages())
    for machine in result.machines { try inventory.add(machine) }
    let parent = try inventory.definition(try MachineName("vm2.example.com"))
    let child = try inventory.definition(try MachineName("vm3.example.com"))
    for (definition, disk) in [(parent, "vm2"), (child, "vm3")] {
      #expect(definition.memory == 1 << 30)
      #expect(definition.processors == 1)
      #expect(definition.owner == "root")
      #expect(definition.autostart.isEnabled)
      #expect(definition.disks.map(\.path) == [scratch.path + "/root/home/joe/\(disk)-disk.img"])
      #expect(definition.disks.map(\.format) == [.raw])
      #expect(definition.networks.map(\.text) == ["switch:uplink"])
    }
    #expect(child.parent == "vm2.example.com")
    #expect(parent.parent == nil)
    #expect(result.remarks.count == 1)
    #expect(result.remarks[0].contains("switch uplink over bridge0"))
    let interface = result.machines[1].remarks
    #expect(interface.isEmpty)
  }

  /// The manual page's macro, and the example file's way to name two files of one folder.
  @Test func theManualsMacros() throws {
    try add("/bsd.rd", "\u{7F}ELF....")
    try add("/sets/install78.img")
    let result = try read(
      """
      ramdisk="/bsd.rd"
      sets="/sets/"
      vm "vm1.example.com" {
        memory 512M
        boot $ramdisk
      }
      vm "openbsd.vm" {
        disable
        memory 512M
        boot $sets "bsd.rd"
        disk $sets "install78.img" format raw
        cdrom $sets cd78.iso
        interfaces 1
      }

      """)
    let root = scratch.path + "/root"
    let first = result.machines[0].definition
    #expect(first.kernel == root + "/bsd.rd")
    #expect(first.memory == 512 << 20)
    #expect(first.autostart.isEnabled)
    let second = result.machines[1]
    #expect(second.remarks.contains { $0.hasPrefix("boot \(root)/sets/bsd.rd: is not there") })
    #expect(second.definition.disks.map(\.path) == [root + "/sets/install78.img"])
    #expect(second.definition.opticalDrive?.path == root + "/sets/cd78.iso")
    #expect(second.definition.networks.count == 1)
    #expect(!second.definition.autostart.isEnabled)
  }

  @Test func macrosIncludesAndLongLines() throws {
    try add("/etc/more.conf", "vm \"later\" { memory 64M\n disable }\n")
    try add("/bsd.rd", "\u{7F}ELF....")
    try add("/srv/base.qcow2", "backing=\n")
    let result = try read(
      """
      ramdisk="/bsd.rd"
      size = 512M
      options="memory 512M, cpus 3"
      vm "vm1.example.com" { $options
        boot $ramdisk  # a kernel
        disk /srv/base.qcow2 format \\
          qcow2
        cdrom 'a b.iso'
      }
      include "more.conf"
      socket owner root:wheel
      local prefix 10.0.0.0/8
      staggered start parallel 1 delay 7

      """)
    let first = result.machines[0].definition
    #expect(first.memory == 512 << 20)
    #expect(first.processors == 3)
    #expect(first.kernel == scratch.path + "/root/bsd.rd")
    #expect(first.disks.map(\.format) == [.qcow2])
    #expect(first.opticalDrive?.path?.hasSuffix("/a b.iso") == true)
    #expect(first.autostart.delay == 7)
    let second = result.machines[1]
    #expect(second.name.description == "later")
    #expect(!second.definition.autostart.isEnabled)
    #expect(second.definition.memory == 64 << 20)
    #expect(result.remarks.count == 2)
    #expect(result.remarks[0].contains("socket owner root:wheel"))
    #expect(result.remarks[1].contains("local prefix 10.0.0.0/8"))
  }

  @Test func everySettingIsCarriedOverOrListed() throws {
    try add("/d.img")
    try add("/bios", "\u{1}\u{2}\u{3}\u{4}")
    let result = try read(
      """
      vm base {
        disable
        memory 1.5G
        boot "/bios"
        boot device cdrom
        interfaces 3
        local interface tap7 { locked lladdr fe:e1:bb:d1:00:01, group mygroup, rdomain 4, down }
        owner nobody-there:root
        allow instance { memory, boot
          cdrom
          owner joe:wheel
          instance }
        sev
      }
      vm base instance child { enable
        disk "raw:/d.img"
      }

      """)
    let base = result.machines[0]
    #expect(base.definition.memory == 1536 << 20)
    #expect(base.definition.firmware == scratch.path + "/root/bios")
    #expect(base.definition.bootOrder == [.cdrom])
    #expect(base.definition.owner == nil)
    #expect(base.definition.group == "root")
    #expect(base.definition.allowedInstanceSettings == [.memory, .boot, .cdrom, .owner, .instance])
    let remarks = base.remarks.joined(separator: "\n")
    for part in [
      "owner nobody-there: there is no such user", "joe:wheel", "sev",
      "local interface tap7 locked lladdr fe:e1:bb:d1:00:01 group mygroup rdomain 4 down",
    ] {
      #expect(remarks.contains(part), "\(part)")
    }
    #expect(base.definition.networks.count == 3)
    #expect(
      base.definition.networks[0].text == "user,mac=fe:e1:bb:d1:00:01,locked,down,local")
    let child = result.machines[1].definition
    #expect(child.autostart.isEnabled)
    #expect(child.disks.map(\.name) == ["disk0"])
    #expect(child.memory == 1536 << 20)
    #expect(child.firmware == base.definition.firmware)
    #expect(!child.notes.contains("tap7") && !child.notes.contains("fe:e1"))
    // It can be written and read again.
    let text = base.definition.text(name: base.name)
    #expect(try MachineDefinition(text: text, path: "t") == base.definition)
  }

  @Test(arguments: [
    ("vm a {", "not closed"), ("vm a { memory lots }", "vm.conf:1: expected a size"),
    ("\n\nvm a { colour red }", "vm.conf:3: 'colour' is no setting"),
    ("vm a { disk $none }", "macro 'none' is not defined"),
    ("vm a {}\nvm a {}", "declared twice"), ("a = \"$a\"\nb = $b", "is not defined"),
    ("vm a instance b {}", "there is no vm a"),
    ("vm a instance b {}\nvm b instance a {}", "an instance of itself"),
    ("include \"nothing\"", "no such file"), ("include \"vm.conf\"", "include each other"),
    ("vm \"a {", "not closed"), ("vm ../a {}", "a name"), ("x=$x$x\nvm $x {}", "is not defined"),
    ("vm a { interface { lladdr zz:1 } }", "link-layer"), ("}", "expected vm"),
    ("vm a { boot device tape }", "disk, cdrom or net"), ("vm a { owner : }", "USER"),
  ])
  func errorsNameThePlace(_ text: String, _ expected: String) {
    let line = refusal { _ = try read(text) }
    #expect(line.contains(expected), "\(line)")
    #expect(!line.contains("\n"))
  }

  @Test func macrosOfTheCommandLineAreStronger() throws {
    let result = try read("m = 1G\nvm a { memory $m }", macros: ["m": "2G"])
    #expect(result.machines[0].definition.memory == 2 << 30)
  }
}

@Suite struct AllowanceTests {
  @Test func onlyWhatTheTemplateAllows() throws {
    let world = try World()
    #expect(throws: Never.self) {
      try world.inventory.checkInstance(of: world.name, changing: [.memory, .disk])
    }
    let text = try world.inventory.definitionText(world.name)
    try world.inventory.saveDefinition(
      "allow-instance = [\"memory\"]\n" + text, of: world.name)
    #expect(throws: Never.self) {
      try world.inventory.checkInstance(of: world.name, changing: [.memory])
    }
    let line = refusal {
      try world.inventory.checkInstance(of: world.name, changing: [.memory, .cpus])
    }
    #expect(line.contains("does not let its instances change cpus"))
    // An instance is no template for others unless that is allowed.
    let child = try MachineName("c")
    try world.inventory.clone(world.name, as: child)
    #expect(
      refusal { try world.inventory.checkInstance(of: child, changing: []) }
        .contains("add \"instance\""))
    #expect(
      refusal {
        try world.inventory.saveDefinition("allow-instance = [\"colour\"]\n", of: world.name)
      }.contains("allow-instance"))
  }
}
