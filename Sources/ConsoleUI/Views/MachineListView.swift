/// The list: a line of column names and a row for each machine. Columns that do not fit are left out, the least
/// important first.
struct MachineListView {
  let model: Model

  struct Column {
    var field: MachineList.Column
    var start: Int
    var width: Int
  }

  /// What is shown when nothing else is settled.
  static let standardColumns: [MachineList.Column] = [
    .name, .state, .processor, .memory, .disk, .uptime, .processors, .snapshot, .template, .tags,
    .accelerator,
  ]

  /// Of columns that do not fit, the last of these go first.
  private static let priority: [MachineList.Column] = [
    .name, .state, .processor, .memory, .uptime, .processors, .snapshot, .template, .tags, .disk,
    .accelerator, .consoles, .process,
  ]

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
      drawRow(
        list.machines[list.visible[index]], joint: list.joints.isEmpty ? .none : list.joints[index],
        beginsTag: beginsTag(index, isFirst: row == 0), columns, line, &canvas)
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

  /// The first row of a tag's group says which.
  private func beginsTag(_ index: Int, isFirst: Bool) -> Bool {
    let list = model.list
    guard list.grouping == .tag else { return false }
    if isFirst || index == 0 { return true }
    let above = list.machines[list.visible[index - 1]].tags.first
    return above != list.machines[list.visible[index]].tags.first
  }

  private func fixedWidth(_ field: MachineList.Column) -> Int {
    switch field {
    case .name: 12
    case .state: 15
    case .processor: 5 + Self.sparkWidth
    case .memory: 10
    case .disk: 7
    case .uptime: 7
    case .processors: 4
    case .snapshot: 14
    case .template: 12
    case .tags: 12
    case .accelerator: 5
    case .consoles: 4
    case .process: 7
    }
  }

  /// Columns that fit, from left to right. By tag, the tag stands first.
  func columns(for width: Int) -> [Column] {
    var wantedColumns = model.configuration.columns ?? Self.standardColumns
    if !wantedColumns.contains(.name) { wantedColumns.insert(.name, at: 0) }
    var order = wantedColumns
    if model.list.grouping == .tag {
      order.removeAll { $0 == .tags }
      order.insert(.tags, at: 0)
    }
    // The last column stays free for the scroll bar.
    var room = width - Self.gutter - 1
    var chosen: Set<MachineList.Column> = []
    var glyphOnly = false
    let isByTag = model.list.grouping == .tag
    let priority = isByTag ? [.name, .tags] + Self.priority : Self.priority
    for field in priority where order.contains(field) && !chosen.contains(field) {
      let needed = fixedWidth(field) + (chosen.isEmpty ? 0 : 1)
      if needed > room, !chosen.isEmpty {
        // Of the state at least the glyph.
        if field == .state, room >= 3 {
          (glyphOnly, room) = (true, room - 3)
          chosen.insert(field)
        }
        break
      }
      chosen.insert(field)
      room -= needed
    }
    let indent = model.list.grouping == .template ? 2 : 0
    let wanted = (model.list.machines.map(\.name.utf8.count).max() ?? 0) + 1 + indent
    var widths: [MachineList.Column: Int] = [:]
    for field in chosen { widths[field] = fixedWidth(field) }
    if glyphOnly { widths[.state] = 2 }
    func grow(_ field: MachineList.Column, to limit: Int) {
      guard let now = widths[field], room > 0 else { return }
      let more = min(room, max(0, limit - now))
      widths[field] = now + more
      room -= more
    }
    grow(.name, to: min(40, wanted))
    grow(.snapshot, to: 24)
    grow(.template, to: 18)
    grow(.tags, to: 20)
    grow(.name, to: 40)
    var start = Self.gutter
    return order.compactMap { field in
      guard let width = widths[field] else { return nil }
      defer { start += width + 1 }
      return Column(field: field, start: start, width: width)
    }
  }

  private func isNumeric(_ field: MachineList.Column) -> Bool {
    [.memory, .disk, .uptime, .processors, .consoles, .process].contains(field)
  }

  private func drawHeading(_ columns: [Column], _ area: Rectangle, _ canvas: inout Canvas) {
    canvas.fill(area, style: model.palette[.columns])
    for column in columns {
      var title = column.field.title
      let isSorted = column.field == model.list.sort
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
    _ machine: MachineSummary, joint: MachineList.Joint, beginsTag: Bool, _ columns: [Column],
    _ area: Rectangle, _ canvas: inout Canvas
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
    } else if model.list.bells.contains(machine.name) {
      canvas.set(model.glyphs.bell, row: area.row, column: area.column + 1, style: style(.warning))
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
      if column.field == .tags, model.list.grouping == .tag, !beginsTag { continue }
      if column.field == .name, joint != .none || model.list.hiddenCount(below: machine) > 0 {
        drawName(machine, joint, place, plain: plain, muted: style(.muted), style(.match), &canvas)
        continue
      }
      drawField(column.field, machine, place, plain: plain, muted: style(.muted), style, &canvas)
    }
  }

  private func drawField(
    _ field: MachineList.Column, _ machine: MachineSummary, _ area: Rectangle, plain: Style,
    muted: Style,
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
    case .tags:
      let isGroup = model.list.grouping == .tag
      text(
        isGroup
          ? machine.tags.first ?? "no tag" : machine.tags.joined(separator: ","),
        isGroup ? style(.title) : muted)
    case .disk: text(machine.diskRate.map { Quantity.short(UInt64($0)) } ?? "", plain)
    case .consoles: text(machine.clients > 0 ? "\(machine.clients)" : "", muted)
    case .process: text(machine.processIdentifier.map { "\($0)" } ?? "", muted)
    case .accelerator:
      text(machine.acceleratorWord, muted)
    }
  }

  /// A name that hangs below its template, or hides others.
  private func drawName(
    _ machine: MachineSummary, _ joint: MachineList.Joint, _ area: Rectangle, plain: Style,
    muted: Style, _ match: Style, _ canvas: inout Canvas
  ) {
    let glyphs = model.glyphs
    var column = area.column
    if joint != .none {
      let branch = joint == .child ? glyphs.branch : glyphs.lastBranch
      column += canvas.put(branch, row: area.row, column: column, style: muted, limit: area.columns)
    }
    let hidden = model.list.hiddenCount(below: machine)
    let note = hidden > 0 ? " \(glyphs.folded)\(hidden)" : ""
    let room = area.endColumn - column - note.cellWidth
    let name = machine.name.clipped(to: room, ellipsis: glyphs.ellipsis)
    let start = column
    column += canvas.put(name, row: area.row, column: column, style: plain)
    canvas.put(note, row: area.row, column: column, style: muted)
    highlight(
      machine.name, Rectangle(row: area.row, column: start, rows: 1, columns: max(0, room)), match,
      &canvas)
  }

  private func drawProcessor(
    _ machine: MachineSummary, _ area: Rectangle, _ plain: Style, _ muted: Style,
    _ style: (Role) -> Style, _ canvas: inout Canvas
  ) {
    guard let use = machine.processorUse else { return }
    canvas.putRight(
      Quantity.percent(use), row: area.row, end: area.column + 4, style: plain)
    canvas.sparkline(
      model.list.history(of: machine.name), row: area.row, column: area.column + 5,
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
