import CLinux
import Platform
import StateFile

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

  /// Removes what nothing names, and no state that is named has pages in.
  func collectMemoryStates(
    _ name: MachineName, _ state: MachineState
  ) throws(InventoryError) {
    let folder = location.memoryStates(name)
    guard FileReading.exists(folder), let wanted = wantedMemoryStates(name, state) else { return }
    for entry in try FileReading.entries(of: folder) where !wanted.contains(entry) {
      try changes.removeTree("\(folder)/\(entry)")
    }
  }

  /// - Returns: nil where a file that counts cannot be read: who knows what it needs.
  private func wantedMemoryStates(_ name: MachineName, _ state: MachineState) -> Set<String>? {
    let named = state.memoryStates
    var wanted = named
    for identifier in named {
      let path = location.memoryState(name, identifier)
      // What is not there needs nothing.
      guard FileReading.exists(path) else { continue }
      guard let files = StateFilePages.files(of: path) else { return nil }
      wanted.formUnion(files)
    }
    return wanted
  }

  /// Gives back the space of pages that no state needs any more, of files that are kept for others only.
  ///
  /// - Parameter mapped: the states that the running machine's memory comes from; only its host knows them, and calls this
  ///   while no state is being saved.
  package func trimMemoryStates(_ name: MachineName, mapped: Set<String> = []) {
    guard let state = try? state(name), let wanted = wantedMemoryStates(name, state) else { return }
    let named = state.memoryStates
    let users = named.map { location.memoryState(name, $0) }.filter { FileReading.exists($0) }
    for identifier in wanted where !named.contains(identifier) && !mapped.contains(identifier) {
      StateFilePages.trim(location.memoryState(name, identifier), for: users)
    }
  }

  /// Puts a state, and all files that it has pages in, into the folder of a new machine, by another name of the same file.
  func shareMemory(
    _ identifier: String, of name: MachineName, with folder: String
  ) throws(InventoryError) {
    let path = location.memoryState(name, identifier)
    guard let files = StateFilePages.files(of: path) else {
      throw InventoryError(.invalid, "\(path): is damaged, or not there")
    }
    for file in [identifier] + files {
      let place = "\(folder)/snapshots/\(file)"
      try changes.makeFolder(place)
      let target = "\(place)/memory.state"
      let source = location.memoryState(name, file)
      _ = try platform { () throws(PlatformError) in
        try systemCall("link", target) { link(source, target) }
      }
      try changes.synchronizeFolder(of: target)
    }
  }

  /// The state that the present one of a running machine grew from, for the next to rest on.
  package func baseMemoryState(_ name: MachineName) -> String? {
    guard let state = try? state(name), let position = state.position,
      let memory = state.snapshot(position)?.memory
    else { return nil }
    return location.memoryState(name, memory)
  }
}

extension MachineState {
  /// What snapshots and the next start go on with.
  var memoryStates: Set<String> {
    Set(snapshots.compactMap(\.memory) + [suspended].compactMap { $0 })
  }
}
