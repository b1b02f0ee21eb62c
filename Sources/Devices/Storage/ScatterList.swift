// The guest memory that one command moves data to or from, in pieces, as system calls take them.

import CLinux
import GuestMemory

/// A list of pieces of guest RAM. Allocated once for a slot and used again for every command in it.
final class ScatterList: SCSIBuffers {
  /// Pieces that one vectored system call takes.
  static let vectorLimit = 1024
  private static let smallCapacity = 64

  private var vectors: UnsafeMutablePointer<iovec>
  private var capacity: Int
  private(set) var count = 0
  private(set) var byteCount: UInt64 = 0

  init() {
    capacity = Self.smallCapacity
    vectors = .allocate(capacity: capacity)
  }

  deinit { vectors.deallocate() }

  var pieces: UnsafeBufferPointer<iovec> { UnsafeBufferPointer(start: vectors, count: count) }

  func removeAll() {
    count = 0
    byteCount = 0
    if capacity > Self.vectorLimit { grow(to: Self.smallCapacity) }
  }

  /// Adds `length` bytes, which must not be 0.
  func append(_ pointer: UnsafeMutableRawPointer, count length: Int) {
    if count == capacity { grow(to: 2 &* capacity) }
    (vectors + count).initialize(to: iovec(iov_base: pointer, iov_len: length))
    count &+= 1
    byteCount &+= UInt64(length)
  }

  private func grow(to newCapacity: Int) {
    let larger = UnsafeMutablePointer<iovec>.allocate(capacity: newCapacity)
    larger.update(from: vectors, count: count)
    vectors.deallocate()
    vectors = larger
    capacity = newCapacity
  }

  /// Forgets what is beyond `limit` bytes.
  func limit(to limit: UInt64) {
    while byteCount > limit && count > 0 {
      let last = vectors[count &- 1].iov_len
      let excess = min(byteCount &- limit, UInt64(last))
      vectors[count &- 1].iov_len = last &- Int(excess)
      byteCount &-= excess
      if vectors[count &- 1].iov_len == 0 { count &-= 1 }
    }
  }

  /// Copies bytes to the guest, as far as there is room; returns how many.
  func put(_ bytes: [UInt8]) -> Int {
    bytes.withUnsafeBytes { source in
      copy(limit: source.count) { piece, offset, length in
        if let start = source.baseAddress { memcpy(piece, start + offset, length) }
      }
    }
  }

  /// Copies up to `limit` bytes from the guest.
  func take(_ limit: Int) -> [UInt8] {
    let length = Int(min(UInt64(max(limit, 0)), byteCount))
    return [UInt8](unsafeUninitializedCapacity: length) { target, filled in
      filled = copy(limit: length) { piece, offset, length in
        if let start = target.baseAddress { memcpy(start + offset, piece, length) }
      }
    }
  }

  private func copy(
    limit: Int, _ body: (UnsafeMutableRawPointer, _ offset: Int, _ length: Int) -> Void
  ) -> Int {
    var done = 0
    var index = 0
    while done < limit && index < count {
      let length = min(vectors[index].iov_len, limit &- done)
      if let piece = vectors[index].iov_base { body(piece, done, length) }
      done &+= length
      index &+= 1
    }
    return done
  }

  /// Notes that the first `written` bytes were written.
  func markWritten(_ written: UInt64, in memory: GuestMemory) {
    guard memory.wantsMarks else { return }
    var rest = written
    for piece in pieces where rest > 0 {
      let length = min(UInt64(piece.iov_len), rest)
      if let start = piece.iov_base { memory.markDirty(host: start, count: Int(length)) }
      rest &-= length
    }
  }

  /// Calls `body` with runs of pieces that one system call takes, and with the bytes before each.
  func forEachRun<Failure: Error>(
    _ body: (UnsafeBufferPointer<iovec>, _ offset: UInt64) throws(Failure) -> Void
  ) throws(Failure) {
    var first = 0
    var offset: UInt64 = 0
    while first < count {
      let length = min(count &- first, Self.vectorLimit)
      let run = UnsafeBufferPointer(start: vectors + first, count: length)
      try body(run, offset)
      for piece in run { offset &+= UInt64(piece.iov_len) }
      first &+= length
    }
  }

  // MARK: SCSIBuffers

  var room: UInt64 { byteCount }

  func prefix(_ count: UInt64) -> UnsafeBufferPointer<iovec> {
    limit(to: count)
    return pieces
  }
}
