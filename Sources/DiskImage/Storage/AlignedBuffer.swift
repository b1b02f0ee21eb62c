// Memory for metadata, copies and compressed clusters: page-aligned, so that O_DIRECT takes it.
import CLinux

/// A block of memory, freed with the object.
final class AlignedBuffer: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  let count: Int

  init(count: Int) {
    self.count = max(count, 1)
    pointer = UnsafeMutableRawPointer.allocate(byteCount: self.count, alignment: 4096)
  }

  deinit { pointer.deallocate() }

  func clear() { memset(pointer, 0, count) }
}

/// Buffers of one size that are used again and again, so that a request allocates nothing.
final class BufferPool: @unchecked Sendable {
  let size: Int
  private let lock = ConditionLock()
  private var idle: [UnsafeMutableRawPointer] = []
  /// More idle buffers than this are given back.
  private let keep: Int

  init(size: Int, keep: Int) {
    self.size = max(size, 4096)
    self.keep = keep
    idle.reserveCapacity(keep)
  }

  deinit { for pointer in idle { pointer.deallocate() } }

  func take() -> UnsafeMutableRawPointer {
    lock.lock()
    let pointer = idle.popLast()
    lock.unlock()
    return pointer ?? UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
  }

  func give(_ pointer: UnsafeMutableRawPointer) {
    lock.lock()
    let kept = idle.count < keep
    if kept { idle.append(pointer) }
    lock.unlock()
    if !kept { pointer.deallocate() }
  }
}
