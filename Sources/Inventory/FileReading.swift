import CLinux
import Platform

/// Bounded reading of the small files of the inventory.
package enum FileReading {
  /// The whole file as UTF-8.
  ///
  /// - Returns: nil when it does not exist.
  package static func text(
    _ path: String, limit: Int = 1 << 20
  ) throws(InventoryError) -> String? {
    let bytes: [UInt8]
    do {
      bytes = try content(path, limit: limit)
    } catch {
      if error.code == ENOENT || error.code == ENOTDIR { return nil }
      throw InventoryError(error)
    }
    guard bytes.count <= limit else {
      throw InventoryError(.invalid, "\(path): larger than \(ByteSize.format(UInt64(limit)))")
    }
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw InventoryError(.invalid, "\(path): is not UTF-8 text")
    }
    return text
  }

  /// At most `limit` bytes and then some.
  private static func content(_ path: String, limit: Int) throws(PlatformError) -> [UInt8] {
    let file = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
    let number = file.rawValue
    var bytes = [UInt8]()
    var chunk = [UInt8](repeating: 0, count: 16384)
    while bytes.count <= limit {
      let count = try systemCall("read", path) {
        chunk.withUnsafeMutableBytes { read(number, $0.baseAddress, $0.count) }
      }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return bytes
  }

  /// The last lines of a text file that may be large.
  package static func lastLines(_ path: String, count: Int, limit: Int = 16384) -> [String] {
    guard let file = try? FileDescriptor.open(path, O_RDONLY | O_NONBLOCK) else { return [] }
    let end = lseek(file.rawValue, 0, SEEK_END)
    guard end > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: min(Int(end), limit))
    let number = file.rawValue
    let read = bytes.withUnsafeMutableBytes {
      pread(number, $0.baseAddress, $0.count, end - off_t($0.count))
    }
    guard read > 0 else { return [] }
    return String(decoding: bytes[..<read], as: UTF8.self)
      .split(separator: "\n").suffix(count).map { printable($0) }
  }

  /// Names in a folder without `.` and `..`, unsorted; empty when the folder does not exist.
  package static func entries(of path: String) throws(InventoryError) -> [String] {
    guard let folder = opendir(path) else {
      if linux_error_number() == ENOENT { return [] }
      throw InventoryError(
        PlatformError(operation: "opendir", code: linux_error_number(), subject: path))
    }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  package static func exists(_ path: String) -> Bool {
    var information = stat()
    return lstat(path, &information) == 0
  }
}
