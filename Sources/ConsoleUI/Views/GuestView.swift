import VirtualTerminal

/// The guest's screen copied into the canvas, cell by cell.
package enum GuestView {
  /// The guest's cell in the upper left corner of the area: where the area is smaller than the guest's screen, the
  /// part around the cursor is seen.
  package static func corner(of pane: ConsolePane, in area: Rectangle) -> Position {
    let cursor = pane.terminal.cursor
    let row = max(0, min(cursor.row - area.rows + 1, pane.terminal.rows - area.rows))
    let column = max(0, min(cursor.column - area.columns + 1, pane.terminal.columns - area.columns))
    // Never past the cursor: rows above it are what one reads.
    return Position(row: row, column: pane.terminal.columns > area.columns ? column : 0)
  }

  static func draw(
    _ pane: ConsolePane, in area: Rectangle, _ model: Model, showsCursor: Bool,
    _ canvas: inout Canvas
  ) {
    let terminal = pane.terminal
    let ground = guestGround(model)
    canvas.fill(area, style: ground)
    let corner = corner(of: pane, in: area)
    let distance = pane.scrollDistance
    let rows = min(area.rows, terminal.rows)
    for line in 0..<rows {
      let row = line + corner.row - distance
      let cells = row >= 0 ? terminal.cells(row: row) : terminal.line(terminal.scrollbackCount + row)
      var column = area.column
      for cell in cells.dropFirst(corner.column) {
        guard column < area.endColumn else { break }
        defer { column += 1 }
        if cell.width == .tail { continue }
        let text = terminal.text(of: cell).first ?? " "
        canvas.set(
          text, row: area.row + line, column: column,
          style: style(cell.foreground.kind, cell.background.kind, cell.attributes, model, ground))
      }
    }
    guard showsCursor, distance == 0, terminal.modes.contains(.cursorVisible) else { return }
    let place = Position(
      row: area.row + terminal.cursor.row - corner.row,
      column: area.column + terminal.cursor.column - corner.column)
    if area.contains(place) { canvas.cursor = place }
  }

  /// The ground of guests is the terminal's own where the theme's is, else the theme's.
  private static func guestGround(_ model: Model) -> Style { model.palette[.text] }

  private static func style(
    _ foreground: VirtualTerminal.ColorKind, _ background: VirtualTerminal.ColorKind,
    _ attributes: VirtualTerminal.CellAttributes, _ model: Model, _ ground: Style
  ) -> Style {
    var style = ground
    style.attributes = []
    if let color = color(foreground, model.depth) { style.foreground = color }
    if let color = color(background, model.depth) { style.background = color }
    if attributes.contains(.bold) { style.attributes.insert(.bold) }
    if attributes.contains(.dim) { style.attributes.insert(.dim) }
    if attributes.contains(.italic) { style.attributes.insert(.italic) }
    if attributes.contains(.underline) { style.attributes.insert(.underline) }
    if attributes.contains(.blink) { style.attributes.insert(.blink) }
    if attributes.contains(.invisible) { style.attributes.insert(.invisible) }
    if attributes.contains(.inverse) { style.attributes.insert(.reverse) }
    return style
  }

  private static func color(_ kind: VirtualTerminal.ColorKind, _ depth: ColorDepth) -> Color? {
    switch kind {
    case .standard: nil
    case .indexed(let index): Color.indexed(index).reduced(to: depth)
    case .direct(let red, let green, let blue):
      Color.rgb(red: red, green: green, blue: blue).reduced(to: depth)
    }
  }
}
