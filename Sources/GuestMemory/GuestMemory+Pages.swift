import CLinux
import Platform
import Synchronization

extension GuestMemory.Region {
  /// Where pages of this region stand in the memory file.
  package func offsets(of pages: DirtyPages) -> [Range<UInt64>] {
    var ranges: [Range<UInt64>] = []
    let first = base.rawValue / GuestMemory.pageSize
    pages.forEachRun { run in
      guard run.lowerBound >= first else { return }
      let start = fileOffset + (run.lowerBound - first) * GuestMemory.pageSize
      ranges.append(start..<start + UInt64(run.count) * GuestMemory.pageSize)
    }
    return ranges
  }
}

// What the host has given for a guest's memory, and taking it back.
extension GuestMemory {
  /// Where the memory file's first byte stands in this process: `Region.fileOffset` counts from here.
  package var contents: UnsafeRawPointer { UnsafeRawPointer(mapping) }

  /// Bytes that the host has given so far.
  public var residentSize: UInt64 {
    if isPrivate { return presentSize }
    var information = stat()
    guard fstat(file.rawValue, &information) == 0 else { return 0 }
    return UInt64(clamping: information.st_blocks) &* 512
  }

  /// Of memory that is a file's: pages that are in the host's memory, whoever else has them too.
  private var presentSize: UInt64 {
    let count = Int(size / Self.pageSize)
    let present = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
      used = mincore(mapping, Int(size), buffer.baseAddress) == 0 ? count : 0
    }
    return present.reduce(0) { $0 + UInt64($1 & 1) } &* Self.pageSize
  }

  /// Offsets in the memory file, in whole pages and in order: everything outside of them is zeros. More may be zeros.
  package func touchedRanges() -> [Range<UInt64>] {
    guard !isPrivate else { return [0..<size] }
    let number = file.rawValue
    var ranges: [Range<UInt64>] = []
    var place: Int64 = 0
    while place < Int64(size) {
      let start = linux_seek_data(number, place)
      guard start >= 0 else { break }
      let end = linux_seek_hole(number, start)
      guard end > start else { return [0..<size] }
      let lower = UInt64(start) / Self.pageSize * Self.pageSize
      let upper = (UInt64(end) + Self.pageSize - 1) / Self.pageSize * Self.pageSize
      ranges.append(lower..<min(upper, size))
      place = end
    }
    return ranges
  }

  /// A part of memory that stands in a file of its own.
  package struct Piece: Sendable {
    /// Offsets in memory, multiples of the page size.
    package var range: Range<UInt64>
    /// The number of an open file, which may be closed afterwards.
    package var file: Int32
    /// Where the part stands in it, a multiple of the page size.
    package var offset: UInt64

    package init(range: Range<UInt64>, file: Int32, offset: UInt64) {
      self.range = range
      self.file = file
      self.offset = offset
    }
  }

  /// Has parts of memory that is a file's come from other files, each of them private as well. Before anybody uses it.
  package func overlay(
    _ pieces: [Piece], hugePages: HugePageAdvice
  ) throws(GuestMemoryError) {
    guard isPrivate, !pieces.isEmpty else { return }
    for piece in pieces {
      var information = stat()
      let (end, overflow) = piece.offset.addingReportingOverflow(UInt64(piece.range.count))
      guard let target = fileBytes(piece.range)?.baseAddress, !overflow,
        fstat(piece.file, &information) == 0, end <= UInt64(clamping: information.st_size)
      else { throw .invalidSize(piece.range.upperBound) }
      let flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED
      let mapped = mmap(
        target, piece.range.count, PROT_READ | PROT_WRITE, flags, piece.file, off_t(piece.offset))
      guard mapped == target else {
        throw .system(
          PlatformError(
            operation: "mmap", code: linux_error_number(),
            subject: "\(piece.range.count) bytes of saved memory"))
      }
    }
    madvise(mapping, Int(size), Int32(MADV_DONTDUMP))
    hugePages.apply(to: mapping, count: Int(size))
  }

  /// A part of memory by its place in the memory file; nil where that is not in it.
  package func fileBytes(_ range: Range<UInt64>) -> UnsafeMutableRawBufferPointer? {
    guard range.upperBound <= size else { return nil }
    return UnsafeMutableRawBufferPointer(
      start: mapping + Int(range.lowerBound), count: range.count)
  }

  /// What the kernel tells of this process's pages; open from the first such memory on, for a process that may open nothing
  /// later. nil where the host does not tell.
  static let pageMap = try? SharedDescriptor(FileDescriptor.open("/proc/self/pagemap", O_RDONLY))

  /// Of memory that is a file's: what this process has written since, offsets in whole pages and in order, or a bit more.
  /// Anything but its own pages is the file's still.
  ///
  /// - Returns: nil where memory is no file's, or the host does not tell.
  package func privateRanges() -> [Range<UInt64>]? {
    guard isPrivate, let file = Self.pageMap else { return nil }
    // Documentation/admin-guide/mm/pagemap.rst: 63 present, 62 swapped, 61 of a file or shared.
    let there: UInt64 = 3 << 62
    let ofFile: UInt64 = 1 << 61
    let first = UInt64(UInt(bitPattern: mapping)) / Self.pageSize
    let count = Int(size / Self.pageSize)
    var words = [UInt64](repeating: 0, count: min(count, 1 << 16))
    var ranges: [Range<UInt64>] = []
    var page = 0
    while page < count {
      let wanted = min(words.count, count - page)
      let got = words.withUnsafeMutableBytes { buffer in
        pread(file.rawValue, buffer.baseAddress, wanted * 8, off_t((first + UInt64(page)) * 8))
      }
      guard got == wanted * 8 else { return nil }
      for index in 0..<wanted where words[index] & there != 0 && words[index] & ofFile == 0 {
        let start = UInt64(page + index) * Self.pageSize
        if ranges.last?.upperBound == start {
          ranges[ranges.count - 1] = ranges[ranges.count - 1].lowerBound..<start + Self.pageSize
        } else {
          ranges.append(start..<start + Self.pageSize)
        }
      }
      page += wanted
    }
    // Zeros that nobody has touched since are no pages yet.
    let zeroed = zeroed.withLock { $0 }
    return zeroed.isEmpty ? ranges : Self.union(ranges + zeroed)
  }

  /// Takes every page back to zero and gives its host memory back, as after a power cycle.
  public func discardAll() {
    if isPrivate {
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
      _ = mmap(mapping, Int(size), PROT_READ | PROT_WRITE, flags, -1, 0)
      zeroed.withLock { $0 = [0..<size] }
    } else {
      _ = linux_fallocate(
        file.rawValue, Int32(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), 0, Int64(size))
    }
    markDirty(at: regions[0].base, count: Int(lowSize))
    if highSize > 0 { markDirty(at: GuestAddress(Self.highMemoryBase), count: Int(highSize)) }
  }
}
