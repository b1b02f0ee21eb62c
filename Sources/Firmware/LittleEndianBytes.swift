// Tables and boot structures are little-endian bytes at fixed offsets; these are the only ways in and out of them.

extension [UInt8] {
  mutating func append<Value: FixedWidthInteger & BitwiseCopyable>(little value: Value) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// Appends exactly `count` bytes of text, cut or filled up.
  mutating func append(text: String, count: Int, fill: UInt8 = 0) {
    let bytes = text.utf8.prefix(count)
    append(contentsOf: bytes)
    append(contentsOf: repeatElement(fill, count: count - bytes.count))
  }

  mutating func appendZeros(_ count: Int) {
    append(contentsOf: repeatElement(0, count: Swift.max(0, count)))
  }

  /// Zeros up to the next multiple of `alignment`.
  mutating func align(to alignment: Int) {
    appendZeros((alignment - count % alignment) % alignment)
  }

  /// Replaces bytes that are there; the caller made them.
  mutating func store<Value: FixedWidthInteger & BitwiseCopyable>(
    little value: Value, at offset: Int
  ) {
    Swift.withUnsafeBytes(of: value.littleEndian) {
      replaceSubrange(offset..<(offset + $0.count), with: $0)
    }
  }

  /// The integer at `offset`, or nil where it does not fit: offsets come from files.
  func load<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type = Value.self, at offset: Int
  ) -> Value? {
    let size = MemoryLayout<Value>.size
    guard offset >= 0, offset <= count - size else { return nil }
    return withUnsafeBytes {
      Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
  }

  /// The byte that makes the sum of `range` zero, if the byte itself is zero now.
  func checksum(_ range: Range<Int>) -> UInt8 {
    0 &- self[range].reduce(0, &+)
  }
}

extension UInt64 {
  /// The next multiple of a power of two, or nil beyond 2^64.
  func alignedUp(to alignment: UInt64) -> UInt64? {
    let (sum, overflow) = addingReportingOverflow(alignment &- 1)
    return overflow ? nil : sum & ~(alignment &- 1)
  }

  func alignedDown(to alignment: UInt64) -> UInt64 { self & ~(alignment &- 1) }
}
