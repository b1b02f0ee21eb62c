/// A dialog with fields; what is wrong stands beside the field.
struct FormView {
  let model: Model
  let form: Form

  func draw(_ canvas: inout Canvas) {
    let labelWidth = (form.fields.map(\.label.cellWidth).max() ?? 0) + 2
    let width = min(66, max(12, model.size.columns - 6))
    let lines = form.lines.flatMap { $0.isEmpty ? [""] : $0.wrapped(to: width) }
    let rows = lines.count + (lines.isEmpty ? 0 : 1) + form.fields.count + 2
    let inner = OverlayView.box(
      model, title: form.title, rows: min(rows, max(3, model.size.rows - 2)), columns: width,
      isDangerous: form.isDangerous, &canvas)
    // On low screens the text gives way to the fields.
    let free = inner.rows - form.fields.count - 2
    var row = inner.row
    for line in lines.prefix(max(0, free)) {
      canvas.put(
        line, row: row, column: inner.column, style: model.palette[.dialog], limit: inner.columns)
      row += 1
    }
    if !lines.isEmpty, free > lines.count { row += 1 }
    // The focused field is always seen.
    let room = max(1, inner.endRow - row - (inner.rows > form.fields.count + 1 ? 2 : 0))
    let first = max(0, form.focus - room + 1)
    for index in form.fields.indices.dropFirst(first).prefix(room) {
      let area = Rectangle(row: row, column: inner.column, rows: 1, columns: inner.columns)
      draw(form.fields[index], index == form.focus, labelWidth, area, &canvas)
      row += 1
    }
    guard inner.rows > form.fields.count + 1 else { return }
    drawButtons(inner, &canvas)
  }

  private func draw(
    _ field: Form.Field, _ isFocused: Bool, _ labelWidth: Int, _ area: Rectangle,
    _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let ground = palette[.dialog]
    canvas.put(
      field.label, row: area.row, column: area.column,
      style: isFocused ? palette[.dialogBorder].adding(.bold) : ground)
    let start = area.column + labelWidth
    var note = isFocused ? field.hint : ""
    var noteStyle = palette[.muted].on(ground)
    if let problem = form.problem, problem.field == field.name {
      note = problem.text
      noteStyle = palette[.error].on(ground)
    }
    // A field keeps room for at least its text's beginning; what is wrong with it has to be readable.
    let room = area.columns - labelWidth
    let box = max(8, min(28, room - note.cellWidth - 2))
    let used = drawContent(
      field.content, isFocused, Rectangle(row: area.row, column: start, rows: 1, columns: box),
      &canvas)
    canvas.put(
      note.clipped(to: room - used - 2, ellipsis: model.glyphs.ellipsis), row: area.row,
      column: start + used + 2, style: noteStyle)
  }

  /// Returns the cells that the content took.
  private func drawContent(
    _ content: Form.Content, _ isFocused: Bool, _ area: Rectangle, _ canvas: inout Canvas
  ) -> Int {
    let palette = model.palette
    let ground = palette[.dialog]
    switch content {
    case .text(let field):
      canvas.fill(area, style: palette[.input])
      let skipped = max(0, field.cursorColumn - area.columns + 1)
      let text = String(field.characters.dropFirst(skipped))
      let style =
        field.isProposal && isFocused ? palette[.input].adding(.underline) : palette[.input]
      canvas.put(text, row: area.row, column: area.column, style: style, limit: area.columns)
      if isFocused {
        canvas.cursor = Position(
          row: area.row, column: area.column + field.cursorColumn - skipped)
      }
      return area.columns
    case .toggle(let on):
      return canvas.put(
        on ? "[x] yes" : "[ ] no", row: area.row, column: area.column,
        style: isFocused ? palette[.selection] : ground)
    case .choice(let words, let index):
      let word = words.indices.contains(index) ? words[index] : ""
      let text = words.count > 1 ? "< \(word) >" : word
      return canvas.put(
        text, row: area.row, column: area.column, style: isFocused ? palette[.selection] : ground,
        limit: area.columns)
    }
  }

  private func drawButtons(_ inner: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    let row = inner.endRow - 1
    let verb = "[ Enter: \(form.verb) ]"
    let start = canvas.putRight(
      verb, row: row, end: inner.endColumn, style: palette[.buttonFocus])
    let cancel = "  Esc: Cancel  "
    if start - cancel.cellWidth - 2 > inner.column {
      canvas.putRight(cancel, row: row, end: start - 2, style: palette[.button])
    }
  }
}
