import Glibc

/// Whole small files.
enum TestFile {
  static func write(_ bytes: [UInt8], to path: String) -> Bool {
    guard let file = fopen(path, "wb") else { return false }
    let written = fwrite(bytes, 1, bytes.count, file)
    return fclose(file) == 0 && written == bytes.count
  }

  static func read(_ path: String, at offset: Int, count: Int) -> [UInt8] {
    guard let file = fopen(path, "rb") else { return [] }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: count)
    guard fseek(file, offset, SEEK_SET) == 0 else { return [] }
    let done = fread(&bytes, 1, count, file)
    return Array(bytes.prefix(done))
  }
}
