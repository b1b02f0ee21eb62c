// Memory behind a base address register: an option ROM, or the memory of a display.

import CLinux
import Platform

/// Page-aligned host memory of a power-of-two size: filled once and read by the guest, or written by it as well.
///
/// Read-only contents are given again when the machine is built; what a guest wrote is its device's to save.
public final class PCIRegion: BusDevice, @unchecked Sendable {
  // @unchecked: read-only ones are written only in `init`; the others are guest memory, where accesses of several
  // processors meet as they do on hardware.
  /// Start of the memory, aligned to 4 KiB and valid as long as this object.
  public let host: UnsafeMutableRawPointer
  /// Bytes: a power of two, at least 4 KiB.
  public let size: Int
  /// The guest may write it.
  public let isWritable: Bool

  /// Copies `contents` and fills up with all ones, as an unprogrammed ROM reads.
  ///
  /// - Parameter contents: at most 16 MiB (the limit of the expansion ROM register); what is beyond is cut off.
  public init(contents: [UInt8]) {
    let count = min(contents.count, 16 << 20)
    var size = 4096
    while size < count { size *= 2 }
    self.size = size
    isWritable = false
    host = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    memset(host, 0xFF, size)
    contents.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress, count > 0 { memcpy(host, source, count) }
    }
  }

  /// Memory that the guest may write, all zeros. The host gives pages when they are touched.
  ///
  /// - Parameter size: a power of two, at least 4 KiB.
  /// - Throws: `PlatformError` when the host has no memory.
  public init(writableSize size: Int) throws(PlatformError) {
    precondition(size >= 4096 && size.nonzeroBitCount == 1)
    let address = mmap(
      nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let address, address != linux_map_failed() else {
      throw PlatformError(operation: "mmap", code: linux_error_number(), subject: "device memory")
    }
    host = address
    self.size = size
    isWritable = true
  }

  deinit {
    if isWritable { munmap(host, size) } else { host.deallocate() }
  }

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

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard isWritable, offset <= UInt64(size - width.count) else { return }
    let start = host + Int(offset)
    switch width {
    case .byte: start.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    case .word:
      start.storeBytes(of: UInt16(truncatingIfNeeded: value).littleEndian, as: UInt16.self)
    case .doubleword:
      start.storeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian, as: UInt32.self)
    case .quadword: start.storeBytes(of: value.littleEndian, as: UInt64.self)
    }
  }
}
