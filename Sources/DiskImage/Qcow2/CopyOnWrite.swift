// Carrying an allocation out: copy what surrounds the data, write all of it at once, then let the tables point to it.
import CLinux

extension Qcow2Image {
  /// Writes the data of a plan with its surroundings and publishes the clusters; on failure nothing has changed.
  func carryOut(_ plan: AllocationPlan, _ list: BufferList, from start: UInt64)
    throws(DiskImageError)
  {
    var problem: DiskImageError?
    do throws(DiskImageError) { try writeFilled(plan, list, from: start) } catch { problem = error }
    lock.lock()
    defer {
      endFlight(plan.first)
      lock.unlock()
    }
    if let problem {
      if plan.isNew && !geometry.hasExternalData {
        unallocate(ClusterRun(first: plan.host >> geometry.clusterBits, count: plan.count))
      }
      throw problem
    }
    // If this fails the clusters leak, and a check gives them back.
    try publish(plan)
  }

  /// Head, data and tail in one write.
  private func writeFilled(_ plan: AllocationPlan, _ list: BufferList, from start: UInt64)
    throws(DiskImageError)
  {
    var head = iovec()
    var tail = iovec()
    var borrowed: (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) = (nil, nil)
    defer {
      if let pointer = borrowed.0 { scratch.give(pointer) }
      if let pointer = borrowed.1 { scratch.give(pointer) }
    }
    if plan.fillStart < plan.dataStart {
      borrowed.0 = try surroundings(
        plan, at: plan.fillStart, count: plan.dataStart - plan.fillStart, &head)
    }
    if plan.dataEnd < plan.fillEnd {
      borrowed.1 = try surroundings(
        plan, at: plan.dataEnd, count: plan.fillEnd - plan.dataEnd, &tail)
    }
    let place =
      plan.host + (plan.dataStart - (plan.first << geometry.clusterBits)) - UInt64(head.iov_len)
    try list.withSlice(from: start, count: plan.dataCount, head: head, tail: tail) {
      (slice, pieces) throws(DiskImageError) in
      try dataStorage.write(slice, pieces, at: place)
    }
  }

  /// The old bytes of a stretch, in a borrowed buffer; nil when the place holds zeros already and needs none.
  private func surroundings(
    _ plan: AllocationPlan, at offset: UInt64, count: UInt64, _ vector: inout iovec
  ) throws(DiskImageError) -> UnsafeMutableRawPointer? {
    let isZero = try isKnownZero(at: offset, count: count)
    if isZero && plan.hostIsZero { return nil }
    let bytes = scratch.take()
    do throws(DiskImageError) {
      if isZero {
        memset(bytes, 0, Int(count))
      } else {
        try readPlain(bytes, count: count, at: offset)
      }
    } catch {
      scratch.give(bytes)
      throw error
    }
    vector = iovec(iov_base: bytes, iov_len: Int(count))
    return bytes
  }

  /// Lets the tables point to the plan's clusters, and gives up what they pointed to. Needs the lock.
  private func publish(_ plan: AllocationPlan) throws(DiskImageError) {
    let slot = try l2Slot(of: plan.first)
    guard slot >= 0 else { throw badEntry(plan.first) }
    let slice = l2Cache.pointer(slot)
    let mask = geometry.l2EntriesPerSlice - 1
    for step in 0..<plan.count {
      let cluster = plan.first + step
      let old = entry(slice, cluster & mask)
      var new = L2Entry(
        descriptor: (plan.host + (step << geometry.clusterBits)) | EntryBits.copied)
      if geometry.hasSubclusters {
        let units = validUnits(plan, cluster)
        let allocated = (plan.isNew ? 0 : old.allocatedUnits) | units
        let zero = old.isCompressed ? 0 : old.zeroUnits & ~allocated
        new.bitmap = UInt64(zero) << 32 | UInt64(allocated)
      }
      setEntry(slice, cluster & mask, new)
      if plan.isNew { releaseData(of: old, punch: false) }
    }
    l2Cache.markDirty(slot)
    needsBarrier = true
    noteDirtyTables()
  }

  /// The units of a cluster that the plan makes valid.
  private func validUnits(_ plan: AllocationPlan, _ cluster: UInt64) -> UInt32 {
    let base = cluster << geometry.clusterBits
    let from = max(plan.fillStart, base) - base
    let to = min(plan.fillEnd, base + geometry.clusterSize) - base
    guard to > from else { return 0 }
    let count = (to - from) / geometry.unit
    let bits: UInt64 = (1 << count) - 1
    return UInt32(truncatingIfNeeded: bits << (from / geometry.unit))
  }

  /// Gives up the clusters that an entry pointed to. Needs the lock.
  func releaseData(of old: L2Entry, punch: Bool) {
    if geometry.hasExternalData { return }
    if old.isCompressed {
      let place = CompressedPlace(old.descriptor, geometry)
      for cluster in place.hostClusters(geometry) { release(cluster, punch: false) }
    } else if old.hostOffset != 0 {
      release(old.hostOffset >> geometry.clusterBits, punch: punch)
    }
  }

  /// Many changed slices: the next writer writes them back. Where all tables fit into the cache there is no need: a
  /// write-back costs several flushes of the file. Needs the lock.
  func noteDirtyTables() {
    let holdsAll =
      UInt64(l2Cache.softLimit) * geometry.sliceSize
      >= UInt64(l1.count) << geometry.clusterBits
    if (!holdsAll && l2Cache.dirtyCount > l2Cache.softLimit / 2)
      || refcountCache.dirtyCount > refcountCache.softLimit / 2
    {
      notePressure()
    }
  }

  /// Gives a guest cluster an L2 table that belongs to the active disk alone. Needs the lock.
  func makeTableWritable(for cluster: UInt64) throws(DiskImageError) {
    let index = Int(cluster >> geometry.l2Bits)
    guard index < l1.count else {
      throw DiskImageError(.outOfRange, path, "has no table for this offset")
    }
    if l1[index] & EntryBits.copied != 0 { return }
    let old = try l2TableOffset(index)
    let run = try allocate(1)
    let offset = run.first << geometry.clusterBits
    do throws(DiskImageError) {
      if let old {
        try copyTable(from: old, to: offset, index)
      } else if !run.isZero {
        try storage.writeZeroes(at: offset, count: geometry.clusterSize)
      }
    } catch {
      unallocate(run)
      throw error
    }
    metadata.insert(run.first)
    l1[index] = offset | EntryBits.copied
    dirtyL1.insert(index >> 6)
    needsBarrier = true
    if let old { release(old >> geometry.clusterBits, punch: false) }
    if run.isZero && old == nil {
      // The table must exist in the file, though all of its slices may stay as they are.
      let slot = try l2Slot(of: cluster)
      if slot >= 0 { l2Cache.markDirty(slot) }
    }
  }

  /// Copies an L2 table that a snapshot keeps, too; none of its clusters may be written in place.
  ///
  /// Slices in the cache are newer than the file, and stay valid: they are found by guest cluster.
  private func copyTable(from old: UInt64, to new: UInt64, _ index: Int) throws(DiskImageError) {
    let table = AlignedBuffer(count: Int(geometry.clusterSize))
    try storage.read(into: table.pointer, count: table.count, at: old)
    let slices = geometry.clusterSize / geometry.sliceSize
    func eachCached(_ body: (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> Void) {
      for slice in 0..<slices {
        let slot = l2Cache.find(UInt64(index) * slices + slice)
        guard slot >= 0 else { continue }
        body(table.pointer + Int(slice * geometry.sliceSize), l2Cache.pointer(slot))
      }
    }
    eachCached { copy, cached in memcpy(copy, cached, l2Cache.sliceSize) }
    for place in stride(from: 0, to: table.count, by: Int(geometry.l2EntrySize)) {
      table.pointer.setBig64(place, table.pointer.big64(place) & ~EntryBits.copied)
    }
    eachCached { copy, cached in memcpy(cached, copy, l2Cache.sliceSize) }
    try storage.write(from: table.pointer, count: table.count, at: new)
  }
}
