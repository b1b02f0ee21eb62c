import Devices
import Hosting
import Machine
import Synchronization
import Testing

@Suite struct DisplayControlTests {
  private func screen(_ text: String) -> TextScreen {
    var cells = text.map {
      TextScreen.Cell(code: CodePage437.code($0), foreground: 7, background: 0)
    }
    cells[0].background = 15
    cells[1].isBlinking = true
    cells[1].isUnderlined = true
    return TextScreen(
      columns: cells.count / 2, rows: 2, cells: cells,
      cursor: .init(column: 1, row: 1, lines: 13...14, height: 16),
      palette: (0..<16).map { 0x010203 * $0 })
  }

  @Test func snapshotsTravel() throws {
    let contents: [DisplayContent] = [
      .blank, .graphics(.init(width: 1024, height: 768, depth: 32)), .text(screen("AΩ│ xyz\\")),
    ]
    for content in contents {
      let snapshot = DisplaySnapshot(generation: 7, content: content)
      let text = snapshot.json.text
      let back = DisplaySnapshot(json: try JSONValue(parsing: text))
      #expect(back == snapshot)
    }
  }

  @Test func nonsenseIsRefused() throws {
    var good = DisplaySnapshot(generation: 7, content: .text(screen("abcdefgh"))).json
    #expect(DisplaySnapshot(json: good) != nil)
    guard case .object(var members) = good else { return }
    for (key, value): (String, JSONValue) in [
      ("columns", 5), ("columns", 0), ("columns", -1), ("rows", 3), ("rows", .unsigned(Int64.max)),
      ("lines", 1), ("lines", ["abcd"]), ("colors", ["00", "00"]),
      ("colors", ["0000000g", "00000000"]), ("mode", "music"), ("generation", -1),
    ] {
      members[key] = value
      good = .object(members)
      #expect(DisplaySnapshot(json: good) == nil, "\(key)")
      guard
        case .object(let fresh) = DisplaySnapshot(
          generation: 7, content: .text(screen("abcdefgh"))
        ).json
      else { return }
      members = fresh
    }
    members["cursor"] = ["column": 9, "row": 0, "first": 3, "last": 1, "height": 16]
    let odd = DisplaySnapshot(json: .object(members))
    if case .text(let screen)? = odd?.content { #expect(screen.cursor == nil) }
  }

  @Test func theLargestScreenFitsALine() {
    let cells = [TextScreen.Cell](
      repeating: .init(code: 0xDB, foreground: 7, background: 0, isBlinking: true), count: 7920)
    let snapshot = DisplaySnapshot(
      generation: .max, content: .text(.init(columns: 132, rows: 60, cells: cells)))
    #expect(snapshot.json.text.utf8.count < RemoteMessage.lineLimit)
  }

  @Test func readAndSend() throws {
    let test = try TestHost()
    let client = try test.client()
    #expect(
      refusal { _ = try client.call("display.read") }.contains("'uj set m display=vga'"))
    let snapshot = DisplaySnapshot(generation: 3, content: .text(screen("abcdefgh")))
    test.machine.state.withLock { $0.display = snapshot }
    #expect(DisplaySnapshot(json: try client.call("display.read")) == snapshot)
    #expect(try client.call("display.read", ["generation": 3]) == ["generation": 3])
    #expect(try client.call("display.read", ["generation": 2])["mode"] == "text")
    #expect(refusal { _ = try client.call("display.read", ["generation": "x"]) }.contains("number"))
    _ = try client.call("keyboard.send", ["keys": ["a", "ctrl-alt-del"], "text": "ls\n"])
    let keys = test.machine.state.withLock { $0.keys }
    #expect(keys == ["a", "ctrl-alt-del", "'ls\n'"])
    #expect(refusal { _ = try client.call("keyboard.send", ["keys": ["nokey"]]) }.contains("nokey"))
    for bad: JSONValue in [["keys": "a"], ["keys": [1]], ["text": 1]] {
      #expect(refusal { _ = try client.call("keyboard.send", bad) }.contains("must be"))
    }
  }
}
