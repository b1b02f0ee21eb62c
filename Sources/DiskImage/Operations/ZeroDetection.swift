// Is this memory all zeros? Conversions ask that of every byte they move.

enum ZeroDetection {
  /// True when all bytes are zero. The pointer is 8-byte aligned, the count a multiple of 8 but for the last bytes.
  @inline(__always)
  static func isZero(_ bytes: UnsafeRawPointer, _ count: Int) -> Bool {
    typealias Wide = SIMD8<UInt64>
    var position = 0
    // Most data shows it in its first bytes.
    while position + 64 <= count {
      let wide = bytes.loadUnaligned(fromByteOffset: position, as: Wide.self)
      if wide != Wide() { return false }
      position += 64
    }
    while position < count {
      if bytes.load(fromByteOffset: position, as: UInt8.self) != 0 { return false }
      position += 1
    }
    return true
  }

  /// Calls `body` with each run of units that is not all zeros.
  @inline(__always)
  static func eachDataRun(
    _ bytes: UnsafeRawPointer, _ count: Int, unit: Int,
    _ body: (Range<Int>) throws(DiskImageError) -> Void
  ) throws(DiskImageError) {
    var start: Int?
    var position = 0
    while position < count {
      let next = min(position + unit, count)
      if isZero(bytes + position, next - position) {
        if let first = start { try body(first..<position) }
        start = nil
      } else if start == nil {
        start = position
      }
      position = next
    }
    if let first = start { try body(first..<count) }
  }
}
