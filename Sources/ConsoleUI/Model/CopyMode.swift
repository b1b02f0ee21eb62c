import VirtualTerminal

/// A walk through what a guest has printed, with a cursor of its own, as in vi: search, select, copy. The guest's screen
/// goes on beneath.
package struct CopyMode: Equatable, Sendable {
  /// A cell by the number of its line, counted from the first line ever printed, and its column.
  package struct Place: Hashable, Comparable, Sendable {
    package var line: UInt64
    package var column: Int

    package static func < (a: Place, b: Place) -> Bool {
      (a.line, a.column) < (b.line, b.column)
    }
  }

  package enum Selection: Sendable {
    case characters, lines, block
  }

  package var cursor: Place
  /// The selection's other end.
  package var anchor: Place?
  package var selection = Selection.characters
  package var query = ""
  package var searchesForward = false

  package init(cursor: Place) {
    self.cursor = cursor
  }

  /// The columns of a line that are selected.
  package func selectedColumns(of line: UInt64, columns: Int) -> Range<Int>? {
    guard let anchor else { return nil }
    let (first, last) = (min(anchor, cursor), max(anchor, cursor))
    guard (first.line...last.line).contains(line), columns > 0 else { return nil }
    switch selection {
    case .lines: return 0..<columns
    case .block:
      let left = min(anchor.column, cursor.column)
      return left..<min(columns, max(anchor.column, cursor.column) + 1)
    case .characters:
      let start = line == first.line ? first.column : 0
      let end = line == last.line ? min(columns, last.column + 1) : columns
      return start < end ? start..<end : nil
    }
  }

  /// Begins to select, changes the kind of selection, or ends it.
  package mutating func select(_ kind: Selection) {
    if anchor != nil, selection == kind {
      anchor = nil
    } else {
      anchor = anchor ?? cursor
      selection = kind
    }
  }
}

extension ConsolePane {
  /// Number of the oldest line that is kept.
  package var oldestLine: UInt64 { terminal.scrolledLineCount - UInt64(terminal.scrollbackCount) }
  /// Number of the line at the bottom of the guest's screen.
  package var newestLine: UInt64 { terminal.scrolledLineCount + UInt64(terminal.rows - 1) }

  /// The characters of a line by columns; the right half of a wide one is empty.
  func characters(of line: UInt64) -> [String] {
    cells(of: line).map { terminal.text(of: $0) }
  }

  func text(of line: UInt64) -> String { terminal.text(of: cells(of: line)) }

  /// Moves the cursor and shows where it is.
  ///
  /// - Parameter page: Rows of the pane.
  package mutating func moveCopyCursor(_ action: Action, page: Int) {
    guard var mode = copyMode else { return }
    let place = mode.cursor
    func line(_ distance: Int) -> UInt64 {
      let target = Int64(clamping: place.line) + Int64(distance)
      return min(newestLine, max(oldestLine, UInt64(max(0, target))))
    }
    let top = topLine
    switch action {
    case .up: mode.cursor.line = line(-1)
    case .down: mode.cursor.line = line(1)
    case .left: mode.cursor.column = max(0, place.column - 1)
    case .right: mode.cursor.column = min(terminal.columns - 1, place.column + 1)
    case .pageUp, .pageDown, .halfUp, .halfDown:
      let half = action == .halfUp || action == .halfDown
      let count = max(1, half ? page / 2 : page - 1)
      let distance = action == .pageUp || action == .halfUp ? -count : count
      // The view moves, and the cursor with it.
      scroll(by: distance)
      mode.cursor.line = line(distance)
    case .first: mode.cursor = .init(line: oldestLine, column: 0)
    case .last: mode.cursor = .init(line: lastPrintedLine, column: 0)
    case .lineStart: mode.cursor.column = 0
    case .lineEnd: mode.cursor.column = max(0, width(of: place.line) - 1)
    case .screenTop: mode.cursor.line = min(newestLine, top)
    case .screenMiddle: mode.cursor.line = min(newestLine, top + UInt64(page / 2))
    case .screenBottom: mode.cursor.line = min(newestLine, top + UInt64(max(1, page) - 1))
    case .wordForward: mode.cursor = nextWord(after: place)
    case .wordBackward: mode.cursor = wordStart(before: place)
    case .wordEnd: mode.cursor = wordEnd(after: place)
    default: return
    }
    copyMode = mode
    showCopyCursor(page: page)
  }

  /// The last line with something on it.
  private var lastPrintedLine: UInt64 {
    var line = newestLine
    while line > terminal.scrolledLineCount, width(of: line) == 0 { line -= 1 }
    return line
  }

  /// Columns up to the last character.
  private func width(of line: UInt64) -> Int {
    (cells(of: line).lastIndex { !$0.isSpace }).map { $0 - cells(of: line).startIndex + 1 } ?? 0
  }

  // MARK: Words

  private func isBlank(_ line: [String], _ column: Int) -> Bool {
    column >= line.count || line[column] == " "
  }

  private func nextWord(after place: CopyMode.Place) -> CopyMode.Place {
    var (line, column) = (place.line, place.column)
    var text = characters(of: line)
    while column < text.count, !isBlank(text, column) { column += 1 }
    for _ in 0..<1000 {
      while column < text.count, isBlank(text, column) { column += 1 }
      if column < text.count { return .init(line: line, column: column) }
      guard line < newestLine else { return place }
      line += 1
      column = 0
      text = characters(of: line)
    }
    return place
  }

  private func wordStart(before place: CopyMode.Place) -> CopyMode.Place {
    var (line, column) = (place.line, place.column - 1)
    for _ in 0..<1000 {
      let text = characters(of: line)
      column = min(column, text.count - 1)
      while column >= 0, isBlank(text, column) { column -= 1 }
      if column >= 0 {
        while column > 0, !isBlank(text, column - 1) { column -= 1 }
        return .init(line: line, column: column)
      }
      guard line > oldestLine else { return .init(line: line, column: 0) }
      line -= 1
      column = .max
    }
    return place
  }

  private func wordEnd(after place: CopyMode.Place) -> CopyMode.Place {
    let start = CopyMode.Place(line: place.line, column: place.column)
    let text = characters(of: start.line)
    var column = start.column + 1
    if isBlank(text, column) {
      let next = nextWord(after: start)
      guard next.line == start.line, next.column > start.column else { return next }
      column = next.column
    }
    while column + 1 < text.count, !isBlank(text, column + 1) { column += 1 }
    return .init(line: start.line, column: min(column, max(0, text.count - 1)))
  }

  // MARK: Searching

  /// Goes to the next line that has the words of the query, from the cursor on and around the end.
  ///
  /// - Returns: false when there is none.
  package mutating func search(forward: Bool, page: Int) -> Bool {
    guard var mode = copyMode, !mode.query.isEmpty else { return false }
    let count = newestLine - oldestLine + 1
    for step in 0...count {
      let offset = forward ? step : count - step % count
      let line = oldestLine + (mode.cursor.line - oldestLine + offset) % count
      let columns = matches(of: mode.query, in: line).map(\.lowerBound)
      let column: Int?
      if step == 0 {
        let here = mode.cursor.column
        column = forward ? columns.first { $0 > here } : columns.last { $0 < here }
      } else {
        column = forward ? columns.first : columns.last
      }
      if let column {
        mode.cursor = .init(line: line, column: column)
        copyMode = mode
        showCopyCursor(page: page)
        return true
      }
    }
    return false
  }

  /// Columns where a line has the query; capitals in the query must be capitals there.
  package func matches(of query: String, in line: UInt64) -> [Range<Int>] {
    guard !query.isEmpty else { return [] }
    let text = characters(of: line)
    let isExact = query.contains { $0.isUppercase }
    let wanted = Array(isExact ? query : query.lowercased()).map(String.init)
    guard let first = wanted.first else { return [] }
    // Wide characters leave an empty cell behind them.
    let filled = text.indices.filter { !text[$0].isEmpty }
    let shown = filled.map { isExact ? text[$0] : text[$0].lowercased() }
    guard shown.count >= wanted.count else { return [] }
    var found: [Range<Int>] = []
    var index = 0
    while index + wanted.count <= shown.count {
      if shown[index] == first, shown[index..<index + wanted.count].elementsEqual(wanted) {
        found.append(filled[index]..<filled[index + wanted.count - 1] + 1)
        index += wanted.count
      } else {
        index += 1
      }
    }
    return found
  }

  // MARK: Copying

  /// The selected text; lines that the guest's screen had wrapped are whole again.
  package func selectedText() -> String {
    guard let mode = copyMode, let anchor = mode.anchor else { return "" }
    let first = max(oldestLine, min(anchor, mode.cursor).line)
    let last = min(newestLine, max(anchor, mode.cursor).line)
    guard first <= last else { return "" }
    var text = ""
    for line in first...last {
      let columns = characters(of: line)
      guard let range = mode.selectedColumns(of: line, columns: columns.count) else { continue }
      var part = columns[range].joined()
      let isWrapped = mode.selection != .block && range.upperBound == columns.count && wraps(line)
      if !isWrapped { while part.last == " " { part.removeLast() } }
      text += part
      if line < last, !isWrapped { text += "\n" }
    }
    return text
  }

  private func wraps(_ line: UInt64) -> Bool {
    line >= terminal.scrolledLineCount
      ? terminal.isWrapped(row: Int(line - terminal.scrolledLineCount))
      : line >= oldestLine && terminal.isWrapped(line: Int(line - oldestLine))
  }
}
