import SerialMux
import Testing

@Suite struct EscapeSequenceFilterTests {
  typealias Piece = EscapeSequenceFilter.Piece

  private func text(_ text: String) -> Piece { .input(Array(text.utf8)) }

  @Test func commandsAtTheStartOfALine() {
    let cases: [(String, [Piece])] = [
      ("~.", [.command(.leave)]),
      ("ls\r~.", [text("ls\r"), .command(.leave)]),
      (
        "~?~#~l~dx",
        [.command(.help), .command(.sendBreak), .command(.log), .command(.detach), text("x")]
      ),
      ("ls ~.\r", [text("ls ~.\r")]),
      ("~~.", [text("~.")]),
      ("~x~.", [text("~x~.")]),
      ("cd ~\r~.", [text("cd ~\r"), .command(.leave)]),
      ("~\r~.", [text("~\r"), .command(.leave)]),
      ("abc\u{3}~.", [text("abc\u{3}"), .command(.leave)]),
      ("~#~.", [.command(.sendBreak), .command(.leave)]),
    ]
    for (input, expected) in cases {
      var whole = EscapeSequenceFilter()
      #expect(whole.feed(input.utf8) == expected, "\(input.debugDescription)")
      // Typed one key at a time it is the same.
      var single = EscapeSequenceFilter()
      var pieces: [Piece] = []
      for byte in input.utf8 {
        for piece in single.feed([byte]) {
          if case .input(let new) = piece, case .input(let old)? = pieces.last {
            pieces[pieces.count - 1] = .input(old + new)
          } else {
            pieces.append(piece)
          }
        }
      }
      #expect(pieces == expected, "\(input.debugDescription)")
    }
  }

  @Test func prefixWorksAnywhere() {
    var filter = EscapeSequenceFilter()
    #expect(filter.feed("ab\u{1D}".utf8) == [text("ab")])
    #expect(filter.isPending)
    #expect(filter.feed("d".utf8) == [.command(.detach)])
    #expect(!filter.isPending)
    #expect(filter.feed("\u{1D}\u{1D}".utf8) == [text("\u{1D}")])
    #expect(filter.feed("\u{1D}zc~.".utf8) == [.command(.prefixed(0x7A)), text("c~.")])
    #expect(filter.feed("\r~\u{1D}B".utf8) == [text("\r~"), .command(.sendBreak)])
  }

  @Test func bothCanBeTurnedOff() {
    var filter = EscapeSequenceFilter(escape: nil, prefix: nil)
    #expect(filter.feed("~.\u{1D}d".utf8) == [text("~.\u{1D}d")])
    filter = EscapeSequenceFilter(escape: 0x25, prefix: 0x01)
    #expect(
      filter.feed("~.\r%.\u{1}d".utf8) == [text("~.\r"), .command(.leave), .command(.detach)])
  }
}
