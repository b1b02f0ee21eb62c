import Foundation
import Testing
import VirtualTerminal

@Suite struct RenderingTests {
  private func check(_ original: VirtualTerminal, _ comment: String) {
    var copy = VirtualTerminal(columns: original.columns, rows: original.rows, scrollbackLimit: 100)
    copy.feed(original.renderAsEscapes())
    let found = difference(original, copy)
    #expect(found == nil, "\(comment)")
    guard found == nil else { return }
    #expect(copy.drainAnswers().isEmpty)
    // What cannot be seen must be there too: the saved cursor, margins, tabs, sets and the other screen.
    for probe in [
      "\u{1B}8+", "\u{1B}[?6l\u{1B}[H\tT\tT", "\u{1B}[9;1H\n\n!", "\u{E}q\u{F}q", "\u{1B}[?1049l*",
      "\u{1B}8+",
    ] {
      var (one, two) = (original, copy)
      one.feed(probe)
      two.feed(probe)
      #expect(difference(one, two) == nil, "\(comment) after \(probe.debugDescription)")
    }
  }

  @Test(arguments: [
    "", "plain\r\ntext", "0123456789", "0123456789x", "\u{1B}[1;31mred\u{1B}[44m blue \u{1B}[K",
    "\u{1B}[41m0123456789abc\u{1B}[0m\r\n", "漢字012345漢漢", "\u{1B}[2;3r\u{1B}[?6h\u{1B}[2;5Hx",
    "ab\u{1B}7\u{1B}[?1049h\u{1B}[3;3H\u{1B}[7mALT\u{1B}7\u{1B}[H", "\u{1B}(0\u{1B})0\u{E}lqk",
    "\u{1B}[?1;25;1000;1006;2004h\u{1B}[?25l\u{1B}[4h\u{1B}[20h",
    "\u{1B}]0;a title\u{7}\u{1B}]1;icon\u{7}",
    "\u{1B}[3g\u{1B}[4G\u{1B}H\u{1B}[3;2H", "\u{1B}[1\"qprotected\u{1B}[0\"q plain",
    "\u{1B}[5 q\u{1B}[?5h",
    "e\u{301}👩\u{200D}👩🇩🇪", "\u{1B}[4:3mcurl\u{1B}[21mdouble\u{1B}[38;2;1;2;3;48;5;99mrgb",
    "\u{1B}[4;1H\u{1B}[42m0123456789abc\u{1B}[?1049h\u{1B}[?47lz",
    "\u{1B}[?7l\u{1B}[?45h0123456789xy",
  ])
  func redraws(_ input: String) {
    check(terminal(input), input.debugDescription)
  }

  @Test func redrawsWhateverAGuestPrints() {
    for seed in 0..<150 as Range<UInt64> {
      var random = SeededGenerator(seed: seed)
      var original = VirtualTerminal(
        columns: Int.random(in: 2...30, using: &random),
        rows: Int.random(in: 2...10, using: &random), scrollbackLimit: 20)
      // Clusters on or off for the whole run: cells written under one rule are not all reproducible under the other.
      original.feed(randomOutput(&random, pieces: 60))
      original.feed("\u{18}\u{1B}%G\u{1B}[?6l")
      var copy = VirtualTerminal(columns: original.columns, rows: original.rows)
      copy.feed(original.renderAsEscapes())
      #expect(difference(original, copy) == nil, "seed \(seed)")
    }
  }

  @Test func scrollbackComesFirst() {
    var original = terminal((0..<20).map { "line \($0)" }.joined(separator: "\r\n"))
    original.feed("\u{1B}[1;1H")
    var copy = terminal("")
    copy.feed(original.renderAsEscapes(scrollbackLines: 5))
    #expect(difference(original, copy) == nil)
    #expect(copy.scrollbackText() == "line 11\nline 12\nline 13\nline 14\nline 15")
  }
}

@Suite struct CodingTests {
  private func roundTrip(_ terminal: VirtualTerminal) throws -> VirtualTerminal {
    try JSONDecoder().decode(VirtualTerminal.self, from: JSONEncoder().encode(terminal))
  }

  @Test func everythingTravels() throws {
    for seed in 0..<40 as Range<UInt64> {
      var random = SeededGenerator(seed: seed)
      var original = VirtualTerminal(columns: 20, rows: 6, scrollbackLimit: 30)
      original.feed(randomOutput(&random, pieces: 120))
      var copy = try roundTrip(original)
      #expect(difference(original, copy) == nil)
      #expect(copy.scrollbackText() == original.scrollbackText())
      // Also in the middle of a sequence, a character or a string: the future is the same.
      let future = randomOutput(&random, pieces: 60)
      original.feed(future)
      copy.feed(future)
      #expect(difference(original, copy) == nil, "seed \(seed)")
      #expect(copy.scrollbackText() == original.scrollbackText())
      #expect(copy.drainAnswers() == original.drainAnswers())
    }
  }

  @Test func fullScrollbackIsCompact() throws {
    var original = VirtualTerminal(columns: 80, rows: 24, scrollbackLimit: 10_000)
    for number in 0..<12_000 {
      original.feed("[\(number)] systemd: started a unit of some kind\r\n")
    }
    #expect(try JSONEncoder().encode(original).count < 8_000_000)
  }

  @Test func editedStatesAreRefused() throws {
    var original = terminal("hello 漢\u{1B}[2;3r\u{1B}7")
    original.feed("e\u{301}")
    let text = String(decoding: try JSONEncoder().encode(original), as: UTF8.self)
    let edits = [
      ("\"topMargin\":1", "\"topMargin\":-1"), ("\"topMargin\":1", "\"topMargin\":99"),
      ("\"columns\":10", "\"columns\":1000000000"), ("\"columns\":10", "\"columns\":5"),
      ("\"history\":0", "\"history\":99"), ("\"version\":1", "\"version\":2"),
      ("\"showsAlternateScreen\":false", "\"showsAlternateScreen\":true"),
      ("\"left\":0", "\"left\":7"), ("\"row\":0", "\"row\":4"),
    ]
    for (from, to) in edits {
      #expect(text.contains(from), "\(from)")
      let edited = Data(text.replacingOccurrences(of: from, with: to).utf8)
      #expect(throws: (any Error).self, "\(to)") {
        try JSONDecoder().decode(VirtualTerminal.self, from: edited)
      }
    }
  }

  /// Whatever bytes of a state are changed, reading it either fails or gives a terminal that works.
  @Test func damagedStatesDoNotTrap() throws {
    var random = SeededGenerator(seed: 7)
    var original = terminal("hello 漢 e\u{301}\u{1B}[1;2")
    original.feed(randomOutput(&random, pieces: 50))
    let bytes = [UInt8](try JSONEncoder().encode(original))
    for _ in 0..<1500 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<damaged.count, using: &random)
        damaged[place] = Array("0123456789AZaz-truefalsnl".utf8).randomElement(using: &random)!
      }
      guard var read = try? JSONDecoder().decode(VirtualTerminal.self, from: Data(damaged)) else {
        continue
      }
      read.feed(randomOutput(&random, pieces: 20))
      read.resize(columns: 7, rows: 3)
      _ = read.renderAsEscapes(scrollbackLines: 3)
      #expect(read.violatedInvariant() == nil)
    }
  }
}
