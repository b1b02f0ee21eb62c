/// What a new user sees: nothing is defined yet, and how to begin.
struct StartView {
  let model: Model

  private var entries: [(String, String)] {
    let demonstration = ("d", "run the demonstration: fetches a small guest and starts it here")
    return (model.capabilities.contains(.demonstration) ? [demonstration] : []) + [
      ("n", "make a machine: memory, disk or kernel"),
      ("?", "all keys"),
      (":", "type a command"),
      ("q", "leave"),
    ]
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    guard model.list.isLoaded else {
      canvas.put(
        "looking for machines", row: area.row + 1, column: area.column + 2,
        style: palette[.muted], limit: area.columns - 2)
      return
    }
    let width = min(area.columns - 4, 70)
    let box = area.centered(rows: min(area.rows, 13), columns: width)
    var row = box.row
    func line(_ text: String, _ role: Role) {
      for part in text.wrapped(to: width) where row < area.endRow {
        canvas.put(part, row: row, column: box.column, style: palette[role], limit: width)
        row += 1
      }
    }
    line("No machine is defined yet.", .title)
    if area.rows >= 12 { row += 1 }
    for (key, text) in entries where row < area.endRow {
      canvas.put(" \(key) ", row: row, column: box.column, style: palette[.key])
      canvas.put(
        text.clipped(to: width - 5, ellipsis: model.glyphs.ellipsis), row: row,
        column: box.column + 5, style: palette[.text])
      row += 1
    }
    if area.rows >= 12 { row += 1 }
    if let host = model.host, row + 1 < area.endRow {
      line("Accelerator: \(host.accelerator)", .muted)
      if !host.home.isEmpty { line("Machines live in \(host.home)", .muted) }
    }
  }
}
