import VirtualTerminal

// Attached consoles: keys to the guest, the prefix and what follows it, scrolling back, the mouse.

extension Model {
  /// Opens a machine's console, or goes to it when it is open.
  package mutating func open(_ name: String) -> [Effect] {
    list.unread.remove(name)
    if let pane = consoles.first(where: { $0.machine == name && $0.kind == .serial }) {
      activeConsole = pane.number
      isConsoleFocused = true
      return []
    }
    let number = ConsoleNumber(makeNumber())
    let size = Size(columns: 80, rows: 24)
    consoles.append(ConsolePane(number: number, machine: name, size: size))
    activeConsole = number
    isConsoleFocused = true
    message = nil
    return [.attach(name, number, size)]
  }

  mutating func performOnConsole(_ action: Action) -> [Effect] {
    switch action {
    case .attach:
      guard let machine = subject else { return refuse("no machine is selected") }
      if machine.state == .template {
        return refuse("\(machine.name) is a template and never runs; t makes a machine from it")
      }
      if machine.state == .broken {
        return refuse("\(machine.name) is broken: \(machine.problem ?? "no reason known")")
      }
      return open(machine.name)
    case .detach: return closeConsole()
    case .zoom: isConsoleZoomed.toggle()
    case .focusList: isConsoleFocused = focusedConsole != nil && !isConsoleFocused
    case .scrollback:
      withActiveConsole { $0.beginScrolling() }
    case .nextConsole: stepConsole(1)
    case .previousConsole: stepConsole(-1)
    case .sendPrefix:
      guard let pane = focusedConsole else { return [] }
      if pane.kind == .display { return pressOnDisplay(prefix, pane) }
      return [.send(GuestKeys.bytes(for: prefix, modes: pane.terminal.modes), pane.number)]
    default: break
    }
    return []
  }

  private mutating func stepConsole(_ step: Int) {
    guard let index = consoles.firstIndex(where: { $0.number == activeConsole }) else { return }
    let pane = consoles[(index + step + consoles.count) % consoles.count]
    activeConsole = pane.number
    list.unread.remove(pane.machine)
    if consoles.count == 1 { say("no other console is open") }
  }

  private mutating func closeConsole() -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    consoles.removeAll { $0.number == pane.number }
    activeConsole = consoles.last?.number
    isConsoleFocused = false
    let runs = list.machine(pane.machine)?.state.isAlive ?? false
    say("detached from \(pane.machine)" + (runs ? "; it runs on" : ""))
    return [.detach(pane.number)]
  }

  package mutating func withActiveConsole(_ body: (inout ConsolePane) -> Void) {
    if let activeConsole { withConsole(activeConsole, body) }
  }

  // MARK: Keys

  mutating func pressInConsole(_ key: Key) -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    if pane.isPrefixArmed { return pressAfterPrefix(key) }
    if key == prefix {
      withActiveConsole { $0.isPrefixArmed = true }
      return []
    }
    if pane.isScrolledBack { return pressInScrollback(key) }
    switch pane.state {
    case .open where pane.kind == .display: return pressOnDisplay(key, pane)
    case .open:
      return [.send(GuestKeys.bytes(for: key, modes: pane.terminal.modes), pane.number)]
    case .closed:
      if ["q", "Esc", "Enter"].contains(key) { return closeConsole() }
      return []
    case .connecting:
      return []
    }
  }

  private mutating func pressAfterPrefix(_ key: Key) -> [Effect] {
    withActiveConsole { $0.isPrefixArmed = false }
    if key == prefix { return perform(.sendPrefix) }
    if key == "Esc" { return [] }
    guard let action = keys.action(for: key, in: .console) else {
      say("\(prefix.label) \(key.label) has no meaning; \(prefix.label) ? shows the keys")
      return []
    }
    let effects = perform(action)
    if key == "PgUp" { _ = pressInScrollback(key) }
    return effects
  }

  private mutating func pressInScrollback(_ key: Key) -> [Effect] {
    guard let action = keys.action(for: key, in: .scrollback) else { return [] }
    let page = Layout(self).guest.rows
    switch action {
    case .help: return perform(.help)
    case .clear: withActiveConsole { $0.endScrolling() }
    case .up: withActiveConsole { $0.scroll(by: -1) }
    case .down: withActiveConsole { $0.scroll(by: 1) }
    case .pageUp: withActiveConsole { $0.scroll(by: -max(1, page - 1)) }
    case .pageDown: withActiveConsole { $0.scroll(by: max(1, page - 1)) }
    case .halfUp: withActiveConsole { $0.scroll(by: -max(1, page / 2)) }
    case .halfDown: withActiveConsole { $0.scroll(by: max(1, page / 2)) }
    case .first: withActiveConsole { $0.scroll(by: -$0.terminal.scrollbackCount) }
    case .last: withActiveConsole { $0.scroll(by: $0.terminal.scrollbackCount) }
    default: break
    }
    return []
  }

  mutating func pasteIntoConsole(_ bytes: [UInt8]) -> [Effect] {
    guard let pane = focusedConsole, pane.state == .open else { return [] }
    withActiveConsole { $0.endScrolling() }
    if pane.kind == .display { return pasteIntoDisplay(bytes, pane) }
    return [.send(GuestKeys.paste(bytes, modes: pane.terminal.modes), pane.number)]
  }

  /// Tells a guest that wants to know whether its terminal has the focus (xterm's mode 1004).
  mutating func passFocus(_ on: Bool) -> [Effect] {
    guard isConsoleFocused, let pane = focusedConsole, pane.state == .open,
      pane.terminal.modes.contains(.focusEvents)
    else { return [] }
    return [.send(Array("\u{1B}[\(on ? "I" : "O")".utf8), pane.number)]
  }

  // MARK: Mouse

  mutating func mouseInConsole(_ event: MouseEvent, _ layout: Layout) -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    let wasFocused = isConsoleFocused
    if event.action == .press { isConsoleFocused = true }
    let guest = layout.guest
    if wasFocused, guest.contains(event.position), pane.terminal.mouseTracking != .off,
      !pane.isScrolledBack
    {
      let corner = GuestView.corner(of: pane, in: guest)
      let place = Position(
        row: event.position.row - guest.row + corner.row,
        column: event.position.column - guest.column + corner.column)
      let bytes = GuestKeys.mouse(
        event, at: place, tracking: pane.terminal.mouseTracking,
        encoding: pane.terminal.mouseEncoding)
      return bytes.isEmpty ? [] : [.send(bytes, pane.number)]
    }
    switch event.action {
    case .wheelUp: withActiveConsole { $0.scroll(by: -3) }
    case .wheelDown where pane.isScrolledBack:
      withActiveConsole { pane in
        pane.scroll(by: 3)
        if pane.scrollDistance == 0 { pane.endScrolling() }
      }
    default: break
    }
    return []
  }
}
