// What one position of the screen shows: 16 bytes, no references, so that a row is copied and cleared as plain memory.

/// A colour as the guest asked for it: the terminal's own, one of the 256 indexed, or 24 bits of red, green and blue.
public struct Color: Hashable, Sendable, Codable {
  /// Bits 24-25 the kind (0 default, 1 indexed, 2 direct); below them the index or 0xRRGGBB.
  public let rawValue: UInt32

  init(rawValue: UInt32) { self.rawValue = rawValue }

  public enum Kind: Equatable, Sendable {
    case standard
    case indexed(UInt8)
    case direct(red: UInt8, green: UInt8, blue: UInt8)
  }

  /// The terminal's own foreground or background.
  public static let standard = Color(rawValue: 0)

  /// One of xterm's 256 colours: 0-7 ANSI, 8-15 bright, 16-231 cube, 232-255 greys.
  public static func indexed(_ index: UInt8) -> Color { Color(rawValue: 1 << 24 | UInt32(index)) }

  public static func direct(red: UInt8, green: UInt8, blue: UInt8) -> Color {
    Color(rawValue: 2 << 24 | UInt32(red) << 16 | UInt32(green) << 8 | UInt32(blue))
  }

  public var kind: Kind {
    switch rawValue >> 24 {
    case 1: .indexed(UInt8(truncatingIfNeeded: rawValue))
    case 2:
      .direct(
        red: UInt8(truncatingIfNeeded: rawValue >> 16),
        green: UInt8(truncatingIfNeeded: rawValue >> 8), blue: UInt8(truncatingIfNeeded: rawValue))
    default: .standard
    }
  }

  /// Whether the bits name a colour; decoded states are checked with it.
  var isValid: Bool {
    switch rawValue >> 24 {
    case 0: rawValue == 0
    case 1: rawValue & 0xFFFFFF <= 0xFF
    case 2: true
    default: false
    }
  }
}

/// How a character is drawn (ECMA-48 SGR).
public struct Attributes: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let bold = Attributes(rawValue: 1 << 0)
  public static let dim = Attributes(rawValue: 1 << 1)
  public static let italic = Attributes(rawValue: 1 << 2)
  /// Underlined in any style; the style bits say which, none of them is a single line.
  public static let underline = Attributes(rawValue: 1 << 3)
  public static let blink = Attributes(rawValue: 1 << 4)
  public static let inverse = Attributes(rawValue: 1 << 5)
  public static let invisible = Attributes(rawValue: 1 << 6)
  public static let strikethrough = Attributes(rawValue: 1 << 7)
  public static let doubleUnderline = Attributes(rawValue: 1 << 8)
  public static let curlyUnderline = Attributes(rawValue: 1 << 9)
  public static let dottedUnderline = Attributes(rawValue: 1 << 10)
  public static let dashedUnderline = Attributes(rawValue: 1 << 11)
  public static let overline = Attributes(rawValue: 1 << 12)
  /// Set by DECSCA: selective erase leaves the character alone. Not a way of drawing.
  public static let protected = Attributes(rawValue: 1 << 13)

  static let underlineStyles: Attributes = [
    .doubleUnderline, .curlyUnderline, .dottedUnderline, .dashedUnderline,
  ]
  static let all = Attributes(rawValue: 1 << 14 - 1)
}

/// One position of the screen.
public struct Cell: Hashable, Sendable {
  /// How many columns the character of this cell takes.
  public enum Width: UInt8, Sendable {
    case narrow = 0
    /// The left half of a wide character.
    case wide = 1
    /// The right half: shows what the cell to its left holds.
    case tail = 2
  }

  /// A Unicode scalar value, or `clusterBit` and an index into the terminal's `GraphemeTable`.
  var content: UInt32
  public internal(set) var foreground: Color
  public internal(set) var background: Color
  /// Attributes in bits 0-15, width in bits 16-17.
  var style: UInt32

  static let clusterBit: UInt32 = 1 << 31
  static let widthShift: UInt32 = 16

  /// An erased cell: a space in the terminal's own colours.
  public static let blank = Cell(
    content: 0x20, foreground: .standard, background: .standard, style: 0)

  public var attributes: Attributes {
    get { Attributes(rawValue: UInt16(truncatingIfNeeded: style)) }
    set { style = style & ~0xFFFF | UInt32(newValue.rawValue) }
  }

  public internal(set) var width: Width {
    get { Width(rawValue: UInt8(truncatingIfNeeded: style >> Self.widthShift & 3)) ?? .narrow }
    set { style = style & 0xFFFF | UInt32(newValue.rawValue) << Self.widthShift }
  }

  var isTail: Bool { style >> Self.widthShift == UInt32(Width.tail.rawValue) }
  var isWide: Bool { style >> Self.widthShift == UInt32(Width.wide.rawValue) }
  var isCluster: Bool { content & Self.clusterBit != 0 }

  /// Whether nothing is seen here but a background.
  public var isSpace: Bool { content == 0x20 }

  /// Whether two cells are drawn alike apart from the character.
  public func hasSameStyle(as other: Cell) -> Bool {
    foreground == other.foreground && background == other.background
      && attributes == other.attributes
  }

  /// This cell's style with a space in it: what a half of a wide character becomes when the other half is lost.
  var asSpace: Cell {
    Cell(content: 0x20, foreground: foreground, background: background, style: style & 0xFFFF)
  }
}
