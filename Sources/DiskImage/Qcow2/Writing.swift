// Writes: in place where the cluster is ours alone, into new clusters otherwise.
import CLinux

extension Qcow2Image {
  public func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    let list = BufferList(vectors: vectors, count: count)
    let total = list.byteCount
    try requireWritable()
    try checkRange(offset, total)
    let generation = try begin()
    defer { gate.leave(generation) }
    try relievePressure()
    try writeMapped(list, from: 0, count: total, at: offset)
  }

  /// Writes without entering the gate: the caller is inside.
  func writeMapped(_ list: BufferList, from start: UInt64, count total: UInt64, at offset: UInt64)
    throws(DiskImageError)
  {
    var done: UInt64 = 0
    while done < total {
      lock.lock()
      let step: WriteStep
      do throws(DiskImageError) {
        step = try planWrite(at: offset + done, limit: total - done)
      } catch {
        lock.unlock()
        throw error
      }
      lock.unlock()
      switch step {
      case .again: continue
      case .inPlace(let host, let count):
        try list.withSlice(from: start + done, count: count) {
          (slice, pieces) throws(DiskImageError) in
          try dataStorage.write(slice, pieces, at: host)
        }
        done += count
      case .allocate(let plan):
        try carryOut(plan, list, from: start + done)
        done += plan.dataCount
      }
    }
  }
}

/// What to do with the next stretch of a write.
enum WriteStep {
  /// Another request was changing this place; it has finished.
  case again
  case inPlace(host: UInt64, count: UInt64)
  case allocate(AllocationPlan)
}

/// Guest clusters that get new places, and the data that goes there.
struct AllocationPlan {
  /// Guest clusters.
  var first: UInt64
  var count: UInt64
  /// Host byte offset of the first one.
  var host: UInt64
  /// Taken for this; otherwise the cluster had its place and only some of it becomes valid.
  var isNew: Bool
  /// The place reads as zeros.
  var hostIsZero: Bool
  /// The request's bytes, by guest offset.
  var dataStart: UInt64
  var dataCount: UInt64
  /// What becomes valid: the data, and around it what is copied to fill whole units.
  var fillStart: UInt64
  var fillEnd: UInt64
  var dataEnd: UInt64 { dataStart + dataCount }
}

extension Qcow2Image {
  /// Decides on the next stretch; reserves what it needs. Needs the lock.
  private func planWrite(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> WriteStep {
    if let failure { throw failure }
    let run = try mapping(at: offset, limit: limit)
    let cluster = offset >> geometry.clusterBits
    if run.kind == .data && run.isCopied && isTableWritable(cluster) {
      try requireData(run.host, count: run.count)
      return .inPlace(host: run.host, count: run.count)
    }
    if waitIfInFlight(cluster, 1) { return .again }
    try makeTableWritable(for: cluster)
    let plan = try planAllocation(at: offset, limit: limit)
    inFlight.append(InFlight(first: plan.first, count: plan.count))
    return .allocate(plan)
  }

  /// The L2 table of a cluster exists and belongs to the active disk alone.
  @inline(__always)
  func isTableWritable(_ cluster: UInt64) -> Bool {
    l1[Int(cluster >> geometry.l2Bits)] & EntryBits.copied != 0
  }

  /// Waits when one of the clusters is being changed by another request. Whatever was looked up before is stale then.
  func waitIfInFlight(_ first: UInt64, _ count: UInt64) -> Bool {
    guard isInFlight(first, count) else { return false }
    waiters += 1
    lock.wait()
    waiters -= 1
    return true
  }

  func isInFlight(_ first: UInt64, _ count: UInt64) -> Bool {
    for other in inFlight where other.first < first + count && first < other.first + other.count {
      return true
    }
    return false
  }

  func endFlight(_ first: UInt64) {
    if let index = inFlight.firstIndex(where: { $0.first == first }) {
      inFlight.swapAt(index, inFlight.count - 1)
      inFlight.removeLast()
    }
    if waiters > 0 { lock.broadcast() }
  }

  private func planAllocation(at offset: UInt64, limit: UInt64) throws(DiskImageError)
    -> AllocationPlan
  {
    let cluster = offset >> geometry.clusterBits
    guard let slice = try l2Slice(of: cluster) else {
      throw badEntry(cluster)
    }
    let entry = entry(slice, cluster & (geometry.l2EntriesPerSlice - 1))
    if !entry.isCompressed && hasHost(entry) {
      if entry.isCopied { return try planFilling(entry, cluster, at: offset, limit: limit) }
      if geometry.hasSubclusters && entry.allocatedUnits != 0 {
        return try planNew(cluster, 1, at: offset, limit: limit, wholeClusters: true)
      }
    }
    if geometry.hasSubclusters && entry.isCompressed {
      return try planNew(cluster, 1, at: offset, limit: limit, wholeClusters: true)
    }
    let wanted = min(
      geometry.clusters(geometry.offsetInCluster(offset) + limit),
      geometry.l2EntriesPerSlice - (cluster & (geometry.l2EntriesPerSlice - 1)))
    var count: UInt64 = 1
    while count < wanted, needsNewPlace(slice, cluster + count) { count += 1 }
    return try planNew(cluster, count, at: offset, limit: limit, wholeClusters: false)
  }

  /// Whether a further cluster of a run is to be allocated in the same way as the first.
  private func needsNewPlace(_ slice: UnsafeMutableRawPointer, _ cluster: UInt64) -> Bool {
    let entry = entry(slice, cluster & (geometry.l2EntriesPerSlice - 1))
    if isInFlight(cluster, 1) { return false }
    if geometry.hasSubclusters { return !entry.isCompressed && !hasHost(entry) }
    return entry.isCompressed || !hasHost(entry) || !entry.isCopied
  }

  /// The cluster has a place of its own of which these units are not valid yet.
  private func planFilling(_ entry: L2Entry, _ cluster: UInt64, at offset: UInt64, limit: UInt64)
    throws(DiskImageError) -> AllocationPlan
  {
    let base = cluster << geometry.clusterBits
    var end = min(offset + limit, base + geometry.clusterSize)
    if geometry.hasSubclusters {
      // Stop before the next unit that is valid: others may be writing there.
      var unit = (offset - base) / geometry.unit + 1
      while unit < 32 && entry.allocatedUnits >> UInt32(unit) & 1 == 0 { unit += 1 }
      end = min(end, base + unit * geometry.unit)
    }
    let host = entry.hostOffset
    try requireData(host, count: geometry.clusterSize)
    return AllocationPlan(
      first: cluster, count: 1, host: host, isNew: false, hostIsZero: false, dataStart: offset,
      dataCount: end - offset, fillStart: offset.roundedDown(to: geometry.unit),
      fillEnd: end.roundedUp(to: geometry.unit))
  }

  /// New places for a run of clusters.
  private func planNew(
    _ cluster: UInt64, _ wanted: UInt64, at offset: UInt64, limit: UInt64, wholeClusters: Bool
  ) throws(DiskImageError) -> AllocationPlan {
    let base = cluster << geometry.clusterBits
    let run: ClusterRun
    if geometry.hasExternalData {
      run = ClusterRun(first: cluster, count: wanted)
    } else {
      run = try allocate(wanted)
    }
    let end = min(offset + limit, base + (run.count << geometry.clusterBits))
    let unit = wholeClusters ? geometry.clusterSize : geometry.unit
    return AllocationPlan(
      first: cluster, count: run.count, host: run.first << geometry.clusterBits, isNew: true,
      hostIsZero: run.isZero, dataStart: offset, dataCount: end - offset,
      fillStart: offset.roundedDown(to: unit), fillEnd: end.roundedUp(to: unit))
  }
}
