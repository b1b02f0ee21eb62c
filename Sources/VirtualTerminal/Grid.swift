// The cells of a screen and the lines that scrolled off it, in one ring: scrolling the whole screen moves an index and
// clears one row. Rows are addressed 0 at the top of the screen; lines 0 at the oldest of the scrollback.

/// Rows of cells with scrollback.
struct Grid: Sendable {
  let columns: Int
  let rows: Int
  /// Lines of scrollback at most.
  let limit: Int
  var cells: [Cell]
  /// For each line of the ring: the text goes on in the next line without a line end.
  var wraps: [Bool]
  /// Lines that the ring has room for now; grows up to `rows + limit`.
  private(set) var capacity: Int
  /// Where in the ring the oldest line is.
  private(set) var head = 0
  /// Lines of scrollback there are.
  private(set) var history = 0
  /// Lines that were ever moved to the scrollback; line numbers that survive trimming count from it.
  var scrolledLines: UInt64 = 0

  init(columns: Int, rows: Int, limit: Int) {
    self.columns = columns
    self.rows = rows
    self.limit = limit
    capacity = limit == 0 ? rows : rows + min(limit, rows)
    cells = [Cell](repeating: .blank, count: capacity * columns)
    wraps = [Bool](repeating: false, count: capacity)
  }

  /// Takes lines over, oldest first; the last `rows` of them are the screen. Used by resize and decoding.
  init(columns: Int, rows: Int, limit: Int, lines: [Cell], wraps: [Bool], history: Int) {
    self.columns = columns
    self.rows = rows
    self.limit = limit
    capacity = rows + history
    cells = lines
    self.wraps = wraps
    self.history = history
  }

  var lineCount: Int { history + rows }

  /// Place in the ring of a line, 0 the oldest of the scrollback.
  @inline(__always)
  func ringIndex(line: Int) -> Int {
    let index = head &+ line
    return index >= capacity ? index &- capacity : index
  }

  /// Place in the ring of a row of the screen.
  @inline(__always)
  func ringIndex(row: Int) -> Int { ringIndex(line: history &+ row) }

  /// Index of a row's first cell.
  @inline(__always)
  func base(row: Int) -> Int { ringIndex(row: row) &* columns }

  /// Index of a line's first cell.
  func base(line: Int) -> Int { ringIndex(line: line) * columns }

  subscript(row: Int, column: Int) -> Cell {
    get { cells[base(row: row) + column] }
    set { cells[base(row: row) + column] = newValue }
  }

  func rowCells(_ row: Int) -> ArraySlice<Cell> {
    let start = base(row: row)
    return cells[start..<start + columns]
  }

  func lineCells(_ line: Int) -> ArraySlice<Cell> {
    let start = base(line: line)
    return cells[start..<start + columns]
  }

  func wraps(row: Int) -> Bool { wraps[ringIndex(row: row)] }
  mutating func setWraps(row: Int, _ on: Bool) { wraps[ringIndex(row: row)] = on }

  // MARK: Scrolling

  /// Moves every row up by one; the top row becomes scrollback, the bottom row is cleared.
  mutating func scrollScreenUp(clearingWith blank: Cell) {
    if history < limit {
      if lineCount == capacity { grow() }
      history += 1
    } else {
      head = head + 1 == capacity ? 0 : head + 1
    }
    scrolledLines &+= 1
    clear(row: rows - 1, with: blank)
  }

  /// Doubles the ring, at most to what the limit needs.
  private mutating func grow() {
    let wanted = min(capacity + max(capacity, 16), rows + limit)
    var moved: [Cell] = []
    moved.reserveCapacity(wanted * columns)
    let split = head * columns
    moved.append(contentsOf: cells[split...])
    moved.append(contentsOf: cells[..<split])
    moved.append(contentsOf: repeatElement(.blank, count: (wanted - capacity) * columns))
    var movedWraps = Array(wraps[head...] + wraps[..<head])
    movedWraps.append(contentsOf: repeatElement(false, count: wanted - capacity))
    cells = moved
    wraps = movedWraps
    capacity = wanted
    head = 0
  }

  /// Moves rows `top...bottom` up; with `keepingHistory` those that leave the top of the screen become scrollback.
  mutating func scrollUp(
    top: Int, bottom: Int, count: Int, clearingWith blank: Cell, keepingHistory: Bool
  ) {
    let count = min(count, bottom - top + 1)
    guard count > 0 else { return }
    if top == 0 && (keepingHistory || limit == 0 && bottom == rows - 1) {
      for _ in 0..<count {
        scrollScreenUp(clearingWith: blank)
        // Rows below the region moved with the ring; they go back to where they were.
        if bottom < rows - 1 {
          for row in stride(from: rows - 1, to: bottom, by: -1) { copyRow(row - 1, to: row) }
          clear(row: bottom, with: blank)
        }
      }
      return
    }
    if top + count <= bottom {
      for row in top...bottom - count { copyRow(row + count, to: row) }
    }
    for row in bottom - count + 1...bottom { clear(row: row, with: blank) }
  }

  /// Moves rows `top...bottom` down; what leaves the bottom is lost.
  mutating func scrollDown(top: Int, bottom: Int, count: Int, clearingWith blank: Cell) {
    let count = min(count, bottom - top + 1)
    guard count > 0 else { return }
    for row in stride(from: bottom, through: top + count, by: -1) { copyRow(row - count, to: row) }
    for row in top..<top + count { clear(row: row, with: blank) }
  }

  private mutating func copyRow(_ source: Int, to target: Int) {
    let from = base(row: source)
    let to = base(row: target)
    let columns = columns
    // Both rows lie inside `cells` and are distinct, so the ranges cannot overlap.
    cells.withUnsafeMutableBufferPointer { cells in
      for column in 0..<columns { cells[to &+ column] = cells[from &+ column] }
    }
    wraps[ringIndex(row: target)] = wraps[ringIndex(row: source)]
  }

  /// Forgets the scrollback.
  mutating func clearHistory() {
    head = ringIndex(line: history)
    history = 0
  }

  /// The first broken rule, or nil.
  func violatedInvariant() -> String? {
    guard columns > 0, rows > 0, limit >= 0 else { return "grid size" }
    guard capacity >= lineCount, capacity <= rows + limit || capacity == lineCount else {
      return "ring capacity \(capacity) for \(lineCount) lines, limit \(limit)"
    }
    guard history <= limit else { return "scrollback over its limit" }
    guard head >= 0, head < capacity else { return "ring head" }
    guard cells.count == capacity * columns, wraps.count == capacity else { return "ring storage" }
    for line in 0..<lineCount {
      let start = base(line: line)
      var expectsTail = false
      for column in 0..<columns {
        let cell = cells[start + column]
        guard cell.style >> Cell.widthShift <= 2 else { return "cell width" }
        guard cell.isTail == expectsTail else { return "half a wide character, line \(line)" }
        expectsTail = cell.isWide
        guard cell.foreground.isValid, cell.background.isValid else { return "cell colour" }
        guard Attributes.all.contains(cell.attributes) else { return "cell attributes" }
        if !cell.isCluster {
          guard cell.isTail || cell.content >= 0x20, Unicode.Scalar(cell.content) != nil else {
            return "cell content"
          }
        }
      }
      if expectsTail { return "wide character cut by the edge, line \(line)" }
    }
    return nil
  }
}
