// Making an image consistent again. Counts that are too low come first: from then on a crash loses nothing that is left.
import CLinux

extension ImageChecker {
  /// Repairs what `check` found, then looks again.
  package func repair(_ mode: RepairMode) throws(DiskImageError) -> CheckReport {
    let before = try check()
    guard mode != .none else { return before }
    let mustChange = before.corruptions + before.leaks > 0 || before.wasDirty || before.wasCorrupt
    guard mustChange else { return before }
    if mode == .leaks {
      if needsRebuild { return before }
      try writeCounts(raise: false)
    } else {
      if needsRebuild { try rebuildRefcounts() } else { try writeCounts(raise: true) }
      try storage.flush()
      try repairTables()
      try writeCounts(raise: false)
    }
    try storage.flush()
    return try finish(mode, before)
  }

  /// Checks again, and takes the marks off an image that is consistent now.
  private func finish(_ mode: RepairMode, _ before: CheckReport) throws(DiskImageError)
    -> CheckReport
  {
    let second = try ImageChecker(storage)
    let after = try second.check()
    if mode == .all && after.corruptions == 0 && (after.wasDirty || after.wasCorrupt) {
      header = second.header
      header.incompatible.subtract([.dirty, .corrupt])
      try storage.writeBytes(header.encodedFeatureBits(), at: Qcow2Header.featureBitsOffset)
      try storage.flush()
    }
    var report = after
    report.findings = before.findings
    report.corruptions = max(before.corruptions, after.corruptions)
    report.leaks = max(before.leaks, after.leaks)
    report.repairedCorruptions = report.corruptions - after.corruptions
    report.repairedLeaks = report.leaks - after.leaks
    report.wasDirty = before.wasDirty
    report.wasCorrupt = before.wasCorrupt
    return report
  }

  /// Writes the counted references into the refcount blocks, raising or lowering only.
  private func writeCounts(raise: Bool) throws(DiskImageError) {
    let block = AlignedBuffer(count: Int(geometry.clusterSize))
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    var cluster: UInt64 = 0
    while let different = found.firstDifference(from: cluster, to: stored) {
      let index = Int(different >> geometry.refcountBlockBits)
      let end = min((UInt64(index) + 1) * perBlock, clusterCount)
      guard index < refcountTable.count, let offset = blockOffset(index) else {
        if raise {
          // A block is missing: only new structures can count these clusters.
          return try rebuildRefcounts()
        }
        cluster = end
        continue
      }
      try storage.read(into: block.pointer, count: block.count, at: offset)
      var changed = false
      for current in different..<end where found[current] != stored[current] {
        let wanted = min(found[current], geometry.refcountMaximum)
        guard raise == (wanted > stored[current]) else { continue }
        RefcountCodec.set(
          block.pointer, current & (perBlock - 1), order: geometry.refcountOrder, to: wanted)
        stored[current] = wanted
        changed = true
      }
      if changed { try storage.write(from: block.pointer, count: block.count, at: offset) }
      cluster = end
    }
  }

  /// Entries that cannot be right become zeros or nothing; copied flags follow the refcounts.
  private func repairTables() throws(DiskImageError) {
    for index in l1.indices where l1[index] & EntryBits.offset != 0 {
      let offset = l1[index] & EntryBits.offset
      let cluster = offset >> geometry.clusterBits
      let isPossible = offset & (geometry.clusterSize - 1) == 0 && cluster < clusterCount
      let wanted =
        isPossible ? offset | (stored[cluster] == 1 ? EntryBits.copied : 0) : 0
      if wanted != l1[index] {
        l1[index] = wanted
        var word: [UInt8] = []
        word.appendBig(wanted)
        try storage.writeBytes(word, at: header.l1Offset + UInt64(index) * 8)
      }
      if isPossible { try repairTable(at: offset) }
    }
  }

  private func repairTable(at offset: UInt64) throws(DiskImageError) {
    let table = AlignedBuffer(count: Int(geometry.clusterSize))
    try storage.read(into: table.pointer, count: table.count, at: offset)
    var changed = false
    let size = Int(geometry.l2EntrySize)
    for index in 0..<Int(geometry.l2Entries) {
      var old = L2Entry(descriptor: table.pointer.big64(index * size))
      if size == 16 { old.bitmap = table.pointer.big64(index * size + 8) }
      let new = repaired(old)
      guard new != old else { continue }
      changed = true
      table.pointer.setBig64(index * size, new.descriptor)
      if size == 16 { table.pointer.setBig64(index * size + 8, new.bitmap) }
    }
    if changed { try storage.write(from: table.pointer, count: table.count, at: offset) }
  }

  private func repaired(_ old: L2Entry) -> L2Entry {
    // What an impossible entry meant is lost; with a backing file the old bytes must not shine through.
    let lost =
      geometry.version < 3
      ? L2Entry.unallocated
      : geometry.hasSubclusters
        ? L2Entry(descriptor: 0, bitmap: 0xffff_ffff_0000_0000)
        : L2Entry(descriptor: EntryBits.zero)
    if old.isCompressed {
      if geometry.hasExternalData || old.bitmap != 0 { return lost }
      return L2Entry(descriptor: old.descriptor & ~EntryBits.copied)
    }
    if old.allocatedUnits & old.zeroUnits != 0 { return lost }
    if geometry.hasExternalData { return old }
    let host = old.hostOffset
    if host == 0 {
      return old.allocatedUnits != 0 ? lost : old
    }
    let cluster = host >> geometry.clusterBits
    if host & (geometry.clusterSize - 1) != 0 || cluster >= clusterCount { return lost }
    let flag = stored[cluster] == 1 ? EntryBits.copied : 0
    return L2Entry(descriptor: old.descriptor & ~EntryBits.copied | flag, bitmap: old.bitmap)
  }
}
