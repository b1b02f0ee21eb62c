// A raw disk: the file is the disk, byte for byte.
import CLinux
import Synchronization

/// An open raw image or block device.
public final class RawImage: BlockDevice {
  public let isReadOnly: Bool
  public var path: String { storage.path }
  package let storage: any ImageStorage
  private let virtualSize: Atomic<UInt64>
  private let isClosed = Atomic<Bool>(false)

  init(storage: any ImageStorage, isReadOnly: Bool) throws(DiskImageError) {
    self.storage = storage
    self.isReadOnly = isReadOnly
    virtualSize = Atomic(try storage.length())
  }

  /// Creates an empty raw image: a sparse file of that size, rounded up to 512 bytes.
  public static func create(_ path: String, size: UInt64, replacing: Bool = false)
    throws(DiskImageError)
  {
    let file = try NewFile.create(path, replacing: replacing)
    try file.storage.truncate(to: size.roundedUp(to: 512))
    try file.commit(replacing: replacing)
  }

  public var size: UInt64 { virtualSize.load(ordering: .relaxed) }

  @inline(__always)
  private func begin(write: Bool) throws(DiskImageError) {
    if isClosed.load(ordering: .relaxed) { throw DiskImageError(.closed, path, "was closed") }
    if write && isReadOnly {
      throw DiskImageError(.readOnly, path, "is open for reading only")
    }
  }

  /// Whether requests of that kind are served at all.
  func canTransfer(isWrite: Bool) -> Bool {
    !isClosed.load(ordering: .relaxed) && !(isWrite && isReadOnly)
  }

  public func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    try begin(write: false)
    try checkRange(offset, BufferList(vectors: vectors, count: count).byteCount)
    try storage.read(vectors, count, at: offset)
  }

  public func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    try begin(write: true)
    try checkRange(offset, BufferList(vectors: vectors, count: count).byteCount)
    try storage.write(vectors, count, at: offset)
  }

  public func flush() throws(DiskImageError) {
    try begin(write: false)
    if !isReadOnly { try storage.flush() }
  }

  public func discard(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    try begin(write: true)
    try checkRange(offset, count)
    if count > 0 { _ = try storage.punchHole(at: offset, count: count) }
  }

  public func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) throws(DiskImageError) {
    try begin(write: true)
    try checkRange(offset, count)
    if count == 0 { return }
    if mayUnmap, try storage.punchHole(at: offset, count: count) { return }
    try storage.writeZeroes(at: offset, count: count)
  }

  public func extent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> BlockExtent {
    try begin(write: false)
    try checkRange(offset, 0)
    let limit = min(limit, size - offset)
    guard limit > 0 else { return BlockExtent(count: 0, isZero: true, isAllocated: true) }
    let found = try storage.dataExtent(at: offset, limit: limit)
    return BlockExtent(
      count: found.count, isZero: !found.isData, isAllocated: true, hostOffset: offset)
  }

  public func resize(to size: UInt64) throws(DiskImageError) {
    try begin(write: true)
    try storage.truncate(to: size)
    virtualSize.store(size, ordering: .relaxed)
  }

  public func close() throws(DiskImageError) {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    defer { storage.close() }
    if !isReadOnly { try storage.flush() }
  }
}
