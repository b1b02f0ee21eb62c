// Clearing, inserting and deleting inside a row. Every operation leaves wide characters whole: where an edge would cut
// one, both halves become spaces.

extension Grid {
  /// Fills a whole row.
  mutating func clear(row: Int, with blank: Cell) {
    let index = ringIndex(row: row)
    wraps[index] = false
    let start = index &* columns
    let columns = columns
    // `start + columns` is at most `capacity * columns`, the size of `cells`.
    cells.withUnsafeMutableBufferPointer { cells in
      for column in 0..<columns { cells[start &+ column] = blank }
    }
  }

  /// Makes sure that no wide character lies across the edge before `column`.
  @inline(__always)
  mutating func sever(row: Int, column: Int) {
    guard column > 0, column < columns else { return }
    let index = base(row: row) &+ column
    guard cells[index].isTail else { return }
    cells[index] = cells[index].asSpace
    cells[index - 1] = cells[index - 1].asSpace
  }

  /// Fills part of a row. With `sparingProtected`, characters written under DECSCA stay.
  mutating func fill(
    row: Int, _ range: Range<Int>, with blank: Cell, sparingProtected: Bool = false
  ) {
    guard !range.isEmpty else { return }
    sever(row: row, column: range.lowerBound)
    sever(row: row, column: range.upperBound)
    let start = base(row: row)
    for column in range {
      if sparingProtected && cells[start + column].attributes.contains(.protected) { continue }
      cells[start + column] = blank
    }
    if range.upperBound == columns && !sparingProtected { setWraps(row: row, false) }
  }

  /// Moves the cells from `column` on to the right; what leaves the row is lost.
  mutating func insertCells(row: Int, column: Int, count: Int, with blank: Cell) {
    let count = min(count, columns - column)
    guard count > 0 else { return }
    sever(row: row, column: column)
    sever(row: row, column: columns - count)
    let start = base(row: row)
    for target in stride(from: columns - 1, through: column + count, by: -1) {
      cells[start + target] = cells[start + target - count]
    }
    for target in column..<column + count { cells[start + target] = blank }
    setWraps(row: row, false)
  }

  /// Takes cells out of a row; what is right of them moves left and the end is cleared.
  mutating func deleteCells(row: Int, column: Int, count: Int, with blank: Cell) {
    let count = min(count, columns - column)
    guard count > 0 else { return }
    sever(row: row, column: column)
    sever(row: row, column: column + count)
    let start = base(row: row)
    for target in column..<columns - count {
      cells[start + target] = cells[start + target + count]
    }
    for target in columns - count..<columns { cells[start + target] = blank }
    setWraps(row: row, false)
  }

  /// One past the last cell of a line that is not blank.
  func usedColumns(line: Int) -> Int {
    let start = base(line: line)
    var end = columns
    while end > 0, cells[start + end - 1] == .blank { end -= 1 }
    return end
  }

  /// One past the last row of the screen that is not blank.
  var usedRows: Int {
    var end = rows
    while end > 0, usedColumns(line: history + end - 1) == 0 { end -= 1 }
    return end
  }
}
