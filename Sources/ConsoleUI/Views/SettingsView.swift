/// Settings as rows; each can be changed where it stands.
struct SettingsView {
  let model: Model
  let page: SettingsPage

  private enum Line {
    case heading(String)
    case row(Int, SettingsPage.Row)
    case blank
  }

  private static let lines: [Line] = {
    var lines: [Line] = []
    var index = 0
    for section in SettingsPage.sections {
      if !lines.isEmpty { lines.append(.blank) }
      lines.append(.heading(section.title))
      for row in section.rows {
        lines.append(.row(index, row))
        index += 1
      }
    }
    return lines
  }()

  /// The setting in a line of the view.
  static func row(at line: Int) -> Int? {
    guard lines.indices.contains(line), case .row(let index, _) = lines[line] else { return nil }
    return index
  }

  /// The first line to show so that the selection is seen, with its heading where it is the first below it.
  static func top(for page: SettingsPage, rows: Int) -> Int {
    let line =
      lines.firstIndex { if case .row(page.selection, _) = $0 { true } else { false } } ?? 0
    var top = min(page.top, max(0, lines.count - rows))
    if page.selection == 0 { top = 0 }
    if line - 1 < top { top = max(0, line - 1) }
    if line >= top + rows { top = line - rows + 1 }
    return top
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    for row in 0..<area.rows where Self.lines.indices.contains(page.top + row) {
      let line = Rectangle(row: area.row + row, column: area.column, rows: 1, columns: area.columns)
      switch Self.lines[page.top + row] {
      case .blank: break
      case .heading(let text):
        canvas.put(text, row: line.row, column: line.column + 1, style: palette[.title])
      case .row(let index, let setting): draw(setting, index == page.selection, line, &canvas)
      }
    }
    canvas.scrollBar(
      in: area, first: page.top, total: Self.lines.count, glyphs: model.glyphs,
      style: palette[.border])
  }

  private func draw(
    _ setting: SettingsPage.Row, _ isSelected: Bool, _ area: Rectangle, _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let ground = palette[isSelected ? .selection : .text]
    canvas.fill(area, style: ground)
    if isSelected {
      canvas.set(
        model.glyphs.marker, row: area.row, column: area.column, style: palette[.focus].on(ground))
    }
    let (label, value, note) = words(setting)
    let labelWidth = min(26, max(12, area.columns / 3))
    canvas.put(
      label.clipped(to: labelWidth - 1, ellipsis: model.glyphs.ellipsis), row: area.row,
      column: area.column + 3, style: ground)
    let start = area.column + 3 + labelWidth
    let used = canvas.put(
      value, row: area.row, column: start,
      style: isSelected ? ground.adding(.bold) : palette[.key].on(palette[.text]),
      limit: area.endColumn - start - 1)
    let place = start + max(used + 2, 14)
    canvas.put(
      note.clipped(to: area.endColumn - place - 2, ellipsis: model.glyphs.ellipsis),
      row: area.row, column: place,
      style: isSelected ? palette[.muted].on(ground) : palette[.muted])
  }

  private func words(
    _ setting: SettingsPage.Row
  ) -> (label: String, value: String, note: String) {
    let configuration = model.configuration
    func check(_ on: Bool) -> String { on ? "[x]" : "[ ]" }
    switch setting {
    case .theme: return ("Theme", model.theme.name, model.theme.summary)
    case .ascii:
      return ("ASCII only", check(model.glyphs == .ascii), "no lines and dots of Unicode")
    case .mouse: return ("Mouse", check(configuration.usesMouse), "Shift selects text as usual")
    case .prefix:
      return ("Console key", model.prefix.label, "leads commands while a console has the keyboard")
    case .secondPrefix:
      return (
        "Second console key", configuration.secondPrefix?.label ?? "none",
        "does the same; Backspace takes it away"
      )
    case .refresh:
      return ("Statistics every", "\(configuration.refresh) s", "0.5, 1, 2, 5 or 10 seconds")
    case .grouping:
      return ("Group machines by", model.list.grouping.rawValue, "template, tag or not at all")
    case .detail: return ("Details", check(model.showsDetail), "beside or below the list")
    case .column(let column):
      let shown = configuration.columns ?? MachineListView.standardColumns
      return (column.title, check(shown.contains(column)), Self.note(column))
    case .question(let question):
      return (
        "Ask: \(question.rawValue)", check(configuration.questions.contains(question)),
        question.summary
      )
    }
  }

  private static func note(_ column: MachineList.Column) -> String {
    switch column {
    case .name: "always shown"
    case .state: "what it is doing"
    case .processor: "use of its processors, with the last minutes"
    case .memory: "held on the host, of what it has"
    case .disk: "read and written a second"
    case .uptime: "since its start"
    case .processors: "how many"
    case .snapshot: "where its disks stand, and how many there are"
    case .template: "what it grew from"
    case .tags: "from its definition"
    case .accelerator: "what runs it"
    case .consoles: "attached consoles"
    case .process: "its host process"
    }
  }
}
