import CLinux
import Synchronization

// Deleting snapshots. The node goes by one change of the state file; that leaves layers that nothing names any more
// but that others rest on. Merging gives their space back, one layer at a time. Each merge keeps what every layer shows
// at each instant, so it may be cut off anywhere, and whoever merges next begins by looking at what is there.
extension Inventory {
  /// What a merge did.
  package struct MergeReport: Sendable, Equatable {
    /// Layers that are gone.
    package var merged = 0
    /// Layers that could not be merged now, and why.
    package var postponed: [String] = []
    /// Somebody else wanted to work on the machine: what is left is for the next merge.
    package var hasMadeWay = false
    package init() {}
  }

  /// Removes a snapshot. What grew from it keeps all its data. `mergeLayers` gives back its space afterwards.
  ///
  /// - Returns: the snapshot that is gone.
  @discardableResult
  package func deleteSnapshot(
    _ name: MachineName, _ selector: String, authority: Authority = .command
  ) throws(InventoryError) -> Snapshot {
    let lock = try changeLock(name, authority)
    defer { _ = lock }
    var state = try snapshotState(name)
    let target = try SnapshotTree(state).find(selector)
    Self.remove(target, from: &state)
    try write(state, name)
    try collectLayers(name, &state)
    try collectMemoryStates(name, state)
    // Of a running machine its host does it.
    if authority == .command { trimMemoryStates(name) }
    return target
  }

  /// Takes a node out of the tree: its children become its parent's.
  static func remove(_ target: Snapshot, from state: inout MachineState) {
    state.snapshots.removeAll { $0.identifier == target.identifier }
    state.left.removeAll { $0 == target.identifier }
    for index in state.snapshots.indices
    where state.snapshots[index].parent == target.identifier {
      state.snapshots[index].parent = target.parent
    }
    if state.position == target.identifier { state.position = target.parent }
  }

  /// Layers of a stopped machine that `mergeLayers` would merge.
  package func mergeableLayers(_ name: MachineName) throws(InventoryError) -> Int {
    let state = try state(name)
    return state.disks.reduce(0) { $0 + state.superfluousLayers(of: $1).count }
  }

  /// Merges layers that nothing names into those that rest on them, until somebody else wants the machine.
  ///
  /// - Parameters:
  ///   - announce: hears of each merge before it begins.
  ///   - progress: of the merge under way; cancelling it ends the work with an error and loses nothing.
  @discardableResult
  package func mergeLayers(
    _ name: MachineName, progress: LayerProgress = LayerProgress(),
    announce: (_ disk: String, _ left: Int) -> Void = { _, _ in }
  ) throws(InventoryError) -> MergeReport {
    let lock = try lock(name, .merge)
    let isWanted = Wanted()
    return try lock.watching {
      isWanted.set()
      progress.cancel()
    } _: { () throws(InventoryError) in
      try mergeAll(name, progress, isWanted, announce)
    }
  }

  private func mergeAll(
    _ name: MachineName, _ progress: LayerProgress, _ isWanted: Wanted,
    _ announce: (_ disk: String, _ left: Int) -> Void
  ) throws(InventoryError) -> MergeReport {
    var state = try reconciledState(name, try definition(name))
    try dropUnusedLocks(name, &state)
    try collectLayers(name, &state)
    var report = MergeReport()
    var skipped: Set<String> = []
    while let next = Self.nextMerge(state, skipping: skipped) {
      if isWanted.isSet {
        report.hasMadeWay = true
        break
      }
      announce(next.disk, state.disks.reduce(0) { $0 + state.superfluousLayers(of: $1).count })
      do throws(InventoryError) {
        try merge(name, &state, next, progress)
        report.merged += 1
      } catch {
        if isWanted.isSet { continue }
        guard !progress.isCancelled else { throw error }
        // Another machine has one of the files open, for instance.
        skipped.insert(next.layer)
        report.postponed.append(error.description)
      }
    }
    return report
  }

  /// Set by the thread that looks whether somebody waits.
  private final class Wanted: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
  }

  /// A layer and the only one that rests on it.
  struct Merge {
    var disk: String
    var layer: String
    var child: String
  }

  private static func nextMerge(_ state: MachineState, skipping: Set<String>) -> Merge? {
    for disk in state.disks {
      for found in state.superfluousLayers(of: disk) where !skipping.contains(found.layer) {
        return found
      }
    }
    return nil
  }

  private func merge(
    _ name: MachineName, _ state: inout MachineState, _ merge: Merge, _ progress: LayerProgress
  ) throws(InventoryError) {
    guard let index = state.disks.firstIndex(where: { $0.name == merge.disk }) else { return }
    let disk = state.disks[index]
    let layer = layerPath(name, disk, merge.layer)
    let child = layerPath(name, disk, merge.child)
    let allowed = [layer] + filesBelow(name, disk, merge.layer)
    // A merge that was cut off may have moved everything up already: nothing can be committed then.
    let restsOnLayer =
      try images.backing(of: child).first == InventoryLocation.absolute(layer)
    // The fewer bytes move, unless another machine's disk names the child.
    if restsOnLayer, images.allocatedSize(child) < images.allocatedSize(layer),
      !disk.frozen.contains(merge.child)
    {
      try changes.step("commit \(child)")
      try images.commit(child, allowed: allowed, progress: progress)
      for (above, below) in disk.parents where below == merge.child {
        try changes.step("rebase \(above)")
        try images.setBacking(
          of: layerPath(name, disk, above), to: "\(merge.layer).qcow2", format: .qcow2)
      }
      state.replaceLayer(merge.child, by: merge.layer, disk: index)
    } else {
      let parent = disk.parents[merge.layer] ?? MachineState.Disk.baseLayer
      let base: (String, MachineDefinition.DiskFormat)? =
        parent == MachineState.Disk.baseLayer
        ? disk.base.map { ($0, disk.baseFormat ?? .qcow2) } : ("\(parent).qcow2", .qcow2)
      // A commit that was cut off may have laid these on the layer that is to go now.
      for (above, below) in disk.parents where below == merge.child {
        let path = layerPath(name, disk, above)
        guard let file = try images.backing(of: path).first,
          file != InventoryLocation.absolute(child)
        else { continue }
        try changes.step("rebase \(above)")
        try images.setBacking(of: path, to: "\(merge.child).qcow2", format: .qcow2)
      }
      try changes.step("stream \(child)")
      try images.stream(
        child, base: base?.0, baseFormat: base?.1 ?? .qcow2, allowed: allowed, progress: progress)
      state.disks[index].parents[merge.child] = parent
      state.disks[index].parents.removeValue(forKey: merge.layer)
    }
    try write(state, name)
    try collectLayers(name, &state)
  }

  /// Layers that other machines rested on, and none does any more, may go.
  private func dropUnusedLocks(
    _ name: MachineName, _ state: inout MachineState
  ) throws(InventoryError) {
    var isChanged = false
    for index in state.disks.indices {
      for layer in state.disks[index].frozen {
        let users = try dependents(of: name, disk: state.disks[index].name, layer: layer)
        guard users.isEmpty else { continue }
        state.disks[index].frozen.removeAll { $0 == layer }
        isChanged = true
      }
    }
    if isChanged { try write(state, name) }
  }

  /// Removes layers that neither the present nor a snapshot nor another machine needs.
  func collectLayers(_ name: MachineName, _ state: inout MachineState) throws(InventoryError) {
    var isChanged = false
    var garbage: [String] = []
    for index in state.disks.indices {
      let disk = state.disks[index]
      var live: Set<String> = []
      let roots =
        disk.frozen + [disk.current].compactMap { $0 }
        + state.snapshots.compactMap { $0.layers[disk.name] }
      for root in roots {
        var layer = root
        while layer != MachineState.Disk.baseLayer, live.insert(layer).inserted {
          layer = disk.parents[layer] ?? MachineState.Disk.baseLayer
        }
      }
      for layer in disk.parents.keys where !live.contains(layer) {
        state.disks[index].parents.removeValue(forKey: layer)
        isChanged = true
      }
      let folder = "\(location.disks(name))/\(disk.name)"
      for entry in try FileReading.entries(of: folder) where entry.hasSuffix(".qcow2") {
        if !live.contains(String(entry.dropLast(6))) { garbage.append("\(folder)/\(entry)") }
      }
    }
    if isChanged { try write(state, name) }
    for path in garbage { try changes.removeFile(path) }
  }
}

extension MachineState {
  /// Layers that neither the present, nor a snapshot, nor another machine names, and that exactly one layer rests on.
  func superfluousLayers(of disk: Disk) -> [Inventory.Merge] {
    var named = Set(disk.frozen)
    if let current = disk.current { named.insert(current) }
    for snapshot in snapshots { if let layer = snapshot.layers[disk.name] { named.insert(layer) } }
    var children: [String: [String]] = [:]
    for (layer, below) in disk.parents { children[below, default: []].append(layer) }
    return disk.parents.keys.sorted().compactMap { layer in
      guard !named.contains(layer), let above = children[layer], above.count == 1 else {
        return nil
      }
      return Inventory.Merge(disk: disk.name, layer: layer, child: above[0])
    }
  }

  /// `layer` holds all that `old`, which rests on it, shows: it takes its place everywhere.
  mutating func replaceLayer(_ old: String, by layer: String, disk index: Int) {
    let name = disks[index].name
    if disks[index].current == old { disks[index].current = layer }
    for (above, below) in disks[index].parents where below == old {
      disks[index].parents[above] = layer
    }
    disks[index].parents.removeValue(forKey: old)
    for index in snapshots.indices where snapshots[index].layers[name] == old {
      snapshots[index].layers[name] = layer
    }
  }
}
