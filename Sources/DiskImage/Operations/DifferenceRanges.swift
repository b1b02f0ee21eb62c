// Which stretches differ between two disks that grew from a common one. What both find at one place of one file is the
// same without a look.
import CLinux

extension DiskDifference {
  /// The unit of the answer, in bytes.
  public static let rangeUnit: UInt64 = 65536

  /// All stretches that differ, in order, in units of 64 KiB; the last may be shorter.
  ///
  /// - Parameters:
  ///   - files: The chain of files of each disk, the top first, to know what they share.
  ///   - limit: Most stretches of the answer; what differs behind is not told apart any more.
  public static func ranges(
    _ one: any BlockDevice, files first: [String], _ other: any BlockDevice,
    files second: [String], limit: Int = 1 << 20, progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) -> [Range<UInt64>] {
    let end = max(one.size, other.size)
    progress.start(end)
    let buffers = (AlignedBuffer(count: Int(rangeUnit)), AlignedBuffer(count: Int(rangeUnit)))
    var found: [Range<UInt64>] = []
    var position: UInt64 = 0
    while position < end {
      if progress.isCancelled {
        throw DiskImageError(.closed, one.path, "was not compared to the end: cancelled")
      }
      let left = try paddedExtent(one, position, end - position)
      let right = try paddedExtent(other, position, max(1, min(left.count, end - position)))
      let count = min(left.count, right.count)
      guard count > 0 else { break }
      if left.isZero && right.isZero || isShared(left, first, right, second) {
        position += count
        progress.set(position)
        continue
      }
      // To the end of the unit, however the extents lie.
      let start = position.roundedDown(to: rangeUnit)
      let stop = min(start + rangeUnit, end)
      let piece = CopyPiece(offset: start, count: stop - start, isZero: false)
      try readPadded(one, buffers.0.pointer, piece)
      try readPadded(other, buffers.1.pointer, piece)
      if memcmp(buffers.0.pointer, buffers.1.pointer, Int(piece.count)) != 0 {
        if let last = found.indices.last, found[last].upperBound == start || found.count >= limit {
          found[last] = found[last].lowerBound..<stop
        } else {
          found.append(start..<stop)
        }
      }
      position = stop
      progress.set(position)
    }
    return found
  }

  /// Whether both extents are the same bytes of the same file.
  private static func isShared(
    _ left: BlockExtent, _ first: [String], _ right: BlockExtent, _ second: [String]
  ) -> Bool {
    guard let one = left.hostOffset, one == right.hostOffset, first.indices.contains(left.depth),
      second.indices.contains(right.depth), !left.isZero, !right.isZero
    else { return false }
    return first[left.depth] == second[right.depth]
  }
}
