/// Finds the line on which a key of a TOML document stands; the parser does not keep it.
///
/// It follows table headers, arrays of tables and multi-line strings. A key inside an inline table is answered with the
/// line of that table.
struct DefinitionLines {
  /// Where a value is written.
  struct Place: Equatable {
    /// From 1.
    var line: Int
    /// The text of the line before the value, `key = `.
    var head: String
  }

  /// Full key such as `boot.order` or `disk[1].format` to its place; headers are keys too.
  private(set) var places: [String: Place] = [:]
  /// The last line of each table's section.
  private(set) var ends: [String: Int] = [:]

  init(_ text: String) {
    var table = ""
    var counts: [String: Int] = [:]
    var openString: String?
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let number = index + 1
      if let delimiter = openString {
        if line.contains(delimiter) { openString = nil }
        ends[table] = number
        continue
      }
      let content = line.drop { $0 == " " || $0 == "\t" }
      if content.hasPrefix("[["), let name = Self.header(content.dropFirst(2)) {
        let count = counts[name, default: 0]
        counts[name] = count + 1
        table = "\(name)[\(count)]"
        places[table] = Place(line: number, head: "")
        ends[table] = number
      } else if content.hasPrefix("["), let name = Self.header(content.dropFirst()) {
        table = name
        places[table] = Place(line: number, head: "")
        ends[table] = number
      } else if let (key, head) = Self.key(line) {
        let full = table.isEmpty ? key : "\(table).\(key)"
        if places[full] == nil { places[full] = Place(line: number, head: head) }
        ends[table] = number
        openString = Self.openDelimiter(line.dropFirst(head.count))
      } else if !content.isEmpty, !content.hasPrefix("#") {
        ends[table] = number
      }
    }
  }

  /// The line of a key, or of the nearest thing around it.
  func line(of key: String) -> Int {
    var name = Substring(key)
    while !name.isEmpty {
      if let place = places[String(name)] { return place.line }
      guard let dot = name.lastIndex(where: { $0 == "." || $0 == "[" }) else { break }
      name = name[..<dot]
    }
    return 1
  }

  private static func header(_ text: Substring) -> String? {
    guard let end = text.firstIndex(of: "]") else { return nil }
    return normalized(text[..<end])
  }

  private static func key(_ line: Substring) -> (String, String)? {
    guard let equals = line.firstIndex(of: "="), line[..<equals].first(where: { $0 == "#" }) == nil
    else { return nil }
    let key = normalized(line[..<equals])
    let isName = key.allSatisfy { $0.isLetter || $0.isNumber || "_-. ".contains($0) }
    guard !key.isEmpty, isName else { return nil }
    var head = line[...equals]
    let rest = line[line.index(after: equals)...].prefix { $0 == " " || $0 == "\t" }
    head = line[..<rest.endIndex]
    return (key, String(head))
  }

  private static func normalized(_ text: Substring) -> String {
    text.split(separator: ".", omittingEmptySubsequences: false)
      .map { part in String(part.filter { !" \t\"'".contains($0) }) }
      .joined(separator: ".")
  }

  private static func openDelimiter(_ value: Substring) -> String? {
    for delimiter in ["\"\"\"", "'''"] where value.hasPrefix(delimiter) {
      return value.dropFirst(3).contains(delimiter) ? nil : delimiter
    }
    return nil
  }
}
