// The cursor and the scrolling region.

extension VirtualTerminal {
  /// Rows that addressing may reach: the scrolling region in origin mode, else the screen.
  private var addressableRows: ClosedRange<Int> {
    modes.contains(.origin) ? topMargin...bottomMargin : 0...rows - 1
  }

  /// CUP: row and column counted from 0, in origin mode from the top margin.
  mutating func moveTo(row: Int, column: Int) {
    let range = addressableRows
    cursor.row = min(max(range.lowerBound + row, range.lowerBound), range.upperBound)
    cursor.column = min(max(column, 0), columns - 1)
    cursor.wrapsNext = false
  }

  mutating func moveTo(column: Int) {
    cursor.column = min(max(column, 0), columns - 1)
    cursor.wrapsNext = false
  }

  /// VPA and VPR.
  mutating func moveTo(row: Int) {
    let range = addressableRows
    cursor.row = min(max(row, range.lowerBound), range.upperBound)
    cursor.wrapsNext = false
  }

  /// CUU: stops at the top margin when it starts below it.
  mutating func moveUp(_ count: Int) {
    let limit = cursor.row >= topMargin ? topMargin : 0
    cursor.row = max(cursor.row - count, limit)
    cursor.wrapsNext = false
  }

  /// CUD: stops at the bottom margin when it starts above it.
  mutating func moveDown(_ count: Int) {
    let limit = cursor.row <= bottomMargin ? bottomMargin : rows - 1
    cursor.row = min(cursor.row + count, limit)
    cursor.wrapsNext = false
  }

  mutating func carriageReturn() {
    cursor.column = 0
    cursor.wrapsNext = false
  }

  mutating func backspace() {
    if cursor.column > 0 {
      // With reverse wrap the position past the edge counts.
      if cursor.wrapsNext && modes.contains(.reverseWrap) {
        cursor.wrapsNext = false
        return
      }
      cursor.column -= 1
    } else if modes.contains(.reverseWrap), modes.contains(.autowrap), cursor.row > topMargin,
      grid.wraps(row: cursor.row - 1)
    {
      cursor.row -= 1
      cursor.column = columns - 1
    }
    cursor.wrapsNext = false
  }

  mutating func tabForward(_ count: Int) {
    for _ in 0..<min(count, columns) where cursor.column < columns - 1 {
      cursor.column = tabs.next(after: cursor.column, columns: columns)
    }
  }

  mutating func tabBackward(_ count: Int) {
    for _ in 0..<min(count, columns) { cursor.column = tabs.previous(before: cursor.column) }
    cursor.wrapsNext = false
  }

  /// IND: down a row; at the bottom margin the region scrolls.
  mutating func index() {
    cursor.wrapsNext = false
    if cursor.row == bottomMargin {
      scrollUp(1)
    } else if cursor.row < rows - 1 {
      cursor.row += 1
    }
  }

  /// RI: up a row; at the top margin the region scrolls down.
  mutating func reverseIndex() {
    cursor.wrapsNext = false
    if cursor.row == topMargin {
      scrollDown(1)
    } else if cursor.row > 0 {
      cursor.row -= 1
    }
  }

  /// SU.
  mutating func scrollUp(_ count: Int) {
    if topMargin == 0 && bottomMargin == rows - 1 {
      if count == 1 {
        grid.scrollScreenUp(clearingWith: pen.blank)
        damage.everything = true
        return
      }
      damage.everything = true
    } else {
      damage.mark(rows: topMargin...bottomMargin)
    }
    grid.scrollUp(
      top: topMargin, bottom: bottomMargin, count: count, clearingWith: pen.blank,
      keepingHistory: !showsAlternateScreen)
  }

  /// SD.
  mutating func scrollDown(_ count: Int) {
    grid.scrollDown(top: topMargin, bottom: bottomMargin, count: count, clearingWith: pen.blank)
    damage.mark(rows: topMargin...bottomMargin)
  }

  /// DECSTBM: rows counted from 1; 0 is the edge.
  mutating func setMargins(top: Int, bottom: Int) {
    let top = max(top, 1) - 1
    let bottom = (bottom == 0 ? rows : min(bottom, rows)) - 1
    guard top < bottom || rows == 1 && top == bottom else { return }
    topMargin = top
    bottomMargin = bottom
    moveTo(row: 0, column: 0)
  }

  mutating func saveCursor() {
    saved = SavedCursor(
      row: cursor.row, column: cursor.column, wrapsNext: cursor.wrapsNext, pen: pen, sets: sets,
      origin: modes.contains(.origin))
  }

  mutating func restoreCursor() {
    cursor.row = min(saved.row, rows - 1)
    cursor.column = min(saved.column, columns - 1)
    cursor.wrapsNext = saved.wrapsNext && cursor.column == columns - 1
    pen = saved.pen
    sets = saved.sets
    setMode(.origin, saved.origin)
  }

  mutating func setMode(_ mode: Modes, _ on: Bool) {
    if on { modes.insert(mode) } else { modes.remove(mode) }
  }
}
