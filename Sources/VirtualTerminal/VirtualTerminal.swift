// The terminal that a guest talks to: a VT220 with xterm's 256-colour additions, as `TERM=vt220` and `xterm-256color`
// describe them. It is a value: bytes in, cells out, no clock, thread or descriptor; so it can be saved with a snapshot,
// compared, copied for a viewer and fuzzed.
//
// Sources: VT220 Programmer Reference Manual (EK-VT220-RM), ECMA-48, xterm's "Control Sequences". What it leaves out:
// VT52 mode, double-size lines, DECUDK and soft fonts, left and right margins, sixel. 132 columns (DECCOLM) clears the
// screen but the size stays: it belongs to the owner.

/// A terminal's whole state.
public struct VirtualTerminal: Sendable {
  /// Widths a terminal can have; others are clamped.
  public static let columnRange = 1...1024
  /// Heights a terminal can have; others are clamped.
  public static let rowRange = 1...1024
  /// Limits of scrollback lines; others are clamped.
  public static let scrollbackRange = 0...1_000_000

  /// The screen in use.
  var grid: Grid
  /// The screen not in use: the alternate one, or while that is shown the main one.
  var otherGrid: Grid
  /// Whether `grid` is the alternate screen.
  public internal(set) var showsAlternateScreen = false
  public internal(set) var cursor = Cursor()
  var pen = Pen()
  var sets = CharacterSets()
  /// DECSC of the screen in use, and of the other.
  var saved = SavedCursor()
  var otherSaved = SavedCursor()
  public internal(set) var modes = Modes.initial
  public internal(set) var mouseTracking = MouseTracking.off
  public internal(set) var mouseEncoding = MouseEncoding.legacy
  public internal(set) var cursorShape = CursorShape.standard
  /// xterm's modifyOtherKeys (0, 1 or 2).
  public internal(set) var modifyOtherKeys: UInt8 = 0
  /// First and last row of the scrolling region.
  var topMargin = 0
  var bottomMargin: Int
  var tabs = TabStops()
  var savedModes: [UInt16: Bool] = [:]
  var parser = Parser()
  var clusters = GraphemeTable()
  /// Clusters that may still be refused before the table is searched again for unused ones.
  var clusterCollectionDelay = 0
  /// What REP repeats.
  var lastPrinted: UInt32?

  /// The window title (OSC 0 and 2).
  public internal(set) var title = ""
  /// The icon's title (OSC 0 and 1).
  public internal(set) var iconTitle = ""
  var titleStack: [String] = []
  /// Bells since the terminal was made.
  public internal(set) var bellCount: UInt64 = 0
  /// The text that the guest last put on the clipboard (OSC 52), base64; `drainClipboard` takes it.
  var clipboard: String?
  var answers: [UInt8] = []
  var damage: Damage

  /// Answers that nobody drains are kept up to this many bytes, later ones are dropped.
  static let maximumAnswers = 4096
  static let maximumTitle = 512
  static let maximumTitleStack = 16

  /// A terminal as it is after power on.
  public init(columns: Int = 80, rows: Int = 24, scrollbackLimit: Int = 10_000) {
    let columns = Self.clamp(columns, Self.columnRange)
    let rows = Self.clamp(rows, Self.rowRange)
    grid = Grid(
      columns: columns, rows: rows, limit: Self.clamp(scrollbackLimit, Self.scrollbackRange))
    otherGrid = Grid(columns: columns, rows: rows, limit: 0)
    bottomMargin = rows - 1
    damage = Damage(rows: rows)
  }

  static func clamp(_ value: Int, _ range: ClosedRange<Int>) -> Int {
    min(max(value, range.lowerBound), range.upperBound)
  }

  public var columns: Int { grid.columns }
  public var rows: Int { grid.rows }
  /// The grid of the main screen, which owns the scrollback.
  var mainGrid: Grid { showsAlternateScreen ? otherGrid : grid }
  /// Lines of scrollback that can be read.
  public var scrollbackCount: Int { showsAlternateScreen ? otherGrid.history : grid.history }
  public var scrollbackLimit: Int { showsAlternateScreen ? otherGrid.limit : grid.limit }
  /// Lines that ever left the top of the main screen. Minus `scrollbackCount` it is the number of the oldest line that
  /// is left, so a viewer can hold on to a line while others come and go.
  public var scrolledLineCount: UInt64 {
    showsAlternateScreen ? otherGrid.scrolledLines : grid.scrolledLines
  }

  // MARK: Reading

  /// The cell at a place of the screen; blank outside it.
  public func cell(row: Int, column: Int) -> Cell {
    guard 0..<rows ~= row, 0..<columns ~= column else { return .blank }
    return grid[row, column]
  }

  /// The cells of a row of the screen, left to right; none outside it.
  public func cells(row: Int) -> ArraySlice<Cell> {
    0..<rows ~= row ? grid.rowCells(row) : []
  }

  /// The cells of a line of the scrollback, 0 the oldest; none outside it.
  public func line(_ index: Int) -> ArraySlice<Cell> {
    guard 0..<scrollbackCount ~= index else { return [] }
    return showsAlternateScreen ? otherGrid.lineCells(index) : grid.lineCells(index)
  }

  /// Whether a row's text goes on in the row below without a line end.
  public func isWrapped(row: Int) -> Bool { 0..<rows ~= row && grid.wraps(row: row) }

  /// Whether a line of the scrollback goes on in the next.
  public func isWrapped(line index: Int) -> Bool {
    guard 0..<scrollbackCount ~= index else { return false }
    let grid = mainGrid
    return grid.wraps[grid.ringIndex(line: index)]
  }

  /// The characters of a cell: empty for the right half of a wide one.
  public func text(of cell: Cell) -> String {
    if cell.isTail { return "" }
    var view = String.UnicodeScalarView()
    if cell.isCluster {
      for scalar in clusters.scalars(of: cell.content) {
        if let scalar = Unicode.Scalar(scalar) { view.append(scalar) }
      }
    } else if let scalar = Unicode.Scalar(cell.content) {
      view.append(scalar)
    }
    return String(view)
  }

  /// The text of cells without the spaces at the end.
  public func text(of cells: ArraySlice<Cell>) -> String {
    var end = cells.endIndex
    while end > cells.startIndex, cells[end - 1].isSpace { end -= 1 }
    return cells[cells.startIndex..<end].reduce(into: "") { $0 += text(of: $1) }
  }

  /// The screen as lines of text, spaces at their ends cut off.
  public func text() -> String {
    (0..<rows).map { text(of: cells(row: $0)) }.joined(separator: "\n")
  }

  /// The scrollback as lines of text.
  public func scrollbackText() -> String {
    (0..<scrollbackCount).map { text(of: line($0)) }.joined(separator: "\n")
  }

  // MARK: Draining

  /// Takes the bytes that the terminal answers to the guest's questions.
  public mutating func drainAnswers() -> [UInt8] {
    defer { answers.removeAll(keepingCapacity: true) }
    return answers
  }

  /// Takes the record of what has to be drawn again.
  public mutating func drainDamage() -> Damage {
    defer { damage.reset() }
    return damage
  }

  /// Takes what the guest put on the clipboard since the last call, as base64.
  public mutating func drainClipboard() -> String? {
    defer { clipboard = nil }
    return clipboard
  }

  /// Appends to the answers, as long as somebody drains them.
  mutating func answer(_ text: String) {
    guard answers.count + text.utf8.count <= Self.maximumAnswers else { return }
    answers.append(contentsOf: text.utf8)
  }
}
