// The sum that IP, TCP and UDP protect themselves with (RFC 1071).

/// One's complement sums of 16-bit words in the order of the wire.
public enum InternetChecksum {
  /// The folded sum of `bytes`, on top of `start`; not complemented.
  public static func sum(_ bytes: UnsafeRawBufferPointer, _ start: UInt32 = 0) -> UInt16 {
    var sum = UInt64(start)
    var index = 0
    // A sum of wider words folds to the same value; in the host's order it is swapped at the end (RFC 1071, 2).
    var wide: UInt64 = 0
    while index &+ 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let (next, overflow) = wide.addingReportingOverflow(word)
      wide = next &+ (overflow ? 1 : 0)
      index &+= 8
    }
    let half = (wide & 0xFFFF_FFFF) &+ (wide >> 32)
    let folded = fold(half)
    sum &+= UInt64(UInt16(bigEndian: folded))
    while index &+ 2 <= bytes.count {
      sum &+= UInt64(bytes[index]) << 8 | UInt64(bytes[index &+ 1])
      index &+= 2
    }
    if index < bytes.count { sum &+= UInt64(bytes[index]) << 8 }
    return fold(sum)
  }

  static func fold(_ value: UInt64) -> UInt16 {
    var value = value
    while value > 0xFFFF { value = (value & 0xFFFF) &+ (value >> 16) }
    return UInt16(truncatingIfNeeded: value)
  }

  /// Finishes a checksum that stands for the pseudo header only: what `NetworkHeader.needsChecksum` asks for. The caller
  /// has checked that the header fits the frame.
  public static func complete(
    _ frame: UnsafeMutableRawBufferPointer, start: UInt16, offset: UInt16
  ) {
    let first = Int(start)
    let place = first + Int(offset)
    guard first < frame.count, place + 2 <= frame.count else { return }
    var value = ~sum(UnsafeRawBufferPointer(rebasing: frame[first...]))
    // Zero would say that there is none (RFC 768).
    if value == 0 { value = 0xFFFF }
    frame[place] = UInt8(value >> 8)
    frame[place + 1] = UInt8(truncatingIfNeeded: value)
  }

  /// What a checksum becomes when a word that it covers changes (RFC 1624, 3).
  public static func updated(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
    ~fold(UInt64(~checksum) &+ UInt64(~old) &+ UInt64(new))
  }
}
