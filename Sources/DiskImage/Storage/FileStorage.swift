// A file or block device on the host, by positioned system calls.
import CLinux
import Platform
import Synchronization

/// An open host file. Reads past its end give zeros.
package final class FileStorage: ImageStorage {
  package let path: String
  let descriptor: Int32
  private let isOpen = Atomic<Bool>(true)
  /// Changes that have ended, ours alone, and how many of them the last flush found. What the file held when it was opened
  /// may not be durable, and counts as the first.
  private let changes = Atomic<UInt64>(1)
  private let durable = Atomic<UInt64>(0)
  /// The kernel writes for us; when, is not seen here.
  private let isWrittenByRing = Atomic<Bool>(false)
  /// Flushes do nothing: for a new file that is thrown away if anything fails before it has its name.
  private let skipsFlushes = Atomic<Bool>(false)
  private let isBlockDevice: Bool
  /// O_DIRECT asks for this alignment of memory, offset and length.
  private let alignment: Int
  /// O_DIRECT only: where the bytes that were written end, and up to where the file has room for more.
  let writtenEnd = Atomic<UInt64>(0)
  let reservedEnd = Atomic<UInt64>(UInt64.max)
  let growth = ConditionLock()
  package var extendsWithZeros: Bool { !isBlockDevice }

  private init(path: String, descriptor: Int32, isBlockDevice: Bool, alignment: Int) {
    self.path = path
    self.descriptor = descriptor
    self.isBlockDevice = isBlockDevice
    self.alignment = alignment
  }

  deinit { close() }

  /// Opens an existing file.
  ///
  /// - Parameters:
  ///   - writable: Also for writing.
  ///   - direct: Past the host's page cache (O_DIRECT).
  ///   - lock: Announce the use as QEMU does; fails when another program's use contradicts ours.
  package static func open(
    _ path: String, writable: Bool, direct: Bool = false, lock: Bool = true
  ) throws(DiskImageError) -> FileStorage {
    var flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
    if direct { flags |= linux_open_direct_flag() }
    let descriptor = try perform(path, "cannot be opened") { linux_open(path, flags, 0) }
    return try examined(descriptor, path, writable: writable, direct: direct, lock: lock)
  }

  /// A second descriptor of a file that is open already, for reading.
  package static func adopt(
    _ file: SharedDescriptor, path: String
  ) throws(DiskImageError) -> FileStorage {
    let descriptor = try perform(path, "cannot be opened") {
      linux_fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0)
    }
    return try examined(descriptor, path, writable: false, direct: false, lock: true)
  }

  /// Takes a descriptor over.
  private static func examined(
    _ descriptor: Int32, _ path: String, writable: Bool, direct: Bool, lock: Bool
  ) throws(DiskImageError) -> FileStorage {
    var status = stat()
    var failure: DiskImageError?
    if fstat(descriptor, &status) != 0 {
      failure = error(path, "cannot be examined", linux_error_number())
    }
    let kind = status.st_mode & UInt32(S_IFMT)
    if failure == nil && kind != UInt32(S_IFREG) && kind != UInt32(S_IFBLK) {
      failure = DiskImageError(.invalid, path, "is not a file or block device; give a disk image")
    }
    if failure == nil && lock && kind == UInt32(S_IFREG) {
      do throws(DiskImageError) {
        try ImageLock.acquire(descriptor, writable: writable, path: path)
      } catch {
        failure = error
      }
    }
    if let failure {
      CLinux.close(descriptor)
      throw failure
    }
    let file = FileStorage(
      path: path, descriptor: descriptor, isBlockDevice: kind == UInt32(S_IFBLK),
      alignment: direct ? 4096 : 1)
    if direct && writable && kind == UInt32(S_IFREG) {
      let length = UInt64(clamping: status.st_size)
      file.writtenEnd.store(length, ordering: .relaxed)
      file.reservedEnd.store(length, ordering: .relaxed)
    }
    return file
  }

  /// Takes an open descriptor of a file that nobody else has, such as a new one.
  package init(owning descriptor: Int32, path: String) {
    self.path = path
    self.descriptor = descriptor
    isBlockDevice = false
    alignment = 1
  }

  /// The lock of a writer becomes that of a reader. Nothing is written afterwards.
  func giveUpWriting() {
    if isOpen.load(ordering: .relaxed) { ImageLock.giveUpWriting(descriptor) }
  }

  /// Which file this is, for finding loops: device and inode.
  package func identity() throws(DiskImageError) -> FileIdentity {
    var status = stat()
    try Self.perform(path, "cannot be examined") { fstat(descriptor, &status) }
    return FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  package func length() throws(DiskImageError) -> UInt64 {
    if isBlockDevice {
      return UInt64(try Self.perform(path, "cannot be measured") { lseek(descriptor, 0, SEEK_END) })
    }
    if growsAhead { return writtenEnd.load(ordering: .relaxed) }
    var status = stat()
    try Self.perform(path, "cannot be measured") { fstat(descriptor, &status) }
    return UInt64(clamping: status.st_size)
  }

  package func read(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    if alignment > 1 && !isAligned(vectors, count, offset) {
      return try readUnaligned(vectors, count, offset)
    }
    if count == 1 {
      let result = pread(descriptor, vectors[0].iov_base, vectors[0].iov_len, off_t(offset))
      if result == vectors[0].iov_len { return }
    }
    try transfer(vectors, count, at: offset, isWrite: false)
  }

  package func write(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    if growsAhead {
      noteWritten(offset &+ BufferList(vectors: vectors, count: count).byteCount)
    }
    defer { noteChange() }
    if alignment > 1 && !isAligned(vectors, count, offset) {
      return try writeUnaligned(vectors, count, offset)
    }
    if count == 1 {
      let result = pwrite(descriptor, vectors[0].iov_base, vectors[0].iov_len, off_t(offset))
      if result == vectors[0].iov_len { return }
    }
    try transfer(vectors, count, at: offset, isWrite: true)
  }

  /// The general case: many buffers, short transfers, interrupts, the end of the file.
  private func transfer(
    _ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64, isWrite: Bool
  ) throws(DiskImageError) {
    let list = BufferList(vectors: vectors, count: count)
    let total = list.byteCount
    guard total <= UInt64(Int64.max), offset <= UInt64(Int64.max) - total else {
      throw DiskImageError(.outOfRange, path, "offset is beyond any file", offset: offset)
    }
    var done: UInt64 = 0
    while done < total {
      let position = off_t(offset + done)
      // IOV_MAX is 1024: the kernel takes no more buffers in one call.
      let moved = try list.withSlice(from: done, count: total - done) {
        (slice, pieces) throws(DiskImageError) in
        try Self.perform(
          path, isWrite ? "cannot be written" : "cannot be read", offset: offset + done
        ) {
          isWrite
            ? pwritev(descriptor, slice, Int32(min(pieces, 1024)), position)
            : preadv(descriptor, slice, Int32(min(pieces, 1024)), position)
        }
      }
      if moved == 0 {
        if isWrite { throw DiskImageError(.io, path, "takes no more bytes", offset: offset + done) }
        list.zero(from: done, count: total - done)
        return
      }
      done += UInt64(moved)
    }
  }

  /// Flushes do nothing from now on.
  func skipFlushes() { skipsFlushes.store(true, ordering: .relaxed) }

  package func flush() throws(DiskImageError) {
    if skipsFlushes.load(ordering: .relaxed) { return }
    let seen = changes.load(ordering: .sequentiallyConsistent)
    if durable.load(ordering: .sequentiallyConsistent) >= seen
      && !isWrittenByRing.load(ordering: .sequentiallyConsistent)
    {
      return
    }
    try Self.perform(path, "cannot be flushed") { fdatasync(descriptor) }
    durable.max(seen, ordering: .sequentiallyConsistent)
  }

  /// A change of the file has ended.
  private func noteChange() { changes.add(1, ordering: .sequentiallyConsistent) }

  package func punchHole(at offset: UInt64, count: UInt64) throws(DiskImageError) -> Bool {
    let end = isBlockDevice ? offset + count : min(offset + count, try length())
    guard end > offset else { return true }
    defer { noteChange() }
    return linux_fallocate(
      descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, Int64(offset), Int64(end - offset))
      == 0
  }

  package func writeZeroes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    guard count > 0 else { return }
    if growsAhead { noteWritten(offset &+ count) }
    defer { noteChange() }
    if linux_fallocate(descriptor, FALLOC_FL_ZERO_RANGE, Int64(offset), Int64(count)) == 0 {
      return
    }
    try writeZeroBytes(at: offset, count: count)
  }

  package func reserve(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    guard count > 0, !isBlockDevice else { return }
    if growsAhead { noteWritten(offset &+ count) }
    defer { noteChange() }
    try Self.perform(path, "has no room") {
      linux_fallocate(descriptor, 0, Int64(offset), Int64(count))
    }
  }

  package func truncate(to length: UInt64) throws(DiskImageError) {
    guard !isBlockDevice else { return }
    guard length <= UInt64(Int64.max) else {
      throw DiskImageError(.outOfRange, path, "cannot be that long", offset: length)
    }
    defer { noteChange() }
    try Self.perform(path, "cannot be resized") { ftruncate(descriptor, off_t(length)) }
    if growsAhead {
      writtenEnd.store(length, ordering: .relaxed)
      reservedEnd.store(length, ordering: .relaxed)
    }
  }

  package func dataExtent(at offset: UInt64, limit: UInt64) throws(DiskImageError) -> (
    isData: Bool, count: UInt64
  ) {
    let data = linux_seek_data(descriptor, Int64(clamping: offset))
    if data < 0 {
      // ENXIO: nothing but a hole from here on. Anything else: the file system cannot tell.
      return (linux_error_number() != ENXIO, limit)
    }
    if UInt64(data) > offset { return (false, min(limit, UInt64(data) - offset)) }
    let hole = linux_seek_hole(descriptor, Int64(offset))
    guard hole > Int64(offset) else { return (true, limit) }
    return (true, min(limit, UInt64(hole) - offset))
  }

  package func close() {
    guard isOpen.exchange(false, ordering: .acquiringAndReleasing) else { return }
    giveRoomBack()
    CLinux.close(descriptor)
  }

  package func descriptor(forAlignment bits: UInt64, isWrite: Bool) -> Int32? {
    // The ring leaves writes into the page cache to threads of the kernel, which are slower than ours: 18,000 against
    // 50,000 a second at depth 1, 170,000 against 280,000 at depth 64.
    if isWrite && alignment == 1 { return nil }
    guard bits & UInt64(alignment - 1) == 0 else { return nil }
    if isWrite { isWrittenByRing.store(true, ordering: .sequentiallyConsistent) }
    return descriptor
  }

  private func isAligned(_ vectors: UnsafePointer<iovec>, _ count: Int, _ offset: UInt64) -> Bool {
    var bits = Int(truncatingIfNeeded: offset)
    for index in 0..<count {
      bits |= Int(bitPattern: vectors[index].iov_base) | vectors[index].iov_len
    }
    return bits & (alignment - 1) == 0
  }
}

/// Device and inode number of a file.
package struct FileIdentity: Hashable, Sendable {
  package var device: UInt64
  package var inode: UInt64
}

// MARK: - Zeros, O_DIRECT with buffers that do not fit, and errors

extension FileStorage {
  /// Zeros by plain writes, for file systems without FALLOC_FL_ZERO_RANGE.
  private func writeZeroBytes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    let piece = 1 << 16
    let zeros = AlignedBuffer(count: piece)
    zeros.clear()
    var done: UInt64 = 0
    while done < count {
      let step = min(UInt64(piece), count - done)
      try write(from: zeros.pointer, count: Int(step), at: offset + done)
      done += step
    }
  }

  /// The aligned range around a request, through a buffer of our own.
  private func readUnaligned(_ vectors: UnsafePointer<iovec>, _ count: Int, _ offset: UInt64)
    throws(DiskImageError)
  {
    let list = BufferList(vectors: vectors, count: count)
    let unit = UInt64(alignment)
    let start = offset.roundedDown(to: unit)
    let bounce = AlignedBuffer(count: Int((offset + list.byteCount).roundedUp(to: unit) - start))
    var vector = iovec(iov_base: bounce.pointer, iov_len: bounce.count)
    try transfer(&vector, 1, at: start, isWrite: false)
    list.store(bounce.pointer + Int(offset - start), from: 0, count: list.byteCount)
  }

  /// Reads the ends of the aligned range around a request, puts the request in, writes it.
  ///
  /// Two of these at once on the same block would lose one of the writes, hence the lock. The file may end up to one
  /// block later than the request does.
  private func writeUnaligned(_ vectors: UnsafePointer<iovec>, _ count: Int, _ offset: UInt64)
    throws(DiskImageError)
  {
    let list = BufferList(vectors: vectors, count: count)
    let unit = UInt64(alignment)
    let start = offset.roundedDown(to: unit)
    let end = offset + list.byteCount
    let bounce = AlignedBuffer(count: Int(end.roundedUp(to: unit) - start))
    Self.unalignedWrites.lock()
    defer { Self.unalignedWrites.unlock() }
    var vector = iovec(iov_base: bounce.pointer, iov_len: bounce.count)
    if start != offset || end & (unit - 1) != 0 {
      try transfer(&vector, 1, at: start, isWrite: false)
    }
    list.load(into: bounce.pointer + Int(offset - start), from: 0, count: list.byteCount)
    try transfer(&vector, 1, at: start, isWrite: true)
  }

  private static let unalignedWrites = ConditionLock()

  /// Runs a call again while signals interrupt it; -1 becomes an error.
  @discardableResult
  @inline(__always)
  static func perform<R: FixedWidthInteger & SignedInteger>(
    _ path: String, _ what: @autoclosure () -> String, offset: UInt64? = nil, _ body: () -> R
  ) throws(DiskImageError) -> R {
    while true {
      let result = body()
      if result >= 0 { return result }
      let number = linux_error_number()
      if number == EINTR { continue }
      throw error(path, what(), number, offset: offset)
    }
  }

  /// The error for an `errno`.
  static func error(_ path: String, _ what: String, _ number: Int32, offset: UInt64? = nil)
    -> DiskImageError
  {
    let code: DiskImageError.Code
    let advice: String
    switch number {
    case ENOSPC, EDQUOT: (code, advice) = (.noSpace, "; free some space and try again")
    case ENOENT, ENOTDIR: (code, advice) = (.notFound, "")
    case EEXIST: (code, advice) = (.exists, "")
    case EROFS, EACCES, EPERM: (code, advice) = (.readOnly, "; check its permissions")
    default: (code, advice) = (.io, "")
    }
    let words = String(cString: strerror(number))
    return DiskImageError(
      code, path, "\(what): \(words)\(advice)", offset: offset, errorNumber: number)
  }
}
