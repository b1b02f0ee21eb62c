// Names of keys, as the key table, the help and the user's key map write them: `a`, `C-c`, `M-x`, `S-Tab`, `F5`.

extension Key: ExpressibleByStringLiteral, CustomStringConvertible {
  private static let names: [(String, Code)] = [
    ("Enter", .enter), ("Tab", .tab), ("Esc", .escape), ("Backspace", .backspace),
    ("Del", .delete), ("Ins", .insert), ("Up", .up), ("Down", .down), ("Left", .left),
    ("Right", .right), ("Home", .home), ("End", .end), ("PgUp", .pageUp), ("PgDn", .pageDown),
    ("Space", .character(" ")),
  ]

  /// The key of a name, or nil.
  package init?(name: String) {
    var rest = Substring(name)
    var modifiers: Modifiers = []
    while rest.count > 2, rest.dropFirst().first == "-" {
      switch rest.first {
      case "C": modifiers.insert(.control)
      case "M": modifiers.insert(.alt)
      case "S": modifiers.insert(.shift)
      default: return nil
      }
      rest = rest.dropFirst(2)
    }
    if let (_, code) = Self.names.first(where: { $0.0 == rest }) {
      self.init(code, modifiers)
    } else if rest.count == 1, let character = rest.first {
      self.init(.character(character), modifiers)
    } else if rest.first == "F", let number = Int(rest.dropFirst()), (1...24).contains(number) {
      self.init(.function(number), modifiers)
    } else {
      return nil
    }
  }

  /// For keys written in the program. A name that is none gives the replacement character, which no key sends.
  package init(stringLiteral name: String) {
    self = Key(name: name) ?? Key(.character("\u{FFFD}"))
  }

  /// The name that `init(name:)` takes.
  package var description: String {
    var text = ""
    if modifiers.contains(.control) { text += "C-" }
    if modifiers.contains(.alt) { text += "M-" }
    if modifiers.contains(.shift) { text += "S-" }
    return text + codeName
  }

  /// The short form for frames and key bars: `^C` for Control.
  package var label: String {
    if modifiers == .control, case .character(let character) = code {
      return "^" + String(character).uppercased()
    }
    return description
  }

  private var codeName: String {
    if let (name, _) = Self.names.first(where: { $0.1 == code }) { return name }
    switch code {
    case .character(let character): return String(character)
    case .function(let number): return "F\(number)"
    default: return "?"
    }
  }
}
