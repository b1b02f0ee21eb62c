import CChecksum
import CLinux
import GuestMemory
import Platform
import Synchronization

/// A state file that was opened and found to be one. Whoever wrote it: nothing in it can do more than be refused.
package final class StateFileReader: Sendable {
  package let path: String
  package let manifest: StateManifest
  package let memorySize: UInt64
  private let file: FileDescriptor
  /// Of each page: see `pageSum`.
  private let table: [UInt32]

  private static let bufferSize = 1 << 20

  /// Reads everything but memory.
  package init(path: String) throws(StateFileError) {
    self.path = path
    do throws(PlatformError) {
      file = try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch {
      throw .system(error)
    }
    let number = file.rawValue
    var information = stat()
    guard fstat(number, &information) == 0,
      information.st_mode & UInt32(S_IFMT) == UInt32(S_IFREG)
    else { throw .damaged(path: path, reason: "it is not a file") }
    let size = UInt64(clamping: information.st_size)
    let page = try Self.read(number, path, at: 0, count: min(size, StateFileHeader.pageSize))
    let header = try StateFileHeader(page, fileSize: size, path: path)
    memorySize = header.memorySize
    // The file is as long as it says: what is read here is no larger than the file.
    let table = try Self.read(number, path, at: header.tableOffset, count: header.tableSize)
    guard checksum(table[...]) == header.tableSum else {
      throw .damaged(path: path, reason: "its page table does not have its checksum")
    }
    self.table = table.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self))
      }
    }
    let encoded = try Self.read(
      number, path, at: header.manifestOffset, count: header.manifestSize)
    guard checksum(encoded[...]) == header.manifestSum else {
      throw .damaged(path: path, reason: "its manifest does not have its checksum")
    }
    do throws(StateValueError) {
      manifest = try StateManifest(try StateValue(decoding: encoded))
    } catch {
      throw .damaged(path: path, reason: "its manifest: \(error)")
    }
  }

  /// Pages of memory that are not all zeros.
  package var pageCount: Int { table.reduce(0) { $0 + ($1 == 0 ? 0 : 1) } }

  /// Reads all memory and compares it with its checksums.
  ///
  /// - Parameter isCancelled: asked from time to time.
  package func verifyMemory(isCancelled: () -> Bool = { false }) throws(StateFileError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.bufferSize, alignment: Int(StateFileHeader.pageSize))
    defer { buffer.deallocate() }
    var next: UInt64 = 0
    for range in try dataRanges() {
      try expectZeros(next..<range.lowerBound)
      var offset = range.lowerBound
      while offset < range.upperBound, !isCancelled() {
        let count = Int(min(UInt64(Self.bufferSize), range.upperBound - offset))
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        try Self.fill(part, file.rawValue, path, at: StateFileHeader.memoryOffset + offset)
        try compare(part, at: offset)
        offset += UInt64(count)
      }
      next = range.upperBound
    }
    try expectZeros(next..<memorySize)
  }

  private func compare(
    _ bytes: UnsafeMutableRawBufferPointer, at offset: UInt64
  ) throws(StateFileError) {
    guard let base = bytes.baseAddress else { return }
    let first = Int(offset / StateFileHeader.pageSize)
    for page in 0..<bytes.count / Int(StateFileHeader.pageSize)
    where pageSum(base + page * Int(StateFileHeader.pageSize)) != table[first + page] {
      throw wrongPage(first + page)
    }
  }

  /// Holes of the file.
  private func expectZeros(_ range: Range<UInt64>) throws(StateFileError) {
    let pages =
      Int(
        range.lowerBound / StateFileHeader.pageSize)..<Int(
        range.upperBound / StateFileHeader.pageSize)
    if let page = table[pages].firstIndex(where: { $0 != 0 }) { throw wrongPage(page) }
  }

  private func wrongPage(_ page: Int) -> StateFileError {
    .damaged(
      path: path,
      reason: "the memory at \(UInt64(page) * StateFileHeader.pageSize) does not have its checksum")
  }

  /// Where memory is not a hole, in whole pages.
  private func dataRanges() throws(StateFileError) -> [Range<UInt64>] {
    let number = file.rawValue
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

  /// A guest's memory that is this file's until it is written: nothing is read here.
  package func makeMemory(hugePages: HugePageAdvice) throws(StateFileError) -> GuestMemory {
    do {
      return try GuestMemory(
        size: memorySize, of: try file.duplicate(), at: StateFileHeader.memoryOffset,
        hugePages: hugePages)
    } catch let error as PlatformError {
      throw .system(error)
    } catch let error as GuestMemoryError {
      throw .damaged(path: path, reason: "\(error)")
    } catch {
      throw .damaged(path: path, reason: "\(error)")
    }
  }

  private static func read(
    _ number: Int32, _ path: String, at offset: UInt64, count: UInt64
  ) throws(StateFileError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(count))
    // The standard library's closure does not tell which errors it throws.
    let outcome = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(StateFileError) in try fill(buffer, number, path, at: offset) }
    }
    try outcome.get()
    return bytes
  }

  private static func fill(
    _ buffer: UnsafeMutableRawBufferPointer, _ number: Int32, _ path: String, at offset: UInt64
  ) throws(StateFileError) {
    var done = 0
    while done < buffer.count {
      let count: Int
      do throws(PlatformError) {
        count = try systemCall("read", path) {
          pread(
            number, buffer.baseAddress.map { $0 + done }, buffer.count - done,
            off_t(offset) + off_t(done))
        }
      } catch {
        throw .system(error)
      }
      guard count > 0 else { throw .damaged(path: path, reason: "it has become shorter") }
      done += count
    }
  }
}
