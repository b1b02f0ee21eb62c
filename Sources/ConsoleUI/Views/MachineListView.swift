/// The list: a line of column names and a row for each machine. Columns that do not fit are left out, the least
/// important first.
struct MachineListView {
  let model: Model

  private enum Field: CaseIterable {
    case name, state, processor, memory, uptime, processors, snapshot, template, accelerator
  }

  private struct Column {
    var field: Field
    var start: Int
    var width: Int
  }

  private static let sparkWidth = 8
  private static let gutter = 2

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 1 else { return }
    let columns = columns(for: area.columns)
    let (heading, body) = area.splitTop(1)
    drawHeading(columns, heading, &canvas)
    let list = model.list
    let first = min(list.top, max(0, list.visible.count - 1))
    for row in 0..<body.rows {
      let index = first + row
      guard index < list.visible.count else { break }
      let line = Rectangle(row: body.row + row, column: body.column, rows: 1, columns: body.columns)
      drawRow(list.machines[list.visible[index]], columns, line, &canvas)
    }
    if list.visible.isEmpty, body.rows > 1 {
      canvas.put(
        "no machine matches '\(list.filter)'", row: body.row + 1, column: body.column + 2,
        style: model.palette[.muted], limit: body.columns - 2)
    }
    canvas.scrollBar(
      in: body, first: first, total: list.visible.count, glyphs: model.glyphs,
      style: model.palette[.border])
  }

  // MARK: Columns

  private func fixedWidth(_ field: Field) -> Int {
    switch field {
    case .name: 12
    case .state: 15
    case .processor: 5 + Self.sparkWidth
    case .memory: 10
    case .uptime: 7
    case .processors: 4
    case .snapshot: 14
    case .template: 12
    case .accelerator: 5
    }
  }

  private func columns(for width: Int) -> [Column] {
    // The last column stays free for the scroll bar.
    var room = width - Self.gutter - 1
    var chosen: Set<Field> = []
    var glyphOnly = false
    for field in Field.allCases {
      let needed = fixedWidth(field) + (chosen.isEmpty ? 0 : 1)
      if needed > room, !chosen.isEmpty {
        // Of the state at least the glyph.
        if field == .state, room >= 3 { (glyphOnly, room) = (true, room - 3) }
        break
      }
      chosen.insert(field)
      room -= needed
    }
    let wanted = (model.list.machines.map(\.name.count).max() ?? 0) + 1
    var widths: [Field: Int] = [:]
    for field in chosen { widths[field] = fixedWidth(field) }
    if glyphOnly { widths[.state] = 2 }
    func grow(_ field: Field, to limit: Int) {
      guard let now = widths[field], room > 0 else { return }
      let more = min(room, max(0, limit - now))
      widths[field] = now + more
      room -= more
    }
    grow(.name, to: min(40, wanted))
    grow(.snapshot, to: 24)
    grow(.template, to: 18)
    grow(.name, to: 40)
    var start = Self.gutter
    return Field.allCases.compactMap { field in
      guard let width = widths[field] else { return nil }
      defer { start += width + 1 }
      return Column(field: field, start: start, width: width)
    }
  }

  private func sortColumn(_ field: Field) -> MachineList.Column? {
    switch field {
    case .name: .name
    case .state: .state
    case .processor: .processor
    case .memory: .memory
    case .uptime: .uptime
    case .processors: .processors
    case .snapshot: .snapshot
    case .template: .template
    case .accelerator: nil
    }
  }

  private func isNumeric(_ field: Field) -> Bool {
    field == .memory || field == .uptime || field == .processors
  }

  private func drawHeading(_ columns: [Column], _ area: Rectangle, _ canvas: inout Canvas) {
    canvas.fill(area, style: model.palette[.columns])
    for column in columns {
      var title = sortColumn(column.field)?.title ?? "ACCEL"
      let isSorted = sortColumn(column.field) == model.list.sort
      if isSorted {
        title.append(model.list.isAscending ? model.glyphs.sortUp : model.glyphs.sortDown)
      }
      let style = model.palette[isSorted ? .sorted : .columns]
      let place = area.column + column.start
      if isNumeric(column.field) {
        canvas.putRight(title, row: area.row, end: place + column.width, style: style)
      } else {
        canvas.put(title, row: area.row, column: place, style: style, limit: column.width)
      }
    }
  }

  // MARK: Rows

  private func drawRow(
    _ machine: MachineSummary, _ columns: [Column], _ area: Rectangle, _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let isSelected = machine.name == model.list.selection
    let isMarked = model.list.marks.contains(machine.name)
    let hasFocus = isSelected && !model.isConsoleFocused
    let ground = isSelected ? palette[hasFocus ? .selection : .columns] : palette[.text]
    canvas.fill(area, style: ground)
    func style(_ role: Role) -> Style { isSelected ? palette[role].on(ground) : palette[role] }
    if isSelected {
      canvas.set(model.glyphs.marker, row: area.row, column: area.column, style: style(.focus))
    }
    if isMarked {
      canvas.set("+", row: area.row, column: area.column + 1, style: style(.marked))
    } else if model.list.unread.contains(machine.name) {
      canvas.set(
        model.glyphs.unread, row: area.row, column: area.column + 1, style: style(.unread))
    }
    for column in columns {
      if let problem = machine.problem, column.field == .processor {
        canvas.put(
          problem.clipped(to: area.columns - column.start - 2, ellipsis: model.glyphs.ellipsis),
          row: area.row, column: area.column + column.start, style: style(.error))
        break
      }
      let place = Rectangle(
        row: area.row, column: area.column + column.start, rows: 1, columns: column.width)
      let plain = isMarked ? style(.marked) : isSelected ? ground : palette[.text]
      drawField(column.field, machine, place, plain: plain, muted: style(.muted), style, &canvas)
    }
  }

  private func drawField(
    _ field: Field, _ machine: MachineSummary, _ area: Rectangle, plain: Style, muted: Style,
    _ style: (Role) -> Style, _ canvas: inout Canvas
  ) {
    let glyphs = model.glyphs
    func text(_ value: String, _ look: Style) {
      let clipped = value.clipped(to: area.columns, ellipsis: glyphs.ellipsis)
      if isNumeric(field) {
        canvas.putRight(clipped, row: area.row, end: area.endColumn, style: look)
      } else {
        canvas.put(clipped, row: area.row, column: area.column, style: look)
      }
    }
    switch field {
    case .name:
      text(machine.name, plain)
      highlight(machine.name, area, style(.match), &canvas)
    case .state:
      let glyph = machine.state.glyph(glyphs, step: model.animationStep)
      let word = area.columns > 2 ? "\(glyph) \(machine.state.word)" : String(glyph)
      text(word, style(machine.state.role))
    case .processor: drawProcessor(machine, area, plain, muted, style, &canvas)
    case .memory: text(memory(machine), machine.state.isAlive ? plain : muted)
    case .uptime: text(machine.uptime.map { Quantity.duration($0) } ?? "", plain)
    case .processors: text(machine.processors > 0 ? "\(machine.processors)" : "", muted)
    case .snapshot: text(snapshot(machine), muted)
    case .template: text(machine.parent ?? "", style(.template))
    case .accelerator:
      text(machine.acceleratorWord, muted)
    }
  }

  private func drawProcessor(
    _ machine: MachineSummary, _ area: Rectangle, _ plain: Style, _ muted: Style,
    _ style: (Role) -> Style, _ canvas: inout Canvas
  ) {
    guard let use = machine.processorUse else { return }
    canvas.putRight(
      Quantity.percent(use), row: area.row, end: area.column + 4, style: plain)
    canvas.sparkline(
      model.list.history[machine.name] ?? [], row: area.row, column: area.column + 5,
      columns: area.columns - 5, glyphs: model.glyphs,
      colors: (style(.chartLow), style(.chartMiddle), style(.chartHigh)))
  }

  private func memory(_ machine: MachineSummary) -> String {
    guard machine.memory > 0 else { return "" }
    let whole = Quantity.short(machine.memory)
    return machine.residentMemory.map { "\(Quantity.short($0))/\(whole)" } ?? whole
  }

  private func snapshot(_ machine: MachineSummary) -> String {
    guard machine.snapshotCount > 0 else { return "" }
    guard let current = machine.currentSnapshot else { return "\(machine.snapshotCount)" }
    return machine.snapshotCount == 1 ? current : "\(current) (\(machine.snapshotCount))"
  }

  private func highlight(
    _ name: String, _ area: Rectangle, _ style: Style, _ canvas: inout Canvas
  ) {
    guard !model.list.filter.isEmpty,
      let range = FilterQuery(model.list.filter).match(in: name)
    else { return }
    for offset in range where offset < area.columns {
      canvas.restyle(row: area.row, column: area.column + offset) { _ in style }
    }
  }
}
