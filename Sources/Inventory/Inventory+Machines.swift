import CLinux
import Platform

extension Inventory {
  /// Where the content of a new machine's managed disk comes from.
  package enum DiskSource: Sendable, Equatable {
    /// An empty disk of so many bytes.
    case empty(size: UInt64)
    /// A copy of an image.
    case copy(path: String, format: MachineDefinition.DiskFormat)
    /// An overlay on an image that must not change any more.
    case overlay(path: String, format: MachineDefinition.DiskFormat)
    /// A qcow2 image that rests on nothing, on the same file system: it is moved, not copied, where that can be.
    case adopted(path: String)
  }

  /// Makes a machine; it appears complete or not at all.
  ///
  /// - Parameter sources: the content of each managed disk of the definition, by the disk's name.
  package func create(
    _ name: MachineName, _ definition: MachineDefinition, sources: [String: DiskSource] = [:]
  ) throws(InventoryError) {
    try checkIsFree(name)
    for disk in definition.disks {
      guard let path = disk.path else { continue }
      _ = try images.size(path, format: disk.format)
    }
    try assemble(name, definition) { folder throws(InventoryError) in
      var state = MachineState()
      for disk in definition.disks {
        var record = MachineState.Disk(name: disk.name)
        if disk.path == nil {
          guard let source = sources[disk.name] else {
            throw InventoryError(.invalid, "\(name): disk \(disk.name) has neither size nor image")
          }
          try makeDisk(&record, source, folder: folder)
        } else {
          record.base = disk.path
          record.baseFormat = disk.format
        }
        state.disks.append(record)
      }
      return state
    }
  }

  private func makeDisk(
    _ disk: inout MachineState.Disk, _ source: DiskSource, folder: String
  ) throws(InventoryError) {
    let layer = Snapshot.makeIdentifier()
    let path = "\(folder)/disks/\(disk.name)/\(layer).qcow2"
    try changes.makeFolder("\(folder)/disks/\(disk.name)")
    try changes.step("image \(path)")
    switch source {
    case .empty(let size): try images.create(path, size: size)
    case .copy(let image, let format): try images.copy(image, format: format, to: path)
    case .adopted(let image):
      if CLinux.rename(image, path) != 0 { try images.copy(image, format: .qcow2, to: path) }
    case .overlay(let image, let format):
      disk.base = InventoryLocation.absolute(image)
      disk.baseFormat = format
      try images.createOverlay(path, backing: InventoryLocation.absolute(image), format: format)
    }
    disk.current = layer
    disk.parents[layer] = MachineState.Disk.baseLayer
    try changes.synchronizeFolder(of: path)
  }

  /// Builds the folder under a name that no listing shows, then gives it its real one.
  func assemble(
    _ name: MachineName, _ definition: MachineDefinition,
    disks: (String) throws(InventoryError) -> MachineState
  ) throws(InventoryError) {
    try changes.makeFolder(location.machines)
    try sweep()
    // Its own lock is held while it grows, so that no other command sweeps it away.
    let folder = "\(location.machines)/.new-\(name)-\(Snapshot.makeIdentifier())"
    try changes.makeFolder(folder)
    let lock = try MachineLock(path: folder + "/lock", role: .change, machine: name)
    defer { _ = lock }
    do throws(InventoryError) {
      try changes.makeFolder(folder + "/log")
      let state = try disks(folder)
      try changes.write(state.text, to: folder + "/state.toml")
      try changes.write(definition.text(name: name), to: folder + "/machine.toml")
      guard try changes.move(folder, to: location.machine(name)) else {
        throw InventoryError(.exists, "\(name): there is a machine of that name already")
      }
    } catch {
      try? changes.removeTree(folder)
      throw error
    }
  }

  /// Replaces the seed that the machine's guest reads at its next start.
  package func writeSeed(_ image: [UInt8], of name: MachineName) throws(InventoryError) {
    try changes.write(image, to: location.seed(name))
  }

  func checkIsFree(_ name: MachineName) throws(InventoryError) {
    if exists(name) {
      throw InventoryError(.exists, "\(name): there is a machine of that name already")
    }
  }

  /// Removes what interrupted commands left: half-made and half-removed machines that nobody holds.
  package func sweep() throws(InventoryError) {
    for entry in try FileReading.entries(of: location.machines)
    where entry.hasPrefix(".new-") || entry.hasPrefix(".old-") {
      let folder = "\(location.machines)/\(entry)"
      if MachineLock.holder(path: folder + "/lock") == nil, Self.age(folder) > 10 {
        try changes.removeTree(folder)
      }
    }
  }

  /// Seconds since a file was changed.
  private static func age(_ path: String) -> Int {
    var information = stat()
    guard lstat(path, &information) == 0 else { return 0 }
    return time(nil) - information.st_mtim.tv_sec
  }

  /// Removes a machine with its disks and snapshots.
  ///
  /// - Throws: kind `running`; kind `refused` when other machines' disks rest on this one's.
  package func delete(_ name: MachineName) throws(InventoryError) {
    let lock = try lock(name, .change)
    defer { _ = lock }
    try refuseIfNeeded(by: try dependents(of: name), name, "delete")
    let folder = "\(location.machines)/.old-\(name)-\(Snapshot.makeIdentifier())"
    guard try changes.move(location.machine(name), to: folder) else {
      throw InventoryError(.io, "\(folder): exists already")
    }
    try changes.removeTree(folder)
  }

  /// Gives a stopped machine another name.
  package func rename(_ name: MachineName, to target: MachineName) throws(InventoryError) {
    let lock = try lock(name, .change)
    defer { _ = lock }
    try checkIsFree(target)
    try refuseIfNeeded(by: try dependents(of: name), name, "rename")
    guard try changes.move(location.machine(name), to: location.machine(target)) else {
      throw InventoryError(.exists, "\(target): there is a machine of that name already")
    }
  }

  /// Machines whose disks rest on a machine's layers (on one certain layer when given).
  package func dependents(
    of name: MachineName, disk: String? = nil, layer: String? = nil
  ) throws(InventoryError) -> [MachineName] {
    var prefix = "../../../\(name)/disks/"
    if let disk, let layer { prefix += "\(disk)/\(layer).qcow2" }
    // A clone says so in plain text: most states need not be parsed for the answer.
    return try names().filter { other in
      guard other != name, let text = try? FileReading.text(location.state(other), limit: 16 << 20),
        text.contains(prefix), let state = try? MachineState(text: text, path: "")
      else { return false }
      return state.disks.contains { $0.base?.hasPrefix(prefix) ?? false }
    }
  }

  func refuseIfNeeded(
    by dependents: [MachineName], _ name: MachineName, _ action: String
  ) throws(InventoryError) {
    guard !dependents.isEmpty else { return }
    let shown = dependents.prefix(5).map(\.description).joined(separator: ", ")
    let more = dependents.count > 5 ? " and \(dependents.count - 5) more" : ""
    throw InventoryError(
      .refused,
      "\(name): cannot \(action): the disks of \(shown)\(more) rest on its own; delete those first")
  }
}
