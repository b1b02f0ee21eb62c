import ConsoleUI
import Testing

@Suite struct CanvasTests {
  private func canvas(_ columns: Int = 10, _ rows: Int = 2) -> Canvas {
    Canvas(Size(columns: columns, rows: rows))
  }

  @Test func wideCharactersTakeTwoCells() {
    var canvas = canvas()
    #expect(canvas.put("a漢b", row: 0, column: 0, style: .plain) == 4)
    #expect(canvas.text(row: 0) == "a漢b")
    #expect(canvas[0, 1].width == 2)
    #expect(canvas[0, 2].width == 0)
    // Half of it overwritten: the other half must not stay.
    canvas.set("x", row: 0, column: 2, style: .plain)
    #expect(canvas.text(row: 0) == "a xb")
    canvas.put("漢", row: 0, column: 9, style: .plain)
    #expect(canvas[0, 9].width == 1)
  }

  @Test func nothingIsDrawnOutside() {
    var canvas = canvas(3, 1)
    let before = canvas
    canvas.put("xyz", row: -1, column: 0, style: .plain)
    canvas.put("xyz", row: 5, column: 0, style: .plain)
    canvas.put("xyz", row: 0, column: 7, style: .plain)
    #expect(canvas == before)
    canvas.put("abcdef", row: 0, column: 1, style: .plain)
    #expect(canvas.text(row: 0) == " ab")
  }

  @Test func controlCharactersNeverReachACell() {
    var canvas = canvas()
    canvas.put("a\u{1B}[31m", row: 0, column: 0, style: .plain)
    #expect(canvas[0, 1].text == "\u{FFFD}")
    #expect("\u{7}".cellWidth == 0)
    #expect("\u{200D}".cellWidth == 0)
  }

  @Test func widths() {
    #expect("abc".cellWidth == 3)
    #expect("e\u{301}".cellWidth == 1)
    #expect("👩‍🚀".cellWidth == 2)
    #expect("☎\u{FE0F}".cellWidth == 2)
    #expect("한글".cellWidth == 4)
    #expect("hello".clipped(to: 4) == "hel…")
    #expect("漢字".clipped(to: 3) == "漢…")
    #expect("hello".clipped(to: 0) == "")
  }

  @Test func wrapping() {
    #expect("the quick brown fox".wrapped(to: 9) == ["the quick", "brown fox"])
    #expect("abcdefghij".wrapped(to: 4) == ["abcd", "efgh", "ij"])
    #expect("a\n\nb".wrapped(to: 5) == ["a", "", "b"])
    #expect("漢字漢字".wrapped(to: 3) == ["漢", "字", "漢", "字"])
    #expect("x".wrapped(to: 0).isEmpty)
    #expect("漢".wrapped(to: 1).count <= 2)
  }

  @Test func charts() {
    var canvas = canvas(4, 2)
    canvas.chart(
      [0.25, 0.5, 1, 1], in: canvas.bounds, glyphs: .unicode,
      colors: (.plain, .plain, .plain))
    #expect(canvas.text(row: 0) == "   ⣿")
    #expect(
      canvas.text(row: 1) == "  ⣰⣿" || canvas.text(row: 1) == "  ⣠⣿"
        || canvas.text(row: 1) == "  ⣼⣿")
    canvas = self.canvas(4, 1)
    canvas.sparkline(
      [0, 0.5, 1], row: 0, column: 0, columns: 4, glyphs: .unicode,
      colors: (.plain, .plain, .plain))
    #expect(canvas.text(row: 0) == "  ▅█")
  }
}
