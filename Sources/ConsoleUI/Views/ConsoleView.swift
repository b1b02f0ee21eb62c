import VirtualTerminal

/// An attached console with its frame. The frame always says how to leave.
struct ConsoleView {
  let model: Model
  let pane: ConsolePane

  private var isActive: Bool { model.activeConsole == pane.number }
  private var isFocused: Bool { model.isConsoleFocused && isActive }
  /// Keys reach this guest.
  private var isTyped: Bool { isFocused || model.isConsoleFocused && model.typesToAll }

  func draw(_ tile: Layout.Tile, _ canvas: inout Canvas) {
    let area = tile.area
    let border = model.palette[isTyped ? .focus : .border]
    if tile.isFramed {
      canvas.fill(area, style: model.palette[.text])
      canvas.frame(
        area, glyphs: model.glyphs, border: border, titleStyle: model.palette[.title])
    } else {
      let bar = area.splitTop(1).top
      canvas.fill(bar, model.glyphs.horizontal, style: border)
    }
    GuestView.draw(
      pane, in: tile.guest, model, showsCursor: isFocused && model.overlay == nil, &canvas)
    drawTitle(in: area.splitTop(1).top, &canvas)
    drawState(in: tile.guest, &canvas)
  }

  private func drawTitle(in bar: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    var column = bar.column + 2
    let end = bar.endColumn - 2
    // What fits is said, the shortest last.
    let needed = pane.machine.cellWidth + (pane.isScrolledBack ? backText.cellWidth + 16 : 8)
    let hint = hints.map { $0.isEmpty ? "" : " \($0) " }.first {
      $0.cellWidth + needed <= end - column
    }
    var hintColumn = end
    if let hint, !hint.isEmpty {
      let hintRole: Role = pane.isPrefixArmed ? .buttonFocus : .key
      hintColumn = end - hint.cellWidth
      canvas.put(hint, row: bar.row, column: hintColumn, style: palette[hintRole])
    }
    func part(_ text: String, _ role: Role) {
      let room = hintColumn - column - 1
      guard room > 3 else { return }
      let text = " " + text.clipped(to: room - 2, ellipsis: model.glyphs.ellipsis) + " "
      column += canvas.put(text, row: bar.row, column: column, style: palette[role])
    }
    part(pane.source == .display ? "\(pane.machine), display" : pane.machine, .title)
    drawPorts(part)
    if let machine = model.list.machine(pane.machine) {
      let glyph = machine.state.glyph(model.glyphs, step: model.animationStep)
      part("\(glyph) \(machine.state.word)", machine.state.role)
    }
    if model.typesToAll, model.isConsoleFocused {
      part("TYPING TO \(model.shownConsoles.count)", .danger)
    }
    if pane.isWatchOnly { part("watch only", .warning) }
    if pane.isScrolledBack {
      part(backText, .unread)
    } else if model.list.bells.contains(pane.machine) {
      part("bell", .warning)
    } else if !pane.terminal.title.isEmpty {
      part(pane.terminal.title, .muted)
    }
  }

  /// A tab for each port of a machine that has several.
  private func drawPorts(_ part: (String, Role) -> Void) {
    guard let ports = model.list.machine(pane.machine)?.serialPorts, ports.count > 1 else { return }
    for port in ports {
      let source = ConsoleSource.serial(port)
      part(source.label, source == pane.source ? .sorted : .muted)
    }
  }

  private var backText: String {
    let news = pane.hasNews ? ", new output below" : ""
    guard pane.scrollDistance > 0 else { return "copy mode\(news)" }
    return "\(pane.scrollDistance) lines back\(news)"
  }

  /// What to say at the right of the title, longest first.
  private var hints: [String] {
    guard isActive else { return [""] }
    let keys = model.keys
    func key(_ action: Action) -> String { keys.label(action, in: .console) }
    let prefix = model.prefix.label
    if pane.isPrefixArmed {
      let long =
        "\(key(.detach)) detach  \(key(.zoom)) zoom  \(key(.copyMode)) scroll  \(key(.focusList)) list  \(key(.help)) more"
      return [long, "\(key(.detach)) detach  \(key(.help)) more", "\(key(.detach))"]
    }
    if pane.isScrolledBack {
      func copy(_ action: Action) -> String { keys.label(action, in: .copy) }
      return [
        "\(copy(.selectCharacters)) select  \(copy(.copy)) copy  \(copy(.searchBackward)) search  \(copy(.clear)) back to now",
        "\(copy(.clear)) back to now", copy(.clear),
      ]
    }
    if case .closed = pane.state { return ["Enter closes", ""] }
    if !model.isConsoleFocused { return ["Tab here", ""] }
    return [
      "detach: \(prefix) \(key(.detach))  keys: \(prefix) \(key(.help))",
      "detach: \(prefix) \(key(.detach))", "\(prefix) \(key(.detach))",
    ]
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
}

/// Without a message line, messages stand over the last row of the screen for as long as they last.
struct FloatingMessageView {
  let model: Model

  func draw(_ layout: Layout, _ canvas: inout Canvas) {
    guard layout.message.isEmpty, let message = model.message, canvas.size.rows > 3 else { return }
    var isClosed = false
    if let pane = model.focusedConsole, layout.tiles.count == 1, case .closed = pane.state {
      isClosed = true
    }
    let row = canvas.size.rows - (isClosed ? 2 : 1)
    let columns = canvas.size.columns
    let style = model.palette[message.kind == .failure ? .danger : .header]
    let text = " " + message.text.clipped(to: columns - 2, ellipsis: model.glyphs.ellipsis)
    canvas.fill(Rectangle(row: row, column: 0, rows: 1, columns: columns), style: style)
    canvas.put(text, row: row, column: 0, style: style)
  }
}
