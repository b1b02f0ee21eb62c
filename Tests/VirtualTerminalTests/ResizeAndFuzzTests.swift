import Testing
import VirtualTerminal

@Suite struct ResizeTests {
  private func lines(_ terminal: VirtualTerminal) -> [String] {
    terminal.text().split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  @Test func wrappedLinesAreJoinedAndBrokenAgain() {
    var terminal = terminal("0123456789abcdef\r\nxyz")
    terminal.resize(columns: 20, rows: 4)
    #expect(lines(terminal) == ["0123456789abcdef", "xyz", "", ""])
    #expect(terminal.cursor.row == 1 && terminal.cursor.column == 3)
    terminal.resize(columns: 6, rows: 4)
    #expect(lines(terminal) == ["012345", "6789ab", "cdef", "xyz"])
    terminal.resize(columns: 10, rows: 4)
    #expect(lines(terminal) == ["0123456789", "abcdef", "xyz", ""])
    terminal.feed("!")
    #expect(lines(terminal)[2] == "xyz!")
  }

  @Test func wideCharactersStayWhole() {
    var terminal = terminal("a漢字漢字漢字")
    #expect(lines(terminal)[0] == "a漢字漢字")
    terminal.resize(columns: 4, rows: 4)
    #expect(lines(terminal) == ["a漢", "字漢", "字漢", "字"])
    terminal.resize(columns: 13, rows: 4)
    #expect(lines(terminal)[0] == "a漢字漢字漢字")
    terminal.resize(columns: 1, rows: 4)
    #expect(terminal.violatedInvariant() == nil)
  }

  @Test func heightTakesFromAndGivesToTheScrollback() {
    var terminal = terminal("a\r\nb\r\nc\r\nd\r\ne\r\nf")
    #expect(terminal.scrollbackText() == "a\nb")
    terminal.resize(columns: 10, rows: 2)
    #expect(lines(terminal) == ["e", "f"])
    #expect(terminal.scrollbackText() == "a\nb\nc\nd")
    terminal.resize(columns: 10, rows: 5)
    #expect(lines(terminal) == ["b", "c", "d", "e", "f"])
    #expect(terminal.cursor.row == 4)
    terminal.resize(columns: 10, rows: 8)
    #expect(lines(terminal) == ["a", "b", "c", "d", "e", "f", "", ""])
  }

  @Test func shrinkingDropsBlankRowsFirst() {
    var terminal = terminal("a\r\nb")
    terminal.resize(columns: 10, rows: 2)
    #expect(lines(terminal) == ["a", "b"])
    #expect(terminal.scrollbackCount == 0)
  }

  @Test func alternateScreenIsClippedAndTheMainOneWaits() {
    var terminal = terminal("0123456789abc\r\n$ \u{1B}[?1049h\u{1B}[Hvim\u{1B}[4;1Hbottom")
    terminal.resize(columns: 20, rows: 3)
    #expect(lines(terminal) == ["vim", "", ""])
    terminal.feed("\u{1B}[?1049l!")
    #expect(lines(terminal) == ["0123456789abc", "$ !", ""])
  }

  @Test func sizesAreClamped() {
    var terminal = VirtualTerminal(columns: 0, rows: -5, scrollbackLimit: -1)
    #expect(terminal.columns == 1 && terminal.rows == 1)
    terminal.feed("漢字abc\u{1B}[2;2r\u{1B}[L\u{1B}[M\u{1B}[T\u{1B}[S")
    terminal.resize(columns: 100_000, rows: 100_000)
    #expect(terminal.columns == 1024 && terminal.rows == 1024)
    #expect(terminal.violatedInvariant() == nil)
  }
}

@Suite struct FuzzTests {
  @Test(arguments: 0..<60 as Range<UInt64>)
  func nothingThatAGuestPrintsBreaksIt(seed: UInt64) {
    var random = SeededGenerator(seed: seed &+ 1000)
    var terminal = VirtualTerminal(
      columns: Int.random(in: 1...40, using: &random), rows: Int.random(in: 1...12, using: &random),
      scrollbackLimit: Int.random(in: 0...20, using: &random))
    for round in 0..<60 {
      terminal.feed(randomOutput(&random, pieces: 12))
      if round % 7 == 0 {
        terminal.resize(
          columns: Int.random(in: 1...40, using: &random),
          rows: Int.random(in: 1...12, using: &random))
      }
      let violation = terminal.violatedInvariant()
      #expect(violation == nil, "seed \(seed) round \(round)")
      #expect(terminal.scrollbackCount <= terminal.scrollbackLimit)
      if violation != nil { return }
    }
  }

  @Test func noiseIsBoundedInTimeAndSpace() {
    var random = SeededGenerator(seed: 1)
    var terminal = VirtualTerminal(columns: 80, rows: 24, scrollbackLimit: 200)
    for _ in 0..<40 {
      let noise = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) }
      terminal.feed(noise)
    }
    #expect(terminal.violatedInvariant() == nil)
    // A string without an end holds no more than its limit.
    terminal.feed("\u{1B}]52;c;")
    for _ in 0..<100 { terminal.feed([UInt8](repeating: 0x41, count: 4096)) }
    #expect(terminal.violatedInvariant() == nil)
    terminal.feed("\u{7}\u{1B}c!")
    #expect(terminal.text().hasPrefix("!"))
    #expect(terminal.drainClipboard() == nil)
  }
}
