// Which rows a viewer has to draw again.

/// What changed since the last drain.
public struct Damage: Sendable, Equatable {
  /// Everything changed: size, screen switch, or a scroll of the whole screen.
  public internal(set) var everything = true
  /// The cursor moved or changed its shape or visibility.
  public internal(set) var cursor = true
  /// The title changed.
  public internal(set) var title = false
  private var words: [UInt64]
  private let rows: Int

  init(rows: Int) {
    self.rows = rows
    words = [UInt64](repeating: 0, count: (rows + 63) / 64)
  }

  /// Whether nothing has to be drawn.
  public var isEmpty: Bool { !everything && !cursor && !title && words.allSatisfy { $0 == 0 } }

  /// Whether a row has to be drawn.
  public func contains(row: Int) -> Bool {
    everything || 0..<rows ~= row && words[row >> 6] >> UInt64(row & 63) & 1 != 0
  }

  /// The rows to draw, top to bottom.
  public var changedRows: [Int] { (0..<rows).filter(contains(row:)) }

  @inline(__always)
  mutating func mark(row: Int) {
    words[row >> 6] |= 1 << UInt64(row & 63)
  }

  mutating func mark(rows: ClosedRange<Int>) {
    for row in rows { mark(row: row) }
  }

  mutating func reset() {
    everything = false
    cursor = false
    title = false
    for index in words.indices { words[index] = 0 }
  }
}
