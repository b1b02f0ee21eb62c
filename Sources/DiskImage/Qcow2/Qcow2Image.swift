// A qcow2 disk that is open. This file holds its state and life cycle; each other file of this folder one duty:
// Mapping (where is it), Reading, Writing, Allocation, Refcounts, WriteBack (what reaches the file in which order).
//
// The rule behind every order here: at each instant the refcounts in the file are at least the number of references in
// the file. A crash then loses space at most, which `check` gives back, and never data that was flushed.
import CLinux
import Synchronization

/// An open qcow2 image.
///
/// Data moves without a lock. Tables are looked up under one short lock; requests that allocate the same clusters wait
/// for each other, all others run side by side.
public final class Qcow2Image: BlockDevice, @unchecked Sendable {
  public let path: String
  public let isReadOnly: Bool
  /// What this image is an overlay of, opened for reading.
  public let backing: (any BlockDevice)?
  /// The same, where it can say where its bytes lie.
  let directBacking: (any DirectlyAccessible)?
  package let storage: any ImageStorage
  /// Where data clusters are: the image itself, or the external data file.
  let dataStorage: any ImageStorage
  let geometry: Qcow2Geometry
  let gate = RequestGate()
  let scratch: BufferPool
  let virtualSize: Atomic<UInt64>
  let isClosed = Atomic<Bool>(false)
  /// Many changed tables wait in memory: the next writer writes them back first.
  let isUnderPressure = Atomic<Bool>(false)

  /// Guards everything below, up to the next mark.
  let lock = ConditionLock()
  package internal(set) var header: Qcow2Header
  /// Entries in the machine's byte order.
  var l1: [UInt64]
  /// Groups of 64 entries (512 bytes, what a disk writes at once) that the file does not have.
  var dirtyL1: Set<Int> = []
  let l2Cache: SliceCache
  var refcountTable: [UInt64]
  var dirtyRefcountTable: Set<Int> = []
  let refcountCache: SliceCache
  /// No cluster below this one is free.
  var freeCursor: UInt64 = 0
  /// From this cluster on the file was never written, and so reads as zeros.
  var untouched: UInt64
  /// Host clusters that hold tables in use. Empty when the image is open for reading.
  var metadata = ClusterSet()
  /// Guest clusters whose mapping is about to change.
  var inFlight: [InFlight] = []
  var waiters = 0
  /// Clusters without a reference, in memory only so far.
  var freed: [FreedRun] = []
  /// Clusters without a reference in the file; a request may still use them.
  var retired: [RetiredBatch] = []
  /// Copied data must be durable before the L2 entries that point to it.
  var needsBarrier = false
  /// Set by an error after which the state of the file is not known: no write is accepted any more.
  var failure: DiskImageError?
  /// Place within a shared cluster where the next compressed cluster goes; 0 when there is none.
  var compressedTail: UInt64 = 0
  var decompressed: DecompressedCluster?

  /// One write-back at a time; guards the next mark.
  let writeBackLock = ConditionLock()
  var staging = AlignedBuffer(count: 1 << 16)

  /// The files belong to another object: a snapshot's view of an open image.
  var sharesFiles = false

  struct InFlight {
    var first: UInt64
    var count: UInt64
  }

  init(
    storage: any ImageStorage, dataStorage: (any ImageStorage)?, header: Qcow2Header,
    backing: (any BlockDevice)?, isReadOnly: Bool, cacheBytes: Int
  ) throws(DiskImageError) {
    self.storage = storage
    self.dataStorage = dataStorage ?? storage
    self.header = header
    self.backing = backing
    directBacking = backing as? any DirectlyAccessible
    self.isReadOnly = isReadOnly
    path = storage.path
    geometry = Qcow2Geometry(header)
    virtualSize = Atomic(header.size)
    scratch = BufferPool(
      size: Int(geometry.clusterSize), keep: geometry.clusterSize > 1 << 18 ? 4 : 32)
    let slice = Int(geometry.sliceSize)
    l2Cache = SliceCache(sliceSize: slice, bytes: cacheBytes)
    refcountCache = SliceCache(sliceSize: slice, bytes: cacheBytes / 4)
    untouched = storage.extendsWithZeros ? geometry.clusters(try storage.length()) : UInt64.max
    l1 = try Self.readTable(storage, header.l1Offset, entries: UInt64(header.l1Size))
    refcountTable = try Self.readTable(
      storage, header.refcountTableOffset,
      entries: UInt64(header.refcountTableClusters) << (geometry.clusterBits - 3))
    if !isReadOnly {
      try collectMetadata()
      try prepareForWriting()
    }
  }

  /// Opens an image in storage that the caller made: for tests, and for images inside of something else.
  package static func open(
    _ storage: any ImageStorage, mode: AccessMode = .readWrite, backing: (any BlockDevice)? = nil,
    cacheBytes: Int = 1 << 20
  ) throws(DiskImageError) -> Qcow2Image {
    try Qcow2Image(
      storage: storage, dataStorage: nil, header: try Qcow2Header.read(from: storage),
      backing: backing, isReadOnly: mode == .readOnly, cacheBytes: cacheBytes)
  }

  deinit { try? close() }

  public var size: UInt64 { virtualSize.load(ordering: .relaxed) }

  func setVirtualSize(_ size: UInt64) { virtualSize.store(size, ordering: .relaxed) }

  /// Reads a table of big-endian words; its size was bounded with the header.
  static func readTable(_ storage: any ImageStorage, _ offset: UInt64, entries: UInt64)
    throws(DiskImageError) -> [UInt64]
  {
    guard entries > 0 else { return [] }
    var table = [UInt64](repeating: 0, count: Int(entries))
    try table.withMutableBytes { (bytes) throws(DiskImageError) in
      try storage.read(into: bytes.baseAddress!, count: bytes.count, at: offset)
    }
    for index in table.indices { table[index] = UInt64(bigEndian: table[index]) }
    return table
  }

  /// What must change before the first write: what others could believe and we do not keep up to date.
  private func prepareForWriting() throws(DiskImageError) {
    guard header.version >= 3 else { return }
    // What an unknown bit promises cannot be kept.
    var kept = header.autoclear & (Qcow2Header.rawExternalData | Qcow2Header.bitmapsConsistent)
    if try !invalidateBitmaps(all: false) { kept &= ~Qcow2Header.bitmapsConsistent }
    if kept != header.autoclear {
      header.autoclear = kept
      try storage.writeBytes(header.encodedFeatureBits(), at: Qcow2Header.featureBitsOffset)
      try storage.flush()
    }
  }

  /// Forgets the image without closing its files: they go on under another owner.
  func abandon() { isClosed.store(true, ordering: .releasing) }

  /// Many changes wait in memory: the next writer writes them back.
  func notePressure() { isUnderPressure.store(true, ordering: .relaxed) }
  func pressureIsOff() { isUnderPressure.store(false, ordering: .relaxed) }

  /// Called by writers before they take the lock, so that memory stays bounded.
  @inline(__always)
  func relievePressure() throws(DiskImageError) {
    if isUnderPressure.load(ordering: .relaxed) { try writeBack(durable: false) }
  }

  /// A request begins.
  @inline(__always)
  func begin() throws(DiskImageError) -> UInt64 {
    let generation = gate.enter()
    if isClosed.load(ordering: .relaxed) {
      gate.leave(generation)
      throw DiskImageError(.closed, path, "was closed")
    }
    return generation
  }

  /// As `begin`, but nil where that would wait: for threads that others may be waiting for.
  func tryBegin() -> UInt64? {
    guard let generation = gate.tryEnter() else { return nil }
    if isClosed.load(ordering: .relaxed) {
      gate.leave(generation)
      return nil
    }
    return generation
  }

  func requireWritable() throws(DiskImageError) {
    if isReadOnly { throw DiskImageError(.readOnly, path, "is open for reading only") }
  }

  /// Runs an operation on the whole image while no request is inside.
  func exclusively<R>(_ body: () throws(DiskImageError) -> R) throws(DiskImageError) -> R {
    gate.shut()
    defer { gate.open() }
    if isClosed.load(ordering: .relaxed) { throw DiskImageError(.closed, path, "was closed") }
    return try body()
  }

  public func flush() throws(DiskImageError) {
    if isReadOnly { return }
    let generation = try begin()
    defer { gate.leave(generation) }
    try writeBack(durable: true)
  }

  public func close() throws(DiskImageError) {
    guard !isClosed.load(ordering: .relaxed) else { return }
    gate.shut()
    defer { gate.open() }
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    var problem: DiskImageError?
    if !isReadOnly {
      do throws(DiskImageError) { try settle() } catch { problem = error }
    }
    if sharesFiles { return }
    dataStorage.close()
    storage.close()
    do throws(DiskImageError) { try backing?.close() } catch { problem = problem ?? error }
    if let problem { throw problem }
  }

  /// Writes everything back, gives freed clusters back and leaves no mark. Only while no request is inside.
  func settle() throws(DiskImageError) {
    try writeBack(durable: true)
    // The first round made the changed mappings durable and so freed clusters; the second writes their refcounts.
    try writeBack(durable: true)
  }
}
