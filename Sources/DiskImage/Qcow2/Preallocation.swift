// Giving a stretch of the disk its clusters before anything is written there.
import CLinux

extension Qcow2Image {
  /// Allocates every cluster of a range that has none yet. Only while no request is inside.
  func preallocate(
    from start: UInt64, to end: UInt64, _ mode: Qcow2.Preallocation, _ progress: OperationProgress
  ) throws(DiskImageError) {
    guard mode != .off, start < end else { return }
    progress.start(end - start)
    var cluster = start >> geometry.clusterBits
    let last = geometry.clusters(end)
    while cluster < last {
      let run = try lock.withLock { () throws(DiskImageError) in
        try preallocateRun(cluster, min(last - cluster, geometry.l2EntriesPerSlice))
      }
      if mode != .metadata && run.count > 0 {
        let offset = run.first << geometry.clusterBits
        let count = run.count << geometry.clusterBits
        if mode == .falloc {
          try dataStorage.reserve(at: offset, count: count)
        } else {
          try writeFullZeros(at: offset, count: count)
        }
      }
      cluster += max(run.count, 1)
      try progress.check(path)
      progress.set(min(cluster << geometry.clusterBits, end) - start)
      try relievePressure()
    }
    try extendFile()
  }

  /// Gives the next clusters that need one a place; a count of 0 means that the first has one. Needs the lock.
  private func preallocateRun(_ cluster: UInt64, _ wanted: UInt64) throws(DiskImageError)
    -> ClusterRun
  {
    let mask = geometry.l2EntriesPerSlice - 1
    let room = min(wanted, geometry.l2EntriesPerSlice - (cluster & mask))
    try makeTableWritable(for: cluster)
    guard let slice = try l2Slice(of: cluster) else { throw badEntry(cluster) }
    var count: UInt64 = 0
    while count < room && entry(slice, (cluster + count) & mask) == .unallocated { count += 1 }
    guard count > 0 else { return ClusterRun(first: 0, count: 0) }
    let run: ClusterRun
    if geometry.hasExternalData {
      run = ClusterRun(first: cluster, count: count)
    } else {
      run = try allocate(count)
    }
    let slot = try l2Slot(of: cluster)
    guard slot >= 0 else { throw badEntry(cluster) }
    // With a backing file the bytes must not shine through any more: zero, with a place.
    let zero = backing != nil && !geometry.hasSubclusters ? EntryBits.zero : 0
    for step in 0..<run.count {
      let host = (run.first + step) << geometry.clusterBits
      let isStale = !run.isZero && !geometry.hasExternalData && !geometry.hasSubclusters
      let flag = isStale && geometry.version >= 3 ? EntryBits.zero : zero
      // Without any valid subcluster the place stays unread until it is written.
      setEntry(
        l2Cache.pointer(slot), (cluster + step) & mask,
        L2Entry(descriptor: host | EntryBits.copied | flag))
    }
    l2Cache.markDirty(slot)
    needsBarrier = true
    noteDirtyTables()
    return run
  }

  private func writeFullZeros(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    let bytes = scratch.take()
    defer { scratch.give(bytes) }
    memset(bytes, 0, scratch.size)
    var done: UInt64 = 0
    while done < count {
      let step = min(UInt64(scratch.size), count - done)
      try dataStorage.write(from: bytes, count: Int(step), at: offset + done)
      done += step
    }
  }

  /// Makes the file reach to the end of its last cluster.
  private func extendFile() throws(DiskImageError) {
    guard !geometry.hasExternalData, untouched != UInt64.max else { return }
    let end = untouched << geometry.clusterBits
    if try storage.length() < end { try storage.truncate(to: end) }
  }
}
