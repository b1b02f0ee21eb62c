// Giving the disk another size.

extension Qcow2Image {
  public func resize(to newSize: UInt64) throws(DiskImageError) {
    try requireWritable()
    guard newSize % 512 == 0, newSize <= UInt64(Int64.max) else {
      throw DiskImageError(.invalid, path, "can have sizes that are multiples of 512 only")
    }
    try exclusively { () throws(DiskImageError) in
      if newSize != size { _ = try invalidateBitmaps(all: true) }
      if newSize < size {
        try dropEnd(from: newSize)
      } else if newSize > size {
        try growL1(for: newSize)
        try clearTail(from: size, to: newSize)
      }
      try writeBack(durable: true)
      try setSize(newSize)
      if geometry.hasExternalData { try dataStorage.truncate(to: newSize) }
    }
  }

  /// Writes the size field. Everything that the new size needs is durable.
  func setSize(_ newSize: UInt64) throws(DiskImageError) {
    var field: [UInt8] = []
    field.appendBig(newSize)
    try storage.writeBytes(field, at: Qcow2Header.sizeOffset)
    try storage.flush()
    lock.lock()
    header.size = newSize
    lock.unlock()
    setVirtualSize(newSize)
  }

  /// Gives up every cluster that lies wholly behind the new end, tables too.
  private func dropEnd(from newSize: UInt64) throws(DiskImageError) {
    let unit = geometry.unit
    let first = newSize.roundedUp(to: unit)
    let end = size.roundedUp(to: unit)
    if first < end { try dropMappings(from: first, to: end) }
    try writeBack(durable: true)
  }

  /// Entries become unallocated: behind the end of the disk there is nothing, not even zeros.
  func dropMappings(from start: UInt64, to end: UInt64) throws(DiskImageError) {
    var position = start
    while position < end {
      let cluster = position >> geometry.clusterBits
      lock.lock()
      do throws(DiskImageError) { position = try dropSlice(cluster, from: position, to: end) } catch
      {
        lock.unlock()
        throw error
      }
      lock.unlock()
      try relievePressure()
    }
  }

  /// Returns where the next slice begins. Needs the lock.
  private func dropSlice(_ cluster: UInt64, from start: UInt64, to end: UInt64)
    throws(DiskImageError) -> UInt64
  {
    let perSlice = geometry.l2EntriesPerSlice
    let sliceStart = cluster & ~(perSlice - 1)
    if try l2Slice(of: cluster) == nil {
      let tableStart = cluster & ~(geometry.l2Entries - 1)
      return (tableStart + geometry.l2Entries) << geometry.clusterBits
    }
    try makeTableWritable(for: cluster)
    let slot = try l2Slot(of: cluster)
    guard slot >= 0 else { throw badEntry(cluster) }
    let last = min(sliceStart + perSlice, geometry.clusters(end))
    for current in cluster..<max(last, cluster) {
      let base = current << geometry.clusterBits
      let index = current & (perSlice - 1)
      let old = entry(l2Cache.pointer(slot), index)
      var new = L2Entry.unallocated
      if base < start {
        // Only with subclusters: the rest of the cluster goes, its beginning stays.
        if old.isCompressed { continue }
        let kept = UInt32(truncatingIfNeeded: (UInt64(1) << ((start - base) / geometry.unit)) - 1)
        new = old
        new.bitmap = UInt64(old.zeroUnits & kept) << 32 | UInt64(old.allocatedUnits & kept)
      }
      if new == old { continue }
      setEntry(l2Cache.pointer(slot), index, new)
      l2Cache.markDirty(slot)
      if new.descriptor != old.descriptor { releaseData(of: old, punch: true) }
    }
    noteDirtyTables()
    return (sliceStart + perSlice) << geometry.clusterBits
  }

  /// The rest of the last unit may hold old bytes, and a longer backing file may shine through what was not there before:
  /// a grown disk reads as zeros.
  private func clearTail(from oldSize: UInt64, to newSize: UInt64) throws(DiskImageError) {
    setVirtualSize(newSize)
    defer { setVirtualSize(oldSize) }
    let unitEnd = min(oldSize.roundedUp(to: geometry.unit), newSize)
    if unitEnd > oldSize, try !isKnownZero(at: oldSize, count: unitEnd - oldSize) {
      try writeZeroBytes(at: oldSize, count: unitEnd - oldSize)
    }
    guard let backing, backing.size > unitEnd else { return }
    let end = min(backing.size, newSize)
    if end > unitEnd { try zeroMapped(at: unitEnd, count: end - unitEnd, mayUnmap: true) }
  }

  /// Exchanges the L1 table for a longer one.
  private func growL1(for newSize: UInt64) throws(DiskImageError) {
    let entries = header.requiredL1Entries(forSize: newSize)
    guard entries * 8 <= Qcow2Header.maximumL1Bytes else {
      throw DiskImageError(
        .invalid, path, "cannot be that large with its cluster size; convert it to larger ones")
    }
    guard entries > UInt64(l1.count) else { return }
    let old = ClusterRun(
      first: header.l1Offset >> geometry.clusterBits,
      count: geometry.clusters(UInt64(header.l1Size) * 8))
    let run = try lock.withLock { () throws(DiskImageError) in
      try allocateContiguous(geometry.clusters(entries * 8))
    }
    // Counts first: the table must not lie in clusters that the file calls free.
    try writeBack(durable: true)
    var table = l1
    table.append(contentsOf: repeatElement(0, count: Int(entries) - l1.count))
    var bytes: [UInt8] = []
    bytes.reserveCapacity(table.count * 8)
    for entry in table { bytes.appendBig(entry) }
    try storage.writeBytes(bytes, at: run.first << geometry.clusterBits)
    try storage.flush()
    header.l1Offset = run.first << geometry.clusterBits
    header.l1Size = UInt32(entries)
    try switchTables()
    lock.lock()
    defer { lock.unlock() }
    l1 = table
    for cluster in run.first..<run.first + run.count { metadata.insert(cluster) }
    for cluster in old.first..<old.first + old.count { metadata.remove(cluster) }
    if old.count > 0 { release(old.first, old.count, punch: false) }
  }

  /// Lets the header point to new tables, which are durable, by one write.
  func switchTables() throws(DiskImageError) {
    do throws(DiskImageError) {
      try storage.writeBytes(header.encodedTablePointers(), at: Qcow2Header.tablePointersOffset)
      try storage.flush()
    } catch {
      // Which tables the file has now is not known.
      failure = error
      throw error
    }
  }
}
