/// The lines of a log or the list of events.
struct LogView {
  let model: Model
  let page: LogPage

  /// The rows that there are to see.
  static func rows(of page: LogPage, _ model: Model, width: Int) -> [String] {
    page.rows(of: lines(of: page, model), width: max(1, width - 2))
  }

  private static func lines(of page: LogPage, _ model: Model) -> [String] {
    guard case .events(let machine) = page.source else { return page.text.all }
    return model.events.filter { machine == nil || $0.machine == machine }.map { event in
      "\(ClockTime.text(event.time))  \(mark(event.kind))  \(event.text)"
    }
  }

  private static func mark(_ kind: Model.Message.Kind) -> String {
    switch kind {
    case .notice: "    "
    case .success: "done"
    case .failure: "FAIL"
    }
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 1 else { return }
    let palette = model.palette
    let (heading, body) = area.splitTop(1)
    canvas.fill(heading, style: palette[.columns])
    canvas.put(
      page.source.title, row: heading.row, column: heading.column + 2, style: palette[.sorted],
      limit: heading.columns - 2)
    let rows = Self.rows(of: page, model, width: area.columns)
    let first =
      page.follows ? max(0, rows.count - body.rows) : min(page.top, max(0, rows.count - body.rows))
    drawPlace(heading, first: first, count: rows.count, page: body.rows, &canvas)
    guard !rows.isEmpty else {
      let isLoaded = page.isLoaded || !page.source.isFile
      canvas.put(
        isLoaded ? page.filter.isEmpty ? "nothing yet" : "no line matches" : "reading",
        row: body.row + 1, column: body.column + 2, style: palette[.muted],
        limit: body.columns - 2)
      return
    }
    let words = page.filter.lowercased().split(separator: " ").filter { $0.first != "!" }
    for line in 0..<body.rows where rows.indices.contains(first + line) {
      let text = rows[first + line]
      let isFailure = !page.source.isFile && text.dropFirst(10).hasPrefix("FAIL")
      let shown = text.clipped(to: body.columns - 2, ellipsis: model.glyphs.ellipsis)
      canvas.put(
        shown, row: body.row + line, column: body.column + 1,
        style: palette[isFailure ? .error : .text])
      for word in words {
        highlight(String(word), shown, body.row + line, body.column + 1, &canvas)
      }
    }
    canvas.scrollBar(
      in: body, first: first, total: rows.count, glyphs: model.glyphs, style: palette[.border])
  }

  private func drawPlace(
    _ area: Rectangle, first: Int, count: Int, page rows: Int, _ canvas: inout Canvas
  ) {
    var notes: [String] = []
    if !page.filter.isEmpty { notes.append("filter '\(page.filter)'") }
    if page.wraps { notes.append("wrapped") }
    notes.append(
      page.follows ? "following" : "\(min(count, first + rows)) of \(count)")
    let text = notes.joined(separator: "  ")
    guard text.cellWidth + page.source.title.cellWidth + 6 < area.columns else { return }
    canvas.putRight(
      text, row: area.row, end: area.endColumn - 2, style: model.palette[.columns])
  }

  private func highlight(
    _ word: String, _ text: String, _ row: Int, _ column: Int, _ canvas: inout Canvas
  ) {
    let characters = Array(text.lowercased())
    let wanted = Array(word)
    guard !wanted.isEmpty, characters.count >= wanted.count else { return }
    var index = 0
    while index + wanted.count <= characters.count {
      if characters[index..<index + wanted.count].elementsEqual(wanted) {
        let start = column + String(characters[..<index]).cellWidth
        for offset in 0..<word.cellWidth {
          canvas.restyle(row: row, column: start + offset) { _ in model.palette[.match] }
        }
        index += wanted.count
      } else {
        index += 1
      }
    }
  }
}
