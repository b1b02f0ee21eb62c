// Counting every reference in an image and comparing with what its refcounts say. Works on the file alone: the image may
// be too broken to be opened.
import CLinux

/// One check of one image.
package final class ImageChecker {
  let storage: any ImageStorage
  var header: Qcow2Header
  let geometry: Qcow2Geometry
  /// References found.
  let found: ReferenceCounts
  /// References as the refcount blocks say.
  let stored: ReferenceCounts
  var report = CheckReport()
  var l1: [UInt64]
  var refcountTable: [UInt64]
  let snapshots: SnapshotTable
  /// The refcount structures themselves are unusable: they must be made anew.
  var needsRebuild = false
  /// The directory of bitmaps cannot be read: without its feature bit it says nothing.
  var hasBrokenBitmaps = false
  /// L1 indices whose L2 table has wrong flags or entries, to be looked at again by a repair.
  var suspectTables: Set<Int> = []
  let clusterCount: UInt64
  /// Bytes of the active disk and of all snapshots.
  let progress: OperationProgress
  /// Clusters with tables that nothing shares: all but L2 tables.
  var tables = ClusterSet()
  /// Of these the refcount table and its blocks. They can be made anew: where they lie on something else, they give way.
  private var refcountStructures = ClusterSet()
  /// Clusters with L2 tables, which snapshots share.
  var l2Tables = ClusterSet()

  /// - Throws: When the header, the L1 table or the snapshot table cannot be read at all.
  package init(
    _ storage: any ImageStorage, _ progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    self.storage = storage
    self.progress = progress
    header = try Qcow2Header.read(from: storage)
    geometry = Qcow2Geometry(header)
    clusterCount = geometry.clusters(try storage.length())
    found = try ReferenceCounts(count: clusterCount, path: storage.path)
    stored = try ReferenceCounts(count: clusterCount, path: storage.path)
    l1 = try Qcow2Image.readTable(storage, header.l1Offset, entries: UInt64(header.l1Size))
    refcountTable = try Qcow2Image.readTable(
      storage, header.refcountTableOffset,
      entries: UInt64(header.refcountTableClusters) << (geometry.clusterBits - 3))
    snapshots = try SnapshotTable.read(from: storage, header)
    report.wasDirty = header.incompatible.contains(.dirty)
    report.wasCorrupt = header.incompatible.contains(.corrupt)
    report.totalClusters = geometry.clusters(header.size)
  }

  /// Counts and compares; changes nothing.
  package func check() throws(DiskImageError) -> CheckReport {
    try loadStoredCounts()
    try countTables()
    progress.start(geometry.l1Span &* UInt64(l1.count) &* UInt64(1 + snapshots.entries.count))
    try walk(l1, isActive: true)
    for snapshot in snapshots.entries { try walkSnapshot(snapshot) }
    compare()
    report.imageEnd = max(found.end, stored.end) << geometry.clusterBits
    return report
  }

  // MARK: Refcounts in the file

  private func loadStoredCounts() throws(DiskImageError) {
    let block = AlignedBuffer(count: Int(geometry.clusterSize))
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    for index in refcountTable.indices {
      guard let offset = blockOffset(index) else { continue }
      let first = UInt64(index) * perBlock
      guard first < clusterCount else { continue }
      try storage.read(into: block.pointer, count: block.count, at: offset)
      loadBlock(block.pointer, first: first, count: min(perBlock, clusterCount - first))
    }
  }

  private func loadBlock(_ block: UnsafeRawPointer, first: UInt64, count: UInt64) {
    let order = geometry.refcountOrder
    for index in 0..<count {
      let value = RefcountCodec.get(block, index, order: order)
      if value != 0 { stored[first + index] = value }
    }
  }

  /// The place of a refcount block, if it has one that can be right.
  func blockOffset(_ index: Int) -> UInt64? {
    let entry = refcountTable[index]
    guard entry & ~511 != 0 else { return nil }
    let offset = entry & ~511
    if offset & (geometry.clusterSize - 1) != 0 || entry & 511 != 0
      || offset >> geometry.clusterBits >= clusterCount
    {
      return nil
    }
    return offset
  }

  // MARK: References of tables

  private func countTables() throws(DiskImageError) {
    reference(0, bytes: geometry.clusterSize, "header")
    reference(header.l1Offset, bytes: UInt64(header.l1Size) * 8, "L1 table")
    reference(
      header.refcountTableOffset,
      bytes: UInt64(header.refcountTableClusters) << geometry.clusterBits, "refcount table",
      countsReferences: true)
    for index in refcountTable.indices where refcountTable[index] != 0 {
      if let offset = blockOffset(index) {
        reference(
          offset, bytes: geometry.clusterSize, "refcount block \(index)", countsReferences: true)
      } else {
        needsRebuild = true
        report.corruption("refcount block \(index) has no possible place")
      }
    }
    if header.snapshotCount > 0 {
      reference(header.snapshotsOffset, bytes: snapshots.byteCount, "snapshot table")
      for snapshot in snapshots.entries {
        reference(
          snapshot.l1Offset, bytes: UInt64(snapshot.l1Size) * 8,
          "L1 table of snapshot '\(snapshot.name)'")
      }
    }
    try countBitmaps()
  }

  /// Counts the clusters of a stretch; what lies outside of the file is reported.
  ///
  /// - Parameter countsReferences: It is the refcount table or one of its blocks.
  func reference(
    _ offset: UInt64, bytes: UInt64, _ what: @autoclosure () -> String,
    countsReferences: Bool = false
  ) {
    guard bytes > 0 else { return }
    let first = offset >> geometry.clusterBits
    let last = (offset &+ bytes &- 1) >> geometry.clusterBits
    guard last >= first, last < clusterCount else {
      report.corruption("\(what()) at byte \(offset) is behind the end of the file")
      return
    }
    for cluster in first...last {
      if !tables.insert(cluster) {
        report.corruption("\(what()) at byte \(offset) lies on top of another table")
        if countsReferences { needsRebuild = true }
        if refcountStructures.contains(cluster) { needsRebuild = true }
      }
      if countsReferences { refcountStructures.insert(cluster) }
      found.add(cluster)
    }
  }

  /// Something else refers to a cluster of the refcount structures: they have to go elsewhere.
  func givesWay(_ cluster: UInt64) -> Bool {
    guard refcountStructures.contains(cluster) else { return false }
    needsRebuild = true
    found.add(cluster)
    return true
  }

  /// Whether a cluster holds a table, as far as that is known.
  @inline(__always)
  func isTable(_ cluster: UInt64) -> Bool {
    tables.contains(cluster) || l2Tables.contains(cluster)
  }

  private func countBitmaps() throws(DiskImageError) {
    var found: BitmapDirectory?
    do throws(DiskImageError) { found = try BitmapDirectory.read(from: storage, header) } catch {
      guard error.code == .corrupt else { throw error }
      report.corruption(error.reason)
      hasBrokenBitmaps = true
    }
    guard let directory = found else { return }
    reference(directory.offset, bytes: directory.byteCount, "bitmap directory")
    for entry in directory.entries {
      try countBitmap(entry.tableOffset, entries: entry.tableEntries)
    }
  }

  private func countBitmap(_ offset: UInt64, entries: UInt64) throws(DiskImageError) {
    reference(offset, bytes: entries * 8, "bitmap table")
    for entry in try Qcow2Image.readTable(storage, offset, entries: entries)
    where entry & EntryBits.offset != 0 {
      reference(entry & EntryBits.offset, bytes: geometry.clusterSize, "bitmap data")
    }
  }

  // MARK: Comparing

  private func compare() {
    var cluster: UInt64 = 0
    while let different = found.firstDifference(from: cluster, to: stored) {
      let (references, refcount) = (found[different], stored[different])
      if refcount < references {
        report.corruption("cluster \(different) has \(references) references, refcount \(refcount)")
      } else {
        report.leak("cluster \(different) has \(references) references, refcount \(refcount)")
      }
      cluster = different + 1
    }
  }
}
