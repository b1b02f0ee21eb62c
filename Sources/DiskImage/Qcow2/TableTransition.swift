// Changing many tables as one step. Every table that changes is written to a new place, refcount blocks too; then one
// write to the header's first sector exchanges size, L1 table, refcount table and snapshot table together. A crash leaves
// the old image or the new one, both consistent to the last flag.
//
// Source of the atom: the fields at bytes 24 to 71 of the header lie within one disk sector.
import CLinux

/// A new generation of an image's tables. Only while no request is inside and nothing waits to be written.
final class TableTransition {
  let image: Qcow2Image
  let geometry: Qcow2Geometry
  var header: Qcow2Header
  /// The active L1 table to be.
  var l1: [UInt64]
  var snapshots: SnapshotTable
  private var refcountTable: [UInt64]
  /// New content of refcount blocks by index.
  private var blocks: [Int: AlignedBuffer] = [:]
  /// Blocks that have their new place.
  private var placed: Set<Int> = []
  private var cursor: UInt64
  private var lowestFreed = UInt64.max
  private let table: AlignedBuffer
  private var lastBlock: (index: Int, bytes: UnsafeMutableRawPointer)?

  /// Bytes of the disk whose tables have been looked at; every operation passes over them about twice.
  private let progress: OperationProgress

  init(_ image: Qcow2Image, _ progress: OperationProgress) throws(DiskImageError) {
    self.image = image
    self.progress = progress
    geometry = image.geometry
    header = image.header
    l1 = image.l1
    snapshots = try SnapshotTable.read(from: image.storage, image.header)
    refcountTable = image.refcountTable
    cursor = image.freeCursor
    table = AlignedBuffer(count: Int(geometry.clusterSize))
    progress.start(geometry.l1Span &* UInt64(l1.count) &* 2)
  }

  // MARK: Refcounts to be

  /// The block that counts a cluster, to be changed.
  @inline(__always)
  private func block(of cluster: UInt64) throws(DiskImageError) -> UnsafeMutableRawPointer {
    let index = Int(cluster >> geometry.refcountBlockBits)
    if let lastBlock, lastBlock.index == index { return lastBlock.bytes }
    let bytes = try loadBlock(index)
    lastBlock = (index, bytes)
    return bytes
  }

  private func loadBlock(_ index: Int) throws(DiskImageError) -> UnsafeMutableRawPointer {
    if let known = blocks[index] { return known.pointer }
    let buffer = AlignedBuffer(count: Int(geometry.clusterSize))
    if let offset = try image.refcountBlockOffset(UInt64(index)) {
      try image.storage.read(into: buffer.pointer, count: buffer.count, at: offset)
    } else {
      guard index < Int(Qcow2Header.maximumRefcountTableBytes / 8) else {
        throw DiskImageError(.noSpace, image.path, "is as large as its refcount table can count")
      }
      buffer.clear()
    }
    blocks[index] = buffer
    return buffer.pointer
  }

  func refcount(_ cluster: UInt64) throws(DiskImageError) -> UInt64 {
    RefcountCodec.get(
      try block(of: cluster), cluster & ((1 << geometry.refcountBlockBits) - 1),
      order: geometry.refcountOrder)
  }

  private func set(_ cluster: UInt64, _ value: UInt64) throws(DiskImageError) {
    RefcountCodec.set(
      try block(of: cluster), cluster & ((1 << geometry.refcountBlockBits) - 1),
      order: geometry.refcountOrder, to: value)
  }

  /// One reference more or less for a cluster.
  @inline(__always)
  private func change(_ cluster: UInt64, _ step: Int) throws(DiskImageError) {
    guard cluster < 1 << (56 - geometry.clusterBits) else { throw inconsistent(cluster) }
    let count = try refcount(cluster)
    guard count > 0 else { throw inconsistent(cluster) }
    if step < 0 {
      if count == 1 { lowestFreed = min(lowestFreed, cluster) }
      return try set(cluster, count - 1)
    }
    guard count < geometry.refcountMaximum else {
      throw DiskImageError(
        .unsupported, image.path,
        "cannot count more than \(count) references to a cluster; "
          + "convert it to wider refcounts")
    }
    try set(cluster, count + 1)
  }

  private func inconsistent(_ cluster: UInt64) -> DiskImageError {
    DiskImageError(
      .corrupt, image.path, "counts no references for a used cluster; run a check with repair",
      offset: cluster << geometry.clusterBits)
  }

  /// Neighbouring clusters that are free in the old image and in the new one.
  func allocate(_ count: UInt64) throws(DiskImageError) -> UInt64 {
    var first = cursor
    var length: UInt64 = 0
    while length < count {
      let cluster = first + length
      guard cluster < 1 << (56 - geometry.clusterBits) else {
        throw DiskImageError(.noSpace, image.path, "is as large as its format allows")
      }
      if try image.refcount(of: cluster) == 0, try refcount(cluster) == 0 {
        length += 1
      } else {
        first = cluster + 1
        length = 0
      }
    }
    for cluster in first..<first + count { try set(cluster, 1) }
    if count == 1 || first == cursor { cursor = first + count }
    return first
  }

  func release(_ offset: UInt64, bytes: UInt64) throws(DiskImageError) {
    guard bytes > 0 else { return }
    let first = offset >> geometry.clusterBits
    for cluster in first..<first + geometry.clusters(bytes) { try change(cluster, -1) }
  }

  // MARK: What tables refer to

  /// Adds or drops one reference for everything under an L1 table: L2 tables and data.
  func reference(_ l1: [UInt64], _ step: Int) throws(DiskImageError) {
    for entry in l1 where entry & EntryBits.offset != 0 {
      let offset = try read(entry)
      try change(offset >> geometry.clusterBits, step)
      try referenceData(step)
    }
  }

  /// Reads an L2 table into `table`; returns its offset.
  private func read(_ l1Entry: UInt64) throws(DiskImageError) -> UInt64 {
    let offset = l1Entry & EntryBits.offset
    guard offset & (geometry.clusterSize - 1) == 0 else {
      throw DiskImageError(
        .corrupt, image.path, "has a misplaced L2 table; run a check with repair", offset: offset)
    }
    try progress.check(image.path)
    progress.add(geometry.l1Span)
    try image.storage.read(into: table.pointer, count: table.count, at: offset)
    return offset
  }

  /// Changes the counts of all clusters that the table in the buffer points to.
  private func referenceData(_ step: Int) throws(DiskImageError) {
    let size = Int(geometry.l2EntrySize)
    for place in stride(from: 0, to: table.count, by: size) {
      let descriptor = table.pointer.big64(place)
      if descriptor & ~EntryBits.zero == 0 { continue }
      if descriptor & EntryBits.compressed != 0 {
        for cluster in CompressedPlace(descriptor, geometry).hostClusters(geometry) {
          try change(cluster, step)
        }
      } else if descriptor & EntryBits.offset != 0 {
        try change((descriptor & EntryBits.offset) >> geometry.clusterBits, step)
      }
    }
  }

  /// A snapshot of the active tables as they are: everything gets one reference more, and no copied flag stays.
  func shareActive() throws(DiskImageError) {
    for index in l1.indices where l1[index] & EntryBits.offset != 0 {
      let offset = try read(l1[index])
      try referenceData(1)
      let place = try correctFlags() ? try move(offset) : offset
      try change(place >> geometry.clusterBits, 1)
      l1[index] = place
    }
  }

  /// Sets the copied flags of the active tables by the new counts.
  func correctActive() throws(DiskImageError) {
    for index in l1.indices where l1[index] & EntryBits.offset != 0 {
      var offset = try read(l1[index])
      if try correctFlags() { offset = try move(offset) }
      let isExclusive = try refcount(offset >> geometry.clusterBits) == 1
      l1[index] = offset | (isExclusive ? EntryBits.copied : 0)
    }
  }

  /// Makes the flags of the table in the buffer right; true when something changed.
  private func correctFlags() throws(DiskImageError) -> Bool {
    var changed = false
    let size = Int(geometry.l2EntrySize)
    for place in stride(from: 0, to: table.count, by: size) {
      let descriptor = table.pointer.big64(place)
      if descriptor & EntryBits.offset == 0 || descriptor & EntryBits.compressed != 0 { continue }
      let cluster = (descriptor & EntryBits.offset) >> geometry.clusterBits
      let wanted = try refcount(cluster) == 1 ? EntryBits.copied : 0
      if descriptor & EntryBits.copied == wanted { continue }
      table.pointer.setBig64(place, descriptor & ~EntryBits.copied | wanted)
      changed = true
    }
    return changed
  }

  /// Writes the table in the buffer to a new place for the active disk, which leaves the old one.
  private func move(_ offset: UInt64) throws(DiskImageError) -> UInt64 {
    let place = try allocate(1) << geometry.clusterBits
    try image.storage.write(from: table.pointer, count: table.count, at: place)
    try change(offset >> geometry.clusterBits, -1)
    return place
  }

  /// Writes a table of words to a new place.
  func store(_ words: [UInt64]) throws(DiskImageError) -> UInt64 {
    guard !words.isEmpty else { return 0 }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(words.count * 8)
    for word in words { bytes.appendBig(word) }
    return try store(bytes)
  }

  private func store(_ bytes: [UInt8]) throws(DiskImageError) -> UInt64 {
    let offset = try allocate(geometry.clusters(UInt64(bytes.count))) << geometry.clusterBits
    try image.storage.writeBytes(bytes, at: offset)
    return offset
  }

  // MARK: The step

  /// Writes everything new, then exchanges the header fields; afterwards the image works with the new tables.
  func commit() throws(DiskImageError) {
    try release(header.l1Offset, bytes: UInt64(header.l1Size) * 8)
    header.l1Offset = try store(l1)
    header.l1Size = UInt32(l1.count)
    try storeSnapshots()
    try placeRefcounts()
    if header.size != image.header.size { _ = try image.invalidateBitmaps(all: true) }
    try image.storage.flush()
    do throws(DiskImageError) {
      var bytes: [UInt8] = []
      bytes.appendBig(header.size)
      bytes.appendBig(header.cryptMethod)
      bytes += header.encodedTablePointers()
      try image.storage.writeBytes(bytes, at: Qcow2Header.sizeOffset)
      try image.storage.flush()
    } catch {
      // Which tables the file has now is not known.
      image.failure = error
      throw error
    }
    try image.adopt(header, l1: l1, refcountTable: refcountTable)
    image.freeCursor = min(image.freeCursor, lowestFreed)
  }

  private func storeSnapshots() throws(DiskImageError) {
    if header.snapshotCount > 0 {
      let old = try SnapshotTable.read(from: image.storage, image.header)
      try release(image.header.snapshotsOffset, bytes: old.byteCount)
    }
    header.snapshotCount = UInt32(snapshots.entries.count)
    header.snapshotsOffset = snapshots.entries.isEmpty ? 0 : try store(snapshots.encoded())
  }

  /// Gives every changed refcount block, and the table, a new place. Doing so changes counts and thereby more blocks.
  private func placeRefcounts() throws(DiskImageError) {
    try release(
      image.header.refcountTableOffset,
      bytes: UInt64(image.header.refcountTableClusters) << geometry.clusterBits)
    let perCluster = Int(geometry.clusterSize >> 3)
    var tablePlace: (first: UInt64, clusters: UInt64)?
    while true {
      while let index = blocks.keys.first(where: { !placed.contains($0) }) {
        placed.insert(index)
        if let old = try image.refcountBlockOffset(UInt64(index)) {
          try change(old >> geometry.clusterBits, -1)
        }
        let place = try allocate(1)
        if index >= refcountTable.count {
          refcountTable.append(
            contentsOf: repeatElement(0, count: index + 1 - refcountTable.count))
        }
        refcountTable[index] = place << geometry.clusterBits
      }
      let needed = UInt64((refcountTable.count + perCluster - 1) / perCluster)
      if let tablePlace, tablePlace.clusters >= needed { break }
      if let tablePlace {
        for cluster in tablePlace.first..<tablePlace.first + tablePlace.clusters {
          try change(cluster, -1)
        }
      }
      tablePlace = (try allocate(needed), needed)
    }
    guard let tablePlace else { return }
    try writeRefcounts(tablePlace.first, tablePlace.clusters)
  }

  private func writeRefcounts(_ first: UInt64, _ clusters: UInt64) throws(DiskImageError) {
    let entries = Int(clusters * (geometry.clusterSize >> 3))
    refcountTable.append(contentsOf: repeatElement(0, count: entries - refcountTable.count))
    guard clusters << geometry.clusterBits <= Qcow2Header.maximumRefcountTableBytes else {
      throw DiskImageError(.noSpace, image.path, "is as large as its refcount table can count")
    }
    for (index, buffer) in blocks {
      try image.storage.write(from: buffer.pointer, count: buffer.count, at: refcountTable[index])
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(entries * 8)
    for word in refcountTable { bytes.appendBig(word) }
    try image.storage.writeBytes(bytes, at: first << geometry.clusterBits)
    header.refcountTableOffset = first << geometry.clusterBits
    header.refcountTableClusters = UInt32(clusters)
  }
}

extension Qcow2Image {
  /// Something was written without the allocator: nothing within the file is known to be zero any more.
  func noteWholeFileTouched() throws(DiskImageError) {
    if untouched != UInt64.max {
      untouched = max(untouched, geometry.clusters(try storage.length()))
    }
  }

  /// Goes on with tables that a transition wrote. Only while no request is inside.
  fileprivate func adopt(_ header: Qcow2Header, l1: [UInt64], refcountTable: [UInt64])
    throws(DiskImageError)
  {
    lock.lock()
    defer { lock.unlock() }
    self.header = header
    self.l1 = l1
    self.refcountTable = refcountTable
    l2Cache.removeAll()
    refcountCache.removeAll()
    dirtyL1.removeAll()
    dirtyRefcountTable.removeAll()
    decompressed = nil
    compressedTail = 0
    try noteWholeFileTouched()
    setVirtualSize(header.size)
    try collectMetadata()
  }
}
