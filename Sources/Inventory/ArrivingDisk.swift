import CLinux
import DiskImage
import Platform

/// The file of a disk that comes from another host. Nothing in it has to outlive a power cut before the whole machine is
/// made to, and so nobody waits for it: neither while it grows nor when it is closed.
final class ArrivingDisk: ImageStorage {
  private let file: FileStorage
  /// The same file, to have it written ahead of time and at last.
  private let handle: SharedDescriptor

  init(_ path: String) throws(DiskImageError) {
    file = try FileStorage.open(path, writable: true)
    do throws(PlatformError) {
      handle = SharedDescriptor(try FileDescriptor.open(path, O_RDONLY))
    } catch {
      file.close()
      throw DiskImageError(.io, path, "\(error)")
    }
  }

  /// Begins to write what came to the host's disk, and waits for none of it.
  func writeAhead() {
    // SYNC_FILE_RANGE_WRITE, sync_file_range(2).
    _ = linux_sync_file_range(handle.rawValue, 0, 0, 2)
  }

  /// Has all that came outlive a power cut, also after `close`.
  func makeLasting() throws(InventoryError) {
    let number = handle.rawValue
    let path = path
    try platform { () throws(PlatformError) in
      _ = try systemCall("fsync", path) { fsync(number) }
    }
  }

  // MARK: ImageStorage

  var path: String { file.path }
  var extendsWithZeros: Bool { file.extendsWithZeros }
  func length() throws(DiskImageError) -> UInt64 { try file.length() }
  func read(
    _ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64
  ) throws(DiskImageError) { try file.read(vectors, count, at: offset) }
  func write(
    _ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64
  ) throws(DiskImageError) { try file.write(vectors, count, at: offset) }
  func flush() throws(DiskImageError) {}
  func punchHole(at offset: UInt64, count: UInt64) throws(DiskImageError) -> Bool {
    try file.punchHole(at: offset, count: count)
  }
  func writeZeroes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    try file.writeZeroes(at: offset, count: count)
  }
  func reserve(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    try file.reserve(at: offset, count: count)
  }
  func truncate(to length: UInt64) throws(DiskImageError) { try file.truncate(to: length) }
  func dataExtent(
    at offset: UInt64, limit: UInt64
  ) throws(DiskImageError) -> (isData: Bool, count: UInt64) {
    try file.dataExtent(at: offset, limit: limit)
  }
  func close() { file.close() }
}
