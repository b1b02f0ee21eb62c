import Testing
import VirtualTerminal

@Suite struct StyleTests {
  private func pen(_ sequence: String) -> Cell {
    terminal("\u{1B}[\(sequence)mx").cell(row: 0, column: 0)
  }

  @Test func attributes() {
    #expect(
      pen("1;2;3;4;5;7;8;9;53").attributes == [
        .bold, .dim, .italic, .underline, .blink, .inverse, .invisible, .strikethrough, .overline,
      ])
    #expect(pen("1;2;3;4;5;7;8;9;53;22;23;24;25;27;28;29;55").attributes == [])
    #expect(pen("4:3").attributes == [.underline, .curlyUnderline])
    #expect(pen("4:3;4:0").attributes == [])
    #expect(pen("21").attributes == [.underline, .doubleUnderline])
    #expect(pen("1;31;0").hasSameStyle(as: .blank))
  }

  @Test func colors() {
    #expect(pen("31;42").foreground == .indexed(1))
    #expect(pen("31;42").background == .indexed(2))
    #expect(pen("91;102").foreground == .indexed(9))
    #expect(pen("91;102").background == .indexed(10))
    #expect(pen("38;5;200").foreground == .indexed(200))
    #expect(pen("38:5:200").foreground == .indexed(200))
    #expect(pen("38;2;1;2;3;1").foreground == .direct(red: 1, green: 2, blue: 3))
    #expect(pen("38;2;1;2;3;1").attributes == .bold)
    #expect(pen("48:2::1:2:3;1").background == .direct(red: 1, green: 2, blue: 3))
    #expect(pen("48:2:1:2:3").background == .direct(red: 1, green: 2, blue: 3))
    #expect(pen("58;5;7;31").foreground == .indexed(1))
    #expect(pen("38;5;300").foreground == .standard)
    #expect(pen("31;38;5").foreground == .indexed(0))
    #expect(pen("31;42;39;49").hasSameStyle(as: .blank))
  }

  @Test func erasingTakesTheBackgroundOnly() {
    let cell = terminal("\u{1B}[1;7;31;44m\u{1B}[K").cell(row: 0, column: 5)
    #expect(cell.background == .indexed(4))
    #expect(cell.foreground == .standard)
    #expect(cell.attributes == [])
  }

  @Test func cellIsSmall() {
    #expect(MemoryLayout<Cell>.stride == 16)
  }
}

@Suite struct ReportTests {
  @Test(arguments: [
    ("\u{1B}[5n", "\u{1B}[0n"),
    ("\u{1B}[2;3H\u{1B}[6n", "\u{1B}[2;3R"),
    ("\u{1B}[999;999H\u{1B}[6n", "\u{1B}[4;10R"),
    ("\u{1B}[2;3r\u{1B}[?6h\u{1B}[6n", "\u{1B}[1;1R"),
    ("\u{1B}[?6n", "\u{1B}[?1;1R"),
    ("\u{1B}[c", "\u{1B}[?62;6;22c"),
    ("\u{1B}Z", "\u{1B}[?62;6;22c"),
    ("\u{1B}[>c", "\u{1B}[>1;10;0c"),
    ("\u{1B}[=c", "\u{1B}P!|00000000\u{1B}\\"),
    ("\u{1B}[18t", "\u{1B}[8;4;10t"),
    ("\u{1B}[19t", "\u{1B}[9;4;10t"),
    ("\u{1B}[?7$p", "\u{1B}[?7;1$y"),
    ("\u{1B}[?7l\u{1B}[?7$p", "\u{1B}[?7;2$y"),
    ("\u{1B}[?2026h\u{1B}[?2026$p", "\u{1B}[?2026;1$y"),
    ("\u{1B}[?4711$p", "\u{1B}[?4711;0$y"),
    ("\u{1B}[?1049h\u{1B}[?1049$p", "\u{1B}[?1049;1$y"),
    ("\u{1B}[?1006h\u{1B}[?1006$p\u{1B}[?1005$p", "\u{1B}[?1006;1$y\u{1B}[?1005;2$y"),
    ("\u{1B}[4h\u{1B}[4$p\u{1B}[20$p", "\u{1B}[4;1$y\u{1B}[20;2$y"),
    ("\u{1B}[>0q", "\u{1B}P>|underjack(1)\u{1B}\\"),
    ("\u{1B}[1;31m\u{1B}P$qm\u{1B}\\", "\u{1B}P1$r0;1;31m\u{1B}\\"),
    ("\u{1B}[2;3r\u{1B}P$qr\u{1B}\\", "\u{1B}P1$r2;3r\u{1B}\\"),
    ("\u{1B}P$qz\u{1B}\\", "\u{1B}P0$r\u{1B}\\"),
    ("\u{1B}[0x", "\u{1B}[2;1;1;128;128;1;0x"),
    // What a guest stored is never told back: it could be a command.
    ("\u{1B}]2;rm -rf\u{7}\u{1B}[21t", "\u{1B}]l\u{1B}\\"),
    ("\u{1B}]52;c;?\u{7}\u{1B}]11;?\u{7}\u{5}", ""),
  ])
  func answer(_ input: String, _ expected: String) {
    var terminal = terminal(input)
    #expect(String(decoding: terminal.drainAnswers(), as: UTF8.self) == expected)
    #expect(terminal.drainAnswers().isEmpty)
  }

  @Test func answersThatNobodyDrainsAreBounded() {
    var terminal = terminal("")
    for _ in 0..<10_000 { terminal.feed("\u{1B}[c") }
    #expect(terminal.drainAnswers().count <= 4096)
  }

  @Test func titlesBellsAndClipboard() {
    var terminal = terminal(
      "\u{7}\u{1B}]0;both\u{7}\u{7}\u{1B}]1;icon\u{1B}\\\u{1B}]52;c;aGk=\u{7}")
    #expect(terminal.bellCount == 2)
    #expect(terminal.title == "both")
    #expect(terminal.iconTitle == "icon")
    #expect(terminal.drainClipboard() == "aGk=")
    #expect(terminal.drainClipboard() == nil)
    terminal.feed("\u{1B}[22t\u{1B}]2;other é\u{7}")
    #expect(terminal.title == "other é")
    terminal.feed("\u{1B}[23t")
    #expect(terminal.title == "both")
    terminal.feed("\u{1B}]2;" + String(repeating: "é", count: 5000) + "\u{7}")
    #expect(terminal.title.utf8.count <= 512)
    #expect(terminal.text() == "\n\n\n")
  }

  @Test func modesForTheViewer() {
    let on = terminal("\u{1B}[?1;25;1002;1006;1004;2004h\u{1B}[?25l\u{1B}=\u{1B}[5 q")
    #expect(on.mouseTracking == .buttonMotion)
    #expect(on.mouseEncoding == .sgr)
    #expect(
      on.modes.isSuperset(of: [
        .applicationCursorKeys, .focusEvents, .bracketedPaste, .applicationKeypad,
      ]))
    #expect(!on.modes.contains(.cursorVisible))
    #expect(on.cursorShape == .bar)
    var saved = on
    saved.feed("\u{1B}[?2004s\u{1B}[?2004l\u{1B}[?2004r\u{1B}[?1002l")
    #expect(saved.modes.contains(.bracketedPaste))
    #expect(saved.mouseTracking == .off)
  }

  @Test func damageNamesTheRowsThatChanged() {
    var terminal = terminal("")
    _ = terminal.drainDamage()
    terminal.feed("\u{1B}[2;1Hx\u{1B}[4;1Hy")
    var damage = terminal.drainDamage()
    #expect(damage.changedRows == [1, 3])
    #expect(damage.cursor && !damage.everything)
    #expect(terminal.drainDamage().isEmpty)
    terminal.feed("\u{1B}[2;3r\u{1B}[3;1H\n")
    damage = terminal.drainDamage()
    #expect(damage.changedRows == [1, 2])
    terminal.feed("\u{1B}[r\u{1B}[4;1H\n")
    #expect(terminal.drainDamage().everything)
  }
}

@Suite struct EncodingTests {
  @Test(
    arguments: [
      ([0x61, 0xFF, 0x62], "a\u{FFFD}b"),
      ([0xC3, 0x28], "\u{FFFD}("),
      ([0xE2, 0x82, 0x41], "\u{FFFD}A"),
      ([0xF0, 0x9F, 0x98, 0x80], "😀"),
      ([0xED, 0xA0, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"),
      ([0xC0, 0x80], "\u{FFFD}\u{FFFD}"),
      ([0xF4, 0x90, 0x80, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}"),
      ([0xE2, 0x82, 0x1B, 0x5B, 0x43, 0x61], "\u{FFFD} a"),
      ([0x1B, 0x25, 0x40, 0xE9, 0x1B, 0x25, 0x47, 0xC3, 0xA9], "éé"),
      ([0x1B, 0x25, 0x40, 0x9B, 0x43, 0x78], " x"),
    ] as [([UInt8], String)])
  func decoding(_ bytes: [UInt8], _ expected: String) {
    var whole = VirtualTerminal(columns: 10, rows: 1)
    whole.feed(bytes)
    #expect(whole.text() == expected)
    var single = VirtualTerminal(columns: 10, rows: 1)
    for byte in bytes { single.feed([byte]) }
    #expect(single.text() == expected)
  }

  @Test(
    arguments: [
      (0x61, 1), (0xE9, 1), (0x301, 0), (0x200B, 0), (0x3042, 2), (0xAC00, 2), (0x1F600, 2),
      (0x1F6DC, 2), (0x1FAE8, 2), (0x2500, 1), (0xFF21, 2), (0xFF71, 1), (0x20000, 2), (0xAD, 1),
      (0x1160, 0), (0x1100, 2), (0xE0100, 0), (0x10FFFF, 1), (0x7F, 0), (0x303F, 1), (0x26A1, 2),
    ] as [(UInt32, Int)])
  func width(_ scalar: UInt32, _ cells: Int) {
    #expect(CharacterWidth.cells(of: scalar) == cells)
  }

  @Test func clustersAreBounded() {
    var terminal = terminal("e" + String(repeating: "\u{301}", count: 1000) + "x")
    #expect(terminal.cursor.column == 2)
    #expect(terminal.text(of: terminal.cell(row: 0, column: 0)).unicodeScalars.count == 16)
    // More different clusters than the table holds: old ones are forgotten, new ones still shown.
    for number in 0..<40_000 {
      let base = Unicode.Scalar(0x4E00 + UInt32(number % 20_000))!
      let mark = Unicode.Scalar(0x300 + UInt32(number / 20_000))!
      terminal.feed("\r\u{1B}[K\(base)\(mark)")
    }
    #expect(terminal.text(of: terminal.cell(row: 0, column: 0)).unicodeScalars.count == 2)
    #expect(terminal.violatedInvariant() == nil)
  }
}
