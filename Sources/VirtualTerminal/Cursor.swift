// Where the next character goes and what it will look like.

/// The cursor.
public struct Cursor: Hashable, Sendable {
  /// 0 at the top of the screen.
  public internal(set) var row = 0
  /// 0 at the left.
  public internal(set) var column = 0
  /// A character was written in the last column: the next one goes to the next line first.
  public internal(set) var wrapsNext = false
}

/// What DECSC saves and DECRC brings back (VT220 manual, "Cursor save").
struct SavedCursor: Hashable, Sendable, Codable {
  var row = 0
  var column = 0
  var wrapsNext = false
  var pen = Pen()
  var sets = CharacterSets()
  var origin = false
}

/// The style of what is written next.
struct Pen: Hashable, Sendable {
  var foreground = Color.standard
  var background = Color.standard
  var attributes: Attributes = []

  /// A cell in this style, narrow.
  @inline(__always)
  func cell(_ content: UInt32) -> Cell {
    Cell(
      content: content, foreground: foreground, background: background,
      style: UInt32(attributes.rawValue))
  }

  /// What erasing leaves: a space on the current background.
  var blank: Cell {
    Cell(content: 0x20, foreground: .standard, background: background, style: 0)
  }

  var isValid: Bool {
    foreground.isValid && background.isValid && Attributes.all.contains(attributes)
  }
}

extension Pen: Codable {
  init(from decoder: any Decoder) throws {
    var container = try decoder.unkeyedContainer()
    foreground = Color(rawValue: try container.decode(UInt32.self))
    background = Color(rawValue: try container.decode(UInt32.self))
    attributes = Attributes(rawValue: try container.decode(UInt16.self))
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.unkeyedContainer()
    try container.encode(foreground.rawValue)
    try container.encode(background.rawValue)
    try container.encode(attributes.rawValue)
  }
}

extension Cursor: Codable {}

/// Tab stops, one bit a column.
struct TabStops: Hashable, Sendable, Codable {
  private var words: [UInt64]

  /// Every eighth column, for any width.
  init() {
    words = [UInt64](
      repeating: 0x0101_0101_0101_0101, count: VirtualTerminal.columnRange.upperBound / 64 + 1)
    words[0] &= ~1
  }

  var isValid: Bool { words.count == VirtualTerminal.columnRange.upperBound / 64 + 1 }

  func isSet(_ column: Int) -> Bool { words[column >> 6] >> UInt64(column & 63) & 1 != 0 }

  mutating func set(_ column: Int) { words[column >> 6] |= 1 << UInt64(column & 63) }

  mutating func clear(_ column: Int) { words[column >> 6] &= ~(1 << UInt64(column & 63)) }

  mutating func clearAll() { for index in words.indices { words[index] = 0 } }

  /// The stop after `column`, or the last column.
  func next(after column: Int, columns: Int) -> Int {
    var column = column + 1
    while column < columns - 1, !isSet(column) { column += 1 }
    return min(column, columns - 1)
  }

  /// The stop before `column`, or the first column.
  func previous(before column: Int) -> Int {
    var column = column - 1
    while column > 0, !isSet(column) { column -= 1 }
    return max(column, 0)
  }
}
