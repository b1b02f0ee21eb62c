import CLinux
import GuestMemory
import Platform
import Testing

/// Pages that are given back to the host.
@Suite struct DiscardTests {
  private static let size: UInt64 = 8 << 20

  /// Memory that is a file's, filled with one byte.
  private func ofFile() throws -> GuestMemory {
    let number = linux_memfd_create("saved", UInt32(MFD_CLOEXEC))
    let bytes = [UInt8](repeating: 0x11, count: Int(Self.size))
    #expect(pwrite(number, bytes, bytes.count, 0) == bytes.count)
    return try GuestMemory(
      size: Self.size, of: FileDescriptor(owning: number), at: 0, hugePages: .refused)
  }

  private func byte(_ memory: GuestMemory, _ address: UInt64) -> UInt8? {
    memory.load(at: GuestAddress(address))
  }

  private func fill(_ memory: GuestMemory, _ address: UInt64, _ count: Int) throws {
    try memory.write([UInt8](repeating: 0x22, count: count), at: GuestAddress(address))
  }

  @Test func wholePagesGoBackAndNothingElse() throws {
    let memory = try GuestMemory(size: Self.size, hugePages: .refused)
    try fill(memory, 0, 1 << 20)
    let before = memory.residentSize
    let start = try #require(memory.pointer(at: GuestAddress(100), count: 65536))
    // 100 to 65636: pages 1 to 15.
    #expect(memory.discard(host: start, count: 65536, content: .zeros) == 15 * 4096)
    #expect(before - memory.residentSize == 15 * 4096)
    #expect(byte(memory, 4095) == 0x22)
    #expect(byte(memory, 4096) == 0)
    #expect(byte(memory, 65535) == 0)
    #expect(byte(memory, 65536) == 0x22)
    #expect(memory.discard(host: start, count: 4096, content: .zeros) == 0)
    #expect(memory.discard(host: start, count: Int(Self.size), content: .zeros) == 0)
    #expect(memory.discard(host: start - 200, count: 8192, content: .zeros) == 0)
    #expect(memory.isHole(4096..<65536) == false, "the host gives pages when somebody looks")
    #expect(memory.isHole(8192..<12288))
    #expect(!memory.isHole(0..<8192))
    #expect(memory.isHole(4 << 20..<Self.size))
  }

  @Test func whoTracksIsTold() throws {
    let memory = try GuestMemory(size: Self.size)
    try memory.startDirtyTracking()
    let start = try #require(memory.pointer(at: GuestAddress(1 << 20), count: 8192))
    memory.discard(host: start, count: 8192, content: .unspecified)
    let pages = try #require(memory.takeDirtyPages(ofRegion: 0))
    #expect(pages.dirtyCount == 2)
    #expect(pages.contains(FrameNumber(rawValue: 257)))
  }

  /// A restored machine's memory: the file's old content must not come back where the guest counts on zeros, and is what
  /// the next saved state leaves out everywhere else.
  @Test func aFilesMemoryShowsZerosWhereTheyAreAskedFor() throws {
    let memory = try ofFile()
    try fill(memory, 1 << 20, 4 << 20)
    func place(_ address: UInt64, _ count: UInt64) throws -> UnsafeMutableRawPointer {
      try #require(memory.pointer(at: GuestAddress(address), count: count))
    }
    let zeros: UInt64 = 2 << 20
    #expect(
      memory.discard(host: try place(1 << 20, zeros), count: Int(zeros), content: .zeros) == zeros)
    #expect(byte(memory, 1 << 20) == 0)
    #expect(byte(memory, 3 << 20 - 1) == 0)
    #expect(byte(memory, 3 << 20) == 0x22)
    #expect(
      memory.discard(host: try place(3 << 20, 4096), count: 4096, content: .unspecified) == 4096)
    #expect(byte(memory, 3 << 20) == 0x11, "the file's")
    let ranges = try #require(memory.privateRanges())
    let expected: [Range<UInt64>] = [1 << 20..<3 << 20, 3 << 20 + 4096..<5 << 20]
    #expect(ranges == expected)
    // Written and given back again, in a part of it.
    try fill(memory, 1 << 20, 8192)
    #expect(
      memory.discard(host: try place(1 << 20, 4096), count: 4096, content: .zeros) == 4096)
    #expect(byte(memory, 1 << 20) == 0)
    #expect(byte(memory, 1 << 20 + 4096) == 0x22)
    let again = try #require(memory.privateRanges())
    #expect(again == expected)
  }

  /// Each piece of zeros is a mapping of the process: a guest must not use up what the host allows.
  @Test func piecesOfZerosAreBounded() throws {
    let number = linux_memfd_create("saved", UInt32(MFD_CLOEXEC))
    ftruncate(number, 64 << 20)
    let memory = try GuestMemory(
      size: 64 << 20, of: FileDescriptor(owning: number), at: 0, hugePages: .refused)
    let start = try #require(memory.pointer(at: GuestAddress(0), count: 64 << 20))
    var given = 0
    for page in stride(from: 0, to: 16384, by: 2)
    where memory.discard(host: start + page * 4096, count: 4096, content: .zeros) > 0 {
      given += 1
    }
    #expect(given == 4096)
  }
}
