// Big-endian integers in raw memory (every number in a qcow2 file) and a request's scattered buffers.
import CLinux

extension UnsafeRawPointer {
  @inline(__always) func big16(_ offset: Int) -> UInt16 {
    UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }
  @inline(__always) func big32(_ offset: Int) -> UInt32 {
    UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }
  @inline(__always) func big64(_ offset: Int) -> UInt64 {
    UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
}

extension UnsafeMutableRawPointer {
  @inline(__always) func big64(_ offset: Int) -> UInt64 {
    UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
  @inline(__always) func setBig64(_ offset: Int, _ value: UInt64) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }
}

extension Array where Element: BitwiseCopyable {
  /// The standard library's own forms of these two lose the error's type.
  @inline(__always)
  func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws(DiskImageError) -> R)
    throws(DiskImageError) -> R
  {
    try withUnsafeBufferPointer { (elements) throws(DiskImageError) in
      try body(UnsafeRawBufferPointer(elements))
    }
  }
  @inline(__always)
  mutating func withMutableBytes<R>(
    _ body: (UnsafeMutableRawBufferPointer) throws(DiskImageError) -> R
  ) throws(DiskImageError) -> R {
    try withUnsafeMutableBufferPointer { (elements) throws(DiskImageError) in
      try body(UnsafeMutableRawBufferPointer(elements))
    }
  }
}

extension [UInt8] {
  /// Nil when the integer does not lie in the array.
  func big<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type, at offset: Int) -> T? {
    guard offset >= 0, offset <= count - MemoryLayout<T>.size else { return nil }
    return withUnsafeBytes { T(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }
  mutating func appendBig<T: FixedWidthInteger>(_ value: T) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
  /// The range must exist.
  mutating func setBig<T: FixedWidthInteger>(_ value: T, at offset: Int) {
    withUnsafeMutableBytes { $0.storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self) }
  }
}

extension UInt64 {
  /// Up to a multiple of `unit`, which is a power of two; saturates.
  @inline(__always) func roundedUp(to unit: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(unit &- 1)
    return (overflow ? UInt64.max : sum) & ~(unit &- 1)
  }
  @inline(__always) func roundedDown(to unit: UInt64) -> UInt64 { self & ~(unit &- 1) }
}

/// The caller's buffers of one request. Valid only during the call.
struct BufferList {
  let vectors: UnsafePointer<iovec>
  let count: Int

  /// Bytes in all buffers.
  var byteCount: UInt64 {
    var sum: UInt64 = 0
    for index in 0..<count { sum &+= UInt64(vectors[index].iov_len) }
    return sum
  }

  /// Calls `body` with the buffers of one stretch of the request, between `head` and `tail` (either may be empty).
  @inline(__always)
  func withSlice<R>(
    from start: UInt64, count length: UInt64, head: iovec = iovec(), tail: iovec = iovec(),
    _ body: (UnsafePointer<iovec>, Int) throws(DiskImageError) -> R
  ) throws(DiskImageError) -> R {
    if count == 1 && head.iov_len == 0 && tail.iov_len == 0 {
      var vector = iovec(iov_base: vectors[0].iov_base + Int(start), iov_len: Int(length))
      return try withUnsafePointer(to: &vector) { (pointer) throws(DiskImageError) in
        try body(pointer, 1)
      }
    }
    return try withUnsafeTemporaryAllocation(of: iovec.self, capacity: count + 2) {
      (slice) throws(DiskImageError) in
      var used = 0
      if head.iov_len > 0 {
        slice[0] = head
        used = 1
      }
      used += self.copy(into: slice.baseAddress! + used, from: start, count: length)
      if tail.iov_len > 0 {
        slice[used] = tail
        used += 1
      }
      return try body(UnsafePointer(slice.baseAddress!), used)
    }
  }

  /// Puts the pieces of a stretch into `slice`, which has room for `count` of them; returns how many there are.
  private func copy(into slice: UnsafeMutablePointer<iovec>, from start: UInt64, count: UInt64)
    -> Int
  {
    var used = 0
    var skip = start
    var left = count
    for index in 0..<self.count where left > 0 {
      let length = UInt64(vectors[index].iov_len)
      if skip >= length {
        skip -= length
        continue
      }
      let piece = min(length - skip, left)
      slice[used] = iovec(iov_base: vectors[index].iov_base + Int(skip), iov_len: Int(piece))
      used += 1
      left -= piece
      skip = 0
    }
    return used
  }

  /// Fills a stretch with zeros.
  func zero(from start: UInt64, count length: UInt64) {
    each(from: start, count: length) { piece in memset(piece.baseAddress!, 0, piece.count) }
  }

  /// Copies bytes into a stretch.
  func store(_ bytes: UnsafeRawPointer, from start: UInt64, count length: UInt64) {
    var source = bytes
    each(from: start, count: length) { piece in
      memcpy(piece.baseAddress!, source, piece.count)
      source += piece.count
    }
  }

  /// Copies a stretch out.
  func load(into bytes: UnsafeMutableRawPointer, from start: UInt64, count length: UInt64) {
    var target = bytes
    each(from: start, count: length) { piece in
      memcpy(target, piece.baseAddress!, piece.count)
      target += piece.count
    }
  }

  private func each(
    from start: UInt64, count length: UInt64, _ body: (UnsafeMutableRawBufferPointer) -> Void
  ) {
    var skip = start
    var left = length
    for index in 0..<count where left > 0 {
      let available = UInt64(vectors[index].iov_len)
      if skip >= available {
        skip -= available
        continue
      }
      let piece = min(available - skip, left)
      body(
        UnsafeMutableRawBufferPointer(
          start: vectors[index].iov_base + Int(skip), count: Int(piece)))
      left -= piece
      skip = 0
    }
  }
}
