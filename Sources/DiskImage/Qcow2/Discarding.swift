// Giving clusters up: discard and write-zeroes.
import CLinux

extension Qcow2Image {
  public func discard(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    try requireWritable()
    try checkRange(offset, count)
    let generation = try begin()
    defer { gate.leave(generation) }
    try relievePressure()
    // Only whole units: the guest may still want the rest. The unit at the end of the disk counts as whole.
    let first = offset.roundedUp(to: geometry.unit)
    let end =
      offset + count == size
      ? (offset + count).roundedUp(to: geometry.unit)
      : (offset + count).roundedDown(to: geometry.unit)
    guard first < end else { return }
    _ = try zeroUnits(from: first, to: end, mayUnmap: true, isDiscard: true)
  }

  public func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) throws(DiskImageError) {
    try requireWritable()
    try checkRange(offset, count)
    let generation = try begin()
    defer { gate.leave(generation) }
    try relievePressure()
    try zeroMapped(at: offset, count: count, mayUnmap: mayUnmap)
  }

  /// Makes a range read as zeros without entering the gate.
  func zeroMapped(at offset: UInt64, count: UInt64, mayUnmap: Bool) throws(DiskImageError) {
    let end = offset + count
    var position = offset
    while position < end {
      let unitEnd = position.roundedDown(to: geometry.unit) + geometry.unit
      if position & (geometry.unit - 1) == 0 && (end >= unitEnd || end == size) {
        let last =
          end == size ? end.roundedUp(to: geometry.unit) : end.roundedDown(to: geometry.unit)
        let reached = try zeroUnits(from: position, to: last, mayUnmap: mayUnmap, isDiscard: false)
        if reached > position {
          position = min(reached, end)
          continue
        }
      }
      let pieceEnd = min(end, unitEnd)
      if try !isKnownZero(at: position, count: pieceEnd - position) {
        try writeZeroBytes(at: position, count: pieceEnd - position)
      }
      position = pieceEnd
    }
  }

  /// Zeros by an ordinary write, at most a cluster of them.
  func writeZeroBytes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    let bytes = scratch.take()
    defer { scratch.give(bytes) }
    memset(bytes, 0, Int(count))
    let vector = iovec(iov_base: bytes, iov_len: Int(count))
    try withUnsafePointer(to: vector) { (pointer) throws(DiskImageError) in
      try writeMapped(
        BufferList(vectors: pointer, count: 1), from: 0, count: count, at: offset)
    }
  }

  /// Makes whole units read as zeros by the tables alone, as far as the format can say that; returns how far it got.
  private func zeroUnits(from start: UInt64, to end: UInt64, mayUnmap: Bool, isDiscard: Bool)
    throws(DiskImageError) -> UInt64
  {
    if header.dataIsRaw {
      // The data file must hold the zeros itself: others read it without these tables.
      guard isDiscard else { return start }
      let last = min(end, size)
      if try !dataStorage.punchHole(at: start, count: last - start) { return start }
      return end
    }
    var position = start
    while position < end {
      lock.lock()
      let next: UInt64
      do throws(DiskImageError) {
        next = try zeroSlice(from: position, to: end, mayUnmap, isDiscard)
      } catch {
        lock.unlock()
        throw error
      }
      lock.unlock()
      // Stuck: version 2 cannot say that a cluster is zero when a backing file would shine through.
      if next == position { return position }
      position = next == UInt64.max ? position : next
    }
    return end
  }

  /// The part of a range that lies in one slice; `UInt64.max` to try again. Needs the lock.
  private func zeroSlice(from start: UInt64, to end: UInt64, _ mayUnmap: Bool, _ isDiscard: Bool)
    throws(DiskImageError) -> UInt64
  {
    if let failure { throw failure }
    let cluster = start >> geometry.clusterBits
    let span = geometry.l2EntriesPerSlice << geometry.clusterBits
    let sliceEnd = min(end, start.roundedDown(to: span) + span)
    if try mapping(at: start, limit: sliceEnd - start).kind == .unallocated, backing == nil {
      // Nothing there and nothing behind it: no table is needed to say so.
      return start + (try mapping(at: start, limit: sliceEnd - start).count)
    }
    let clusters = geometry.clusters(sliceEnd) - cluster
    if waitIfInFlight(cluster, clusters) { return UInt64.max }
    if geometry.version < 3 && backing != nil { return isDiscard ? sliceEnd : start }
    try makeTableWritable(for: cluster)
    let slot = try l2Slot(of: cluster)
    guard slot >= 0 else { throw badEntry(cluster) }
    let slice = l2Cache.pointer(slot)
    for current in cluster..<cluster + clusters {
      let base = current << geometry.clusterBits
      let index = current & (geometry.l2EntriesPerSlice - 1)
      let old = entry(slice, index)
      let from = max(start, base) - base
      let to = min(sliceEnd, base + geometry.clusterSize) - base
      guard let new = try zeroed(old, current, from: from, to: to, mayUnmap) else {
        return current == cluster ? start : base
      }
      if new == old { continue }
      setEntry(slice, index, new)
      l2Cache.markDirty(slot)
      if new.hostOffset != old.hostOffset || old.isCompressed {
        releaseData(of: old, punch: true)
      }
    }
    noteDirtyTables()
    return sliceEnd
  }

  /// What an entry becomes when bytes `from..<to` of its cluster are zeros; nil when it cannot say that.
  private func zeroed(_ old: L2Entry, _ cluster: UInt64, from: UInt64, to: UInt64, _ mayUnmap: Bool)
    throws(DiskImageError) -> L2Entry?
  {
    _ = try decode(old, from: from, cluster)
    let isWhole = from == 0 && to == geometry.clusterSize
    if geometry.hasSubclusters {
      if isWhole && (mayUnmap || !old.isCopied || old.isCompressed) {
        return L2Entry(descriptor: 0, bitmap: 0xffff_ffff_0000_0000)
      }
      if old.isCompressed { return nil }
      let bits = UInt32(
        truncatingIfNeeded: ((UInt64(1) << ((to - from) / geometry.unit)) - 1)
          << (from / geometry.unit))
      var new = old
      new.bitmap =
        UInt64(old.zeroUnits | bits) << 32 | UInt64(old.allocatedUnits & ~bits)
      return new
    }
    guard geometry.version >= 3 else { return .unallocated }
    if !mayUnmap && !old.isCompressed && old.isCopied && hasHost(old) {
      return L2Entry(descriptor: old.descriptor | EntryBits.zero)
    }
    return L2Entry(descriptor: EntryBits.zero)
  }
}
