import VirtualTerminal

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

  /// What it shows of the machine.
  package enum Kind: Sendable { case serial, display }

  package let number: ConsoleNumber
  package let kind: Kind
  package let machine: String
  package var state = State.connecting
  package private(set) var terminal: VirtualTerminal
  /// The machine was off when or after the console closed: it is opened again at the next start.
  package var waitsForStart = false
  /// The prefix key was pressed: the next key is for us.
  package var isPrefixArmed = false
  /// Looking at what was printed before: the first line shown, counted from the first line ever printed.
  package private(set) var scrollAnchor: UInt64?
  /// Something was printed while the view was scrolled back.
  package private(set) var hasNews = false
  /// The bells that were rung on the user's terminal already.
  private var bells: UInt64 = 0

  package init(number: ConsoleNumber, machine: String, size: Size, kind: Kind = .serial) {
    self.kind = kind
    self.number = number
    self.machine = machine
    terminal = VirtualTerminal(columns: size.columns, rows: size.rows)
  }

  package var size: Size { Size(columns: terminal.columns, rows: terminal.rows) }

  /// Takes what the guest printed. Returns true when it rang the bell.
  package mutating func feed(_ bytes: [UInt8]) -> Bool {
    terminal.feed(bytes)
    _ = terminal.drainAnswers()
    if scrollAnchor != nil { hasNews = true }
    defer { bells = terminal.bellCount }
    return terminal.bellCount != bells
  }

  /// A new screen of this size, empty: the host is going to send what was printed.
  package mutating func restart(size: Size) {
    terminal = VirtualTerminal(columns: size.columns, rows: size.rows)
    bells = 0
    scrollAnchor = nil
    hasNews = false
  }

  /// What the guest put on the clipboard since the last call, as base64.
  package mutating func drainClipboard() -> String? { terminal.drainClipboard() }

  // MARK: Scrolling back

  /// Number of the oldest line that is kept.
  private var oldestLine: UInt64 { terminal.scrolledLineCount - UInt64(terminal.scrollbackCount) }

  /// Lines between the view and now; 0 when not scrolled back.
  package var scrollDistance: Int {
    guard let scrollAnchor else { return 0 }
    let first = max(scrollAnchor, oldestLine)
    return first >= terminal.scrolledLineCount ? 0 : Int(terminal.scrolledLineCount - first)
  }

  package var isScrolledBack: Bool { scrollAnchor != nil }

  package mutating func beginScrolling() {
    if scrollAnchor == nil { scrollAnchor = terminal.scrolledLineCount }
  }

  package mutating func endScrolling() {
    scrollAnchor = nil
    hasNews = false
  }

  /// Moves the view by lines, up for negative numbers. The view stays scrolled back at the bottom.
  package mutating func scroll(by lines: Int) {
    beginScrolling()
    let distance = min(terminal.scrollbackCount, max(0, scrollDistance - lines))
    scrollAnchor = terminal.scrolledLineCount - UInt64(distance)
  }
}
