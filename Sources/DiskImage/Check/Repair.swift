// Making an image consistent again. Counts that are too low come first: from then on a crash loses nothing that is left.
import CLinux

extension ImageChecker {
  /// Passes over an image at most: what one pass gives up can leave counts too high, and then flags.
  private static let passes = 4

  /// Repairs what `check` found, then looks again.
  package func repair(_ mode: RepairMode) throws(DiskImageError) -> CheckReport {
    let before = try check()
    guard mode != .none else { return before }
    let mustChange = before.corruptions + before.leaks > 0 || before.wasDirty || before.wasCorrupt
    guard mustChange else { return before }
    if mode == .leaks && needsRebuild { return before }
    var current = self
    var after = before
    for _ in 0..<Self.passes {
      try current.repairOnce(mode)
      current = try ImageChecker(storage, progress)
      after = try current.check()
      if mode == .leaks || after.corruptions + after.leaks == 0 { break }
    }
    return try current.finish(mode, before, after)
  }

  private func repairOnce(_ mode: RepairMode) throws(DiskImageError) {
    if mode == .all {
      if hasBrokenBitmaps {
        header.autoclear &= ~Qcow2Header.bitmapsConsistent
        try storage.writeBytes(header.encodedFeatureBits(), at: Qcow2Header.featureBitsOffset)
      }
      if !needsRebuild { try writeCounts(raise: true) }
      // Entries are judged in the next pass, when the refcount structures are out of their way.
      if needsRebuild { return try rebuildRefcounts() }
      try storage.flush()
      try repairTables()
    }
    try writeCounts(raise: false)
    try storage.flush()
  }

  /// Takes the marks off an image that is consistent now.
  private func finish(_ mode: RepairMode, _ before: CheckReport, _ after: CheckReport)
    throws(DiskImageError) -> CheckReport
  {
    if mode == .all && after.corruptions == 0 && (after.wasDirty || after.wasCorrupt) {
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
          needsRebuild = true
          return
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
    // A snapshot's tables first: those that the active disk shares get their flags last.
    for snapshot in snapshots.entries {
      let end = snapshot.l1Offset + UInt64(snapshot.l1Size) * 8
      guard snapshot.l1Offset > 0, end <= clusterCount << geometry.clusterBits else { continue }
      var table = try Qcow2Image.readTable(
        storage, snapshot.l1Offset, entries: UInt64(snapshot.l1Size))
      try repairTables(&table, at: snapshot.l1Offset, isActive: false)
    }
    try repairTables(&l1, at: header.l1Offset, isActive: true)
  }

  private func repairTables(_ table: inout [UInt64], at place: UInt64, isActive: Bool)
    throws(DiskImageError)
  {
    var own = ClusterSet()
    for index in table.indices where table[index] & EntryBits.offset != 0 {
      let offset = table[index] & EntryBits.offset
      let cluster = offset >> geometry.clusterBits
      let isPossible =
        offset & (geometry.clusterSize - 1) == 0 && cluster < clusterCount
        && !tables.contains(cluster) && own.insert(cluster)
      var wanted = table[index]
      if !isPossible {
        wanted = 0
      } else if isActive {
        wanted = offset | (stored[cluster] == 1 ? EntryBits.copied : 0)
      }
      if wanted != table[index] {
        table[index] = wanted
        var word: [UInt8] = []
        word.appendBig(wanted)
        try storage.writeBytes(word, at: place + UInt64(index) * 8)
      }
      if isPossible { try repairTable(at: offset, isActive: isActive) }
    }
  }

  private func repairTable(at offset: UInt64, isActive: Bool) throws(DiskImageError) {
    let table = AlignedBuffer(count: Int(geometry.clusterSize))
    try storage.read(into: table.pointer, count: table.count, at: offset)
    var changed = false
    let size = Int(geometry.l2EntrySize)
    for index in 0..<Int(geometry.l2Entries) {
      var old = L2Entry(descriptor: table.pointer.big64(index * size))
      if size == 16 { old.bitmap = table.pointer.big64(index * size + 8) }
      let new = repaired(old, isActive: isActive)
      guard new != old else { continue }
      changed = true
      table.pointer.setBig64(index * size, new.descriptor)
      if size == 16 { table.pointer.setBig64(index * size + 8, new.bitmap) }
    }
    if changed { try storage.write(from: table.pointer, count: table.count, at: offset) }
  }

  /// A compressed entry whose bytes end before the next table, and with the file at the latest; nil when none of them lies
  /// before. What it claims beyond its stream belongs to others, and would get a second owner.
  private func withinFile(_ descriptor: UInt64) -> UInt64? {
    let place = CompressedPlace(descriptor, geometry)
    let wanted = place.hostClusters(geometry)
    guard let end = wanted.first(where: { $0 >= clusterCount || isTable($0) }) else {
      return descriptor
    }
    if end == wanted.lowerBound { return nil }
    return CompressedPlace.descriptor(
      offset: place.offset, count: (end << geometry.clusterBits) - place.offset, geometry)
  }

  /// What an entry becomes. Copied flags mean something in the active tables only.
  private func repaired(_ old: L2Entry, isActive: Bool) -> L2Entry {
    // What an impossible entry meant is lost; with a backing file the old bytes must not shine through.
    let lost =
      geometry.version < 3
      ? L2Entry.unallocated
      : geometry.hasSubclusters
        ? L2Entry(descriptor: 0, bitmap: 0xffff_ffff_0000_0000)
        : L2Entry(descriptor: EntryBits.zero)
    if old.isCompressed {
      if geometry.hasExternalData || old.bitmap != 0 { return lost }
      return withinFile(old.descriptor & ~EntryBits.copied).map { L2Entry(descriptor: $0) } ?? lost
    }
    if old.allocatedUnits & old.zeroUnits != 0 { return lost }
    if geometry.hasExternalData { return old }
    let host = old.hostOffset
    if host == 0 {
      return old.allocatedUnits != 0 ? lost : old
    }
    let cluster = host >> geometry.clusterBits
    if host & (geometry.clusterSize - 1) != 0 || cluster >= clusterCount || isTable(cluster) {
      return lost
    }
    guard isActive else { return old }
    let flag = stored[cluster] == 1 ? EntryBits.copied : 0
    return L2Entry(descriptor: old.descriptor & ~EntryBits.copied | flag, bitmap: old.bitmap)
  }
}
