import VirtualTerminal

// Attached consoles: opening and closing, several side by side, keys to the guest, the prefix and what follows it.

extension Model {
  /// Opens a machine's console, or goes to it when it is open.
  package mutating func open(_ name: String, _ source: ConsoleSource? = nil) -> [Effect] {
    let effects = openPane(name, source)
    isConsoleFocused = true
    message = nil
    if asksForPrefix, overlay == nil { overlay = .askKey(.prefixAtAttach) }
    return effects
  }

  private mutating func openPane(_ name: String, _ source: ConsoleSource?) -> [Effect] {
    list.unread.remove(name)
    list.bells.remove(name)
    if let pane = consoles.first(where: {
      $0.machine == name && (source == nil ? $0.source != .display : $0.source == source)
    }) {
      activate(pane.number)
      return []
    }
    let first = list.machine(name)?.serialPorts.first ?? 0
    let source = source ?? .serial(first)
    let number = ConsoleNumber(makeNumber())
    let size = Size(columns: 80, rows: 24)
    consoles.append(ConsolePane(number: number, machine: name, source: source, size: size))
    activate(number)
    return [.attach(name, source, number, size)]
  }

  private mutating func activate(_ number: ConsoleNumber) {
    activeConsole = number
    if let pane = focusedConsole {
      list.unread.remove(pane.machine)
      list.bells.remove(pane.machine)
    }
    // A console that is not among those side by side is shown alone.
    if !splitConsoles.contains(number) { typesToAll = false }
  }

  /// Opens the consoles of several machines side by side.
  mutating func openTogether(_ machines: [MachineSummary]) -> [Effect] {
    let able = machines.filter { $0.state != .template && $0.state != .broken }
    guard able.count <= 16 else { return refuse("at most 16 consoles fit side by side") }
    guard let first = able.first else { return refuse("none of them has a console") }
    var effects: [Effect] = []
    var tiles: [ConsoleNumber] = []
    for machine in able {
      effects += openPane(machine.name, nil)
      if let activeConsole { tiles.append(activeConsole) }
    }
    splitConsoles = tiles
    isConsoleZoomed = false
    list.clearMarks()
    return effects + open(first.name)
  }

  mutating func performOnConsole(_ action: Action) -> [Effect] {
    switch action {
    case .attach: return attach()
    case .detach: return closeConsole()
    case .zoom: isConsoleZoomed.toggle()
    case .focusList: isConsoleFocused = focusedConsole != nil && !isConsoleFocused
    case .copyMode: withActiveConsole { $0.beginCopyMode() }
    case .searchForward, .searchBackward:
      withActiveConsole { $0.beginCopyMode() }
      overlay = .search(TextField(), forward: action == .searchForward)
    case .nextConsole: stepConsole(1)
    case .previousConsole: stepConsole(-1)
    case .nextTile: stepTile(1)
    case .previousTile: stepTile(-1)
    case .split: return chooseConsole(.split, title: "Which console beside this one?")
    case .switchConsole: return chooseConsole(.console, title: "Which console?")
    case .closeTile: closeTile()
    case .nextPort: return nextPort()
    case .typeToAll: toggleTypeToAll()
    case .watchOnly:
      withActiveConsole { $0.isWatchOnly.toggle() }
      say(
        focusedConsole?.isWatchOnly ?? false
          ? "watching only: keys do not reach the guest" : "keys reach the guest again")
    case .sendBreak, .tellSize, .paste, .sendPrefix: return sendSpecial(action)
    default: break
    }
    return []
  }

  private mutating func attach() -> [Effect] {
    if context == .machines, list.marks.count > 1 { return openTogether(list.targets) }
    guard let machine = subject else { return refuse("no machine is selected") }
    if machine.state == .template {
      let key = keys.label(.newFromTemplate)
      return refuse(
        "\(machine.name) is a template and never runs; \(key) makes a machine from it")
    }
    if machine.state == .broken {
      return refuse("\(machine.name) is broken: \(machine.problem ?? "no reason known")")
    }
    guard !machine.serialPorts.isEmpty else {
      return refuse("\(machine.name) has no serial port that takes consoles; e gives it one")
    }
    return open(machine.name)
  }

  private mutating func sendSpecial(_ action: Action) -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    switch action {
    case .sendPrefix where pane.source == .display: return pressOnDisplay(prefix, pane)
    case .tellSize where pane.source == .display:
      return refuse("a display has the size that the guest gives it")
    case .sendPrefix:
      return [.send(GuestKeys.bytes(for: prefix, modes: pane.terminal.modes), pane.number)]
    case .paste:
      guard !copyBuffer.isEmpty else { return refuse("nothing was copied yet") }
      return pasteIntoConsole(Array(copyBuffer.utf8))
    case .tellSize:
      let line = "stty rows \(pane.terminal.rows) cols \(pane.terminal.columns)\r"
      return [.send(Array(line.utf8), pane.number)]
    case .sendBreak:
      guard case .serial(let port) = pane.source else { return [] }
      return [request(.sendBreak(pane.machine, port: port))]
    default: return []
    }
  }

  // MARK: Several consoles

  private mutating func stepConsole(_ step: Int) {
    guard let index = consoles.firstIndex(where: { $0.number == activeConsole }) else { return }
    activate(consoles[(index + step + consoles.count) % consoles.count].number)
    if consoles.count == 1 { say("no other console is open") }
  }

  private mutating func stepTile(_ step: Int) {
    let tiles = shownConsoles.map(\.number)
    guard tiles.count > 1, let index = tiles.firstIndex(where: { $0 == activeConsole }) else {
      stepConsole(step)
      return
    }
    activate(tiles[(index + step + tiles.count) % tiles.count])
  }

  private mutating func chooseConsole(_ purpose: Picker.Purpose, title: String) -> [Effect] {
    let items = list.machines.filter { $0.state != .template && $0.state != .broken }
      .flatMap { machine in
        machine.serialPorts.map { port in
          let mark = list.bells.contains(machine.name) ? "bell" : ""
          let news = list.unread.contains(machine.name) ? "new output" : mark
          let label =
            machine.serialPorts.count > 1 ? "\(machine.name) COM\(port + 1)" : machine.name
          return Picker.Item(
            value: "\(port) \(machine.name)", label: label,
            note: news.isEmpty ? machine.state.word : news)
        }
      }
    guard !items.isEmpty else { return refuse("there is no other machine") }
    overlay = .picker(Picker(purpose, title: title, items: items))
    return []
  }

  /// Shows another console beside the active one.
  mutating func split(with machine: String, _ source: ConsoleSource) -> [Effect] {
    guard let own = activeConsole else { return open(machine, source) }
    var tiles = splitConsoles.contains(own) ? splitConsoles : [own]
    let effects = open(machine, source)
    if let new = activeConsole, !tiles.contains(new) {
      tiles.insert(new, at: (tiles.firstIndex(of: own) ?? tiles.count - 1) + 1)
    }
    splitConsoles = tiles
    isConsoleZoomed = false
    return effects
  }

  private mutating func closeTile() {
    guard let active = activeConsole, splitConsoles.count > 1 else {
      say("this is the only console shown")
      return
    }
    let next = splitConsoles.firstIndex(of: active).map { max(0, $0 - 1) } ?? 0
    splitConsoles.removeAll { $0 == active }
    activate(splitConsoles[min(next, splitConsoles.count - 1)])
    if splitConsoles.count < 2 { splitConsoles = [] }
    if splitConsoles.isEmpty { typesToAll = false }
  }

  private mutating func nextPort() -> [Effect] {
    guard let pane = focusedConsole, let machine = list.machine(pane.machine),
      case .serial(let port) = pane.source
    else { return [] }
    let ports = machine.serialPorts
    guard ports.count > 1, let index = ports.firstIndex(of: port) else {
      return refuse("\(machine.name) has no other port")
    }
    let place = splitConsoles.firstIndex(of: pane.number)
    let effects = open(machine.name, .serial(ports[(index + 1) % ports.count]))
    if let place, let activeConsole { splitConsoles[place] = activeConsole }
    return effects
  }

  private mutating func toggleTypeToAll() {
    guard shownConsoles.count > 1 else {
      say(
        "show several consoles first: mark machines and press Enter, or split with "
          + "\(prefix.label) \(keys.label(.split, in: .console))")
      return
    }
    typesToAll.toggle()
    say(
      typesToAll
        ? "what you type goes to all \(shownConsoles.count) consoles"
        : "what you type goes to one console again")
  }

  private mutating func closeConsole() -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    consoles.removeAll { $0.number == pane.number }
    splitConsoles.removeAll { $0 == pane.number }
    if splitConsoles.count < 2 { splitConsoles = [] }
    typesToAll = false
    activeConsole = splitConsoles.last ?? consoles.last?.number
    isConsoleFocused = !splitConsoles.isEmpty
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
    if key == prefix || key == configuration.secondPrefix {
      withActiveConsole { $0.isPrefixArmed = true }
      return []
    }
    if pane.isScrolledBack { return pressInCopyMode(key) }
    switch pane.state {
    // What is typed before the host has answered waits in the stream for it.
    case .open, .connecting:
      return type { model, pane in
        pane.source == .display
          ? model.pressOnDisplay(key, pane)
          : [.send(GuestKeys.bytes(for: key, modes: pane.terminal.modes), pane.number)]
      }
    case .closed:
      if ["q", "Esc", "Enter"].contains(key) { return closeConsole() }
      return []
    }
  }

  /// Types into the active console, or into all that are shown. Each guest has modes of its own.
  private mutating func type(_ effects: (inout Model, ConsolePane) -> [Effect]) -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    let targets = typesToAll ? shownConsoles : [pane]
    let able = targets.filter { $0.takesKeys && !$0.isWatchOnly }
    if able.isEmpty, pane.isWatchOnly {
      say(
        "watching only; \(prefix.label) \(keys.label(.watchOnly, in: .console)) lets keys through")
    }
    var result: [Effect] = []
    for pane in able { result += effects(&self, pane) }
    return result
  }

  private mutating func pressAfterPrefix(_ key: Key) -> [Effect] {
    withActiveConsole { $0.isPrefixArmed = false }
    if key == prefix || key == configuration.secondPrefix {
      guard let pane = focusedConsole else { return [] }
      if pane.source == .display { return pressOnDisplay(key, pane) }
      return [.send(GuestKeys.bytes(for: key, modes: pane.terminal.modes), pane.number)]
    }
    if key == "Esc" { return [] }
    if let action = keys.action(for: key, in: .console) {
      let effects = perform(action)
      if action == .copyMode, key == "PgUp" { _ = pressInCopyMode(key) }
      return effects
    }
    if let digit = key.typedCharacter?.wholeNumberValue, (1...9).contains(digit) {
      guard consoles.indices.contains(digit - 1) else {
        return refuse("there is no console \(digit); \(consoles.count) are open")
      }
      activate(consoles[digit - 1].number)
      return []
    }
    say(
      "\(prefix.label) \(key.label) has no meaning; \(prefix.label) "
        + "\(keys.label(.help, in: .console)) shows the keys")
    return []
  }

  mutating func pasteIntoConsole(_ bytes: [UInt8]) -> [Effect] {
    guard let pane = focusedConsole, pane.takesKeys else { return [] }
    withActiveConsole { $0.endScrolling() }
    return type { model, pane in
      pane.source == .display
        ? model.pasteIntoDisplay(bytes, pane)
        : [.send(GuestKeys.paste(bytes, modes: pane.terminal.modes), pane.number)]
    }
  }

  /// Tells a guest that wants to know whether its terminal has the focus (xterm's mode 1004).
  mutating func passFocus(_ on: Bool) -> [Effect] {
    guard isConsoleFocused, let pane = focusedConsole, pane.state == .open, !pane.isWatchOnly,
      pane.terminal.modes.contains(.focusEvents)
    else { return [] }
    return [.send(Array("\u{1B}[\(on ? "I" : "O")".utf8), pane.number)]
  }
}
