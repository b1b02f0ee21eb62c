import CLinux
import Devices
import DiskImage
import Platform

/// A disk image behind a virtio disk. Outlives the boards that use it.
final class DiskBackend: BlockBackend {
  /// The guest's disk, whatever layer is on top.
  let image: ExchangeableDisk
  let configuration: DiskConfiguration
  let counters = DiskCounters()

  private init(_ image: any BlockDevice, _ configuration: DiskConfiguration) {
    self.image = ExchangeableDisk(image)
    self.configuration = configuration
  }

  /// Opens all disks, or none.
  ///
  /// - Throws: `MachineError` naming the file.
  static func open(_ disks: [DiskConfiguration]) throws(MachineError) -> [DiskBackend] {
    var opened: [DiskBackend] = []
    for disk in disks {
      do throws(DiskImageError) {
        opened.append(DiskBackend(try openImage(disk), disk))
      } catch {
        for earlier in opened { earlier.close() }
        throw MachineError("\(error)")
      }
    }
    return opened
  }

  static func openImage(_ disk: DiskConfiguration) throws(DiskImageError) -> any BlockDevice {
    try DiskImage.open(
      disk.path, format: disk.format == .raw ? .raw : .qcow2,
      mode: disk.isReadOnly ? .readOnly : .readWrite, backing: disk.backing.policy)
  }

  /// Flushes and releases the file. What fails here was reported to the guest before, at its last flush.
  func close() { try? image.close() }

  // MARK: BlockBackend

  var size: UInt64 { image.size }
  var isReadOnly: Bool { image.isReadOnly }

  func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
  ) throws(BlockBackendError) {
    try guest(.read, UInt64(buffer.count)) { () throws(DiskImageError) in
      try image.read(into: buffer, at: offset)
    }
  }

  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
    try guest(.write, UInt64(buffer.count)) { () throws(DiskImageError) in
      try image.write(from: buffer, at: offset)
    }
  }

  func read(
    into vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    guard let first = vectors.baseAddress else { return }
    try guest(.read, Self.total(vectors)) { () throws(DiskImageError) in
      try image.readVectors(first, vectors.count, at: offset)
    }
  }

  func write(
    from vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    guard let first = vectors.baseAddress else { return }
    try guest(.write, Self.total(vectors)) { () throws(DiskImageError) in
      try image.writeVectors(first, vectors.count, at: offset)
    }
  }

  func flush() throws(BlockBackendError) {
    try guest(.flush, 0) { () throws(DiskImageError) in try image.flush() }
  }

  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try guest(.discard, count) { () throws(DiskImageError) in
      try image.discard(at: offset, count: count)
    }
  }

  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try guest(.discard, count) { () throws(DiskImageError) in
      try image.writeZeroes(at: offset, count: count, mayUnmap: true)
    }
  }

  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? {
    // Without a descriptor for its answers requests are done one by one.
    guard let engine = try? RequestEngine(image, depth: depth) else { return nil }
    return DiskTransferQueue(self, engine, depth: depth)
  }

  fileprivate static func total(_ vectors: UnsafeBufferPointer<iovec>) -> UInt64 {
    vectors.reduce(0) { $0 &+ UInt64($1.iov_len) }
  }

  /// Counts a request, and turns an image's error into what the guest's driver is told.
  @inline(__always)
  private func guest(
    _ operation: DiskCounters.Operation, _ bytes: UInt64,
    _ body: () throws(DiskImageError) -> Void
  ) throws(BlockBackendError) {
    let start = MonotonicClock.now
    do throws(DiskImageError) {
      try body()
      counters.note(operation, bytes: bytes, since: start, failed: false)
    } catch {
      counters.note(operation, bytes: bytes, since: start, failed: true)
      throw BlockBackendError(error)
    }
  }
}

extension BlockBackendError {
  fileprivate init(_ error: DiskImageError) {
    switch error.code {
    case .noSpace: self = .noSpace
    case .readOnly: self = .readOnly
    case .outOfRange: self = .outOfRange
    case .unsupported: self = .unsupported
    case .corrupt: self = .corrupt
    default: self = .system(error.errorNumber)
    }
  }
}

/// A disk image's engine as a virtio disk uses it.
private final class DiskTransferQueue: BlockTransferQueue {
  private let backend: DiskBackend
  private let engine: RequestEngine
  /// What is in flight, by token.
  private struct Transfer {
    var operation = DiskCounters.Operation.read
    var bytes: UInt64 = 0
    var start: UInt64 = 0
  }
  private var transfers: [Transfer]

  init(_ backend: DiskBackend, _ engine: RequestEngine, depth: Int) {
    self.backend = backend
    self.engine = engine
    transfers = Array(repeating: Transfer(), count: depth)
  }

  var descriptor: Int32 { engine.descriptor }
  var inFlight: Int { engine.inFlight }

  func submit(
    _ transfer: BlockTransfer, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, token: Int
  ) -> Bool {
    let operation: DiskOperation
    let counted: DiskCounters.Operation
    switch transfer {
    case .read: (operation, counted) = (.read, .read)
    case .write: (operation, counted) = (.write, .write)
    case .flush: (operation, counted) = (.flush, .flush)
    }
    if transfers.indices.contains(token) {
      transfers[token] = Transfer(
        operation: counted, bytes: DiskBackend.total(vectors), start: MonotonicClock.now)
    }
    return engine.submit(
      operation, vectors.baseAddress, count: vectors.count, at: offset, token: UInt64(token))
  }

  func commit() { engine.commit() }

  func reap(waits: Bool, _ body: (Int, BlockBackendError?) -> Void) {
    engine.reap(waits: waits) { token, error in
      let token = Int(truncatingIfNeeded: token)
      if transfers.indices.contains(token) {
        let transfer = transfers[token]
        backend.counters.note(
          transfer.operation, bytes: transfer.bytes, since: transfer.start, failed: error != nil)
      }
      body(token, error.map { BlockBackendError($0) })
    }
  }
}

extension BackingPermission {
  fileprivate var policy: BackingPolicy {
    switch self {
    case .refused: .refuse
    case .files(let paths): .allowExplicit(paths)
    case .any: .allowAny
    }
  }
}

extension BlockBackendError {
  /// In words.
  var reason: String {
    switch self {
    case .system(let code): PlatformError(operation: "disk", code: code).reason
    case .noSpace: "no space is left on the host"
    case .readOnly: "the disk is read-only"
    case .outOfRange: "it asked for what is beyond the disk's end"
    case .unsupported: "the image's format cannot do that"
    case .corrupt: "the image is damaged"
    }
  }
}
