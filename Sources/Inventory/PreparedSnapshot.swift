/// A snapshot with memory of a running machine that is about to be taken: what takes time is done before the guest stands
/// still, and as far as it can be after it.
package struct PreparedSnapshot: Sendable {
  /// The state file's content when the snapshot is there.
  var state: MachineState
  package private(set) var snapshot: Snapshot
  /// Fresh layers for the disks, that the machine goes on in; none where nothing was written.
  package private(set) var layers: [(disk: String, path: String)]

  mutating func rest(on layers: [String: String], since state: MachineState) {
    snapshot.layers = layers
    self.layers = []
    var state = state
    state.snapshots.append(snapshot)
    state.position = snapshot.identifier
    state.left = []
    self.state = state
  }
}

extension Inventory {
  /// Makes fresh layers, which count for nothing yet: what fails leaves files that the next command removes. Only for the
  /// machine's host.
  ///
  /// - Parameter isCheckpoint: taken by the clock.
  package func prepareSnapshot(
    _ name: MachineName, title: String?, isCheckpoint: Bool
  ) throws(InventoryError) -> PreparedSnapshot {
    var (state, snapshot, layers) = try snapshotWithFreshLayers(name, title)
    snapshot.isCheckpoint = isCheckpoint
    if let index = state.snapshots.lastIndex(where: { $0.identifier == snapshot.identifier }) {
      state.snapshots[index] = snapshot
    }
    return PreparedSnapshot(state: state, snapshot: snapshot, layers: layers)
  }

  /// Where nothing was written to the disks since the last snapshot, the new one has that one's layers, and the machine
  /// goes on in those that it has. While the machine stands still and its disks are flushed.
  package func shareLayers(
    _ name: MachineName, _ prepared: inout PreparedSnapshot
  ) throws(InventoryError) {
    let state = try snapshotState(name)
    guard let position = state.position, let node = state.snapshot(position),
      Set(prepared.snapshot.layers.keys) == Set(node.layers.keys)
    else { return }
    for (disk, layer) in prepared.snapshot.layers {
      guard let record = state.disk(disk), let current = record.current, current == layer,
        let below = record.parents[current], node.layers[disk] == below,
        try images.isPristine(layerPath(name, record, current))
      else { return }
    }
    prepared.rest(on: node.layers, since: state)
  }

  /// Writes the state file: the snapshot is there. Where it has fresh layers, the disks rest meanwhile.
  package func commit(
    _ name: MachineName, _ prepared: PreparedSnapshot
  ) throws(InventoryError) { try write(prepared.state, name) }
}
