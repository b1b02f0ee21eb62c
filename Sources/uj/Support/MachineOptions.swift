import ArgumentParser
import Inventory
import Networks
import Processor

/// What a machine is made of, as options: the same for `new`, `run` and `start`.
struct MachineOptions: ParsableArguments {
  @Option(name: [.customShort("m"), .long], help: "Memory, such as 512M; a multiple of 1M.")
  var memory: SizeArgument?
  @Flag(
    inversion: .prefixedNo,
    help:
      "Ask the host for memory in pages of 2 MiB: faster; without, a guest takes no more than it touches."
  )
  var hugePages: Bool?
  @Option(
    name: [.customShort("p"), .long],
    help: ArgumentHelp(
      "Processors: a number, or sockets=2,cores=2,threads=1 (what is left out is 1).",
      valueName: "cpus"))
  var cpus: String?
  @Option(
    help: ArgumentHelp(
      "Instruction set shown to the guest: host, x86-64-v1, x86-64-v2 or x86-64-v3. A level, with --irqchip split, lets a saved guest go on with another accelerator.",
      valueName: "model"))
  var cpu: String?
  @Flag(help: "Let the guest run guests of its own, where the host can.")
  var nested = false
  @Option(
    help: ArgumentHelp(
      "Who runs the guest: auto takes the best that works here, kvm, or soft.", valueName: "who"))
  var accel: String?
  @Option(
    help: ArgumentHelp(
      "Interrupt controllers and timer: in the kernel (fastest), or split: ours beside the kernel's local APICs.",
      valueName: "kernel|split"))
  var irqchip: String?
  @Option(
    help: ArgumentHelp(
      "A screen and keyboard beside the serial ports: vga, or none. 'uj screen' shows it.",
      valueName: "none|vga"))
  var display: String?
  @Option(
    name: [.customShort("B"), .long],
    help: ArgumentHelp(
      """
      Where the firmware looks for a system, first to last: disk, cdrom, net. With --kernel only net: DHCP names \
      the file auto_install, so that OpenBSD's installer asks no questions.
      """,
      valueName: "devices"))
  var boot: String?
  @Option(
    name: [.customShort("r"), .long],
    help: ArgumentHelp(
      "A CD-ROM drive with this disc image in it, or empty; with ,bus=ahci or ide on a SATA or IDE adapter.",
      valueName: "file|empty"))
  var cdrom: String?
  @Option(
    help: ArgumentHelp(
      "A network adapter, see NETWORKS; may be repeated. 'none' alone: no adapter.",
      valueName: "network"))
  var net: [String] = []
  @Option(
    name: [.customShort("i"), .long],
    help: ArgumentHelp(
      "So many adapters, each on a user network of its own.", valueName: "count"))
  var interfaces: Int?
  @Flag(
    name: [.customShort("L"), .customLong("local")],
    help: "An adapter on a network with this host alone, with its DHCP: as --net user,local.")
  var local = false
  @Option(
    name: [.customShort("n"), .customLong("switch")],
    help: ArgumentHelp("An adapter on this switch; may be repeated.", valueName: "switch"))
  var switches: [String] = []
  @Option(
    help: ArgumentHelp(
      "Sockets between guest and host: auto, or where the host's Unix socket is made; with ,cid=N the guest's address.",
      valueName: "auto|path[,cid=n]"))
  var vsock: String?
  @Flag(
    inversion: .prefixedNo,
    help: "A memory balloon: the guest gives memory back while it runs, see 'uj balloon'.")
  var balloon: Bool?
  @Option(
    help: ArgumentHelp(
      "A folder of the host for the guest to mount (9P), read-only unless ,write; may be repeated, up to four times.",
      valueName: "folder[,tag=name][,write]"))
  var share: [String] = []
  @Option(
    help: ArgumentHelp(
      "A watchdog (i6300esb), and what is done when the guest lets it run out.",
      valueName: "none|pause|reset|poweroff"))
  var watchdog: String?
  @Option(
    help: ArgumentHelp(
      "A panic device (pvpanic), and what is done when the guest's kernel crashes.",
      valueName: "none|pause|reset|poweroff"))
  var onPanic: String?
  @Option(help: "'bios' for the installed SeaBIOS, or an image file.")
  var firmware: String?
  @Option(
    name: [.customShort("b"), .long],
    help: ArgumentHelp(
      """
      Kernel to start without firmware: multiboot, Linux bzImage, ELF with a PVH entry, or a unikernel for Solo5's \
      hvt, whose devices are the machine's disks and networks in the order of its manifest.
      """))
  var kernel: String?
  @Option(help: "Initial RAM disk of the kernel; modules of a multiboot kernel.")
  var initrd: String?
  @Option(help: "Command line of the kernel.")
  var append: String?
  @Option(
    help: ArgumentHelp(
      "Where a serial port goes, COM1 first; up to four times. See SERIAL PORTS.",
      valueName: "where"))
  var serial: [String] = []

  /// The settings that were given. Serial ports are the verb's own, see `serialTargets`.
  ///
  /// - Throws: `UsageFailure`, one line that names the option.
  func overrides() throws -> DefinitionOverrides {
    var result = DefinitionOverrides()
    if let memory {
      guard memory.bytes > 0, memory.bytes % (1 << 20) == 0,
        memory.bytes <= MachineDefinition.memoryLimit
      else {
        let limit = ByteSize.format(MachineDefinition.memoryLimit)
        throw UsageFailure("--memory: must be a multiple of 1M, at most \(limit)")
      }
      result.memory = memory.bytes
    }
    result.topology = try cpus.map { text in
      guard let topology = ProcessorTopology(text: text) else {
        throw UsageFailure(
          "--cpus \(printable(text)): must be 1 to \(MachineDefinition.processorLimit), or "
            + "sockets=,cores=,threads= with no more in all")
      }
      return topology
    }
    result.processorModel = try word(cpu, "--cpu")
    result.allowsNesting = nested ? true : nil
    result.accelerator = try word(accel, "--accel")
    result.interruptChip = try word(irqchip, "--irqchip")
    result.display = try word(display, "--display")
    result.bootOrder = try boot.map { try Self.bootOrder($0) }
    if let cdrom {
      let (disc, bus) = Self.discAndBus(cdrom)
      guard !disc.isEmpty else { throw UsageFailure("--cdrom: must be a file, or empty") }
      result.opticalDrive = .init(disc)
      result.opticalDriveBus = bus
    }
    result.networks = try networks()
    result.socketDevice = try vsock.map { text in
      guard let device = MachineDefinition.SocketDevice(text) else {
        throw UsageFailure(
          "--vsock \(printable(text)): must be auto or a path, with ,cid=3 or higher behind it or "
            + "nothing")
      }
      return device
    }
    result.hasBalloon = balloon
    result.shares = try shares()
    result.watchdog = try word(watchdog, "--watchdog")
    result.panicAction = try word(onPanic, "--on-panic")
    if let pages = hugePages { result.prefersHugePages = pages }
    result.firmware = try firmware.map {
      $0 == "bios" ? .standard : .file(try Self.path($0, "--firmware"))
    }
    result.kernel = try kernel.map { try Self.path($0, "--kernel") }
    result.initrd = try initrd.map { try Self.path($0, "--initrd") }
    result.commandLine = append
    return result
  }

  /// nil when nothing was said of any.
  private func shares() throws -> [MachineDefinition.Share]? {
    guard !share.isEmpty else { return nil }
    let shares = try share.map { text in
      guard let share = MachineDefinition.Share(text) else {
        throw UsageFailure(
          "--share \(printable(text.prefix(60))): must be \(MachineDefinition.Share.words)")
      }
      return share
    }
    guard shares.count <= MachineDefinition.shareLimit else {
      throw UsageFailure("--share: at most \(MachineDefinition.shareLimit) times")
    }
    if let tag = MachineDefinition.repeatedTag(shares) {
      throw UsageFailure("--share: two have the tag \(printable(tag))")
    }
    return shares
  }

  /// All adapters that were asked for; nil when nothing was said of any.
  private func networks() throws -> [NetworkConfiguration]? {
    guard !net.isEmpty || interfaces != nil || !switches.isEmpty || local else { return nil }
    if net == ["none"], interfaces == nil, switches.isEmpty, !local { return [] }
    var result = try net.map { text in
      do throws(NetworkError) {
        return try NetworkConfiguration(
          text: text, resolve: { InventoryLocation.absolute($0) })
      } catch {
        throw UsageFailure("--net \(printable(error.description))")
      }
    }
    if local {
      var network = NetworkConfiguration()
      network.user.isLocal = true
      result.append(network)
    }
    for name in switches {
      guard let kind = NetworkConfiguration.Kind("switch:\(name)") else {
        throw UsageFailure("--switch \(printable(name)): must be a switch's name")
      }
      result.append(NetworkConfiguration(kind))
    }
    if let interfaces {
      guard (0...MachineDefinition.networkLimit).contains(interfaces) else {
        throw UsageFailure(
          "--interfaces \(interfaces): must be 0 to \(MachineDefinition.networkLimit)")
      }
      // As in vmctl, the count is of all adapters.
      while result.count < interfaces { result.append(NetworkConfiguration()) }
    }
    guard result.count <= MachineDefinition.networkLimit else {
      throw UsageFailure(
        "\(result.count) network adapters, but a machine has at most \(MachineDefinition.networkLimit)"
      )
    }
    return result
  }

  /// A name may have commas in it: only what is a bus is taken off.
  private static func discAndBus(
    _ text: String
  ) -> (disc: String, bus: MachineDefinition.StorageBus?) {
    for bus in MachineDefinition.StorageBus.allCases {
      let ending = ",bus=\(bus.rawValue)"
      if text.hasSuffix(ending) { return (String(text.dropLast(ending.count)), bus) }
    }
    return (text, nil)
  }

  private static func path(_ text: String, _ option: String) throws -> String {
    guard !text.isEmpty else { throw UsageFailure("\(option): must be a file") }
    return InventoryLocation.absolute(text)
  }

  private static func bootOrder(_ text: String) throws -> [MachineDefinition.BootDevice] {
    var order: [MachineDefinition.BootDevice] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let device = MachineDefinition.BootDevice(rawValue: String(part)) else {
        throw UsageFailure("--boot \(printable(part)): must be disk, cdrom or net")
      }
      guard !order.contains(device) else {
        throw UsageFailure("--boot: \(device.rawValue) is named twice")
      }
      order.append(device)
    }
    return order
  }

  private func word<Choice: RawRepresentable<String> & CaseIterable>(
    _ text: String?, _ option: String
  ) throws -> Choice? {
    guard let text else { return nil }
    guard let value = Choice(rawValue: text) else {
      let words = Choice.allCases.map(\.rawValue)
      throw UsageFailure(
        "\(option) \(printable(text)): must be \(words.dropLast().joined(separator: ", ")) or "
          + (words.last ?? ""))
    }
    return value
  }

  /// The serial ports; nil when none was named.
  ///
  /// - Parameter standard: what `stdio` stands for; nil where there is no terminal to give.
  /// - Returns: the ports, and which of them is `stdio`.
  func serialTargets(
    standard: MachineDefinition.SerialTarget? = nil
  ) throws -> (targets: [MachineDefinition.SerialTarget], terminal: Int?)? {
    guard !serial.isEmpty else { return nil }
    if serial.count == 1, let count = Int(serial[0]) {
      guard (0...MachineDefinition.serialPortLimit).contains(count) else {
        throw UsageFailure("--serial \(count): must be 0 to \(MachineDefinition.serialPortLimit)")
      }
      return (Array(repeating: .console, count: count), nil)
    }
    guard serial.count <= MachineDefinition.serialPortLimit else {
      throw UsageFailure("--serial: a PC has at most \(MachineDefinition.serialPortLimit) ports")
    }
    var terminal: Int?
    var targets: [MachineDefinition.SerialTarget] = []
    for (port, text) in serial.enumerated() {
      if text == "stdio", let standard {
        guard terminal == nil else { throw UsageFailure("--serial stdio: there is one terminal") }
        terminal = port
        targets.append(standard)
      } else if let target = MachineDefinition.SerialTarget(text) {
        targets.append(target)
      } else {
        let first = standard == nil ? "" : "stdio, "
        throw UsageFailure(
          "--serial \(printable(text.prefix(60))): must be \(first)console, pty, file:PATH or none")
      }
    }
    return (targets, terminal)
  }

  /// The options as `uj host` takes them, with absolute paths.
  var hostArguments: [String] {
    var arguments: [String] = []
    func add(_ option: String, _ value: String?) {
      if let value { arguments.append("\(option)=\(value)") }
    }
    add("--memory", memory.map { "\($0.bytes)" })
    add("--cpus", cpus)
    add("--cpu", cpu)
    if nested { arguments.append("--nested") }
    add("--accel", accel)
    add("--irqchip", irqchip)
    add("--display", display)
    add("--boot", boot)
    add(
      "--cdrom",
      cdrom.map { text in
        let (disc, bus) = Self.discAndBus(text)
        return MachineDefinition.OpticalDrive(disc).text
          + (bus.map { ",bus=\($0.rawValue)" } ?? "")
      })
    if let shares = try? shares() { for share in shares { add("--share", share.text) } }
    add("--watchdog", watchdog)
    add("--on-panic", onPanic)
    if let balloon { arguments.append(balloon ? "--balloon" : "--no-balloon") }
    if let hugePages { arguments.append(hugePages ? "--huge-pages" : "--no-huge-pages") }
    add("--firmware", firmware.map { $0 == "bios" ? $0 : InventoryLocation.absolute($0) })
    add("--kernel", kernel.map(InventoryLocation.absolute))
    add("--initrd", initrd.map(InventoryLocation.absolute))
    add("--append", append)
    if let networks = try? networks() {
      for network in networks { add("--net", network.text) }
      if networks.isEmpty { add("--net", "none") }
    }
    add(
      "--vsock", vsock.map { MachineDefinition.SocketDevice($0)?.text ?? $0 })
    for word in serial {
      add("--serial", MachineDefinition.SerialTarget(word)?.text ?? word)
    }
    return arguments
  }
}
