// The display of a machine in a pane: keys go in by name, and a menu has those that terminals cannot send.

extension Model {
  mutating func performOnDisplay(_ action: Action) -> [Effect] {
    switch action {
    case .attachDisplay:
      guard let machine = subject else { return refuse("no machine is selected") }
      guard machine.state.isAlive else {
        return refuse("\(machine.name) does not run: its display shows nothing")
      }
      return open(machine.name, .display)
    case .keysMenu:
      guard let pane = focusedConsole, pane.source == .display else {
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
  func pressOnDisplay(_ key: Key, _ pane: ConsolePane) -> [Effect] {
    DisplayKeys.name(of: key).map { [.sendKeys([$0], pane.number)] } ?? []
  }

  /// Pasted text is typed, as much as a keyboard may hold up; what it has no key for is left out.
  func pasteIntoDisplay(_ bytes: [UInt8], _ pane: ConsolePane) -> [Effect] {
    let text = String(decoding: bytes, as: UTF8.self)
    let names = text.prefix(Self.pasteLimit).compactMap { character -> String? in
      if character.isNewline { return "enter" }
      if character == "\t" { return "tab" }
      return character.isASCII ? DisplayKeys.name(of: Key(.character(character))) : nil
    }
    return names.isEmpty ? [] : [.sendKeys(names, pane.number)]
  }

  private static var pasteLimit: Int { 500 }
}
