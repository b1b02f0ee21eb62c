// A grid as it travels with a snapshot: lines as runs of equal cells in a byte string, that in base64, so that ten
// thousand lines stay a few hundred kilobytes in any coding format.

extension Grid: Codable {
  private enum Key: String, CodingKey {
    case columns, rows, limit, history, scrolledLines, lines
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(columns, forKey: .columns)
    try container.encode(rows, forKey: .rows)
    try container.encode(limit, forKey: .limit)
    try container.encode(history, forKey: .history)
    try container.encode(scrolledLines, forKey: .scrolledLines)
    var bytes = ByteWriter()
    for line in 0..<lineCount {
      bytes.write(wraps[ringIndex(line: line)] ? 1 : 0)
      let used = usedColumns(line: line)
      bytes.write(UInt32(used))
      let slice = lineCells(line).prefix(used)
      var index = slice.startIndex
      while index < slice.endIndex {
        let cell = slice[index]
        let run = slice[index...].prefix { $0 == cell }.count
        bytes.write(UInt32(run))
        bytes.write(cell.content)
        bytes.write(cell.foreground.rawValue)
        bytes.write(cell.background.rawValue)
        bytes.write(cell.style)
        index += run
      }
    }
    try container.encode(Base64.text(bytes.bytes), forKey: .lines)
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    func corrupted(_ reason: String) -> DecodingError {
      .dataCorruptedError(forKey: .lines, in: container, debugDescription: reason)
    }
    let columns = try container.decode(Int.self, forKey: .columns)
    let rows = try container.decode(Int.self, forKey: .rows)
    let limit = try container.decode(Int.self, forKey: .limit)
    let history = try container.decode(Int.self, forKey: .history)
    guard VirtualTerminal.columnRange.contains(columns), VirtualTerminal.rowRange.contains(rows),
      VirtualTerminal.scrollbackRange.contains(limit), history >= 0, history <= limit
    else { throw corrupted("terminal size out of range") }
    guard let bytes = Base64.bytes(try container.decode(String.self, forKey: .lines)) else {
      throw corrupted("not base64")
    }
    var reader = ByteReader(bytes: bytes)
    // Two bytes is the least that a line takes: a hostile count cannot make us allocate much more than was sent.
    guard (history + rows) * 2 <= bytes.count else { throw corrupted("lines missing") }
    var cells = [Cell](repeating: .blank, count: (history + rows) * columns)
    var wraps: [Bool] = []
    for line in 0..<history + rows {
      guard let wrapped = reader.read(), let used = reader.read(), used <= columns else {
        throw corrupted("line \(line)")
      }
      wraps.append(wrapped != 0)
      var column = 0
      while column < Int(used) {
        guard let run = reader.read(), let content = reader.read(), let foreground = reader.read(),
          let background = reader.read(), let style = reader.read(),
          run > 0, Int(run) <= Int(used) - column
        else { throw corrupted("line \(line)") }
        let cell = Cell(
          content: content, foreground: Color(rawValue: foreground),
          background: Color(rawValue: background), style: style)
        for _ in 0..<run {
          cells[line * columns + column] = cell
          column += 1
        }
      }
    }
    self.init(
      columns: columns, rows: rows, limit: limit, lines: cells, wraps: wraps, history: history)
    scrolledLines = try container.decode(UInt64.self, forKey: .scrolledLines)
    if let violation = violatedInvariant() { throw corrupted(violation) }
  }
}

/// Numbers as bytes: seven bits each, low first, the top bit set where more follow (LEB128).
private struct ByteWriter {
  var bytes: [UInt8] = []

  mutating func write(_ value: UInt32) {
    var value = value
    while value > 0x7F {
      bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
      value >>= 7
    }
    bytes.append(UInt8(value))
  }
}

private struct ByteReader {
  let bytes: [UInt8]
  var index = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func read() -> UInt32? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while index < bytes.count, shift < 35 {
      let byte = bytes[index]
      index += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { return UInt32(exactly: value) }
      shift += 7
    }
    return nil
  }
}

/// RFC 4648, the alphabet of section 4, with padding.
enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func text(_ bytes: [UInt8]) -> String {
    var output: [UInt8] = []
    output.reserveCapacity((bytes.count + 2) / 3 * 4)
    var index = 0
    while index < bytes.count {
      let rest = bytes.count - index
      let second = rest > 1 ? UInt32(bytes[index + 1]) : 0
      let third = rest > 2 ? UInt32(bytes[index + 2]) : 0
      let group = UInt32(bytes[index]) << 16 | second << 8 | third
      output.append(alphabet[Int(group >> 18)])
      output.append(alphabet[Int(group >> 12 & 63)])
      output.append(rest > 1 ? alphabet[Int(group >> 6 & 63)] : 0x3D)
      output.append(rest > 2 ? alphabet[Int(group & 63)] : 0x3D)
      index += 3
    }
    return String(decoding: output, as: UTF8.self)
  }

  /// nil when a character is not of the alphabet or the length is wrong.
  static func bytes(_ text: String) -> [UInt8]? {
    var values = [UInt8](repeating: 0xFF, count: 256)
    for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
    var output: [UInt8] = []
    output.reserveCapacity(text.utf8.count / 4 * 3)
    var group: UInt32 = 0
    var count = 0
    var padding = 0
    for character in text.utf8 {
      if character == 0x3D {
        padding += 1
        group <<= 6
      } else {
        let value = values[Int(character)]
        guard value != 0xFF, padding == 0 else { return nil }
        group = group << 6 | UInt32(value)
      }
      count += 1
      if count % 4 == 0 {
        guard padding <= 2 else { return nil }
        output.append(UInt8(truncatingIfNeeded: group >> 16))
        if padding < 2 { output.append(UInt8(truncatingIfNeeded: group >> 8)) }
        if padding < 1 { output.append(UInt8(truncatingIfNeeded: group)) }
        group = 0
      }
    }
    return count % 4 == 0 ? output : nil
  }
}
