import CLinux
import Devices
import DiskImage
import Platform
import Synchronization

/// A disk image behind a virtio disk. Outlives the boards that use it.
final class DiskBackend: BlockBackend {
  /// The guest's disk, whatever layer is on top.
  let image: ExchangeableDisk
  let configuration: DiskConfiguration
  fileprivate let readCounter = Atomic<UInt64>(0)
  fileprivate let writtenCounter = Atomic<UInt64>(0)

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

  var bytesRead: UInt64 { readCounter.load(ordering: .relaxed) }
  var bytesWritten: UInt64 { writtenCounter.load(ordering: .relaxed) }

  // MARK: BlockBackend

  var size: UInt64 { image.size }
  var isReadOnly: Bool { image.isReadOnly }

  func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
  ) throws(BlockBackendError) {
    try guest { () throws(DiskImageError) in try image.read(into: buffer, at: offset) }
    readCounter.add(UInt64(buffer.count), ordering: .relaxed)
  }

  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
    try guest { () throws(DiskImageError) in try image.write(from: buffer, at: offset) }
    writtenCounter.add(UInt64(buffer.count), ordering: .relaxed)
  }

  func read(
    into vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    guard let first = vectors.baseAddress else { return }
    try guest { () throws(DiskImageError) in
      try image.readVectors(first, vectors.count, at: offset)
    }
    readCounter.add(Self.total(vectors), ordering: .relaxed)
  }

  func write(
    from vectors: UnsafeBufferPointer<iovec>, at offset: UInt64
  ) throws(BlockBackendError) {
    guard let first = vectors.baseAddress else { return }
    try guest { () throws(DiskImageError) in
      try image.writeVectors(first, vectors.count, at: offset)
    }
    writtenCounter.add(Self.total(vectors), ordering: .relaxed)
  }

  func flush() throws(BlockBackendError) {
    try guest { () throws(DiskImageError) in try image.flush() }
  }

  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try guest { () throws(DiskImageError) in try image.discard(at: offset, count: count) }
  }

  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try guest { () throws(DiskImageError) in
      try image.writeZeroes(at: offset, count: count, mayUnmap: true)
    }
  }

  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? {
    // Without a descriptor for its answers requests are done one by one.
    guard let engine = try? RequestEngine(image, depth: depth) else { return nil }
    return DiskTransferQueue(self, engine)
  }

  fileprivate static func total(_ vectors: UnsafeBufferPointer<iovec>) -> UInt64 {
    vectors.reduce(0) { $0 &+ UInt64($1.iov_len) }
  }

  /// Turns an image's error into what the guest's driver is told.
  @inline(__always)
  private func guest(_ body: () throws(DiskImageError) -> Void) throws(BlockBackendError) {
    do throws(DiskImageError) {
      try body()
    } catch {
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

  init(_ backend: DiskBackend, _ engine: RequestEngine) {
    self.backend = backend
    self.engine = engine
  }

  var descriptor: Int32 { engine.descriptor }
  var inFlight: Int { engine.inFlight }

  func submit(
    _ transfer: BlockTransfer, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, token: Int
  ) -> Bool {
    let operation: DiskOperation
    switch transfer {
    case .read:
      operation = .read
      backend.readCounter.add(DiskBackend.total(vectors), ordering: .relaxed)
    case .write:
      operation = .write
      backend.writtenCounter.add(DiskBackend.total(vectors), ordering: .relaxed)
    case .flush: operation = .flush
    }
    return engine.submit(
      operation, vectors.baseAddress, count: vectors.count, at: offset, token: UInt64(token))
  }

  func commit() { engine.commit() }

  func reap(waits: Bool, _ body: (Int, BlockBackendError?) -> Void) {
    engine.reap(waits: waits) { token, error in
      body(Int(token), error.map { BlockBackendError($0) })
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
