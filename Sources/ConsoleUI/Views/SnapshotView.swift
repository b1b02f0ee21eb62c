/// The tree of a machine's snapshots, with the place where the machine stands.
struct SnapshotView {
  let model: Model
  let tree: SnapshotOutline

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 1 else { return }
    let palette = model.palette
    let (heading, rest) = area.splitTop(1)
    let (body, strip) = rest.splitTop(Self.treeRows(in: area))
    canvas.fill(heading, style: palette[.columns])
    canvas.put(
      "SNAPSHOTS OF \(tree.machine)", row: heading.row, column: heading.column + 2,
      style: palette[.sorted], limit: heading.columns - 2)
    drawHeadings(heading, &canvas)
    guard !tree.rows.isEmpty else {
      let text = tree.isLoaded ? "no snapshot yet; S takes one" : "reading"
      canvas.put(
        text, row: body.row + 1, column: body.column + 2, style: palette[.muted],
        limit: body.columns - 2)
      return
    }
    for line in 0..<body.rows {
      let index = tree.top + line
      guard index < tree.rows.count else { break }
      drawRow(
        tree.rows[index],
        Rectangle(row: body.row + line, column: body.column, rows: 1, columns: body.columns),
        &canvas)
    }
    canvas.scrollBar(
      in: body, first: tree.top, total: tree.rows.count, glyphs: model.glyphs,
      style: palette[.border])
    TimeLineView(model: model, tree: tree).draw(in: strip, &canvas)
  }

  /// Rows of the tree: what the heading and the time line leave.
  static func treeRows(in area: Rectangle) -> Int {
    max(1, area.rows - 1 - (area.rows >= 8 ? TimeLineView.rows : 0))
  }

  /// Ends of the right-hand columns, counted from the right edge: age, size, kind.
  private static let kindWidth = 13
  private static let sizeWidth = 6
  private static let ageWidth = 12

  private func rightWidth(_ columns: Int) -> Int {
    columns >= 60 ? Self.kindWidth + Self.sizeWidth + Self.ageWidth + 4 : Self.ageWidth + 2
  }

  private func drawHeadings(_ area: Rectangle, _ canvas: inout Canvas) {
    guard area.columns >= 60 else { return }
    let style = model.palette[.columns]
    var end = area.endColumn - 2
    for (title, width) in [("KEEPS", Self.kindWidth), ("SIZE", Self.sizeWidth)] {
      canvas.putRight(title, row: area.row, end: end, style: style)
      end -= width + 1
    }
    canvas.putRight("TAKEN", row: area.row, end: end, style: style)
  }

  private func drawRow(
    _ row: SnapshotOutline.Row, _ area: Rectangle, _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let snapshot = row.snapshot
    let isSelected = snapshot.identifier == tree.selection
    let ground = palette[isSelected ? .selection : .text]
    canvas.fill(area, style: ground)
    func style(_ role: Role) -> Style { isSelected ? palette[role].on(ground) : palette[role] }
    if isSelected {
      canvas.set(model.glyphs.marker, row: area.row, column: area.column, style: style(.focus))
    }
    let right = rightWidth(area.columns)
    var column = area.column + 2
    let limit = area.endColumn - right
    let lines = rails(row)
    column += canvas.put(
      lines, row: area.row, column: column, style: style(.border), limit: max(0, limit - column))
    let dot = snapshot.isCurrent ? model.glyphs.here : model.glyphs.node
    if column < limit {
      canvas.set(
        dot, row: area.row, column: column, style: style(snapshot.isCurrent ? .here : .muted))
      column += 2
    }
    let title = snapshot.title.clipped(
      to: max(0, limit - column - 1), ellipsis: model.glyphs.ellipsis)
    let look = snapshot.isAutomatic ? style(.muted) : isSelected ? ground : palette[.text]
    column += canvas.put(title, row: area.row, column: column, style: look)
    let here = "  " + (model.glyphs == .unicode ? "◀ you are here" : "<- you are here")
    if snapshot.isCurrent, column + here.cellWidth <= limit {
      canvas.put(here, row: area.row, column: column, style: style(.here))
    }
    drawRight(snapshot, area, style(.muted), &canvas)
  }

  /// The lines to the left of a node.
  private func rails(_ row: SnapshotOutline.Row) -> String {
    // Of very deep trees the left is cut, where nothing is told apart any more.
    let trunk = row.rails.suffix(24).map { $0 ? model.glyphs.trunk : "  " }.joined()
    switch row.joint {
    case .straight: return trunk
    case .branch: return trunk + model.glyphs.branch
    case .lastBranch: return trunk + model.glyphs.lastBranch
    }
  }

  private func drawRight(
    _ snapshot: SnapshotStatus, _ area: Rectangle, _ style: Style, _ canvas: inout Canvas
  ) {
    var end = area.endColumn - 2
    if area.columns >= 60 {
      let kind = snapshot.hasMemory ? "disk, memory" : "disk"
      canvas.putRight(kind, row: area.row, end: end, style: style)
      end -= Self.kindWidth + 1
      canvas.putRight(Quantity.short(snapshot.size), row: area.row, end: end, style: style)
      end -= Self.sizeWidth + 1
    }
    let age = Quantity.age(of: snapshot.time, now: model.wallClock)
    canvas.putRight(age, row: area.row, end: end, style: style)
  }
}

/// What the selected snapshot is and what the keys would do with it.
struct SnapshotDetailView {
  let model: Model
  let tree: SnapshotOutline

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 4, area.columns >= 24, let snapshot = tree.selected else { return }
    let palette = model.palette
    canvas.frame(
      area, title: snapshot.title, glyphs: model.glyphs, border: palette[.border],
      titleStyle: palette[.title])
    let inner = area.inset(rows: 1, columns: 2)
    var row = inner.row
    for (text, role) in lines(snapshot) {
      for part in text.wrapped(to: inner.columns) where row < inner.endRow {
        canvas.put(part, row: row, column: inner.column, style: palette[role])
        row += 1
      }
    }
  }

  private func lines(_ snapshot: SnapshotStatus) -> [(String, Role)] {
    var lines: [(String, Role)] = []
    let kind = snapshot.hasMemory ? "disks, memory and devices" : "disks"
    lines.append(
      ("Taken \(Quantity.age(of: snapshot.time, now: model.wallClock)); keeps \(kind).", .text))
    if snapshot.isAutomatic {
      lines.append(("Kept by itself when the machine was rolled away from this state.", .muted))
    }
    if snapshot.isCurrent {
      lines.append(("The machine's disks grow from here.", .here))
    } else {
      lines.append(("Enter makes the machine what it was here. What is there now is kept.", .text))
    }
    let children = tree.children(of: snapshot.identifier).count
    if children > 0 {
      lines.append(
        ("\(children) snapshot\(children == 1 ? " grows" : "s grow") from it.", .muted))
    }
    lines.append(("Identifier \(snapshot.identifier)", .muted))
    return lines
  }
}

/// All snapshots in the order of time on one line, with the times of the first and last.
struct TimeLineView {
  let model: Model
  let tree: SnapshotOutline

  static let rows = 3

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    let line = tree.timeLine
    guard area.rows >= Self.rows, area.columns >= 20, let first = line.first, let last = line.last
    else { return }
    let palette = model.palette
    let row = area.row + 1
    let start = area.column + 2
    let room = area.columns - 5
    for column in start..<start + room {
      canvas.set(model.glyphs.horizontal, row: row, column: column, style: palette[.border])
    }
    // Nodes keep their order and a distance; where there are too many, those around the selection are seen.
    let step = max(2, min(12, room / max(1, line.count)))
    let fits = max(1, room / step)
    let selected = line.firstIndex { $0.identifier == tree.selection } ?? 0
    let from = max(0, min(selected - fits / 2, line.count - fits))
    for (place, node) in line.dropFirst(from).prefix(fits).enumerated() {
      let column = start + place * step
      let isSelected = node.identifier == tree.selection
      let glyph = node.isCurrent ? model.glyphs.here : model.glyphs.node
      let look: Role = node.isCurrent ? .here : node.isAutomatic ? .muted : .text
      let ground = palette[isSelected ? .selection : .text]
      if isSelected {
        canvas.set("[", row: row, column: column - 1, style: ground)
        canvas.set("]", row: row, column: column + 1, style: ground)
      }
      canvas.set(glyph, row: row, column: column, style: palette[look].on(ground))
    }
    let left = "\(from > 0 ? "< " : "")\(ClockTime.date(line[from].time))"
    let lastShown = line[min(line.count, from + fits) - 1]
    canvas.put(left, row: row + 1, column: start, style: palette[.muted])
    if lastShown.identifier != first.identifier {
      let more = lastShown.identifier != last.identifier ? " >" : ""
      canvas.putRight(
        "\(ClockTime.date(lastShown.time))\(more)", row: row + 1, end: start + room,
        style: palette[.muted])
    }
    canvas.put(
      "TIME", row: area.row, column: start, style: palette[.muted], limit: room)
    if let node = tree.selected {
      let text = "\(ClockTime.date(node.time))  \(node.title)"
      canvas.put(
        text.clipped(to: room - 6, ellipsis: model.glyphs.ellipsis), row: area.row,
        column: start + 6, style: palette[.text])
    }
  }
}
