import ConsoleUI
import Devices

/// A display's content as the bytes that draw it on the `VirtualTerminal` of a pane, so that a pane of a display is a
/// pane as any other: framed, zoomed, copied from.
package enum DisplayDrawing {
  /// Everything anew, from a screen of this size in any state.
  ///
  /// - Returns: the size that the pane's screen must have first, and what to print on it.
  package static func bytes(
    _ content: DisplayContent, machine: String
  ) -> (size: Size, bytes: [UInt8]) {
    switch content {
    case .text(let screen):
      return (Size(columns: screen.columns, rows: screen.rows), Array(text(screen).utf8))
    case .graphics(let mode):
      return note(
        "\(machine) shows graphics: \(mode.width)x\(mode.height), \(mode.depth) bits a pixel")
    case .blank: return note("\(machine)'s display is switched off")
    }
  }

  private static func note(_ text: String) -> (size: Size, bytes: [UInt8]) {
    (Size(columns: 80, rows: 25), Array("\u{1B}[0m\u{1B}[2J\u{1B}[?25l\u{1B}[H\(text)".utf8))
  }

  private static func text(_ screen: TextScreen) -> String {
    // No wrapping: the last column of a row stays there.
    var text = "\u{1B}[?7l\u{1B}[?25l"
    var last: TextScreen.Cell?
    for row in 0..<screen.rows {
      text += "\u{1B}[\(row + 1);1H"
      for cell in screen.cells[row * screen.columns..<(row + 1) * screen.columns] {
        var look = cell
        look.code = last?.code ?? 0
        if look != last { text += look.sequence(screen.palette) }
        text.append(cell.character)
        last = cell
      }
    }
    if let cursor = screen.cursor {
      // A blinking block, or a blinking line.
      text += "\u{1B}[\(cursor.isBlock ? 1 : 3) q"
      text += "\u{1B}[\(cursor.row + 1);\(cursor.column + 1)H\u{1B}[?25h"
    }
    return text
  }
}

extension TextScreen.Cell {
  /// SGR that sets this look, whatever was set before. Colours are the guest's own.
  fileprivate func sequence(_ palette: [UInt32]) -> String {
    func color(_ number: UInt8) -> String {
      let value = Int(number) < palette.count ? palette[Int(number)] : 0
      return "2;\(value >> 16 & 255);\(value >> 8 & 255);\(value & 255)"
    }
    return "\u{1B}[0;38;\(color(foreground));48;\(color(background))"
      + (isBlinking ? ";5" : "") + (isUnderlined ? ";4" : "") + "m"
  }
}
