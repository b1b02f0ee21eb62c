import VirtualTerminal

/// Which of a machine's consoles: a serial port, or the display with the keyboard.
package enum ConsoleSource: Hashable, Sendable {
  /// COM1 is 0.
  case serial(Int)
  case display

  package var label: String {
    switch self {
    case .serial(let port): "COM\(port + 1)"
    case .display: "display"
    }
  }
}

/// An open console: the guest's screen as this client has parsed it, and how it is looked at.
///
/// What the guest prints ends in the cells of a `VirtualTerminal`; none of its escape sequences can reach the user's
/// terminal. Questions of the guest are answered by the host process, so answers made here are thrown away.
package struct ConsolePane: Sendable {
  package enum State: Equatable, Sendable {
    case connecting
    case open
    /// The host closed it, with the reason; what was printed stays readable.
    case closed(String)
  }

  package let number: ConsoleNumber
  package let machine: String
  package let source: ConsoleSource
  package var state = State.connecting
  package private(set) var terminal: VirtualTerminal
  /// The machine was off when or after the console closed: it is opened again at the next start.
  package var waitsForStart = false
  /// The prefix key was pressed: the next key is for us.
  package var isPrefixArmed = false
  /// Keys do not reach the guest.
  package var isWatchOnly = false
  /// Looking at what was printed before: the first line shown, counted from the first line ever printed.
  package private(set) var scrollAnchor: UInt64?
  /// The cursor and selection of copy mode; nil also while the wheel only scrolls back.
  package var copyMode: CopyMode?
  /// Something was printed while the view was scrolled back.
  package private(set) var hasNews = false
  /// The bells that were rung on the user's terminal already.
  private var bells: UInt64 = 0

  package init(
    number: ConsoleNumber, machine: String, source: ConsoleSource = .serial(0), size: Size
  ) {
    self.number = number
    self.machine = machine
    self.source = source
    terminal = VirtualTerminal(columns: size.columns, rows: size.rows)
  }

  /// Whether what is typed reaches the guest, perhaps a little later.
  package var takesKeys: Bool { state == .open || state == .connecting }

  package var size: Size { Size(columns: terminal.columns, rows: terminal.rows) }

  /// Takes what the guest printed. Returns true when it rang the bell.
  package mutating func feed(_ bytes: [UInt8]) -> Bool {
    terminal.feed(bytes)
    _ = terminal.drainAnswers()
    if scrollAnchor != nil { hasNews = true }
    if let copyMode {
      // Lines that are forgotten take the cursor along.
      let oldest = oldestLine
      if copyMode.cursor.line < oldest { self.copyMode?.cursor.line = oldest }
      if let anchor = copyMode.anchor, anchor.line < oldest { self.copyMode?.anchor?.line = oldest }
    }
    defer { bells = terminal.bellCount }
    return terminal.bellCount != bells
  }

  /// A new screen of this size, empty: the host is going to send what was printed.
  package mutating func restart(size: Size) {
    terminal = VirtualTerminal(columns: size.columns, rows: size.rows)
    bells = 0
    endScrolling()
  }

  /// What the guest put on the clipboard since the last call, as base64.
  package mutating func drainClipboard() -> String? { terminal.drainClipboard() }

  /// The cells of a line, counted from the first line ever printed; none where it is not kept.
  package func cells(of line: UInt64) -> ArraySlice<Cell> {
    let first = terminal.scrolledLineCount
    if line >= first {
      return line - first < UInt64(terminal.rows) ? terminal.cells(row: Int(line - first)) : []
    }
    return line >= oldestLine ? terminal.line(Int(line - oldestLine)) : []
  }

  // MARK: Scrolling back

  /// The first line shown while scrolled back.
  package var topLine: UInt64 {
    max(scrollAnchor ?? terminal.scrolledLineCount, oldestLine)
  }

  /// Lines between the view and now; 0 when not scrolled back.
  package var scrollDistance: Int {
    guard scrollAnchor != nil else { return 0 }
    let first = topLine
    return first >= terminal.scrolledLineCount ? 0 : Int(terminal.scrolledLineCount - first)
  }

  package var isScrolledBack: Bool { scrollAnchor != nil }

  package mutating func beginScrolling() {
    if scrollAnchor == nil { scrollAnchor = terminal.scrolledLineCount }
  }

  /// Begins copy mode where the guest's cursor stands, or in the middle of what is seen when scrolled back.
  package mutating func beginCopyMode() {
    guard copyMode == nil else { return }
    let line =
      scrollAnchor == nil
      ? terminal.scrolledLineCount + UInt64(terminal.cursor.row) : topLine
    beginScrolling()
    copyMode = CopyMode(
      cursor: .init(line: line, column: min(terminal.columns - 1, terminal.cursor.column)))
  }

  package mutating func endScrolling() {
    scrollAnchor = nil
    copyMode = nil
    hasNews = false
  }

  /// Moves the view by lines, up for negative numbers. The view stays scrolled back at the bottom.
  package mutating func scroll(by lines: Int) {
    beginScrolling()
    let distance = min(terminal.scrollbackCount, max(0, scrollDistance - lines))
    scrollAnchor = terminal.scrolledLineCount - UInt64(distance)
  }

  /// Scrolls so far that the cursor of copy mode is seen.
  package mutating func showCopyCursor(page: Int) {
    guard let cursor = copyMode?.cursor else { return }
    let page = UInt64(max(1, page))
    if cursor.line < topLine { scrollAnchor = cursor.line }
    if cursor.line >= topLine + page { scrollAnchor = cursor.line + 1 - page }
  }
}
