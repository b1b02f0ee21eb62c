// Firmware images, kernels and initial RAM disks as byte sources. Files are read by position and never mapped: a file
// that somebody truncates while we look gives an error, where a mapping would end the process.
import CLinux
import Devices
import GuestMemory
import Platform

/// A file, or bytes, that something is booted from. Its size is fixed when it is opened.
package final class BootFile: FirmwareItemSource {
  /// What messages call it.
  package let name: String
  package let count: Int
  private let storage: Storage

  private enum Storage: Sendable {
    /// A descriptor that this object owns.
    case file(Int32)
    case bytes([UInt8])
    case payload(KernelPayload)
  }

  /// Larger than any kernel or RAM disk; keeps sums of sizes far from overflow.
  package static let sizeLimit = 1 << 40

  /// Opens a regular file for reading.
  package init(path: String) throws(FirmwareError) {
    var status = stat()
    let owned: Int32
    do {
      let descriptor = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
      let number = descriptor.rawValue
      try systemCall("fstat") { fstat(number, &status) }
      owned = descriptor.release()
    } catch {
      throw FirmwareError(error, path)
    }
    // From here on `deinit` closes it.
    name = path
    count = Int(clamping: status.st_size)
    storage = .file(owned)
    guard status.st_mode & UInt32(S_IFMT) == UInt32(S_IFREG) else {
      throw FirmwareError(path, "not a regular file")
    }
    guard count <= Self.sizeLimit else { throw FirmwareError(path, "too large") }
  }

  /// Bytes that are in memory already.
  package init(name: String, bytes: [UInt8]) {
    self.name = name
    count = bytes.count
    storage = .bytes(bytes)
  }

  /// The executable inside a kernel.
  ///
  /// - Throws: when it cannot be unpacked.
  init(name: String, _ payload: KernelPayload) throws(FirmwareError) {
    _ = try payload.bytes()
    self.name = name
    count = payload.count
    storage = .payload(payload)
  }

  /// The content is in the guest: memory that can be filled again is given back.
  func didLoad() {
    if case .payload(let payload) = storage { payload.forget() }
  }

  deinit {
    if case .file(let number) = storage { close(number) }
  }

  /// `count` bytes from `offset`.
  ///
  /// - Throws: when the file has no such bytes, or cannot be read.
  package func bytes(at offset: UInt64, count wanted: Int) throws(FirmwareError) -> [UInt8] {
    try check(offset, wanted)
    if case .bytes(let bytes) = storage {
      return Array(bytes[Int(offset)..<(Int(offset) + wanted)])
    }
    if case .payload(let payload) = storage {
      return Array(try payload.bytes()[Int(offset)..<(Int(offset) + wanted)])
    }
    var result = [UInt8](repeating: 0, count: wanted)
    let complete = result.withUnsafeMutableBytes { readCompletely(from: Int(offset), into: $0) }
    guard complete else { throw FirmwareError(name, "cannot be read at offset \(offset)") }
    return result
  }

  /// Copies `count` bytes from `offset` to RAM.
  func copy(
    at offset: UInt64, count wanted: Int, to address: GuestAddress, in memory: GuestMemory
  ) throws(FirmwareError) {
    try check(offset, wanted)
    guard let target = memory.slice(at: address, count: wanted) else {
      throw FirmwareError(name, "\(wanted) bytes at \(address) are not inside the guest's memory")
    }
    guard readCompletely(from: Int(offset), into: target) else {
      throw FirmwareError(name, "cannot be read at offset \(offset)")
    }
  }

  private func check(_ offset: UInt64, _ wanted: Int) throws(FirmwareError) {
    guard wanted >= 0, wanted <= count, offset <= UInt64(count - wanted) else {
      throw FirmwareError(
        name, "ends early: \(wanted) bytes wanted at offset \(offset) of \(count)")
    }
  }

  private func readCompletely(from offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool
  {
    switch storage {
    case .bytes(let bytes):
      buffer.copyBytes(from: bytes[offset..<(offset + buffer.count)])
      return true
    case .payload(let payload):
      guard let bytes = try? payload.bytes() else { return false }
      buffer.copyBytes(from: bytes[offset..<(offset + buffer.count)])
      return true
    case .file(let number):
      var done = 0
      while done < buffer.count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
        let result = pread(number, rest.baseAddress, rest.count, offset + done)
        if result < 0 && linux_error_number() == EINTR { continue }
        guard result > 0 else { return false }
        done += result
      }
      return true
    }
  }

  // MARK: FirmwareItemSource

  package func copy(from offset: Int, into buffer: UnsafeMutableRawBufferPointer) {
    guard buffer.count > 0, offset >= 0, offset <= count - buffer.count else { return }
    if !readCompletely(from: offset, into: buffer) {
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
    }
  }
}
