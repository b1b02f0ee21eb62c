import Testing
import VirtualTerminal

/// One thing that a terminal must do: what is printed, what the screen shows after it, where the cursor is.
struct Behaviour: Sendable, CustomTestStringConvertible {
  var name: String
  var input: String
  /// Lines of the screen; missing ones are empty.
  var screen: [String]
  /// Row and column from 0.
  var cursor: (Int, Int)
  var wrapsNext = false
  var scrollback: [String] = []
  var testDescription: String { name }

  init(
    _ name: String, _ input: String, _ screen: [String], _ cursor: (Int, Int),
    wrapsNext: Bool = false, scrollback: [String] = []
  ) {
    self.name = name
    self.input = input
    self.screen = screen
    self.cursor = cursor
    self.wrapsNext = wrapsNext
    self.scrollback = scrollback
  }
}

private let fill = "aaa\r\nbbb\r\nccc\r\nddd"

private let movement: [Behaviour] = [
  .init("cursor addressing counts from one", "\u{1B}[2;3Hx\u{1B}[H y", [" y", "  x"], (0, 2)),
  .init(
    "addressing beyond the edge stops at it", "\u{1B}[99;99Hx", ["", "", "", "         x"], (3, 9),
    wrapsNext: true),
  .init("zero and missing parameters are one", "\u{1B}[0;0Ha\u{1B}[;2Hb", ["ab"], (0, 2)),
  .init(
    "relative movement stops at the edges", "\u{1B}[9A\u{1B}[9Dx\u{1B}[9B\u{1B}[99Cy",
    ["x", "", "", "         y"], (3, 9), wrapsNext: true),
  .init(
    "next and previous line return the carriage", "ab\u{1B}[Ecd\u{1B}[Fe", ["eb", "cd"], (0, 1)),
  .init("column and row alone", "\u{1B}[5Ga\u{1B}[3db\u{1B}[2`c", ["    a", "", " c   b"], (2, 2)),
  .init("backspace does not erase", "abc\u{8}\u{8}x", ["axc"], (0, 2)),
  .init("backspace stops at the left edge", "\r\u{8}\u{8}x", ["x"], (0, 1)),
  .init("index, reverse index, next line", "a\u{1B}Db\u{1B}Ec\u{1B}Md", ["a", " d", "c"], (1, 2)),
  .init("vertical tab and form feed are line feeds", "a\u{B}b\u{C}c", ["a", " b", "  c"], (2, 3)),
  .init("save and restore cursor", "ab\u{1B}7\u{1B}[3;3Hx\u{1B}8c", ["abc", "", "  x"], (0, 3)),
  .init("restore without save goes home", "abc\u{1B}8x", ["xbc"], (0, 1)),
  .init("SCO save and restore", "ab\u{1B}[s\r\nx\u{1B}[uc", ["abc", "x"], (0, 3)),
  .init("controls act inside a sequence", "a\u{1B}[2\u{8}Cb", ["a b"], (0, 3)),
  .init("cancel ends a sequence", "a\u{1B}[2\u{18}Cb", ["aCb"], (0, 3)),
  .init("new line mode", "\u{1B}[20hab\ncd\u{1B}[20l\nx", ["ab", "cd", "  x"], (2, 3)),
]

private let wrapping: [Behaviour] = [
  .init("the last column waits", "0123456789", ["0123456789"], (0, 9), wrapsNext: true),
  .init("the next character wraps", "0123456789x", ["0123456789", "x"], (1, 1)),
  .init("carriage return cancels the wait", "0123456789\rx", ["x123456789"], (0, 1)),
  .init("backspace from the wait", "0123456789\u{8}x", ["01234567x9"], (0, 9)),
  .init(
    "movement cancels the wait", "0123456789\u{1B}[Cx", ["012345678x"], (0, 9), wrapsNext: true),
  .init("erase while waiting takes the last column", "0123456789\u{1B}[K", ["012345678"], (0, 9)),
  .init(
    "no autowrap overwrites the last column", "\u{1B}[?7l0123456789xyz", ["012345678z"], (0, 9)),
  .init(
    "wrapping at the bottom scrolls", "\u{1B}[4;1H0123456789x", ["", "", "0123456789", "x"], (3, 1),
    scrollback: [""]),
  .init("tab at the edge keeps the wait away", "\u{1B}[9Gab\tx", ["        ab", "x"], (1, 1)),
  .init("insert mode pushes right", "abcdefghij\r\u{1B}[4hXY\u{1B}[4lZ", ["XYZbcdefgh"], (0, 3)),
  .init(
    "reverse wrap", "\u{1B}[?45h0123456789ab\u{8}\u{8}\u{8}x", ["012345678x", "ab"], (0, 9),
    wrapsNext: true),
]

private let tabulation: [Behaviour] = [
  .init("stops at every eighth column", "\tx", ["        x"], (0, 9)),
  .init(
    "set and clear stops", "\u{1B}[3g\u{1B}[4G\u{1B}H\r\tx\r\n\tab\t", ["   x", "   ab"], (1, 9)),
  .init("clear one stop", "\u{1B}[9G\u{1B}[g\r\tx", ["         x"], (0, 9), wrapsNext: true),
  .init("back tab", "\u{1B}[10Gx\u{1B}[Zy", ["        yx"], (0, 9)),
  .init(
    "forward tabs by count", "\u{1B}[3g\u{1B}[3G\u{1B}H\u{1B}[5G\u{1B}H\r\u{1B}[2Ix", ["    x"],
    (0, 5)),
]

private let regions: [Behaviour] = [
  .init("setting margins goes home", "abc\u{1B}[2;3r", ["abc"], (0, 0)),
  .init(
    "line feed scrolls only the region", fill + "\u{1B}[2;3r\u{1B}[3;1H\nx",
    ["aaa", "ccc", "x", "ddd"], (2, 1)),
  .init(
    "reverse index scrolls only the region", fill + "\u{1B}[2;3r\u{1B}[2;1H\u{1B}Mx",
    ["aaa", "x", "bbb", "ddd"], (1, 1)),
  .init(
    "line feed under the region does not scroll", fill + "\u{1B}[1;2r\u{1B}[4;1H\nx",
    ["aaa", "bbb", "ccc", "xdd"], (3, 1)),
  .init(
    "scroll up and down", fill + "\u{1B}[S\u{1B}[2T", ["", "", "bbb", "ccc"], (3, 3),
    scrollback: ["aaa"]),
  .init(
    "a region from the top keeps what scrolls off", fill + "\u{1B}[1;3r\u{1B}[3;1H\n",
    ["bbb", "ccc", "", "ddd"], (2, 0), scrollback: ["aaa"]),
  .init(
    "origin mode addresses inside the region", "\u{1B}[2;3r\u{1B}[?6ha\u{1B}[9;9Hb",
    ["", "a", "        b"], (2, 9)),
  .init("origin mode off goes home", "\u{1B}[2;3r\u{1B}[?6hx\u{1B}[?6ly", ["y", "x"], (0, 1)),
  .init(
    "cursor up stops at the top margin", "\u{1B}[2;3r\u{1B}[3;1H\u{1B}[9Ax", ["", "x"], (1, 1)),
  .init("cursor down stops at the bottom margin", "\u{1B}[2;3r\u{1B}[9Bx", ["", "", "x"], (2, 1)),
  .init("margins that make no sense are ignored", "ab\u{1B}[3;2rc", ["abc"], (0, 3)),
  .init("insert lines", fill + "\u{1B}[2;2H\u{1B}[2Lx", ["aaa", "x", "", "bbb"], (1, 1)),
  .init("delete lines", fill + "\u{1B}[2;2H\u{1B}[2Mx", ["aaa", "xdd"], (1, 1)),
  .init(
    "deleted lines are no scrollback", fill + "\u{1B}[H\u{1B}[M", ["bbb", "ccc", "ddd"], (0, 0)),
  .init(
    "insert and delete lines only in the region",
    fill + "\u{1B}[2;3r\u{1B}[2H\u{1B}[L\u{1B}[4H\u{1B}[9M", ["aaa", "", "bbb", "ddd"], (3, 0)),
]

private let editing: [Behaviour] = [
  .init("insert characters", "abcdef\u{1B}[3G\u{1B}[2@", ["ab  cdef"], (0, 2)),
  .init("delete characters", "abcdef\u{1B}[3G\u{1B}[2P", ["abef"], (0, 2)),
  .init("erase characters", "abcdef\u{1B}[3G\u{1B}[2X", ["ab  ef"], (0, 2)),
  .init(
    "counts beyond the edge", "abcdef\u{1B}[3G\u{1B}[65535P\u{1B}[9@\u{1B}[99X", ["ab"], (0, 2)),
  .init("erase to the end of line", "abcdef\u{1B}[3G\u{1B}[K", ["ab"], (0, 2)),
  .init("erase to the start of line", "abcdef\u{1B}[3G\u{1B}[1K", ["   def"], (0, 2)),
  .init("erase the line", "abcdef\u{1B}[3G\u{1B}[2Kx", ["  x"], (0, 3)),
  .init("erase below", fill + "\u{1B}[2;2H\u{1B}[J", ["aaa", "b"], (1, 1)),
  .init("erase above", fill + "\u{1B}[2;2H\u{1B}[1J", ["", "  b", "ccc", "ddd"], (1, 1)),
  .init(
    "erase all keeps it as scrollback", fill + "\u{1B}[2J", [], (3, 3),
    scrollback: ["aaa", "bbb", "ccc", "ddd"]),
  .init("erase the scrollback", fill + "\n\n\u{1B}[3J", ["ccc", "ddd"], (3, 3)),
  .init("repeat", "ab\u{1B}[3b", ["abbbb"], (0, 5)),
  .init(
    "alignment pattern", "x\u{1B}[2;3r\u{1B}#8", Array(repeating: "EEEEEEEEEE", count: 4), (0, 0)),
  .init(
    "selective erase spares what is protected", "a\u{1B}[1\"qb\u{1B}[0\"qc\u{1B}[?2K", [" b"],
    (0, 3)),
  .init("plain erase does not", "a\u{1B}[1\"qb\u{1B}[0\"qc\u{1B}[2K", [], (0, 3)),
  .init("shift left and right", "abc\u{1B}[2 @", ["c"], (0, 3)),
]

private let characterSets: [Behaviour] = [
  .init("line drawing in G0", "\u{1B}(0lqk\u{1B}(Blqk", ["┌─┐lqk"], (0, 6)),
  .init("line drawing in G1 by shift out", "\u{1B})0q\u{E}q\u{F}q", ["q─q"], (0, 3)),
  .init("single shifts", "\u{1B}*0\u{1B}+0\u{1B}Nqq\u{1B}Oxx", ["─q│x"], (0, 4)),
  .init("locking shifts two and three", "\u{1B}*0\u{1B}+A\u{1B}nq\u{1B}o#\u{F}#", ["─£#"], (0, 3)),
  .init("British", "\u{1B}(A#\u{1B}(B#", ["£#"], (0, 2)),
  .init("saved with the cursor", "\u{1B}(0\u{1B}7\u{1B}(Bq\u{1B}8q", ["─"], (0, 1)),
  .init("soft reset", "\u{1B}(0\u{1B}[4h\u{1B}[!pq", ["q"], (0, 1)),
]

private let unicode: [Behaviour] = [
  .init("wide characters take two columns", "漢字x", ["漢字x"], (0, 5)),
  .init("a wide character does not fit the last column", "012345678漢", ["012345678", "漢"], (1, 2)),
  .init("without autowrap it moves left", "\u{1B}[?7l012345678漢", ["01234567漢"], (0, 9)),
  .init("overwriting the left half clears the right", "漢\rx", ["x"], (0, 1)),
  .init("overwriting the right half clears the left", "漢\u{1B}[2Gx", [" x"], (0, 2)),
  .init("erasing a half clears both", "漢字\u{1B}[2G\u{1B}[X", ["  字"], (0, 1)),
  .init("deleting a half clears the other", "a漢b\u{1B}[2G\u{1B}[P", ["a b"], (0, 1)),
  .init(
    "insertion pushes a wide character over the edge", "01234567漢\r\u{1B}[@", [" 01234567"], (0, 0)),
  .init("marks join the character before", "e\u{301}x", ["e\u{301}x"], (0, 2)),
  .init(
    "a mark joins the waiting last column", "012345678e\u{301}", ["012345678e\u{301}"], (0, 9),
    wrapsNext: true),
  .init("a mark with nothing before is dropped", "\u{301}x", ["x"], (0, 1)),
  .init("joined emoji take one place", "👩\u{200D}👩\u{200D}👧x", ["👩\u{200D}👩\u{200D}👧x"], (0, 3)),
  .init("unless the guest counts for itself", "\u{1B}[?2027l👩\u{200D}👩x", ["👩\u{200D}👩x"], (0, 5)),
  .init("flags are pairs", "🇩🇪🇫🇷x", ["🇩🇪🇫🇷x"], (0, 5)),
  .init("skin tones", "👍🏽x", ["👍🏽x"], (0, 3)),
  .init("emoji presentation widens", "❤\u{FE0F}x", ["❤\u{FE0F}x"], (0, 3)),
  .init("two-byte controls", "ab\u{9B}2Dx", ["xb"], (0, 1)),
]

private let screens: [Behaviour] = [
  .init("alternate screen and back", "ab\u{1B}[?1049hXX\u{1B}[?1049lc", ["abc"], (0, 3)),
  .init("the alternate screen starts empty", "ab\u{1B}[?1049h", [], (0, 2)),
  .init("1047 keeps the cursor", "ab\u{1B}[?1047h\r\nX\u{1B}[?1047lc", ["ab", " c"], (1, 2)),
  .init("47 keeps what was drawn", "\u{1B}[?47hX\u{1B}[?47l\u{1B}[?47h", ["X"], (0, 1)),
  .init(
    "the alternate screen has no scrollback", "\u{1B}[?1049h" + fill + "\r\neee",
    ["bbb", "ccc", "ddd", "eee"], (3, 3)),
  .init("reset", "ab\u{1B}[?1049h\u{1B}[2;3r\u{1B}[?6h\u{1B}cx", ["x"], (0, 1), scrollback: ["ab"]),
  .init(
    "scrollback", fill + "\r\neee\r\nfff", ["ccc", "ddd", "eee", "fff"], (3, 3),
    scrollback: ["aaa", "bbb"]),
]

@Suite struct BehaviourTests {
  @Test(
    arguments: movement + wrapping + tabulation + regions + editing + characterSets + unicode
      + screens)
  func screen(_ behaviour: Behaviour) {
    var expected = behaviour.screen
    while expected.count < 4 { expected.append("") }
    let whole = terminal(behaviour.input)
    #expect(
      whole.text().split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        == expected)
    #expect(whole.cursor.row == behaviour.cursor.0)
    #expect(whole.cursor.column == behaviour.cursor.1)
    #expect(whole.cursor.wrapsNext == behaviour.wrapsNext)
    let lines = (0..<whole.scrollbackCount).map { whole.text(of: whole.line($0)) }
    #expect(lines == behaviour.scrollback)
    #expect(whole.violatedInvariant() == nil)

    // The same bytes one at a time must do the same: nothing depends on where input is cut.
    var single = VirtualTerminal(columns: 10, rows: 4, scrollbackLimit: 100)
    for byte in behaviour.input.utf8 { single.feed([byte]) }
    #expect(difference(whole, single) == nil)
  }
}
