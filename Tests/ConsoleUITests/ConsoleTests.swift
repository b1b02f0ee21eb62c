import ConsoleUI
import Testing
import VirtualTerminal

/// Attached consoles: what goes to the guest, what comes from it, and how one leaves.
@Suite struct ConsoleTests {
  private func attached(columns: Int = 80, rows: Int = 24) -> Player {
    let player = Player.withMachines(columns: columns, rows: rows)
    player.press("G", "Enter")
    return player
  }

  @Test func attachTypeDetach() {
    let player = attached()
    #expect(player.lines[0].hasPrefix("── web  ▶ running "))
    #expect(player.lines[0].contains("detach: ^] d"))
    #expect(player.shows("GNU GRUB  version 2.06"))
    player.type("help")
    player.press("Enter")
    #expect(player.shows("grub> help"))
    #expect(player.shows("ok"))
    #expect(player.service.sent == Array("help\r".utf8))
    // Our own keys go to the guest here.
    player.press("C-c", "q", "?")
    #expect(player.service.sent.suffix(3) == [3, 0x71, 0x3F])
    player.press("C-]")
    #expect(player.lines[0].contains("d detach"))
    player.press("d")
    #expect(player.lines[0].hasPrefix(" Underjack"))
    #expect(player.message.contains("detached from web; it runs on"))
    #expect(player.effects.contains { if case .detach = $0 { true } else { false } })
  }

  @Test func whatIsTypedBeforeTheHostAnswersIsNotLost() {
    let player = Player.withMachines(columns: 80, rows: 24)
    player.service.answersAttach = false
    player.press("G", "Enter")
    player.type("root")
    player.press("Enter")
    #expect(player.service.sent == Array("root\r".utf8))
    player.input(.paste(Array("secret".utf8)))
    #expect(player.service.sent == Array("root\rsecret".utf8))
    player.press("C-]", "d")
    #expect(player.message.contains("detached from web"))
  }

  @Test func thePrefixTwiceIsSent() {
    let player = attached()
    player.press("C-]", "C-]")
    #expect(player.service.sent == [0x1D])
    player.press("C-]", "Esc", "a")
    #expect(player.service.sent == [0x1D, 0x61])
    player.press("C-]", "F9")
    #expect(player.lines[23].contains("has no meaning"))
  }

  @Test func largeScreensShowListAndConsole() {
    let side = attached(columns: 200, rows: 50)
    #expect(side.lines[1].contains("NAME") && side.lines[1].contains("╭─ web"))
    #expect(side.shows("GNU GRUB"))
    side.press("C-]", "z")
    #expect(side.lines[0].hasPrefix("── web"))
    side.press("C-]", "z", "C-]", "Tab", "k")
    #expect(side.model.list.selection == "old")
    #expect(side.shows("Tab here"))
    let below = attached(columns: 90, rows: 45)
    #expect(below.lines[1].contains("NAME"))
    #expect(below.shows("╭─ web"))
  }

  @Test func noEscapeSequenceOfAGuestGetsThrough() {
    let player = attached()
    let hostile =
      "\u{1B}]0;title\u{07}\u{1B}[?1049h\u{1B}[6n\u{1B}P+q\u{1B}\\\u{9B}31m\u{1B}]52;c;!\u{07}"
      + String(repeating: "\u{1B}[9999;9999H\u{1B}[31mX", count: 1000) + "\u{1B}[?1049l"
    guard let number = player.model.activeConsole else {
      Issue.record("no console")
      return
    }
    player.service.emit(.output(number, Array(hostile.utf8)))
    player.pump()
    for cell in player.canvas.cells {
      #expect(cell.text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x9B })
    }
    // Its questions are answered by the host, not by us.
    #expect(player.service.sent.isEmpty)
    #expect(player.lines[0].contains("title"))
  }

  @Test func keysFollowTheGuestsModes() {
    let modes: Modes = [.applicationCursorKeys]
    #expect(GuestKeys.bytes(for: "Up", modes: []) == Array("\u{1B}[A".utf8))
    #expect(GuestKeys.bytes(for: "Up", modes: modes) == Array("\u{1B}OA".utf8))
    #expect(GuestKeys.bytes(for: "C-Up", modes: modes) == Array("\u{1B}[1;5A".utf8))
    #expect(GuestKeys.bytes(for: "F5", modes: []) == Array("\u{1B}[15~".utf8))
    #expect(GuestKeys.bytes(for: "S-F1", modes: []) == Array("\u{1B}[1;2P".utf8))
    #expect(GuestKeys.bytes(for: "Del", modes: []) == Array("\u{1B}[3~".utf8))
    #expect(GuestKeys.bytes(for: "M-x", modes: []) == [0x1B, 0x78])
    #expect(GuestKeys.bytes(for: "C-Space", modes: []) == [0])
    #expect(GuestKeys.bytes(for: "C-]", modes: []) == [0x1D])
    #expect(GuestKeys.bytes(for: "é", modes: []) == [0xC3, 0xA9])
    #expect(GuestKeys.bytes(for: "Backspace", modes: []) == [0x7F])
  }

  @Test func everyKeyComesBackFromItsBytes() {
    for name in ["a", "C-a", "M-x", "Up", "C-Left", "F1", "F12", "S-F5", "PgUp", "Home", "Del"] {
      var decoder = KeyDecoder()
      let key = Key(stringLiteral: name)
      #expect(decoder.feed(GuestKeys.bytes(for: key, modes: [])) == [.key(key)], "\(name)")
    }
  }

  @Test func pastesAreMarkedWhereWanted() {
    let text = Array("a\nb\r\nc\u{1B}[201~d".utf8)
    #expect(
      GuestKeys.paste(text, modes: []) == Array("a\rb\rc\u{1B}[201~d".utf8))
    #expect(
      GuestKeys.paste(text, modes: [.bracketedPaste])
        == Array("\u{1B}[200~a\rb\rc[201~d\u{1B}[201~".utf8))
  }

  @Test func scrollingBack() {
    let player = attached()
    guard let number = player.model.activeConsole else {
      Issue.record("no console")
      return
    }
    let lines = (1...100).map { "line \($0)\r\n" }.joined()
    player.service.emit(.output(number, Array(lines.utf8)))
    player.pump()
    #expect(player.shows("line 100") && !player.shows("line 50\n"))
    player.press("C-]", "[", "PgUp", "PgUp")
    #expect(player.lines[0].contains("lines back"))
    #expect(player.shows("line 50\n"))
    let before = player.lines[5]
    player.service.emit(.output(number, Array("news\r\n".utf8)))
    player.pump()
    // The view holds still while output goes on.
    #expect(player.lines[5] == before)
    #expect(player.lines[0].contains("new output below"))
    player.press("g")
    #expect(player.shows("GNU GRUB"))
    player.press("q")
    #expect(player.shows("news"))
    #expect(player.service.sent.isEmpty)
    player.input(.mouse(MouseEvent(.wheelUp, at: Position(row: 10, column: 10))))
    #expect(player.lines[0].contains("3 lines back"))
    player.input(.mouse(MouseEvent(.wheelDown, at: Position(row: 10, column: 10))))
    #expect(!player.lines[0].contains("back"))
  }

  @Test func theCursorIsAlwaysSeen() {
    let player = attached(columns: 60, rows: 12)
    guard let number = player.model.activeConsole else {
      Issue.record("no console")
      return
    }
    player.service.emit(.output(number, Array("\u{1B}[24;80Hx".utf8)))
    player.pump()
    #expect(player.canvas.cursor != nil)
    #expect(player.shows("x"))
  }

  @Test func aConsoleOutlivesAStopAndStart() {
    let player = attached()
    player.press("C-]", "F", "y")
    #expect(player.lines[23].contains("closed: the machine was stopped"))
    #expect(player.shows("GNU GRUB"))
    player.type("x")
    #expect(player.service.sent.isEmpty)
    player.press("C-]", "s")
    #expect(player.service.requests.last == .start("web"))
    player.type("y")
    #expect(player.service.sent == [0x79])
  }

  @Test func twoConsolesTakeTurns() {
    let player = attached()
    player.service.machines.append(MachineSummary(name: "xx", state: .running))
    player.service.announce()
    player.pump()
    player.press("C-]", "Tab", "j", "Enter")
    #expect(player.lines[0].hasPrefix("── xx"))
    guard let first = player.model.consoles.first else { return }
    player.service.emit(.output(first.number, Array("ping".utf8)))
    player.pump()
    #expect(player.model.list.unread == ["web"])
    player.press("C-]", "n")
    #expect(player.lines[0].hasPrefix("── web"))
    #expect(player.model.list.unread.isEmpty)
    #expect(player.shows("ping"))
  }

  @Test func aFloodIsDrawnInTime() {
    let player = attached()
    guard let number = player.model.activeConsole else { return }
    let chunk = Array(String(repeating: "\u{1B}[3\u{6D}abcdefgh\r\n", count: 4000).utf8)
    let clock = ContinuousClock()
    let time = clock.measure {
      for _ in 0..<10 { _ = player.model.handle(.service(.output(number, chunk))) }
    }
    #expect(time < .seconds(60))
  }
}
