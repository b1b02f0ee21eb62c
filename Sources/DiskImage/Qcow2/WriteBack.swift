// What reaches the file in which order. One write-back takes a consistent copy of all changed tables under the image's
// lock, then writes without it:
//
//   refcount blocks | refcount table | L2 slices | L1 | durable | then freed clusters may be given back
//
// with a flush of the file at each bar where the next step refers to the one before. So at every instant the file's
// refcounts are at least its references, and copied data is durable before a table points to it.
import CLinux

/// Changed tables, copied: what one write-back puts into the file.
private struct StagedTables {
  /// Slice slots, and the file offset of each in the order of the copies.
  var refcountSlots: [Int32] = []
  var refcountPlaces: [UInt64] = []
  var l2Slots: [Int32] = []
  var l2Places: [UInt64] = []
  var tableEntries: [Int] = []
  var l1Groups: [(place: UInt64, bytes: [UInt8])] = []
  var l1Indices: Set<Int> = []
  var freed: [FreedRun] = []
  var needsBarrier = false

  var isEmpty: Bool {
    refcountSlots.isEmpty && l2Slots.isEmpty && tableEntries.isEmpty && l1Groups.isEmpty
      && freed.isEmpty
  }
}

extension Qcow2Image {
  /// Writes changed tables.
  ///
  /// - Parameter durable: Also make everything written so far survive a crash, even if no table was changed.
  func writeBack(durable: Bool) throws(DiskImageError) {
    try writeBackLock.withLock { () throws(DiskImageError) in
      try reapRetired()
      lock.lock()
      if let failure {
        lock.unlock()
        throw failure
      }
      var staged = StagedTables()
      do throws(DiskImageError) { staged = try stage() } catch {
        lock.unlock()
        throw error
      }
      pressureIsOff()
      lock.unlock()
      do throws(DiskImageError) {
        if staged.isEmpty {
          if durable { try flushFiles() }
        } else {
          try write(staged)
        }
      } catch {
        lock.lock()
        restore(staged)
        lock.unlock()
        throw error
      }
      lock.lock()
      finish(staged)
      lock.unlock()
      try reapRetired()
    }
  }

  private func flushFiles() throws(DiskImageError) {
    if geometry.hasExternalData { try dataStorage.flush() }
    do throws(DiskImageError) { try storage.flush() } catch {
      // The kernel may have dropped what it could not write: what the file holds is not known any more.
      lock.lock()
      failure = failure ?? error
      lock.unlock()
      throw error
    }
  }

  /// Copies what changed. Needs the lock.
  private func stage() throws(DiskImageError) -> StagedTables {
    var staged = StagedTables()
    let counts = try places(refcountCache, refcountCache.dirtySlots) {
      (key) throws(DiskImageError) in
      let block = (key * geometry.refcountsPerSlice) >> geometry.refcountBlockBits
      guard let offset = try refcountBlockOffset(block) else { throw lostTable() }
      return offset + (key * geometry.sliceSize & (geometry.clusterSize - 1))
    }
    staged.refcountSlots = counts.map(\.slot)
    staged.refcountPlaces = counts.map(\.place)
    staged.tableEntries = Array(dirtyRefcountTable)
    let mappings = try places(l2Cache, l2Cache.dirtySlots) { (key) throws(DiskImageError) in
      let index = Int((key * geometry.l2EntriesPerSlice) >> geometry.l2Bits)
      guard let offset = try l2TableOffset(index) else { throw lostTable() }
      return offset + sliceOffsetInTable(key)
    }
    staged.l2Slots = mappings.map(\.slot)
    staged.l2Places = mappings.map(\.place)
    copySlices(staged)
    _ = refcountCache.takeDirty()
    _ = l2Cache.takeDirty()
    stageL1(&staged)
    staged.freed = freed
    freed.removeAll(keepingCapacity: true)
    staged.needsBarrier = needsBarrier
    needsBarrier = false
    return staged
  }

  private func lostTable() -> DiskImageError {
    DiskImageError(.corrupt, path, "has a changed table without a place; run a check with repair")
  }

  /// Slots with their places in the file, in the order of the file.
  private func places(
    _ cache: SliceCache, _ slots: [Int32],
    _ place: (UInt64) throws(DiskImageError) -> UInt64
  ) throws(DiskImageError) -> [(slot: Int32, place: UInt64)] {
    var order: [(slot: Int32, place: UInt64)] = []
    order.reserveCapacity(slots.count)
    for slot in slots { order.append((slot, try place(cache.key(slot)))) }
    order.sort { $0.place < $1.place }
    return order
  }

  private func copySlices(_ staged: StagedTables) {
    let size = Int(geometry.sliceSize)
    let needed = (staged.refcountSlots.count + staged.l2Slots.count) * size
    if staging.count < needed || (staging.count > 1 << 20 && needed < staging.count / 8) {
      staging = AlignedBuffer(count: max(needed, 1 << 16))
    }
    var target = staging.pointer
    for slot in staged.refcountSlots {
      memcpy(target, refcountCache.pointer(slot), size)
      target += size
    }
    for slot in staged.l2Slots {
      memcpy(target, l2Cache.pointer(slot), size)
      target += size
    }
  }

  private func stageL1(_ staged: inout StagedTables) {
    for group in dirtyL1 {
      var bytes: [UInt8] = []
      bytes.reserveCapacity(512)
      for index in group * 64..<min(group * 64 + 64, l1.count) { bytes.appendBig(l1[index]) }
      staged.l1Groups.append((header.l1Offset + UInt64(group) * 512, bytes))
    }
    staged.l1Indices = dirtyL1
    dirtyL1.removeAll(keepingCapacity: true)
  }

  private func write(_ staged: StagedTables) throws(DiskImageError) {
    let size = Int(geometry.sliceSize)
    try writeSlices(staged.refcountPlaces, from: staging.pointer)
    let changesL2 = !staged.l2Places.isEmpty || !staged.l1Groups.isEmpty
    if !staged.tableEntries.isEmpty {
      try flushFiles()
      try lock.withLock { () throws(DiskImageError) in
        try writeRefcountTableEntries(staged.tableEntries)
      }
    }
    if changesL2 && (staged.needsBarrier || !staged.tableEntries.isEmpty) { try flushFiles() }
    try writeSlices(staged.l2Places, from: staging.pointer + staged.refcountPlaces.count * size)
    if !staged.l1Groups.isEmpty {
      if !staged.l2Places.isEmpty { try flushFiles() }
      for group in staged.l1Groups { try storage.writeBytes(group.bytes, at: group.place) }
    }
    try flushFiles()
  }

  /// Under the lock, because growing the table moves it.
  private func writeRefcountTableEntries(_ indices: [Int]) throws(DiskImageError) {
    for index in indices {
      var word: [UInt8] = []
      word.appendBig(refcountTable[index])
      try storage.writeBytes(word, at: header.refcountTableOffset + UInt64(index) * 8)
    }
    dirtyRefcountTable.subtract(indices)
  }

  /// Neighbours in the file go out in one write.
  private func writeSlices(_ places: [UInt64], from copies: UnsafeMutableRawPointer)
    throws(DiskImageError)
  {
    let size = geometry.sliceSize
    var first = 0
    while first < places.count {
      var next = first + 1
      while next < places.count && places[next] == places[next - 1] + size { next += 1 }
      try storage.write(
        from: copies + first * Int(size), count: (next - first) * Int(size), at: places[first])
      first = next
    }
  }

  /// Needs the lock.
  private func finish(_ staged: StagedTables) {
    refcountCache.finishWriting(staged.refcountSlots, failed: false)
    l2Cache.finishWriting(staged.l2Slots, failed: false)
    if !staged.freed.isEmpty {
      retired.append(RetiredBatch(runs: staged.freed, generation: gate.current))
    }
  }

  /// Everything staged has to be written again. Needs the lock.
  private func restore(_ staged: StagedTables) {
    refcountCache.finishWriting(staged.refcountSlots, failed: true)
    l2Cache.finishWriting(staged.l2Slots, failed: true)
    dirtyL1.formUnion(staged.l1Indices)
    freed.append(contentsOf: staged.freed)
    needsBarrier = needsBarrier || staged.needsBarrier
  }

  /// Gives clusters back that neither the file nor a running request refers to. Needs the write-back lock.
  private func reapRetired() throws(DiskImageError) {
    lock.lock()
    var ready: [FreedRun] = []
    while let batch = retired.first, gate.hasPassed(batch.generation) {
      ready.append(contentsOf: batch.runs)
      retired.removeFirst()
    }
    lock.unlock()
    for run in ready where run.punch { try punch(run) }
    guard !ready.isEmpty else { return }
    lock.lock()
    defer { lock.unlock() }
    decompressed = nil
    for run in ready {
      for cluster in run.first..<run.first + run.count {
        if cluster == compressedTail >> geometry.clusterBits { compressedTail = 0 }
        try dropReference(to: cluster)
      }
    }
  }

  /// Punches the clusters of a run that have no other reference.
  private func punch(_ run: FreedRun) throws(DiskImageError) {
    var first = run.first
    let end = run.first + run.count
    while first < end {
      var next = first
      lock.lock()
      while next < end, (try? refcount(of: next)) == 1 { next += 1 }
      lock.unlock()
      if next > first {
        _ = try storage.punchHole(
          at: first << geometry.clusterBits, count: (next - first) << geometry.clusterBits)
      }
      first = next + 1
    }
  }
}
