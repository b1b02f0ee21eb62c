import VirtualTerminal

/// An attached console with its frame. The frame always says how to leave.
struct ConsoleView {
  let model: Model
  let pane: ConsolePane

  func draw(_ layout: Layout, _ canvas: inout Canvas) {
    let area = layout.console
    let isFocused = model.isConsoleFocused
    let border = model.palette[isFocused ? .focus : .border]
    if layout.isConsoleFramed {
      canvas.fill(area, style: model.palette[.text])
      canvas.frame(
        area, glyphs: model.glyphs, border: border, titleStyle: model.palette[.title])
    } else {
      let bar = area.splitTop(1).top
      canvas.fill(bar, model.glyphs.horizontal, style: border)
    }
    GuestView.draw(
      pane, in: layout.guest, model, showsCursor: isFocused && model.overlay == nil, &canvas)
    drawTitle(in: area.splitTop(1).top, &canvas)
    drawState(in: layout.guest, &canvas)
    if !layout.isConsoleFramed { drawMessage(layout.guest, &canvas) }
  }

  private func drawTitle(in bar: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    var column = bar.column + 2
    let end = bar.endColumn - 2
    let hint = " \(hintText) "
    let hintRole: Role = pane.isPrefixArmed ? .buttonFocus : .key
    let hintColumn = end - hint.cellWidth
    if hintColumn > column {
      canvas.put(hint, row: bar.row, column: hintColumn, style: palette[hintRole])
    }
    func part(_ text: String, _ role: Role) {
      let room = hintColumn - column - 1
      guard room > 3 else { return }
      let text = " " + text.clipped(to: room - 2, ellipsis: model.glyphs.ellipsis) + " "
      column += canvas.put(text, row: bar.row, column: column, style: palette[role])
    }
    part(pane.kind == .display ? "\(pane.machine), display" : pane.machine, .title)
    if let machine = model.list.machine(pane.machine) {
      let glyph = machine.state.glyph(model.glyphs, step: model.animationStep)
      part("\(glyph) \(machine.state.word)", machine.state.role)
    }
    if pane.isScrolledBack {
      part(
        "\(pane.scrollDistance) lines back" + (pane.hasNews ? ", new output below" : ""), .unread)
    } else if !pane.terminal.title.isEmpty {
      part(pane.terminal.title, .muted)
    }
  }

  private var hintText: String {
    let prefix = model.prefix.label
    if pane.isPrefixArmed { return "d detach  z zoom  [ scroll  Tab list  ? more" }
    if pane.isScrolledBack { return "q back to now" }
    if case .closed = pane.state { return "Enter closes" }
    if !model.isConsoleFocused { return "Tab here" }
    return "detach: \(prefix) d  keys: \(prefix) ?"
  }

  /// A line over the guest's screen where there is nothing to see or nobody to type to.
  private func drawState(in guest: Rectangle, _ canvas: inout Canvas) {
    let text: String
    var role = Role.columns
    switch pane.state {
    case .open: return
    case .connecting: text = "\(model.glyphs.spinner(model.animationStep)) connecting"
    case .closed(let reason):
      text = "closed: \(reason)"
      role = .key
    }
    guard guest.rows > 0 else { return }
    let row = guest.endRow - 1
    canvas.fill(
      Rectangle(row: row, column: guest.column, rows: 1, columns: guest.columns),
      style: model.palette[role])
    canvas.put(
      text, row: row, column: guest.column + 1, style: model.palette[role],
      limit: guest.columns - 2)
  }

  /// Without a message line, messages stand over the guest's last row for as long as they last.
  private func drawMessage(_ guest: Rectangle, _ canvas: inout Canvas) {
    guard let message = model.message, guest.rows > 2 else { return }
    let row = guest.endRow - (pane.state == .open ? 1 : 2)
    let text = " " + message.text.clipped(to: guest.columns - 2, ellipsis: model.glyphs.ellipsis)
    canvas.fill(
      Rectangle(row: row, column: guest.column, rows: 1, columns: guest.columns),
      style: model.palette[.header])
    canvas.put(text, row: row, column: guest.column, style: model.palette[.header])
  }
}
