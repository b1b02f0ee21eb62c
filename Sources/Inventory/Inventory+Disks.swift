/// A disk as the machine opens it.
package struct ResolvedDisk: Sendable, Equatable {
  package var name: String
  /// Absolute.
  package var path: String
  package var format: MachineDefinition.DiskFormat
  package var isReadOnly: Bool
  /// Every file that the image may refer to, absolute.
  package var backing: [String]
  package var serial: String
  package var bus: MachineDefinition.StorageBus
}

extension Inventory {
  /// The state with an entry for each disk of the definition, as a person may have added some.
  func reconciledState(
    _ name: MachineName, _ definition: MachineDefinition
  ) throws(InventoryError) -> MachineState {
    var state = try self.state(name)
    for disk in definition.disks {
      if let index = state.disks.firstIndex(where: { $0.name == disk.name }) {
        guard let path = disk.path else { continue }
        if state.disks[index].base != path, !state.disks[index].parents.isEmpty {
          throw InventoryError(
            .invalid,
            "\(location.definition(name)): the path of disk \(disk.name) cannot change while "
              + "snapshots rest on \(printable(state.disks[index].base ?? "its own image"))")
        }
        state.disks[index].base = path
        state.disks[index].baseFormat = disk.format
      } else if let path = disk.path {
        state.disks.append(
          MachineState.Disk(name: disk.name, base: path, baseFormat: disk.format))
      } else {
        throw InventoryError(
          .invalid,
          "\(location.definition(name)): disk \(disk.name) has no image yet; give it a path, or "
            + "remove it")
      }
    }
    return state
  }

  /// The file of a layer; `baseLayer` and nil are the disk's external file.
  package func layerPath(
    _ name: MachineName, _ disk: MachineState.Disk, _ layer: String?
  ) -> String {
    guard let layer, layer != MachineState.Disk.baseLayer else { return disk.base ?? "" }
    return "\(location.disks(name))/\(disk.name)/\(layer).qcow2"
  }

  /// Which files the machine opens, as things are. Changes nothing.
  package func resolvedDisks(_ name: MachineName) throws(InventoryError) -> [ResolvedDisk] {
    let definition = try definition(name)
    return resolve(name, definition, try reconciledState(name, definition))
  }

  private func resolve(
    _ name: MachineName, _ definition: MachineDefinition, _ state: MachineState
  ) -> [ResolvedDisk] {
    definition.disks.compactMap { disk in
      guard let record = state.disk(disk.name) else { return nil }
      return ResolvedDisk(
        name: disk.name, path: layerPath(name, record, record.current),
        format: record.current == nil ? disk.format : .qcow2, isReadOnly: disk.isReadOnly,
        backing: backing(name, record) + disk.backing, serial: disk.serial, bus: disk.bus)
    }
  }

  /// The files below a disk's current layer, as the inventory's own records have them: first this machine's layers,
  /// then those of the machine that it grew from, and so on.
  private func backing(_ name: MachineName, _ disk: MachineState.Disk) -> [String] {
    filesBelow(name, disk, disk.current ?? MachineState.Disk.baseLayer)
  }

  /// The files below a layer.
  func filesBelow(_ name: MachineName, _ disk: MachineState.Disk, _ start: String) -> [String] {
    var paths: [String] = []
    var machine = name
    var disk = disk
    var layer = start
    // Bounded, because files on disk could describe a loop.
    for _ in 0..<10_000 {
      if layer != MachineState.Disk.baseLayer {
        layer = disk.parents[layer] ?? MachineState.Disk.baseLayer
        if layer != MachineState.Disk.baseLayer {
          paths.append(layerPath(machine, disk, layer))
          continue
        }
      } else if paths.isEmpty, machine == name {
        return []
      }
      guard let base = disk.base else { return paths }
      guard let below = foreignLayer(base) else { return paths + [base] }
      machine = below.machine
      layer = below.layer
      guard let state = try? state(machine), let record = state.disk(below.disk) else {
        return paths
      }
      disk = record
      paths.append(layerPath(machine, disk, layer))
    }
    return paths
  }

  /// Takes `../../../MACHINE/disks/DISK/LAYER.qcow2` apart.
  private func foreignLayer(
    _ base: String
  ) -> (machine: MachineName, disk: String, layer: String)? {
    let parts = base.split(separator: "/").map(String.init)
    guard base.hasPrefix("../../../"), parts.count == 7, parts[4] == "disks",
      parts[6].hasSuffix(".qcow2"), let machine = try? MachineName(parts[3])
    else { return nil }
    return (machine, parts[5], String(parts[6].dropLast(6)))
  }

  /// What a host does before it builds the machine, holding the lock: checks that it may start, and puts fresh layers
  /// where the current ones have become the base of other machines.
  ///
  /// - Parameter overrides: what counts for this start only.
  /// - Returns: the definition with the overrides, and the files of its disks.
  package func prepareStart(
    _ name: MachineName, lock: borrowing MachineLock,
    overrides: DefinitionOverrides = DefinitionOverrides()
  ) throws(InventoryError) -> (definition: MachineDefinition, disks: [ResolvedDisk]) {
    var definition = try definition(name)
    try overrides.apply(to: &definition)
    guard !definition.isTemplate else {
      throw InventoryError(
        .refused, "\(name): is a template and cannot be started; 'uj start -t \(name) NEW'")
    }
    for (file, what) in [
      (definition.kernel, "kernel"), (definition.initrd, "initrd"),
      (definition.firmware, "firmware"), (definition.opticalDrive?.path, "disc image"),
      (definition.cloudInit?.userData, "user-data"),
      (definition.cloudInit?.networkConfiguration, "network-config"),
    ] {
      if let file, !FileReading.exists(file) {
        throw InventoryError(.notFound, "\(printable(file)): \(what) of \(name) is not there")
      }
    }
    try definition.checkBoot(name)
    var state = try reconciledState(name, definition)
    if let place = state.moved { throw Self.movedRefusal(name, place) }
    // Of a host that was killed while it sent the machine, and had not given it away.
    try forgetDeparture(name)
    let frozen = state.disks.indices.filter { index in
      state.disks[index].current.map(state.disks[index].frozen.contains) ?? false
    }
    if !frozen.isEmpty {
      for index in frozen { try pushLayer(name, &state.disks[index]) }
      var lasting = state
      // Disks of this start only leave no trace.
      let own = try self.definition(name).disks.map(\.name)
      lasting.disks.removeAll { !own.contains($0.name) && $0.parents.isEmpty }
      try write(lasting, name)
    }
    let disks = resolve(name, definition, state)
    for disk in disks { _ = try images.size(disk.path, format: disk.format) }
    return (definition, disks)
  }

  /// Puts a fresh overlay on a disk's current layer. Counts only when the state is written.
  func pushLayer(
    _ name: MachineName, _ disk: inout MachineState.Disk, onto below: String? = nil
  ) throws(InventoryError) {
    let parent = below ?? disk.current ?? MachineState.Disk.baseLayer
    let layer = Snapshot.makeIdentifier()
    let path = layerPath(name, disk, layer)
    var backing = "\(parent).qcow2"
    var format = MachineDefinition.DiskFormat.qcow2
    if parent == MachineState.Disk.baseLayer {
      guard let base = disk.base else {
        throw InventoryError(.invalid, "\(name): disk \(disk.name) has no image")
      }
      backing = base
      format = disk.baseFormat ?? .qcow2
    }
    try changes.makeFolder("\(location.disks(name))/\(disk.name)")
    try changes.step("image \(path)")
    try images.createOverlay(path, backing: backing, format: format)
    try changes.synchronizeFolder(of: path)
    disk.parents[layer] = parent
    disk.current = layer
  }
}
