import ConsoleUI
import Testing

@Suite struct KeyDecoderTests {
  private func decode(_ bytes: [UInt8]) -> [InputEvent] {
    var decoder = KeyDecoder()
    return decoder.feed(bytes) + (decoder.isPending ? decoder.timeout() : [])
  }

  private func decode(_ text: String) -> [InputEvent] { decode(Array(text.utf8)) }

  @Test(arguments: [
    ("a", "a"), ("\r", "Enter"), ("\t", "Tab"), ("\u{7F}", "Backspace"), (" ", "Space"),
    ("\u{01}", "C-a"), ("\u{1D}", "C-]"), ("\u{1C}", "C-\\"), ("\u{00}", "C-Space"),
    ("\u{1B}", "Esc"), ("\u{1B}x", "M-x"), ("\u{1B}\r", "M-Enter"), ("é", "é"), ("漢", "漢"),
    ("\u{1B}[A", "Up"), ("\u{1B}OB", "Down"), ("\u{1B}[1;5C", "C-Right"), ("\u{1B}[1;2D", "S-Left"),
    ("\u{1B}[1;3H", "M-Home"), ("\u{1B}[H", "Home"), ("\u{1B}[4~", "End"), ("\u{1B}[3~", "Del"),
    ("\u{1B}[5~", "PgUp"), ("\u{1B}[6;5~", "C-PgDn"), ("\u{1B}OP", "F1"), ("\u{1B}[[B", "F2"),
    ("\u{1B}[15~", "F5"), ("\u{1B}[24;2~", "S-F12"), ("\u{1B}[1;5S", "C-F4"), ("\u{1B}[Z", "S-Tab"),
    ("\u{1B}[97;5u", "C-a"), ("\u{1B}[27;5;13~", "C-Enter"), ("\u{1B}OM", "Enter"),
    ("\u{1B}\u{1B}[A", "M-Up"), ("\u{1B}[", "M-["),
  ])
  func keys(bytes: String, name: String) throws {
    #expect(decode(bytes) == [.key(try #require(Key(name: name)))])
  }

  @Test func keysSplitAtEveryByteAreTheSame() {
    let text = Array("a\u{1B}[1;5Cé\u{1B}OP\u{1B}[200~x\u{1B}[201~\u{1B}[<0;300;2Mq".utf8)
    let whole = decode(text)
    for cut in 1..<text.count {
      var decoder = KeyDecoder()
      let parts = decoder.feed(text[..<cut]) + decoder.feed(text[cut...])
      #expect(parts == whole, "cut at \(cut)")
    }
    #expect(whole.count == 7)
  }

  @Test func pastesKeepTheirBytes() {
    #expect(
      decode("\u{1B}[200~ls\u{1B}[A\r\u{1B}[201~x") == [
        .paste(Array("ls\u{1B}[A\r".utf8)), .key("x"),
      ])
  }

  @Test func aPasteWithoutEndEndsByTime() {
    var decoder = KeyDecoder()
    #expect(decoder.feed(Array("\u{1B}[200~abc".utf8)).isEmpty)
    #expect(decoder.isPasting)
    #expect(decoder.timeout() == [.paste(Array("abc".utf8))])
    #expect(!decoder.isPending)
  }

  @Test func endlessPastesComeInPieces() {
    var decoder = KeyDecoder()
    _ = decoder.feed(Array("\u{1B}[200~".utf8))
    var total = 0
    for event in decoder.feed([UInt8](repeating: 0x61, count: 3 << 20)) {
      if case .paste(let bytes) = event { total += bytes.count }
    }
    for case .paste(let bytes) in decoder.feed(Array("\u{1B}[201~".utf8)) { total += bytes.count }
    #expect(total == 3 << 20)
  }

  @Test func mouse() {
    let place = Position(row: 1, column: 299)
    #expect(decode("\u{1B}[<0;300;2M") == [.mouse(MouseEvent(.press, at: place))])
    #expect(decode("\u{1B}[<0;300;2m") == [.mouse(MouseEvent(.release, at: place))])
    #expect(decode("\u{1B}[<32;300;2M") == [.mouse(MouseEvent(.drag, at: place))])
    #expect(decode("\u{1B}[<65;300;2M") == [.mouse(MouseEvent(.wheelDown, button: 1, at: place))])
    #expect(decode("\u{1B}[<0;0;2M").isEmpty)
  }

  @Test func focusAndBackground() {
    #expect(decode("\u{1B}[I\u{1B}[O") == [.focus(true), .focus(false)])
    let white = Color.rgb(red: 255, green: 255, blue: 255)
    #expect(decode("\u{1B}]11;rgb:ffff/ffff/ffff\u{07}") == [.background(white)])
    #expect(decode("\u{1B}]11;rgb:ff/ff/ff\u{1B}\\a") == [.background(white), .key("a")])
  }

  @Test func nonsenseIsSwallowed() {
    #expect(decode("\u{1B}[?62;1c").isEmpty)
    #expect(decode([0xFF, 0x80, 0xC3, 0x61]) == [.key("a")])
    let long = "\u{1B}[" + String(repeating: "1;", count: 5000) + "A"
    #expect(decode(long + "b") == [.key("b")])
  }

  @Test func namesRoundTrip() throws {
    for name in ["a", "C-a", "M-x", "S-Tab", "F12", "C-M-Del", "Space", "PgUp", "C-]", "-"] {
      #expect(try #require(Key(name: name)).description == name)
    }
    #expect(Key(name: "F99") == nil)
    #expect(Key(name: "") == nil)
    #expect(Key("C-]").label == "^]")
  }
}
