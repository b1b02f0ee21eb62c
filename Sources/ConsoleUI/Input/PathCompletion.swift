import Glibc

/// Names of files for completion, as a shell completes them.
enum PathCompletion {
  /// At most so many; a folder may hold any number.
  private static let limit = 200

  /// Paths that begin with `text`, sorted; folders end with a slash.
  static func candidates(for text: String, files: FileAccess) -> [String] {
    let (typed, start) = split(text)
    var folder = typed
    if folder.hasPrefix("~/"), let home = getenv("HOME") {
      folder = String(cString: home) + folder.dropFirst()
    }
    let names = files.entries(folder.isEmpty ? "." : folder)
    return names.filter { $0.hasPrefix(start) && (start.hasPrefix(".") || !$0.hasPrefix(".")) }
      .sorted().prefix(limit).map { name in
        var information = stat()
        let isFolder =
          stat(folder + name, &information) == 0
          && information.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR)
        return folder + name + (isFolder ? "/" : "")
      }
  }

  /// The folder with its slash, and the beginning of the name.
  private static func split(_ text: String) -> (String, String) {
    guard let slash = text.lastIndex(of: "/") else { return ("", text) }
    let next = text.index(after: slash)
    return (String(text[..<next]), String(text[next...]))
  }
}
