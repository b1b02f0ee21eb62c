/// Something that happened while the front end ran.
package struct EventRecord: Equatable, Sendable {
  /// Seconds since 1970, UTC.
  package var time: Int64
  package var machine: String?
  package var text: String
  package var kind: Model.Message.Kind
}

/// What a log view shows.
package enum LogSource: Hashable, Sendable {
  /// What a serial port printed.
  case console(String, port: Int)
  /// What the host process says of itself.
  case host(String)
  /// What happened, of one machine or of all.
  case events(String?)

  package var machine: String? {
    switch self {
    case .console(let name, _), .host(let name): name
    case .events(let name): name
    }
  }

  package var title: String {
    switch self {
    case .console(let name, let port): "CONSOLE COM\(port + 1) OF \(name)"
    case .host(let name): "HOST PROCESS OF \(name)"
    case .events(let name?): "EVENTS OF \(name)"
    case .events(nil): "EVENTS"
    }
  }

  /// It is read from a file.
  package var isFile: Bool { if case .events = self { false } else { true } }
}

/// Lines of a log, and which part of them is seen.
package struct LogPage: Sendable {
  package let source: LogSource
  package private(set) var text = LogText()
  package var isLoaded = false
  package var follows = true
  package var wraps = false
  package var filter = ""
  package var top = 0

  package init(_ source: LogSource) {
    self.source = source
  }

  package mutating func append(_ bytes: [UInt8], restart: Bool) {
    if restart { text = LogText() }
    isLoaded = true
    text.feed(bytes)
  }

  /// Lines that the filter leaves, broken at `width` where they wrap.
  package func rows(of lines: [String], width: Int) -> [String] {
    let words = filter.lowercased().split(separator: " ")
    var rows =
      words.isEmpty
      ? lines
      : lines.filter { line in
        let line = line.lowercased()
        return words.allSatisfy {
          $0.first == "!" ? !line.contains($0.dropFirst()) : line.contains($0)
        }
      }
    if wraps { rows = rows.flatMap { $0.utf8.count <= width ? [$0] : $0.wrapped(to: width) } }
    return rows
  }

  /// Moves the view; at the end it follows again.
  package mutating func move(to row: Int, count: Int, page: Int) {
    let last = max(0, count - page)
    top = min(last, max(0, row))
    follows = top == last
  }
}

/// Text out of what a terminal was sent: escape sequences and other controls are left out.
package struct LogText: Sendable {
  package private(set) var lines: [String] = []
  private var partial: [UInt8] = []
  private var state = State.text

  private enum State { case text, escape, sequence, string, stringEscape }
  /// Older lines are forgotten.
  private static let limit = 20_000
  private static let lineLimit = 4096

  package init() {}

  /// All lines, the unfinished last one among them.
  package var all: [String] {
    partial.isEmpty ? lines : lines + [Self.string(partial)]
  }

  package mutating func feed(_ bytes: [UInt8]) {
    for byte in bytes { feed(byte) }
    if lines.count > Self.limit { lines.removeFirst(lines.count - Self.limit) }
  }

  private mutating func feed(_ byte: UInt8) {
    switch state {
    case .text: print(byte)
    case .escape:
      switch byte {
      case 0x5B: state = .sequence
      case 0x5D, 0x50, 0x58, 0x5E, 0x5F: state = .string
      case 0x20...0x2F: break
      default: state = .text
      }
    case .sequence:
      // ECMA-48: ended by a byte from 40 to 7E.
      guard (0x40...0x7E).contains(byte) || byte == 0x1B else { return }
      state = byte == 0x1B ? .escape : .text
      // What jumps about on the screen writes another line.
      if byte == 0x48 || byte == 0x66 || byte == 0x4A, !partial.isEmpty { print(0x0A) }
    case .string:
      if byte == 0x07 { state = .text }
      if byte == 0x1B { state = .stringEscape }
      if byte == 0x0A { state = .text }
    case .stringEscape: state = byte == 0x5C ? .text : .string
    }
  }

  private mutating func print(_ byte: UInt8) {
    switch byte {
    case 0x1B: state = .escape
    case 0x0A:
      let line = Self.string(partial)
      partial.removeAll(keepingCapacity: true)
      // Of several blank lines one is enough.
      if line.isEmpty, lines.last?.isEmpty ?? true { return }
      lines.append(line)
    case 0x08: if !partial.isEmpty { partial.removeLast() }
    case 0x09: partial += [UInt8](repeating: 0x20, count: 8 - partial.count % 8)
    case 0x20..<0x7F, 0x80...: if partial.count < Self.lineLimit { partial.append(byte) }
    default: break
    }
  }

  private static func string(_ bytes: [UInt8]) -> String {
    let end = (bytes.lastIndex { $0 != 0x20 }).map { $0 + 1 } ?? 0
    let text = String(decoding: bytes[..<end], as: UTF8.self)
    if bytes.allSatisfy({ $0 < 0x80 }) { return text }
    return String(text.filter { $0.cellWidth > 0 })
  }
}
