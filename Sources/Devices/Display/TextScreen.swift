// What a text mode shows, as a value: characters, colours, cursor. Nothing in it belongs to the guest any more.

/// A screen of characters.
public struct TextScreen: Sendable, Equatable {
  /// One character cell.
  public struct Cell: Sendable, Hashable {
    /// The code in the guest's font; `CodePage437` tells what the font of every PC has there.
    public var code: UInt8
    /// Number of the foreground colour in `TextScreen.palette`, 0 to 15.
    public var foreground: UInt8
    public var background: UInt8
    public var isBlinking: Bool
    public var isUnderlined: Bool

    public init(
      code: UInt8, foreground: UInt8, background: UInt8, isBlinking: Bool = false,
      isUnderlined: Bool = false
    ) {
      self.code = code
      self.foreground = foreground
      self.background = background
      self.isBlinking = isBlinking
      self.isUnderlined = isUnderlined
    }

    public var character: Character { CodePage437.character(code) }
  }

  /// A blinking bar in a cell.
  public struct Cursor: Sendable, Hashable {
    public var column: Int
    public var row: Int
    /// Scan lines of the cell that it covers, from the top; the cell has `height`.
    public var lines: ClosedRange<Int>
    public var height: Int

    public init(column: Int, row: Int, lines: ClosedRange<Int>, height: Int) {
      self.column = column
      self.row = row
      self.lines = lines
      self.height = height
    }
    /// A block rather than a line at the foot.
    public var isBlock: Bool { lines.count * 2 > height }
  }

  public var columns: Int
  public var rows: Int
  /// Row by row, `columns * rows`.
  public var cells: [Cell]
  /// nil: hidden, or outside the screen.
  public var cursor: Cursor?
  /// 0xRRGGBB of the sixteen colours.
  public var palette: [UInt32]

  public init(
    columns: Int, rows: Int, cells: [Cell], cursor: Cursor? = nil,
    palette: [UInt32] = TextScreen.standardPalette
  ) {
    self.columns = columns
    self.rows = rows
    self.cells = cells
    self.cursor = cursor
    self.palette = palette
  }

  /// The colours that the BIOS sets: black, blue, green, cyan, red, magenta, brown, light grey, and those bright.
  public static let standardPalette: [UInt32] = [
    0x000000, 0x0000AA, 0x00AA00, 0x00AAAA, 0xAA0000, 0xAA00AA, 0xAA5500, 0xAAAAAA,
    0x555555, 0x5555FF, 0x55FF55, 0x55FFFF, 0xFF5555, 0xFF55FF, 0xFFFF55, 0xFFFFFF,
  ]

  /// A row's characters.
  public func text(ofRow row: Int) -> String {
    guard row >= 0, row < rows, (row + 1) * columns <= cells.count else { return "" }
    return String(cells[row * columns..<(row + 1) * columns].map(\.character))
  }

  /// The whole screen, a line a row, without blanks at the ends of lines.
  public var text: String {
    (0..<rows).map { row in
      var line = text(ofRow: row)
      while line.last == " " { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}

/// What a display shows.
public enum DisplayContent: Sendable, Equatable {
  /// Nothing: the guest has switched it off.
  case blank
  case text(TextScreen)
  case graphics(GraphicsMode)
}

/// A graphics mode.
public struct GraphicsMode: Sendable, Hashable {
  /// Pixels.
  public var width: Int
  public var height: Int
  /// Bits a pixel.
  public var depth: Int

  public init(width: Int, height: Int, depth: Int) {
    self.width = width
    self.height = height
    self.depth = depth
  }
}

/// A look at the display.
public struct DisplaySnapshot: Sendable, Equatable {
  /// Grows when what is shown is not what the look before this one saw.
  public var generation: UInt64
  public var content: DisplayContent

  public init(generation: UInt64, content: DisplayContent) {
    self.generation = generation
    self.content = content
  }
}

/// Code page 437, the characters in the font of every PC.
public enum CodePage437 {
  // 0x00 to 0x1F and 0x7F are pictures here, not controls.
  private static let low = Array(" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼")
  private static let high = Array(
    "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌"
      + "█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ")

  private static let table: [Character] = {
    var table = low
    for code in UInt8(0x20)..<0x7F { table.append(Character(Unicode.Scalar(code))) }
    return table + high
  }()

  private static let codes: [Character: UInt8] = {
    var codes: [Character: UInt8] = [:]
    for code in UInt8(1)..<0xFF where codes[table[Int(code)]] == nil {
      codes[table[Int(code)]] = code
    }
    codes[" "] = 0x20
    return codes
  }()

  /// The code of a character; a blank for one that the font does not have.
  public static func code(_ character: Character) -> UInt8 { codes[character] ?? 0x20 }

  /// What the font shows for `code`; 0 and 0xFF are blank.
  public static func character(_ code: UInt8) -> Character {
    Int(code) < table.count ? table[Int(code)] : " "
  }
}
