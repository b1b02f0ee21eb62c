import Devices
import Inventory
import Machine
import Platform
import Processor

/// What a host is to run and where its ends go.
package struct HostPlan: Sendable {
  /// A machine of the inventory, held by its lock as long as this lives.
  final class Claim: Sendable {
    let name: MachineName
    let inventory: Inventory
    private let lock: MachineLock

    init(_ name: MachineName, _ inventory: Inventory) throws(InventoryError) {
      self.name = name
      self.inventory = inventory
      lock = try inventory.lock(name, .host)
    }

    func prepareStart(
      _ overrides: DefinitionOverrides
    ) throws(InventoryError) -> (definition: MachineDefinition, disks: [ResolvedDisk]) {
      try inventory.prepareStart(name, lock: lock, overrides: overrides)
    }
  }

  package var configuration: MachineConfiguration
  /// What the configuration was made from, with what counts for this run only; nil for a machine without a place on disk.
  var definition: MachineDefinition?
  /// Names of the configuration's disks, in its order.
  package var diskNames: [String] = []
  /// Who may connect.
  package var access = ControlAccess()
  /// nil: nobody but the owner of the `MachineHost` controls it.
  package var controlPath: String?
  package var serial: [HostParts.SerialPlace]
  /// The process gives up what its machine does not need before the guest's first instruction, for good: only where it
  /// is nothing else than this machine's host.
  package var isSandboxed = false
  /// The file to which port 0x402 goes.
  package var debugPath: String?
  /// Standard error is the machine's log; false where it is a person's terminal.
  package var logsEvents = true
  /// Hears what the machine reports, on the host's thread.
  package var onMessage: (@Sendable (String) -> Void)?
  /// Called when the guest of a restored machine executes; what the host has to write down is not on the disk by then.
  package var onExecuting: (@Sendable () -> Void)?
  /// Nanoseconds after which a guest that is to power down is asked again: while it boots nobody heeds the button.
  package var buttonInterval: UInt64 = 10_000_000_000
  var claim: Claim?
  /// Snapshots by the clock.
  var autosnap: Autosnap?

  /// A machine without a name on disk: a definition and the disks that are files of the person's.
  package init(
    name: String, _ definition: MachineDefinition, disks: [DiskConfiguration] = [],
    controlPath: String? = nil
  ) {
    configuration = MachineConfiguration(name: name, definition)
    configuration.disks = disks
    if let device = definition.socketDevice {
      configuration.socketDevice = device.path.map {
        .init(contextIdentifier: device.contextIdentifier ?? 3, path: $0)
      }
    }
    self.controlPath = controlPath
    serial = definition.serialPorts.enumerated().map { port, target in
      HostParts.SerialPlace(port: port, target: target)
    }
  }

  /// A machine of the inventory: takes its lock, prepares its disks and its runtime folder.
  ///
  /// - Parameters:
  ///   - overrides: what counts for this run only.
  ///   - discardsState: a suspended machine is switched on anew, and its memory is gone.
  /// - Throws: when it runs already, is a template, or its definition or disks are broken.
  package init(
    _ name: MachineName, _ inventory: Inventory,
    overrides: DefinitionOverrides = DefinitionOverrides(), discardsState: Bool = false
  ) throws(HostingError) {
    let claim = try inventoried { () throws(InventoryError) in try Claim(name, inventory) }
    let prepared = try inventoried { () throws(InventoryError) in
      try claim.prepareStart(overrides)
    }
    access = try ControlAccess(name.description, prepared.definition)
    autosnap = prepared.definition.autosnap
    diskNames = prepared.disks.map(\.name)
    definition = prepared.definition
    let location = inventory.location
    let runtime = try inventoried { () throws(InventoryError) in
      try location.prepareRuntimeFolder(name)
    }
    self.claim = claim
    configuration = MachineConfiguration(
      name: name.description, prepared.definition, prepared.disks)
    configuration.switchFolder = location.switches
    if !discardsState {
      configuration.savedState = try inventoried { () throws(InventoryError) in
        try inventory.suspendedState(name)
      }
    }
    let isResumed = configuration.savedState != nil
    try inventoried { () throws(InventoryError) in
      try CloudInitSeed.prepare(name, prepared.definition, inventory, isResumed: isResumed)
    }
    configuration.complete(name, prepared.definition, at: location)
    controlPath = location.controlSocket(name)
    serial = prepared.definition.serialPorts.enumerated().map { port, target in
      HostParts.SerialPlace(
        port: port, target: target,
        logPath: target == .console ? location.serialLog(name, port: port) : nil,
        linkPath: target.takesClients ? "\(runtime)/serial\(port)" : nil)
    }
  }
}

extension MachineConfiguration {
  /// Adds what stands in the machine's own folders, as it is or will be at the start.
  package mutating func complete(
    _ name: MachineName, _ definition: MachineDefinition, at location: InventoryLocation
  ) {
    if definition.cloudInit != nil { disks.append(CloudInitSeed.disk(location.seed(name))) }
    if let device = definition.socketDevice {
      socketDevice = .init(
        contextIdentifier: device.contextIdentifier ?? Self.contextIdentifier(definition.uuid),
        path: device.path ?? location.guestSocket(name))
    }
  }

  /// An address that stays, and that others of this host most likely do not have.
  private static func contextIdentifier(_ uuid: UniqueIdentifier?) -> UInt32 {
    guard let uuid else { return 3 }
    let hash = uuid.bytes.reduce(UInt32(0x811C_9DC5)) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
    // Below 2^31, for programs that take it for a signed number.
    return max(3, hash & 0x7FFF_FFFF)
  }

  /// What the board is built from.
  package init(name: String, _ definition: MachineDefinition, _ disks: [ResolvedDisk] = []) {
    self.init(name: name)
    topology = definition.topology
    processorModel = definition.processorModel
    allowsNesting = definition.allowsNesting
    interruptChip = InterruptChip(rawValue: definition.interruptChip.rawValue) ?? .kernel
    display = DisplayKind(rawValue: definition.display.rawValue) ?? .none
    memorySize = definition.memory
    accelerator = Accelerator(rawValue: definition.accelerator.rawValue) ?? .auto
    if let kernel = definition.kernel {
      boot = .kernel(path: kernel, initrd: definition.initrd, commandLine: definition.commandLine)
    } else {
      boot = .firmware(path: definition.firmware)
    }
    bootOrder = definition.bootOrder.compactMap { BootDevice(rawValue: $0.rawValue) }
    self.disks = disks.map { disk in
      var configuration = DiskConfiguration(
        path: disk.path, format: disk.format == .raw ? .raw : .qcow2, isReadOnly: disk.isReadOnly,
        serial: disk.serial)
      configuration.bus = StorageBus(disk.bus)
      if !disk.backing.isEmpty { configuration.backing = .files(disk.backing) }
      return configuration
    }
    networks = definition.networks
    if definition.hasBalloon { balloon = BalloonConfiguration(target: definition.memoryTarget) }
    shares = definition.shares.enumerated().map { index, share in
      ShareConfiguration(
        path: share.path, tag: share.tag ?? "share\(index)", isWritable: share.isWritable)
    }
    watchdog = definition.watchdog.flatMap { EventAction(rawValue: $0.rawValue) }
    panicAction = definition.panicAction.flatMap { EventAction(rawValue: $0.rawValue) }
    opticalDrive = definition.opticalDrive.map {
      OpticalDriveConfiguration(path: $0.path, bus: StorageBus(definition.opticalDriveBus))
    }
    prefersHugePages = definition.prefersHugePages
    uuid = definition.uuid?.bytes
  }
}

extension StorageBus {
  package init(_ bus: MachineDefinition.StorageBus) {
    switch bus {
    case .virtio: self = .virtio
    case .ahci: self = .ahci
    case .ide: self = .ide
    }
  }
}
