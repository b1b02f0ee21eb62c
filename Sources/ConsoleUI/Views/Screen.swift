/// The whole screen as a function of the model.
package enum Screen {
  package static func draw(_ model: Model) -> Canvas {
    let palette = model.palette
    var canvas = Canvas(model.size, style: palette[.text])
    guard model.size.columns >= Layout.minimum.columns,
      model.size.rows >= Layout.minimum.rows
    else {
      drawTooSmall(model, &canvas)
      return canvas
    }
    let layout = Layout(model)
    HeaderView(model: model).draw(in: layout.header, &canvas)
    drawMain(model, layout, &canvas)
    for tile in layout.tiles {
      guard let pane = model.consoles.first(where: { $0.number == tile.number }) else { continue }
      ConsoleView(model: model, pane: pane).draw(tile, &canvas)
    }
    FloatingMessageView(model: model).draw(layout, &canvas)
    MessageView(model: model).draw(in: layout.message, &canvas)
    KeyBarItems(model, columns: layout.keyBar.columns).draw(in: layout.keyBar, model, &canvas)
    if let overlay = model.overlay {
      OverlayView(model: model, overlay: overlay).draw(layout, &canvas)
    }
    return canvas
  }

  private static func drawMain(_ model: Model, _ layout: Layout, _ canvas: inout Canvas) {
    guard !layout.main.isEmpty else { return }
    switch model.mainView {
    case .machines where model.list.machines.isEmpty:
      StartView(model: model).draw(in: layout.main.union(layout.detail), &canvas)
    case .machines:
      MachineListView(model: model).draw(in: layout.main, &canvas)
      DetailView(model: model).draw(in: layout.detail, &canvas)
    case .snapshots(let tree):
      SnapshotView(model: model, tree: tree).draw(in: layout.main, &canvas)
      SnapshotDetailView(model: model, tree: tree).draw(in: layout.detail, &canvas)
    case .log(let page): LogView(model: model, page: page).draw(in: layout.main, &canvas)
    case .images(let page): ImageView(model: model, page: page).draw(in: layout.main, &canvas)
    case .host(let top): HostView(model: model, top: top).draw(in: layout.main, &canvas)
    case .charts(let name): ChartsView(model: model, machine: name).draw(in: layout.main, &canvas)
    case .settings(let page):
      SettingsView(model: model, page: page).draw(in: layout.main, &canvas)
    }
  }

  private static func drawTooSmall(_ model: Model, _ canvas: inout Canvas) {
    let text =
      "uj needs \(Layout.minimum.columns)x\(Layout.minimum.rows), q leaves"
    canvas.put(text, row: 0, column: 0, style: model.palette[.text])
  }
}

extension Rectangle {
  /// The smallest rectangle around both; an empty one counts for nothing.
  func union(_ other: Rectangle) -> Rectangle {
    if other.isEmpty { return self }
    if isEmpty { return other }
    let row = min(self.row, other.row)
    let column = min(self.column, other.column)
    return Rectangle(
      row: row, column: column, rows: max(endRow, other.endRow) - row,
      columns: max(endColumn, other.endColumn) - column)
  }
}

/// The first line: where the user is, how many machines run, and how the host is.
struct HeaderView {
  let model: Model

  private static let brand = " Underjack "
  private static let pages: [(name: String, action: Action)] = [
    ("Machines", .showMachines), ("Events", .showEvents), ("Images", .showImages),
    ("Host", .showHost), ("Settings", .showSettings),
  ]

  private var page: Action {
    switch model.mainView {
    case .machines, .snapshots, .charts: .showMachines
    case .log: .showEvents
    case .images: .showImages
    case .host: .showHost
    case .settings: .showSettings
    }
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard !area.isEmpty else { return }
    let style = model.palette[.header]
    canvas.fill(area, style: style)
    canvas.put(Self.brand, row: area.row, column: area.column, style: model.palette[.brand])
    var column = area.column + Self.brand.count + 1
    for tab in tabs(area.columns) {
      let look = tab.action == page ? model.palette[.brand] : style
      canvas.put(tab.text, row: area.row, column: tab.column, style: look)
      column = tab.column + tab.text.cellWidth + 1
    }
    column +=
      canvas.put(
        summary, row: area.row, column: column, style: style,
        limit: max(0, area.endColumn - column - 1)) + 2
    for part in hostParts {
      let end = area.endColumn - 1
      guard column + part.cellWidth <= end else { continue }
      canvas.putRight(part, row: area.row, end: end, style: style)
      return
    }
  }

  /// The views by their keys, where there is room for them.
  private func tabs(_ columns: Int) -> [(text: String, column: Int, action: Action)] {
    guard columns >= 120 else { return [] }
    var column = Self.brand.count + 1
    return Self.pages.map { page in
      defer { column += page.name.count + 4 }
      let key = model.keys.label(page.action, in: .everywhere)
      return (" \(key) \(page.name) ", column, page.action)
    }
  }

  func action(at column: Int) -> Action? {
    tabs(model.size.columns).first {
      $0.column <= column && column < $0.column + $0.text.cellWidth
    }?.action
  }

  private var summary: String {
    guard model.list.isLoaded else { return "looking for machines" }
    let count = model.list.machines.count { $0.state != .template }
    if count == 0 { return "no machines" }
    return "\(count) machine\(count == 1 ? "" : "s"), \(model.list.aliveCount) on"
  }

  /// What is said of the host, longest first.
  private var hostParts: [String] {
    guard let host = model.host else { return [] }
    var text = ""
    if let use = host.processorUse { text += "CPU \(Quantity.percent(use))  " }
    if host.memory > 0 {
      let used = host.memory - min(host.memory, host.availableMemory)
      text += "memory \(Quantity.short(used))/\(Quantity.short(host.memory))"
    }
    let word = host.accelerator.firstWord
    return [text + (word.isEmpty ? "" : "  \(word)"), text]
  }
}

/// The line above the key bar: work that goes on, or the last message.
struct MessageView {
  let model: Model

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard !area.isEmpty else { return }
    let palette = model.palette
    canvas.fill(area, style: palette[.text])
    var end = area.endColumn - 1
    for note in notes {
      let style = palette[.muted]
      guard note.cellWidth < end - area.column - 20 else { continue }
      end = canvas.putRight(note, row: area.row, end: end, style: style) - 2
    }
    let room = max(0, end - area.column - 1)
    if let message = model.message {
      let role: Role =
        switch message.kind {
        case .notice: .text
        case .success: .ok
        case .failure: .error
        }
      let text = message.text.clipped(to: room, ellipsis: model.glyphs.ellipsis)
      canvas.put(text, row: area.row, column: area.column + 1, style: palette[role])
    } else if let work = model.pending.values.min(by: { $0.since < $1.since }) {
      draw(work, area, room, &canvas)
    }
  }

  private func draw(
    _ work: Model.PendingRequest, _ area: Rectangle, _ room: Int, _ canvas: inout Canvas
  ) {
    let style = model.palette[.starting]
    let wheel = String(model.glyphs.spinner(model.animationStep))
    var text = "\(wheel) \(work.text)"
    if let progress = work.progress { text += " \(Quantity.percent(progress))" }
    if model.pending.count > 1 { text += " (and \(model.pending.count - 1) more)" }
    canvas.put(
      text.clipped(to: room, ellipsis: model.glyphs.ellipsis), row: area.row,
      column: area.column + 1, style: style)
  }

  /// What holds besides: filter, marks, sort order.
  private var notes: [String] {
    var notes: [String] = []
    guard case .machines = model.mainView else { return [] }
    if model.isConsoleFocused { return [] }
    if model.list.grouping != .none { notes.append("by \(model.list.grouping.rawValue)") }
    if !model.list.marks.isEmpty { notes.append("\(model.list.marks.count) marked") }
    if !model.list.filter.isEmpty {
      notes.append(
        "filter '\(model.list.filter)': \(model.list.visible.count) of"
          + " \(model.list.machines.count)")
    }
    return notes
  }
}
