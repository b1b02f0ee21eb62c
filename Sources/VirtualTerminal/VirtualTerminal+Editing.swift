// Erasing, inserting and deleting.

extension VirtualTerminal {
  /// ED and DECSED: 0 from the cursor on, 1 up to it, 2 all, 3 the scrollback.
  mutating func eraseInDisplay(_ part: UInt16, selective: Bool = false) {
    cursor.wrapsNext = false
    switch part {
    case 0:
      if cursor.row == 0 && cursor.column == 0 && !selective { keepScreen() }
      eraseInLine(0, selective: selective)
      if cursor.row + 1 < rows { erase(rows: cursor.row + 1..<rows, selective: selective) }
    case 1:
      erase(rows: 0..<cursor.row, selective: selective)
      eraseInLine(1, selective: selective)
    case 2:
      if !selective { keepScreen() }
      erase(rows: 0..<rows, selective: selective)
    case 3:
      if showsAlternateScreen { otherGrid.clearHistory() } else { grid.clearHistory() }
      damage.everything = true
    default: break
    }
  }

  /// A boot loader or a `clear` must not take from the user what was on the screen: it goes to the scrollback.
  private mutating func keepScreen() {
    guard !showsAlternateScreen, grid.limit > 0 else { return }
    for _ in 0..<grid.usedRows { grid.scrollScreenUp(clearingWith: .blank) }
    damage.everything = true
  }

  private mutating func erase(rows range: Range<Int>, selective: Bool) {
    for row in range {
      if selective {
        grid.fill(row: row, 0..<columns, with: pen.blank, sparingProtected: true)
      } else {
        grid.clear(row: row, with: pen.blank)
      }
      damage.mark(row: row)
    }
  }

  /// EL and DECSEL: 0 from the cursor on, 1 up to it, 2 the whole line.
  mutating func eraseInLine(_ part: UInt16, selective: Bool = false) {
    cursor.wrapsNext = false
    let range: Range<Int>
    switch part {
    case 0: range = cursor.column..<columns
    case 1: range = 0..<cursor.column + 1
    case 2: range = 0..<columns
    default: return
    }
    grid.fill(row: cursor.row, range, with: pen.blank, sparingProtected: selective)
    damage.mark(row: cursor.row)
  }

  /// ECH.
  mutating func eraseCharacters(_ count: Int) {
    cursor.wrapsNext = false
    let end = min(cursor.column + count, columns)
    grid.fill(row: cursor.row, cursor.column..<end, with: pen.blank)
    damage.mark(row: cursor.row)
  }

  /// ICH.
  mutating func insertCharacters(_ count: Int) {
    cursor.wrapsNext = false
    grid.insertCells(row: cursor.row, column: cursor.column, count: count, with: pen.blank)
    damage.mark(row: cursor.row)
  }

  /// DCH.
  mutating func deleteCharacters(_ count: Int) {
    cursor.wrapsNext = false
    grid.deleteCells(row: cursor.row, column: cursor.column, count: count, with: pen.blank)
    damage.mark(row: cursor.row)
  }

  /// IL: only inside the scrolling region; the cursor goes to the left edge.
  mutating func insertLines(_ count: Int) {
    guard topMargin...bottomMargin ~= cursor.row else { return }
    grid.scrollDown(top: cursor.row, bottom: bottomMargin, count: count, clearingWith: pen.blank)
    damage.mark(rows: cursor.row...bottomMargin)
    carriageReturn()
  }

  /// DL.
  mutating func deleteLines(_ count: Int) {
    guard topMargin...bottomMargin ~= cursor.row else { return }
    grid.scrollUp(
      top: cursor.row, bottom: bottomMargin, count: count, clearingWith: pen.blank,
      keepingHistory: false)
    damage.mark(rows: cursor.row...bottomMargin)
    carriageReturn()
  }

  /// SL and SR (ECMA-48): the rows of the region move sideways.
  mutating func shiftColumns(_ count: Int, left: Bool) {
    for row in topMargin...bottomMargin {
      if left {
        grid.deleteCells(row: row, column: 0, count: count, with: pen.blank)
      } else {
        grid.insertCells(row: row, column: 0, count: count, with: pen.blank)
      }
    }
    damage.mark(rows: topMargin...bottomMargin)
  }

  /// REP: the last character again; more than a screenful would only scroll.
  mutating func repeatCharacter(_ count: Int) {
    guard let last = lastPrinted else { return }
    for _ in 0..<min(count, rows * columns) { print(last) }
  }

  /// DECALN: the screen full of E, margins and origin mode reset.
  mutating func fillWithAlignmentPattern() {
    topMargin = 0
    bottomMargin = rows - 1
    setMode(.origin, false)
    moveTo(row: 0, column: 0)
    var cell = Cell.blank
    cell.content = 0x45
    for row in 0..<rows { grid.clear(row: row, with: cell) }
    damage.everything = true
  }
}
