extension Inventory {
  /// What differs between two states of one disk.
  package struct DiskChange: Sendable, Equatable {
    package var disk: String
    /// Stretches in bytes, in order.
    package var ranges: [Range<UInt64>]
    /// nil: the disk was not there in one of the states.
    package var isComparable: Bool

    package var byteCount: UInt64 {
      ranges.reduce(0) { $0 &+ ($1.upperBound - $1.lowerBound) }
    }
  }

  /// Compares a snapshot with another, or with the present state.
  ///
  /// - Parameter second: nil is the present state of a machine that does not run.
  package func difference(
    _ name: MachineName, from first: String, to second: String? = nil,
    progress: LayerProgress = LayerProgress()
  ) throws(InventoryError) -> [DiskChange] {
    let definition = try definition(name)
    let state = try reconciledState(name, definition)
    let tree = SnapshotTree(state)
    let one = try tree.find(first)
    let other: Snapshot?
    if let second { other = try tree.find(second) } else { other = nil }
    if other == nil, holder(name)?.role == .host {
      throw InventoryError(
        .running, "\(name): is running, and writes what should be compared; name two snapshots")
    }
    var changes: [DiskChange] = []
    for disk in definition.disks where !(disk.isReadOnly && disk.path != nil) {
      guard let record = state.disk(disk.name) else { continue }
      let left = one.layers[disk.name].map { view(name, record, disk, $0) }
      let right =
        other == nil
        ? view(name, record, disk, record.current ?? MachineState.Disk.baseLayer)
        : other?.layers[disk.name].map { view(name, record, disk, $0) }
      guard let left, let right else {
        changes.append(DiskChange(disk: disk.name, ranges: [], isComparable: false))
        continue
      }
      let ranges =
        left.path == right.path ? [] : try images.difference(left, right, progress: progress)
      changes.append(DiskChange(disk: disk.name, ranges: ranges, isComparable: true))
    }
    return changes
  }

  /// A disk as it is at a layer.
  private func view(
    _ name: MachineName, _ record: MachineState.Disk, _ disk: MachineDefinition.Disk,
    _ layer: String
  ) -> ResolvedDisk {
    let isBase = layer == MachineState.Disk.baseLayer
    return ResolvedDisk(
      name: disk.name, path: layerPath(name, record, layer),
      format: isBase ? record.baseFormat ?? disk.format : .qcow2, isReadOnly: true,
      backing: (isBase ? [] : filesBelow(name, record, layer)) + disk.backing, serial: "",
      bus: disk.bus)
  }
}
