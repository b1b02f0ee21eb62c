// Comparing disks, and storing only what differs.
import CLinux
import Synchronization

/// Comparing disks.
public enum DiskDifference {
  /// The first byte that differs, or nil when the disks hold the same.
  ///
  /// A longer disk equals a shorter one when the rest is zeros, unless `strict`.
  public static func first(
    _ one: any BlockDevice, _ other: any BlockDevice, strict: Bool = false,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) -> UInt64? {
    if strict && one.size != other.size { return min(one.size, other.size) }
    let lowest = LowestOffset()
    let end = max(one.size, other.size)
    let copy = ParallelCopy(
      one, end: end, pieceSize: DiskConversion.pieceSize, progress: progress
    ) { (offset, limit) throws(DiskImageError) in
      if lowest.value < offset {
        return BlockExtent(count: limit, isZero: true, isAllocated: false)
      }
      return try commonExtent(one, other, offset, limit)
    }
    copy.readsSource = false
    let threads = ParallelCopy.defaultThreads
    try copy.run(threads: threads) {
      let second = AlignedBuffer(count: Int(DiskConversion.pieceSize))
      return { (piece, bytes) throws(DiskImageError) in
        try readPadded(one, bytes, piece)
        try readPadded(other, second.pointer, piece)
        guard memcmp(bytes, second.pointer, Int(piece.count)) != 0 else { return }
        var index = 0
        while bytes.load(fromByteOffset: index, as: UInt8.self)
          == second.pointer.load(fromByteOffset: index, as: UInt8.self)
        {
          index += 1
        }
        lowest.note(piece.offset + UInt64(index))
      }
    }
    let found = lowest.value
    return found == UInt64.max ? nil : found
  }

  /// A stretch to be compared (`isAllocated`), or one that is zeros on both disks.
  private static func commonExtent(
    _ one: any BlockDevice, _ other: any BlockDevice, _ offset: UInt64, _ limit: UInt64
  ) throws(DiskImageError) -> BlockExtent {
    let first = try paddedExtent(one, offset, limit)
    let second = try paddedExtent(other, offset, min(limit, first.count))
    let isZero = first.isZero && second.isZero
    return BlockExtent(count: second.count, isZero: false, isAllocated: !isZero)
  }

  /// Behind the end of a disk there are zeros.
  static func paddedExtent(_ disk: any BlockDevice, _ offset: UInt64, _ limit: UInt64)
    throws(DiskImageError) -> BlockExtent
  {
    guard offset < disk.size else {
      return BlockExtent(count: limit, isZero: true, isAllocated: false)
    }
    return try disk.extent(at: offset, limit: min(limit, disk.size - offset))
  }

  static func readPadded(
    _ disk: any BlockDevice, _ bytes: UnsafeMutableRawPointer, _ piece: CopyPiece
  ) throws(DiskImageError) {
    let end = disk.size
    let there = piece.offset < end ? Int(min(piece.count, end - piece.offset)) : 0
    if there > 0 {
      try disk.read(
        into: UnsafeMutableRawBufferPointer(start: bytes, count: there), at: piece.offset)
    }
    memset(bytes + there, 0, Int(piece.count) - there)
  }

  /// Stores the units of a piece that `backing` does not hold already.
  static func store(
    _ piece: CopyPiece, _ bytes: UnsafeMutableRawPointer, into image: any BlockDevice,
    unless backing: any BlockDevice, unit: Int
  ) throws(DiskImageError) {
    if piece.isZero { return try storeZeros(piece, into: image, unless: backing) }
    let old = AlignedBuffer(count: Int(piece.count))
    try readPadded(backing, old.pointer, piece)
    var start: Int?
    func flush(_ end: Int) throws(DiskImageError) {
      guard let first = start else { return }
      start = nil
      try image.write(
        from: UnsafeRawBufferPointer(start: bytes + first, count: end - first),
        at: piece.offset + UInt64(first))
    }
    var position = 0
    while position < Int(piece.count) {
      let next = min(position + unit, Int(piece.count))
      if memcmp(bytes + position, old.pointer + position, next - position) == 0 {
        try flush(position)
      } else if start == nil {
        start = position
      }
      position = next
    }
    try flush(Int(piece.count))
  }

  /// Zeros must be stored only where the backing file has something else.
  private static func storeZeros(
    _ piece: CopyPiece, into image: any BlockDevice, unless backing: any BlockDevice
  ) throws(DiskImageError) {
    var position = piece.offset
    let end = piece.offset + piece.count
    while position < end {
      let below = try paddedExtent(backing, position, end - position)
      if below.count == 0 { return }
      if !below.isZero { try image.writeZeroes(at: position, count: below.count) }
      position += below.count
    }
  }
}

/// The lowest offset that any thread has found.
private final class LowestOffset: Sendable {
  private let lowest = Mutex<UInt64>(UInt64.max)
  var value: UInt64 { lowest.withLock { $0 } }
  func note(_ offset: UInt64) { lowest.withLock { $0 = min($0, offset) } }
}
