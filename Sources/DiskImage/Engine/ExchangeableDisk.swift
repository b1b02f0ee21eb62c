// A disk whose image can be exchanged while requests come: how a layer is put on top of it while a guest runs.
import CLinux
import Synchronization

/// A disk that is another one, which can be replaced between two requests.
///
/// All requests pass a gate. To exchange, the gate is shut; requests that are inside end, others wait for milliseconds.
/// One thread at a time exchanges.
public final class ExchangeableDisk: BlockDevice, DirectlyAccessible, @unchecked Sendable {
  // @unchecked: `current` and `direct` change only while the gate is shut and nobody is inside; the gate's counters
  // order these accesses.
  private var current: any BlockDevice
  private var direct: (any DirectlyAccessible)?
  private let gate = RequestGate()
  private let bytes: Atomic<UInt64>
  private let name: Mutex<String>
  let tracker = WriteTracker()
  public let isReadOnly: Bool

  public init(_ image: any BlockDevice) {
    current = image
    direct = image as? any DirectlyAccessible
    bytes = Atomic(image.size)
    name = Mutex(image.path)
    isReadOnly = image.isReadOnly
  }

  public var size: UInt64 { bytes.load(ordering: .relaxed) }
  public var path: String { name.withLock { $0 } }

  // MARK: Exchanging

  /// Opens an overlay that rests on the present image and is not used yet.
  ///
  /// - Parameter path: A qcow2 image without content whose backing file is the present image.
  public func prepareLayer(_ path: String) throws(DiskImageError) -> PreparedLayer {
    let storage = try FileStorage.open(path, writable: true)
    do throws(DiskImageError) {
      let below = current
      let image = try Qcow2Image.open(storage, backing: below, cacheBytes: Self.cacheBytes(size))
      guard image.size == size else {
        image.leaveBacking()
        throw DiskImageError(.invalid, path, "is not as large as the disk under it")
      }
      return PreparedLayer(image, below: below)
    } catch {
      storage.close()
      throw error
    }
  }

  /// As `OpenOptions` has it: enough for all tables, within 32 MiB.
  private static func cacheBytes(_ size: UInt64) -> Int {
    min(32 << 20, max(1 << 20, Int(size >> 13)))
  }

  /// Lets no request in any more and waits for those inside.
  ///
  /// - Returns: false when they did not end in time; the gate is open again then.
  public func shut(milliseconds: Int) -> Bool { gate.shut(milliseconds: milliseconds) }

  /// Lets requests in again.
  public func open() { gate.open() }

  /// Makes all that was written durable and leaves nothing to be written later. Only while shut.
  public func settle() throws(DiskImageError) {
    if let image = current as? Qcow2Image {
      try image.exclusively { () throws(DiskImageError) in try image.settle() }
    } else {
      try current.flush()
    }
  }

  /// Puts the layer on top. The image under it is not written any more and other programs may read it. Only while
  /// shut, after `settle`.
  public func exchange(for layer: PreparedLayer) {
    layer.isUsed = true
    let old = current
    current = layer.image
    direct = layer.image
    name.withLock { $0 = layer.image.path }
    if let image = old as? Qcow2Image {
      (image.storage as? FileStorage)?.giveUpWriting()
      (image.dataStorage as? FileStorage)?.giveUpWriting()
    } else if let image = old as? RawImage {
      (image.storage as? FileStorage)?.giveUpWriting()
    }
  }

  /// Puts another image in place of one that was closed: the same file, opened again. Only while shut.
  public func replaceClosed(with image: any BlockDevice) {
    current = image
    direct = image as? any DirectlyAccessible
    name.withLock { $0 = image.path }
  }

  /// Closes the image while the gate is shut; `replaceClosed` follows, or the end.
  public func closeShut() throws(DiskImageError) { try current.close() }

  // MARK: Requests

  @inline(__always)
  private func pass<R>(
    _ body: (any BlockDevice) throws(DiskImageError) -> R
  ) throws(DiskImageError) -> R {
    let generation = gate.enter()
    defer { gate.leave(generation) }
    return try body(current)
  }

  public func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    try pass { (disk) throws(DiskImageError) in
      try disk.readVectors(vectors, count, at: offset)
    }
  }

  public func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    try pass { (disk) throws(DiskImageError) in
      tracker.note(offset, BufferList(vectors: vectors, count: count).byteCount)
      try disk.writeVectors(vectors, count, at: offset)
    }
  }

  public func flush() throws(DiskImageError) {
    try pass { (disk) throws(DiskImageError) in try disk.flush() }
  }

  public func discard(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    // It may be asked for by the thread that reaps the transfers which the shut gate waits for, and it is a hint.
    guard let generation = gate.tryEnter() else { return }
    defer { gate.leave(generation) }
    tracker.note(offset, count)
    try current.discard(at: offset, count: count)
  }

  public func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) throws(DiskImageError) {
    try pass { (disk) throws(DiskImageError) in
      tracker.note(offset, count)
      try disk.writeZeroes(at: offset, count: count, mayUnmap: mayUnmap)
    }
  }

  public func extent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> BlockExtent {
    try pass { (disk) throws(DiskImageError) in try disk.extent(at: offset, limit: limit) }
  }

  public func resize(to size: UInt64) throws(DiskImageError) {
    try pass { (disk) throws(DiskImageError) in
      try disk.resize(to: size)
      bytes.store(disk.size, ordering: .relaxed)
    }
  }

  public func close() throws(DiskImageError) {
    try pass { (disk) throws(DiskImageError) in try disk.close() }
  }

  package func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectAnswer?
  {
    guard let generation = gate.tryEnter() else { return nil }
    if isWrite { tracker.note(offset, count) }
    let answer = direct?.beginDirect(
      isWrite: isWrite, at: offset, count: count, alignment: alignment)
    guard case .transfer(var claim) = answer else {
      gate.leave(generation)
      return answer
    }
    claim.gate = gate
    claim.entered = generation
    return .transfer(claim)
  }

  package func endDirect(_ transfer: DirectTransfer) {}
}

/// An overlay that is ready to become a disk's top. One that is not used is closed and leaves the disk as it was.
public final class PreparedLayer: @unchecked Sendable {
  // @unchecked: one thread has it.
  fileprivate let image: Qcow2Image
  private let below: any BlockDevice
  fileprivate var isUsed = false

  fileprivate init(_ image: Qcow2Image, below: any BlockDevice) {
    self.image = image
    self.below = below
  }

  deinit { if !isUsed { image.leaveBacking() } }
}

extension Qcow2Image {
  /// Closes this file alone: what it rests on stays open.
  func leaveBacking() {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    storage.close()
  }
}
