// Internal snapshots: create, apply, delete, list, read.
import CLinux

extension Qcow2Image {
  /// All internal snapshots, in the order of the file.
  public func snapshots() throws(DiskImageError) -> [Qcow2Snapshot] {
    let current = try lock.withLock { () throws(DiskImageError) in header }
    return try SnapshotTable.read(from: storage, current).entries
  }

  /// Keeps the disk as it is now under a name. Waits for running requests; later ones wait for it.
  ///
  /// - Returns: The new snapshot's identifier.
  @discardableResult
  public func createSnapshot(
    _ name: String, progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) -> String {
    guard !name.isEmpty, name.utf8.count <= 1023 else {
      throw DiskImageError(.invalid, path, "needs a snapshot name of 1 to 1023 bytes")
    }
    var identifier = ""
    try transition(progress) { (transition) throws(DiskImageError) in
      let known = transition.snapshots.entries
      if known.contains(where: { $0.name == name }) {
        throw DiskImageError(.exists, path, "has a snapshot '\(name)' already; choose another name")
      }
      guard known.count < Int(Qcow2Header.maximumSnapshots) else {
        throw DiskImageError(.unsupported, path, "has as many snapshots as its format allows")
      }
      let highest = known.compactMap { UInt64($0.identifier) }.max() ?? 0
      identifier = String(highest &+ 1)
      try transition.shareActive()
      let table = transition.l1
      var time = timespec()
      clock_gettime(CLOCK_REALTIME, &time)
      var snapshot = Qcow2Snapshot(
        identifierBytes: Array(identifier.utf8), nameBytes: Array(name.utf8), diskSize: size,
        l1Offset: try transition.store(table), l1Size: UInt32(table.count))
      snapshot.seconds = UInt32(truncatingIfNeeded: time.tv_sec)
      snapshot.nanoseconds = UInt32(truncatingIfNeeded: time.tv_nsec)
      transition.snapshots.entries.append(snapshot)
    }
    return identifier
  }

  /// Makes the disk what it was, its size included; what was written since is lost unless another snapshot keeps it.
  public func applySnapshot(
    _ nameOrIdentifier: String, progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    try transition(progress) { (transition) throws(DiskImageError) in
      let snapshot = transition.snapshots.entries[try index(of: nameOrIdentifier, transition)]
      let table = try l1Table(of: snapshot)
      // Dropping first keeps narrow refcounts in range; the snapshot's own references keep its clusters.
      try transition.reference(transition.l1, -1)
      try transition.reference(table, 1)
      transition.header.size = snapshot.diskSize
      let needed = max(
        UInt64(table.count), transition.header.requiredL1Entries(forSize: snapshot.diskSize), 1)
      guard needed * 8 <= Qcow2Header.maximumL1Bytes else {
        throw DiskImageError(.corrupt, path, "has a snapshot with too short an L1 table")
      }
      transition.l1 = table + [UInt64](repeating: 0, count: Int(needed) - table.count)
      try transition.correctActive()
    }
  }

  /// Forgets a snapshot and gives back what only it kept.
  public func deleteSnapshot(
    _ nameOrIdentifier: String, progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    try transition(progress) { (transition) throws(DiskImageError) in
      let position = try index(of: nameOrIdentifier, transition)
      let snapshot = transition.snapshots.entries.remove(at: position)
      try transition.reference(try l1Table(of: snapshot), -1)
      try transition.release(snapshot.l1Offset, bytes: UInt64(snapshot.l1Size) * 8)
      try transition.correctActive()
    }
  }

  /// A snapshot as a disk of its own, for reading, without applying it. It shares this image's file: close it first, and
  /// do not delete the snapshot meanwhile.
  public func readSnapshot(_ nameOrIdentifier: String) throws(DiskImageError) -> any BlockDevice {
    let current = try lock.withLock { () throws(DiskImageError) in header }
    let table = try SnapshotTable.read(from: storage, current)
    guard let snapshot = Self.find(nameOrIdentifier, in: table.entries) else {
      throw noSnapshot(nameOrIdentifier)
    }
    var view = current
    view.l1Offset = snapshot.l1Offset
    view.l1Size = snapshot.l1Size
    view.size = snapshot.diskSize
    guard UInt64(view.l1Size) >= view.requiredL1Entries(forSize: view.size) else {
      throw DiskImageError(.corrupt, path, "has a snapshot with too short an L1 table")
    }
    let image = try Qcow2Image(
      storage: storage, dataStorage: nil, header: view, backing: backing, isReadOnly: true,
      cacheBytes: 1 << 20)
    image.sharesFiles = true
    return image
  }

  // MARK: Parts

  private func transition(
    _ progress: OperationProgress, _ change: (TableTransition) throws(DiskImageError) -> Void
  ) throws(DiskImageError) {
    try requireWritable()
    if geometry.hasExternalData {
      throw DiskImageError(
        .unsupported, path, "keeps its data in an external file, which excludes internal snapshots")
    }
    try exclusively { () throws(DiskImageError) in
      if let failure { throw failure }
      try settle()
      let transition = try TableTransition(self, progress)
      do throws(DiskImageError) {
        try change(transition)
        try transition.commit()
      } catch {
        try? noteWholeFileTouched()
        throw error
      }
    }
  }

  private static func find(_ nameOrIdentifier: String, in entries: [Qcow2Snapshot])
    -> Qcow2Snapshot?
  {
    entries.first { $0.identifier == nameOrIdentifier }
      ?? entries.first { $0.name == nameOrIdentifier }
  }

  private func index(of nameOrIdentifier: String, _ transition: TableTransition)
    throws(DiskImageError) -> Int
  {
    let entries = transition.snapshots.entries
    guard
      let index = entries.firstIndex(where: { $0.identifier == nameOrIdentifier })
        ?? entries.firstIndex(where: { $0.name == nameOrIdentifier })
    else { throw noSnapshot(nameOrIdentifier) }
    return index
  }

  private func noSnapshot(_ name: String) -> DiskImageError {
    DiskImageError(.notFound, path, "has no snapshot '\(name)'")
  }

  private func l1Table(of snapshot: Qcow2Snapshot) throws(DiskImageError) -> [UInt64] {
    try Self.readTable(storage, snapshot.l1Offset, entries: UInt64(snapshot.l1Size))
  }
}
