import VirtualTerminal

/// The guest's screen copied into the canvas, cell by cell.
package enum GuestView {
  /// The guest's cell in the upper left corner of the area: where the area is smaller than the guest's screen, the
  /// part around the cursor is seen.
  package static func corner(of pane: ConsolePane, in area: Rectangle) -> Position {
    let hidden = pane.terminal.columns - area.columns
    if pane.isScrolledBack {
      // Looking back, the oldest line has to be within reach.
      let column = pane.copyMode?.cursor.column ?? 0
      return Position(
        row: 0, column: hidden > 0 ? max(0, min(column - area.columns + 1, hidden)) : 0)
    }
    let cursor = pane.terminal.cursor
    let row = max(0, min(cursor.row - area.rows + 1, pane.terminal.rows - area.rows))
    let column = max(0, min(cursor.column - area.columns + 1, hidden))
    // Never past the cursor: rows above it are what one reads.
    return Position(row: row, column: hidden > 0 ? column : 0)
  }

  /// Number of the first line that is seen, see `ConsolePane.cells(of:)`.
  static func topLine(of pane: ConsolePane, in area: Rectangle) -> UInt64 {
    if pane.isScrolledBack { return pane.topLine }
    return pane.terminal.scrolledLineCount + UInt64(corner(of: pane, in: area).row)
  }

  static func draw(
    _ pane: ConsolePane, in area: Rectangle, _ model: Model, showsCursor: Bool,
    _ canvas: inout Canvas
  ) {
    let terminal = pane.terminal
    let ground = guestGround(model)
    canvas.fill(area, style: ground)
    let corner = corner(of: pane, in: area)
    let top = topLine(of: pane, in: area)
    let rows = pane.isScrolledBack ? area.rows : min(area.rows, terminal.rows)
    for line in 0..<rows {
      var column = area.column
      for cell in pane.cells(of: top + UInt64(line)).dropFirst(corner.column) {
        guard column < area.endColumn else { break }
        defer { column += 1 }
        if cell.width == .tail { continue }
        // Blank cells are there already.
        if cell == .blank { continue }
        let text = terminal.text(of: cell).first ?? " "
        canvas.set(
          text, row: area.row + line, column: column,
          style: style(of: cell, model, ground))
      }
      drawMarks(pane, top + UInt64(line), corner, row: area.row + line, area, model, &canvas)
    }
    if let cursor = pane.copyMode?.cursor, showsCursor, cursor.line >= top {
      let place = Position(
        row: area.row + Int(clamping: cursor.line - top),
        column: area.column + cursor.column - corner.column)
      if area.contains(place) { canvas.cursor = place }
      return
    }
    guard showsCursor, pane.scrollDistance == 0, terminal.modes.contains(.cursorVisible) else {
      return
    }
    let place = Position(
      row: area.row + terminal.cursor.row - corner.row,
      column: area.column + terminal.cursor.column - corner.column)
    if area.contains(place) { canvas.cursor = place }
  }

  /// What is selected and what the search has found.
  private static func drawMarks(
    _ pane: ConsolePane, _ line: UInt64, _ corner: Position, row: Int, _ area: Rectangle,
    _ model: Model, _ canvas: inout Canvas
  ) {
    guard let mode = pane.copyMode, line >= pane.oldestLine, line <= pane.newestLine else { return }
    func mark(_ range: Range<Int>, _ role: Role) {
      for column in range {
        let place = area.column + column - corner.column
        guard place >= area.column, place < area.endColumn else { continue }
        canvas.restyle(row: row, column: place) { _ in model.palette[role] }
      }
    }
    for range in pane.matches(of: mode.query, in: line) { mark(range, .match) }
    if let range = mode.selectedColumns(of: line, columns: pane.terminal.columns) {
      mark(range, .selection)
    }
  }

  /// The ground of guests is the terminal's own where the theme's is, else the theme's.
  private static func guestGround(_ model: Model) -> Style { model.palette[.text] }

  private static func style(of cell: Cell, _ model: Model, _ ground: Style) -> Style {
    var style = ground
    style.attributes = []
    if let color = cell.foregroundColor { style.foreground = color.reduced(to: model.depth) }
    if let color = cell.backgroundColor { style.background = color.reduced(to: model.depth) }
    guard !cell.attributes.isEmpty else { return style }
    if cell.attributes.contains(.bold) { style.attributes.insert(.bold) }
    if cell.attributes.contains(.dim) { style.attributes.insert(.dim) }
    if cell.attributes.contains(.italic) { style.attributes.insert(.italic) }
    if cell.attributes.contains(.underline) { style.attributes.insert(.underline) }
    if cell.attributes.contains(.blink) { style.attributes.insert(.blink) }
    if cell.attributes.contains(.invisible) { style.attributes.insert(.invisible) }
    if cell.attributes.contains(.inverse) { style.attributes.insert(.reverse) }
    return style
  }
}

extension Cell {
  /// The colour as the canvas names it; nil for the terminal's own.
  fileprivate var foregroundColor: Color? {
    switch foreground.kind {
    case .standard: nil
    case .indexed(let index): .indexed(index)
    case .direct(let red, let green, let blue): .rgb(red: red, green: green, blue: blue)
    }
  }

  fileprivate var backgroundColor: Color? {
    switch background.kind {
    case .standard: nil
    case .indexed(let index): .indexed(index)
    case .direct(let red, let green, let blue): .rgb(red: red, green: green, blue: blue)
    }
  }
}
