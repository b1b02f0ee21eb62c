/// A TOML text with a name, to say where in it something is wrong.
struct TOMLSource {
  let file: String
  let text: String

  /// The line where a key is set, counted from 1; with a section's name the key in that table.
  func line(of key: String, section: String? = nil) -> Int {
    var current: Substring?
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
      .enumerated()
    {
      let text = line.drop { $0 == " " || $0 == "\t" }
      if text.first == "[" {
        current = text.dropFirst().prefix { $0 != "]" }
        if current == Substring(key), section == nil { return number + 1 }
      } else if current == section.map({ Substring($0) }) {
        let word = text.prefix { $0 != "=" && $0 != " " && $0 != "\t" }
        if word == key || word == "\"\(key)\"" { return number + 1 }
      }
    }
    return 1
  }

  func problem(_ text: String, at key: String, section: String? = nil) -> ThemeProblem {
    ThemeProblem(file: file, line: line(of: key, section: section), text: text)
  }
}
