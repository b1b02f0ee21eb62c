/// The characters that pictures are drawn with: Unicode, or ASCII where the locale or the font has nothing else.
package enum GlyphSet: Sendable, Equatable {
  case unicode
  case ascii

  private func pick(_ unicode: Character, _ ascii: Character) -> Character {
    self == .unicode ? unicode : ascii
  }

  package var horizontal: Character { pick("─", "-") }
  package var vertical: Character { pick("│", "|") }
  package var topLeft: Character { pick("╭", "+") }
  package var topRight: Character { pick("╮", "+") }
  package var bottomLeft: Character { pick("╰", "+") }
  package var bottomRight: Character { pick("╯", "+") }
  package var branch: String { self == .unicode ? "├─" : "|-" }
  package var lastBranch: String { self == .unicode ? "└─" : "`-" }
  package var trunk: String { self == .unicode ? "│ " : "| " }
  package var marker: Character { pick("▌", ">") }
  package var bullet: Character { pick("•", "*") }
  package var ellipsis: Character { pick("…", "~") }
  package var scrollThumb: Character { pick("┃", "#") }
  package var sortDown: Character { pick("↓", "v") }
  package var sortUp: Character { pick("↑", "^") }
  package var unread: Character { pick("●", "*") }
  package var here: Character { pick("●", "@") }
  package var node: Character { pick("○", "o") }
  package var meter: Character { pick("■", "|") }
  package var bell: Character { pick("♪", "!") }
  package var folded: Character { pick("▸", "+") }
  package var separator: Character { pick("·", "-") }

  /// A column of a bar chart, `level` from 0 to 8.
  package func bar(_ level: Int) -> Character {
    let glyphs: [Character] =
      self == .unicode
      ? [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
      : [" ", "_", ".", ".", "-", "=", "+", "*", "#"]
    return glyphs[min(8, max(0, level))]
  }

  /// One picture of a turning wheel; `step` counts up.
  package func spinner(_ step: Int) -> Character {
    let glyphs: [Character] =
      self == .unicode
      ? ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] : ["|", "/", "-", "\\"]
    return glyphs[((step % glyphs.count) + glyphs.count) % glyphs.count]
  }
}
