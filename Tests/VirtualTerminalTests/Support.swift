import VirtualTerminal

/// A terminal that was fed `input`.
func terminal(
  _ input: String, columns: Int = 10, rows: Int = 4, scrollbackLimit: Int = 100
) -> VirtualTerminal {
  var terminal = VirtualTerminal(columns: columns, rows: rows, scrollbackLimit: scrollbackLimit)
  terminal.feed(input)
  return terminal
}

/// What two terminals show or do differently, or nil. Scrollback is not looked at.
func difference(_ one: VirtualTerminal, _ two: VirtualTerminal) -> String? {
  if one.columns != two.columns || one.rows != two.rows { return "size" }
  for row in 0..<one.rows {
    for column in 0..<one.columns {
      let (a, b) = (one.cell(row: row, column: column), two.cell(row: row, column: column))
      if one.text(of: a) != two.text(of: b) {
        return "text at \(row),\(column): '\(one.text(of: a))' '\(two.text(of: b))'"
      }
      if !a.hasSameStyle(as: b) || a.width != b.width {
        return "style at \(row),\(column): \(a) \(b)"
      }
    }
  }
  if one.cursor != two.cursor { return "cursor \(one.cursor) \(two.cursor)" }
  if one.modes != two.modes { return "modes \(one.modes) \(two.modes)" }
  if one.mouseTracking != two.mouseTracking || one.mouseEncoding != two.mouseEncoding {
    return "mouse"
  }
  if one.title != two.title || one.iconTitle != two.iconTitle { return "title" }
  if one.cursorShape != two.cursorShape { return "cursor shape" }
  if one.showsAlternateScreen != two.showsAlternateScreen { return "screen" }
  return nil
}

/// Random numbers that are the same in every run (SplitMix64, Steele and others 2014).
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Output as a hostile or broken guest may print it: text, sequences of all kinds, halves of them, and noise.
func randomOutput(_ random: inout SeededGenerator, pieces: Int) -> [UInt8] {
  var output: [UInt8] = []
  let texts = [
    "hello", "a", "\r\n", "\n", "\t", "\u{8}", "漢字", "e\u{301}", "👩\u{200D}👩\u{200D}👧", "🇩🇪",
    "❤\u{FE0F}",
    "👍🏽", "─│┌", "ab\u{300}\u{301}\u{302}", "x\u{200D}", "\u{1100}\u{1161}",
  ]
  for _ in 0..<pieces {
    switch Int.random(in: 0..<16, using: &random) {
    case 0..<5: output += Array(texts.randomElement(using: &random)!.utf8)
    case 5..<11:
      output += [0x1B, 0x5B]
      let prefixes: [[UInt8]] = [[], [], [], [], [0x3F], [0x3F], [0x3E], [0x3D]]
      output += prefixes.randomElement(using: &random)!
      for index in 0..<Int.random(in: 0..<4, using: &random) {
        if index > 0 { output.append(Bool.random(using: &random) ? 0x3B : 0x3A) }
        let numbers = [
          0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 25, 38, 45, 47, 48, 66, 1000, 1006, 1047, 1048,
        ]
        let number =
          Bool.random(using: &random)
          ? numbers.randomElement(using: &random)!
          : [1049, 2004, 2026, 2027, 69, 65535, 99_999_999, 31, 97, 107].randomElement(
            using: &random)!
        output += Array("\(number)".utf8)
      }
      if Int.random(in: 0..<8, using: &random) == 0 {
        output.append(UInt8.random(in: 0x20...0x2F, using: &random))
      }
      output.append(UInt8.random(in: 0x40...0x7E, using: &random))
    case 11:
      output.append(0x1B)
      output.append(UInt8.random(in: 0x20...0x7E, using: &random))
    case 12:
      let strings = [
        "]0;title\u{7}", "]52;c;aGFsbG8=\u{7}", "P$qm\u{1B}\\", "]2;un", "_x\u{1B}\\", "P1;2",
      ]
      output.append(0x1B)
      output += Array(strings.randomElement(using: &random)!.utf8)
    case 13: output.append(UInt8.random(in: 0...0x1F, using: &random))
    default: output.append(UInt8.random(in: 0...255, using: &random))
    }
  }
  return output
}
