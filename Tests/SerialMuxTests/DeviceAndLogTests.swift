import CLinux
import Platform
import SerialMux
import Testing

@Suite struct DeviceTests {
  private func open(_ link: String) throws -> Peer {
    Peer(
      SerialMuxTests.nobody, try FileDescriptor.open(link, O_RDWR | O_NOCTTY))
  }

  private func type(_ text: String, at peer: Peer) {
    _ = Array(text.utf8).withUnsafeBytes {
      write(peer.descriptor.rawValue, $0.baseAddress, $0.count)
    }
  }

  @Test func isALineThatSurvivesItsUsers() throws {
    try withTemporaryFolder { folder in
      let link = "\(folder)/serial0"
      let port = try Port { $0.deviceLink = link }
      defer { port.mux.close() }
      #expect(port.mux.statistics().devicePath?.hasPrefix("/dev/pts/") == true)
      port.print("before anybody came\r\n")
      do {
        let user = try open(link)
        #expect(user.read(until: "came\r\n") == "before anybody came\r\n")
        port.print("a\nb\r\n")
        #expect(user.read(until: "b\r\n") == "a\nb\r\n")
        // Nothing is echoed or translated.
        type("typed\r\u{3}\u{4}", at: user)
        #expect(eventually { port.device.received == "typed\r\u{3}\u{4}" })
        #expect(user.read(until: "typed", milliseconds: 100) == "")
        #expect(port.mux.statistics().clients.map(\.isDevice) == [true])
      }
      #expect(eventually { port.mux.statistics().clients.isEmpty })
      port.print("while nobody looked\u{1B}[6n\r\n")
      #expect(eventually { port.device.received.contains("R") })
      let again = try open(link)
      #expect(again.read(until: "looked\r\n") == "while nobody looked\r\n")
      type("x", at: again)
      #expect(eventually { port.device.received.hasSuffix("x") })
    }
  }

  @Test func wordsOfAUserWhoLeftAtOnceArrive() throws {
    try withTemporaryFolder { folder in
      let port = try Port { $0.deviceLink = "\(folder)/serial0" }
      defer { port.mux.close() }
      for number in 0..<5 { type("echo \(number)\r", at: try open("\(folder)/serial0")) }
      #expect(eventually { port.device.received == (0..<5).map { "echo \($0)\r" }.joined() })
    }
  }

  @Test func aDeviceThatNobodyReadsHoldsNothingUp() throws {
    try withTemporaryFolder { folder in
      let port = try Port { configuration in
        configuration.deviceLink = "\(folder)/serial0"
        configuration.ringSize = 1 << 18
      }
      defer { port.mux.close() }
      let user = try open("\(folder)/serial0")
      let client = try port.attach()
      #expect(eventually { port.mux.statistics().clients.count == 2 })
      let text = String(repeating: "0123456789\r\n", count: 10_000)
      port.print(text)
      #expect(client.read(until: "never", milliseconds: 1500).utf8.count == text.utf8.count)
      // When it reads again it gets what was kept for it.
      #expect(user.read(until: "never", milliseconds: 1500) == text)
    }
  }

  @Test func theLinkIsOursAlone() throws {
    try withTemporaryFolder { folder in
      let link = "\(folder)/serial0"
      do {
        let port = try Port { $0.deviceLink = link }
        #expect(access(link, F_OK) == 0)
        port.mux.close()
        #expect(access(link, F_OK) != 0)
      }
      // A stale link is replaced, a file is not.
      symlink("/dev/pts/99999", link)
      let port = try Port { $0.deviceLink = link }
      #expect(access(link, F_OK) == 0)
      port.mux.close()
      _ = try FileDescriptor.open(link, O_WRONLY | O_CREAT)
      #expect(throws: PlatformError.self) { try Port { $0.deviceLink = link } }
      #expect(contents(link) == [])
    }
  }
}

extension SerialMuxTests {
  /// An identifier for peers that are not attached by hand.
  static var nobody: SerialMuxClientIdentifier {
    let port = try? Port()
    defer { port?.mux.close() }
    guard let peer = try? port?.attach() else { fatalError("no sockets") }
    return peer.identifier
  }
}

@Suite struct LogTests {
  private func text(_ path: String) -> String? {
    contents(path).map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func appendsAcrossRestarts() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/serial0.log"
      for word in ["first", "second"] {
        let port = try Port { $0.log = LogConfiguration(path: path) }
        port.print("\(word)\r\n")
        port.mux.close()
      }
      #expect(text(path) == "first\r\nsecond\r\n")
    }
  }

  @Test func rotatesBySize() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/serial0.log"
      let port = try Port {
        $0.log = LogConfiguration(path: path, maximumSize: 10_000, keptFiles: 2)
      }
      for number in 0..<60 {
        port.print("part \(number) " + String(repeating: "x", count: 990) + "\n")
        _ = port.mux.terminalState()
      }
      port.mux.close()
      let files = ["", ".1", ".2", ".3"].map { text(path + $0) }
      #expect(files[3] == nil)
      #expect(files[0] != nil && files[1] != nil && files[2] != nil)
      let all = (files[2] ?? "") + (files[1] ?? "") + (files[0] ?? "")
      let numbers = all.split(separator: "\n").compactMap {
        $0.split(separator: " ").dropFirst().first.flatMap { Int($0) }
      }
      // What is kept is the end of the stream without a gap.
      #expect(numbers == Array(numbers[0]..<60))
      for file in files.compactMap({ $0 }) { #expect(file.utf8.count <= 12_000) }
      #expect(numbers.count >= 20)
    }
  }

  @Test func stampsLines() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/serial0.log"
      let port = try Port { $0.log = LogConfiguration(path: path, timestamps: true) }
      port.print("one\r\ntw")
      _ = port.mux.terminalState()
      port.print("o\r\n\r\n")
      _ = port.mux.terminalState()
      port.mux.mark("machine started")
      port.mux.close()
      let lines = (text(path) ?? "").split(whereSeparator: \.isNewline).map(String.init)
      #expect(lines.count == 4)
      let stamp = /20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ/
      #expect(lines.allSatisfy { $0.contains(stamp) })
      #expect(lines.first?.hasSuffix("Z one") == true)
      #expect(lines.dropFirst().first?.hasSuffix("Z two") == true)
      #expect(lines.last?.hasSuffix("machine started ---") == true)
    }
  }

  @Test func aDiskThatFailsDisturbsNobody() throws {
    // /dev/full refuses every write as a full disk does.
    let port = try Port { $0.log = LogConfiguration(path: "/dev/full") }
    defer { port.mux.close() }
    let client = try port.attach()
    for _ in 0..<10 {
      port.print("text\r\n")
      _ = port.mux.terminalState()
    }
    #expect(client.read(until: String(repeating: "text\r\n", count: 10)).utf8.count == 60)
    #expect(port.mux.statistics().logFailure?.contains("No space left") == true)
    let failures = port.events.all.filter { if case .logFailed = $0 { true } else { false } }
    #expect(failures.count == 1)
    #expect(throws: PlatformError.self) {
      try Port { $0.log = LogConfiguration(path: "/nowhere/at/all.log") }
    }
  }
}
