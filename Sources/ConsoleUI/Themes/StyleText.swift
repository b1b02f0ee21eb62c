/// The small language of styles in theme files: `COLOUR [on COLOUR] [attribute ...]`.
enum StyleText {
  struct Failure: Error {
    var text: String
  }

  private static let attributes: [Substring: Attributes] = [
    "bold": .bold, "dim": .dim, "italic": .italic, "underline": .underline, "blink": .blink,
    "reverse": .reverse,
  ]

  private static let basicNames = [
    "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white", "bright-black",
    "bright-red", "bright-green", "bright-yellow", "bright-blue", "bright-magenta", "bright-cyan",
    "bright-white",
  ]

  /// A name of one of the sixteen colours that belong to the terminal.
  static func isBasic(_ word: String) -> Bool { basicNames.contains(word) }

  /// - Parameter ground: The background of styles that name none.
  static func style(
    _ text: String, _ palette: [String: Color], ground: Color
  ) -> Result<Style, Failure> {
    var style = Style(.standard, on: ground)
    var expectsGround = false
    var hasForeground = false
    for word in text.split(separator: " ") {
      if word == "on" {
        expectsGround = true
      } else if let attribute = attributes[word] {
        style.attributes.insert(attribute)
      } else if let color = color(String(word), palette) {
        if expectsGround {
          style.background = color
        } else if hasForeground {
          return .failure(Failure(text: "a second colour '\(word)' needs 'on' before it"))
        } else {
          style.foreground = color
          hasForeground = true
        }
        expectsGround = false
      } else {
        return .failure(
          Failure(
            text: "'\(word)' is neither a colour (#rrggbb, a palette name, red, default, 0-255)"
              + " nor bold, dim, italic, underline, blink, reverse"))
      }
    }
    if expectsGround { return .failure(Failure(text: "a colour is missing after 'on'")) }
    return .success(style)
  }

  static func color(_ word: String, _ palette: [String: Color]) -> Color? {
    if let named = palette[word] { return named }
    if word == "default" { return .standard }
    if let index = basicNames.firstIndex(of: word) { return .indexed(UInt8(index)) }
    if let index = UInt8(word) { return .indexed(index) }
    let digits = word.utf8.dropFirst()
    guard word.utf8.first == 0x23, digits.count == 6,
      digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let value = UInt32(word.dropFirst(), radix: 16)
    else { return nil }
    return .rgb(
      red: UInt8(truncatingIfNeeded: value >> 16), green: UInt8(truncatingIfNeeded: value >> 8),
      blue: UInt8(truncatingIfNeeded: value))
  }
}
