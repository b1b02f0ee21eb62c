// The executable inside a bzImage (boot.rst of the kernel: payload_offset, payload_length), unpacked here instead of by
// the guest: on a host that emulates the guest's kernel mode that is the difference between seconds and hours, and on
// any host it is faster.

import Synchronization

/// A packed executable inside a file. Its plain bytes are kept only from planning until they are in the guest's memory;
/// a later power-on unpacks again.
final class KernelPayload: Sendable {
  let format: PackedFormat
  /// Bytes when unpacked.
  let count: Int
  private let file: BootFile
  private let offset: UInt64
  private let packedCount: Int
  private let unpacked = Mutex<[UInt8]?>(nil)

  /// - Parameters:
  ///   - offset: where the payload starts in the file.
  ///   - limit: the largest size when unpacked that makes sense.
  /// - Throws: what the payload lacks.
  init(
    _ file: BootFile, offset: UInt64, count packedCount: Int, limit: UInt64
  ) throws(FirmwareError) {
    guard packedCount >= 16 else { throw FirmwareError(file.name, "has no payload") }
    let start = try file.bytes(at: offset, count: 8)
    guard let format = PackedFormat(start) else {
      throw FirmwareError(file.name, "its payload is packed in an unknown way")
    }
    let end = try file.bytes(at: offset + UInt64(packedCount) - 4, count: 4)
    // The kernel's build puts the size behind every stream; gzip has it there anyway.
    let size =
      format == .plain ? UInt64(packedCount) : UInt64(end.load(UInt32.self, at: 0) ?? 0)
    guard size > 0, size <= limit else {
      throw FirmwareError(file.name, "its payload unpacks to \(size >> 20) MiB: too large")
    }
    self.format = format
    self.file = file
    self.offset = offset
    self.packedCount = packedCount
    count = Int(size)
  }

  /// The plain bytes.
  func bytes() throws(FirmwareError) -> [UInt8] {
    if let bytes = unpacked.withLock({ $0 }) { return bytes }
    let packed = try file.bytes(at: offset, count: packedCount)
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
      used =
        packed.withUnsafeBytes { source in
          format.unpack(
            source, into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count))
        } ?? 0
    }
    guard bytes.count == count else {
      throw FirmwareError(file.name, "its \(format.rawValue) payload is damaged")
    }
    unpacked.withLock { $0 = bytes }
    return bytes
  }

  /// Gives the plain bytes' memory back.
  func forget() { unpacked.withLock { $0 = nil } }
}
