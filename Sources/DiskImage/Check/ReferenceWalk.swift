// Following an L1 table down to every cluster it reaches.
import CLinux

extension ImageChecker {
  func walkSnapshot(_ snapshot: Qcow2Snapshot) throws(DiskImageError) {
    let table = try Qcow2Image.readTable(
      storage, snapshot.l1Offset, entries: UInt64(snapshot.l1Size))
    try walk(table, isActive: false)
  }

  /// Counts everything under an L1 table. In the active one the copied flags must agree with the refcounts.
  func walk(_ table: [UInt64], isActive: Bool) throws(DiskImageError) {
    let buffer = AlignedBuffer(count: Int(geometry.clusterSize))
    var own = ClusterSet()
    for index in table.indices {
      progress.add(geometry.l1Span)
      let offset = table[index] & EntryBits.offset
      if offset == 0 { continue }
      try progress.check(storage.path)
      let cluster = offset >> geometry.clusterBits
      guard offset & (geometry.clusterSize - 1) == 0, cluster < clusterCount else {
        if isActive { suspectTables.insert(index) }
        report.corruption("L1 entry \(index) points to byte \(offset), where no table can be")
        continue
      }
      if tables.contains(cluster) || !own.insert(cluster) {
        if isActive { suspectTables.insert(index) }
        report.corruption("L1 entry \(index) points to cluster \(cluster), which is another table")
        _ = givesWay(cluster)
        continue
      }
      if l2Tables.insert(cluster) && found[cluster] > 0 {
        report.corruption("L2 table \(index) in cluster \(cluster) is used for data, too")
      }
      found.add(cluster)
      if isActive { checkCopied(table[index], cluster, index, "L1 entry \(index)") }
      try storage.read(into: buffer.pointer, count: buffer.count, at: offset)
      if geometry.hasSubclusters {
        walkExtended(buffer.pointer, index, isActive)
      } else {
        walkStandard(buffer.pointer, index, isActive)
      }
    }
  }

  @inline(__always)
  private func checkCopied(
    _ entry: UInt64, _ cluster: UInt64, _ index: Int, _ what: @autoclosure () -> String
  ) {
    if (entry & EntryBits.copied != 0) != (stored[cluster] == 1) {
      suspectTables.insert(index)
      report.corruption(
        "\(what()) has a wrong copied flag for cluster \(cluster), refcount \(stored[cluster])")
    }
  }

  /// The loop that a check spends its time in: a table of 8-byte entries.
  private func walkStandard(_ table: UnsafeMutableRawPointer, _ l1Index: Int, _ isActive: Bool) {
    let entries = Int(geometry.l2Entries)
    let mask = geometry.clusterSize - 1
    var allocated: UInt64 = 0
    var fragmented: UInt64 = 0
    var next: UInt64 = 0
    for index in 0..<entries {
      let descriptor = table.big64(index << 3)
      if descriptor & ~EntryBits.zero == 0 { continue }
      if descriptor & EntryBits.compressed != 0 {
        countCompressed(descriptor, l1Index, index)
        continue
      }
      if geometry.hasExternalData { continue }
      let offset = descriptor & EntryBits.offset
      if offset == 0 { continue }
      let cluster = offset >> geometry.clusterBits
      if offset & mask != 0 || cluster >= clusterCount {
        badEntry(l1Index, index, offset, isActive)
        continue
      }
      if found[cluster] > 0 && isTable(cluster) {
        _ = givesWay(cluster)
        badEntry(l1Index, index, offset, isActive)
        continue
      }
      found.add(cluster)
      allocated += 1
      if offset != next { fragmented += 1 }
      next = offset + geometry.clusterSize
      if isActive && (descriptor & EntryBits.copied != 0) != (stored[cluster] == 1) {
        checkCopied(descriptor, cluster, l1Index, "L2 entry \(index) of table \(l1Index)")
      }
    }
    if isActive {
      report.allocatedClusters += allocated
      report.fragmentedClusters += fragmented
    }
  }

  private func walkExtended(_ table: UnsafeMutableRawPointer, _ l1Index: Int, _ isActive: Bool) {
    for index in 0..<Int(geometry.l2Entries) {
      let entry = L2Entry(
        descriptor: table.big64(index << 4), bitmap: table.big64(index << 4 + 8))
      if entry.isCompressed {
        countCompressed(entry.descriptor, l1Index, index)
        if entry.bitmap != 0 { badEntry(l1Index, index, entry.bitmap, isActive) }
        continue
      }
      if entry.allocatedUnits & entry.zeroUnits != 0 {
        badEntry(l1Index, index, entry.bitmap, isActive)
      }
      let offset = entry.hostOffset
      if geometry.hasExternalData { continue }
      if offset == 0 {
        if entry.allocatedUnits != 0 { badEntry(l1Index, index, entry.bitmap, isActive) }
        continue
      }
      let cluster = offset >> geometry.clusterBits
      if offset & (geometry.clusterSize - 1) != 0 || cluster >= clusterCount {
        badEntry(l1Index, index, offset, isActive)
        continue
      }
      if found[cluster] > 0 && isTable(cluster) {
        _ = givesWay(cluster)
        badEntry(l1Index, index, offset, isActive)
        continue
      }
      found.add(cluster)
      if isActive {
        report.allocatedClusters += 1
        checkCopied(entry.descriptor, cluster, l1Index, "L2 entry \(index) of table \(l1Index)")
      }
    }
  }

  private func badEntry(_ l1Index: Int, _ index: Int, _ value: UInt64, _ isActive: Bool) {
    if isActive { suspectTables.insert(l1Index) }
    report.corruption("L2 entry \(index) of table \(l1Index) is impossible (\(value))")
  }

  private func countCompressed(_ descriptor: UInt64, _ l1Index: Int, _ index: Int) {
    if geometry.hasExternalData || descriptor & EntryBits.copied != 0 {
      suspectTables.insert(l1Index)
      report.corruption("L2 entry \(index) of table \(l1Index) must not be compressed so")
    }
    if geometry.hasExternalData { return }
    report.compressedClusters += 1
    report.allocatedClusters += 1
    report.fragmentedClusters += 1
    let clusters = CompressedPlace(descriptor, geometry).hostClusters(geometry)
    if clusters.upperBound >= clusterCount {
      // What the file does not reach yet would be given to somebody else later.
      suspectTables.insert(l1Index)
      report.corruption("L2 entry \(index) of table \(l1Index) reaches behind the end of the file")
    }
    for cluster in clusters where cluster < clusterCount {
      if found[cluster] > 0 && isTable(cluster) {
        _ = givesWay(cluster)
        report.corruption("L2 entry \(index) of table \(l1Index) has its bytes in a table")
      } else {
        found.add(cluster)
      }
    }
  }
}
