import Glibc
import GuestMemory
import Platform
import StateFile
import Testing

/// States that leave what has not changed in earlier files.
@Suite struct IncrementTests {
  /// A folder with a folder for each state.
  private final class Folder {
    let path: String
    init() throws {
      var template = Array("/tmp/underjack-state-XXXXXX".utf8CString)
      guard mkdtemp(&template) != nil else { throw StateValueError("no folder") }
      path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
    func state(_ name: String) -> String {
      mkdir("\(path)/\(name)", 0o700)
      return "\(path)/\(name)/memory.state"
    }
    deinit { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", path]) }
  }

  private static let size: UInt64 = 4 << 20
  private static let pageCount = Int(size / 4096)

  private func page(_ seed: Int) -> [UInt8] {
    (0..<4096).map { (index: Int) in UInt8(truncatingIfNeeded: index &* 7 &+ seed &* 31 &+ 1) }
  }

  private func save(
    _ memory: GuestMemory, _ changed: [Int]?, to path: String, base: String?
  ) throws {
    let reader = try base.map { try StateFileReader(path: $0, isManifestRead: false) }
    let writer = try StateFileWriter(path: path, memorySize: Self.size, base: reader)
    if let changed {
      try writer.write(memory, changed.map { UInt64($0) * 4096..<UInt64($0 + 1) * 4096 })
      try writer.consolidate(memory)
    } else {
      try writer.write(memory)
    }
    try writer.finish(StateManifest(created: 1, facts: []))
    try writer.commit()
  }

  private func isSame(_ path: String, _ expected: [UInt8]) throws -> Bool {
    let reader = try StateFileReader(path: path)
    try reader.verifyMemory()
    let memory = try reader.makeMemory(hugePages: .system)
    return expected == content(memory)
  }

  private func content(_ memory: GuestMemory) -> [UInt8] {
    [UInt8](UnsafeRawBufferPointer(start: memory.contents, count: Int(memory.size)))
  }

  private func blocks(_ path: String) -> Int {
    var information = stat()
    return stat(path, &information) == 0 ? Int(information.st_blocks) * 512 : -1
  }

  @Test("Each of a long row of states comes back bit for bit, whatever was deleted and trimmed")
  func row() throws {
    let folder = try Folder()
    let memory = try GuestMemory(size: Self.size)
    for number in 0..<Self.pageCount where number % 3 != 0 {
      try memory.write(page(number), at: GuestAddress(UInt64(number) * 4096))
    }
    var generator = SmallGenerator(state: 3)
    var expected: [String: [UInt8]] = [:]
    var paths: [String] = []
    for number in 0..<60 {
      let path = folder.state("s\(number)")
      var changed: [Int] = []
      for _ in 0..<Int(generator.next() % 12) where number > 0 {
        let target = Int(generator.next() % UInt64(Self.pageCount))
        let bytes =
          generator.next() % 4 == 0
          ? [UInt8](repeating: 0, count: 4096) : page(target &+ number &* 1000)
        try memory.write(bytes, at: GuestAddress(UInt64(target) * 4096))
        changed.append(target)
      }
      try save(memory, number == 0 ? nil : changed, to: path, base: paths.last)
      if number > 0 { #expect(blocks(path) < 400 << 10, "state \(number)") }
      expected[path] = content(memory)
      paths.append(path)
      let files = try #require(StateFilePages.files(of: path))
      #expect(files.count <= 24)
    }
    // Every third stays; the others are kept only as far as these need them.
    let kept = paths.enumerated().filter { $0.offset % 3 == 2 }.map(\.element)
    let needed = Set(kept.flatMap { StateFilePages.files(of: $0) ?? [] })
    let first = blocks(paths[0])
    for (number, path) in paths.enumerated() where !kept.contains(path) {
      if needed.contains("s\(number)") {
        let left = try #require(StateFilePages.trim(path, for: kept))
        #expect(left <= Self.size)
      } else {
        unlink(path)
      }
    }
    #expect(blocks(paths[0]) <= first)
    for path in kept {
      let same = try isSame(path, try #require(expected[path]))
      #expect(same, "\(path)")
    }
  }

  @Test("A page of an earlier file that was altered, or a file that is gone, is refused")
  func altered() throws {
    let folder = try Folder()
    let memory = try GuestMemory(size: Self.size)
    try memory.write(page(5), at: GuestAddress(5 * 4096))
    let (one, two) = (folder.state("one"), folder.state("two"))
    try save(memory, nil, to: one, base: nil)
    try memory.write(page(6), at: GuestAddress(6 * 4096))
    try save(memory, [6], to: two, base: one)
    #expect(StateFilePages.files(of: two) == ["one"])
    let file = try FileDescriptor.open(one, O_RDWR)
    // What the earlier state says of itself does not matter to the later one.
    var byte: UInt8 = 0xEE
    pwrite(file.rawValue, &byte, 1, 100)
    let same = try isSame(two, content(memory))
    #expect(same)
    pwrite(file.rawValue, &byte, 1, 4096 + 5 * 4096 + 9)
    let reader = try StateFileReader(path: two)
    let error = #expect(throws: StateFileError.self) { try reader.verifyMemory() }
    #expect(error?.description.contains("memory at 20480") == true)
    ftruncate(file.rawValue, 8192)
    #expect(throws: StateFileError.self) { _ = try StateFileReader(path: two) }
    unlink(one)
    #expect(throws: StateFileError.self) { _ = try StateFileReader(path: two) }
  }

  @Test("A machine restored from a file has only its own writes to save") func restored() throws {
    let folder = try Folder()
    let memory = try GuestMemory(size: Self.size)
    for number in 0..<Self.pageCount {
      try memory.write(page(number), at: GuestAddress(UInt64(number) * 4096))
    }
    let (one, two) = (folder.state("one"), folder.state("two"))
    try save(memory, nil, to: one, base: nil)
    let restored = try StateFileReader(path: one).makeMemory(hugePages: .system)
    #expect(restored.privateRanges() == [])
    _ = try restored.bytes(at: GuestAddress(0), count: 1 << 20)
    for number in [3, 4, 700] {
      try restored.write([9], at: GuestAddress(UInt64(number) * 4096 + 8))
    }
    let ranges = try #require(restored.privateRanges())
    let expected: [Range<UInt64>] = [12288..<20480, 2_867_200..<2_871_296]
    #expect(ranges == expected)
    try save(restored, [3, 4, 700], to: two, base: one)
    let same = try isSame(two, content(restored))
    #expect(same)
    #expect(memory.privateRanges() == nil)
  }
}
