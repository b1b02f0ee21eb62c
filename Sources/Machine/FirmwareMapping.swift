import CLinux
import Platform

/// A firmware image in page-aligned memory of this process, ready to be shown to the guest.
final class FirmwareMapping: @unchecked Sendable {
  // @unchecked: written once in `init`, read-only afterwards.
  let pointer: UnsafeMutableRawPointer
  /// Bytes, a multiple of 4 KiB.
  let size: Int

  /// - Parameter bytes: a multiple of 4 KiB.
  init(_ bytes: [UInt8]) throws(PlatformError) {
    size = bytes.count
    let address = mmap(
      nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let address, address != linux_map_failed() else {
      throw PlatformError(operation: "mmap", code: linux_error_number(), subject: "firmware")
    }
    pointer = address
    bytes.withUnsafeBytes {
      UnsafeMutableRawBufferPointer(start: pointer, count: size).copyMemory(from: $0)
    }
    mprotect(pointer, size, PROT_READ)
  }

  deinit { munmap(pointer, size) }
}
