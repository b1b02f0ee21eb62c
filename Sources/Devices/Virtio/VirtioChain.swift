// One request: the buffers of a descriptor chain, as scatter-gather lists that system calls take. Allocated once a
// queue and used again for every request.

import CLinux
import GuestMemory

/// The buffers of one descriptor chain, those to read first. All of them lie in guest RAM.
public final class VirtioChain: @unchecked Sendable {
  // @unchecked: used by one thread at a time, with the queue that fills it.
  /// Most buffers of one chain: what one vectored system call takes.
  public static let capacity = 1024

  /// The descriptor that the chain begins with: what it is given back by.
  public private(set) var head: UInt16 = 0
  private let segments: UnsafeMutablePointer<iovec>
  /// What the device may write, as the driver gave it: buffers shrink while they are used.
  private let targets: UnsafeMutablePointer<iovec>
  private var targetCount = 0
  /// Buffers of both directions.
  public private(set) var count = 0
  private var readableCount = 0
  public private(set) var readableBytes: UInt64 = 0
  public private(set) var writableBytes: UInt64 = 0

  public init() {
    segments = .allocate(capacity: Self.capacity)
    segments.initialize(repeating: iovec(), count: Self.capacity)
    // Filled as far as it is used: a queue has many chains.
    targets = .allocate(capacity: Self.capacity)
  }

  deinit {
    segments.deallocate()
    targets.deallocate()
  }

  /// Every byte that the device may have written.
  var written: UnsafeBufferPointer<iovec> {
    UnsafeBufferPointer(start: targets, count: targetCount)
  }

  /// What the device reads.
  public var readable: UnsafeBufferPointer<iovec> {
    UnsafeBufferPointer(start: segments, count: readableCount)
  }

  /// As `readable`, without the buffers in front that were taken whole.
  var filledReadable: UnsafeBufferPointer<iovec> {
    var first = 0
    while first < readableCount && segments[first].iov_len == 0 { first &+= 1 }
    return UnsafeBufferPointer(start: segments + first, count: readableCount &- first)
  }

  /// What the device writes.
  public var writable: UnsafeBufferPointer<iovec> {
    UnsafeBufferPointer(start: segments + readableCount, count: count &- readableCount)
  }

  func begin(head: UInt16) {
    self.head = head
    count = 0
    targetCount = 0
    readableCount = 0
    readableBytes = 0
    writableBytes = 0
  }

  func append(
    _ pointer: UnsafeMutableRawPointer, address: UInt64, count length: UInt32, isWritable: Bool
  ) throws(VirtioViolation) {
    guard count < Self.capacity else { throw .chainLength }
    if isWritable {
      writableBytes &+= UInt64(length)
    } else {
      guard readableCount == count else { throw .bufferOrder }
      readableCount &+= 1
      readableBytes &+= UInt64(length)
    }
    // The used ring counts in 32 bits (2.7.8).
    guard readableBytes &+ writableBytes <= UInt64(UInt32.max) else { throw .chainLength }
    segments[count] = iovec(iov_base: pointer, iov_len: Int(length))
    if isWritable {
      (targets + targetCount).initialize(to: segments[count])
      targetCount &+= 1
    }
    count &+= 1
  }

  // MARK: Headers and trailers

  /// Copies `target.count` bytes from the front of the readable part and takes them off. False: there are not so many.
  public func takeFront(_ target: UnsafeMutableRawBufferPointer) -> Bool {
    guard UInt64(target.count) <= readableBytes else { return false }
    var done = 0
    var index = 0
    while done < target.count {
      let piece = min(segments[index].iov_len, target.count &- done)
      if piece > 0, let source = segments[index].iov_base, let start = target.baseAddress {
        memcpy(start + done, source, piece)
        advance(index, by: piece)
        done &+= piece
      }
      index &+= 1
    }
    readableBytes &-= UInt64(target.count)
    return true
  }

  /// Takes the last writable byte off and returns where it stands.
  public func takeLastWritableByte() -> UnsafeMutablePointer<UInt8>? {
    guard count > readableCount, let base = segments[count &- 1].iov_base else { return nil }
    let length = segments[count &- 1].iov_len
    segments[count &- 1].iov_len = length &- 1
    writableBytes &-= 1
    if length == 1 { count &-= 1 }
    return (base + (length &- 1)).assumingMemoryBound(to: UInt8.self)
  }

  /// Copies `source` to the front of the writable part and takes it off. Returns how many bytes had room.
  @discardableResult
  public func putFront(_ source: UnsafeRawBufferPointer) -> Int {
    var done = 0
    var index = readableCount
    while done < source.count && index < count {
      let piece = min(segments[index].iov_len, source.count &- done)
      if piece > 0, let target = segments[index].iov_base, let start = source.baseAddress {
        memcpy(target, start + done, piece)
        advance(index, by: piece)
        done &+= piece
      }
      index &+= 1
    }
    writableBytes &-= UInt64(done)
    return done
  }

  /// Where `count` bytes at `offset` of the writable part stand, if in one piece.
  func writablePlace(at offset: Int, _ count: Int) -> UnsafeMutableRawPointer? {
    var start = offset
    var index = readableCount
    while index < self.count {
      let length = segments[index].iov_len
      if start < length {
        return start &+ count <= length ? segments[index].iov_base.map { $0 + start } : nil
      }
      start &-= length
      index &+= 1
    }
    return nil
  }

  /// Takes `count` bytes from the front of the writable part off, to be filled later, and notes in `pieces` where they
  /// stand. Returns how many pieces there are, or nil when there are not so many bytes or pieces.
  func reserveFront(_ count: Int, in pieces: UnsafeMutableBufferPointer<iovec>) -> Int? {
    guard UInt64(count) <= writableBytes else { return nil }
    var done = 0
    var pieceCount = 0
    var index = readableCount
    while done < count {
      let piece = min(segments[index].iov_len, count &- done)
      if piece > 0 {
        guard pieceCount < pieces.count else { return nil }
        pieces[pieceCount] = iovec(iov_base: segments[index].iov_base, iov_len: piece)
        pieceCount &+= 1
        advance(index, by: piece)
        done &+= piece
      }
      index &+= 1
    }
    writableBytes &-= UInt64(count)
    return pieceCount
  }

  /// Forgets writable bytes beyond `limit`.
  func limitWritable(to limit: UInt64) {
    while writableBytes > limit && count > readableCount {
      let last = segments[count &- 1].iov_len
      let excess = min(writableBytes &- limit, UInt64(last))
      segments[count &- 1].iov_len = last &- Int(excess)
      writableBytes &-= excess
      if segments[count &- 1].iov_len == 0 { count &-= 1 }
    }
  }

  private func advance(_ index: Int, by count: Int) {
    segments[index].iov_base = segments[index].iov_base.map { $0 + count }
    segments[index].iov_len &-= count
  }
}

extension VirtioChain: SCSIBuffers {
  public var room: UInt64 { writableBytes }

  public func prefix(_ count: UInt64) -> UnsafeBufferPointer<iovec> {
    limitWritable(to: count)
    return writable
  }
}
