import Networks
import Processor

extension MachineDefinition {
  /// Reads `machine.toml`.
  ///
  /// - Parameter folder: relative paths in the definition start here; nil keeps them as they are.
  /// - Throws: `InventoryError` with file, line and what was expected.
  package init(text: String, path: String, folder: String? = nil) throws(InventoryError) {
    let root = try TableReader(path: path, text: text)
    let resolve: (String) -> String = { file in
      guard let folder, !file.hasPrefix("/") else { return file }
      return InventoryLocation.absolute("\(folder)/\(file)")
    }
    topology = try Self.readProcessors(root) ?? topology
    processorModel = try root.choice("cpu", of: ProcessorModel.self) ?? processorModel
    allowsNesting = try root.bool("nested") ?? allowsNesting
    interruptChip = try root.choice("irqchip", of: InterruptChip.self) ?? interruptChip
    display = try root.choice("display", of: Display.self) ?? display
    memory = try Self.readMemory(root) ?? memory
    try readBalloon(root)
    try readShares(root, resolve)
    watchdog = try root.choice("watchdog", of: EventAction.self)
    panicAction = try root.choice("on-panic", of: EventAction.self)
    prefersHugePages = try root.bool("huge-pages") ?? prefersHugePages
    accelerator = try root.choice("accelerator", of: Accelerator.self) ?? accelerator
    serialPorts = try Self.readSerialPorts(root, resolve) ?? serialPorts
    opticalDrive = try Self.readPath(root, "cdrom").map { OpticalDrive($0, resolve) }
    networks = try Self.readNetworks(root, resolve)
    opticalDriveBus = try root.choice("cdrom-bus", of: StorageBus.self) ?? opticalDriveBus
    if opticalDrive == nil, opticalDriveBus != .virtio {
      throw root.error("cdrom-bus", "cdrom-bus needs cdrom = \"FILE\" or \"empty\"")
    }
    isTemplate = try root.bool("template") ?? isTemplate
    parent = try root.string("parent")
    if let parent, (try? MachineName(parent)) == nil {
      throw root.error("parent", "parent must be a machine's name, not \"\(printable(parent))\"")
    }
    if let text = try root.string("uuid") {
      guard let value = UniqueIdentifier(text) else {
        throw root.error("uuid", "uuid must look like 01234567-89ab-cdef-0123-456789abcdef")
      }
      uuid = value
    }
    notes = try root.string("notes") ?? ""
    tags = try root.strings("tags") ?? []
    if let boot = try root.table("boot") { try readBoot(boot, resolve) }
    if let table = try root.table("autostart") {
      autostart.isEnabled = try table.bool("enabled") ?? false
      autostart.order = try table.integer("order", in: 0...1_000_000) ?? 0
      autostart.delay = try table.integer("delay", in: 0...86400) ?? 0
      try table.finish()
    }
    cloudInit = try root.table("cloud-init").map { (table) throws(InventoryError) in
      try CloudInit(table, resolve)
    }
    socketDevice = try root.table("vsock").map { (table) throws(InventoryError) in
      try SocketDevice(table, resolve)
    }
    if let table = try root.table("keep") { retention = try RetentionRule(table) }
    if let text = try root.string("autosnap") {
      guard let value = Autosnap(text) else {
        throw root.error("autosnap", "autosnap must be \(Autosnap.words)")
      }
      autosnap = value
    }
    owner = try Self.readAccount(root, "owner")
    group = try Self.readAccount(root, "group")
    allowedInstanceSettings = try root.choices("allow-instance", of: InstanceSetting.self)
    try readDisks(root, resolve)
    try root.finish(otherNames: ["cpus": "processors", "accel": "accelerator"])
  }

  /// `processors = 4`, or a table of sockets, cores and threads.
  private static func readProcessors(
    _ root: TableReader
  ) throws(InventoryError) -> ProcessorTopology? {
    guard root.isTable("processors"), let table = try root.table("processors") else {
      return try root.integer("processors", in: 1...processorLimit)
        .map(ProcessorTopology.init(processorCount:))
    }
    let range = 1...processorLimit
    let topology = ProcessorTopology(
      sockets: try table.integer("sockets", in: range) ?? 1,
      cores: try table.integer("cores", in: range) ?? 1,
      threads: try table.integer("threads", in: range) ?? 1)
    try table.finish()
    guard topology.processorCount <= processorLimit else {
      throw root.error(
        "processors",
        "processors: \(topology.processorCount) in all, but a machine has at most \(processorLimit)"
      )
    }
    return topology
  }

  /// `serial = ["console", ...]`, or only how many consoles: `serial-ports = 2`.
  private static func readSerialPorts(
    _ root: TableReader, _ resolve: (String) -> String
  ) throws(InventoryError) -> [SerialTarget]? {
    let count = try root.integer("serial-ports", in: 0...serialPortLimit)
    guard let words = try root.strings("serial") else {
      return count.map { Array(repeating: .console, count: $0) }
    }
    guard count == nil else {
      throw root.error("serial-ports", "serial says what serial-ports would: remove one of the two")
    }
    guard words.count <= serialPortLimit else {
      throw root.error("serial", "a machine has at most \(serialPortLimit) serial ports")
    }
    var targets: [SerialTarget] = []
    for word in words {
      guard let target = SerialTarget(word, resolve) else {
        throw root.error(
          "serial",
          "serial must be a list of \(SerialTarget.words), not \"\(printable(word.prefix(40)))\"")
      }
      targets.append(target)
    }
    return targets
  }

  /// `networks = ["user,forward=2222:22", "switch:lab"]`.
  private static func readNetworks(
    _ root: TableReader, _ resolve: (String) -> String
  ) throws(InventoryError) -> [NetworkConfiguration] {
    let words = try root.strings("networks") ?? []
    guard words.count <= networkLimit else {
      throw root.error("networks", "a machine has at most \(networkLimit) network adapters")
    }
    var networks: [NetworkConfiguration] = []
    for word in words {
      do throws(NetworkError) {
        let network = try NetworkConfiguration(text: word, resolve: resolve)
        guard network.isLasting else {
          throw NetworkError(
            "\(network.kind.text) is for 'uj run' alone: the next process has other descriptors")
        }
        networks.append(network)
      } catch {
        throw root.error("networks", "networks: \(printable(error.description))")
      }
    }
    return networks
  }

  private static func readMemory(_ root: TableReader) throws(InventoryError) -> UInt64? {
    guard let memory = try root.size("memory") else { return nil }
    guard memory >= 1 << 20, memory <= memoryLimit, memory % (1 << 20) == 0 else {
      throw root.error(
        "memory",
        "memory must be a multiple of 1M from 1M to \(ByteSize.format(memoryLimit))")
    }
    return memory
  }

  /// `memory-target` means that there is a balloon.
  private mutating func readBalloon(_ root: TableReader) throws(InventoryError) {
    let isWanted = try root.bool("balloon")
    memoryTarget = try root.size("memory-target")
    hasBalloon = isWanted ?? (memoryTarget != nil)
    guard let memoryTarget else { return }
    guard hasBalloon else {
      throw root.error("memory-target", "memory-target needs balloon = true")
    }
    guard memoryTarget >= Self.smallestMemoryTarget, memoryTarget <= memory else {
      throw root.error(
        "memory-target",
        "memory-target must be \(ByteSize.format(Self.smallestMemoryTarget)) to memory, which is "
          + "\(ByteSize.format(memory))")
    }
  }

  private static func readPath(
    _ table: TableReader, _ key: String
  ) throws(InventoryError) -> String? {
    guard let path = try table.string(key) else { return nil }
    guard !path.isEmpty, path.utf8.count < 4096 else {
      throw table.error(key, "\(key) must name a file")
    }
    return path
  }

  /// A name of the system's databases, or a number.
  private static func readAccount(
    _ root: TableReader, _ key: String
  ) throws(InventoryError) -> String? {
    guard let name = try root.string(key) else { return nil }
    guard AccountName.isValid(name) else {
      throw root.error(
        key, "\(key) must be the name or number of a \(key == "owner" ? "user" : "group")")
    }
    return name
  }

  private mutating func readBoot(
    _ boot: TableReader, _ resolve: (String) -> String
  ) throws(InventoryError) {
    bootOrder = try boot.choices("order", of: BootDevice.self) ?? bootOrder
    firmware = try Self.readPath(boot, "firmware").map(resolve)
    kernel = try Self.readPath(boot, "kernel").map(resolve)
    initrd = try Self.readPath(boot, "initrd").map(resolve)
    commandLine = try boot.string("append") ?? ""
    try boot.finish()
    if kernel == nil, initrd != nil || !commandLine.isEmpty {
      let key = initrd != nil ? "initrd" : "append"
      throw boot.error(key, "boot.\(key) needs boot.kernel")
    }
    if kernel != nil, firmware != nil {
      throw boot.error("kernel", "boot.kernel starts without firmware: remove one of the two")
    }
  }

  private mutating func readDisks(
    _ root: TableReader, _ resolve: (String) -> String
  ) throws(InventoryError) {
    let tables = try root.tables("disk")
    guard tables.count <= Self.diskLimit else {
      throw tables[Self.diskLimit].error("name", "a machine has at most \(Self.diskLimit) disks")
    }
    for (index, table) in tables.enumerated() {
      let name = try table.string("name") ?? "disk\(index)"
      guard (try? MachineName(name)) != nil else {
        throw table.error("name", "a disk's name consists of letters, digits and . _ - only")
      }
      guard !disks.contains(where: { $0.name == name }) else {
        throw table.error("name", "two disks are called \(name)")
      }
      let path = try Self.readPath(table, "path").map(resolve)
      let format = try table.choice("format", of: DiskFormat.self)
      let isReadOnly = try table.bool("read-only") ?? false
      let serial = try table.string("serial") ?? ""
      let backing = try table.strings("backing") ?? []
      let bus = try table.choice("bus", of: StorageBus.self) ?? .virtio
      try table.finish()
      guard serial.utf8.count <= 20, serial.utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) else {
        throw table.error("serial", "serial must be at most 20 plain characters")
      }
      if path != nil, format == nil {
        throw table.error(
          "path", "disk \(name) needs format = \"raw\" or \"qcow2\" (never guessed)")
      }
      if path == nil, format == .raw {
        throw table.error("format", "disk \(name): format = \"raw\" needs a path")
      }
      disks.append(
        Disk(
          name: name, path: path, format: format ?? .qcow2, isReadOnly: isReadOnly,
          backing: backing.map(resolve), serial: serial, bus: bus))
    }
  }
}
