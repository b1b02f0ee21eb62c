import Testing
import VirtualTerminal

@Suite struct QueryFilterTests {
  private static let cases: [(String, String)] = [
    ("plain text\r\n", "plain text\r\n"),
    ("a\u{1B}[6nb\u{1B}[?6nc\u{1B}[5nd", "abcd"),
    ("a\u{1B}[c\u{1B}[0c\u{1B}[>c\u{1B}[=cb\u{1B}Zc\u{5}d", "abcd"),
    ("\u{1B}[18t\u{1B}[22t\u{1B}[14tx", "\u{1B}[22tx"),
    ("\u{1B}[?2026$p\u{1B}[4$p\u{1B}[>0q\u{1B}[5 qx", "\u{1B}[5 qx"),
    ("\u{1B}]11;?\u{7}\u{1B}]11;rgb:0/0/0\u{7}x", "\u{1B}]11;rgb:0/0/0\u{7}x"),
    ("\u{1B}]2;what?\u{7}x", "\u{1B}]2;what?\u{7}x"),
    ("\u{1B}P$qm\u{1B}\\\u{1B}P+q544e\u{1B}\\x", "\u{1B}\\\u{1B}\\x"),
    ("\u{1B}[1;31mred\u{1B}[0m\u{1B}(0q\u{1B}[2J", "\u{1B}[1;31mred\u{1B}[0m\u{1B}(0q\u{1B}[2J"),
    ("漢字 e\u{301} 👩‍👧", "漢字 e\u{301} 👩‍👧"),
    ("\u{1B}[?1049h\u{1B}[?6h\u{1B}[>4;2mx", "\u{1B}[?1049h\u{1B}[?6h\u{1B}[>4;2mx"),
    ("\u{9B}6nx", "x"),
    ("\u{1B}[6\r\nnx", "\r\nx"),
    ("\u{1B}[1\u{1B}[6nx", "\u{1B}[1\u{1B}\\x"),
    ("\u{1B}]2;cut\u{1B}[6nx", "\u{1B}]2;cut\u{1B}\\x"),
  ]

  @Test func dropsQuestionsOnly() {
    for (input, expected) in Self.cases {
      for size in [1, 3, 1000] {
        var filter = QueryFilter()
        var output: [UInt8] = []
        let bytes = Array(input.utf8)
        for start in stride(from: 0, to: bytes.count, by: size) {
          bytes[start..<min(start + size, bytes.count)].withUnsafeBytes {
            filter.filter($0, into: &output)
          }
        }
        #expect(String(decoding: output, as: UTF8.self) == expected, "\(input.debugDescription)")
      }
    }
  }

  /// A terminal that is shown the filtered stream looks the same and says nothing.
  @Test func theRestIsWhole() {
    for seed in 0..<400 as Range<UInt64> {
      var random = SeededGenerator(seed: seed)
      let bytes = randomOutput(&random, pieces: 100)
      var whole = VirtualTerminal(columns: 20, rows: 6)
      whole.feed(bytes)
      var filter = QueryFilter()
      var output: [UInt8] = []
      bytes.withUnsafeBytes { filter.filter($0, into: &output) }
      var filtered = VirtualTerminal(columns: 20, rows: 6)
      filtered.feed(output)
      #expect(filtered.drainAnswers().isEmpty, "seed \(seed)")
      #expect(filtered.text() == whole.text(), "seed \(seed)")
    }
  }
}
