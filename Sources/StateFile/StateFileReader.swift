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
  /// The state's own file, and the earlier ones that it has pages in.
  let sources: [SharedDescriptor]
  package let pages: StateFilePages
  /// Of each page: see `pageSum`.
  let table: [UInt32]

  /// Reads everything but memory.
  ///
  /// - Parameter isManifestRead: false where only the pages are of interest.
  package init(path: String, isManifestRead: Bool = true) throws(StateFileError) {
    self.path = path
    let (file, size) = try Self.open(path)
    let number = file.rawValue
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
    pages = try Self.readPages(number, path, header)
    var sources = [file]
    for name in isManifestRead ? pages.files : [] {
      let place = StateFilePages.path(of: name, beside: path)
      let (earlier, size) = try Self.open(place)
      guard size >= StateFileHeader.memoryOffset + header.memorySize else {
        throw .damaged(path: place, reason: "it has become shorter, and \(path) needs it")
      }
      sources.append(earlier)
    }
    self.sources = sources
    guard isManifestRead else {
      manifest = StateManifest(created: 0, facts: [])
      return
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

  private static func open(
    _ path: String
  ) throws(StateFileError) -> (file: SharedDescriptor, size: UInt64) {
    let file: SharedDescriptor
    do throws(PlatformError) {
      file = SharedDescriptor(
        try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK))
    } catch {
      throw .system(error)
    }
    var information = stat()
    guard fstat(file.rawValue, &information) == 0,
      information.st_mode & UInt32(S_IFMT) == UInt32(S_IFREG)
    else { throw .damaged(path: path, reason: "it is not a file") }
    return (file, UInt64(clamping: information.st_size))
  }

  private static func readPages(
    _ number: Int32, _ path: String, _ header: StateFileHeader
  ) throws(StateFileError) -> StateFilePages {
    guard !header.files.isEmpty else { return StateFilePages() }
    let origins = try read(number, path, at: header.originOffset, count: header.originSize)
    guard checksum(origins[...]) == header.originSum,
      let pages = StateFilePages(files: header.files, origins: origins)
    else { throw .damaged(path: path, reason: "what it says of earlier files is altered") }
    return pages
  }

  /// Pages of memory that are not all zeros.
  package var pageCount: Int { table.reduce(0) { $0 + ($1 == 0 ? 0 : 1) } }

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

  static func fill(
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
