/// Dialogs, pickers and the lines at the bottom that take the keys.
struct OverlayView {
  let model: Model
  let overlay: Overlay

  func draw(_ layout: Layout, _ canvas: inout Canvas) {
    switch overlay {
    case .confirmation(let confirmation): draw(confirmation, &canvas)
    case .form(let form): FormView(model: model, form: form).draw(&canvas)
    case .picker(let picker): draw(picker, &canvas)
    case .help(let context, let top):
      HelpView(model: model, context: context, top: top).draw(&canvas)
    case .text(let title, let lines, let top): draw(title, lines, top, &canvas)
    case .commandLine(let line): draw(line, layout, &canvas)
    case .filter(let field, _):
      drawLine("/", field, layout, &canvas, note: filterNote(layout))
    case .search(let field, let forward):
      drawLine(
        forward ? "/" : "?", field, layout, &canvas,
        note: forward ? "towards now" : "towards the past; Enter goes there")
    case .askKey(let question): KeyQuestionView(model: model, question: question).draw(&canvas)
    }
  }

  private func filterNote(_ layout: Layout) -> String {
    if case .log(let page) = model.mainView {
      let count = LogView.rows(of: page, model, width: layout.main.columns).count
      return "\(count) lines"
    }
    return "\(model.list.visible.count) shown; also state:run tag:x template:y !word"
  }

  /// An empty dialog in the middle of the screen; returns its inner part.
  static func box(
    _ model: Model, title: String, rows: Int, columns: Int, isDangerous: Bool,
    _ canvas: inout Canvas
  ) -> Rectangle {
    let area = canvas.bounds.centered(rows: rows + 2, columns: columns + 4)
    let palette = model.palette
    canvas.fill(area, style: palette[.dialog])
    let border = palette[isDangerous ? .danger : .dialogBorder]
    canvas.frame(
      area, title: title, glyphs: model.glyphs, border: border, titleStyle: border.adding(.bold))
    return area.inset(rows: 1, columns: 2)
  }

  // MARK: Confirmation

  private func draw(_ confirmation: Confirmation, _ canvas: inout Canvas) {
    let widest = confirmation.lines.map(\.cellWidth).max() ?? 0
    let width = min(
      max(widest, confirmation.title.cellWidth + 4, 30), max(10, model.size.columns - 6))
    let lines = confirmation.lines.flatMap { $0.isEmpty ? [""] : $0.wrapped(to: width) }
    let inner = Self.box(
      model, title: confirmation.title, rows: lines.count + 2, columns: width,
      isDangerous: confirmation.isDangerous, &canvas)
    for (index, line) in lines.enumerated() where index < inner.rows - 1 {
      canvas.put(
        line, row: inner.row + index, column: inner.column, style: model.palette[.dialog],
        limit: inner.columns)
    }
    let row = inner.endRow - 1
    var end = inner.endColumn
    for (text, isFocused) in [
      (confirmation.verb, confirmation.isVerbFocused), ("Cancel", !confirmation.isVerbFocused),
    ] {
      end = button(text, isFocused, row: row, end: end, &canvas) - 2
    }
  }

  private func button(
    _ text: String, _ isFocused: Bool, row: Int, end: Int, _ canvas: inout Canvas
  ) -> Int {
    // Brackets tell the focus where colours can not.
    let label = isFocused ? "[ \(text) ]" : "  \(text)  "
    return canvas.putRight(
      label, row: row, end: end, style: model.palette[isFocused ? .buttonFocus : .button])
  }

  // MARK: Picker

  private func draw(_ picker: Picker, _ canvas: inout Canvas) {
    let shown = picker.shown
    let widest = picker.items.map { $0.label.cellWidth + $0.note.cellWidth + 4 }.max() ?? 0
    let width = min(max(widest, 40), max(10, model.size.columns - 6))
    let rows = min(max(3, picker.items.count), max(3, model.size.rows - 8))
    let inner = Self.box(
      model, title: picker.title, rows: rows + 2, columns: width, isDangerous: false, &canvas)
    let palette = model.palette
    let ground = palette[.dialog]
    let mark = canvas.put("> ", row: inner.row, column: inner.column, style: palette[.key])
    canvas.put(
      picker.query.text, row: inner.row, column: inner.column + mark, style: ground,
      limit: inner.columns - mark)
    canvas.cursor = Position(
      row: inner.row, column: min(inner.endColumn, inner.column + mark + picker.query.cursorColumn))
    let list = inner.splitTop(2).rest
    let selection = min(max(0, shown.count - 1), picker.selection)
    let top = max(0, min(selection - list.rows / 2, shown.count - list.rows))
    for row in 0..<list.rows {
      guard shown.indices.contains(top + row) else { break }
      let item = shown[top + row]
      let style = top + row == selection ? palette[.selection] : ground
      let line = Rectangle(row: list.row + row, column: list.column, rows: 1, columns: list.columns)
      canvas.fill(line, style: style)
      let note = canvas.putRight(item.note, row: line.row, end: line.endColumn, style: style)
      canvas.put(
        item.label.clipped(to: max(0, note - line.column - 1), ellipsis: model.glyphs.ellipsis),
        row: line.row, column: line.column, style: style)
    }
    if shown.isEmpty {
      canvas.put("nothing matches", row: list.row, column: list.column, style: palette[.muted])
    }
  }

  // MARK: Text

  private func draw(_ title: String, _ lines: [String], _ top: Int, _ canvas: inout Canvas) {
    let width = min(72, max(10, model.size.columns - 6))
    let wrapped = lines.flatMap { $0.wrapped(to: width) }
    let inner = Self.box(
      model, title: title, rows: min(wrapped.count, max(1, model.size.rows - 6)), columns: width,
      isDangerous: false, &canvas)
    for row in 0..<inner.rows where wrapped.indices.contains(top + row) {
      canvas.put(
        wrapped[top + row], row: inner.row + row, column: inner.column,
        style: model.palette[.dialog], limit: inner.columns)
    }
  }

  // MARK: Lines at the bottom

  private func draw(_ line: CommandPrompt, _ layout: Layout, _ canvas: inout Canvas) {
    let note =
      line.candidates.count > 1
      ? line.candidates.prefix(12).joined(separator: "  ")
      : line.field.isEmpty ? "start stop create snapshot console ... Tab shows all" : ""
    drawLine(":", line.field, layout, &canvas, note: note)
  }

  private func drawLine(
    _ mark: String, _ field: TextField, _ layout: Layout, _ canvas: inout Canvas, note: String
  ) {
    let palette = model.palette
    // Full-screen consoles have no message line: the last row serves.
    let area =
      layout.message.isEmpty
      ? Rectangle(
        row: model.size.rows - 1, column: 0, rows: 1, columns: model.size.columns) : layout.message
    canvas.fill(area, style: palette[.text])
    let used = canvas.put(mark, row: area.row, column: area.column + 1, style: palette[.focus])
    let start = area.column + 1 + used
    let room = max(1, area.columns - used - 3)
    let skipped = max(0, field.cursorColumn - room + 1)
    let text = String(field.characters.dropFirst(skipped))
    let end =
      start + canvas.put(text, row: area.row, column: start, style: palette[.text], limit: room)
    canvas.cursor = Position(row: area.row, column: start + field.cursorColumn - skipped)
    let left = area.endColumn - end - 4
    if left > 10 {
      canvas.put(
        note.clipped(to: left, ellipsis: model.glyphs.ellipsis), row: area.row, column: end + 3,
        style: palette[.muted])
    }
  }
}

/// The dialog that waits for the key that leads commands.
struct KeyQuestionView {
  let model: Model
  let question: KeyQuestion

  private var lines: [String] {
    let key = model.prefix.label
    switch question {
    case .prefixAtAttach:
      return [
        "A console takes every key. One key has to lead back: press it,",
        "then d, and you are in the list again.",
        "",
        "Press the key you want now: \(key), or any other with Control or",
        "Alt, or a function key. Some keyboards can not type ^].",
        "",
        "Enter takes \(key).  Esc decides another time.",
      ]
    case .prefix:
      return [
        "Press the key that shall lead commands in consoles.", "Now it is \(key).", "",
        "Esc leaves it.",
      ]
    case .secondPrefix:
      return [
        "Press another key that shall do the same as \(key).", "",
        "Backspace takes it away.  Esc leaves it.",
      ]
    }
  }

  func draw(_ canvas: inout Canvas) {
    let width = min(64, max(10, model.size.columns - 6))
    let lines = lines.flatMap { $0.isEmpty ? [""] : $0.wrapped(to: width) }
    let title = question == .prefixAtAttach ? "How to leave a console" : "Press the key you want"
    let inner = OverlayView.box(
      model, title: title, rows: min(lines.count, max(2, model.size.rows - 2)), columns: width,
      isDangerous: false, &canvas)
    for (row, line) in lines.enumerated() where row < inner.rows {
      canvas.put(
        line, row: inner.row + row, column: inner.column, style: model.palette[.dialog],
        limit: inner.columns)
    }
  }
}
