// The display of a machine in a pane: keys go in by name, and a menu has those that terminals cannot send.

extension Model {
  /// Opens a machine's display, or goes to it when it is open.
  package mutating func openDisplay(_ name: String) -> [Effect] {
    if let pane = consoles.first(where: { $0.machine == name && $0.kind == .display }) {
      activeConsole = pane.number
      isConsoleFocused = true
      return []
    }
    let number = ConsoleNumber(makeNumber())
    consoles.append(
      ConsolePane(
        number: number, machine: name, size: Size(columns: 80, rows: 25), kind: .display))
    activeConsole = number
    isConsoleFocused = true
    message = nil
    return [.attachDisplay(name, number)]
  }

  mutating func performOnDisplay(_ action: Action) -> [Effect] {
    switch action {
    case .attachDisplay:
      guard let machine = subject else { return refuse("no machine is selected") }
      guard machine.state.isAlive else {
        return refuse("\(machine.name) does not run: its display shows nothing")
      }
      return openDisplay(machine.name)
    case .keysMenu:
      guard let pane = focusedConsole, pane.kind == .display else {
        return refuse("this is a serial console; the keys of this menu go to displays")
      }
      overlay = .picker(
        Picker(
          .guestKey, title: "Press on \(pane.machine)'s keyboard",
          items: DisplayKeys.menu.map { Picker.Item(value: $0.name, label: $0.label, note: "") }))
      return []
    default: return []
    }
  }

  /// A key for the display that has the focus.
  mutating func pressOnDisplay(_ key: Key, _ pane: ConsolePane) -> [Effect] {
    guard let name = DisplayKeys.name(of: key) else {
      say("\(key.label) is on no PC's keyboard")
      return []
    }
    return [.sendKeys([name], pane.number)]
  }

  /// Pasted text is typed; what a keyboard has no key for is left out by the host, with a word.
  mutating func pasteIntoDisplay(_ bytes: [UInt8], _ pane: ConsolePane) -> [Effect] {
    let text = String(decoding: bytes, as: UTF8.self)
    let names = text.prefix(Self.pasteLimit).compactMap { character -> String? in
      if character.isNewline { return "enter" }
      if character == "\t" { return "tab" }
      return character.isASCII ? DisplayKeys.name(of: Key(.character(character))) : nil
    }
    if text.count > Self.pasteLimit {
      say("the first \(Self.pasteLimit) characters are typed; a keyboard is no place for more")
    }
    return names.isEmpty ? [] : [.sendKeys(names, pane.number)]
  }

  private static var pasteLimit: Int { 500 }
}
