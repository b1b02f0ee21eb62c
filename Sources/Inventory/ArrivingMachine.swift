import CLinux
import DiskImage
import Platform
import StateFile

/// A machine that comes from another host. It grows in a folder that no listing shows, and is there as a whole or not at
/// all. Used by one thread at a time.
package final class ArrivingMachine: @unchecked Sendable {
  // @unchecked: see above.

  /// What was said of a disk.
  package struct Disk: Sendable, Equatable {
    package var name: String
    package var size: UInt64
    /// Its content comes.
    package var isCopied: Bool

    package init(name: String, size: UInt64, isCopied: Bool) {
      self.name = name
      self.size = size
      self.isCopied = isCopied
    }
  }

  /// Bytes of memory for a disk's tables.
  private static let cacheBytes = 8 << 20
  /// Bytes of a disk at most: what a sparse image of the host can hold.
  package static let diskLimit: UInt64 = 1 << 46

  package let name: MachineName
  private let inventory: Inventory
  private let folder: String
  private var lock: MachineLock?
  private var images: [(any BlockDevice)?] = []
  private var storages: [ArrivingDisk] = []
  /// Bytes of disks that came since `writeAhead` had any of them written.
  private var aheadBytes = 0
  private static let aheadStep = 16 << 20
  private var files: [MovingFile: (file: SharedDescriptor, size: UInt64)] = [:]
  private let memory: StateFileWriter
  private let uuid: UniqueIdentifier?
  /// What a machine left here that comes back.
  private var leftOver: String?
  private var isPlaced = false
  private var isKept = false

  /// - Parameters:
  ///   - definition: as `MachineDefinition.arriving` has it, with `disks` in its order.
  /// - Throws: kind `exists` where the name is taken.
  package init(
    _ inventory: Inventory, _ name: MachineName, _ definition: MachineDefinition, disks: [Disk],
    files: [MovingFile: UInt64], memorySize: UInt64
  ) throws(InventoryError) {
    self.inventory = inventory
    self.name = name
    uuid = definition.uuid
    try Self.check(inventory, name, definition, disks, files)
    let changes = inventory.changes
    try changes.makeFolder(inventory.location.machines)
    try inventory.sweep()
    let folder = "\(inventory.location.machines)/.new-\(name)-\(Snapshot.makeIdentifier())"
    self.folder = folder
    try changes.makeFolder(folder)
    // Its own lock is held while it grows, so that no other command sweeps it away.
    lock = try MachineLock(path: folder + "/lock", role: .change, machine: name)
    var state = MachineState()
    do throws(InventoryError) {
      for place in ["log", "boot", "cloud"] { try changes.makeFolder("\(folder)/\(place)") }
      let identifier = Snapshot.makeIdentifier()
      try changes.makeFolder("\(folder)/snapshots/\(identifier)")
      state.suspended = identifier
      memory = try stateFile { () throws(StateFileError) in
        try StateFileWriter(
          path: "\(folder)/snapshots/\(identifier)/memory.state", memorySize: memorySize,
          isLasting: false)
      }
    } catch {
      try? changes.removeTree(folder)
      throw error
    }
    do throws(InventoryError) {
      try make(disks, definition, &state)
      for (file, size) in files { try make(file, size) }
      try changes.write(state.text, to: folder + "/state.toml")
      try changes.write(definition.text(name: name), to: folder + "/machine.toml")
    } catch {
      discard()
      throw error
    }
  }

  deinit { discard() }

  private static func check(
    _ inventory: Inventory, _ name: MachineName, _ definition: MachineDefinition, _ disks: [Disk],
    _ files: [MovingFile: UInt64]
  ) throws(InventoryError) {
    if inventory.exists(name), !inventory.isLeftOver(name, of: definition.uuid) {
      let others = inventory.movedPlace(name) == nil ? "" : ", with what it left here"
      throw InventoryError(
        .exists,
        "\(name): there is a machine of that name already\(others); 'uj receive --as OTHER-NAME' "
          + "gives this one another")
    }
    guard disks.map(\.name) == definition.disks.map(\.name),
      disks.allSatisfy({ $0.size > 0 && $0.size % 512 == 0 && $0.size <= diskLimit }),
      files.values.allSatisfy({ $0 <= MovingFile.sizeLimit })
    else { throw InventoryError(.invalid, "\(name): what is said of its disks cannot be") }
  }

  private func make(
    _ disks: [Disk], _ definition: MachineDefinition, _ state: inout MachineState
  ) throws(InventoryError) {
    for (disk, settings) in zip(disks, definition.disks) {
      var record = MachineState.Disk(name: disk.name)
      if disk.isCopied {
        let layer = Snapshot.makeIdentifier()
        let path = "\(folder)/disks/\(disk.name)/\(layer).qcow2"
        try inventory.changes.makeFolder("\(folder)/disks/\(disk.name)")
        try inventory.images.create(path, size: disk.size)
        try inventory.changes.synchronizeFolder(of: path)
        record.current = layer
        record.parents[layer] = MachineState.Disk.baseLayer
        let (storage, target) = try image { () throws(DiskImageError) in
          let storage = try ArrivingDisk(path)
          return (storage, try Qcow2Image.open(storage, cacheBytes: Self.cacheBytes))
        }
        storages.append(storage)
        images.append(target)
      } else {
        record.base = settings.path
        record.baseFormat = settings.format
        let path = settings.path ?? ""
        let size = try inventory.images.size(path, format: settings.format)
        guard size == disk.size else {
          throw InventoryError(
            .refused,
            "\(printable(path)): has \(size) bytes, and the machine's disk \(disk.name) \(disk.size)"
          )
        }
        images.append(nil)
      }
      state.disks.append(record)
    }
  }

  private func make(_ file: MovingFile, _ size: UInt64) throws(InventoryError) {
    let path = "\(folder)/\(file.place)"
    let descriptor = try platform { () throws(PlatformError) in
      SharedDescriptor(try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL))
    }
    files[file] = (descriptor, size)
  }

  /// Where its host's log is while it has no name.
  package var hostLog: (path: String, folder: String) {
    (folder + "/log/host.log", folder + "/log")
  }

  // MARK: What comes

  package func writeMemory(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(InventoryError) {
    try stateFile { () throws(StateFileError) in try memory.write(bytes, atMemory: offset) }
  }

  package func writeMemoryZeros(count: UInt64, at offset: UInt64) throws(InventoryError) {
    try stateFile { () throws(StateFileError) in
      try memory.writeZeros(count: count, atMemory: offset)
    }
  }

  package func writeDisk(
    _ disk: Int, _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(InventoryError) {
    let target = try copiedDisk(disk, offset, UInt64(bytes.count))
    aheadBytes += bytes.count
    try image { () throws(DiskImageError) in try target.write(from: bytes, at: offset) }
  }

  package func writeDiskZeros(
    _ disk: Int, count: UInt64, at offset: UInt64
  ) throws(InventoryError) {
    let target = try copiedDisk(disk, offset, count)
    try image { () throws(DiskImageError) in
      try target.writeZeroes(at: offset, count: count, mayUnmap: true)
    }
  }

  private func copiedDisk(
    _ disk: Int, _ offset: UInt64, _ count: UInt64
  ) throws(InventoryError) -> any BlockDevice {
    let (end, overflow) = offset.addingReportingOverflow(count)
    guard images.indices.contains(disk), let target = images[disk], !overflow, end <= target.size
    else {
      throw InventoryError(.invalid, "\(name): content came for a disk that has no such place")
    }
    return target
  }

  package func writeFile(
    _ file: MovingFile, _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(InventoryError) {
    let (end, overflow) = offset.addingReportingOverflow(UInt64(bytes.count))
    guard let target = files[file], !overflow, end <= target.size else {
      throw InventoryError(.invalid, "\(name): content came for a file that has no such place")
    }
    let number = target.file.rawValue
    var done = 0
    while done < bytes.count {
      done += try platform { () throws(PlatformError) in
        try systemCall("write", file.what) {
          pwrite(
            number, bytes.baseAddress.map { $0 + done }, bytes.count - done,
            off_t(clamping: offset) + off_t(done))
        }
      }
    }
  }

  /// Begins to write what came to the host's disk, where that is much: what is left for `makeLasting` is little then.
  package func writeAhead() {
    guard aheadBytes >= Self.aheadStep else { return }
    aheadBytes = 0
    for storage in storages { storage.writeAhead() }
  }

  /// All has come.
  ///
  /// - Parameter manifest: from anywhere.
  package func complete(_ manifest: [UInt8]) throws(InventoryError) {
    let decoded: StateManifest
    do throws(StateValueError) {
      decoded = try StateManifest(decoding: manifest)
    } catch {
      throw InventoryError(.invalid, "\(name): its state is damaged: \(error)")
    }
    // It is used at once: what it says of memory is not worth anything after a power cut.
    try stateFile { () throws(StateFileError) in
      try memory.finish(decoded)
      try memory.commit(isLasting: false)
    }
    for target in images {
      if let target { try image { () throws(DiskImageError) in try target.close() } }
    }
    images = []
  }

  // MARK: The end

  /// Gives it its name: from here on it is a suspended machine of this inventory, which anybody may start. After a power
  /// cut it may not be there, until `makeLasting`.
  package func place() throws(InventoryError) {
    let location = inventory.location
    if inventory.exists(name) {
      guard inventory.isLeftOver(name, of: uuid) else {
        throw InventoryError(.exists, "\(name): there is a machine of that name by now")
      }
      let old = "\(location.machines)/.old-\(name)-\(Snapshot.makeIdentifier())"
      let held = try inventory.lock(name, .change)
      guard try inventory.changes.move(location.machine(name), to: old, isLasting: false) else {
        throw InventoryError(.io, "\(old): exists already")
      }
      _ = held
      leftOver = old
    }
    guard try inventory.changes.move(folder, to: location.machine(name), isLasting: false) else {
      throw InventoryError(.exists, "\(name): there is a machine of that name by now")
    }
    isPlaced = true
    lock = nil
  }

  /// Comes back when all that came, and its name, would survive a power cut. While the guest runs already.
  package func makeLasting() throws(InventoryError) {
    for storage in storages { try storage.makeLasting() }
    for (file, descriptor) in files {
      let number = descriptor.file.rawValue
      _ = try platform { () throws(PlatformError) in
        try systemCall("fsync", file.what) { fsync(number) }
      }
    }
    try inventory.changes.synchronizeFolder(of: inventory.location.machine(name))
  }

  /// It runs: what an earlier stay left is removed.
  package func keep() {
    isKept = true
    if let leftOver { try? inventory.changes.removeTree(leftOver) }
  }

  /// Takes it away again after a start that failed.
  ///
  /// - Throws: where somebody has it: it may run.
  package func withdraw() throws(InventoryError) {
    guard isPlaced else { return discard() }
    let held = try inventory.lock(name, .change)
    let away = "\(inventory.location.machines)/.old-\(name)-\(Snapshot.makeIdentifier())"
    guard try inventory.changes.move(inventory.location.machine(name), to: away) else {
      throw InventoryError(.io, "\(away): exists already")
    }
    _ = held
    if let leftOver {
      _ = try? inventory.changes.move(leftOver, to: inventory.location.machine(name))
    }
    isKept = true
    try? inventory.changes.removeTree(away)
  }

  /// Nothing of it stays, unless it has its name.
  package func discard() {
    guard !isPlaced, !isKept else { return }
    isKept = true
    memory.discard()
    for target in images { try? target?.close() }
    images = []
    files = [:]
    lock = nil
    try? inventory.changes.removeTree(folder)
    if let leftOver {
      _ = try? inventory.changes.move(leftOver, to: inventory.location.machine(name))
    }
  }

  private func image<Value>(
    _ body: () throws(DiskImageError) -> Value
  ) throws(InventoryError) -> Value {
    do {
      return try body()
    } catch {
      throw InventoryError(error.code == .noSpace ? .io : .invalid, error.description)
    }
  }
}

private func stateFile<Value>(
  _ body: () throws(StateFileError) -> Value
) throws(InventoryError) -> Value {
  do {
    return try body()
  } catch {
    if case .system(let error) = error { throw InventoryError(error) }
    throw InventoryError(.invalid, error.description)
  }
}
