import CLinux
import GuestMemory
import Platform

// The memory of a state: mapped where it stands, and compared with its checksums.
extension StateFileReader {
  private static let bufferSize = 1 << 20

  /// A guest's memory that is the files' until it is written: nothing is read here.
  package func makeMemory(hugePages: HugePageAdvice) throws(StateFileError) -> GuestMemory {
    do {
      let memory = try GuestMemory(
        size: memorySize, of: try sources[0].descriptor.duplicate(),
        at: StateFileHeader.memoryOffset, hugePages: hugePages)
      let pieces = try placeSmallRuns(in: memory)
      try memory.overlay(pieces, hugePages: hugePages)
      return memory
    } catch let error as PlatformError {
      throw .system(error)
    } catch let error as GuestMemoryError {
      throw .damaged(path: path, reason: "\(error)")
    } catch let error as StateFileError {
      throw error
    } catch {
      throw .damaged(path: path, reason: "\(error)")
    }
  }

  /// Pieces that are mapped: a process may have 65530 of all kinds.
  private static let pieceLimit = 16_384

  /// What stands in earlier files: the longest runs, to be mapped; where there are too many, the others are read here.
  private func placeSmallRuns(
    in memory: GuestMemory
  ) throws(StateFileError) -> [GuestMemory.Piece] {
    let pageSize = StateFileHeader.pageSize
    var pieces: [GuestMemory.Piece] = []
    pages.forEachRun(pageCount: table.count) { origin, run in
      guard origin > 0 else { return }
      let start = UInt64(run.lowerBound) * pageSize
      pieces.append(
        .init(
          range: start..<UInt64(run.upperBound) * pageSize, file: sources[origin].rawValue,
          offset: StateFileHeader.memoryOffset + start))
    }
    guard pieces.count > Self.pieceLimit else { return pieces }
    pieces.sort { $0.range.count > $1.range.count }
    for piece in pieces[Self.pieceLimit...] {
      guard let target = memory.fileBytes(piece.range) else { continue }
      try Self.fill(target, piece.file, path, at: piece.offset)
    }
    return Array(pieces.prefix(Self.pieceLimit))
  }

  // MARK: Checksums

  /// Reads all memory and compares it with its checksums.
  ///
  /// - Parameter isCancelled: asked from time to time.
  package func verifyMemory(isCancelled: () -> Bool = { false }) throws(StateFileError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.bufferSize, alignment: Int(StateFileHeader.pageSize))
    defer { buffer.deallocate() }
    for (origin, source) in sources.enumerated() {
      var next: UInt64 = 0
      for range in dataRanges(source.rawValue) {
        try expectZeros(next..<range.lowerBound, origin)
        var offset = range.lowerBound
        while offset < range.upperBound, !isCancelled() {
          let count = Int(min(UInt64(Self.bufferSize), range.upperBound - offset))
          let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
          if hasPages(offset..<offset + UInt64(count), origin) {
            try Self.fill(part, source.rawValue, path, at: StateFileHeader.memoryOffset + offset)
            try compare(part, at: offset, origin)
          }
          offset += UInt64(count)
        }
        next = range.upperBound
      }
      try expectZeros(next..<memorySize, origin)
    }
  }

  private func pageNumbers(_ range: Range<UInt64>) -> Range<Int> {
    Int(
      range.lowerBound / StateFileHeader.pageSize)..<Int(
        range.upperBound / StateFileHeader.pageSize)
  }

  private func hasPages(_ range: Range<UInt64>, _ origin: Int) -> Bool {
    pageNumbers(range).contains { pages.origin($0) == origin }
  }

  private func compare(
    _ bytes: UnsafeMutableRawBufferPointer, at offset: UInt64, _ origin: Int
  ) throws(StateFileError) {
    guard let base = bytes.baseAddress else { return }
    let first = Int(offset / StateFileHeader.pageSize)
    for page in 0..<bytes.count / Int(StateFileHeader.pageSize)
    where pages.origin(first + page) == origin
      && pageSum(base + page * Int(StateFileHeader.pageSize)) != table[first + page]
    {
      throw wrongPage(first + page)
    }
  }

  /// Holes of the file.
  private func expectZeros(_ range: Range<UInt64>, _ origin: Int) throws(StateFileError) {
    let wrong = pageNumbers(range).first { table[$0] != 0 && pages.origin($0) == origin }
    if let wrong { throw wrongPage(wrong) }
  }

  private func wrongPage(_ page: Int) -> StateFileError {
    .damaged(
      path: path,
      reason: "the memory at \(UInt64(page) * StateFileHeader.pageSize) does not have its checksum")
  }

  /// Where a file's memory is not a hole, in whole pages.
  private func dataRanges(_ number: Int32) -> [Range<UInt64>] {
    let pageSize = StateFileHeader.pageSize
    var ranges: [Range<UInt64>] = []
    var place = Int64(StateFileHeader.memoryOffset)
    let limit = Int64(StateFileHeader.memoryOffset + memorySize)
    while place < limit {
      let start = linux_seek_data(number, place)
      // ENXIO: nothing but a hole follows.
      guard start >= 0, start < limit else { break }
      let end = linux_seek_hole(number, start)
      guard end > start else { break }
      let lower = (UInt64(start) - StateFileHeader.memoryOffset) / pageSize * pageSize
      let upper = min(
        memorySize,
        (UInt64(end) - StateFileHeader.memoryOffset + pageSize - 1) / pageSize * pageSize)
      let begin = max(lower, ranges.last?.upperBound ?? 0)
      if begin < upper { ranges.append(begin..<upper) }
      place = end
    }
    return ranges
  }
}
