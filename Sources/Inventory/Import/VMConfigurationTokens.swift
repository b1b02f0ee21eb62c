import Platform

/// What OpenBSD's vm.conf(5) consists of: words, a few marks and line ends. Macros are expanded and included files are
/// read here, so the parser sees one stream.
struct VMConfigurationTokens {
  enum Token: Equatable {
    /// `isQuoted`: never a keyword.
    case word(String, isQuoted: Bool)
    case open, close, comma, equals, lineEnd, end
  }

  private struct Source {
    var path: String
    var bytes: [UInt8]
    var position = 0
    var line = 1
    /// Up to here the text is a macro's, and names in it are not looked up.
    var macroEnd = 0
  }

  private var sources: [Source]
  private var macros: [String: String]
  private var pushed: Token?
  private let root: String?
  /// Macros that the file can not define otherwise.
  private let fixed: Set<String>
  private var includeCount = 0
  private var expansionCount = 0

  /// Bounds for files that include each other and macros that grow.
  private static let depthLimit = 16
  private static let includeLimit = 256
  private static let expansionLimit = 20_000

  /// - Parameters:
  ///   - root: stands before absolute paths of included files; nil for none.
  ///   - macros: defined from the beginning, and stronger than the file's.
  init(path: String, root: String?, macros: [String: String]) throws(InventoryError) {
    self.root = root
    self.macros = macros
    fixed = Set(macros.keys)
    sources = []
    try push(path)
  }

  private mutating func push(_ path: String) throws(InventoryError) {
    guard sources.count < Self.depthLimit, includeCount < Self.includeLimit else {
      throw error("too many files include each other")
    }
    includeCount += 1
    guard let text = try FileReading.text(path, limit: 4 << 20) else {
      throw InventoryError(.notFound, "\(printable(path)): no such file")
    }
    sources.append(Source(path: path, bytes: Array(text.utf8)))
  }

  /// Reads another file before what follows.
  mutating func include(_ name: String) throws(InventoryError) {
    var path = name
    if name.hasPrefix("/") {
      path = (root ?? "") + name
    } else if let current = sources.last?.path,
      let slash = current.lastIndex(of: "/")
    {
      path = "\(current[..<slash])/\(name)"
    }
    guard FileReading.exists(path) else { throw error("\(printable(path)): no such file") }
    try push(path)
  }

  mutating func define(_ name: String, _ value: String) {
    if !fixed.contains(name) { macros[name] = value }
  }

  func error(_ message: String) -> InventoryError {
    guard let source = sources.last else {
      return InventoryError(.invalid, message)
    }
    return InventoryError(.invalid, "\(printable(source.path)):\(source.line): \(message)")
  }

  /// Where the parser is, for the report.
  var place: String {
    guard let source = sources.last else { return "" }
    let name = source.path.split(separator: "/").last.map(String.init) ?? source.path
    return "\(printable(name)):\(source.line)"
  }

  mutating func push(back token: Token) { pushed = token }

  mutating func peek() throws(InventoryError) -> Token {
    let token = try next()
    pushed = token
    return token
  }

  mutating func next() throws(InventoryError) -> Token {
    if let token = pushed {
      pushed = nil
      return token
    }
    while true {
      guard let byte = read() else { return .end }
      switch byte {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): continue
      case UInt8(ascii: "#"):
        while let skipped = read(), skipped != UInt8(ascii: "\n") {}
        return .lineEnd
      case UInt8(ascii: "\n"): return .lineEnd
      case UInt8(ascii: "{"): return .open
      case UInt8(ascii: "}"): return .close
      case UInt8(ascii: ","): return .comma
      case UInt8(ascii: "="): return .equals
      case UInt8(ascii: "\""), UInt8(ascii: "'"): return .word(try quoted(byte), isQuoted: true)
      case UInt8(ascii: "$") where !isInMacro: try expand()
      default: return .word(try plain(byte), isQuoted: false)
      }
    }
  }

  /// The next byte, with continued lines joined; nil at the end of everything.
  private mutating func read() -> UInt8? {
    while let index = sources.indices.last {
      guard sources[index].position < sources[index].bytes.count else {
        sources.removeLast()
        // The end of a file ends its line, too.
        if !sources.isEmpty { return UInt8(ascii: "\n") }
        continue
      }
      let byte = sources[index].bytes[sources[index].position]
      sources[index].position += 1
      if byte == UInt8(ascii: "\\"), lookAhead() == UInt8(ascii: "\n") {
        sources[index].position += 1
        sources[index].line += 1
        continue
      }
      if byte == UInt8(ascii: "\n") { sources[index].line += 1 }
      return byte
    }
    return nil
  }

  /// Within the present source.
  private func lookAhead() -> UInt8? {
    guard let source = sources.last, source.position < source.bytes.count else { return nil }
    return source.bytes[source.position]
  }

  private mutating func quoted(_ quote: UInt8) throws(InventoryError) -> String {
    var bytes: [UInt8] = []
    while true {
      guard let byte = read(), byte != UInt8(ascii: "\n") else {
        throw error("a quoted text is not closed")
      }
      if byte == quote { break }
      if byte == UInt8(ascii: "\\"), let following = lookAhead(),
        following == quote || following == UInt8(ascii: " ") || following == UInt8(ascii: "\t")
          || following == UInt8(ascii: "\\")
      {
        bytes.append(read() ?? following)
      } else {
        bytes.append(byte)
      }
    }
    return try text(bytes)
  }

  private static let marks: Set<UInt8> = Set(" \t\r\n{}=,#\"'".utf8)

  private mutating func plain(_ first: UInt8) throws(InventoryError) -> String {
    var bytes = [first]
    while let byte = lookAhead(), !Self.marks.contains(byte) {
      guard let taken = read() else { break }
      // A continued line may have ended here.
      if Self.marks.contains(taken) {
        stepBack()
        break
      }
      bytes.append(taken)
    }
    return try text(bytes)
  }

  private mutating func stepBack() {
    guard let index = sources.indices.last, sources[index].position > 0 else { return }
    sources[index].position -= 1
    if sources[index].bytes[sources[index].position] == UInt8(ascii: "\n") {
      sources[index].line -= 1
    }
  }

  private func text(_ bytes: [UInt8]) throws(InventoryError) -> String {
    guard bytes.count < 8192 else { throw error("a word is longer than 8191 bytes") }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Whether the byte that was read last is of a macro's text.
  private var isInMacro: Bool { sources.last.map { $0.position <= $0.macroEnd } ?? false }

  /// A macro's text takes the place of its name.
  private mutating func expand() throws(InventoryError) {
    var name: [UInt8] = []
    while let byte = lookAhead(), Self.isNameByte(byte) {
      name.append(byte)
      _ = read()
    }
    let key = String(decoding: name, as: UTF8.self)
    guard let value = macros[key], let index = sources.indices.last else {
      throw error("macro '\(printable(key))' is not defined")
    }
    expansionCount += 1
    guard expansionCount <= Self.expansionLimit else { throw error("too many macros are used") }
    let end = sources[index].position
    let start = max(0, end - name.count - 1)
    sources[index].bytes.replaceSubrange(start..<end, with: value.utf8)
    sources[index].position = start
    sources[index].macroEnd = start + value.utf8.count
  }

  static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
