import CLinux
import Platform
import SerialMux
import Synchronization
import Testing
import VirtualTerminal

@Suite struct SerialMuxTests {
  @Test func outputGoesToClientsAndTheTerminal() throws {
    let port = try Port()
    defer { port.mux.close() }
    let one = try port.attach()
    let two = try port.attach(.init(readOnly: true, label: "watcher"))
    port.print("hello\r\n\u{7}\u{1B}]2;title\u{7}")
    #expect(one.read(until: "hello\r\n").hasPrefix("hello\r\n"))
    #expect(two.read(until: "hello\r\n").hasPrefix("hello\r\n"))
    #expect(eventually { port.mux.statistics().bells == 1 })
    #expect(eventually { port.mux.statistics().clients.count == 2 })
    let statistics = port.mux.statistics()
    #expect(statistics.title == "title")
    #expect(statistics.outputBytes == 18)
    #expect(statistics.lastOutput > 0)
    #expect(statistics.clients.map(\.label) == ["", "watcher"])
    #expect(port.mux.terminalState().text().hasPrefix("hello\n"))
    #expect(port.events.all.contains(.bell))
    #expect(port.events.all.contains(.title("title")))
  }

  @Test func inputIsHandedOverAsTheGuestTakesIt() throws {
    let port = try Port(room: 16)
    defer { port.mux.close() }
    let client = try port.attach()
    let watcher = try port.attach(.init(readOnly: true))
    watcher.send("not this")
    let paste = (0..<2000).map { "line \($0)\r" }.joined()
    client.send(paste)
    #expect(eventually { port.device.receivedCount == 16 })
    #expect(eventually { port.mux.statistics().waitingInput > 1000 })
    while port.device.receivedCount < paste.utf8.count {
      let before = port.device.receivedCount
      port.device.makeRoom(1000)
      port.mux.guestCanReceive()
      guard eventually({ port.device.receivedCount > before }) else { break }
    }
    #expect(port.device.received == paste)
    #expect(eventually { port.mux.statistics().inputBytes == UInt64(paste.utf8.count) })
    port.mux.sendBreak()
    #expect(eventually { port.device.breaks == 1 })
  }

  @Test func inputThatWaitsIsBoundedAndCanBeForgotten() throws {
    let port = try Port(room: 0) { $0.inputLimit = 10_000 }
    defer { port.mux.close() }
    let client = try port.attach()
    // The socket takes some, the queue its limit; then the sender would have to wait.
    let chunk = [UInt8](repeating: 0x78, count: 4096)
    for _ in 0..<200 {
      _ = chunk.withUnsafeBytes {
        send(client.descriptor.rawValue, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
      }
    }
    #expect(eventually { port.mux.statistics().waitingInput >= 10_000 })
    usleep(50_000)
    #expect(port.mux.statistics().waitingInput <= 10_000 + 4096)
    port.mux.discardInput()
    port.mux.type(Array("q".utf8))
    #expect(port.mux.statistics().inputBytes == 0)
  }

  @Test func aDeviceThatForgetsToAskIsOfferedAgain() throws {
    let port = try Port(room: 0)
    defer { port.mux.close() }
    port.mux.type(Array("x".utf8))
    #expect(eventually { port.mux.statistics().waitingInput == 1 })
    port.device.makeRoom(1)
    #expect(eventually { port.device.received == "x" })
  }

  @Test func replays() throws {
    let port = try Port { $0.rows = 3 }
    defer { port.mux.close() }
    port.print("one\r\ntwo\u{1B}[6n\r\nthree\r\nfour\r\nfive")
    #expect(eventually { port.device.received == "\u{1B}[2;4R" })
    let cases: [(SerialMuxReplay, String, [String])] = [
      (.none, "", ["one", "five"]),
      (.scrollback, "one\r\ntwo\r\nthree\r\nfour\r\nfive", ["\u{1B}[6n"]),
      (.position(14), "three\r\nfour\r\nfive", ["two"]),
      (.position(1_000_000), "", ["five"]),
    ]
    for (replay, expected, absent) in cases {
      let client = try port.attach(.init(replay: replay))
      port.print("!")
      let text = client.read(until: "!")
      #expect(text.replacing("!", with: "") == expected, "\(replay)")
      for part in absent { #expect(!text.contains(part), "\(replay)") }
    }
    // Drawn replays show on another terminal what the port's own shows.
    for replay in [SerialMuxReplay.screen, .lines(10)] {
      let client = try port.attach(.init(replay: replay))
      let marker = replay == .screen ? "§" : "¶"
      port.print(marker)
      var copy = VirtualTerminal(columns: 80, rows: 3)
      copy.feed(client.read(until: marker))
      #expect(copy.text() == port.mux.terminalState().text(), "\(replay)")
      #expect(copy.scrollbackText() == (replay == .screen ? "" : "one\ntwo"))
    }
  }

  @Test func questionsAreAnsweredOnce() throws {
    let port = try Port()
    defer { port.mux.close() }
    port.print("\u{1B}[5n")
    #expect(eventually { port.device.received == "\u{1B}[0n" })
    // Viewers and watchers do not answer: the port still does.
    let viewer = try port.attach(.init(answersQueries: false))
    let watcher = try port.attach(.init(readOnly: true))
    #expect(eventually { port.mux.statistics().clients.count == 2 })
    port.print("\u{1B}[5n.")
    #expect(eventually { port.device.received == "\u{1B}[0n\u{1B}[0n" })
    // The first terminal answers, the second does not even see the question.
    let first = try port.attach()
    let second = try port.attach()
    #expect(eventually { port.mux.statistics().clients.count == 4 })
    port.print("a\u{1B}[5nb\u{1B}[1mc")
    #expect(first.read(until: "mc") == "a\u{1B}[5nb\u{1B}[1mc")
    #expect(second.read(until: "mc") == "ab\u{1B}[1mc")
    #expect(port.device.received == "\u{1B}[0n\u{1B}[0n")
    port.mux.detach(first.identifier)
    #expect(eventually { port.mux.statistics().clients.count == 3 })
    port.print("\u{1B}[5nd")
    #expect(second.read(until: "d") == "\u{1B}[5nd")
    _ = (viewer, watcher)
  }

  @Test func clientsComeAndGo() throws {
    let port = try Port()
    do {
      let client = try port.attach()
      #expect(eventually { port.mux.statistics().clients.count == 1 })
      client.send("last words")
    }
    #expect(eventually { port.mux.statistics().clients.isEmpty })
    #expect(port.device.received == "last words")
    // A client that only closed its sending half still reads.
    let half = try port.attach()
    shutdown(half.descriptor.rawValue, Int32(SHUT_WR))
    usleep(20_000)
    port.print("still here")
    #expect(half.read(until: "here") == "still here")
    port.mux.close()
    #expect(half.read(until: "never") == "")
    port.mux.close()
    port.print("nobody listens")
  }

  @Test func aRestoredTerminalIsDrawnForClients() throws {
    let port = try Port { $0.rows = 3 }
    defer { port.mux.close() }
    let client = try port.attach()
    port.print("now")
    var shown = VirtualTerminal(columns: 80, rows: 3)
    shown.feed(client.read(until: "now"))
    var old = VirtualTerminal(columns: 80, rows: 3)
    old.feed("\u{1B}[?1049h\u{1B}[2;2Hvim\u{1B}[?2004h")
    port.mux.restore(old)
    shown.feed(client.read(until: "2004h"))
    #expect(shown.text() == old.text())
    #expect(shown.modes == old.modes)
    #expect(port.mux.terminalState().text() == old.text())
  }

  @Test func runsOnTheOwnersLoop() throws {
    let loop = try EventLoop()
    let port = try Port(loop: loop)
    let client = try port.attach()
    port.print("hi")
    for _ in 0..<20 { try loop.runOnce(timeoutMilliseconds: 5) }
    #expect(client.read(until: "hi") == "hi")
    port.mux.close()
    for _ in 0..<3 { try loop.runOnce(timeoutMilliseconds: 5) }
    #expect(client.read(until: "never", milliseconds: 500) == "")
  }
}
