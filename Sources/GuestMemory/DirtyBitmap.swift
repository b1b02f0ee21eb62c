import CLinux
import Platform
import Synchronization

/// One bit for each page of the memfd, set from any thread without a lock.
///
/// A page's bit is set after the page is written, with a full barrier on x86, and cleared before the page is copied:
/// whatever a copy misses is marked for the next one.
@usableFromInline
final class DirtyBitmap: @unchecked Sendable {
  // @unchecked: the words are atomic; the mapping is fixed.
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  private let wordCount: Int
  private let pageCount: UInt64

  /// Reserved, and touched where pages are marked: 512 GiB of guest need up to 16 MiB.
  init(pageCount: UInt64) throws(PlatformError) {
    self.pageCount = pageCount
    wordCount = Int((pageCount + 63) / 64)
    let address = mmap(
      nil, wordCount * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
      0)
    guard let address, address != linux_map_failed() else {
      throw PlatformError(operation: "mmap", code: linux_error_number(), subject: "dirty bitmap")
    }
    // Zeroes are valid atomics.
    words = address.bindMemory(to: Atomic<UInt64>.self, capacity: wordCount)
  }

  deinit { munmap(words, wordCount * 8) }

  /// Marks the pages of `count` bytes from `offset` in the memfd. Bytes beyond its end are ignored.
  @usableFromInline
  func mark(offset: UInt64, count: UInt64) {
    guard count > 0 else { return }
    let first = offset >> 12
    let last = min((offset &+ count &- 1) >> 12, pageCount &- 1)
    guard first <= last else { return }
    for word in first >> 6...last >> 6 {
      var mask = UInt64.max
      if word == first >> 6 { mask &= .max << (first & 63) }
      if word == last >> 6 { mask &= .max >> (63 - last & 63) }
      words[Int(word)].bitwiseOr(mask, ordering: .sequentiallyConsistent)
    }
  }

  /// Takes `pageCount` bits from page `first`, a multiple of 64, and clears them.
  func take(first: UInt64, count: UInt64) -> [UInt64] {
    let start = Int(first / 64)
    let length = Int((count + 63) / 64)
    return [UInt64](unsafeUninitializedCapacity: length) { buffer, used in
      for index in 0..<length {
        // Most words are 0: looking is cheaper than exchanging, and leaves an untouched bitmap untouched.
        let word = words + start + index
        buffer[index] =
          word.pointee.load(ordering: .relaxed) == 0
          ? 0 : word.pointee.exchange(0, ordering: .sequentiallyConsistent)
      }
      used = length
    }
  }

  func clear() {
    // Gives the bitmap's own memory back too; private anonymous memory reads as zeroes afterwards.
    madvise(words, wordCount * 8, Int32(MADV_DONTNEED))
  }
}
