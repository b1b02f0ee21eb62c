/// A guest-physical address.
public struct GuestAddress: RawRepresentable, Hashable, Comparable, Sendable, Codable,
  CustomStringConvertible
{
  public var rawValue: UInt64

  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  @inlinable public static func < (left: GuestAddress, right: GuestAddress) -> Bool {
    left.rawValue < right.rawValue
  }

  /// The sum, or nil beyond 2^64: addresses come from guests.
  @inlinable public func advanced(by count: UInt64) -> GuestAddress? {
    let (sum, overflow) = rawValue.addingReportingOverflow(count)
    return overflow ? nil : GuestAddress(sum)
  }

  /// The sum modulo 2^64, as an address computation in hardware gives it.
  @inlinable public static func &+ (left: GuestAddress, right: UInt64) -> GuestAddress {
    GuestAddress(left.rawValue &+ right)
  }

  public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// The number of a 4 KiB guest-physical page.
public struct FrameNumber: RawRepresentable, Hashable, Comparable, Sendable, Codable {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(containing address: GuestAddress) { rawValue = address.rawValue >> 12 }
  @inlinable public static func < (left: FrameNumber, right: FrameNumber) -> Bool {
    left.rawValue < right.rawValue
  }
}
