import CLinux
import Platform
import Synchronization

/// The machines on disk. Holds no state but a cache of definitions, so many processes may each have one.
///
/// Everything that changes a machine takes its lock and commits by one rename (see `FileChanges`, `MachineState`).
package final class Inventory: Sendable {
  package let location: InventoryLocation
  package let images: any ImageStore
  let changes: FileChanges

  private struct CacheEntry {
    var stamp: FileStamp
    var definition: Result<MachineDefinition, InventoryError>
  }
  private let cache = Mutex<[MachineName: CacheEntry]>([:])

  package init(
    location: InventoryLocation, images: any ImageStore, changes: FileChanges = FileChanges()
  ) {
    self.location = location
    self.images = images
    self.changes = changes
  }

  /// All machines, also broken ones, sorted.
  package func names() throws(InventoryError) -> [MachineName] {
    try FileReading.entries(of: location.machines)
      .compactMap { try? MachineName($0) }.sorted()
  }

  package func exists(_ name: MachineName) -> Bool {
    FileReading.exists(location.machine(name))
  }

  /// The definition; parsed again only when the file has changed.
  package func definition(_ name: MachineName) throws(InventoryError) -> MachineDefinition {
    let path = location.definition(name)
    guard let stamp = FileStamp(path) else {
      guard exists(name) else { throw notFound(name) }
      throw InventoryError(.invalid, "\(path): is missing; the machine has no definition")
    }
    if let entry = cache.withLock({ $0[name] }), entry.stamp == stamp {
      return try entry.definition.get()
    }
    let result = Result { () throws(InventoryError) in try readDefinition(name) }
    cache.withLock { $0[name] = CacheEntry(stamp: stamp, definition: result) }
    return try result.get()
  }

  private func readDefinition(_ name: MachineName) throws(InventoryError) -> MachineDefinition {
    try MachineDefinition(
      text: try definitionText(name), path: location.definition(name),
      folder: location.machine(name))
  }

  package func definitionText(_ name: MachineName) throws(InventoryError) -> String {
    guard let text = try FileReading.text(location.definition(name)) else { throw notFound(name) }
    return text
  }

  package func state(_ name: MachineName) throws(InventoryError) -> MachineState {
    let path = location.state(name)
    if let text = try interruptedDeparture(name) {
      return try MachineState(text: text, path: location.departure(name))
    }
    // Thousands of snapshots fit; a broken disk's garbage does not.
    guard let text = try FileReading.text(path, limit: 16 << 20) else {
      guard exists(name) else { throw notFound(name) }
      return MachineState()
    }
    return try MachineState(text: text, path: path)
  }

  func write(_ state: MachineState, _ name: MachineName) throws(InventoryError) {
    try changes.write(state.text, to: location.state(name))
  }

  /// Saves a changed definition after validating it.
  package func saveDefinition(_ text: String, of name: MachineName) throws(InventoryError) {
    _ = try MachineDefinition(text: text, path: location.definition(name))
    guard exists(name) else { throw notFound(name) }
    try changes.write(text, to: location.definition(name))
  }

  /// Who holds the machine's lock now.
  package func holder(_ name: MachineName) -> MachineLock.Holder? {
    MachineLock.holder(path: location.lock(name))
  }

  package func lock(
    _ name: MachineName, _ role: MachineLock.Role
  ) throws(InventoryError) -> MachineLock {
    guard exists(name) else { throw notFound(name) }
    return try MachineLock(path: location.lock(name), role: role, machine: name)
  }

  /// In whose name a machine's files are changed.
  package enum Authority: Sendable {
    /// A command's, which takes the lock for a moment.
    case command
    /// The machine's running host, which holds the lock.
    case host
  }

  /// The lock that a change needs; nil where the host has it.
  func changeLock(
    _ name: MachineName, _ authority: Authority
  ) throws(InventoryError) -> MachineLock? {
    switch authority {
    case .command: return try lock(name, .change)
    case .host: return nil
    }
  }

  func notFound(_ name: MachineName) -> InventoryError {
    InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
  }
}

/// Tells a changed file from an unchanged one.
private struct FileStamp: Equatable {
  var seconds: Int
  var nanoseconds: Int
  var size: Int
  var inode: UInt

  init?(_ path: String) {
    var information = stat()
    guard stat(path, &information) == 0 else { return nil }
    seconds = information.st_mtim.tv_sec
    nanoseconds = information.st_mtim.tv_nsec
    size = Int(information.st_size)
    inode = UInt(information.st_ino)
  }
}
