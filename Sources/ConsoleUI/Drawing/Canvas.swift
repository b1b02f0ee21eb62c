// A screenful of cells. Views draw into it and tests read it back; `Terminal` sends it to curses.

/// One cell: a grapheme cluster and its looks.
package struct CanvasCell: Hashable, Sendable {
  package var text: Character
  /// 1, or 2 for a wide character; 0 for the cell that a wide character to the left covers.
  package var width: UInt8
  package var style: Style

  package init(_ text: Character = " ", width: UInt8 = 1, style: Style = .plain) {
    self.text = text
    self.width = width
    self.style = style
  }
}

/// Rows and columns, counted from 0.
package struct Position: Hashable, Sendable {
  package var row: Int
  package var column: Int
  package init(row: Int, column: Int) {
    self.row = row
    self.column = column
  }
}

package struct Size: Hashable, Sendable {
  package var columns: Int
  package var rows: Int
  package init(columns: Int, rows: Int) {
    self.columns = columns
    self.rows = rows
  }
}

/// A part of the screen.
package struct Rectangle: Hashable, Sendable {
  package var row: Int
  package var column: Int
  package var rows: Int
  package var columns: Int

  package init(row: Int, column: Int, rows: Int, columns: Int) {
    self.row = row
    self.column = column
    self.rows = max(0, rows)
    self.columns = max(0, columns)
  }

  package var endRow: Int { row + rows }
  package var endColumn: Int { column + columns }
  package var isEmpty: Bool { rows == 0 || columns == 0 }

  /// Smaller by this much on every side.
  package func inset(rows: Int = 1, columns: Int = 1) -> Rectangle {
    Rectangle(
      row: row + rows, column: column + columns, rows: self.rows - 2 * rows,
      columns: self.columns - 2 * columns)
  }

  package func contains(_ position: Position) -> Bool {
    position.row >= row && position.row < endRow && position.column >= column
      && position.column < endColumn
  }

  /// The first rows and the rest.
  package func splitTop(_ count: Int) -> (top: Rectangle, rest: Rectangle) {
    let count = min(max(0, count), rows)
    return (
      Rectangle(row: row, column: column, rows: count, columns: columns),
      Rectangle(row: row + count, column: column, rows: rows - count, columns: columns)
    )
  }

  /// The first columns and the rest.
  package func splitLeft(_ count: Int) -> (left: Rectangle, rest: Rectangle) {
    let count = min(max(0, count), columns)
    return (
      Rectangle(row: row, column: column, rows: rows, columns: count),
      Rectangle(row: row, column: column + count, rows: rows, columns: columns - count)
    )
  }

  /// A rectangle of this size in the middle, never larger than this one.
  package func centered(rows: Int, columns: Int) -> Rectangle {
    let rows = min(rows, self.rows)
    let columns = min(columns, self.columns)
    return Rectangle(
      row: row + (self.rows - rows) / 2, column: column + (self.columns - columns) / 2,
      rows: rows, columns: columns)
  }
}

/// Cells in rows. Drawing outside of it has no effect.
package struct Canvas: Equatable, Sendable {
  package let size: Size
  package private(set) var cells: [CanvasCell]
  /// Where the terminal's cursor stands; nil hides it.
  package var cursor: Position?

  package init(_ size: Size, style: Style = .plain) {
    self.size = Size(columns: max(0, size.columns), rows: max(0, size.rows))
    cells = Array(
      repeating: CanvasCell(style: style), count: self.size.columns * self.size.rows)
  }

  package var bounds: Rectangle {
    Rectangle(row: 0, column: 0, rows: size.rows, columns: size.columns)
  }

  /// The cell at a place on the canvas; a blank outside of it.
  package subscript(row: Int, column: Int) -> CanvasCell {
    guard row >= 0, row < size.rows, column >= 0, column < size.columns else { return CanvasCell() }
    return cells[row * size.columns + column]
  }

  /// Puts one grapheme. A wide one that would be cut by the right edge becomes a blank.
  package mutating func set(_ text: Character, row: Int, column: Int, style: Style) {
    guard row >= 0, row < size.rows, column >= 0, column < size.columns else { return }
    let index = row * size.columns + column
    let width = text.cellWidth
    uncover(row: row, column: column)
    guard width == 2 else {
      cells[index] = CanvasCell(width == 1 ? text : "\u{FFFD}", style: style)
      return
    }
    guard column + 1 < size.columns else {
      cells[index] = CanvasCell(style: style)
      return
    }
    uncover(row: row, column: column + 1)
    cells[index] = CanvasCell(text, width: 2, style: style)
    cells[index + 1] = CanvasCell(" ", width: 0, style: style)
  }

  /// Changes the looks of a cell and leaves its text.
  package mutating func restyle(row: Int, column: Int, _ change: (Style) -> Style) {
    guard row >= 0, row < size.rows, column >= 0, column < size.columns else { return }
    let index = row * size.columns + column
    cells[index].style = change(cells[index].style)
  }

  /// Writes text in one row, at most `limit` cells, and returns how many cells it took.
  @discardableResult
  package mutating func put(
    _ text: String, row: Int, column: Int, style: Style, limit: Int = .max
  ) -> Int {
    var used = 0
    for character in text {
      let width = max(1, character.cellWidth)
      if used + width > limit { break }
      set(character, row: row, column: column + used, style: style)
      used += width
    }
    return used
  }

  package mutating func fill(_ rectangle: Rectangle, _ text: Character = " ", style: Style) {
    for row in rectangle.row..<max(rectangle.row, rectangle.endRow) {
      for column in rectangle.column..<max(rectangle.column, rectangle.endColumn) {
        set(text, row: row, column: column, style: style)
      }
    }
  }

  /// Makes both halves of a wide character that covers this cell blank.
  private mutating func uncover(row: Int, column: Int) {
    let index = row * size.columns + column
    switch cells[index].width {
    case 0 where column > 0:
      cells[index - 1].text = " "
      cells[index - 1].width = 1
    case 2 where column + 1 < size.columns:
      cells[index + 1].text = " "
      cells[index + 1].width = 1
    default:
      break
    }
  }

  /// A row's text without trailing blanks, as a person would read it.
  package func text(row: Int) -> String {
    guard row >= 0, row < size.rows else { return "" }
    var line = ""
    for column in 0..<size.columns where self[row, column].width > 0 {
      line.append(self[row, column].text)
    }
    while line.last == " " { line.removeLast() }
    return line
  }

  /// All rows, each ended by a newline.
  package var text: String {
    (0..<size.rows).map { text(row: $0) + "\n" }.joined()
  }
}
