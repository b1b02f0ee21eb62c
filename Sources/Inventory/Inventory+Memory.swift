import CLinux

// Memory of machines that are suspended, or that a snapshot was taken of while they ran. The files are named by the state
// file only: what it does not name is a left-over.
extension Inventory {
  /// Makes room for a machine's memory. Counts when `suspend` or a snapshot names it; until then the next command may
  /// remove it, unless the machine runs.
  ///
  /// - Returns: its identifier and the file to be written.
  package func prepareMemoryState(
    _ name: MachineName
  ) throws(InventoryError) -> (identifier: String, path: String) {
    let identifier = Snapshot.makeIdentifier()
    try changes.makeFolder("\(location.memoryStates(name))/\(identifier)")
    return (identifier, location.memoryState(name, identifier))
  }

  /// Removes what was prepared and came to nothing. Only for the machine's host.
  package func discardMemoryState(_ name: MachineName, _ identifier: String) {
    try? changes.removeTree("\(location.memoryStates(name))/\(identifier)")
  }

  /// The next start goes on with this memory. Only for the machine's host, which holds the lock, when the disks have what
  /// they had at that moment.
  package func suspend(_ name: MachineName, memory identifier: String) throws(InventoryError) {
    try changes.synchronizeFolder(of: "\(location.memoryStates(name))/\(identifier)")
    var state = try state(name)
    state.suspended = identifier
    try write(state, name)
  }

  /// A snapshot of the running machine has this memory too. Only for its host.
  package func keepMemory(
    _ name: MachineName, of snapshot: Snapshot, _ identifier: String
  ) throws(InventoryError) {
    try changes.synchronizeFolder(of: "\(location.memoryStates(name))/\(identifier)")
    var state = try state(name)
    guard let index = state.snapshots.firstIndex(where: { $0.identifier == snapshot.identifier })
    else {
      throw InventoryError(.notFound, "\(snapshot.name): the snapshot was deleted meanwhile")
    }
    state.snapshots[index].memory = identifier
    try write(state, name)
  }

  /// The file that the next start goes on with; nil: it switches the machine on.
  package func suspendedState(_ name: MachineName) throws(InventoryError) -> String? {
    try state(name).suspended.map { location.memoryState(name, $0) }
  }

  /// The same without reading all of the state.
  package func isSuspended(_ name: MachineName) -> Bool {
    guard let text = try? FileReading.text(location.state(name), limit: 16 << 20) else {
      return false
    }
    return text.contains("\n" + MachineState.suspendedKey)
  }

  /// The machine goes on, or is to be switched on: the memory does not fit its disks from here on. Only for its host.
  package func forgetSuspended(_ name: MachineName) throws(InventoryError) {
    var state = try state(name)
    if state.suspended != nil {
      state.suspended = nil
      try write(state, name)
    }
    try collectMemoryStates(name, state)
  }

  /// Removes what nothing names.
  func collectMemoryStates(
    _ name: MachineName, _ state: MachineState
  ) throws(InventoryError) {
    let folder = location.memoryStates(name)
    guard FileReading.exists(folder) else { return }
    let named = Set(state.snapshots.compactMap(\.memory) + [state.suspended].compactMap { $0 })
    for entry in try FileReading.entries(of: folder) where !named.contains(entry) {
      try changes.removeTree("\(folder)/\(entry)")
    }
  }
}
