import CLinux

extension Inventory {
  package func snapshots(_ name: MachineName) throws(InventoryError) -> SnapshotTree {
    SnapshotTree(try state(name))
  }

  /// Puts fresh layers under a running machine's disks at one instant.
  ///
  /// - Parameters:
  ///   - layers: Each disk's name and the file of its new layer.
  ///   - commit: To be called while no request is under way; what it throws leaves everything as it was.
  package typealias LayerExchange = (
    _ layers: [(disk: String, path: String)], _ commit: () throws -> Void
  ) throws -> Void

  /// Keeps the present content of every disk as a snapshot; the machine goes on in fresh layers.
  ///
  /// - Parameter title: unique in the machine; nil makes one up.
  @discardableResult
  package func takeSnapshot(
    _ name: MachineName, title: String? = nil
  ) throws(InventoryError) -> Snapshot {
    let lock = try lock(name, .change)
    defer { _ = lock }
    let (state, snapshot, _) = try snapshotWithFreshLayers(name, title)
    try write(state, name)
    return snapshot
  }

  /// The same for a machine that runs. Only its host, which holds the lock, may call this.
  ///
  /// The state file is replaced while the disks rest: before that the snapshot is not there, and what fails leaves at
  /// most files that the next command removes.
  package func takeSnapshotWhileRunning(
    _ name: MachineName, title: String? = nil, exchange: LayerExchange
  ) throws -> Snapshot {
    let (state, snapshot, layers) = try snapshotWithFreshLayers(name, title)
    try exchange(layers) { try write(state, name) }
    return snapshot
  }

  /// Everything but the writing of the state.
  func snapshotWithFreshLayers(
    _ name: MachineName, _ title: String?
  ) throws(InventoryError) -> (MachineState, Snapshot, [(disk: String, path: String)]) {
    var state = try snapshotState(name)
    let title = title ?? SnapshotTree(state).freeTitle()
    try SnapshotTree(state).checkTitle(title)
    try collectLayers(name, &state)
    // Of a suspended machine the memory belongs to what is kept; it goes on with it all the same.
    let snapshot = try freeze(
      name, &state, title: title, isAutomatic: false, memory: state.suspended)
    var layers: [(disk: String, path: String)] = []
    for index in state.disks.indices where snapshot.layers[state.disks[index].name] != nil {
      try pushLayer(name, &state.disks[index])
      let disk = state.disks[index]
      layers.append((disk.name, layerPath(name, disk, disk.current)))
    }
    state.left = []
    return (state, snapshot, layers)
  }

  /// Goes back (or anywhere in the tree): the machine continues from a snapshot's content. What is left is kept as a
  /// snapshot of its own first, unless nothing was written since the last one.
  ///
  /// - Returns: the snapshot that was gone to and the one that keeps what was left.
  @discardableResult
  package func rollBack(
    _ name: MachineName, to selector: String
  ) throws(InventoryError) -> (target: Snapshot, kept: Snapshot?) {
    let lock = try lock(name, .change)
    defer { _ = lock }
    var state = try snapshotState(name)
    let target = try SnapshotTree(state).find(selector)
    return try go(name, &state, to: target, verb: "rollback") { $0.append($1) }
  }

  /// Returns to the state that the last roll-back has left.
  ///
  /// - Parameter selector: which way, where there are several; nil takes the one that was left, or the only child.
  @discardableResult
  package func rollForward(
    _ name: MachineName, to selector: String? = nil
  ) throws(InventoryError) -> (target: Snapshot, kept: Snapshot?) {
    let lock = try lock(name, .change)
    defer { _ = lock }
    var state = try snapshotState(name)
    let tree = SnapshotTree(state)
    let target: Snapshot
    if let selector {
      target = try tree.find(selector)
    } else {
      target = try tree.forwardTarget(machine: name)
    }
    return try go(name, &state, to: target, verb: "forward") { left, _ in
      if let index = left.lastIndex(of: target.identifier) {
        left.removeSubrange(index...)
      }
    }
  }

  private func go(
    _ name: MachineName, _ state: inout MachineState, to target: Snapshot, verb: String,
    remember: (inout [String], String) -> Void
  ) throws(InventoryError) -> (target: Snapshot, kept: Snapshot?) {
    try collectLayers(name, &state)
    var kept: Snapshot?
    if try isWritten(name, state) {
      kept = try freeze(
        name, &state, title: "before \(verb) to \(target.name)", isAutomatic: true,
        memory: state.suspended)
    }
    if let position = state.position, position != target.identifier {
      remember(&state.left, position)
    }
    for index in state.disks.indices {
      let disk = state.disks[index]
      if let layer = target.layers[disk.name] {
        try pushLayer(name, &state.disks[index], onto: layer)
      } else if kept?.layers[disk.name] != nil {
        // A disk that is younger than the snapshot goes on with what it has.
        try pushLayer(name, &state.disks[index])
      }
    }
    state.position = target.identifier
    state.suspended = target.memory
    try write(state, name)
    try? collectLayers(name, &state)
    try? collectMemoryStates(name, state)
    return (target, kept)
  }

  /// Gives a snapshot another name. An automatic one becomes one of the person's.
  package func renameSnapshot(
    _ name: MachineName, _ selector: String, to title: String, authority: Authority = .command
  ) throws(InventoryError) {
    let lock = try changeLock(name, authority)
    defer { _ = lock }
    var state = try state(name)
    let tree = SnapshotTree(state)
    let target = try tree.find(selector)
    if target.name != title { try tree.checkTitle(title) }
    for index in state.snapshots.indices
    where state.snapshots[index].identifier == target.identifier {
      state.snapshots[index].name = title
      state.snapshots[index].isAutomatic = false
      state.snapshots[index].isCheckpoint = false
    }
    try write(state, name)
  }

  /// The state, with an entry for every disk, of a machine that has something to take snapshots of.
  func snapshotState(_ name: MachineName) throws(InventoryError) -> MachineState {
    let definition = try definition(name)
    guard definition.disks.contains(where: { !$0.isReadOnly }) else {
      throw InventoryError(.refused, "\(name): has no writable disk to take snapshots of")
    }
    return try reconciledState(name, definition)
  }

  /// Adds a node that holds the current layers. Fresh ones must follow before the state is written.
  private func freeze(
    _ name: MachineName, _ state: inout MachineState, title: String, isAutomatic: Bool,
    memory: String?
  ) throws(InventoryError) -> Snapshot {
    let definition = try definition(name)
    var layers: [String: String] = [:]
    for disk in definition.disks where !(disk.isReadOnly && disk.path != nil) {
      guard let record = state.disk(disk.name) else { continue }
      layers[disk.name] = record.current ?? MachineState.Disk.baseLayer
    }
    let snapshot = Snapshot(
      identifier: Snapshot.makeIdentifier(), name: title, parent: state.position,
      created: Int64(time(nil)), isAutomatic: isAutomatic, layers: layers,
      memory: memory)
    state.snapshots.append(snapshot)
    state.position = snapshot.identifier
    return snapshot
  }

  /// Whether disks or memory hold anything that no snapshot has.
  private func isWritten(
    _ name: MachineName, _ state: MachineState
  ) throws(InventoryError) -> Bool {
    guard let position = state.position, let node = state.snapshot(position) else { return true }
    if let suspended = state.suspended, suspended != node.memory { return true }
    for disk in try definition(name).disks where !(disk.isReadOnly && disk.path != nil) {
      guard let record = state.disk(disk.name) else { continue }
      guard let current = record.current, node.layers[disk.name] == record.parents[current] else {
        return true
      }
      if try !images.isPristine(layerPath(name, record, current)) { return true }
    }
    return false
  }
}
