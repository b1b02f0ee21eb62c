// The seam between the formats and the file system: tests put a recorder or a failing disk here.
import CLinux

/// A file that holds an image. Calls may come from any thread.
package protocol ImageStorage: AnyObject, Sendable {
  var path: String { get }
  /// Bytes in the file now.
  func length() throws(DiskImageError) -> UInt64
  /// Fills the buffers; what lies past the end of the file is zeros.
  func read(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  /// Writes all of the buffers, making the file longer where needed.
  func write(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  /// Makes every change that ended before the call durable.
  func flush() throws(DiskImageError)
  /// Gives space back. The range reads as zeros afterwards when the answer is true, and is unchanged otherwise.
  func punchHole(at offset: UInt64, count: UInt64) throws(DiskImageError) -> Bool
  /// Makes the range read as zeros, with space kept or taken for it where the file system can.
  func writeZeroes(at offset: UInt64, count: UInt64) throws(DiskImageError)
  /// Takes space for the range without changing what it reads.
  func reserve(at offset: UInt64, count: UInt64) throws(DiskImageError)
  /// Cuts or extends (with zeros) the file.
  func truncate(to length: UInt64) throws(DiskImageError)
  /// Whether the file system stores data at `offset`, and for how many bytes (at most `limit`) that stays so.
  func dataExtent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> (
    isData: Bool, count: UInt64
  )
  /// The descriptor for a request whose addresses, offset and lengths, or-ed, are `alignment`; nil when it needs our help,
  /// or is quicker with it.
  func descriptor(forAlignment alignment: UInt64, isWrite: Bool) -> Int32?
  /// Whether a part of the file that was never written reads as zeros (not so on a block device).
  var extendsWithZeros: Bool { get }
  /// Releases locks and the file.
  func close()
}

extension ImageStorage {
  package func descriptor(forAlignment alignment: UInt64, isWrite: Bool) -> Int32? { nil }
}

extension ImageStorage {
  func read(into bytes: UnsafeMutableRawPointer, count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    var vector = iovec(iov_base: bytes, iov_len: count)
    try read(&vector, 1, at: offset)
  }

  func write(from bytes: UnsafeRawPointer, count: Int, at offset: UInt64) throws(DiskImageError) {
    var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes), iov_len: count)
    try write(&vector, 1, at: offset)
  }

  func readBytes(_ count: Int, at offset: UInt64) throws(DiskImageError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard count > 0 else { return bytes }
    try bytes.withMutableBytes { (buffer) throws(DiskImageError) in
      try read(into: buffer.baseAddress!, count: count, at: offset)
    }
    return bytes
  }

  func writeBytes(_ bytes: [UInt8], at offset: UInt64) throws(DiskImageError) {
    guard !bytes.isEmpty else { return }
    try bytes.withBytes { (buffer) throws(DiskImageError) in
      try write(from: buffer.baseAddress!, count: buffer.count, at: offset)
    }
  }
}
