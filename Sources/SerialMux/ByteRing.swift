// The last bytes of an endless stream, each with its position from the beginning.

/// A ring of bytes with absolute positions. Takes memory only as the stream grows to its capacity.
struct ByteRing: Sendable {
  /// Bytes that are kept at most.
  let capacity: Int
  /// Position after the newest byte: how many there ever were.
  private(set) var end: UInt64 = 0
  /// Position `p` is at `p % capacity`. Shorter than the capacity until the ring was full once.
  private var storage: [UInt8] = []

  init(capacity: Int) { self.capacity = max(capacity, 1) }

  /// Position of the oldest byte that is left.
  var start: UInt64 { end > UInt64(capacity) ? end - UInt64(capacity) : 0 }

  /// Adds bytes; the oldest make room.
  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    var bytes = bytes
    if storage.count < capacity {
      let taken = min(capacity - storage.count, bytes.count)
      storage.append(contentsOf: bytes.prefix(taken))
      end += UInt64(taken)
      bytes = UnsafeRawBufferPointer(rebasing: bytes[taken...])
    }
    // What would be overwritten at once is only counted.
    if bytes.count > capacity {
      end += UInt64(bytes.count - capacity)
      bytes = UnsafeRawBufferPointer(rebasing: bytes.suffix(capacity))
    }
    while !bytes.isEmpty {
      let index = Int(end % UInt64(capacity))
      let count = min(bytes.count, capacity - index)
      storage.withUnsafeMutableBytes { storage in
        // `index + count` is at most `capacity`, which is the size of a storage that is full.
        UnsafeMutableRawBufferPointer(rebasing: storage[index..<index + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      }
      end += UInt64(count)
      bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
    }
  }

  /// Copies bytes from `position` on, as many as there are and fit. Nothing when the position is not in the ring.
  func copy(from position: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard position >= start, position < end else { return 0 }
    let total = min(buffer.count, Int(end - position))
    var copied = 0
    while copied < total {
      let index = Int((position + UInt64(copied)) % UInt64(capacity))
      let count = min(total - copied, storage.count - index)
      storage.withUnsafeBytes { storage in
        UnsafeMutableRawBufferPointer(rebasing: buffer[copied..<copied + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[index..<index + count]))
      }
      copied += count
    }
    return copied
  }

  /// The first position at or after `position` where a line begins, if one is near; else `position`.
  func lineStart(from position: UInt64) -> UInt64 {
    guard position > 0, position >= start else { return max(position, start) }
    var current = position
    let limit = min(end, position + 4096)
    while current < limit {
      if storage[Int(current % UInt64(capacity))] == 0x0A { return current + 1 }
      current += 1
    }
    return position
  }
}
