// From registers and planes to what is shown in a text mode (IBM PS/2 Hardware Interface Technical Reference, "Video
// Subsystem": alphanumeric modes, CRT controller, attribute controller, DAC).

extension VGAController {
  private typealias Attribute = VGARegisters.Attribute
  private typealias Controller = VGARegisters.Controller

  /// No text mode has more columns, or more cells than 132 by 60; a guest's nonsense is cut here.
  private static let columnLimit = 160
  private static let cellLimit = 132 * 60
  /// The attribute of underlined characters, with intensity and background left out.
  private static let underlined: UInt8 = 0x01

  /// The characters on the screen, as a text mode shows them.
  package func textScreen(_ planes: VGAPlanes) -> TextScreen {
    let columns = min(max(registers.displayedCharacters, 1), Self.columnLimit)
    // A doubled line takes two of the screen's; cells of one line would be nonsense.
    let height = registers.rowHeight * (registers.doublesLines ? 2 : 1)
    let rows = min(max(registers.displayedLines / height, 1), Self.cellLimit / columns)
    var cells: [TextScreen.Cell] = []
    cells.reserveCapacity(columns * rows)
    var cursor: TextScreen.Cursor?
    var address = registers.startAddress
    var hasSplit = false
    for row in 0..<rows {
      if !hasSplit, row * height > registers.splitLine {
        hasSplit = true
        address = 0
      }
      for column in 0..<columns {
        let position = (address + column) & 0xFFFF
        cells.append(cell(planes[registers.planeOffset(ofAddress: position)]))
        if cursor == nil, position == registers.cursorAddress {
          cursor = shape(column: column, row: row)
        }
      }
      address = (address + registers.rowPitch) & 0xFFFF
    }
    return TextScreen(
      columns: columns, rows: rows, cells: cells, cursor: cursor, palette: textPalette)
  }

  private func cell(_ bytes: UInt32) -> TextScreen.Cell {
    let attribute = UInt8(truncatingIfNeeded: bytes >> 8)
    let blinks = registers.attribute[Attribute.mode] & Attribute.blink != 0
    let line = Int(registers.controller[Controller.underline] & 0x1F)
    return TextScreen.Cell(
      code: UInt8(truncatingIfNeeded: bytes), foreground: attribute & 0xF,
      background: blinks ? attribute >> 4 & 7 : attribute >> 4,
      isBlinking: blinks && attribute & 0x80 != 0,
      // Where the line lies below the cell it is never drawn: so in all colour modes.
      isUnderlined: attribute & 0x77 == Self.underlined && line < registers.rowHeight)
  }

  private func shape(column: Int, row: Int) -> TextScreen.Cursor? {
    let start = registers.controller[Controller.cursorStart]
    guard start & Controller.cursorOff == 0 else { return nil }
    let height = registers.rowHeight
    let first = Int(start & 0x1F)
    let last = min(Int(registers.controller[Controller.cursorEnd] & 0x1F), height - 1)
    guard first <= last else { return nil }
    return TextScreen.Cursor(column: column, row: row, lines: first...last, height: height)
  }

  /// The sixteen colours that attributes name, through attribute controller and DAC.
  package var textPalette: [UInt32] {
    let enable = registers.attribute[Attribute.planeEnable] & 0xF
    return (0..<16).map { color(ofAttribute: UInt8($0) & enable) }
  }

  /// 0xRRGGBB of a four-bit colour of text and planar modes.
  package func color(ofAttribute number: UInt8) -> UInt32 {
    let select = registers.attribute[Attribute.colorSelect]
    var index = registers.attribute[Int(number & 0xF)]
    if registers.attribute[Attribute.mode] & Attribute.selectsMiddleBits != 0 {
      index = index & 0x0F | (select & 3) << 4
    }
    return color(ofEntry: index | (select & 0xC) << 4)
  }

  /// 0xRRGGBB of an entry of the DAC.
  package func color(ofEntry entry: UInt8) -> UInt32 {
    let first = Int(entry & registers.paletteMask) * 3
    var color: UInt32 = 0
    for index in 0..<3 {
      let value = UInt32(registers.palette[first + index])
      // Six bits fill eight by repeating their top.
      color = color << 8 | (hasWidePalette ? value : (value << 2 | value >> 4) & 0xFF)
    }
    return color
  }
}
