import ArgumentParser
import Hosting
import Inventory
import Networks

struct NewVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "new",
    abstract: "Make a machine.",
    discussion: """
      Disks are named disk0, disk1, ... in the order of --disk, --import and --base as listed below. Sizes take K, M, \
      G and T. A file's format is what format= says, or raw: or qcow2: before its name, or its extension; it is never \
      guessed from its content.

      SERIAL PORTS
        console    'uj console', a log, and a pseudo-terminal for other
                   programs; one of these is the default
        pty        the same without a log: for lines that carry data
        file:PATH  the end of a file
        none       nowhere; the guest has the port all the same
        A number makes so many consoles.

      EXAMPLES
        uj new web -m 1G -p 2 -d 20G --cdrom debian.iso --boot cdrom,disk
        uj new rescue --import grub-rescue.img --template
        uj new lab --kernel vmlinuz --initrd initrd.img --append console=ttyS0
      """)

  @Argument(help: "Name of the new machine: letters, digits and . _ -")
  var name: NameArgument
  @OptionGroup(title: "Machine")
  var options: MachineOptions
  @Option(
    name: [.customShort("d"), .long],
    help: ArgumentHelp(
      "A disk: SIZE for a new one, or FILE[,format=raw|qcow2][,readonly][,serial=TEXT][,bus=virtio|ahci|ide] to use a file in place.",
      valueName: "disk"))
  var disk: [DiskArgument] = []
  @Option(
    name: .customLong("import"),
    help: ArgumentHelp("A disk with a copy of an image file.", valueName: "file"))
  var imports: [DiskArgument] = []
  @Option(
    help: ArgumentHelp(
      "A disk that grows from an image file, which must not change any more.", valueName: "file"))
  var base: [DiskArgument] = []
  @Flag(help: "Make it a template: never started, others grow from it.")
  var template = false
  @Option(help: "A remark.")
  var notes = ""
  @Option(help: "A tag. May be repeated.")
  var tag: [String] = []

  func run() throws {
    let name = try name.name()
    let inventory = try openInventory()
    var definition = MachineDefinition()
    var overrides = try options.overrides()
    overrides.serialPorts = try options.serialTargets()?.targets
    try overrides.apply(to: &definition)
    definition.isTemplate = template
    definition.notes = notes
    definition.tags = tag
    definition.uuid = .random()
    let drive = definition.opticalDrive
    for file in [drive?.path, definition.firmware, definition.kernel, definition.initrd] {
      if let file, !FileReading.exists(file) {
        throw UsageFailure("\(printable(file)): no such file")
      }
    }
    if let network = definition.networks.first(where: { !$0.isLasting }) {
      throw UsageFailure(
        "--net \(network.kind.text): for 'uj run' alone: the next process has other descriptors")
    }
    try definition.checkBoot(name)
    let sources = try addDisks(to: &definition, inventory)
    // What the options gave is held to the same rules as a file that a person wrote.
    definition = try MachineDefinition(
      text: definition.text(name: name), path: "new machine \(name)")
    try inventory.create(name, definition, sources: sources)
    say("\(name): made; 'uj start\(template ? " -t \(name) NEW" : " -c \(name)")' starts it")
  }

  private func addDisks(
    to definition: inout MachineDefinition, _ inventory: Inventory
  ) throws -> [String: Inventory.DiskSource] {
    var sources: [String: Inventory.DiskSource] = [:]
    func add(_ argument: DiskArgument, path: String?, _ source: Inventory.DiskSource?) {
      let disk = "disk\(definition.disks.count)"
      definition.disks.append(
        .init(
          name: disk, path: path, format: path == nil ? .qcow2 : argument.format,
          isReadOnly: argument.isReadOnly, serial: argument.serial, bus: argument.bus))
      sources[disk] = source
    }
    /// What an image of the person's refers to now is what it may refer to later.
    func trust(_ path: String, _ format: MachineDefinition.DiskFormat) throws {
      guard format == .qcow2 else { return }
      definition.disks[definition.disks.count - 1].backing =
        try inventory.images.backing(of: path)
    }
    for argument in disk {
      switch argument.source {
      case .size(let size): add(argument, path: nil, .empty(size: size))
      case .file(let path):
        add(argument, path: path, nil)
        try trust(path, argument.format)
      }
    }
    for argument in imports {
      guard case .file(let path) = argument.source else {
        throw UsageFailure("--import wants a file, not a size")
      }
      add(argument, path: nil, .copy(path: path, format: argument.format))
    }
    for argument in base {
      guard case .file(let path) = argument.source else {
        throw UsageFailure("--base wants a file, not a size")
      }
      add(argument, path: nil, .overlay(path: path, format: argument.format))
      try trust(path, argument.format)
    }
    return sources
  }
}
