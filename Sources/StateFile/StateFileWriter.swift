import CChecksum
import CLinux
import GuestMemory
import Platform

/// Writes a machine's state: memory first, page by page and again where it has changed meanwhile, then all the rest.
///
/// Until `commit` the file has another name; a writer that goes before leaves nothing.
package final class StateFileWriter: @unchecked Sendable {
  // @unchecked: handed from thread to thread, and used by one at a time.
  package let path: String
  private let temporary: String
  private let file: SharedDescriptor
  let memorySize: UInt64
  /// Of each page: see `pageSum`.
  private var table: [UInt32]
  /// Which pages are left where an earlier state has them.
  private var pages: StateFilePages
  private var isCommitted = false
  /// nil: the file need not be on the disk soon.
  private let ahead: WriteAhead?
  /// Takes what is large.
  private let queue: PageQueue
  private(set) var buffer: UnsafeMutableRawBufferPointer
  /// Bytes of memory that were written, counting pages again that were written again.
  package private(set) var writtenBytes: UInt64 = 0

  private static let bufferSize = 1 << 20
  /// Bytes from which on it is worth waking another thread.
  private static let queuedSize = 1 << 18
  private static let pageSize = Int(StateFileHeader.pageSize)

  /// - Parameters:
  ///   - path: nothing that is there is replaced before `commit`.
  ///   - base: an earlier state of the same machine, in a folder beside this one's: what is not written here stays there.
  ///   - isLasting: it is committed so, see `commit`.
  package init(
    path: String, memorySize: UInt64, base: StateFileReader? = nil, isLasting: Bool = true
  ) throws(StateFileError) {
    ahead = isLasting ? WriteAhead() : nil
    self.path = path
    self.memorySize = memorySize
    temporary = path + ".part"
    let temporary = temporary
    unlink(temporary)
    do throws(PlatformError) {
      file = SharedDescriptor(
        try FileDescriptor.open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC))
    } catch {
      throw .system(error)
    }
    let count = Int(memorySize / StateFileHeader.pageSize)
    let name = base.map { StateFilePages.name(of: $0.path) } ?? ""
    if let base, base.memorySize == memorySize, StateFilePages.isName(name) {
      table = base.table
      pages = StateFilePages(after: base.pages, name: name, pageCount: count)
    } else {
      table = Array(repeating: 0, count: count)
      pages = StateFilePages()
    }
    buffer = .allocate(byteCount: Self.bufferSize, alignment: Self.pageSize)
    let file = file
    queue = PageQueue(bufferSize: Self.bufferSize, alignment: Self.pageSize) {
      (bytes, offset) throws(StateFileError) in
      try Self.write(bytes, at: offset, file, temporary)
    }
  }

  deinit {
    queue.end()
    ahead?.end()
    buffer.deallocate()
    discard()
  }

  /// Removes what was written, unless it is whole and has its name. Nothing can be written afterwards.
  package func discard() {
    if !isCommitted { unlink(temporary) }
  }

  /// Pages that are in the file and not all zeros.
  package var pageCount: Int { table.reduce(0) { $0 + ($1 == 0 ? 0 : 1) } }

  /// It leaves pages in earlier files.
  package var isIncrement: Bool { !pages.files.isEmpty }

  // MARK: Memory

  /// Writes all that the guest has touched.
  package func write(_ memory: GuestMemory) throws(StateFileError) {
    for range in memory.touchedRanges() { try write(memory, range) }
  }

  /// Writes what was written since.
  ///
  /// - Parameter ranges: offsets in the machine's memory file, multiples of the page size.
  package func write(_ memory: GuestMemory, _ ranges: [Range<UInt64>]) throws(StateFileError) {
    for range in ranges { try write(memory, range) }
  }

  /// - Parameter range: offsets in the machine's memory file, multiples of the page size.
  private func write(_ memory: GuestMemory, _ range: Range<UInt64>) throws(StateFileError) {
    var offset = range.lowerBound
    let end = min(range.upperBound, memorySize)
    while offset < end {
      let count = Int(min(UInt64(Self.bufferSize), end - offset))
      if memory.isHole(offset..<offset + UInt64(count)) {
        if let start = buffer.baseAddress { memset(start, 0, count) }
      } else {
        // Looked at once: the guest may be writing there.
        buffer.baseAddress?.copyMemory(
          from: memory.contents + Int(offset), byteCount: count)
      }
      try write(count: count, at: offset)
      offset += UInt64(count)
    }
  }

  /// The buffer's pages, runs at a time; what has become zero is written only where something else stood. The buffer is
  /// another one afterwards.
  func write(count: Int, at offset: UInt64) throws(StateFileError) {
    guard let base = buffer.baseAddress else { return }
    let first = Int(offset / StateFileHeader.pageSize)
    var runs: [PageQueue.Run] = []
    var run: Int?
    for page in 0...count / Self.pageSize {
      var isWanted = false
      if page < count / Self.pageSize {
        let sum = pageSum(base + page * Self.pageSize)
        // In its own file a hole is a page of zeros.
        let stood = pages.origin(first + page) == 0 ? table[first + page] : 0
        isWanted = sum != 0 || stood != 0
        table[first + page] = sum
        pages.own(page + first)
      }
      if isWanted {
        run = run ?? page
      } else if let begin = run {
        let start = begin * Self.pageSize
        runs.append(
          PageQueue.Run(
            start: start, count: (page - begin) * Self.pageSize,
            offset: StateFileHeader.memoryOffset + offset + UInt64(start)))
        run = nil
      }
    }
    try put(runs)
  }

  private func put(_ runs: [PageQueue.Run]) throws(StateFileError) {
    let count = runs.reduce(0) { $0 + $1.count }
    guard count > 0 else { return }
    if count >= Self.queuedSize {
      buffer = try queue.put(buffer, runs)
    } else {
      // An older copy of the same page may be waiting still.
      try queue.drain()
      for run in runs {
        try write(
          UnsafeRawBufferPointer(rebasing: buffer[run.start..<run.start + run.count]),
          at: run.offset)
      }
    }
    writtenBytes += UInt64(count)
    ahead?.note(writtenBytes, of: file.rawValue)
  }

  /// Waits until all that was given is in the file.
  func drain() throws(StateFileError) { try queue.drain() }

  /// Has all that was given so far reach the disk; what is written from here on is to be little. A file system may have
  /// whoever makes another file last wait for what is under way of this one.
  package func settle() throws(StateFileError) {
    try drain()
    guard let ahead else { return }
    ahead.end()
    let number = file.rawValue
    do throws(PlatformError) {
      try systemCall("fdatasync", temporary) { fdatasync(number) }
    } catch {
      throw .system(error)
    }
  }

  /// Has the table say that pages are zeros.
  ///
  /// - Returns: whether anything else stood there.
  func forget(_ pages: Range<Int>) -> Bool {
    var isChanged = false
    for page in pages where table[page] != 0 || self.pages.origin(page) != 0 {
      table[page] = 0
      self.pages.own(page)
      isChanged = true
    }
    return isChanged
  }

  var descriptor: Int32 { file.rawValue }

  /// Earlier files that a state rests on at most.
  private static let filesWanted = 24

  /// Takes over what the files with the fewest pages have, so that a state never rests on many. What has changed since the
  /// state before must be written, or marked as changed, already.
  package func consolidate(_ memory: GuestMemory) throws(StateFileError) {
    pages.dropUnused()
    while pages.files.count > Self.filesWanted {
      let counts = pages.counts
      guard let least = counts.indices.dropFirst().min(by: { counts[$0] < counts[$1] }) else {
        return
      }
      var runs: [Range<Int>] = []
      pages.forEachRun(pageCount: table.count) { origin, run in
        if origin == least { runs.append(run) }
      }
      for run in runs {
        let size = StateFileHeader.pageSize
        try write(memory, UInt64(run.lowerBound) * size..<UInt64(run.upperBound) * size)
      }
      pages.dropUnused()
    }
  }

  // MARK: The rest

  /// Makes the file whole; it still has its other name.
  package func finish(_ manifest: StateManifest) throws(StateFileError) {
    try drain()
    let encoded = manifest.value.encoded
    guard UInt64(encoded.count) <= StateFileHeader.manifestLimit else {
      throw .damaged(path: path, reason: "the devices' state is too large")
    }
    let tableSum = table.withUnsafeBytes { checksum_crc32c(0, $0.baseAddress, $0.count) }
    pages.dropUnused()
    var header = StateFileHeader(
      memorySize: memorySize, manifestSize: UInt64(encoded.count), tableSum: tableSum,
      manifestSum: checksum(encoded[...]))
    header.files = pages.files
    header.originSum = pages.files.isEmpty ? 0 : checksum(pages.origins[...])
    try writeTable(at: header.tableOffset)
    if !pages.files.isEmpty { try write(pages.origins, at: header.originOffset) }
    try write(encoded, at: header.manifestOffset)
    try write(header.bytes, at: 0)
  }

  /// Blocks of zeros stay holes.
  private func writeTable(at offset: UInt64) throws(StateFileError) {
    let entries = Self.pageSize / 4
    var start = 0
    while start < table.count {
      let block = table[start..<min(start + entries, table.count)]
      if block.contains(where: { $0 != 0 }) {
        let outcome = block.withUnsafeBytes { bytes in
          Result { () throws(StateFileError) in try write(bytes, at: offset + UInt64(start) * 4) }
        }
        try outcome.get()
      }
      start += entries
    }
  }

  /// Makes the file last and gives it its name. Call `finish` before.
  ///
  /// - Parameter isLasting: false: it is used at once and need not be there after a power cut.
  package func commit(isLasting: Bool = true) throws(StateFileError) {
    let number = file.rawValue
    let (path, temporary) = (path, temporary)
    ahead?.end()
    do throws(PlatformError) {
      if isLasting { try systemCall("fsync", temporary) { fsync(number) } }
      try systemCall("rename", path) { rename(temporary, path) }
      isCommitted = true
      guard isLasting else { return }
      let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
      let descriptor = try FileDescriptor.open(
        folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY)
      let folderNumber = descriptor.rawValue
      try systemCall("fsync", folder) { fsync(folderNumber) }
    } catch {
      throw .system(error)
    }
  }

  private func write(_ bytes: [UInt8], at offset: UInt64) throws(StateFileError) {
    // The standard library's closure does not tell which errors it throws.
    let outcome = bytes.withUnsafeBytes { bytes in
      Result { () throws(StateFileError) in try write(bytes, at: offset) }
    }
    try outcome.get()
  }

  private func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StateFileError) {
    try Self.write(bytes, at: offset, file, temporary)
  }

  private static func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ file: SharedDescriptor, _ path: String
  ) throws(StateFileError) {
    var done = 0
    let number = file.rawValue
    while done < bytes.count {
      do throws(PlatformError) {
        done += try systemCall("write", path) {
          pwrite(
            number, bytes.baseAddress.map { $0 + done }, bytes.count - done,
            off_t(offset) + off_t(done))
        }
      } catch {
        throw .system(error)
      }
    }
  }
}
