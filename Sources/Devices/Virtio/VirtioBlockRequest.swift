// Requests of the virtio block device (Virtual I/O Device 1.2, 5.2.6): header, data, status byte, in any cut into
// descriptors.

import Synchronization

/// One request of the driver, from the chain that it came in to the answer.
struct VirtioBlockRequest {
  enum Work {
    /// Nothing is left to do but to answer.
    case done(VirtioBlock.Status)
    /// Bytes to move, or a flush.
    case transfer(BlockTransfer, offset: UInt64)
    /// To be done by `perform`, which may block: with no transfer of the same thread in flight.
    case alone(kind: UInt32, sector: UInt64)
  }

  let chain: VirtioChain
  fileprivate let status: UnsafeMutablePointer<UInt8>
  /// Bytes that the answer says were written.
  let written: UInt32
}

extension VirtioBlock {
  private enum Kind {
    static let read: UInt32 = 0
    static let write: UInt32 = 1
    static let flush: UInt32 = 4
    static let identify: UInt32 = 8
    static let discard: UInt32 = 11
    static let writeZeroes: UInt32 = 13
  }

  enum Status: UInt8 {
    case ok = 0
    case error = 1
    case unsupported = 2
  }

  private static let headerSize: UInt64 = 16
  /// struct virtio_blk_discard_write_zeroes.
  private static let rangeSize = 16

  /// Reads a request's header and does it, or says what is to be transferred for it.
  ///
  /// - Parameter defers: transfers are left to the caller; otherwise they are done here.
  /// - Throws: `VirtioViolation` for a chain that is no request at all; the device then stops.
  func begin(
    _ chain: VirtioChain, defers: Bool
  ) throws(VirtioViolation) -> (VirtioBlockRequest, VirtioBlockRequest.Work) {
    var header: (first: UInt64, sector: UInt64) = (0, 0)
    guard withUnsafeMutableBytes(of: &header, { chain.takeFront($0) }),
      let status = chain.takeLastWritableByte()
    else { throw .request }
    let kind = UInt32(truncatingIfNeeded: UInt64(littleEndian: header.first))
    let sector = UInt64(littleEndian: header.sector)
    let data = kind == Kind.read || kind == Kind.identify ? chain.writableBytes : 0
    let request = VirtioBlockRequest(
      chain: chain, status: status, written: UInt32(truncatingIfNeeded: data &+ 1))
    guard defers else { return (request, .done(perform(kind, sector: sector, chain))) }
    return (request, transfer(kind, sector, chain) ?? .alone(kind: kind, sector: sector))
  }

  /// What can be left to a transfer queue; nil for everything else.
  private func transfer(
    _ kind: UInt32, _ sector: UInt64, _ chain: VirtioChain
  ) -> VirtioBlockRequest.Work? {
    switch kind {
    case Kind.read where chain.writableBytes > 0:
      guard let offset = byteOffset(sector, count: chain.writableBytes) else { return nil }
      return .transfer(.read, offset: offset)
    // A write that must be on the disk before its answer is two steps.
    case Kind.write where chain.readableBytes > 0 && !writesThrough && !backend.isReadOnly:
      guard let offset = byteOffset(sector, count: chain.readableBytes) else { return nil }
      return .transfer(.write, offset: offset)
    case Kind.flush: return .transfer(.flush, offset: 0)
    default: return nil
    }
  }

  /// Counts a transfer, and turns its error into what the driver is told.
  func finish(
    _ transfer: BlockTransfer, _ request: VirtioBlockRequest, _ error: BlockBackendError?
  ) -> Status {
    if let error {
      if error == .unsupported { return .unsupported }
      onError(error)
      return .error
    }
    switch transfer {
    case .read: statistics.didRead(request.chain.writableBytes)
    case .write: statistics.didWrite(request.chain.readableBytes)
    case .flush: statistics.flushCounter.add(1, ordering: .relaxed)
    }
    return .ok
  }

  /// Does at once what a transfer queue had no room for.
  func carryOut(
    _ transfer: BlockTransfer, _ request: VirtioBlockRequest, at offset: UInt64
  ) -> Status {
    var failure: BlockBackendError?
    do throws(BlockBackendError) {
      switch transfer {
      case .read: try backend.read(into: request.chain.writable, at: offset)
      case .write: try backend.write(from: request.chain.filledReadable, at: offset)
      case .flush: try backend.flush()
      }
    } catch {
      failure = error
    }
    return finish(transfer, request, failure)
  }

  /// Writes the status byte. Only then may the chain be given back.
  func answer(_ request: VirtioBlockRequest, _ status: Status) {
    if status != .ok { statistics.errorCounter.add(1, ordering: .relaxed) }
    request.status.pointee = status.rawValue
  }

  /// Does a request and returns when it is done.
  func perform(_ kind: UInt32, sector: UInt64, _ chain: VirtioChain) -> Status {
    do throws(BlockBackendError) {
      switch kind {
      case Kind.read: return try read(sector, chain)
      case Kind.write: return try write(sector, chain)
      case Kind.flush:
        try backend.flush()
        statistics.flushCounter.add(1, ordering: .relaxed)
        return .ok
      case Kind.identify:
        serial.withUnsafeBytes { _ = chain.putFront($0) }
        return .ok
      case Kind.discard: return try changeRanges(chain, zero: false)
      case Kind.writeZeroes: return try changeRanges(chain, zero: true)
      default: return .unsupported
      }
    } catch {
      if error == .unsupported { return .unsupported }
      onError(error)
      return .error
    }
  }

  private func read(_ sector: UInt64, _ chain: VirtioChain) throws(BlockBackendError) -> Status {
    let count = chain.writableBytes
    guard let offset = byteOffset(sector, count: count) else { return .error }
    try backend.read(into: chain.writable, at: offset)
    statistics.didRead(count)
    return .ok
  }

  private func write(_ sector: UInt64, _ chain: VirtioChain) throws(BlockBackendError) -> Status {
    let count = chain.readableBytes
    guard !backend.isReadOnly, let offset = byteOffset(sector, count: count) else {
      return .error
    }
    try backend.write(from: chain.readable, at: offset)
    statistics.didWrite(count)
    if writesThrough { try backend.flush() }
    return .ok
  }

  /// Where a transfer begins; nil unless it is whole sectors inside the disk.
  private func byteOffset(_ sector: UInt64, count: UInt64) -> UInt64? {
    let size = backend.size
    let (offset, overflow) = sector.multipliedReportingOverflow(by: Self.sectorSize)
    guard !overflow, count % Self.sectorSize == 0, offset <= size, count <= size - offset else {
      return nil
    }
    return offset
  }

  /// All ranges are checked before the first is changed.
  private func changeRanges(
    _ chain: VirtioChain, zero: Bool
  ) throws(BlockBackendError) -> Status {
    let count = Int(truncatingIfNeeded: chain.readableBytes)
    guard !backend.isReadOnly, count > 0, count % Self.rangeSize == 0,
      count <= Self.rangeLimit * Self.rangeSize
    else { return .error }
    var ranges = InlineArray<64, UInt64>(repeating: 0)
    var span = ranges.mutableSpan
    let taken = span.withUnsafeMutableBytes { bytes in
      chain.takeFront(UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(count)))
    }
    guard taken else { return .error }
    let rangeCount = count / Self.rangeSize
    for index in 0..<rangeCount {
      let rest = UInt64(littleEndian: ranges[2 * index + 1])
      // Bit 0 of the flags lets a write-zeroes give space back; a discard has no flags.
      guard rest >> 32 & ~(zero ? 1 : 0) == 0 else { return .unsupported }
      guard rest & 0xFFFF_FFFF <= UInt64(Self.rangeSectorLimit),
        byteOffset(UInt64(littleEndian: ranges[2 * index]), count: Self.bytes(rest)) != nil
      else { return .error }
    }
    for index in 0..<rangeCount {
      let offset = UInt64(littleEndian: ranges[2 * index]) &* Self.sectorSize
      let length = Self.bytes(UInt64(littleEndian: ranges[2 * index + 1]))
      if length == 0 { continue }
      if zero {
        try backend.writeZeroes(at: offset, count: length)
      } else {
        try backend.discard(at: offset, count: length)
      }
    }
    if zero && writesThrough { try backend.flush() }
    return .ok
  }

  private static func bytes(_ word: UInt64) -> UInt64 { (word & 0xFFFF_FFFF) &* sectorSize }
}
