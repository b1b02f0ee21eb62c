import Devices
import Inventory
import Machine
import Platform

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

    func prepareStart() throws(InventoryError) -> (
      definition: MachineDefinition, disks: [ResolvedDisk]
    ) {
      try inventory.prepareStart(name, lock: lock)
    }
  }

  package var configuration: MachineConfiguration
  /// nil: nobody but the owner of the `MachineHost` controls it.
  package var controlPath: String?
  package var serial: [HostParts.SerialPlace]
  /// Where port 0x402 goes.
  package var debugBackend: (any CharacterBackend)?
  /// Standard error is the machine's log; false where it is a person's terminal.
  package var logsEvents = true
  var claim: Claim?

  /// A machine without a name on disk.
  package init(
    _ configuration: MachineConfiguration, serialPorts: Int = 1, controlPath: String? = nil
  ) {
    self.configuration = configuration
    self.controlPath = controlPath
    serial = (0..<serialPorts).map { HostParts.SerialPlace(port: $0) }
  }

  /// A machine of the inventory: takes its lock, prepares its disks and its runtime folder.
  ///
  /// - Throws: when it runs already, is a template, or its definition or disks are broken.
  package init(_ name: MachineName, _ inventory: Inventory) throws(HostingError) {
    let claim = try inventoried { () throws(InventoryError) in try Claim(name, inventory) }
    let prepared = try inventoried { () throws(InventoryError) in try claim.prepareStart() }
    let location = inventory.location
    let runtime = try inventoried { () throws(InventoryError) in
      try location.prepareRuntimeFolder(name)
    }
    self.claim = claim
    configuration = MachineConfiguration(name, prepared.definition, prepared.disks)
    controlPath = location.controlSocket(name)
    serial = (0..<prepared.definition.serialPorts).map { port in
      HostParts.SerialPlace(
        port: port, logPath: location.serialLog(name, port: port),
        linkPath: "\(runtime)/serial\(port)")
    }
  }
}

extension MachineConfiguration {
  /// What the board is built from.
  package init(_ name: MachineName, _ definition: MachineDefinition, _ disks: [ResolvedDisk]) {
    self.init(name: name.description)
    processorCount = definition.processors
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
      if !disk.backing.isEmpty { configuration.backing = .files(disk.backing) }
      return configuration
    }
    if let cdrom = definition.cdrom {
      // Until the board has a CD drive, a disc is a disk that cannot be written; hybrid images boot from it.
      let disc = DiskConfiguration(path: cdrom, format: .raw, isReadOnly: true, serial: "cdrom")
      if bootOrder.first == .cdrom {
        self.disks.insert(disc, at: 0)
      } else {
        self.disks.append(disc)
      }
    }
    uuid = definition.uuid?.bytes
  }
}
