// How often each host cluster is referenced: refcount table, refcount blocks, and the set of clusters that hold tables.
// Everything here is called with the image's lock held.

extension Qcow2Image {
  /// The file offset of a refcount block; nil when all of its counts are zero.
  func refcountBlockOffset(_ block: UInt64) throws(DiskImageError) -> UInt64? {
    guard block < UInt64(refcountTable.count) else { return nil }
    let offset = refcountTable[Int(block)] & ~511
    guard offset != 0 else { return nil }
    guard offset & (geometry.clusterSize - 1) == 0, offset < 1 << 56 else {
      throw DiskImageError(
        .corrupt, path, "has a misplaced refcount block; run a check with repair", offset: offset)
    }
    return offset
  }

  /// The slot of the slice with a cluster's count; nil when there is no block for it.
  @inline(__always)
  func refcountSlot(of cluster: UInt64) throws(DiskImageError) -> Int32? {
    let key = cluster / geometry.refcountsPerSlice
    let slot = refcountCache.find(key)
    if slot >= 0 { return slot }
    guard let block = try refcountBlockOffset(cluster >> geometry.refcountBlockBits) else {
      return nil
    }
    let place = block + (key * geometry.sliceSize & (geometry.clusterSize - 1))
    return try load(key, at: place, into: refcountCache)
  }

  func refcount(of cluster: UInt64) throws(DiskImageError) -> UInt64 {
    guard let slot = try refcountSlot(of: cluster) else { return 0 }
    return RefcountCodec.get(
      refcountCache.pointer(slot), cluster & (geometry.refcountsPerSlice - 1),
      order: geometry.refcountOrder)
  }

  /// Sets the count of a cluster whose block exists.
  func setRefcount(of cluster: UInt64, to value: UInt64) throws(DiskImageError) {
    guard let slot = try refcountSlot(of: cluster) else {
      throw DiskImageError(
        .corrupt, path, "counts no references for a used cluster; run a check with repair",
        offset: cluster << geometry.clusterBits)
    }
    RefcountCodec.set(
      refcountCache.pointer(slot), cluster & (geometry.refcountsPerSlice - 1),
      order: geometry.refcountOrder, to: value)
    refcountCache.markDirty(slot)
  }

  /// One reference more.
  func addReference(to cluster: UInt64) throws(DiskImageError) {
    let count = try refcount(of: cluster)
    guard count > 0 else {
      throw DiskImageError(
        .corrupt, path, "counts no references for a used cluster; run a check with repair",
        offset: cluster << geometry.clusterBits)
    }
    guard count < geometry.refcountMaximum else {
      throw DiskImageError(
        .unsupported, path,
        "cannot count more than \(count) references to a cluster; "
          + "convert it to wider refcounts", offset: cluster << geometry.clusterBits)
    }
    try setRefcount(of: cluster, to: count + 1)
  }

  /// One reference less; the caller knows that the file has none for it any more.
  func dropReference(to cluster: UInt64) throws(DiskImageError) {
    let count = try refcount(of: cluster)
    guard count > 0 else {
      throw DiskImageError(
        .corrupt, path, "counts no references for a used cluster; run a check with repair",
        offset: cluster << geometry.clusterBits)
    }
    try setRefcount(of: cluster, to: count - 1)
    if count == 1 {
      freeCursor = min(freeCursor, cluster)
      metadata.remove(cluster)
    }
  }

  /// Notes where tables are, so that nothing else is written there. An image whose tables overlap is not opened for
  /// writing.
  func collectMetadata() throws(DiskImageError) {
    metadata = ClusterSet()
    try claim(0, bytes: geometry.clusterSize, "header")
    try claim(header.l1Offset, bytes: UInt64(header.l1Size) * 8, "L1 table")
    try claim(
      header.refcountTableOffset,
      bytes: UInt64(header.refcountTableClusters) << geometry.clusterBits,
      "refcount table")
    for block in refcountTable.indices {
      if let offset = try refcountBlockOffset(UInt64(block)) {
        try claim(offset, bytes: geometry.clusterSize, "refcount block")
      }
    }
    for index in l1.indices {
      if let offset = try l2TableOffset(index) {
        try claim(offset, bytes: geometry.clusterSize, "L2 table")
      }
    }
    try claimSnapshots()
    try claimBitmaps()
  }

  private func claimBitmaps() throws(DiskImageError) {
    guard let directory = try BitmapDirectory.read(from: storage, header) else { return }
    try claim(directory.offset, bytes: directory.byteCount, "bitmap directory")
    for entry in directory.entries {
      try claim(entry.tableOffset, bytes: entry.tableEntries * 8, "bitmap")
    }
  }

  private func claimSnapshots() throws(DiskImageError) {
    guard header.snapshotCount > 0 else { return }
    let table = try SnapshotTable.read(from: storage, header)
    try claim(header.snapshotsOffset, bytes: table.byteCount, "snapshot table")
    for snapshot in table.entries {
      try claim(snapshot.l1Offset, bytes: UInt64(snapshot.l1Size) * 8, "snapshot's L1 table")
    }
  }

  private func claim(_ offset: UInt64, bytes: UInt64, _ what: String) throws(DiskImageError) {
    guard bytes > 0 else { return }
    let first = offset >> geometry.clusterBits
    for cluster in first..<first + geometry.clusters(bytes) where !metadata.insert(cluster) {
      throw DiskImageError(
        .corrupt, path, "has its \(what) on top of another table; run a check with repair",
        offset: offset)
    }
  }

  /// Refuses to overwrite a table, and marks the image: something in it is wrong.
  func requireData(_ host: UInt64, count: UInt64) throws(DiskImageError) {
    if geometry.hasExternalData { return }
    var cluster = host >> geometry.clusterBits
    let last = (host + count - 1) >> geometry.clusterBits
    while cluster <= last {
      if metadata.contains(cluster) {
        throw markCorrupt("would have its tables overwritten by data", host)
      }
      cluster += 1
    }
  }

  /// Sets the corrupt bit as the specification says and stops all writing.
  func markCorrupt(_ reason: String, _ offset: UInt64) -> DiskImageError {
    let error = DiskImageError(
      .corrupt, path, "\(reason); it is read-only until a check with repair", offset: offset)
    if failure == nil && header.version >= 3 {
      header.incompatible.insert(.corrupt)
      try? storage.writeBytes(header.encodedFeatureBits(), at: Qcow2Header.featureBitsOffset)
      try? storage.flush()
    }
    failure = failure ?? error
    return error
  }
}
