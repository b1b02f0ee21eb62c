// The container of a machine's saved state.
//
//   0              header, one page: this structure, zeros, and a CRC-32C of all before it in the last four bytes
//   4096           memory, as it stood in the machine's memory file; pages of zeros are holes
//   4096 + memory  page table: a 32-bit number for each page of memory
//   then           origins: a byte for each page of memory, only in version 2: 0 where the page is in this file, else the
//                  number of the earlier file, counted from 1, that it stands in at the same place
//   then           manifest: a `StateValue` with everything else
//
// Version 2 is an increment: what has not changed since an earlier state is left in that one's file, or where that one left
// it. All files are named in the first page, so that no file but these is ever looked at; a file in which no state that
// counts has any page is removed, and so are its pages that none of them has (see `StateFilePages`).
//
// Memory is raw and at a multiple of the page size, so that the file can be mapped into the guest: what is not touched is
// never read. All integers are little-endian. The file is written under another name and gets its own when it is whole.
import CChecksum

/// The first page of a state file.
struct StateFileHeader: Equatable {
  static let magic: [UInt8] = Array("Underjack state\n".utf8)
  /// Of a state that stands in one file.
  static let wholeVersion: UInt32 = 1
  /// Of one that leaves pages in earlier files.
  static let version: UInt32 = 2
  static let pageSize: UInt64 = 4096
  static let memoryOffset: UInt64 = 4096
  /// As `GuestMemory`.
  static let memoryLimit: UInt64 = 1 << 46
  /// What all devices of a machine say of themselves; the display's memory is the largest part.
  static let manifestLimit: UInt64 = 256 << 20
  /// Earlier files that a state may have pages in.
  static let fileLimit = 96

  var memorySize: UInt64
  var manifestSize: UInt64
  var tableSum: UInt32
  var manifestSum: UInt32
  /// Names of the earlier files, see `StateFilePages`; none in version 1.
  var files: [String] = []
  var originSum: UInt32 = 0

  private enum Place {
    static let version = 16
    static let pageSize = 20
    static let memorySize = 24
    static let manifestSize = 32
    static let tableSum = 40
    static let manifestSum = 44
    static let originSum = 48
    static let fileCount = 52
    static let files = 512
    static let fileSize = 32
    static let headerSum = 4092
  }

  var pageCount: UInt64 { memorySize / Self.pageSize }
  var tableOffset: UInt64 { Self.memoryOffset + memorySize }
  var tableSize: UInt64 { pageCount * 4 }
  var originOffset: UInt64 { tableOffset + tableSize }
  var originSize: UInt64 { files.isEmpty ? 0 : pageCount }
  var manifestOffset: UInt64 { originOffset + originSize }
  var fileSize: UInt64 { manifestOffset + manifestSize }

  init(memorySize: UInt64, manifestSize: UInt64, tableSum: UInt32, manifestSum: UInt32) {
    self.memorySize = memorySize
    self.manifestSize = manifestSize
    self.tableSum = tableSum
    self.manifestSum = manifestSum
  }

  var bytes: [UInt8] {
    var page = [UInt8](repeating: 0, count: Int(Self.pageSize))
    page.replaceSubrange(0..<Self.magic.count, with: Self.magic)
    func put<Value: FixedWidthInteger>(_ value: Value, at place: Int) {
      for index in 0..<MemoryLayout<Value>.size {
        page[place + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index))
      }
    }
    put(files.isEmpty ? Self.wholeVersion : Self.version, at: Place.version)
    put(UInt32(Self.pageSize), at: Place.pageSize)
    put(memorySize, at: Place.memorySize)
    put(manifestSize, at: Place.manifestSize)
    put(tableSum, at: Place.tableSum)
    put(manifestSum, at: Place.manifestSum)
    put(originSum, at: Place.originSum)
    put(UInt32(files.count), at: Place.fileCount)
    for (index, name) in files.enumerated() {
      let start = Place.files + index * Place.fileSize
      let bytes = Array(name.utf8.prefix(Place.fileSize))
      page.replaceSubrange(start..<start + bytes.count, with: bytes)
    }
    put(checksum(page[..<Place.headerSum]), at: Place.headerSum)
    return page
  }

  /// - Parameters:
  ///   - page: what stands at the file's beginning: a page, or less where the file is shorter.
  ///   - fileSize: bytes that the file has.
  init(_ page: [UInt8], fileSize: UInt64, path: String) throws(StateFileError) {
    guard page.count == Int(Self.pageSize) else {
      throw .damaged(path: path, reason: "it ends in its first page")
    }
    guard Array(page.prefix(Self.magic.count)) == Self.magic else {
      throw .damaged(path: path, reason: "it is no machine's state")
    }
    func number<Value: FixedWidthInteger>(_ type: Value.Type, at place: Int) -> Value {
      (0..<MemoryLayout<Value>.size).reduce(0) { $0 | Value(page[place + $1]) << Value(8 * $1) }
    }
    guard number(UInt32.self, at: Place.headerSum) == checksum(page[..<Place.headerSum]) else {
      throw .damaged(path: path, reason: "its first page does not have its checksum")
    }
    // A newer version keeps the magic and the place of its number and of the sum.
    let version = number(UInt32.self, at: Place.version)
    guard version <= Self.version else { throw .newer(path: path, version: version) }
    self.init(
      memorySize: number(UInt64.self, at: Place.memorySize),
      manifestSize: number(UInt64.self, at: Place.manifestSize),
      tableSum: number(UInt32.self, at: Place.tableSum),
      manifestSum: number(UInt32.self, at: Place.manifestSum))
    if version == Self.version {
      originSum = number(UInt32.self, at: Place.originSum)
      let count = number(UInt32.self, at: Place.fileCount)
      guard (1...UInt32(Self.fileLimit)).contains(count) else {
        throw .damaged(path: path, reason: "it is an increment of \(count) files")
      }
      for index in 0..<Int(count) {
        let start = Place.files + index * Place.fileSize
        let bytes = page[start..<start + Place.fileSize].prefix { $0 != 0 }
        guard let name = String(validating: bytes, as: UTF8.self), StateFilePages.isName(name),
          !files.contains(name)
        else { throw .damaged(path: path, reason: "it names a file that cannot be") }
        files.append(name)
      }
    }
    guard version >= Self.wholeVersion,
      number(UInt32.self, at: Place.pageSize) == UInt32(Self.pageSize),
      memorySize <= Self.memoryLimit, memorySize % Self.pageSize == 0,
      manifestSize <= Self.manifestLimit
    else { throw .damaged(path: path, reason: "its first page tells sizes that cannot be") }
    guard self.fileSize == fileSize else {
      throw .damaged(
        path: path, reason: "it has \(fileSize) bytes and should have \(self.fileSize)")
    }
  }
}

/// CRC-32C.
func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
  bytes.withUnsafeBytes { checksum_crc32c(0, $0.baseAddress, $0.count) }
}

/// What the page table says of a page: 0 of one that is all zeros, else its CRC-32C.
func pageSum(_ page: UnsafeRawPointer) -> UInt32 {
  let size = Int(StateFileHeader.pageSize)
  if checksum_is_zero(page, size) != 0 { return 0 }
  let sum = checksum_crc32c(0, page, size)
  return sum == 0 ? .max : sum
}
