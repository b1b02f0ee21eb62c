import TOMLKit

/// Reads one table of a TOML document strictly: every key must be known and of the expected type, or an error names
/// file, line, and what was expected.
final class TableReader {
  /// The document that tables belong to.
  final class Document {
    let path: String
    let text: String
    lazy var lines = DefinitionLines(text)

    init(path: String, text: String) {
      self.path = path
      self.text = text
    }

    func error(_ key: String, _ message: String) -> InventoryError {
      InventoryError(.invalid, "\(path):\(lines.line(of: key)): \(message)")
    }
  }

  let document: Document
  /// The table's own full key; empty for the document's root.
  let name: String
  private let table: TOMLTable
  private var known: Set<String> = []

  /// The root of a document.
  convenience init(path: String, text: String) throws(InventoryError) {
    do {
      let table = try TOMLTable(string: text)
      self.init(document: Document(path: path, text: text), name: "", table: table)
    } catch let error as TOMLParseError {
      let reason = printable(error.description.prefix(200))
      throw InventoryError(.invalid, "\(path):\(error.source.begin.line): \(reason)")
    } catch {
      throw InventoryError(.invalid, "\(path): \(error)")
    }
  }

  private init(document: Document, name: String, table: TOMLTable) {
    self.document = document
    self.name = name
    self.table = table
  }

  func error(_ key: String, _ message: String) -> InventoryError {
    document.error(full(key), message)
  }

  private func full(_ key: String) -> String { name.isEmpty ? key : "\(name).\(key)" }

  private func node(_ key: String) -> (any TOMLValueConvertible)? {
    known.insert(key)
    return table[key]
  }

  private func mismatch(_ key: String, _ expected: String, _ node: any TOMLValueConvertible)
    -> InventoryError
  {
    error(key, "\(full(key)) must be \(expected), not \(Self.describe(node.type))")
  }

  private static func describe(_ type: TOMLType) -> String {
    switch type {
    case .table: "a table"
    case .array: "a list"
    case .string: "a text"
    case .int: "a number"
    case .double: "a fraction"
    case .bool: "true or false"
    case .date, .time, .dateTime: "a date"
    }
  }

  func string(_ key: String) throws(InventoryError) -> String? {
    guard let node = node(key) else { return nil }
    guard let value = node.string else { throw mismatch(key, "a text in quotes", node) }
    return value
  }

  func bool(_ key: String) throws(InventoryError) -> Bool? {
    guard let node = node(key) else { return nil }
    guard let value = node.bool else { throw mismatch(key, "true or false", node) }
    return value
  }

  func integer(_ key: String, in range: ClosedRange<Int>) throws(InventoryError) -> Int? {
    guard let node = node(key) else { return nil }
    let expected = "a number from \(range.lowerBound) to \(range.upperBound)"
    guard let value = node.int else { throw mismatch(key, expected, node) }
    guard range.contains(value) else {
      throw error(key, "\(full(key)) must be \(expected), not \(value)")
    }
    return value
  }

  /// `"256M"` or a number of bytes.
  func size(_ key: String) throws(InventoryError) -> UInt64? {
    guard let node = node(key) else { return nil }
    if let value = node.int, value >= 0 { return UInt64(value) }
    guard let text = node.string else { throw mismatch(key, #"a size such as "512M""#, node) }
    guard let value = ByteSize.parse(text) else {
      throw error(
        key, "\(full(key)) must be a size such as \"512M\", not \"\(printable(text.prefix(40)))\"")
    }
    return value
  }

  /// One of an enumeration's words.
  func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, of type: Choice.Type
  ) throws(InventoryError) -> Choice? {
    guard let text = try string(key) else { return nil }
    return try choice(key, text)
  }

  private func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, _ text: String
  ) throws(InventoryError) -> Choice {
    guard let value = Choice(rawValue: text) else {
      let words = Choice.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw error(
        key, "\(full(key)) must be one of \(words), not \"\(printable(text.prefix(40)))\"")
    }
    return value
  }

  func strings(_ key: String) throws(InventoryError) -> [String]? {
    guard let node = node(key) else { return nil }
    guard let array = node.array else { throw mismatch(key, "a list of texts", node) }
    var values: [String] = []
    for index in 0..<array.count {
      guard let value = array[index].string else {
        throw mismatch(key, "a list of texts", array[index])
      }
      values.append(value)
    }
    return values
  }

  func choices<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, of type: Choice.Type
  ) throws(InventoryError) -> [Choice]? {
    guard let texts = try strings(key) else { return nil }
    var values: [Choice] = []
    for text in texts { values.append(try choice(key, text)) }
    return values
  }

  /// Whether a key is there and holds a table.
  func isTable(_ key: String) -> Bool { table[key]?.table != nil }

  func table(_ key: String) throws(InventoryError) -> TableReader? {
    guard let node = node(key) else { return nil }
    guard let value = node.table else { throw mismatch(key, "a table [\(full(key))]", node) }
    return TableReader(document: document, name: full(key), table: value)
  }

  /// `[[key]]`, each with its own full key `key[0]`, `key[1]`, ...
  func tables(_ key: String) throws(InventoryError) -> [TableReader] {
    guard let node = node(key) else { return [] }
    guard let array = node.array else { throw mismatch(key, "a table [[\(full(key))]]", node) }
    var readers: [TableReader] = []
    for index in 0..<array.count {
      guard let value = array[index].table else {
        throw mismatch(key, "a table [[\(full(key))]]", array[index])
      }
      readers.append(
        TableReader(document: document, name: "\(full(key))[\(index)]", table: value))
    }
    return readers
  }

  /// All keys with text values, for tables whose keys are data.
  func stringValues() throws(InventoryError) -> [String: String] {
    var values: [String: String] = [:]
    for key in table.keys { values[key] = try string(key) }
    return values
  }

  /// Call after all known keys were asked for: any other key is an error.
  ///
  /// - Parameter otherNames: what people may write for a key, to what it is.
  func finish(otherNames: [String: String] = [:]) throws(InventoryError) {
    for key in table.keys where !known.contains(key) {
      let place = name.isEmpty ? "" : " in [\(name)]"
      if let meant = otherNames[key] {
        throw error(key, "unknown key \"\(printable(key))\"\(place); did you mean \(meant)?")
      }
      let list = known.sorted().joined(separator: ", ")
      let guess = known.min {
        Self.distance(key, $0) < Self.distance(key, $1)
      }
      if let guess, Self.distance(key, guess) <= 2 {
        throw error(key, "unknown key \"\(printable(key))\"\(place); did you mean \(guess)?")
      }
      throw error(key, "unknown key \"\(printable(key))\"\(place); expected one of \(list)")
    }
  }

  /// Levenshtein's distance, bounded to short words.
  private static func distance(_ first: String, _ second: String) -> Int {
    let left = Array(first.utf8.prefix(40))
    let right = Array(second.utf8.prefix(40))
    var row = Array(0...right.count)
    for (i, byte) in left.enumerated() {
      var previous = row[0]
      row[0] = i + 1
      for j in right.indices {
        let current = row[j + 1]
        row[j + 1] = min(
          min(row[j], current) + 1, previous + (byte == right[j] ? 0 : 1))
        previous = current
      }
    }
    return row[right.count]
  }
}
