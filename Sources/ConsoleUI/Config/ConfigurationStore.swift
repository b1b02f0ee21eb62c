import CLinux

/// The user's `config.toml` on disk: `$XDG_CONFIG_HOME/underjack/config.toml`.
package struct ConfigurationStore: Sendable {
  package let path: String
  private let files: FileAccess

  /// nil when neither `XDG_CONFIG_HOME` nor `HOME` is set.
  package init?(files: FileAccess, environment: (String) -> String?) {
    self.files = files
    guard
      let folder = environment("XDG_CONFIG_HOME").flatMap({ $0.isEmpty ? nil : $0 })
        ?? environment("HOME").map({ $0 + "/.config" })
    else { return nil }
    path = folder + "/underjack/config.toml"
  }

  /// What the file says; a file that is not there says nothing.
  package func load() -> (configuration: Configuration, problems: [ThemeProblem]) {
    do {
      guard let text = try files.text(path) else { return (Configuration(), []) }
      let file = ConfigurationFile(file: path, text: text)
      return (file.configuration, file.problems)
    } catch {
      return (Configuration(), [ThemeProblem(file: path, line: 1, text: "\(error)")])
    }
  }

  /// Sets one key and leaves everything else in the file, comments included, as it is.
  ///
  /// - Parameters:
  ///   - key: `theme`, `confirm.reset` or `keys.machines.start`.
  ///   - literal: a value as TOML writes it.
  package func set(_ key: String, to literal: String) throws {
    let old = (try? files.text(path)) ?? ""
    var folder = ""
    for part in path.split(separator: "/").dropLast() {
      folder += "/" + part
      mkdir(folder, 0o755)
    }
    try files.write(Self.setting(key, to: literal, in: old), path)
  }

  package static func setting(_ key: String, to literal: String, in text: String) -> String {
    var rows = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if rows.last == "" { rows.removeLast() }
    let parts = key.split(separator: ".").map(String.init)
    let section = parts.count > 1 ? parts.dropLast().joined(separator: ".") : nil
    let name = parts.last ?? key
    var current: String?
    var end: Int? = section == nil ? 0 : nil
    for (index, row) in rows.enumerated() {
      let line = row.drop { $0 == " " || $0 == "\t" }
      if line.first == "[" {
        current = String(line.dropFirst().prefix { $0 != "]" })
        if current == section { end = index + 1 }
        continue
      }
      guard current == section else { continue }
      if line.prefix(while: { $0 != "=" && $0 != " " && $0 != "\t" }) == name {
        // A value over several lines goes on until its bracket is closed.
        var last = index
        if row.contains("["), !row.contains("]") {
          while last + 1 < rows.count, !rows[last].contains("]") { last += 1 }
        }
        rows.replaceSubrange(index...last, with: ["\(name) = \(literal)"])
        return rows.joined(separator: "\n") + "\n"
      }
      if !line.isEmpty { end = index + 1 }
    }
    if let end {
      rows.insert("\(name) = \(literal)", at: end)
    } else {
      if rows.last.map({ !$0.isEmpty }) ?? false { rows.append("") }
      rows += ["[\(section ?? "")]", "\(name) = \(literal)"]
    }
    return rows.joined(separator: "\n") + "\n"
  }
}
