/// The keys of where the user is, from the key table.
package struct HelpView {
  let model: Model
  let context: KeyContext
  let top: Int

  private enum Line {
    case heading(String)
    case key(String, String)
    /// A key's text goes on.
    case more(String)
    case blank
  }

  /// Lines of help, for scrolling.
  package static func lineCount(_ model: Model, _ context: KeyContext) -> Int {
    lines(model, context).count
  }

  private static let width = 100
  private static let keyWidth = 15

  private static func lines(_ model: Model, _ context: KeyContext) -> [Line] {
    var lines: [Line] = []
    let room = min(width, model.size.columns) - 4 - keyWidth
    var contexts: [KeyContext] = [context]
    if context.hasCommonKeys { contexts.append(.everywhere) }
    if context == .machines { contexts += [.console, .copy] }
    if context == .console { contexts.append(.copy) }
    for part in contexts {
      if !lines.isEmpty { lines.append(.blank) }
      lines.append(.heading(title(of: part, model)))
      if part == .console {
        lines.append(.key(model.prefix.label, "once more: sends it to the guest"))
        lines.append(.key("1 to 9", "the open console of that number"))
      }
      for binding in model.keys.bindings(in: part) where !binding.keys.isEmpty {
        let text = binding.help.wrapped(to: max(10, room))
        let keys = binding.keys.map(\.label).joined(separator: " ")
        lines.append(.key(keys, text.first ?? ""))
        lines += text.dropFirst().map { .more($0) }
      }
    }
    return lines
  }

  private static func title(of context: KeyContext, _ model: Model) -> String {
    context == .console
      ? "Attached console: first \(model.prefix.label), then" : context.title
  }

  func draw(_ canvas: inout Canvas) {
    let palette = model.palette
    let lines = Self.lines(model, context)
    let screen = canvas.bounds
    let area = Rectangle(
      row: 1, column: 0, rows: max(3, screen.rows - 2), columns: screen.columns
    ).centered(rows: lines.count + 2, columns: Self.width)
    canvas.fill(area, style: palette[.dialog])
    canvas.frame(
      area, title: "Keys", glyphs: model.glyphs, border: palette[.dialogBorder],
      titleStyle: palette[.dialogBorder].adding(.bold))
    let inner = area.inset(rows: 1, columns: 2)
    let ground = palette[.dialog]
    for row in 0..<inner.rows {
      guard lines.indices.contains(top + row) else { break }
      switch lines[top + row] {
      case .blank: break
      case .heading(let text):
        canvas.put(
          text, row: inner.row + row, column: inner.column, style: palette[.title].on(ground),
          limit: inner.columns)
      case .key(let keys, let text):
        canvas.put(
          keys, row: inner.row + row, column: inner.column, style: palette[.key].on(ground),
          limit: 14)
        canvas.put(
          text, row: inner.row + row, column: inner.column + Self.keyWidth, style: ground,
          limit: inner.columns - Self.keyWidth)
      case .more(let text):
        canvas.put(
          text, row: inner.row + row, column: inner.column + Self.keyWidth, style: ground,
          limit: inner.columns - Self.keyWidth)
      }
    }
    canvas.scrollBar(
      in: Rectangle(
        row: inner.row, column: area.column, rows: inner.rows, columns: area.columns),
      first: top, total: lines.count, glyphs: model.glyphs, style: palette[.dialogBorder])
  }
}
