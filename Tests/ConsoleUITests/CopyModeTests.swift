import ConsoleUI
import Testing

/// Looking back in a console: moving, searching, selecting, copying; several consoles side by side.
@Suite struct CopyModeTests {
  private func attached(_ output: String, columns: Int = 80, rows: Int = 24) -> Player {
    let player = Player.withMachines(columns: columns, rows: rows)
    player.press("G", "Enter")
    print(output, player)
    return player
  }

  private func print(_ text: String, _ player: Player) {
    guard let number = player.model.activeConsole else { return }
    player.service.emit(.output(number, Array(text.utf8)))
    player.pump()
  }

  private func copied(_ player: Player) -> String? {
    player.effects.contains { if case .copy = $0 { true } else { false } }
      ? player.model.copyBuffer : nil
  }

  @Test func selectingAndCopying() {
    let player = attached("\u{1B}[2J\u{1B}[Hone two three\r\nfour  five\r\nsix")
    player.press("C-]", "[", "k", "k", "0", "w", "v", "e", "y")
    #expect(copied(player) == "two")
    #expect(player.effects.contains(.copy("dHdv")))
    #expect(!player.model.consoles[0].isScrolledBack)
    player.press("C-]", "[", "k", "k", "0", "V", "j", "y")
    #expect(copied(player) == "one two three\nfour  five")
    player.press("C-]", "[", "k", "k", "0", "l", "C-v", "j", "l", "l", "y")
    #expect(copied(player) == "ne\nour")
    player.press("C-]", "[", "k", "Y")
    #expect(copied(player) == "four  five")
    // What was copied can be typed, here or in another console.
    player.press("C-]", "]")
    #expect(player.service.sent == Array("four  five".utf8))
  }

  @Test func wrappedLinesAreWholeAgain() {
    let long = String(repeating: "0123456789", count: 9)
    let player = attached("\u{1B}[2J\u{1B}[H\(long)\r\nend")
    player.press("C-]", "[", "k", "k", "0", "v", "j", "$", "y")
    #expect(copied(player) == long)
  }

  @Test func wideCharactersAreCopiedOnce() {
    let player = attached("\u{1B}[2J\u{1B}[H漢字 text\r\nx")
    player.press("C-]", "[", "k", "0", "v", "$", "y")
    #expect(copied(player) == "漢字 text")
  }

  @Test func searchingBothWays() {
    let lines = (1...200).map { "line \($0)\r\n" }.joined()
    let player = attached(lines + "needle here\r\n" + lines)
    player.press("C-]", "/")
    #expect(player.lines[23].hasPrefix(" ?"))
    player.type("needle")
    player.press("Enter")
    #expect(player.lines[0].contains("lines back"))
    #expect(player.shows("needle here"))
    player.press("?")
    player.type("line 150")
    player.press("Enter")
    let first = player.model.consoles[0].copyMode?.cursor.line ?? 0
    player.press("n")
    let second = player.model.consoles[0].copyMode?.cursor.line ?? 0
    #expect(second != first, "around the end to the other one")
    player.press("N")
    #expect(player.model.consoles[0].copyMode?.cursor.line == first)
    player.press("/")
    player.type("NEEDLE")
    player.press("Enter")
    #expect(player.shows("'NEEDLE' is nowhere"))
    player.press("q")
    #expect(player.service.sent.isEmpty)
  }

  @Test func theViewHoldsStillWhileLinesAreForgotten() {
    let player = attached((1...100).map { "line \($0)\r\n" }.joined())
    player.press("C-]", "[", "g", "v")
    print((1...30_000).map { "flood \($0)\r\n" }.joined(), player)
    player.press("k", "j", "G", "$", "y")
    #expect(copied(player)?.contains("flood 30000") ?? false)
  }

  @Test func theMouseSelects() {
    let player = attached("\u{1B}[2J\u{1B}[Hone two three\r\n")
    func mouse(_ action: MouseEvent.Action, _ column: Int) {
      player.input(.mouse(MouseEvent(action, at: Position(row: 1, column: column))))
    }
    mouse(.press, 4)
    mouse(.drag, 4)
    mouse(.drag, 6)
    mouse(.release, 6)
    #expect(copied(player) == "two")
  }

  @Test func consolesSideBySide() {
    let player = Player.withMachines(columns: 200, rows: 60)
    for name in ["x1", "x2"] {
      player.service.machines.append(MachineSummary(name: name, state: .running))
    }
    player.service.announce()
    player.pump()
    // Marked ones are opened together.
    player.press("G", "Space", "k", "Space", "Enter")
    #expect(player.model.shownConsoles.map(\.machine) == ["x1", "x2"])
    #expect(player.shows("─ x1  ▶ running") && player.shows("─ x2  ▶ running"))
    player.type("a")
    #expect(player.service.sentTo == ["x1": [0x61]])
    player.press("C-]", "o")
    player.type("b")
    #expect(player.service.sentTo == ["x1": [0x61], "x2": [0x62]])
    // Type to all.
    player.press("C-]", "a")
    #expect(player.shows("TYPING TO 2"))
    player.type("c")
    #expect(player.service.sentTo == ["x1": [0x61, 0x63], "x2": [0x62, 0x63]])
    player.press("C-]", "%")
    player.type("web")
    player.press("Enter")
    #expect(Set(player.model.shownConsoles.map(\.machine)) == ["x1", "x2", "web"])
    player.press("C-]", "z")
    #expect(player.model.shownConsoles.map(\.machine) == ["web"])
    player.press("C-]", "z", "C-]", "x")
    #expect(player.model.shownConsoles.map(\.machine) == ["x1", "x2"])
    player.press("C-]", "d")
    #expect(player.model.consoles.map(\.machine).count == 2)
  }

  @Test func bellsAndPortsAndWatching() {
    let player = Player.withMachines()
    player.service.machines.append(MachineSummary(name: "xx", state: .running))
    if let index = player.service.machines.firstIndex(where: { $0.name == "web" }) {
      player.service.machines[index].serialPorts = [0, 1]
    }
    player.service.announce()
    player.pump()
    player.press("G", "Enter", "C-]", "Tab", "k", "Enter")
    #expect(player.lines[0].contains("COM1") && player.lines[0].contains("COM2"))
    player.press("C-]", "t")
    #expect(player.service.sources.values.contains(.serial(1)))
    guard let other = player.model.consoles.first(where: { $0.machine == "xx" }) else { return }
    player.service.emit(.output(other.number, [0x07]))
    player.pump()
    #expect(player.model.list.bells == ["xx"])
    player.press("C-]", "Tab")
    #expect(
      player.lines.contains { $0.contains("♪ xx") || $0.contains("▌♪xx") || $0.contains(" ♪xx") })
    player.press("C-]", "W")
    player.service.emit(.activity("old", bell: true))
    player.pump()
    #expect(player.model.list.bells.contains("old"))
    player.press("Tab", "C-]", "W")
    let before = player.service.sent
    player.type("zzz")
    #expect(player.service.sent == before)
    #expect(player.lines[0].contains("watch only"))
    player.press("C-]", "W")
    player.type("z")
    #expect(player.service.sent == before + [0x7A])
    player.press("C-]", "B")
    #expect(player.service.requests.last == .sendBreak("web", port: 1))
    player.press("C-]", "r")
    #expect(
      String(decoding: player.service.sent.suffix(24), as: UTF8.self).contains(
        "stty rows 24 cols 80"))
  }
}
