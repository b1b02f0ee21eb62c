// What goes before a frame in a virtio network's queues (struct virtio_net_hdr; Virtual I/O Device 1.2, 5.1.6). Taps
// with IFF_VNET_HDR speak it too.

/// How a frame's checksum is to be finished and how it is to be cut.
public struct NetworkHeader: Sendable, Equatable {
  public enum Segmentation: UInt8, Sendable {
    case none = 0
    case tcp4 = 1
    case udp = 3
    case tcp6 = 4
  }

  /// Without the count of buffers, as legacy devices and taps have it.
  static let shortSize = 10
  /// Bytes of the whole header.
  public static let size = 12
  private static let needsChecksumFlag: UInt8 = 1
  private static let isValidFlag: UInt8 = 2
  private static let congestionFlag: UInt8 = 0x80

  /// The 16-bit sum over `checksumStart` to the end is still to be put at `checksumStart + checksumOffset`.
  public var needsChecksum = false
  /// Checksums were seen to be right.
  public var isValid = false
  public var segmentation = Segmentation.none
  /// With `segmentation`: ECN bits are set.
  public var hasCongestionBits = false
  /// Bytes of all headers, a hint.
  public var headerLength: UInt16 = 0
  /// Payload of each segment, bytes.
  public var segmentSize: UInt16 = 0
  public var checksumStart: UInt16 = 0
  public var checksumOffset: UInt16 = 0

  public init() {}

  /// - Returns: nil for a kind of segmentation that does not exist.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.shortSize else { return nil }
    func word(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8 }
    guard let kind = Segmentation(rawValue: bytes[1] & ~Self.congestionFlag) else { return nil }
    needsChecksum = bytes[0] & Self.needsChecksumFlag != 0
    isValid = bytes[0] & Self.isValidFlag != 0
    segmentation = kind
    hasCongestionBits = bytes[1] & Self.congestionFlag != 0
    headerLength = word(2)
    segmentSize = word(4)
    checksumStart = word(6)
    checksumOffset = word(8)
  }

  /// Writes `size` bytes.
  public func store(in target: UnsafeMutableRawBufferPointer, bufferCount: UInt16) {
    guard target.count >= Self.size else { return }
    func put(_ value: UInt16, _ offset: Int) {
      target[offset] = UInt8(truncatingIfNeeded: value)
      target[offset + 1] = UInt8(truncatingIfNeeded: value >> 8)
    }
    target[0] =
      (needsChecksum ? Self.needsChecksumFlag : 0) | (isValid ? Self.isValidFlag : 0)
    target[1] = segmentation.rawValue | (hasCongestionBits ? Self.congestionFlag : 0)
    put(headerLength, 2)
    put(segmentSize, 4)
    put(checksumStart, 6)
    put(checksumOffset, 8)
    put(bufferCount, 10)
  }

  /// Whether the frame can be what the header says, for a sender that may use `offloads`.
  public func fits(_ frame: Int, _ offloads: NetworkOffloads) -> Bool {
    if needsChecksum {
      guard offloads.contains(.checksum),
        Int(checksumStart) + Int(checksumOffset) + 2 <= frame
      else { return false }
    }
    switch segmentation {
    case .none: return true
    case .tcp4:
      return segmentSize > 0 && needsChecksum && offloads.contains(.segmentation4)
    case .tcp6:
      return segmentSize > 0 && needsChecksum && offloads.contains(.segmentation6)
    case .udp: return false
    }
  }
}
