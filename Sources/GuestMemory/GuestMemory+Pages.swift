import CLinux
import Platform

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

  /// Takes every page back to zero and gives its host memory back, as after a power cycle.
  public func discardAll() {
    if isPrivate {
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
      _ = mmap(mapping, Int(size), PROT_READ | PROT_WRITE, flags, -1, 0)
    } else {
      _ = linux_fallocate(
        file.rawValue, Int32(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), 0, Int64(size))
    }
    markDirty(at: regions[0].base, count: Int(lowSize))
    if highSize > 0 { markDirty(at: GuestAddress(Self.highMemoryBase), count: Int(highSize)) }
  }
}
