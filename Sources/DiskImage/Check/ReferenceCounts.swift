// One small counter per host cluster, for files of any size.
import CLinux

/// Counters in a byte each; the few that need more go to a dictionary. Memory is reserved for the whole file, and used
/// where a counter was touched.
final class ReferenceCounts {
  let count: UInt64
  private let bytes: UnsafeMutablePointer<UInt8>
  private let size: Int
  private var large: [UInt64: UInt64] = [:]
  private static let isLarge: UInt8 = 255

  /// - Throws: `.unsupported` when the file has more clusters than there is address space.
  init(count: UInt64, path: String) throws(DiskImageError) {
    self.count = count
    size = Int(clamping: max(count, 8).roundedUp(to: 4096))
    let map = mmap(
      nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let map, map != linux_map_failed() else {
      throw DiskImageError(.unsupported, path, "is too large to be checked on this machine")
    }
    bytes = map.assumingMemoryBound(to: UInt8.self)
  }

  deinit { munmap(bytes, size) }

  @inline(__always)
  subscript(_ cluster: UInt64) -> UInt64 {
    get {
      guard cluster < count else { return 0 }
      let small = bytes[Int(cluster)]
      return small == Self.isLarge ? large[cluster] ?? 0 : UInt64(small)
    }
    set {
      guard cluster < count else { return }
      if newValue < UInt64(Self.isLarge) {
        if bytes[Int(cluster)] == Self.isLarge { large[cluster] = nil }
        bytes[Int(cluster)] = UInt8(newValue)
      } else {
        bytes[Int(cluster)] = Self.isLarge
        large[cluster] = newValue
      }
    }
  }

  @inline(__always)
  func add(_ cluster: UInt64) {
    let small = bytes[Int(cluster)]
    if small < Self.isLarge - 1 { bytes[Int(cluster)] = small + 1 } else { self[cluster] += 1 }
  }

  /// The next cluster from `start` on whose counters differ, or nil.
  func firstDifference(from start: UInt64, to other: ReferenceCounts) -> UInt64? {
    var cluster = Int(start)
    let end = Int(count)
    while cluster < end {
      if cluster & 7 == 0 && cluster + 8 <= end {
        let raw = UnsafeRawPointer(bytes)
        let mine = raw.load(fromByteOffset: cluster, as: UInt64.self)
        let theirs = UnsafeRawPointer(other.bytes).load(fromByteOffset: cluster, as: UInt64.self)
        if mine == theirs && !Self.mayHaveLarge(mine) {
          cluster += 8
          continue
        }
      }
      if self[UInt64(cluster)] != other[UInt64(cluster)] { return UInt64(cluster) }
      cluster += 1
    }
    return nil
  }

  @inline(__always)
  private static func mayHaveLarge(_ word: UInt64) -> Bool {
    // Some byte is 255 only if its inverse is 0: the usual test for a zero byte.
    let inverse = ~word
    return (inverse &- 0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 != 0
  }

  /// The last cluster with a counter above zero, plus one.
  var end: UInt64 {
    var cluster = count
    while cluster > 0 && bytes[Int(cluster) - 1] == 0 { cluster -= 1 }
    return cluster
  }
}
