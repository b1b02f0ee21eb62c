// New refcount structures for an image whose own are unusable. They go behind everything in the file; one header write
// puts them in place of the old ones.
import CLinux

extension ImageChecker {
  /// Writes table and blocks that say what was counted, without the old ones.
  func rebuildRefcounts() throws(DiskImageError) {
    forgetOldStructures()
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    let entriesPerCluster = geometry.clusterSize >> 3
    let first = clusterCount
    var blocks: UInt64 = 1
    var tableClusters: UInt64 = 1
    while true {
      let end = first + blocks + tableClusters
      let neededBlocks = (end + perBlock - 1) / perBlock
      let neededTable = (neededBlocks + entriesPerCluster - 1) / entriesPerCluster
      if neededBlocks <= blocks && neededTable <= tableClusters { break }
      blocks = max(blocks, neededBlocks)
      tableClusters = max(tableClusters, neededTable)
    }
    guard tableClusters * geometry.clusterSize <= Qcow2Header.maximumRefcountTableBytes else {
      throw DiskImageError(.unsupported, storage.path, "is too large for a new refcount table")
    }
    try writeStructures(first, blocks, tableClusters)
  }

  /// The references that the old table and blocks were.
  private func forgetOldStructures() {
    func drop(_ cluster: UInt64) { if found[cluster] > 0 { found[cluster] -= 1 } }
    let table = header.refcountTableOffset >> geometry.clusterBits
    for cluster in 0..<UInt64(header.refcountTableClusters) { drop(table + cluster) }
    for index in refcountTable.indices {
      if let offset = blockOffset(index) { drop(offset >> geometry.clusterBits) }
    }
  }

  private func writeStructures(_ first: UInt64, _ blocks: UInt64, _ tableClusters: UInt64)
    throws(DiskImageError)
  {
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    let end = first + blocks + tableClusters
    let block = AlignedBuffer(count: Int(geometry.clusterSize))
    var table: [UInt64] = []
    for index in 0..<blocks {
      let offset = (first + index) << geometry.clusterBits
      block.clear()
      for cluster in index * perBlock..<min((index + 1) * perBlock, end) {
        let count = cluster >= first ? 1 : min(found[cluster], geometry.refcountMaximum)
        RefcountCodec.set(
          block.pointer, cluster & (perBlock - 1), order: geometry.refcountOrder, to: count)
      }
      try storage.write(from: block.pointer, count: block.count, at: offset)
      table.append(offset)
    }
    var bytes: [UInt8] = []
    for offset in table { bytes.appendBig(offset) }
    bytes += [UInt8](
      repeating: 0, count: Int(tableClusters * geometry.clusterSize) - bytes.count)
    try storage.writeBytes(bytes, at: (first + blocks) << geometry.clusterBits)
    try storage.flush()
    header.refcountTableOffset = (first + blocks) << geometry.clusterBits
    header.refcountTableClusters = UInt32(tableClusters)
    try storage.writeBytes(header.encodedTablePointers(), at: Qcow2Header.tablePointersOffset)
    try storage.flush()
    refcountTable = table
    for cluster in 0..<clusterCount { stored[cluster] = found[cluster] }
  }
}
