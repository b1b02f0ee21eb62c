// DECSET and DECRST, the alternate screen among them.

extension VirtualTerminal {
  /// DECSET or DECRST of one mode. Unknown ones are ignored.
  mutating func setPrivateMode(_ number: UInt16, _ on: Bool) {
    if let mode = Modes.privateMode(number) {
      setMode(mode, on)
      modeDidChange(mode, on)
      return
    }
    switch number {
    case 3:
      // DECCOLM: the size is not ours to change, but the screen is cleared as the standard says.
      topMargin = 0
      bottomMargin = rows - 1
      setMode(.origin, false)
      moveTo(row: 0, column: 0)
      eraseInDisplay(2)
    case 9, 1000, 1002, 1003:
      if on {
        mouseTracking = MouseTracking(rawValue: number) ?? .off
      } else {
        mouseTracking = .off
      }
    case 1005, 1006, 1015:
      if on {
        mouseEncoding = MouseEncoding(rawValue: number) ?? .legacy
      } else if mouseEncoding.rawValue == number {
        mouseEncoding = .legacy
      }
    case 47: useAlternateScreen(on)
    case 1047:
      if !on && showsAlternateScreen { clearAlternateScreen() }
      useAlternateScreen(on)
    case 1048: if on { saveCursor() } else { restoreCursor() }
    case 1049:
      if on {
        guard !showsAlternateScreen else { return }
        saveCursor()
        useAlternateScreen(true)
        clearAlternateScreen()
      } else if showsAlternateScreen {
        useAlternateScreen(false)
        restoreCursor()
      }
    default: break
    }
  }

  private mutating func modeDidChange(_ mode: Modes, _ on: Bool) {
    switch mode {
    case .origin: moveTo(row: 0, column: 0)
    case .autowrap: if !on { cursor.wrapsNext = false }
    case .reverseVideo: damage.everything = true
    case .cursorVisible, .cursorBlinking: damage.cursor = true
    default: break
    }
  }

  /// Whether a private mode is set; nil for those we do not know.
  func privateModeIsSet(_ number: UInt16) -> Bool? {
    if let mode = Modes.privateMode(number) { return modes.contains(mode) }
    switch number {
    case 9, 1000, 1002, 1003: return mouseTracking.rawValue == number
    case 1005, 1006, 1015: return mouseEncoding.rawValue == number
    case 47, 1047, 1049: return showsAlternateScreen
    default: return nil
    }
  }

  /// DECRQM.
  mutating func reportMode(_ number: UInt16, isPrivate: Bool) {
    let isSet: Bool?
    if isPrivate {
      isSet = privateModeIsSet(number)
    } else {
      isSet = Modes.ansi(number).map(modes.contains)
    }
    let value = isSet.map { $0 ? 1 : 2 } ?? (isPrivate && number == 3 ? 4 : 0)
    answer("\u{1B}[\(isPrivate ? "?" : "")\(number);\(value)$y")
  }

  /// Shows one screen or the other. The cursor's place is common to both, what DECSC saved is not.
  mutating func useAlternateScreen(_ on: Bool) {
    guard on != showsAlternateScreen else { return }
    swap(&grid, &otherGrid)
    swap(&saved, &otherSaved)
    showsAlternateScreen = on
    damage.everything = true
  }

  private mutating func clearAlternateScreen() {
    for row in 0..<rows { grid.clear(row: row, with: pen.blank) }
    damage.everything = true
  }

  // MARK: Size

  /// Changes the size. The main screen reflows, its scrollback takes or gives rows; the alternate screen is clipped.
  /// Margins go back to the edges.
  public mutating func resize(columns: Int, rows: Int) {
    let columns = Self.clamp(columns, Self.columnRange)
    let rows = Self.clamp(rows, Self.rowRange)
    guard columns != self.columns || rows != self.rows else { return }
    if showsAlternateScreen {
      grid = grid.clipped(columns: columns, rows: rows)
      // On the main screen the place to keep is the one that leaving the alternate screen returns to.
      var place = Grid.Place(row: otherSaved.row, column: otherSaved.column)
      otherGrid = otherGrid.reflowed(columns: columns, rows: rows, cursor: &place)
      otherSaved.row = place.row
      otherSaved.column = place.column
    } else {
      var place = Grid.Place(row: cursor.row, column: cursor.column)
      grid = grid.reflowed(columns: columns, rows: rows, cursor: &place)
      otherGrid = otherGrid.clipped(columns: columns, rows: rows)
      cursor.row = place.row
      cursor.column = place.column
    }
    cursor.row = min(cursor.row, rows - 1)
    cursor.column = min(cursor.column, columns - 1)
    cursor.wrapsNext = false
    saved = clipped(saved)
    otherSaved = clipped(otherSaved)
    topMargin = 0
    bottomMargin = rows - 1
    damage = Damage(rows: rows)
  }

  private func clipped(_ saved: SavedCursor) -> SavedCursor {
    var saved = saved
    saved.row = min(saved.row, rows - 1)
    saved.column = min(saved.column, columns - 1)
    saved.wrapsNext = false
    return saved
  }
}
