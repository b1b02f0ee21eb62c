// What the machine and the tools see of a disk: bytes by offset, from any thread.
import CLinux

/// What one stretch of a disk holds.
public struct BlockExtent: Sendable, Equatable {
  /// Bytes from the asked offset that are alike.
  public var count: UInt64
  /// Reads as zeros, known without reading data.
  public var isZero: Bool
  /// Some layer of the chain says something about this stretch; false: it was never written anywhere.
  public var isAllocated: Bool
  /// How many backing files down the answer was found; 0 is this image.
  public var depth: Int
  /// Where the bytes are in the file of that layer; nil when they are not stored as they are.
  public var hostOffset: UInt64?
  /// Stored compressed.
  public var isCompressed: Bool

  public init(
    count: UInt64, isZero: Bool, isAllocated: Bool, depth: Int = 0, hostOffset: UInt64? = nil,
    isCompressed: Bool = false
  ) {
    self.count = count
    self.isZero = isZero
    self.isAllocated = isAllocated
    self.depth = depth
    self.hostOffset = hostOffset
    self.isCompressed = isCompressed
  }
}

/// A disk. Every call blocks until it is done and may come from any thread; requests on different places run at the
/// same time. What two requests that overlap in time and place leave behind is one of them, or a mixture by sectors.
///
/// A completed write is seen by every later read. It survives a crash once a `flush` that started after its completion
/// has returned.
public protocol BlockDevice: AnyObject, Sendable {
  /// Bytes. Changes only by `resize`.
  var size: UInt64 { get }
  /// Writes are refused.
  var isReadOnly: Bool { get }
  /// The file, for messages.
  var path: String { get }

  /// Fills the buffers, one after another, from `offset`.
  func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  /// Stores the buffers, one after another, at `offset`.
  func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  /// When this returns, every write that completed before the call survives a crash and a power failure.
  func flush() throws(DiskImageError)
  /// The guest does not need these bytes any more. They read as zeros or as before; space goes back to the host.
  func discard(at offset: UInt64, count: UInt64) throws(DiskImageError)
  /// Makes the range read as zeros. `mayUnmap` allows to give its space back.
  func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) throws(DiskImageError)
  /// What is stored from `offset` on, at most `limit` bytes; looks through the whole chain.
  func extent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> BlockExtent
  /// Gives the disk another size, a multiple of 512. Shrinking drops what is beyond the new end.
  func resize(to size: UInt64) throws(DiskImageError)
  /// Flushes, releases locks and files. Later requests fail; a second close does nothing.
  func close() throws(DiskImageError)
}

extension BlockDevice {
  /// Fills one buffer from `offset`.
  @inline(__always)
  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64)
    throws(DiskImageError)
  {
    var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
    try readVectors(&vector, 1, at: offset)
  }

  /// Stores one buffer at `offset`.
  @inline(__always)
  public func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskImageError) {
    var vector = iovec(
      iov_base: UnsafeMutableRawPointer(mutating: buffer.baseAddress), iov_len: buffer.count)
    try writeVectors(&vector, 1, at: offset)
  }

  /// Makes the range read as zeros.
  public func writeZeroes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    try writeZeroes(at: offset, count: count, mayUnmap: true)
  }

  /// The range must lie on the disk.
  func checkRange(_ offset: UInt64, _ count: UInt64) throws(DiskImageError) {
    let (end, overflow) = offset.addingReportingOverflow(count)
    if overflow || end > size {
      throw DiskImageError(
        .outOfRange, path, "request of \(count) bytes reaches past the end of the disk",
        offset: offset)
    }
  }
}
