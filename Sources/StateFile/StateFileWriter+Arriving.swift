import CLinux
import Platform

// A state that comes from another host: its memory is not a guest's of this process.
extension StateFileWriter {
  /// Stores pages of memory.
  ///
  /// - Parameters:
  ///   - bytes: whole pages.
  ///   - offset: in the machine's memory file, a multiple of the page size.
  /// - Throws: `damaged` where they are no pages of this memory.
  package func write(
    _ bytes: UnsafeRawBufferPointer, atMemory offset: UInt64
  ) throws(StateFileError) {
    try checkPages(offset, UInt64(bytes.count))
    var done = 0
    while done < bytes.count {
      let count = min(buffer.count, bytes.count - done)
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]))
      try write(count: count, at: offset + UInt64(done))
      done += count
    }
  }

  /// Has pages of memory be zeros.
  package func writeZeros(count: UInt64, atMemory offset: UInt64) throws(StateFileError) {
    try checkPages(offset, count)
    let pageSize = StateFileHeader.pageSize
    let pages = Int(offset / pageSize)..<Int((offset + count) / pageSize)
    guard forget(pages) else { return }
    // What stood there may be waiting still.
    try drain()
    _ = try system { () throws(PlatformError) in
      let number = descriptor
      return try systemCall("fallocate", path) {
        linux_fallocate(
          number, Int32(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
          Int64(StateFileHeader.memoryOffset + offset), Int64(count))
      }
    }
  }

  private func checkPages(_ offset: UInt64, _ count: UInt64) throws(StateFileError) {
    let (end, overflow) = offset.addingReportingOverflow(count)
    guard !overflow, end <= memorySize, offset % StateFileHeader.pageSize == 0,
      count % StateFileHeader.pageSize == 0
    else { throw .damaged(path: path, reason: "pages came that the memory does not have") }
  }

  private func system<Value>(
    _ body: () throws(PlatformError) -> Value
  ) throws(StateFileError) -> Value {
    do { return try body() } catch { throw .system(error) }
  }
}
