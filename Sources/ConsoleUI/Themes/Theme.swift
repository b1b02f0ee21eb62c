/// Styles for every role, at full colour, with what to use instead on poorer terminals.
package struct Theme: Equatable, Sendable {
  /// The name by which it is chosen: the file's name without `.toml`.
  package var name: String
  /// One line for the chooser.
  package var summary: String
  /// Names for colours. A theme that inherits may change only these, and every style follows.
  var colors: [String: Color]
  /// The text of each role's style, as `StyleText` reads it.
  var full: [Role: String]
  /// Replacements on terminals with 16 or 8 colours.
  var basic: [Role: String]
  /// Replacements on terminals without colour, or with NO_COLOR.
  var monochrome: [Role: String]

  static func empty(_ name: String) -> Theme {
    Theme(name: name, summary: "", colors: [:], full: [:], basic: [:], monochrome: [:])
  }

  /// The styles for a terminal of this depth.
  package func palette(for depth: ColorDepth) -> Palette {
    var rules = full
    if depth <= .sixteen { rules.merge(basic) { $1 } }
    if depth == .monochrome { rules.merge(monochrome) { $1 } }
    // On poorer terminals `green` is the terminal's own green, not the theme's shade of it.
    let names = depth <= .sixteen ? colors.filter { !StyleText.isBasic($0.key) } : colors
    let ground = parsed(rules[.text], names, ground: .standard).background
    var styles: [Style] = []
    for role in Role.allCases {
      var style = parsed(rules[role], names, ground: ground)
      style.foreground = style.foreground.reduced(to: depth)
      style.background = style.background.reduced(to: depth)
      styles.append(style)
    }
    return Palette(styles: styles)
  }

  /// A style as the rules say it; the file's reader has found all errors before.
  private func parsed(_ text: String?, _ names: [String: Color], ground: Color) -> Style {
    guard let text, case .success(let style) = StyleText.style(text, names, ground: ground) else {
      return Style(.standard, on: ground)
    }
    return style
  }
}

/// A theme made ready for one terminal: a style for each role, found by index.
package struct Palette: Equatable, Sendable {
  fileprivate var styles: [Style]

  package subscript(role: Role) -> Style { styles[role.index] }
}

extension Role {
  /// Declaration order.
  var index: Int { Self.order[self] ?? 0 }
  private static let order = Dictionary(
    uniqueKeysWithValues: zip(allCases, allCases.indices))
}
