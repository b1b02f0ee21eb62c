// The terminal's state as a sequence for another terminal: what a client that attaches is sent, so that it sees the
// screen as the guest believes it to be. Everything is absolute; the other terminal only needs the same size.

extension VirtualTerminal {
  /// Bytes that redraw this terminal on another one of the same size: screens, cursor, modes, styles, title.
  ///
  /// - Parameter scrollbackLines: How many lines of the scrollback come first; they scroll off into the other's.
  public func renderAsEscapes(scrollbackLines: Int = 0) -> [UInt8] {
    var out = EscapeWriter(clusters: clusters)
    // Leave any alternate screen, soft reset, initial modes, empty screen.
    out.text("\u{1B}[?1049l\u{1B}[!p\u{1B}%G\u{1B}[?5;45l\u{1B}[4;20l\u{1B}[12h\u{1B}[?7;2027h")
    out.text("\u{1B}[0m\u{1B}[H\u{1B}[J")
    let main = mainGrid
    let lines = Self.clamp(scrollbackLines, 0...main.history)
    let shown = lines > 0 ? main.rows : max(main.usedRows, 1)
    out.lines(of: main, from: main.history - lines, upTo: main.history + shown)
    if showsAlternateScreen {
      // 1049 saves the cursor for the way back: it has to be where the main screen's was saved.
      out.place(otherSaved, on: main)
      out.text("\u{1B}[?1049h")
      out.sets(CharacterSets())
      out.style(Pen())
      out.text("\u{1B}[?6l\u{1B}[2J")
      for row in 0..<rows where grid.usedColumns(line: row) > 0 {
        out.text("\u{1B}[\(row + 1);1H")
        out.cells(of: grid, line: row)
      }
    }
    out.tabs(tabs, columns: columns)
    out.place(saved, on: grid)
    out.text("\u{1B}7\u{1B}[?6l")
    out.sets(CharacterSets())
    out.text("\u{1B}[\(topMargin + 1);\(bottomMargin + 1)r")
    let isOrigin = modes.contains(.origin)
    if isOrigin { out.text("\u{1B}[?6h") }
    let top = isOrigin ? topMargin : 0
    if cursor.wrapsNext {
      out.lastColumn(of: grid, row: cursor.row, top: top)
    } else {
      out.text("\u{1B}[\(max(cursor.row - top, 0) + 1);\(cursor.column + 1)H")
    }
    out.style(pen)
    out.sets(sets)
    renderModes(into: &out)
    return out.bytes
  }

  private func renderModes(into out: inout EscapeWriter) {
    for (number, mode) in Modes.privateNumbers where mode != .origin {
      // Setting autowrap or cursor blinking again is harmless; origin would move the cursor.
      if modes.contains(mode) != Modes.initial.contains(mode) {
        out.text("\u{1B}[?\(number)\(modes.contains(mode) ? "h" : "l")")
      }
    }
    for number: UInt16 in [2, 4, 12, 20] {
      guard let mode = Modes.ansi(number) else { continue }
      if modes.contains(mode) != Modes.initial.contains(mode) {
        out.text("\u{1B}[\(number)\(modes.contains(mode) ? "h" : "l")")
      }
    }
    if mouseTracking != .off { out.text("\u{1B}[?\(mouseTracking.rawValue)h") }
    if mouseEncoding != .legacy { out.text("\u{1B}[?\(mouseEncoding.rawValue)h") }
    if modifyOtherKeys != 0 { out.text("\u{1B}[>4;\(modifyOtherKeys)m") }
    if cursorShape != .standard { out.text("\u{1B}[\(cursorShapeNumber) q") }
    if !iconTitle.isEmpty { out.text("\u{1B}]1;\(iconTitle)\u{1B}\\") }
    if !title.isEmpty { out.text("\u{1B}]2;\(title)\u{1B}\\") }
    if !parser.decodesUTF8 { out.text("\u{1B}%@") }
  }
}

/// Collects escape sequences and remembers the style that they left.
private struct EscapeWriter {
  var bytes: [UInt8] = []
  private let clusters: GraphemeTable
  private var pen = Pen()

  init(clusters: GraphemeTable) { self.clusters = clusters }

  mutating func text(_ text: String) { bytes.append(contentsOf: text.utf8) }

  mutating func style(_ new: Pen) {
    guard new != pen else { return }
    if new.attributes.contains(.protected) != pen.attributes.contains(.protected) {
      text("\u{1B}[\(new.attributes.contains(.protected) ? 1 : 0)\"q")
    }
    text("\u{1B}[\(VirtualTerminal.renditionParameters(new))m")
    pen = new
  }

  /// Lines one below the other; wrapped ones without a line end between them, so that they stay one line there too.
  mutating func lines(of grid: Grid, from first: Int, upTo end: Int) {
    for line in first..<end {
      let wraps = Self.wraps(grid, line: line, end: end)
      cells(of: grid, line: line, full: wraps)
      // Wrapping filled the new line with the background of its first character.
      if line > first, Self.wraps(grid, line: line - 1, end: end), !wraps {
        let cells = grid.lineCells(line)
        if cells.first?.background != .standard, grid.usedColumns(line: line) < grid.columns {
          style(Pen())
          text("\u{1B}[K")
        }
      }
      if !wraps && line + 1 < end {
        style(Pen())
        text("\r\n")
      }
    }
  }

  /// Whether a line goes on in the next and that has a character to make it wrap.
  private static func wraps(_ grid: Grid, line: Int, end: Int) -> Bool {
    line + 1 < end && grid.wraps[grid.ringIndex(line: line)] && grid.usedColumns(line: line + 1) > 0
  }

  /// The used cells of a line; with `full` all of them, so that the next character wraps.
  mutating func cells(of grid: Grid, line: Int, full: Bool = false) {
    let slice = grid.lineCells(line)
    let count = full ? grid.columns : grid.usedColumns(line: line)
    for cell in slice.prefix(count) where !cell.isTail { self.cell(cell) }
  }

  mutating func cell(_ cell: Cell) {
    style(
      Pen(
        foreground: cell.foreground, background: cell.background, attributes: cell.attributes))
    for value in clusters.scalars(of: cell.content) {
      if let scalar = Unicode.Scalar(value) { bytes.append(contentsOf: UTF8.encode(scalar)!) }
    }
  }

  /// Writes the last character of a row again, so that the cursor waits behind it.
  mutating func lastColumn(of grid: Grid, row: Int, top: Int) {
    var column = grid.columns - 1
    if grid[row, column].isTail { column -= 1 }
    text("\u{1B}[\(max(row - top, 0) + 1);\(column + 1)H")
    cell(grid[row, column])
  }

  /// Makes place, style, sets and origin mode those of a saved cursor. The margins are at the edges.
  mutating func place(_ saved: SavedCursor, on grid: Grid) {
    if saved.origin { text("\u{1B}[?6h") }
    if saved.wrapsNext {
      lastColumn(of: grid, row: saved.row, top: 0)
    } else {
      text("\u{1B}[\(saved.row + 1);\(saved.column + 1)H")
    }
    style(saved.pen)
    sets(saved.sets)
  }

  mutating func sets(_ sets: CharacterSets) {
    for slot in 0..<4 {
      bytes.append(0x1B)
      bytes.append(contentsOf: sets[slot].designation(slot: slot))
    }
    text(["\u{0F}", "\u{0E}", "\u{1B}n", "\u{1B}o"][sets.left])
    text(["\u{1B}}", "\u{1B}~", "\u{1B}}", "\u{1B}|"][sets.right])
  }

  mutating func tabs(_ tabs: TabStops, columns: Int) {
    guard tabs != TabStops() else { return }
    text("\u{1B}[3g")
    for column in 0..<columns where tabs.isSet(column) { text("\u{1B}[1;\(column + 1)H\u{1B}H") }
  }
}
