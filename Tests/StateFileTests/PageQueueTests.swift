import Glibc
import GuestMemory
import Platform
import StateFile
import Testing

/// Pages that are written behind the back of who copies them.
@Suite struct PageQueueTests {
  private static let size: UInt64 = 8 << 20
  private static let pageSize: UInt64 = 4096

  @Test("What is written again at once, in small pieces, replaces what is still on its way")
  func order() throws {
    var template = Array("/tmp/underjack-state-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let memory = try GuestMemory(size: Self.size)
    for page in 0..<Self.size / Self.pageSize {
      try memory.write(
        [UInt8](repeating: UInt8(truncatingIfNeeded: page | 1), count: Int(Self.pageSize)),
        at: GuestAddress(page * Self.pageSize))
    }
    // Several times: a thread that happens to be quick must not hide one that is late.
    for round in 1...16 {
      let path = "\(folder)/a.state"
      let writer = try StateFileWriter(path: path, memorySize: Self.size)
      try writer.write(memory)
      // The end of the last piece is what is on its way longest.
      let offset = Self.size - Self.pageSize
      try memory.write([0, UInt8(round)], at: GuestAddress(offset))
      try writer.write(memory, [offset..<Self.size])
      if round == 4 { try writer.settle() }
      try writer.finish(StateManifest(created: 1, facts: []))
      try writer.commit(isLasting: false)
      let reader = try StateFileReader(path: path)
      try reader.verifyMemory()
      let restored = try reader.makeMemory(hugePages: .system)
      let isSame = memcmp(restored.contents, memory.contents, Int(Self.size)) == 0
      #expect(isSame)
    }
  }

  @Test("A disk that is full behind the queue is said at the latest when the file is made whole")
  func failure() throws {
    var template = Array("/tmp/underjack-state-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let memory = try GuestMemory(size: Self.size)
    for offset in stride(from: 0, to: Self.size, by: 2048) {
      try memory.write([7], at: GuestAddress(offset))
    }
    let writer = try StateFileWriter(path: "\(folder)/a.state", memorySize: Self.size)
    let resource = __rlimit_resource_t(UInt32(RLIMIT_FSIZE.rawValue))
    var usual = rlimit()
    getrlimit(resource, &usual)
    signal(SIGXFSZ, SIG_IGN)
    var tight = usual
    tight.rlim_cur = 3 << 20
    setrlimit(resource, &tight)
    defer { setrlimit(resource, &usual) }
    #expect(throws: StateFileError.self) {
      try writer.write(memory)
      try writer.finish(StateManifest(created: 1, facts: []))
    }
    writer.discard()
    #expect(access("\(folder)/a.state", F_OK) != 0)
    #expect(access("\(folder)/a.state.part", F_OK) != 0)
  }
}
