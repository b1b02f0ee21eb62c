// The disk behind a block or SCSI device, in bytes. What it is (raw, qcow2, memory) is not the device's business.

import CLinux

/// Why a disk did not do what it was asked.
public enum BlockBackendError: Error, Equatable, Sendable {
  /// The host reported this `errno`.
  case system(Int32)
  case noSpace
  case readOnly
  case outOfRange
  case unsupported
  /// The image is damaged.
  case corrupt
}

/// A disk. Calls block and come from any thread, several at a time for several queues.
///
/// Buffers are guest memory: their bytes may change while they are read.
public protocol BlockBackend: AnyObject, Sendable {
  /// Bytes.
  var size: UInt64 { get }
  var isReadOnly: Bool { get }
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64)
    throws(BlockBackendError)
  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError)
  /// Returns when what was written survives a crash of the host.
  func flush() throws(BlockBackendError)
  /// The bytes may read as anything afterwards.
  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError)
  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError)
  /// Fills `vectors`, one after the other, from `offset`.
  func read(into vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(BlockBackendError)
  /// Writes `vectors`, one after the other, from `offset`.
  func write(from vectors: UnsafeBufferPointer<iovec>, at offset: UInt64)
    throws(BlockBackendError)
  /// Something that keeps up to `depth` transfers in flight; nil when there is no such thing.
  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)?
}

/// What a transfer queue does.
public enum BlockTransfer: String, Codable, Sendable {
  case read, write, flush
}

/// Many transfers in flight at once, for one queue of a disk. Used by one thread at a time.
public protocol BlockTransferQueue: AnyObject {
  /// Readable when something can be reaped.
  var descriptor: Int32 { get }
  var inFlight: Int { get }
  /// Takes a transfer; false when there is no room before the next `reap`. The vectors and their memory stay until it is
  /// reaped.
  func submit(
    _ transfer: BlockTransfer, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, token: Int
  ) -> Bool
  /// Starts what was submitted. Reap afterwards: a transfer may be done already.
  func commit()
  /// Hands over what is done: its token, and the error if it failed. With `waits` at least one, if any is in flight.
  func reap(waits: Bool, _ body: (Int, BlockBackendError?) -> Void)
}

extension BlockBackend {
  /// Disks without one are asked request by request.
  public func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? { nil }

  public func read(
    into vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    var position = offset
    for vector in vectors where vector.iov_len > 0 {
      try read(
        into: UnsafeMutableRawBufferPointer(start: vector.iov_base, count: vector.iov_len),
        at: position)
      position &+= UInt64(vector.iov_len)
    }
  }

  public func write(
    from vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    var position = offset
    for vector in vectors where vector.iov_len > 0 {
      try write(
        from: UnsafeRawBufferPointer(start: vector.iov_base, count: vector.iov_len), at: position)
      position &+= UInt64(vector.iov_len)
    }
  }
}
