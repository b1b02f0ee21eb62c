import Glibc
import GuestMemory
import Platform
import StateFile
import Testing

/// State files written, read, cut and altered.
@Suite struct StateFileTests {
  /// A folder that goes with the test.
  private final class Folder {
    let path: String
    init() throws {
      var template = Array("/tmp/underjack-state-XXXXXX".utf8CString)
      guard mkdtemp(&template) != nil else { throw StateValueError("no folder") }
      path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
    deinit {
      for name in ["a.state", "b.state", "b.state.part", "a.state.part"] {
        unlink("\(path)/\(name)")
      }
      rmdir(path)
    }
  }

  private static let size: UInt64 = 2 << 20

  /// A few pages among zeros.
  private func memory() throws -> GuestMemory {
    let memory = try GuestMemory(size: Self.size)
    for (page, byte) in [(0, 1), (1, 2), (7, 3), (300, 4), (511, 5)] as [(UInt64, UInt8)] {
      try memory.write(
        (0..<4096).map { byte &+ UInt8(truncatingIfNeeded: $0) }, at: GuestAddress(page * 4096))
    }
    // Touched, and zero again.
    try memory.write([UInt8](repeating: 0, count: 4096), at: GuestAddress(100 * 4096))
    return memory
  }

  private func manifest() -> StateManifest {
    StateManifest(
      created: 1_790_000_000, facts: [.init("memory", "2 MiB"), .init("the display", "none")],
      sections: [
        .init(name: "COM1", version: 3, state: .map([.init("queue", .bytes([1, 2, 3]))]))
      ])
  }

  @discardableResult
  private func write(_ path: String) throws -> StateFileWriter {
    let writer = try StateFileWriter(path: path, memorySize: Self.size)
    try writer.write(try memory())
    try writer.finish(manifest())
    try writer.commit()
    return writer
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, O_RDONLY)
    var information = stat()
    fstat(file.rawValue, &information)
    var bytes = [UInt8](repeating: 0, count: Int(information.st_size))
    let count = try bytes.withUnsafeMutableBytes { try file.read(into: $0) }
    #expect(count == bytes.count)
    return bytes
  }

  /// Opens and verifies; nil when it is refused.
  private func refusal(_ path: String) -> String? {
    do {
      try StateFileReader(path: path).verifyMemory()
      return nil
    } catch {
      return "\(error)"
    }
  }

  @Test("Memory and manifest come back, zeros take no space, a guest's writes stay its own")
  func roundTrip() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.state"
    let writer = try write(path)
    #expect(writer.pageCount == 5)
    let reader = try StateFileReader(path: path)
    try reader.verifyMemory()
    #expect(reader.pageCount == 5)
    #expect(reader.manifest == manifest())
    #expect(reader.memorySize == Self.size)
    let restored = try reader.makeMemory(hugePages: .system)
    let (one, two) = (restored.contents, try memory())
    let isSame = memcmp(one, two.contents, Int(Self.size)) == 0
    #expect(isSame)
    try restored.write([9, 9, 9], at: GuestAddress(4096))
    #expect(try restored.bytes(at: GuestAddress(4096), count: 3) == [9, 9, 9])
    try reader.verifyMemory()
    var information = stat()
    stat(path, &information)
    #expect(information.st_blocks * 512 < 200 << 10)
    restored.discardAll()
    #expect(try restored.bytes(at: GuestAddress(0), count: 1) == [0])
    #expect(refusal(path) == nil)
  }

  @Test("Pages written again replace the first ones, also by zeros") func secondRound() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.state"
    let writer = try StateFileWriter(path: path, memorySize: Self.size)
    let memory = try memory()
    try writer.write(memory)
    try memory.startDirtyTracking()
    try memory.write([UInt8](repeating: 0, count: 4096), at: GuestAddress(7 * 4096))
    try memory.write([77], at: GuestAddress(9 * 4096 + 5))
    let dirty = try #require(memory.takeDirtyPages(ofRegion: 0))
    #expect(dirty.dirtyCount == 2)
    try writer.write(memory, memory.regions[0].offsets(of: dirty))
    try writer.finish(manifest())
    try writer.commit()
    let reader = try StateFileReader(path: path)
    try reader.verifyMemory()
    let restored = try reader.makeMemory(hugePages: .system)
    let isSame = memcmp(restored.contents, memory.contents, Int(Self.size)) == 0
    #expect(isSame)
    #expect(reader.pageCount == 5)
  }

  @Test("Until it is whole there is no file of its name, and a writer that gives up leaves none")
  func unfinished() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.state"
    do {
      let writer = try StateFileWriter(path: path, memorySize: Self.size)
      try writer.write(try memory())
      try writer.finish(manifest())
      #expect(access(path, F_OK) != 0)
      #expect(access(path + ".part", F_OK) == 0)
    }
    #expect(access(path + ".part", F_OK) != 0)
  }

  @Test("Cut anywhere, it is refused with a line") func cuts() throws {
    let folder = try Folder()
    let (path, other) = ("\(folder.path)/a.state", "\(folder.path)/b.state")
    try write(path)
    let whole = try bytes(path)
    var places = Array(0..<64) + [88, 4091, 4092, 4095, 4096, 4097, 8192, 1 << 20]
    places += (1...200).map { whole.count - $0 }
    for place in places {
      try store(Array(whole[..<place]), other)
      let line = try #require(refusal(other), "cut at \(place)")
      #expect(line.contains("is damaged") && !line.contains("\n"))
    }
    try store(whole + [0], other)
    #expect(refusal(other)?.contains("bytes and should have") == true)
  }

  @Test("A flipped bit anywhere is refused with a line") func flips() throws {
    let folder = try Folder()
    let (path, other) = ("\(folder.path)/a.state", "\(folder.path)/b.state")
    try write(path)
    let whole = try bytes(path)
    try store(whole, other)
    #expect(refusal(other) == nil)
    let file = try FileDescriptor.open(other, O_RDWR)
    var generator = SmallGenerator(state: 7)
    let manifestStart = 4096 + Int(Self.size) + 512 * 4
    var places = Array(0..<96) + Array(4090..<4100) + Array(manifestStart..<whole.count)
    places += (0..<400).map { _ in Int(generator.next() % UInt64(whole.count)) }
    places += (0..<100).map { _ in 4096 + Int(generator.next() % (12 * 4096)) }
    for place in places {
      let bit = UInt8(1) << UInt8(generator.next() % 8)
      var byte = whole[place] ^ bit
      pwrite(file.rawValue, &byte, 1, off_t(place))
      let line = try #require(refusal(other), "bit \(bit) of byte \(place)")
      #expect(!line.contains("\n"))
      byte = whole[place]
      pwrite(file.rawValue, &byte, 1, off_t(place))
    }
    #expect(refusal(other) == nil)
  }

  @Test("Sizes and counts without measure, with right checksums, are refused") func craftedHeaders()
    throws
  {
    let folder = try Folder()
    let (path, other) = ("\(folder.path)/a.state", "\(folder.path)/b.state")
    try write(path)
    let whole = try bytes(path)
    func crafted(_ change: (inout [UInt8]) -> Void) throws -> String? {
      var page = Array(whole[..<4096])
      change(&page)
      let sum = castagnoli(page[..<4092])
      for index in 0..<4 { page[4092 + index] = UInt8(truncatingIfNeeded: sum >> (8 * index)) }
      try store(page + whole[4096...], other)
      return refusal(other)
    }
    func put(_ value: UInt64, _ place: Int, _ count: Int, _ page: inout [UInt8]) {
      for index in 0..<count {
        page[place + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
      }
    }
    #expect(try crafted { _ in } == nil)
    #expect(try crafted { put(3, 16, 4, &$0) }?.contains("of version 3, which this uj") == true)
    // An increment of nothing.
    #expect(try crafted { put(2, 16, 4, &$0) }?.contains("an increment of 0 files") == true)
    #expect(
      try crafted {
        put(2, 16, 4, &$0)
        put(1, 52, 4, &$0)
        $0.replaceSubrange(512..<520, with: Array("../../xy".utf8))
      }?.contains("a file that cannot be") == true)
    #expect(try crafted { put(0, 16, 4, &$0) } != nil)
    #expect(try crafted { put(8192, 20, 4, &$0) } != nil)
    for size: UInt64 in [.max, 1 << 63, 1 << 46, (1 << 46) + 4096, 4095, 0, Self.size * 2] {
      #expect(try crafted { put(size, 24, 8, &$0) } != nil)
      #expect(try crafted { put(size, 32, 8, &$0) } != nil)
    }
  }

  @Test("What is not a file is refused") func strangers() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.state"
    #expect(refusal(path)?.contains(path) == true)
    #expect(refusal(folder.path) != nil)
    #expect(refusal("/dev/zero") != nil)
    mkfifo(path, 0o600)
    #expect(refusal(path) != nil)
    unlink(path)
    symlink("/etc/passwd", path)
    #expect(refusal(path) != nil)
    unlink(path)
    try store([], path)
    #expect(refusal(path)?.contains("first page") == true)
  }

  @Test("Facts that differ are named with what they were and are") func differences() {
    let lines = manifest().differences(from: [
      .init("memory", "4 MiB"), .init("the display", "none"), .init("disk 0", "virtio"),
    ])
    #expect(
      lines == ["memory was 2 MiB and is 4 MiB now", "disk 0 was not there and is virtio now"])
  }

  // MARK: Helpers

  private func store(_ bytes: [UInt8], _ path: String) throws {
    let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    var done = 0
    while done < bytes.count {
      done += try bytes.withUnsafeBytes {
        try file.write(UnsafeRawBufferPointer(rebasing: $0[done...]))
      }
    }
  }

  /// CRC-32C bit by bit, to compare with.
  private func castagnoli(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var sum = UInt32.max
    for byte in bytes {
      sum ^= UInt32(byte)
      for _ in 0..<8 { sum = sum & 1 != 0 ? sum >> 1 ^ 0x82F6_3B78 : sum >> 1 }
    }
    return ~sum
  }
}
