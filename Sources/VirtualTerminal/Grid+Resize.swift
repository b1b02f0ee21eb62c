// Another size. The main screen reflows: lines that were wrapped are joined and broken again at the new width, and the
// scrollback takes or gives rows as the height changes. The alternate screen belongs to a program that redraws it, so it
// is only clipped.

extension Grid {
  /// A place in the grid that has to be found again after a resize.
  struct Place: Equatable, Sendable {
    var row: Int
    var column: Int
  }

  /// The grid in a new size with rows and columns cut off or added at the right and bottom.
  func clipped(columns newColumns: Int, rows newRows: Int) -> Grid {
    var result = Grid(columns: newColumns, rows: newRows, limit: limit)
    result.scrolledLines = scrolledLines
    for row in 0..<min(rows, newRows) {
      for column in 0..<min(columns, newColumns) { result[row, column] = self[row, column] }
      if newColumns < columns && self[row, newColumns].isTail {
        result[row, newColumns - 1] = result[row, newColumns - 1].asSpace
      }
    }
    return result
  }

  /// The grid in a new size with its text rewrapped; `cursor` is moved along with the text around it.
  func reflowed(columns newColumns: Int, rows newRows: Int, cursor: inout Place) -> Grid {
    var lines = LineBuilder(columns: newColumns)
    let cursorLine = history + min(max(cursor.row, 0), rows - 1)
    let lastLine = max(cursorLine, history + usedRows - 1)
    var newCursor = (line: 0, column: 0)
    var newTop = 0
    var continues = false
    for line in 0...lastLine {
      if !continues { lines.startLine() }
      if line == history { newTop = lines.count - 1 }
      let wrapped = wraps[ringIndex(line: line)] && line < lastLine
      var end = wrapped ? columns : usedColumns(line: line)
      // A wide character that did not fit left one blank at the edge.
      if wrapped, self[line: line, columns - 1] == .blank, self[line: line + 1, 0].isWide {
        end -= 1
      }
      for column in 0..<end {
        if line == cursorLine && column == cursor.column { newCursor = lines.place }
        lines.append(self[line: line, column])
      }
      if line == cursorLine && cursor.column >= end {
        let place = lines.place
        newCursor = (place.line, place.column + cursor.column - end)
      }
      continues = wrapped
    }

    // As many blank rows at the bottom as before or fewer: the scrollback fills what is gained.
    let total = lines.count
    let blankRows = rows - (lastLine - history + 1)
    var top = max(total - newRows, newTop)
    top = max(0, min(top, total + blankRows - newRows))
    // The cursor stays on the screen even if its line now takes more rows than there are.
    top = min(max(top, newCursor.line - newRows + 1), max(newCursor.line, 0))
    let kept = min(top, limit)
    cursor = Place(row: newCursor.line - top, column: min(newCursor.column, newColumns - 1))
    var result = lines.grid(rows: newRows, limit: limit, from: top - kept, history: kept)
    result.scrolledLines = scrolledLines &+ UInt64(max(0, top - history))
    return result
  }

  private subscript(line line: Int, column: Int) -> Cell { cells[base(line: line) + column] }
}

/// Breaks text into lines of a width.
private struct LineBuilder {
  let columns: Int
  private var cells: [Cell] = []
  private var wraps: [Bool] = []
  private var column = 0

  init(columns: Int) { self.columns = columns }

  var count: Int { wraps.count }

  /// Where the next cell goes, without breaking the line for it yet.
  var place: (line: Int, column: Int) {
    column == columns ? (count, 0) : (count - 1, column)
  }

  mutating func startLine() {
    wraps.append(false)
    cells.append(contentsOf: repeatElement(.blank, count: columns))
    column = 0
  }

  mutating func append(_ cell: Cell) {
    let width = cell.isWide ? 2 : 1
    if cell.isTail && column == 0 { return }
    if width > columns {
      put(cell.asSpace)
      return
    }
    if column + width > columns && !cell.isTail { breakLine() }
    put(cell)
  }

  private mutating func put(_ cell: Cell) {
    if column == columns {
      if cell.isTail { return }
      breakLine()
    }
    cells[(count - 1) * columns + column] = cell
    column += 1
  }

  private mutating func breakLine() {
    wraps[count - 1] = true
    startLine()
  }

  /// A grid of the lines from `first` on, the first `history` of them scrollback.
  func grid(rows: Int, limit: Int, from first: Int, history: Int) -> Grid {
    let wanted = history + rows
    let end = min(first + wanted, count)
    var taken = Array(cells[first * columns..<end * columns])
    taken.append(contentsOf: repeatElement(.blank, count: wanted * columns - taken.count))
    var takenWraps = Array(wraps[first..<end])
    takenWraps.append(contentsOf: repeatElement(false, count: wanted - takenWraps.count))
    return Grid(
      columns: columns, rows: rows, limit: limit, lines: taken, wraps: takenWraps, history: history)
  }
}
