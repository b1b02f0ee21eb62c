import CLinux
import Platform
import Synchronization

/// The RAM of a guest: one memfd, mapped once, seen by the guest as regions around the PCI hole.
///
/// Reads and writes are plain copies. A guest changes its memory while we look at it, so whatever is decided on is
/// copied out once and looked at after that. Values in memory are little-endian.
public final class GuestMemory: @unchecked Sendable {
  // @unchecked: the mapping never moves and lives as long as this object; what stands in it belongs to the guest and
  // races by nature.

  /// A contiguous piece of guest-physical RAM.
  public struct Region: Sendable {
    public let base: GuestAddress
    public let size: UInt64
    /// Where the region starts in the memfd.
    public let fileOffset: UInt64
    /// Where the region starts in this process.
    public nonisolated(unsafe) let host: UnsafeMutableRawPointer

    /// One past the last address.
    @inlinable public var end: UInt64 { base.rawValue &+ size }

    init(base: GuestAddress, size: UInt64, fileOffset: UInt64, host: UnsafeMutableRawPointer) {
      self.base = base
      self.size = size
      self.fileOffset = fileOffset
      self.host = host
    }
  }

  public static let pageSize: UInt64 = 4096
  /// RAM below 4 GiB ends here at the latest; the rest continues at 4 GiB (i440FX-like map).
  public static let lowMemoryLimit: UInt64 = 0xC000_0000
  public static let highMemoryBase: UInt64 = 0x1_0000_0000

  /// Total bytes of RAM.
  public let size: UInt64
  /// Sorted by base; one below the hole and, for large guests, one from 4 GiB.
  public let regions: [Region]
  @usableFromInline let lowHost: UnsafeMutableRawPointer
  @usableFromInline let lowSize: UInt64
  @usableFromInline let highHost: UnsafeMutableRawPointer
  @usableFromInline let highSize: UInt64
  let observer = Mutex<WriteObserver?>(nil)
  @usableFromInline let isObserved = Atomic<Bool>(false)
  let file: FileDescriptor
  let mapping: UnsafeMutableRawPointer
  /// Pages are the file's until they are written, and then this process's own.
  let isPrivate: Bool
  let hugePages: HugePageAdvice
  /// Of memory that is a file's: places where zeros are shown instead, in order.
  let zeroed = Mutex<[Range<UInt64>]>([])
  @usableFromInline let isTracking = Atomic<Bool>(false)
  /// The bitmap that `tracking` keeps, for markers, which take no lock.
  let dirtyBitmap = Atomic<UnsafeRawPointer?>(nil)
  let tracking = Mutex<DirtyBitmap?>(nil)

  /// Reserves (does not touch) `size` bytes of RAM.
  ///
  /// - Parameters:
  ///   - size: bytes, a multiple of 4 KiB, at least 1 MiB. More than the host has is fine as long as the guest does not
  ///     touch it.
  ///   - hugePages: what the host is told about the page size.
  /// - Throws: `GuestMemoryError.invalidSize`, or `.system` when the host refuses.
  public convenience init(
    size: UInt64, hugePages: HugePageAdvice = .preferred
  ) throws(GuestMemoryError) {
    try Self.check(size)
    try self.init(
      size: size, file: try Self.makeFile(size), offset: 0, isPrivate: false, hugePages: hugePages)
  }

  /// RAM that has a file's content. The file is not written: what the guest writes is this process's own, and what it does
  /// not touch is never read.
  ///
  /// - Parameters:
  ///   - size: as above; the file has so many bytes from `offset` and keeps them.
  ///   - offset: a multiple of 4 KiB.
  /// - Throws: as above; `.invalidSize` also where the file is too short.
  public convenience init(
    size: UInt64, of file: consuming FileDescriptor, at offset: UInt64,
    hugePages: HugePageAdvice = .preferred
  ) throws(GuestMemoryError) {
    try Self.check(size)
    var information = stat()
    let (end, overflow) = offset.addingReportingOverflow(size)
    guard fstat(file.rawValue, &information) == 0, !overflow, offset % Self.pageSize == 0,
      end <= UInt64(clamping: information.st_size)
    else { throw .invalidSize(size) }
    try self.init(size: size, file: file, offset: offset, isPrivate: true, hugePages: hugePages)
  }

  private static func makeFile(_ size: UInt64) throws(GuestMemoryError) -> FileDescriptor {
    do throws(PlatformError) {
      let file = FileDescriptor(
        owning: try systemCall("memfd_create") {
          linux_memfd_create("guest-memory", UInt32(MFD_CLOEXEC))
        })
      let number = file.rawValue
      try systemCall("ftruncate", "guest memory") { ftruncate(number, Int(size)) }
      return file
    } catch {
      throw .system(error)
    }
  }

  private static func check(_ size: UInt64) throws(GuestMemoryError) {
    guard size >= 1 << 20, size % Self.pageSize == 0, size <= 1 << 46 else {
      throw .invalidSize(size)
    }
  }

  private init(
    size: UInt64, file: consuming FileDescriptor, offset: UInt64, isPrivate: Bool,
    hugePages: HugePageAdvice
  ) throws(GuestMemoryError) {
    let address = try Self.map(
      file.rawValue, size: Int(size), offset: offset, isPrivate: isPrivate)
    self.file = file
    self.isPrivate = isPrivate
    self.hugePages = hugePages
    if isPrivate { _ = Self.pageMap }
    madvise(address, Int(size), Int32(MADV_DONTDUMP))
    hugePages.apply(to: address, count: Int(size))
    mapping = address
    self.size = size
    lowSize = min(size, Self.lowMemoryLimit)
    highSize = size - lowSize
    lowHost = address
    highHost = address + Int(lowSize)
    var regions = [
      Region(base: GuestAddress(0), size: lowSize, fileOffset: 0, host: address)
    ]
    if highSize > 0 {
      regions.append(
        Region(
          base: GuestAddress(Self.highMemoryBase), size: highSize, fileOffset: lowSize,
          host: highHost))
    }
    self.regions = regions
  }

  /// The regions without the addresses in `range`, which the guest is not shown as RAM. The memory behind them stays.
  ///
  /// - Parameter range: bounds are multiples of the page size; nil leaves everything.
  public func regions(without range: Range<UInt64>?) -> [Region] {
    guard let range, !range.isEmpty else { return regions }
    return regions.flatMap { region in
      let start = region.base.rawValue
      return [
        start..<max(start, min(region.end, range.lowerBound)),
        min(region.end, max(start, range.upperBound))..<region.end,
      ].filter { !$0.isEmpty }.map { part in
        Region(
          base: GuestAddress(part.lowerBound), size: UInt64(part.count),
          fileOffset: region.fileOffset + (part.lowerBound - start),
          host: region.host + Int(part.lowerBound - start))
      }
    }
  }

  deinit {
    munmap(mapping, Int(size))
  }

  /// Maps the memfd at a multiple of the huge page's size: the kernel gives huge pages only where file offset and
  /// address agree.
  private static func map(
    _ file: Int32, size: Int, offset: UInt64, isPrivate: Bool
  ) throws(GuestMemoryError) -> UnsafeMutableRawPointer {
    func check(_ address: UnsafeMutableRawPointer?) throws(GuestMemoryError)
      -> UnsafeMutableRawPointer
    {
      guard let address, address != linux_map_failed() else {
        throw .system(
          PlatformError(operation: "mmap", code: linux_error_number(), subject: "\(size) bytes"))
      }
      return address
    }
    let alignment = HugePageAdvice.pageSize
    let space = size + alignment
    let reserved = try check(
      mmap(nil, space, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))
    let before = (alignment - Int(bitPattern: reserved) % alignment) % alignment
    let start = reserved + before
    // NORESERVE: a guest of several hundred GiB is sparse and must not count against the commit limit.
    let mapped = mmap(
      start, size, PROT_READ | PROT_WRITE,
      (isPrivate ? MAP_PRIVATE : MAP_SHARED) | MAP_NORESERVE | MAP_FIXED, file, off_t(offset))
    guard mapped == start else {
      let error = linux_error_number()
      munmap(reserved, space)
      throw .system(PlatformError(operation: "mmap", code: error, subject: "\(size) bytes"))
    }
    if before > 0 { munmap(reserved, before) }
    // The size is a multiple of the page's.
    if alignment > before { munmap(start + size, alignment - before) }
    return start
  }

  /// The number of the memfd, for back ends that map the guest's memory themselves.
  public var rawDescriptor: Int32 { file.rawValue }

  /// Where `count` bytes at `address` stand in this process, or nil unless all of them are RAM of one region.
  ///
  /// The pointer is valid as long as this object; who writes through it calls `markDirty` afterwards. Never make a Swift reference or a typed buffer that assumes that the
  /// bytes stay the same.
  @inlinable @inline(__always)
  public func pointer(at address: GuestAddress, count: UInt64) -> UnsafeMutableRawPointer? {
    let start = address.rawValue
    if start < lowSize && count <= lowSize &- start { return lowHost + Int(start) }
    let above = start &- Self.highMemoryBase
    if start >= Self.highMemoryBase && above < highSize && count <= highSize &- above {
      return highHost + Int(above)
    }
    return nil
  }

  /// As `pointer`, as a buffer.
  @inlinable
  public func slice(at address: GuestAddress, count: Int) -> UnsafeMutableRawBufferPointer? {
    guard count >= 0, let start = pointer(at: address, count: UInt64(count)) else { return nil }
    return UnsafeMutableRawBufferPointer(start: start, count: count)
  }

  /// Reads a little-endian integer once; nil outside RAM. Needs no alignment.
  @inlinable @inline(__always)
  public func load<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type = Value.self, at address: GuestAddress
  ) -> Value? {
    guard let start = pointer(at: address, count: UInt64(MemoryLayout<Value>.size)) else {
      return nil
    }
    return Value(littleEndian: start.loadUnaligned(as: Value.self))
  }

  /// Writes a little-endian integer; false outside RAM. Needs no alignment.
  @inlinable @inline(__always) @discardableResult
  public func store<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, at address: GuestAddress
  ) -> Bool {
    guard let start = pointer(at: address, count: UInt64(MemoryLayout<Value>.size)) else {
      return false
    }
    start.storeBytes(of: value.littleEndian, as: Value.self)
    markDirty(host: start, count: MemoryLayout<Value>.size)
    return true
  }

  /// Copies guest bytes out.
  public func read(
    _ target: UnsafeMutableRawBufferPointer, at address: GuestAddress
  ) throws(GuestMemoryError) {
    guard let source = slice(at: address, count: target.count) else {
      throw .outOfRange(address: address, count: UInt64(target.count))
    }
    target.copyMemory(from: UnsafeRawBufferPointer(source))
  }

  /// Copies guest bytes out into a new array.
  public func bytes(at address: GuestAddress, count: Int) throws(GuestMemoryError) -> [UInt8] {
    guard let source = slice(at: address, count: count) else {
      throw .outOfRange(address: address, count: UInt64(clamping: count))
    }
    return [UInt8](source)
  }

  /// Copies bytes into the guest.
  public func write(
    _ source: UnsafeRawBufferPointer, at address: GuestAddress
  ) throws(GuestMemoryError) {
    guard let target = slice(at: address, count: source.count) else {
      throw .outOfRange(address: address, count: UInt64(source.count))
    }
    target.copyMemory(from: source)
    markDirty(at: address, count: source.count)
  }

  /// Copies bytes into the guest.
  public func write(_ bytes: [UInt8], at address: GuestAddress) throws(GuestMemoryError) {
    guard let target = slice(at: address, count: bytes.count) else {
      throw .outOfRange(address: address, count: UInt64(bytes.count))
    }
    target.copyBytes(from: bytes)
    markDirty(at: address, count: bytes.count)
  }
}
