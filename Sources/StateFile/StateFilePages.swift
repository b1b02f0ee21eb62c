import CLinux
import Platform

/// Which file each page of a state's memory stands in: the state's own, or one of those of earlier states.
///
/// A state names all files that it needs and not only the one before it: no chain has to be followed, and what any of
/// these files say of themselves does not matter.
package struct StateFilePages: Sendable, Equatable {
  /// Names of the earlier files: the folders beside this state's own that they stand in.
  package private(set) var files: [String]
  /// For each page 0, its own file, or n: `files[n - 1]`. Empty where all pages are its own.
  private(set) var origins: [UInt8]

  /// All pages are the state's own.
  init() {
    files = []
    origins = []
  }

  /// - Returns: nil where an origin is of no file.
  init?(files: [String], origins: [UInt8]) {
    let count = files.count
    let isWhole = origins.allSatisfy { Int($0) <= count }
    guard isWhole else { return nil }
    self.files = files
    self.origins = origins
  }

  /// Everything as it is in another state.
  ///
  /// - Parameter name: what the other is called.
  init(after other: StateFilePages, name: String, pageCount: Int) {
    // The other's own pages get the next number.
    files = other.files + [name]
    let next = UInt8(files.count)
    origins =
      other.origins.isEmpty
      ? Array(repeating: next, count: pageCount) : other.origins.map { $0 == 0 ? next : $0 }
  }

  /// Names become file names: nothing but `Snapshot.makeIdentifier`'s alphabet may pass.
  static func isName(_ text: String) -> Bool {
    (1...32).contains(text.utf8.count)
      && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) }
  }

  /// The state that a path is of, and the path of another's beside it.
  static func name(of path: String) -> String {
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    return parts.count > 1 ? String(parts[parts.count - 2]) : ""
  }

  static func path(of name: String, beside path: String) -> String {
    guard let last = path.lastIndex(of: "/") else { return "../\(name)/\(path)" }
    return "\(path[..<last])/../\(name)\(path[last...])"
  }

  /// The number of a page's file, see `origins`.
  func origin(_ page: Int) -> Int { origins.isEmpty ? 0 : Int(origins[page]) }

  /// The page is in the state's own file from now on.
  mutating func own(_ page: Int) {
    if !origins.isEmpty { origins[page] = 0 }
  }

  /// Runs of pages in one file, in order; all pages are in one of them.
  func forEachRun<Failure: Error>(
    pageCount: Int, _ body: (_ origin: Int, _ pages: Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    guard !origins.isEmpty else { return try body(0, 0..<pageCount) }
    var start = 0
    while start < origins.count {
      let origin = origins[start]
      var end = start + 1
      while end < origins.count, origins[end] == origin { end += 1 }
      try body(Int(origin), start..<end)
      start = end
    }
  }

  /// How many pages each file has, in the order of `origins`' numbers.
  var counts: [Int] {
    var counts = Array(repeating: 0, count: files.count + 1)
    for origin in origins { counts[Int(origin)] += 1 }
    return counts
  }

  /// Leaves out files that no page is in.
  mutating func dropUnused() {
    let counts = counts
    var numbers: [UInt8] = [0]
    var kept: [String] = []
    for (index, name) in files.enumerated() {
      if counts[index + 1] > 0 { kept.append(name) }
      numbers.append(counts[index + 1] > 0 ? UInt8(kept.count) : 0)
    }
    guard kept.count < files.count else { return }
    files = kept
    origins = kept.isEmpty ? [] : origins.map { numbers[Int($0)] }
  }
}

extension StateFilePages {
  /// The earlier files that a state needs; nil where the file cannot tell.
  package static func files(of path: String) -> [String]? {
    guard let file = try? FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else {
      return nil
    }
    var page = [UInt8](repeating: 0, count: Int(StateFileHeader.pageSize))
    var information = stat()
    let count = page.withUnsafeMutableBytes { pread(file.rawValue, $0.baseAddress, $0.count, 0) }
    // What is shorter than its first page was never a state.
    if (0..<page.count).contains(count) { return [] }
    guard count == page.count, fstat(file.rawValue, &information) == 0 else { return nil }
    let size = UInt64(clamping: information.st_size)
    return (try? StateFileHeader(page, fileSize: size, path: path))?.files
  }

  /// Gives back the space of pages that no state needs of a file which is kept for others only.
  ///
  /// - Parameters:
  ///   - path: the file. No machine may be running on it.
  ///   - users: the states that need it; all of them, or something is lost.
  /// - Returns: bytes of the file's memory that are wanted still; nil where nothing was done.
  @discardableResult
  package static func trim(_ path: String, for users: [String]) -> UInt64? {
    guard let file = try? FileDescriptor.open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK) else {
      return nil
    }
    var information = stat()
    // Another machine may rest on the same file by another name.
    guard fstat(file.rawValue, &information) == 0, information.st_nlink == 1 else { return nil }
    let name = name(of: path)
    var wanted: [Bool] = []
    for user in users {
      guard let reader = try? StateFileReader(path: user, isManifestRead: false) else { return nil }
      let count = Int(reader.memorySize / StateFileHeader.pageSize)
      if wanted.isEmpty { wanted = Array(repeating: false, count: count) }
      guard wanted.count == count else { return nil }
      guard let number = reader.pages.files.firstIndex(of: name) else { continue }
      for page in 0..<count where reader.pages.origin(page) == number + 1 { wanted[page] = true }
    }
    let pageSize = StateFileHeader.pageSize
    var page = 0
    var left: UInt64 = 0
    while page < wanted.count {
      var end = page + 1
      while end < wanted.count, wanted[end] == wanted[page] { end += 1 }
      if wanted[page] {
        left += UInt64(end - page) * pageSize
      } else {
        _ = linux_fallocate(
          file.rawValue, Int32(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
          Int64(StateFileHeader.memoryOffset + UInt64(page) * pageSize),
          Int64(UInt64(end - page) * pageSize))
      }
      page = end
    }
    return left
  }
}
