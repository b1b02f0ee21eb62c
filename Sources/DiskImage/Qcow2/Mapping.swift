// From an offset on the disk to a place in the file: L1 table, L2 tables, subcluster bitmaps.
// Everything here is called with the image's lock held.

/// What one stretch of the disk is mapped to.
struct Mapping {
  enum Kind: UInt8 {
    /// Not in this image: the backing file's bytes, or zeros.
    case unallocated
    case zero
    case data
    case compressed
  }
  var kind: Kind
  /// Bytes for which this holds.
  var count: UInt64
  /// `data`: byte offset in the data storage. `compressed`: the L2 descriptor.
  var host: UInt64 = 0
  /// `data`: may be written in place.
  var isCopied = false
}

extension Qcow2Image {
  /// The mapping from `offset` on, for at most `limit` bytes; both lie within the reach of the L1 table.
  @inline(__always)
  func mapping(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> Mapping {
    let cluster = offset >> geometry.clusterBits
    guard let slice = try l2Slice(of: cluster) else {
      let rest = geometry.l1Span - (offset & (geometry.l1Span - 1))
      return Mapping(kind: .unallocated, count: min(limit, rest))
    }
    var index = cluster & (geometry.l2EntriesPerSlice - 1)
    var run = try decode(entry(slice, index), from: geometry.offsetInCluster(offset), cluster)
    if run.kind == .compressed
      || geometry.offsetInCluster(offset) + run.count < geometry.clusterSize
    {
      run.count = min(run.count, limit)
      return run
    }
    index += 1
    while run.count < limit && index < geometry.l2EntriesPerSlice {
      let next = try decode(
        entry(slice, index), from: 0, cluster &+ 1)
      if next.kind != run.kind || next.isCopied != run.isCopied { break }
      if run.kind == .data && next.host != run.host + run.count { break }
      run.count += next.count
      if next.count < geometry.clusterSize { break }
      index += 1
    }
    run.count = min(run.count, limit)
    return run
  }

  @inline(__always)
  func entry(_ slice: UnsafeMutableRawPointer, _ index: UInt64) -> L2Entry {
    if geometry.hasSubclusters {
      return L2Entry(
        descriptor: slice.big64(Int(index) << 4), bitmap: slice.big64(Int(index) << 4 + 8))
    }
    return L2Entry(descriptor: slice.big64(Int(index) << 3))
  }

  @inline(__always)
  func setEntry(_ slice: UnsafeMutableRawPointer, _ index: UInt64, _ entry: L2Entry) {
    if geometry.hasSubclusters {
      slice.setBig64(Int(index) << 4, entry.descriptor)
      slice.setBig64(Int(index) << 4 + 8, entry.bitmap)
    } else {
      slice.setBig64(Int(index) << 3, entry.descriptor)
    }
  }

  /// What an entry says about its cluster from byte `from` on.
  @inline(__always)
  func decode(_ entry: L2Entry, from: UInt64, _ cluster: UInt64) throws(DiskImageError) -> Mapping {
    let rest = geometry.clusterSize - from
    if entry.isCompressed {
      if geometry.hasExternalData || entry.bitmap != 0 { throw badEntry(cluster) }
      return Mapping(kind: .compressed, count: rest, host: entry.descriptor)
    }
    let host = entry.hostOffset
    if host & (geometry.clusterSize - 1) != 0 { throw badEntry(cluster) }
    if geometry.hasSubclusters { return try decodeUnits(entry, from: from, cluster) }
    if entry.descriptor & EntryBits.zero != 0 && geometry.version >= 3 {
      return Mapping(kind: .zero, count: rest)
    }
    if !hasHost(entry) { return Mapping(kind: .unallocated, count: rest) }
    return Mapping(kind: .data, count: rest, host: host + from, isCopied: entry.isCopied)
  }

  /// With an external data file offset 0 is a place like any other; the copied bit tells.
  @inline(__always)
  func hasHost(_ entry: L2Entry) -> Bool {
    entry.hostOffset != 0 || (geometry.hasExternalData && entry.isCopied)
  }

  private func decodeUnits(_ entry: L2Entry, from: UInt64, _ cluster: UInt64)
    throws(DiskImageError) -> Mapping
  {
    let allocated = entry.allocatedUnits
    let zero = entry.zeroUnits
    if allocated & zero != 0 || (allocated != 0 && !hasHost(entry)) { throw badEntry(cluster) }
    let first = from / geometry.unit
    let isAllocated = allocated >> UInt32(first) & 1
    let isZero = zero >> UInt32(first) & 1
    // Bits that differ from the first one's, from there on: the lowest of them ends the run.
    let different =
      ((isAllocated == 1 ? ~allocated : allocated) | (isZero == 1 ? ~zero : zero)) >> UInt32(first)
    let units = min(UInt64(different.trailingZeroBitCount), 32 - first)
    let count = units * geometry.unit - (from & (geometry.unit - 1))
    if isZero == 1 { return Mapping(kind: .zero, count: count) }
    if isAllocated == 0 { return Mapping(kind: .unallocated, count: count) }
    return Mapping(
      kind: .data, count: count, host: entry.hostOffset + from, isCopied: entry.isCopied)
  }

  func badEntry(_ cluster: UInt64) -> DiskImageError {
    DiskImageError(
      .corrupt, path,
      "has a broken table entry for guest byte \(cluster << geometry.clusterBits); "
        + "run a check with repair")
  }

  /// The cached slice with the L2 entry of a guest cluster, or nil when there is no L2 table. Good until the next call
  /// that may load a slice.
  @inline(__always)
  func l2Slice(of cluster: UInt64) throws(DiskImageError) -> UnsafeMutableRawPointer? {
    let slot = l2Cache.find(cluster / geometry.l2EntriesPerSlice)
    if slot >= 0 { return l2Cache.pointer(slot) }
    return try loadL2Slice(of: cluster)
  }

  /// The slot of the slice, which must be there or loadable.
  func l2Slot(of cluster: UInt64) throws(DiskImageError) -> Int32 {
    _ = try l2Slice(of: cluster)
    return l2Cache.find(cluster / geometry.l2EntriesPerSlice)
  }

  /// The byte offset of an L1 entry's table; nil when there is none.
  func l2TableOffset(_ l1Index: Int) throws(DiskImageError) -> UInt64? {
    guard l1Index < l1.count else { return nil }
    let offset = l1[l1Index] & EntryBits.offset
    guard offset != 0 else { return nil }
    guard offset & (geometry.clusterSize - 1) == 0 else {
      throw DiskImageError(
        .corrupt, path, "has a misplaced L2 table; run a check with repair", offset: offset)
    }
    return offset
  }

  private func loadL2Slice(of cluster: UInt64) throws(DiskImageError) -> UnsafeMutableRawPointer? {
    guard let table = try l2TableOffset(Int(cluster >> geometry.l2Bits)) else { return nil }
    let key = cluster / geometry.l2EntriesPerSlice
    let place = table + sliceOffsetInTable(key)
    return l2Cache.pointer(try load(key, at: place, into: l2Cache))
  }

  /// Where a slice lies in its L2 table, in bytes.
  func sliceOffsetInTable(_ key: UInt64) -> UInt64 {
    key * geometry.sliceSize & (geometry.clusterSize - 1)
  }

  /// Reads a slice into a fresh slot.
  func load(_ key: UInt64, at place: UInt64, into cache: SliceCache) throws(DiskImageError)
    -> Int32
  {
    guard let slot = cache.insert(key) else {
      throw DiskImageError(.io, path, "has too many changed tables in memory; flush and try again")
    }
    do throws(DiskImageError) {
      try storage.read(into: cache.pointer(slot), count: cache.sliceSize, at: place)
    } catch {
      cache.remove(slot)
      throw error
    }
    return slot
  }
}
