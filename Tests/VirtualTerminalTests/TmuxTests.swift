import Foundation
import Testing
import VirtualTerminal

/// tmux as an oracle: the same bytes shown in a detached session.
private enum Tmux {
  static let path = ["/usr/bin/tmux", "/usr/local/bin/tmux", "/bin/tmux"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  /// Shows file 0, 1, ... of a folder, each in a session of its own (raw, so that a line feed stays one), and leaves
  /// what is seen in N.screen and the cursor's row and column in N.cursor.
  private static let script = """
    export LC_ALL=C.UTF-8 TERM=xterm-256color
    cd "$1" || exit 1
    t() { timeout 10 tmux -S "$PWD/socket" -f /dev/null -u "$@" </dev/null 2>/dev/null; }
    t new-session -d -s keep 'sleep 300'
    t set -g status off
    n=0
    while test -f $n; do
      t new-session -d -s s$n -x $2 -y $3 "stty raw -echo; cat $PWD/$n; touch $PWD/$n.done; sleep 300"
      w=0
      while test ! -f $n.done && test $w -lt 200; do sleep 0.02; w=$((w+1)); done
      sleep 0.05
      t capture-pane -p -t s$n >$n.screen
      t display-message -p -t s$n '#{cursor_y};#{cursor_x}' >$n.cursor
      t kill-session -t s$n
      n=$((n+1))
    done
    t kill-server
    """

  /// What tmux shows for each input, and `row;column` of its cursor.
  static func screens(for inputs: [[UInt8]], columns: Int, rows: Int) throws -> [(String, String)] {
    let folder = "/tmp/underjack-tmux-\(getpid())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (index, input) in inputs.enumerated() {
      try Data(input).write(to: URL(fileURLWithPath: "\(folder)/\(index)"))
    }
    try Data(script.utf8).write(to: URL(fileURLWithPath: folder + "/script"))
    _ = system("timeout 120 sh \(folder)/script \(folder) \(columns) \(rows) >/dev/null 2>&1")
    return try inputs.indices.map { index in
      var text = try String(contentsOfFile: "\(folder)/\(index).screen", encoding: .utf8)
      if text.hasSuffix("\n") { text.removeLast() }
      let cursor = try String(contentsOfFile: "\(folder)/\(index).cursor", encoding: .utf8)
      return (text, cursor.trimmingCharacters(in: .whitespacesAndNewlines))
    }
  }
}

/// Sequences whose meaning tmux (3.3) and a VT220 agree on. Left out is where they differ: tmux lets the cursor stand
/// behind the last column (so moving left or erasing there is one off), inserts lines outside the scrolling region,
/// ignores DECSTR, leaves the left half of a wide character whose right half was overwritten, and captures line drawing
/// as letters.
private let inputs: [(String, String)] = [
  ("text and line ends", "hello\r\nworld\r\n\r\n  indented\ttab\ttab\r\nend"),
  ("wrapping", "\u{1B}[3;35Habcdefghijklmnop\r\n" + String(repeating: "0123456789", count: 9)),
  ("scrolling", (0..<30).map { "line \($0)" }.joined(separator: "\r\n")),
  (
    "addressing",
    "\u{1B}[2J\u{1B}[5;10Ha\u{1B}[1;1Hb\u{1B}[12;40Hc\u{1B}[3Ae\r\u{1B}[10Cf\u{1B}[2Bg\u{1B}[5Gh\u{1B}[4di"
  ),
  (
    "border as in vttest",
    {
      var text = "\u{1B}#8\u{1B}[9;10H\u{1B}[1J\u{1B}[9;30H\u{1B}[0J"
      for row in 1...12 { text += "\u{1B}[\(row);1H*\u{1B}[\(row);40H*" }
      for column in 1...40 { text += "\u{1B}[1;\(column)H+\u{1B}[12;\(column)H+" }
      return text + "\u{1B}[2;2H" + String(repeating: "\u{1B}D\u{8}\u{1B}[C-", count: 5)
    }()
  ),
  (
    "erasing",
    "\u{1B}#8\u{1B}[3;10H\u{1B}[K\u{1B}[5;10H\u{1B}[1K\u{1B}[7;10H\u{1B}[2K\u{1B}[9;5H\u{1B}[J\u{1B}[2;5H\u{1B}[1J"
  ),
  (
    "insert and delete lines",
    (1...12).map { "\u{1B}[\($0);1Hrow \($0)" }.joined()
      + "\u{1B}[4;3H\u{1B}[2L\u{1B}[8;1H\u{1B}[3M"
  ),
  (
    "insert and delete characters",
    "abcdefghij\u{1B}[1;3H\u{1B}[3@XY\u{1B}[2;1Habcdefghij\u{1B}[2;3H\u{1B}[4P\u{1B}[3;1Habcdefghij\u{1B}[3;2H\u{1B}[5X"
  ),
  ("insert mode", "abcdef\u{1B}[1;2H\u{1B}[4hXYZ\u{1B}[4lQ"),
  (
    "scroll region",
    (1...12).map { "\u{1B}[\($0);1Hrow \($0)" }.joined()
      + "\u{1B}[4;8r\u{1B}[8;1H\n\nnew\u{1B}[4;1H\u{1B}M\u{1B}Mtop\u{1B}[r\u{1B}[12;1Hend"
  ),
  (
    "scroll region by SU and SD",
    (1...12).map { "\u{1B}[\($0);1Hrow \($0)" }.joined()
      + "\u{1B}[2;5r\u{1B}[2S\u{1B}[7;11r\u{1B}[3T\u{1B}[r"
  ),
  (
    "origin mode",
    "\u{1B}[3;6r\u{1B}[?6h\u{1B}[1;1Htop\u{1B}[4;1Hbottom\u{1B}[99;5H!\u{1B}[?6l\u{1B}[1;1Hhome\u{1B}[r"
  ),
  (
    "lines in the region only",
    (1...12).map { "\u{1B}[\($0);1Hrow \($0)" }.joined()
      + "\u{1B}[3;7r\u{1B}[5;2H\u{1B}[L\u{1B}[4;1H\u{1B}[2M\u{1B}[6;1H\u{1B}[L"
  ),
  (
    "tabs",
    "\u{1B}[3g\u{1B}[1;5H\u{1B}H\u{1B}[1;15H\u{1B}H\r\ta\tb\tc\r\n\u{1B}[1;5H\u{1B}[g\u{1B}[2;1H\td\u{1B}[Z\u{1B}[Ze"
  ),
  ("save and restore", "abc\u{1B}7\u{1B}[5;5Hq\u{1B}8def\u{1B}[s\u{1B}[9;9Hx\u{1B}[uy"),
  ("alternate screen", "main screen\r\nline\u{1B}[?1049h\u{1B}[2;2Halt\u{1B}[?1049l!"),
  ("in the alternate screen", "main\u{1B}[?1049h\u{1B}[3;3Halt screen"),
  (
    "wide characters",
    "漢字かな交じり文\r\n\u{1B}[2;39Hx漢y\r\n\u{1B}[4;1H漢字\u{1B}[4;1Hx\u{1B}[5;1H漢字\u{1B}[5;3Hxy"
  ),
  ("combining marks", "e\u{301}a\u{308}\u{323}o\r\nn\u{303}x\u{1B}[1Dy"),
  ("repeat", "ab\u{1B}[5bc\r\n-\u{1B}[38b+"),
  ("invalid UTF-8 between", "ok\u{FFFD}ok"),
  ("no autowrap", "\u{1B}[?7l" + String(repeating: "0123456789", count: 5) + "\u{1B}[?7h\r\nx"),
  (
    "cursor forward over the edge",
    "\u{1B}[1;38H\u{1B}[99Cx\u{1B}[2;1H\u{1B}[5C\u{1B}[2Dy\u{1B}[E\u{1B}[2Ez\u{1B}[F!"
  ),
  (
    "index at the margins",
    "\u{1B}[12;1Hlast\u{1B}D\u{1B}Dx\u{1B}[1;1H\u{1B}M\u{1B}Mfirst\u{1B}Eabc"
  ),
  ("reverse wrap off", "\u{1B}[2;1H\u{8}\u{8}x"),
  (
    "titles and strings vanish",
    "a\u{1B}]0;title\u{7}b\u{1B}]2;t\u{1B}\\c\u{1B}P$qm\u{1B}\\d\u{1B}_apc\u{1B}\\e"
  ),
  ("controls in sequences", "a\u{1B}[2\r\nCb\u{1B}[3\u{8}Cx\u{1B}[1\u{18}Cy"),
  (
    "styles do not print",
    "\u{1B}[1;31;48;5;20mstyled\u{1B}[0m \u{1B}[38;2;1;2;3mrgb\u{1B}[4:3mcurl\u{1B}[m end"
  ),
  (
    "unknown sequences vanish",
    "a\u{1B}[?9999hb\u{1B}[>4;2mc\u{1B}[99'zd\u{1B} Fe\u{1B}[1;2;3;4;5\"vf"
  ),
  ("full reset", "text\u{1B}[3;6r\u{1B}(0\u{1B}cqqq"),
]

@Suite(.enabled(if: Tmux.path != nil, "tmux is not installed")) struct TmuxTests {
  @Test func showsWhatTmuxShows() throws {
    let screens = try Tmux.screens(for: inputs.map { Array($0.1.utf8) }, columns: 40, rows: 12)
    for (index, (name, input)) in inputs.enumerated() {
      var terminal = VirtualTerminal(columns: 40, rows: 12)
      terminal.feed(input)
      #expect(terminal.text() == screens[index].0, "\(name)")
      let column = terminal.cursor.wrapsNext ? 40 : terminal.cursor.column
      #expect("\(terminal.cursor.row);\(column)" == screens[index].1, "\(name)")
    }
  }
}
