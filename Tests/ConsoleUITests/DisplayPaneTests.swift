import ConsoleService
import ConsoleUI
import Devices
import Testing
import VirtualTerminal

/// A display in a pane: what it shows, and where keys go.
@Suite struct DisplayPaneTests {
  private func opened() -> Player {
    let player = Player.withMachines(columns: 100, rows: 32)
    player.press("G", "V")
    return player
  }

  private func screen(_ text: String, cursor: TextScreen.Cursor? = nil) -> TextScreen {
    var cells = [TextScreen.Cell](
      repeating: .init(code: 0x20, foreground: 7, background: 1), count: 2000)
    for (index, character) in text.enumerated() {
      cells[index].code = CodePage437.code(character)
      cells[index].foreground = 14
    }
    return TextScreen(columns: 80, rows: 25, cells: cells, cursor: cursor)
  }

  @Test func drawingGivesTheSameCells() {
    let content = screen("Hello │ ÄÖ", cursor: .init(column: 3, row: 2, lines: 0...15, height: 16))
    let (size, bytes) = DisplayDrawing.bytes(.text(content), machine: "m")
    #expect(size == Size(columns: 80, rows: 25))
    var terminal = VirtualTerminal(columns: 80, rows: 25)
    terminal.feed(Array("something else\r\n\u{1B}[31mred".utf8))
    terminal.feed(bytes)
    let cells = terminal.cells(row: 0)
    #expect(String(cells.prefix(10).map { terminal.text(of: $0).first ?? " " }) == "Hello │ ÄÖ")
    let yellow = Color.Kind.direct(red: 0xFF, green: 0xFF, blue: 0x55)
    let blue = Color.Kind.direct(red: 0, green: 0, blue: 0xAA)
    let last = terminal.cells(row: 24)
    #expect(cells.count == 80 && last.count == 80)
    let found = [
      cells.first?.foreground.kind, cells.last?.background.kind, last.last?.background.kind,
    ]
    #expect(found == [yellow, blue, blue])
    #expect(terminal.cursor.row == 2 && terminal.cursor.column == 3)
    #expect(terminal.scrollbackCount == 0, "the last column does not scroll")
  }

  @Test func keysGoInByName() {
    let player = opened()
    #expect(player.service.displays.values.first == "web")
    let number = player.service.displays.keys.first!
    let (size, bytes) = DisplayDrawing.bytes(.text(screen("grub> ")), machine: "web")
    player.tell(.attached(number, size), .output(number, bytes))
    #expect(player.shows("web, display") && player.shows("grub>"))
    player.press("l", "S", "Enter", "Up", "F10", "C-c", "M-x", "Space", "Esc")
    #expect(
      player.service.pressedKeys
        == ["l", "S", "enter", "up", "f10", "ctrl-c", "alt-x", "space", "esc"])
    player.press("C-]", "K")
    #expect(player.shows("Ctrl-Alt-Del"))
    player.press("Enter")
    #expect(player.service.pressedKeys.last == "ctrl-alt-del")
    player.press("C-]", "C-]")
    #expect(player.service.pressedKeys.last == "ctrl-]")
    #expect(player.service.sent.isEmpty, "nothing goes to the serial port")
    player.press("C-]", "d")
    #expect(player.message.contains("detached from web"))
  }

  @Test func everyNameIsAKeyOfTheKeyboard() {
    let names = DisplayKeys.menu.map(\.name)
    let wrong = names.filter { KeyboardLayout.stroke(named: $0) == nil }
    #expect(wrong == [])
    let codes: [Key.Code] = [
      .enter, .tab, .escape, .backspace, .delete, .insert, .up, .down, .left, .right, .home, .end,
      .pageUp, .pageDown, .function(1), .function(12), .character("é"),
    ]
    let strange = codes.compactMap { DisplayKeys.name(of: Key($0, [.shift, .alt])) }.filter {
      KeyboardLayout.stroke(named: $0) == nil
    }
    #expect(strange == ["alt-é"], "told by the host")
    #expect(DisplayKeys.name(of: Key(.function(13))) == nil)
  }

  @Test func aMachineThatIsOffHasNone() {
    let player = Player.withMachines()
    player.press("g", "V")
    #expect(player.message.contains("does not run") || player.message.contains("shows nothing"))
    #expect(player.service.displays.isEmpty)
  }
}
