// Reads: look a run up, move its bytes, go on.
import CLinux

extension Qcow2Image {
  public func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    let list = BufferList(vectors: vectors, count: count)
    let total = list.byteCount
    try checkRange(offset, total)
    let generation = try begin()
    defer { gate.leave(generation) }
    try readMapped(list, from: 0, count: total, at: offset)
  }

  /// Reads without entering the gate: the caller is inside.
  func readMapped(_ list: BufferList, from start: UInt64, count total: UInt64, at offset: UInt64)
    throws(DiskImageError)
  {
    var done: UInt64 = 0
    while done < total {
      lock.lock()
      let run: Mapping
      do throws(DiskImageError) { run = try mapping(at: offset + done, limit: total - done) } catch
      {
        lock.unlock()
        throw error
      }
      lock.unlock()
      switch run.kind {
      case .data:
        try list.withSlice(from: start + done, count: run.count) {
          (slice, pieces) throws(DiskImageError) in
          try dataStorage.read(slice, pieces, at: run.host)
        }
      case .zero:
        list.zero(from: start + done, count: run.count)
      case .unallocated:
        try readBacking(list, from: start + done, count: run.count, at: offset + done)
      case .compressed:
        try readCompressed(
          run.host, at: offset + done, count: run.count, into: list, from: start + done)
      }
      done += run.count
    }
  }

  /// The backing file's bytes, and zeros behind its end.
  private func readBacking(
    _ list: BufferList, from start: UInt64, count: UInt64, at offset: UInt64
  ) throws(DiskImageError) {
    var there: UInt64 = 0
    if let backing {
      let end = backing.size
      there = offset < end ? min(count, end - offset) : 0
      if there > 0 {
        try list.withSlice(from: start, count: there) { (slice, pieces) throws(DiskImageError) in
          try backing.readVectors(slice, pieces, at: offset)
        }
      }
    }
    if there < count { list.zero(from: start + there, count: count - there) }
  }

  /// Reads a stretch of the disk into plain memory; what lies behind the end of the disk is zeros.
  func readPlain(_ bytes: UnsafeMutableRawPointer, count: UInt64, at offset: UInt64)
    throws(DiskImageError)
  {
    let end = size
    let there = offset < end ? min(count, end - offset) : 0
    if there > 0 {
      let vector = iovec(iov_base: bytes, iov_len: Int(there))
      try withUnsafePointer(to: vector) { (pointer) throws(DiskImageError) in
        try readMapped(
          BufferList(vectors: pointer, count: 1), from: 0, count: there, at: offset)
      }
    }
    if there < count { memset(bytes + Int(there), 0, Int(count - there)) }
  }

  public func extent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> BlockExtent {
    try checkRange(offset, 0)
    let generation = try begin()
    defer { gate.leave(generation) }
    return try extentMapped(at: offset, limit: min(limit, size - offset))
  }

  /// `extent` without entering the gate.
  func extentMapped(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> BlockExtent {
    guard limit > 0 else { return BlockExtent(count: 0, isZero: true, isAllocated: false) }
    let run = try lock.withLock { () throws(DiskImageError) in
      try mapping(at: offset, limit: limit)
    }
    switch run.kind {
    case .data:
      return BlockExtent(count: run.count, isZero: false, isAllocated: true, hostOffset: run.host)
    case .zero:
      return BlockExtent(count: run.count, isZero: true, isAllocated: true)
    case .compressed:
      return BlockExtent(count: run.count, isZero: false, isAllocated: true, isCompressed: true)
    case .unallocated:
      guard let backing, offset < backing.size else {
        return BlockExtent(count: run.count, isZero: true, isAllocated: false)
      }
      var below = try backing.extent(at: offset, limit: min(run.count, backing.size - offset))
      below.depth += 1
      return below
    }
  }

  /// Whether a stretch reads as zeros, as far as the tables of the chain tell.
  func isKnownZero(at offset: UInt64, count: UInt64) throws(DiskImageError) -> Bool {
    let end = min(offset + count, size)
    var position = offset
    while position < end {
      let extent = try extentMapped(at: position, limit: end - position)
      if !extent.isZero || extent.count == 0 { return false }
      position += extent.count
    }
    return true
  }
}
