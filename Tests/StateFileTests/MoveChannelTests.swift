import CLinux
import GuestMemory
import Platform
import StateFile
import Testing

/// A machine's stream over a pair of sockets, whole and damaged.
@Suite struct MoveChannelTests {
  /// Both ends of a connection.
  private final class Pair: Sendable {
    let ends: [Int32]
    init() throws {
      var ends: [Int32] = [-1, -1]
      try systemCall("socketpair") {
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
      }
      self.ends = ends
      _ = linux_ignore_signal(SIGPIPE)
    }
    func hangUp(_ end: Int) { shutdown(ends[end], Int32(SHUT_RDWR)) }
    deinit { for end in ends { close(end) } }
  }

  /// All that a channel sends.
  private func bytes(_ body: (MoveChannel) throws -> Void) throws -> [UInt8] {
    let pair = try Pair()
    try body(MoveChannel(input: pair.ends[0], output: pair.ends[0]))
    pair.hangUp(0)
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = read(pair.ends[1], &chunk, chunk.count)
      guard count > 0 else { return all }
      all += chunk[..<count]
    }
  }

  /// What a channel makes of bytes that end.
  private func received(_ bytes: [UInt8]) throws -> [MoveFrame] {
    let pair = try Pair()
    let writer = try PosixThread(name: "writer") {
      var done = 0
      while done < bytes.count {
        let count = bytes.withUnsafeBytes {
          write(pair.ends[0], $0.baseAddress.map { $0 + done }, bytes.count - done)
        }
        guard count > 0 else { break }
        done += count
      }
      pair.hangUp(0)
    }
    defer { writer.join() }
    let channel = MoveChannel(input: pair.ends[1], output: -1)
    var frames: [MoveFrame] = []
    do {
      while true { frames.append(try channel.receive()) }
    } catch MoveError.ended {
      return frames
    } catch {
      // The writer may wait for a reader.
      pair.hangUp(1)
      throw error
    }
  }

  private func sample() throws -> [UInt8] {
    try bytes { channel in
      try channel.greet()
      try channel.send(.memory, place: 4096, [UInt8](repeating: 7, count: 8192))
      try channel.send(.diskZeros, part: 3, place: 1 << 40, number: 1 << 33)
      try channel.send(.complete, place: 12)
    }
  }

  @Test("What is sent comes, in order and whole") func roundTrip() throws {
    let frames = try received(try sample())
    let wanted = [
      MoveFrame(kind: .memory, place: 4096, count: 8192),
      MoveFrame(kind: .diskZeros, part: 3, place: 1 << 40, count: 8),
      MoveFrame(kind: .complete, place: 12),
    ]
    #expect(frames == wanted)
  }

  @Test("Contents are those that were sent") func contents() throws {
    let pair = try Pair()
    let sender = MoveChannel(input: -1, output: pair.ends[0])
    try sender.greet()
    try sender.send(.disk, place: 512, [1, 2, 3])
    try sender.send(.memoryZeros, number: 0x1_0000_0000)
    try sender.send(.failed, line: "no\u{1b}[31m room")
    let channel = MoveChannel(input: pair.ends[1], output: -1)
    let first = try channel.receive()
    let bytes = Array(channel.content(of: first))
    #expect(bytes == [1, 2, 3])
    let second = try channel.receive()
    #expect(try channel.number(of: second) == 0x1_0000_0000)
    let third = try channel.receive()
    #expect(channel.line(of: third) == "no?[31m room")
    #expect(throws: MoveError.self) { try channel.number(of: third) }
  }

  @Test("Every byte of a stream counts") func alteredBytes() throws {
    let good = try sample()
    for place in stride(from: 0, to: good.count, by: 37) {
      var bad = good
      bad[place] ^= 0x10
      let frames = try? received(bad)
      // A larger count swallows what follows and is never complete.
      #expect((frames?.count ?? 0) < 3, "byte \(place)")
    }
  }

  @Test("A cut stream ends and is not taken for more than came") func cut() throws {
    let good = try sample()
    for count in [0, 5, 20, 39, 40, 8000, good.count - 1] {
      #expect(try received(Array(good[..<count])).count < 3)
    }
  }

  @Test("Another program, another version and a frame without end are refused") func strangers()
    throws
  {
    #expect(throws: MoveError.stranger("bash: uj: not f")) {
      try received(Array("bash: uj: not f\u{7}ound and so on".utf8))
    }
    var other = try sample()
    other[16] = 9
    #expect(throws: MoveError.otherVersion(9)) { try received(other) }
    var large = try sample()
    large[20 + 7] = 0x7F
    #expect(throws: MoveError.damaged("a frame is larger than frames can be")) {
      try received(large)
    }
  }

  @Test("Who takes nothing is given up at the deadline") func deadline() throws {
    let pair = try Pair()
    let flags = linux_fcntl(pair.ends[0], F_GETFL, 0)
    _ = linux_fcntl(pair.ends[0], F_SETFL, flags | O_NONBLOCK)
    let channel = MoveChannel(input: pair.ends[0], output: pair.ends[0])
    channel.deadline = MonotonicClock.now + 100_000_000
    #expect(throws: MoveError.late(seconds: 0)) {
      while true { try channel.send(.memory, [UInt8](repeating: 1, count: 1 << 18)) }
    }
    #expect(throws: MoveError.late(seconds: 0)) { try channel.receive() }
    pair.hangUp(1)
    channel.deadline = nil
    #expect(throws: MoveError.ended) { try channel.receive() }
  }
}

/// A state that is put together from what another host sends.
@Suite struct ArrivingStateTests {
  @Test("Pages, zeros over them and pages again become the file that a guest's memory would have")
  func pages() throws {
    var template = Array("/tmp/underjack-state-XXXXXX".utf8CString)
    let folder = template.withUnsafeMutableBufferPointer {
      String(cString: mkdtemp($0.baseAddress!))
    }
    let path = "\(folder)/a.state"
    defer {
      unlink(path)
      rmdir(folder)
    }
    let size: UInt64 = 2 << 20
    let writer = try StateFileWriter(path: path, memorySize: size)
    func put(_ byte: UInt8, _ pages: Range<UInt64>) throws {
      let bytes = [UInt8](repeating: byte, count: pages.count * 4096)
      try bytes.withUnsafeBytes { try writer.write($0, atMemory: pages.lowerBound * 4096) }
    }
    try put(1, 0..<300)
    try writer.writeZeros(count: 100 * 4096, atMemory: 50 * 4096)
    try put(2, 60..<61)
    try put(0, 0..<1)
    let wrong: [(UInt64, UInt64)] = [(4096, size), (100, 0), (4096, 5), (1 << 62, 1 << 62)]
    for (count, offset) in wrong {
      #expect(throws: StateFileError.self) {
        try writer.writeZeros(count: count, atMemory: offset)
      }
    }
    let manifest = StateManifest(created: 5, facts: [.init("memory", "2 MiB")])
    try writer.finish(try StateManifest(decoding: manifest.encoded))
    try writer.commit(isLasting: false)
    let reader = try StateFileReader(path: path)
    try reader.verifyMemory()
    #expect(reader.manifest == manifest)
    #expect(reader.pageCount == 300 - 100 + 1 - 1)
    let memory = try reader.makeMemory(hugePages: .refused)
    let seen = [0, 1, 49, 50, 60, 61, 150, 299, 300].map { page in
      memory.contents.load(fromByteOffset: page * 4096, as: UInt8.self)
    }
    #expect(seen == [0, 1, 1, 0, 2, 0, 1, 1, 0])
  }
}
