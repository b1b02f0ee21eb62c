import CLinux

/// The themes that can be chosen and where they come from: a file by path, the user's folder, `Themes/` beside the
/// executable, the installed share folder, and one that is compiled in.
package struct ThemeLibrary: Sendable {
  package static let defaultName = "underjack"
  /// Folders in the order in which they are searched.
  package let folders: [String]

  package init(folders: [String]) {
    self.folders = folders
  }

  /// The folders of this process: `$XDG_CONFIG_HOME/underjack/themes`, `Themes` beside the executable or up to four
  /// levels above it (as in a build folder), `../share/underjack/themes`.
  package static func standard(
    environment: (String) -> String?, executable: String
  ) -> ThemeLibrary {
    var folders: [String] = []
    if let config = environment("XDG_CONFIG_HOME") ?? environment("HOME").map({ $0 + "/.config" }) {
      folders.append(config + "/underjack/themes")
    }
    var folder = parent(of: executable)
    folders.append(parent(of: folder) + "/share/underjack/themes")
    for _ in 0..<5 where !folder.isEmpty {
      folders.append(folder + "/Themes")
      folder = parent(of: folder)
    }
    return ThemeLibrary(folders: folders)
  }

  /// Names of all themes, sorted, the compiled-in one among them.
  package var names: [String] {
    var names: Set<String> = [Self.defaultName]
    for folder in folders {
      for file in Self.files(in: folder) where file.hasSuffix(".toml") {
        names.insert(String(file.dropLast(5)))
      }
    }
    return names.sorted()
  }

  /// The theme of a name or path.
  ///
  /// - Throws: `ThemeProblem` naming file and line; the caller goes on with `fallback`.
  package func theme(_ name: String) throws(ThemeProblem) -> Theme {
    try theme(name, depth: 0)
  }

  private func theme(_ name: String, depth: Int) throws(ThemeProblem) -> Theme {
    guard let (path, source) = source(of: name) else {
      if name == Self.defaultName { return Self.fallback }
      throw ThemeProblem(
        file: name, line: 0,
        text: "no such theme; there are \(names.joined(separator: ", "))")
    }
    let short = name.contains("/") ? Self.stem(of: name) : name
    let file = ThemeFile(file: path, source: source)
    return try file.theme(name: short) { parent in
      // A circle of inheritance ends at the compiled-in theme.
      depth < 8 ? try? self.theme(parent, depth: depth + 1) : Self.fallback
    }
  }

  /// The theme that is part of the executable.
  package static let fallback: Theme = {
    let file = ThemeFile(file: "built in", source: BuiltInTheme.source)
    return (try? file.theme(name: defaultName) { _ in nil }) ?? .empty(defaultName)
  }()

  private func source(of name: String) -> (path: String, text: String)? {
    let paths =
      name.contains("/") ? [name] : folders.map { "\($0)/\(name).toml" }
    for path in paths {
      if let text = Self.contents(of: path) { return (path, text) }
    }
    return nil
  }

  private static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return String(path[..<slash])
  }

  private static func stem(of path: String) -> String {
    let file = path.split(separator: "/").last.map(String.init) ?? path
    return file.hasSuffix(".toml") ? String(file.dropLast(5)) : file
  }

  private static func contents(of path: String) -> String? {
    guard let stream = fopen(path, "r") else { return nil }
    defer { fclose(stream) }
    // No theme is larger than 64 KiB.
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = fread(&bytes, 1, bytes.count, stream)
    guard count > 0 else { return nil }
    return String(decoding: bytes[..<count], as: UTF8.self)
  }

  private static func files(in folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }
}
