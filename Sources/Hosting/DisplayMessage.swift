// What a display shows, as the control protocol carries it (see ControlProtocol.md, display.read).

import Devices

extension DisplaySnapshot {
  package var json: JSONValue {
    var members: [String: JSONValue] = ["generation": .unsigned(generation)]
    switch content {
    case .blank: members["mode"] = "blank"
    case .graphics(let mode):
      members["mode"] = "graphics"
      members["width"] = .unsigned(mode.width)
      members["height"] = .unsigned(mode.height)
      members["depth"] = .unsigned(mode.depth)
    case .text(let screen):
      members["mode"] = "text"
      members.merge(screen.members) { old, _ in old }
    }
    return .object(members)
  }

  /// The answer to `display.read`; nil when it is none, or says only that nothing has changed.
  package init?(json: JSONValue) {
    guard let generation = json["generation"]?.integer.flatMap({ UInt64(exactly: $0) }) else {
      return nil
    }
    func size(_ key: String) -> Int? {
      json[key]?.integer.flatMap { Int(exactly: $0) }.flatMap {
        (1...65536).contains($0) ? $0 : nil
      }
    }
    switch json["mode"]?.string {
    case "blank": self.init(generation: generation, content: .blank)
    case "graphics":
      guard let width = size("width"), let height = size("height"), let depth = size("depth") else {
        return nil
      }
      self.init(
        generation: generation,
        content: .graphics(GraphicsMode(width: width, height: height, depth: depth)))
    case "text":
      guard let screen = TextScreen(json: json) else { return nil }
      self.init(generation: generation, content: .text(screen))
    default: return nil
    }
  }
}

extension TextScreen {
  private enum Flag {
    static let blinking: UInt8 = 1
    static let underlined: UInt8 = 2
  }
  private static let sizeLimit = 256

  fileprivate var members: [String: JSONValue] {
    var lines: [JSONValue] = []
    var colors: [JSONValue] = []
    var flags: [JSONValue] = []
    for row in 0..<rows {
      let cells = cells[row * columns..<(row + 1) * columns]
      lines.append(.string(text(ofRow: row)))
      colors.append(.string(Self.hex(cells.map { $0.background << 4 | $0.foreground })))
      flags.append(
        .string(
          Self.hex(
            cells.map {
              ($0.isBlinking ? Flag.blinking : 0) | ($0.isUnderlined ? Flag.underlined : 0)
            })))
    }
    var members: [String: JSONValue] = [
      "columns": .unsigned(columns), "rows": .unsigned(rows), "lines": .array(lines),
      "colors": .array(colors), "palette": .array(palette.map { .unsigned($0) }),
    ]
    if cells.contains(where: { $0.isBlinking || $0.isUnderlined }) {
      members["flags"] = .array(flags)
    }
    if let cursor {
      members["cursor"] = [
        "column": .unsigned(cursor.column), "row": .unsigned(cursor.row),
        "first": .unsigned(cursor.lines.lowerBound), "last": .unsigned(cursor.lines.upperBound),
        "height": .unsigned(cursor.height),
      ]
    }
    return members
  }

  fileprivate init?(json: JSONValue) {
    func number(_ value: JSONValue?, _ range: Range<Int>) -> Int? {
      value?.integer.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
    }
    let sizes = 1..<Self.sizeLimit + 1
    guard let columns = number(json["columns"], sizes), let rows = number(json["rows"], sizes),
      let lines = json["lines"]?.array, lines.count == rows,
      let colors = json["colors"]?.array, colors.count == rows
    else { return nil }
    let flags = json["flags"]?.array ?? []
    var cells: [Cell] = []
    for row in 0..<rows {
      let text = Array(lines[row].string ?? "")
      guard let color = Self.bytes(colors[row].string, columns), text.count == columns else {
        return nil
      }
      let flag = row < flags.count ? Self.bytes(flags[row].string, columns) : nil
      for column in 0..<columns {
        cells.append(
          Cell(
            code: CodePage437.code(text[column]), foreground: color[column] & 0xF,
            background: color[column] >> 4,
            isBlinking: (flag?[column] ?? 0) & Flag.blinking != 0,
            isUnderlined: (flag?[column] ?? 0) & Flag.underlined != 0))
      }
    }
    let palette =
      json["palette"]?.array?.map { UInt32(clamping: $0.integer ?? 0) & 0xFF_FFFF } ?? []
    var cursor: Cursor?
    if let value = json["cursor"], let column = number(value["column"], 0..<columns),
      let row = number(value["row"], 0..<rows), let first = number(value["first"], 0..<32),
      let last = number(value["last"], first..<32), let height = number(value["height"], 1..<33)
    {
      cursor = Cursor(column: column, row: row, lines: first...last, height: height)
    }
    self.init(
      columns: columns, rows: rows, cells: cells, cursor: cursor,
      palette: palette.count == 16 ? palette : Self.standardPalette)
  }

  private static let digits = Array("0123456789abcdef".utf8)

  private static func hex(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  private static func bytes(_ text: String?, _ count: Int) -> [UInt8]? {
    guard let text, text.utf8.count == count * 2 else { return nil }
    var result: [UInt8] = []
    var high: UInt8?
    for digit in text.utf8 {
      guard let value = digits.firstIndex(of: digit).map({ UInt8($0) }) else { return nil }
      if let first = high {
        result.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return result
  }
}
