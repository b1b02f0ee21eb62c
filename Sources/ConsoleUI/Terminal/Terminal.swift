import CLinux
import CNcurses
import Platform

/// Why the console can not be opened. One line with what to do.
package enum TerminalError: Error, Equatable, CustomStringConvertible {
  case notATerminal
  case tooDumb(String)
  case failed(String)

  package var description: String {
    switch self {
    case .notATerminal:
      "the console needs a terminal on standard input and output; `uj status` prints the list"
    case .tooDumb(let type):
      "a terminal of type '\(type)' can not move its cursor; `uj status` prints the list"
    case .failed(let text): text
    }
  }
}

/// The user's terminal. The only file that calls ncurses: canvases go out through one `doupdate`, which sends what
/// changed; input is read and decoded by us.
package final class Terminal {
  package private(set) var depth = ColorDepth.monochrome
  package let environment: TerminalEnvironment
  /// Something that the user should know, such as an unknown terminal type.
  package private(set) var notice: String?

  private var screen: OpaquePointer?
  private var originalModes = termios()
  private var shown: Canvas?
  private var pairs: [ColorPair: Int32] = [:]
  private var hasDefaultColors = false
  private var isActive = false
  private var usesMouse: Bool
  private var buffer: [cchar_t] = []
  private var errorCapture = ErrorCapture()

  private struct ColorPair: Hashable {
    var foreground: Int32
    var background: Int32
  }

  /// Takes the terminal over: alternate screen, raw input.
  package init(
    environment: TerminalEnvironment, variables: (String) -> String?, usesMouse: Bool
  ) throws(TerminalError) {
    self.environment = environment
    self.usesMouse = usesMouse && environment.hasExtensions
    guard isatty(STDIN_FILENO) == 1, isatty(STDOUT_FILENO) == 1 else {
      throw .notATerminal
    }
    if environment.type == "dumb" || environment.type.isEmpty { throw .tooDumb(environment.type) }
    guard tcgetattr(STDIN_FILENO, &originalModes) == 0 else { throw .notATerminal }
    if setlocale(LC_ALL, "") == nil || String(cString: nl_langinfo(nl_item(CODESET))) != "UTF-8" {
      setlocale(LC_CTYPE, "C.UTF-8")
    }
    try openScreen(variables)
    try setUp()
  }

  deinit { close() }

  // MARK: Opening and closing

  private func openScreen(_ variables: (String) -> String?) throws(TerminalError) {
    let type = environment.type
    if environment.wantsDirectColor, openDirect(type, variables) { return }
    for name in [type, "xterm-256color", "xterm", "vt100"] {
      guard let screen = ncurses_new_terminal(name) else { continue }
      self.screen = screen
      if name != type { notice = "terminal type '\(type)' is unknown here; taken for \(name)" }
      return
    }
    throw .failed("no description of terminal type '\(type)' is installed; try TERM=vt100")
  }

  /// Opens the terminal with an entry that knows 24-bit colours.
  private func openDirect(_ type: String, _ variables: (String) -> String?) -> Bool {
    guard let entry = TerminalEnvironment.compiledEntry(of: type, variables),
      let changed = DirectColorEntry.addingDirectColor(to: entry)
    else { return false }
    let old = variables("TERMINFO")
    let digits = changed.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    setenv("TERMINFO", "hex:" + digits, 1)
    defer {
      if let old { setenv("TERMINFO", old, 1) } else { unsetenv("TERMINFO") }
    }
    screen = ncurses_new_terminal(type)
    return screen != nil
  }

  private func setUp() throws(TerminalError) {
    let cup = tigetstr("cup")
    // (char *)-1 and NULL both say that the terminal has no such string.
    guard let cup, Int(bitPattern: cup) != -1 else {
      endwin()
      if let screen { delscreen(screen) }
      screen = nil
      throw .tooDumb(environment.type)
    }
    raw()
    noecho()
    nonl()
    isActive = true
    if start_color() == OK { hasDefaultColors = use_default_colors() == OK }
    depth = min(environment.depthLimit, Self.depth(colors: ncurses_colors()))
    errorCapture.begin()
    arm()
  }

  private static func depth(colors: Int32) -> ColorDepth {
    switch colors {
    case ..<8: .monochrome
    case ..<16: .eight
    case ..<256: .sixteen
    case ..<1024: .palette
    default: .direct
    }
  }

  /// Our modes of the terminal: paste marks, focus, mouse.
  private var modesOn: String {
    guard environment.hasExtensions else { return "" }
    return "\u{1B}[?2004h\u{1B}[?1004h"
      + (usesMouse ? "\u{1B}[?1000h\u{1B}[?1002h\u{1B}[?1006h" : "")
  }

  private var modesOff: String {
    guard environment.hasExtensions else { return "" }
    return "\u{1B}[?2026l\u{1B}[?1006l\u{1B}[?1002l\u{1B}[?1000l\u{1B}[?1004l\u{1B}[?2004l"
  }

  private func arm() {
    send(modesOn)
    let rescue =
      modesOff
      + (environment.hasExtensions ? "\u{1B}[?1l\u{1B}>\u{1B}[?7h\u{1B}[0m\u{1B}[?25h" : "")
      + (environment.hasExtensions ? "\u{1B}[?1049l\r\n" : "\u{1B}[0m\r\n")
    TerminalRescue.arm(
      modes: originalModes, text: Array(rescue.utf8), errorCopy: errorCapture.original)
  }

  /// Gives the terminal back as it was. Harmless when done already.
  package func close() {
    leave()
    if let screen { delscreen(screen) }
    screen = nil
    errorCapture.end()
  }

  private func leave() {
    guard isActive else { return }
    isActive = false
    send(modesOff)
    curs_set(1)
    endwin()
    tcsetattr(STDIN_FILENO, TCSADRAIN, &originalModes)
    TerminalRescue.disarm()
  }

  /// Gives the terminal back for a while, runs `body`, takes it over again.
  package func suspended(_ body: () -> Void) {
    leave()
    body()
    resume()
  }

  /// Takes the terminal over again after it was given back or someone else has used it.
  package func resume() {
    isActive = true
    arm()
    resize()
    repaint()
  }

  // MARK: Size

  package var size: Size {
    var columns: Int32 = 0
    var rows: Int32 = 0
    guard linux_window_size(STDOUT_FILENO, &columns, &rows) == 0, columns > 0, rows > 0 else {
      return Size(columns: 80, rows: 24)
    }
    return Size(columns: min(1024, Int(columns)), rows: min(1024, Int(rows)))
  }

  /// Follows the window's size; returns it.
  @discardableResult
  package func resize() -> Size {
    let size = size
    resizeterm(Int32(size.rows), Int32(size.columns))
    // What a terminal keeps of its screen when its size changes is its own affair.
    repaint()
    return size
  }

  /// Sends everything anew with the next canvas.
  package func repaint() {
    shown = nil
    clearok(ncurses_current_screen(), true)
  }

  // MARK: Drawing

  /// Shows a canvas. Nothing is sent when it is what the terminal shows already.
  package func show(_ canvas: Canvas) {
    guard isActive, canvas != shown else { return }
    let old = shown?.size == canvas.size ? shown : nil
    let columns = canvas.size.columns
    for row in 0..<canvas.size.rows {
      let range = (row * columns)..<((row + 1) * columns)
      if let old, old.cells[range] == canvas.cells[range] { continue }
      put(canvas.cells[range], row: row)
    }
    if let cursor = canvas.cursor {
      curs_set(1)
      wmove(ncurses_standard_window(), Int32(cursor.row), Int32(cursor.column))
    } else {
      curs_set(0)
    }
    shown = canvas
    let isSynchronized = environment.hasExtensions && depth >= .palette
    if isSynchronized { send("\u{1B}[?2026h") }
    wnoutrefresh(ncurses_standard_window())
    doupdate()
    if isSynchronized { send("\u{1B}[?2026l") }
  }

  private func put(_ cells: ArraySlice<CanvasCell>, row: Int) {
    buffer.removeAll(keepingCapacity: true)
    var lastStyle: Style?
    var looks: (attributes: attr_t, pair: Int32) = (0, 0)
    for cell in cells where cell.width > 0 {
      if cell.style != lastStyle {
        looks = (attributes(of: cell.style), pair(of: cell.style))
        lastStyle = cell.style
      }
      append(cell, looks.attributes, looks.pair)
    }
    _ = ncurses_put_cells(Int32(row), 0, buffer, Int32(buffer.count))
  }

  /// Adds the cell; where the C library thinks otherwise of its width, question marks of the right width.
  private func append(_ cell: CanvasCell, _ attributes: attr_t, _ pair: Int32) {
    var value = cchar_t()
    if let ascii = cell.text.asciiValue {
      withUnsafeTemporaryAllocation(of: wchar_t.self, capacity: 2) { text in
        text[0] = wchar_t(ascii)
        text[1] = 0
        _ = ncurses_set_cell(&value, text.baseAddress, attributes, pair)
      }
      buffer.append(value)
      return
    }
    withUnsafeTemporaryAllocation(of: wchar_t.self, capacity: 6) { text in
      var count = 0
      for scalar in cell.text.unicodeScalars {
        let character = wchar_t(bitPattern: scalar.value)
        let width = wcwidth(character)
        // A cell of curses holds a character and up to four marks.
        if count == 0 ? width != Int32(cell.width) : width != 0 { break }
        text[count] = character
        count += 1
        if count == 5 { break }
      }
      let isKnown = count > 0
      if !isKnown {
        text[0] = 0x3F
        count = 1
      }
      text[count] = 0
      _ = ncurses_set_cell(&value, text.baseAddress, attributes, pair)
      buffer.append(value)
      if !isKnown, cell.width == 2 { buffer.append(value) }
    }
  }

  private func attributes(of style: Style) -> attr_t {
    var bits: attr_t = 0
    let attributes = style.attributes
    if attributes.isEmpty { return 0 }
    if attributes.contains(.bold) { bits |= ncurses_bold() }
    if attributes.contains(.dim) { bits |= ncurses_dim() }
    if attributes.contains(.italic) { bits |= ncurses_italic() }
    if attributes.contains(.underline) { bits |= ncurses_underline() }
    if attributes.contains(.blink) { bits |= ncurses_blink() }
    if attributes.contains(.reverse) { bits |= ncurses_reverse() }
    if attributes.contains(.invisible) { bits |= ncurses_invisible() }
    return bits
  }

  private func pair(of style: Style) -> Int32 {
    guard depth > .monochrome else { return 0 }
    let key = ColorPair(
      foreground: number(of: style.foreground, standard: 7),
      background: number(of: style.background, standard: 0))
    if let pair = pairs[key] { return pair }
    // With few pairs curses uses old ones again, and colours on the screen would change with them.
    if depth <= .sixteen, pairs.count > 4096 { pairs.removeAll() }
    let pair = max(0, alloc_pair(key.foreground, key.background))
    pairs[key] = pair
    return pair
  }

  private func number(of color: Color, standard: Int32) -> Int32 {
    switch color.reduced(to: depth) {
    case .standard: return hasDefaultColors ? -1 : standard
    case .indexed(let index): return Int32(index)
    case .rgb(let red, let green, let blue):
      let value = Int32(red) << 16 | Int32(green) << 8 | Int32(blue)
      // Below 256 stand the colours of the palette: black-blues become a shade greener.
      return value < 256 ? value | 256 : value
    }
  }

  // MARK: Sequences besides curses

  package func bell() { beep() }

  /// Takes reports of the mouse, or leaves it to the user's terminal.
  package func useMouse(_ on: Bool) {
    guard environment.hasExtensions, on != usesMouse else { return }
    send("\u{1B}[?1006l\u{1B}[?1002l\u{1B}[?1000l")
    usesMouse = on
    arm()
  }

  /// Puts base64 text on the user's clipboard (xterm OSC 52).
  package func copy(_ text: String) {
    let isBase64 = text.utf8.allSatisfy { byte in
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
        || (0x61...0x7A).contains(byte) || [0x2B, 0x2F, 0x3D].contains(byte)
    }
    guard environment.hasExtensions, isBase64, text.utf8.count <= 100_000 else { return }
    send("\u{1B}]52;c;\(text)\u{07}")
  }

  private func send(_ text: String) {
    guard !text.isEmpty else { return }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count < 0 {
        if linux_error_number() == EINTR { continue }
        return
      }
      bytes = bytes.dropFirst(count)
    }
  }
}
