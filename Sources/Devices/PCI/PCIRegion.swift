// Read-only memory behind a base address register: an option ROM.

import CLinux

/// Page-aligned host memory of a power-of-two size, filled once, read by the guest.
///
/// Has no state to save: contents are given again when the machine is built.
public final class PCIRegion: BusDevice, @unchecked Sendable {
  // @unchecked: written only in `init`.
  /// Start of the memory, aligned to 4 KiB and valid as long as this object.
  public let host: UnsafeMutableRawPointer
  /// Bytes: a power of two, at least 4 KiB.
  public let size: Int

  /// Copies `contents` and fills up with all ones, as an unprogrammed ROM reads.
  ///
  /// - Parameter contents: at most 16 MiB (the limit of the expansion ROM register); what is beyond is cut off.
  public init(contents: [UInt8]) {
    let count = min(contents.count, 16 << 20)
    var size = 4096
    while size < count { size *= 2 }
    self.size = size
    host = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    memset(host, 0xFF, size)
    contents.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress, count > 0 { memcpy(host, source, count) }
    }
  }

  deinit { host.deallocate() }

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    guard offset <= UInt64(size - width.count) else { return width.mask }
    let start = host + Int(offset)
    switch width {
    case .byte: return UInt64(start.loadUnaligned(as: UInt8.self))
    case .word: return UInt64(UInt16(littleEndian: start.loadUnaligned(as: UInt16.self)))
    case .doubleword: return UInt64(UInt32(littleEndian: start.loadUnaligned(as: UInt32.self)))
    case .quadword: return UInt64(littleEndian: start.loadUnaligned(as: UInt64.self))
    }
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {}
}
