// Finding free clusters, and making the refcount structures longer. Called with the image's lock held.

/// Neighbouring host clusters.
struct ClusterRun {
  var first: UInt64
  var count: UInt64
  /// Never written: reads as zeros.
  var isZero = false
}

/// Clusters that lost a reference.
struct FreedRun {
  var first: UInt64
  var count: UInt64
  /// The guest gave the data up, so its space goes back to the host.
  var punch: Bool
}

/// Clusters whose last reference in the file is gone, and the generation of requests that may still use them.
struct RetiredBatch {
  var runs: [FreedRun]
  var generation: UInt64
}

extension Qcow2Image {
  /// Takes 1 to `wanted` neighbouring clusters, each with one reference.
  func allocate(_ wanted: UInt64) throws(DiskImageError) -> ClusterRun {
    if let failure { throw failure }
    var cluster = freeCursor
    while true {
      let block = cluster >> geometry.refcountBlockBits
      guard block < UInt64(refcountTable.count) else {
        try growRefcountTable(toCover: cluster)
        continue
      }
      guard let slot = try refcountSlot(of: cluster) else {
        try createRefcountBlock(block, at: cluster)
        cluster += 1
        continue
      }
      guard let run = freeRun(from: cluster, slot, wanted) else {
        cluster = (cluster / geometry.refcountsPerSlice + 1) * geometry.refcountsPerSlice
        freeCursor = cluster
        continue
      }
      return try take(run, slot)
    }
  }

  /// The first free clusters of a slice, from `cluster` on.
  @inline(__always)
  private func freeRun(from cluster: UInt64, _ slot: Int32, _ wanted: UInt64) -> ClusterRun? {
    let counts = UnsafeRawPointer(refcountCache.pointer(slot))
    let end = geometry.refcountsPerSlice
    let order = geometry.refcountOrder
    let base = cluster & ~(end - 1)
    var index = cluster & (end - 1)
    while index < end && RefcountCodec.get(counts, index, order: order) != 0 { index += 1 }
    guard index < end else { return nil }
    var count: UInt64 = 1
    while count < wanted && index + count < end
      && RefcountCodec.get(counts, index + count, order: order) == 0
    {
      count += 1
    }
    return ClusterRun(first: base + index, count: count)
  }

  private func take(_ run: ClusterRun, _ slot: Int32) throws(DiskImageError) -> ClusterRun {
    guard run.first + run.count <= 1 << (56 - geometry.clusterBits) else {
      throw DiskImageError(.noSpace, path, "is as large as its format allows")
    }
    for cluster in run.first..<run.first + run.count where metadata.contains(cluster) {
      throw markCorrupt(
        "counts no references for a table in use", cluster << geometry.clusterBits)
    }
    let counts = refcountCache.pointer(slot)
    for cluster in run.first..<run.first + run.count {
      RefcountCodec.set(
        counts, cluster & (geometry.refcountsPerSlice - 1), order: geometry.refcountOrder, to: 1)
    }
    refcountCache.markDirty(slot)
    freeCursor = run.first + run.count
    var taken = run
    taken.isZero = run.first >= untouched
    noteTouched(run)
    return taken
  }

  private func noteTouched(_ run: ClusterRun) {
    if untouched != UInt64.max { untouched = max(untouched, run.first + run.count) }
  }

  /// Takes exactly `count` neighbouring clusters, for a table.
  func allocateContiguous(_ count: UInt64) throws(DiskImageError) -> ClusterRun {
    var first = freeCursor
    var length: UInt64 = 0
    while length < count {
      let cluster = first + length
      guard cluster >> geometry.refcountBlockBits < UInt64(refcountTable.count) else {
        try growRefcountTable(toCover: cluster)
        continue
      }
      if try refcountSlot(of: cluster) == nil {
        try createRefcountBlock(cluster >> geometry.refcountBlockBits, at: cluster)
      }
      if try refcount(of: cluster) == 0 && !metadata.contains(cluster) {
        length += 1
      } else {
        first = cluster + 1
        length = 0
      }
    }
    for cluster in first..<first + count { try setRefcount(of: cluster, to: 1) }
    if freeCursor == first { freeCursor = first + count }
    let run = ClusterRun(first: first, count: count, isZero: first >= untouched)
    noteTouched(run)
    return run
  }

  /// Gives clusters back that nothing ever referred to.
  func unallocate(_ run: ClusterRun) {
    for cluster in run.first..<run.first + run.count {
      // A failure here leaks a cluster and harms nothing.
      try? setRefcount(of: cluster, to: 0)
    }
    freeCursor = min(freeCursor, run.first)
  }

  /// Notes that clusters lost a reference in memory.
  func release(_ first: UInt64, _ count: UInt64 = 1, punch: Bool) {
    if let last = freed.indices.last, freed[last].first + freed[last].count == first,
      freed[last].punch == punch
    {
      freed[last].count += count
    } else {
      freed.append(FreedRun(first: first, count: count, punch: punch))
      if freed.count > 4096 { notePressure() }
    }
  }

  /// Makes `cluster`, which has no block for its count, the block that counts it and its neighbours.
  ///
  /// The block reaches the file before the table entry that points to it: see `writeBack`.
  private func createRefcountBlock(_ block: UInt64, at cluster: UInt64) throws(DiskImageError) {
    if metadata.contains(cluster) {
      throw markCorrupt(
        "counts no references for a table in use", cluster << geometry.clusterBits)
    }
    guard cluster < 1 << (56 - geometry.clusterBits) else {
      throw DiskImageError(.noSpace, path, "is as large as its format allows")
    }
    let offset = cluster << geometry.clusterBits
    if cluster < untouched || untouched == UInt64.max {
      try storage.writeZeroes(at: offset, count: geometry.clusterSize)
    }
    noteTouched(ClusterRun(first: cluster, count: 1))
    refcountTable[Int(block)] = offset
    dirtyRefcountTable.insert(Int(block))
    metadata.insert(cluster)
    try setRefcount(of: cluster, to: 1)
  }

  /// Makes the refcount table longer: the new one, with blocks that count it, goes behind everything that the old one
  /// can count; one header write exchanges them.
  private func growRefcountTable(toCover cluster: UInt64) throws(DiskImageError) {
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    let entriesPerCluster = geometry.clusterSize >> 3
    let oldEntries = UInt64(refcountTable.count)
    let firstCluster = oldEntries * perBlock
    let needed = max(cluster >> geometry.refcountBlockBits, oldEntries) + 1
    var tableClusters = (needed * 3 / 2 + entriesPerCluster) / entriesPerCluster
    var blocks: UInt64 = 1
    while true {
      let wantedBlocks = (tableClusters + blocks + perBlock - 1) / perBlock
      let wantedTable = max(
        tableClusters, (oldEntries + wantedBlocks + entriesPerCluster) / entriesPerCluster)
      if wantedBlocks == blocks && wantedTable == tableClusters { break }
      (blocks, tableClusters) = (max(blocks, wantedBlocks), wantedTable)
    }
    guard tableClusters * geometry.clusterSize <= Qcow2Header.maximumRefcountTableBytes else {
      throw DiskImageError(.noSpace, path, "is as large as its refcount table can count")
    }
    for used in firstCluster..<firstCluster + blocks + tableClusters where metadata.contains(used) {
      throw markCorrupt("has a table that it cannot count", used << geometry.clusterBits)
    }
    try installRefcountTable(
      at: firstCluster, blocks: blocks, tableClusters: tableClusters)
  }

  private func installRefcountTable(at first: UInt64, blocks: UInt64, tableClusters: UInt64)
    throws(DiskImageError)
  {
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    let used = blocks + tableClusters
    var table = refcountTable
    table.append(
      contentsOf: repeatElement(
        0, count: Int(tableClusters * (geometry.clusterSize >> 3)) - table.count))
    let block = AlignedBuffer(count: Int(geometry.clusterSize))
    for index in 0..<blocks {
      block.clear()
      for counted in 0..<min(perBlock, used - index * perBlock) {
        RefcountCodec.set(block.pointer, counted, order: geometry.refcountOrder, to: 1)
      }
      let offset = (first + index) << geometry.clusterBits
      try storage.write(from: block.pointer, count: block.count, at: offset)
      table[refcountTable.count + Int(index)] = offset
    }
    // Entries whose blocks are not in the file yet stay out of the new table, too.
    var words = table.map(\.bigEndian)
    for index in dirtyRefcountTable { words[index] = 0 }
    let tableOffset = (first + blocks) << geometry.clusterBits
    try words.withBytes { (bytes) throws(DiskImageError) in
      try storage.write(from: bytes.baseAddress!, count: bytes.count, at: tableOffset)
    }
    try storage.flush()
    let old = (header.refcountTableOffset, header.refcountTableClusters)
    header.refcountTableOffset = tableOffset
    header.refcountTableClusters = UInt32(tableClusters)
    do throws(DiskImageError) {
      try storage.writeBytes(header.encodedTablePointers(), at: Qcow2Header.tablePointersOffset)
      try storage.flush()
    } catch {
      // Which of the two tables the file has now is not known.
      failure = error
      throw error
    }
    refcountTable = table
    for cluster in first..<first + used { metadata.insert(cluster) }
    noteTouched(ClusterRun(first: first, count: used))
    for cluster in 0..<UInt64(old.1) {
      try dropReference(to: (old.0 >> geometry.clusterBits) + cluster)
    }
  }
}
