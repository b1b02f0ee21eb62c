import Networks

extension Inventory {
  /// Makes a new machine whose disks are overlays of another's: milliseconds, and no space.
  ///
  /// Settings are inherited except what is exclusive. The layers underneath are frozen: a template cannot be started,
  /// and any other machine gets fresh layers at its next start.
  ///
  /// - Parameters:
  ///   - selector: a snapshot of the template to grow from; nil is its present state.
  ///   - withMemory: the new machine goes on in the snapshot's memory. Its guest knows no other name of itself: UUID and
  ///     network addresses stay. The files are shared until either machine has no more use for them.
  ///   - authority: the template's host may let a snapshot be branched while the machine runs.
  ///   - adjust: changes settings of the new machine before it is saved.
  package func clone(
    _ template: MachineName, at selector: String? = nil, as name: MachineName,
    withMemory: Bool = false,
    authority: Authority = .command,
    adjust: (inout MachineDefinition) throws(InventoryError) -> Void = { _ in }
  ) throws(InventoryError) {
    try checkIsFree(name)
    let lock = try changeLock(template, authority)
    defer { _ = lock }
    guard selector != nil || authority == .command else {
      throw InventoryError(
        .running, "\(template): is running; branch one of its snapshots, or stop it first")
    }
    let source = try definition(template)
    var state = try reconciledState(template, source)
    var memory: String?
    if let selector {
      let snapshot = try SnapshotTree(state).find(selector)
      memory = withMemory ? snapshot.memory : nil
      guard !withMemory || memory != nil else {
        throw InventoryError(
          .refused, "\(snapshot.name): the snapshot has no memory; leave --memory out")
      }
      // Seen as if the machine stood there; of this state only the frozen layers are written.
      for index in state.disks.indices {
        guard let layer = snapshot.layers[state.disks[index].name] else { continue }
        state.disks[index].current = layer == MachineState.Disk.baseLayer ? nil : layer
      }
    }
    try freeze(state.disks, of: template)

    var definition = source
    definition.isTemplate = false
    definition.parent = template.description
    if memory == nil { definition.uuid = .random() }
    definition.notes = ""
    // Two machines must not write one file.
    definition.serialPorts = definition.serialPorts.map { port in
      if case .file = port { .console } else { port }
    }
    // A name of its own, and a socket where nobody else's is.
    definition.cloudInit?.hostname = nil
    if source.socketDevice != nil { definition.socketDevice = .init() }
    for index in definition.networks.indices {
      if memory == nil { definition.networks[index].address = nil }
      // A port of the host leads to one machine.
      definition.networks[index].user.forwards = []
    }
    for index in definition.disks.indices where !definition.disks[index].isReadOnly {
      definition.disks[index].path = nil
      definition.disks[index].format = .qcow2
    }
    try adjust(&definition)
    try assemble(name, definition) { folder throws(InventoryError) in
      var fresh = MachineState()
      for disk in source.disks {
        guard let below = state.disk(disk.name) else { continue }
        fresh.disks.append(try overlay(of: below, disk, template, folder: folder))
      }
      if let memory {
        try shareMemory(memory, of: template, with: folder)
        fresh.suspended = memory
      }
      return fresh
    }
  }

  /// Keeps the layers of a snapshot of a running machine from being merged, so that others may grow from them. Only for
  /// its host.
  package func freezeSnapshot(
    _ name: MachineName, _ selector: String
  ) throws(InventoryError) -> Snapshot {
    var state = try reconciledState(name, try definition(name))
    let snapshot = try SnapshotTree(state).find(selector)
    for index in state.disks.indices {
      guard let layer = snapshot.layers[state.disks[index].name] else { continue }
      state.disks[index].current = layer == MachineState.Disk.baseLayer ? nil : layer
    }
    try freeze(state.disks, of: name)
    return snapshot
  }

  /// Notes that the current layers are others' too.
  private func freeze(
    _ disks: [MachineState.Disk], of name: MachineName
  ) throws(InventoryError) {
    var kept = try state(name)
    var isChanged = false
    for disk in disks {
      guard let current = disk.current, !disk.frozen.contains(current),
        let place = kept.disks.firstIndex(where: { $0.name == disk.name })
      else { continue }
      kept.disks[place].frozen.append(current)
      isChanged = true
    }
    if isChanged { try write(kept, name) }
  }

  private func overlay(
    of below: MachineState.Disk, _ disk: MachineDefinition.Disk, _ template: MachineName,
    folder: String
  ) throws(InventoryError) -> MachineState.Disk {
    if disk.isReadOnly, disk.path != nil {
      return MachineState.Disk(name: disk.name, base: below.base, baseFormat: below.baseFormat)
    }
    var base: (path: String, format: MachineDefinition.DiskFormat)
    if let current = below.current {
      base = ("../../../\(template)/disks/\(disk.name)/\(current).qcow2", .qcow2)
    } else if let path = below.base {
      base = (path, below.baseFormat ?? disk.format)
    } else {
      throw InventoryError(.invalid, "\(template): disk \(disk.name) has no image")
    }
    let layer = Snapshot.makeIdentifier()
    let path = "\(folder)/disks/\(disk.name)/\(layer).qcow2"
    try changes.makeFolder("\(folder)/disks/\(disk.name)")
    try changes.step("image \(path)")
    try images.createOverlay(path, backing: base.path, format: base.format)
    try changes.synchronizeFolder(of: path)
    return MachineState.Disk(
      name: disk.name, current: layer, base: base.path, baseFormat: base.format,
      parents: [layer: MachineState.Disk.baseLayer])
  }
}
