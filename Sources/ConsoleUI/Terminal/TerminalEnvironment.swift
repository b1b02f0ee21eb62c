import CLinux

/// What the environment says of the user's terminal.
package struct TerminalEnvironment: Sendable {
  package var type: String
  package var depthLimit: ColorDepth
  package var wantsDirectColor: Bool
  package var glyphs: GlyphSet
  /// The terminal understands xterm's private modes: mouse, paste, focus, clipboard, synchronized output.
  package var hasExtensions: Bool

  package init(_ environment: (String) -> String?, isASCIIForced: Bool) {
    let type = environment("TERM") ?? ""
    self.type = type
    let isPlain = ["linux", "vt", "ansi", "cons", "sun", "wyse", "dumb"].contains {
      type.hasPrefix($0)
    }
    hasExtensions = !isPlain && !type.isEmpty
    // https://no-color.org: present and not empty.
    let noColor = environment("NO_COLOR").map { !$0.isEmpty } ?? false
    depthLimit = noColor ? .monochrome : .direct
    let colorTerm = environment("COLORTERM") ?? ""
    // GNU screen hands the variable on but does not understand the sequences.
    let isScreen = type.hasPrefix("screen") && environment("TMUX") == nil
    wantsDirectColor =
      !noColor && !isScreen && (colorTerm == "truecolor" || colorTerm == "24bit")
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
      .compactMap { environment($0) }.first { !$0.isEmpty }
    let name = locale?.lowercased() ?? ""
    let isUnicode = locale == nil || name.contains("utf-8") || name.contains("utf8")
    glyphs = isUnicode && !isPlain && !isASCIIForced ? .unicode : .ascii
  }

  /// The compiled description of a terminal, from the folders where ncurses looks (terminfo(5)).
  static func compiledEntry(of type: String, _ environment: (String) -> String?) -> [UInt8]? {
    guard let first = type.utf8.first, !type.contains("/"), type.utf8.count < 128 else {
      return nil
    }
    var folders: [String] = []
    if let folder = environment("TERMINFO") { folders.append(folder) }
    if let home = environment("HOME") { folders.append(home + "/.terminfo") }
    folders += (environment("TERMINFO_DIRS") ?? "").split(separator: ":").map(String.init)
    folders += ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"]
    let letter = String(Character(Unicode.Scalar(first)))
    let digits = String(first, radix: 16)
    for folder in folders {
      for part in [letter, digits] {
        if let bytes = contents(of: "\(folder)/\(part)/\(type)") { return bytes }
      }
    }
    return nil
  }

  private static func contents(of path: String) -> [UInt8]? {
    guard let stream = fopen(path, "r") else { return nil }
    defer { fclose(stream) }
    var bytes = [UInt8](repeating: 0, count: 32768)
    let count = fread(&bytes, 1, bytes.count, stream)
    return count > 0 ? Array(bytes[..<count]) : nil
  }
}
