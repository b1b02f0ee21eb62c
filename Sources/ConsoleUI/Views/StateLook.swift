// How states look: a glyph, a word and a colour, never a colour alone.

extension MachineCondition {
  var role: Role {
    switch self {
    case .running: .running
    case .paused, .suspended: .paused
    case .starting, .stopping: .starting
    case .stopped, .halted: .stopped
    case .crashed, .broken, .unresponsive: .crashed
    case .template: .template
    }
  }

  func glyph(_ glyphs: GlyphSet, step: Int) -> Character {
    let isUnicode = glyphs == .unicode
    switch self {
    case .running: return isUnicode ? "▶" : ">"
    case .paused: return isUnicode ? "‖" : "="
    case .starting, .stopping: return glyphs.spinner(step)
    case .suspended: return isUnicode ? "◫" : "s"
    case .stopped: return isUnicode ? "■" : "."
    case .halted: return isUnicode ? "□" : "h"
    case .crashed: return isUnicode ? "✖" : "x"
    case .broken: return "!"
    case .template: return isUnicode ? "◆" : "#"
    case .unresponsive: return "?"
    }
  }
}

extension Palette {
  var chart: (low: Style, middle: Style, high: Style) {
    (self[.chartLow], self[.chartMiddle], self[.chartHigh])
  }
}

extension MachineSummary {
  /// The accelerator's name alone: the first word of its line.
  var acceleratorWord: String { (accelerator ?? "").firstWord }
}

extension String {
  /// Letters and digits at the beginning.
  var firstWord: String { String(prefix { $0.isLetter || $0.isNumber }) }
}
