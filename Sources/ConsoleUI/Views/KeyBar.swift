/// The last line: the most useful keys of where the user is, as many as fit. Also tells what a click on it means.
package struct KeyBarItems {
  private struct Item {
    var key: String
    var label: String
    var action: Action?
    var column: Int
    var width: Int { 2 + key.cellWidth + label.cellWidth + 1 }
  }

  private var items: [Item] = []

  package init(_ model: Model, columns: Int) {
    var column = 0
    for (key, label, action) in Self.entries(model) {
      let item = Item(key: key, label: label, action: action, column: column)
      guard column + item.width <= columns else { continue }
      items.append(item)
      column += item.width
    }
  }

  /// The action under a column of the bar.
  package func action(at column: Int) -> Action? {
    items.first { $0.column <= column && column < $0.column + $0.width }?.action
  }

  func draw(in area: Rectangle, _ model: Model, _ canvas: inout Canvas) {
    guard !area.isEmpty else { return }
    canvas.fill(area, style: model.palette[.keyLabel])
    for item in items {
      let column = area.column + item.column
      let used = canvas.put(
        " \(item.key) ", row: area.row, column: column, style: model.palette[.key])
      canvas.put(
        item.label, row: area.row, column: column + used, style: model.palette[.keyLabel])
    }
  }

  private static func entries(_ model: Model) -> [(String, String, Action?)] {
    switch model.overlay {
    case .confirmation:
      return [("Tab", "Choose", nil), ("Enter", "Press", nil), ("Esc", "Cancel", nil)]
    case .form:
      return [
        ("Enter", "Done", nil), ("Tab", "Next field", nil), ("Space", "Change", nil),
        ("Esc", "Cancel", nil),
      ]
    case .picker:
      return [("Enter", "Choose", nil), ("Up/Down", "Move", nil), ("Esc", "Cancel", nil)]
    case .help, .text:
      return [("Up/Down", "Scroll", nil), ("Esc", "Close", nil)]
    case .commandLine:
      return [
        ("Tab", "Complete", nil), ("Up", "History", nil), ("Enter", "Run", nil),
        ("Esc", "Cancel", nil),
      ]
    case .filter: return [("Enter", "Keep", nil), ("Esc", "Clear", nil)]
    case .search: return [("Enter", "Search", nil), ("Esc", "Cancel", nil)]
    case .askKey: return [("Esc", "Leave it", nil)]
    case nil: break
    }
    let isArmed = model.focusedConsole?.isPrefixArmed ?? false
    let prefix = model.context == .console && !isArmed ? model.prefix.label + " " : ""
    return model.keys.bar(in: model.context).compactMap { binding in
      guard let key = binding.keys.first else { return nil }
      if !model.context.hasCommonKeys, binding.context == .everywhere { return nil }
      if !model.list.isLoaded || model.list.machines.isEmpty, model.context == .machines {
        // With nothing to act on, only what makes something.
        let useful: Set<Action> = [.newMachine, .demo, .help, .commandLine, .quit]
        guard useful.contains(binding.action) else { return nil }
      } else if binding.action == .demo {
        return nil
      }
      let isAboutMachine = [.machines, .snapshots, .console].contains(model.context)
      if isAboutMachine, let state = model.subject?.state, !isUseful(binding.action, state) {
        return nil
      }
      return (prefix + key.label, label(of: binding, model), binding.action)
    }
  }

  /// What would only be refused in this state needs no room.
  private static func isUseful(_ action: Action, _ state: MachineCondition) -> Bool {
    switch action {
    case .start: [.stopped, .suspended, .crashed, .paused, .halted].contains(state)
    case .powerDown: [.running, .halted].contains(state)
    case .forceStop: state.isAlive
    case .attach: state != .template && state != .broken
    case .showLog: state != .template && state != .broken
    case .takeSnapshot, .rollBack, .rollForward:
      state != .template && state != .broken
    default: true
    }
  }

  /// Some keys do different things by state; the bar says which.
  private static func label(of binding: KeyBinding, _ model: Model) -> String {
    switch (binding.action, model.subject?.state) {
    case (.start, .paused), (.start, .suspended): "Resume"
    case (.start, .halted): "Restart"
    case (.edit, .broken): "Mend"
    default: binding.label
    }
  }
}
