import ArgumentParser
import Devices
import Hosting
import Inventory

struct ScreenVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "screen",
    abstract: "Print what the display of a running machine shows.",
    discussion: """
      The characters of a text mode, without colours unless -c is given; of a graphics mode its size. A machine has a \
      display when its definition says display = "vga".

      EXAMPLES
        uj screen web
        watch -c -n 0.5 uj screen -c web
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Flag(name: [.customShort("c"), .long], help: "With colours, as escape sequences.")
  var color = false
  @Flag(help: "As the control protocol gives it.")
  var json = false

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let answer = try MachineClient(name, at: inventory.location).call("display.read")
    if json { return say(answer.text) }
    guard let snapshot = DisplaySnapshot(json: answer) else {
      throw UsageFailure("\(name): its host speaks of its display in words that are not known")
    }
    switch snapshot.content {
    case .blank: Failure.note("\(name): the display is switched off")
    case .graphics(let mode):
      Failure.note("\(name): graphics, \(mode.width)x\(mode.height), \(mode.depth) bits a pixel")
    case .text(let screen): say(color ? ColoredScreen.text(screen) : screen.text)
    }
  }
}

/// A text screen with escape sequences of ECMA-48, 8.3.117 (SGR), and of direct colour (ITU T.416).
enum ColoredScreen {
  static func text(_ screen: TextScreen) -> String {
    var text = ""
    for row in 0..<screen.rows {
      var last: TextScreen.Cell?
      for cell in screen.cells[row * screen.columns..<(row + 1) * screen.columns] {
        if last == nil || !hasLook(of: last, cell) { text += sequence(cell, screen.palette) }
        text.append(cell.character)
        last = cell
      }
      text += "\u{1B}[0m" + (row + 1 < screen.rows ? "\n" : "")
    }
    return text
  }

  private static func hasLook(of other: TextScreen.Cell?, _ cell: TextScreen.Cell) -> Bool {
    var copy = cell
    copy.code = other?.code ?? 0
    return copy == other
  }

  private static func sequence(_ cell: TextScreen.Cell, _ palette: [UInt32]) -> String {
    func color(_ number: UInt8) -> String {
      let value = Int(number) < palette.count ? palette[Int(number)] : 0
      return "2;\(value >> 16 & 255);\(value >> 8 & 255);\(value & 255)"
    }
    return "\u{1B}[0;38;\(color(cell.foreground));48;\(color(cell.background))"
      + (cell.isBlinking ? ";5" : "") + (cell.isUnderlined ? ";4" : "") + "m"
  }
}
