import Networks
import Processor

/// What replaces parts of a definition, for one start or for good. nil leaves a part as it is.
package struct DefinitionOverrides: Sendable, Equatable {
  package var memory: UInt64?
  package var topology: ProcessorTopology?
  package var processorModel: ProcessorModel?
  package var allowsNesting: Bool?
  package var accelerator: MachineDefinition.Accelerator?
  package var interruptChip: MachineDefinition.InterruptChip?
  package var display: MachineDefinition.Display?
  package var bootOrder: [MachineDefinition.BootDevice]?
  package var opticalDrive: MachineDefinition.OpticalDrive?
  package var opticalDriveBus: MachineDefinition.StorageBus?
  package var prefersHugePages: Bool?
  package var hasBalloon: Bool?
  package var shares: [MachineDefinition.Share]?
  package var watchdog: MachineDefinition.EventAction?
  package var panicAction: MachineDefinition.EventAction?
  package var serialPorts: [MachineDefinition.SerialTarget]?
  package var networks: [NetworkConfiguration]?
  package var socketDevice: MachineDefinition.SocketDevice?
  package var firmware: Firmware?
  package var kernel: String?
  package var initrd: String?
  package var commandLine: String?
  /// Files that are disks of the machine besides its own; their names are made up.
  package var disks: [MachineDefinition.Disk] = []

  /// What starts when no kernel is given.
  package enum Firmware: Sendable, Equatable {
    /// The installed SeaBIOS.
    case standard
    case file(String)
  }

  package init() {}

  /// - Throws: when the result would start a kernel and firmware both, or the parts of a kernel without one.
  package func apply(to definition: inout MachineDefinition) throws(InventoryError) {
    if let memory { definition.memory = memory }
    if let topology { definition.topology = topology }
    if let processorModel { definition.processorModel = processorModel }
    if let allowsNesting { definition.allowsNesting = allowsNesting }
    if let accelerator { definition.accelerator = accelerator }
    if let interruptChip { definition.interruptChip = interruptChip }
    if let display { definition.display = display }
    if let opticalDrive { definition.opticalDrive = opticalDrive }
    if let opticalDriveBus { definition.opticalDriveBus = opticalDriveBus }
    if let prefersHugePages { definition.prefersHugePages = prefersHugePages }
    if let hasBalloon {
      definition.hasBalloon = hasBalloon
      if !hasBalloon { definition.memoryTarget = nil }
    }
    // Less memory than before: the guest cannot keep more than it has.
    if let target = definition.memoryTarget {
      definition.memoryTarget = min(target, definition.memory)
    }
    if let shares { definition.shares = shares }
    if let watchdog { definition.watchdog = watchdog }
    if let panicAction { definition.panicAction = panicAction }
    if let serialPorts { definition.serialPorts = serialPorts }
    if let networks { definition.networks = networks }
    if let socketDevice { definition.socketDevice = socketDevice }
    try applyBoot(to: &definition)
    try Self.add(disks, to: &definition)
  }

  /// Adds disks under names that are free.
  package static func add(
    _ disks: [MachineDefinition.Disk], to definition: inout MachineDefinition
  ) throws(InventoryError) {
    for var disk in disks {
      guard definition.disks.count < MachineDefinition.diskLimit else {
        throw InventoryError(
          .invalid, "a machine has at most \(MachineDefinition.diskLimit) disks")
      }
      var number = definition.disks.count
      while definition.disks.contains(where: { $0.name == "disk\(number)" }) { number += 1 }
      disk.name = "disk\(number)"
      definition.disks.append(disk)
    }
  }

  private func applyBoot(to definition: inout MachineDefinition) throws(InventoryError) {
    guard kernel == nil || firmware == nil else {
      throw InventoryError(
        .invalid, "--kernel starts without firmware: leave out one of --kernel and --firmware")
    }
    if let bootOrder {
      // As vmctl has it: the kernel that is named, and DHCP tells an installer in it to ask no questions.
      guard kernel == nil || bootOrder == [.net] else {
        throw InventoryError(
          .invalid,
          "--kernel starts without looking for a boot device: leave out --boot, or say --boot net "
            + "for an installation without questions")
      }
      definition.bootOrder = bootOrder
    }
    if firmware != nil || bootOrder != nil {
      // Whoever names a device or a firmware wants it to be used, whatever kernel the definition has.
      definition.kernel = nil
      definition.initrd = nil
      definition.commandLine = ""
    }
    switch firmware {
    case .standard: definition.firmware = nil
    case .file(let path): definition.firmware = path
    case nil: break
    }
    if let kernel {
      definition.firmware = nil
      definition.kernel = kernel
      // Another kernel's RAM disk would not fit this one.
      definition.initrd = nil
    }
    if let initrd { definition.initrd = initrd }
    if let commandLine { definition.commandLine = commandLine }
    guard definition.kernel != nil || initrd == nil && commandLine == nil else {
      throw InventoryError(.invalid, "--initrd and --append need --kernel")
    }
  }
}
