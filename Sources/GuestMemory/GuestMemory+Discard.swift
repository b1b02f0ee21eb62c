import CLinux
import Platform
import Synchronization

// Pages that a guest does not need, given back to the host one range at a time.
extension GuestMemory {
  /// What stands afterwards in pages that were given back.
  public enum DiscardedContent: Sendable {
    /// Anything the guest has seen before, or zeros: it does not look.
    case unspecified
    /// Zeros.
    case zeros
  }

  /// Pieces of zeros in memory that is a file's, at most: each is a mapping of this process, and the host allows 65530.
  private static let pieceLimit = 4096

  /// Gives the whole pages in a range back to the host, and marks them as written. They are the guest's as before: the next
  /// access finds the content that was asked for.
  ///
  /// - Parameters:
  ///   - start: in this process, as `pointer` gives it. What is not all in this memory is left alone.
  ///   - count: bytes.
  /// - Returns: bytes that were given back; 0 where the host refuses.
  @discardableResult
  public func discard(
    host start: UnsafeMutableRawPointer, count: Int, content: DiscardedContent
  ) -> UInt64 {
    guard start >= mapping, count > 0 else { return 0 }
    let offset = UInt64(start - mapping)
    guard offset < size, UInt64(count) <= size &- offset else { return 0 }
    let lower = (offset &+ Self.pageSize &- 1) / Self.pageSize &* Self.pageSize
    let upper = (offset &+ UInt64(count)) / Self.pageSize &* Self.pageSize
    guard lower < upper else { return 0 }
    guard isPrivate ? discardOwn(lower..<upper, content) : punch(lower..<upper) else { return 0 }
    markDirty(host: mapping + Int(lower), count: Int(upper &- lower))
    return upper &- lower
  }

  private func punch(_ range: Range<UInt64>) -> Bool {
    linux_fallocate(
      file.rawValue, Int32(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), Int64(range.lowerBound),
      Int64(range.count)) == 0
  }

  /// Of memory that is a file's: without this process's own pages the file's are seen again.
  private func discardOwn(_ range: Range<UInt64>, _ content: DiscardedContent) -> Bool {
    let target = mapping + Int(range.lowerBound)
    if content == .unspecified {
      return madvise(target, range.count, Int32(MADV_DONTNEED)) == 0
    }
    return zeroed.withLock { pieces in
      if pieces.contains(where: {
        $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound
      }) {
        return madvise(target, range.count, Int32(MADV_DONTNEED)) == 0
      }
      let merged = Self.union(pieces + [range])
      guard merged.count <= Self.pieceLimit else { return false }
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
      let mapped = mmap(target, range.count, PROT_READ | PROT_WRITE, flags, -1, 0)
      guard mapped == target else { return false }
      madvise(target, range.count, Int32(MADV_DONTDUMP))
      hugePages.apply(to: target, count: range.count)
      pieces = merged
      return true
    }
  }

  /// In order, and apart from each other.
  static func union(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
      if let last = result.last, range.lowerBound <= last.upperBound {
        result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  /// Whether nothing but zeros stands in a range of the memory file, told without touching it: a look would have the host
  /// give memory for it. False where that cannot be told.
  package func isHole(_ range: Range<UInt64>) -> Bool {
    guard !isPrivate, range.upperBound <= size else { return false }
    let start = linux_seek_data(file.rawValue, Int64(range.lowerBound))
    return start < 0 ? linux_error_number() == ENXIO : UInt64(start) >= range.upperBound
  }
}
