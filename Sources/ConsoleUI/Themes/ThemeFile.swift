import TOMLKit

/// Why a theme or a configuration could not be used, or which part of it was left out.
package struct ThemeProblem: Error, Equatable, CustomStringConvertible, Sendable {
  package var file: String
  package var line: Int
  package var text: String
  package var description: String { "\(file):\(line): \(text)" }
}

/// Reads a theme from TOML.
///
/// `[palette]` names colours; `[ui]` gives roles their styles as text such as `"ink on paper bold"`; `[ui-16]` and
/// `[ui-mono]` replace some of them on poorer terminals; `inherit` names a theme to begin with; `summary` is one line.
struct ThemeFile {
  let file: String
  let source: String

  /// - Parameter parent: Finds the theme named by `inherit`.
  func theme(name: String, parent: (String) -> Theme?) throws(ThemeProblem) -> Theme {
    let table = try parse()
    var theme = Theme.empty(name)
    if let inherited = table["inherit"] {
      guard let word = inherited.string, let found = parent(word) else {
        throw problem("inherit names no theme that is known", at: "inherit")
      }
      theme = found
      theme.name = name
    }
    for key in table.keys
    where !["inherit", "summary", "palette", "ui", "ui-16", "ui-mono"]
      .contains(key)
    {
      throw problem(
        "unknown key '\(key)'; known are summary, inherit, palette, ui, ui-16, ui-mono", at: key)
    }
    theme.summary = table["summary"]?.string ?? theme.summary
    theme.colors.merge(try palette(table["palette"]?.table)) { $1 }
    let colors = theme.colors
    theme.full.merge(try styles(of: table["ui"]?.table, in: "ui", colors)) { $1 }
    theme.basic.merge(try styles(of: table["ui-16"]?.table, in: "ui-16", colors)) { $1 }
    theme.monochrome.merge(try styles(of: table["ui-mono"]?.table, in: "ui-mono", colors)) { $1 }
    return theme
  }

  private func parse() throws(ThemeProblem) -> TOMLTable {
    do {
      return try TOMLTable(string: source)
    } catch let error as TOMLParseError {
      throw ThemeProblem(
        file: file, line: error.source.begin.line, text: error.description)
    } catch {
      throw ThemeProblem(file: file, line: 1, text: "\(error)")
    }
  }

  private func palette(_ table: TOMLTable?) throws(ThemeProblem) -> [String: Color] {
    var colors: [String: Color] = [:]
    for key in table?.keys ?? [] {
      guard let text = table?[key]?.string, let color = StyleText.color(text, [:]) else {
        throw problem("'\(key)' is no colour; write \"#rrggbb\"", at: key, section: "palette")
      }
      colors[key] = color
    }
    return colors
  }

  private func styles(
    of table: TOMLTable?, in section: String, _ colors: [String: Color]
  ) throws(ThemeProblem) -> [Role: String] {
    var styles: [Role: String] = [:]
    for key in table?.keys ?? [] {
      guard let role = Role(rawValue: key) else {
        throw problem("unknown role '\(key)'", at: key, section: section)
      }
      guard let text = table?[key]?.string else {
        throw problem(
          "'\(key)' takes text such as \"white on blue bold\"", at: key, section: section)
      }
      if case .failure(let error) = StyleText.style(text, colors, ground: .standard) {
        throw problem("'\(key)': \(error.text)", at: key, section: section)
      }
      styles[role] = text
    }
    return styles
  }

  private func problem(_ text: String, at key: String, section: String? = nil) -> ThemeProblem {
    TOMLSource(file: file, text: source).problem(text, at: key, section: section)
  }
}
