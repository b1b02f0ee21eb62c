/// A colour as a theme or a guest names it, before the terminal's colour depth is known.
package enum Color: Hashable, Sendable {
  /// The terminal's own foreground or background.
  case standard
  /// The xterm palette: 0-15 the terminal's own colours, 16-231 the 6x6x6 cube, 232-255 greys.
  case indexed(UInt8)
  case rgb(red: UInt8, green: UInt8, blue: UInt8)
}

/// How a character looks besides its colours (ECMA-48, 8.3.117 SGR).
package struct Attributes: OptionSet, Hashable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }
  package static let bold = Attributes(rawValue: 1 << 0)
  package static let dim = Attributes(rawValue: 1 << 1)
  package static let italic = Attributes(rawValue: 1 << 2)
  package static let underline = Attributes(rawValue: 1 << 3)
  package static let blink = Attributes(rawValue: 1 << 4)
  package static let reverse = Attributes(rawValue: 1 << 5)
  package static let invisible = Attributes(rawValue: 1 << 6)
}

/// Colours and attributes of one cell.
package struct Style: Hashable, Sendable {
  package var foreground: Color
  package var background: Color
  package var attributes: Attributes

  package init(
    _ foreground: Color = .standard, on background: Color = .standard,
    _ attributes: Attributes = []
  ) {
    self.foreground = foreground
    self.background = background
    self.attributes = attributes
  }

  package static let plain = Style()

  /// This style's text on another style's background: how a coloured word looks on a selected row.
  package func on(_ other: Style) -> Style {
    var style = self
    style.background = other.background
    style.attributes.formUnion(other.attributes.intersection(.reverse))
    return style
  }

  package func adding(_ attributes: Attributes) -> Style {
    Style(foreground, on: background, self.attributes.union(attributes))
  }
}

/// How many colours the terminal shows.
package enum ColorDepth: Int, Comparable, CaseIterable, Sendable {
  case monochrome = 1
  case eight = 8
  case sixteen = 16
  case palette = 256
  case direct = 16_777_216

  package static func < (a: ColorDepth, b: ColorDepth) -> Bool { a.rawValue < b.rawValue }
}
