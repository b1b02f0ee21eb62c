/// What stands over the screen and takes the keys.
package enum Overlay: Equatable, Sendable {
  case confirmation(Confirmation)
  case form(Form)
  case picker(Picker)
  /// The keys of a context; `top` is the first line shown.
  case help(KeyContext, top: Int)
  /// A text too long for the message line.
  case text(title: String, lines: [String], top: Int)
  case commandLine(CommandPrompt)
  case filter(TextField, before: String)
  /// A search in copy mode.
  case search(TextField, forward: Bool)
  /// Waits for the key that leads commands.
  case askKey(KeyQuestion)
}

/// What a key is asked for.
package enum KeyQuestion: Equatable, Sendable {
  /// At the first attach: on many keyboards the usual key can not be typed.
  case prefixAtAttach
  case prefix
  case secondPrefix
}

/// A question with two buttons. Cancel has the focus at first.
package struct Confirmation: Equatable, Sendable {
  package var title: String
  /// What will happen and what will be lost.
  package var lines: [String]
  package var verb: String
  package var isDangerous: Bool
  package var requests: [MachineRequest]
  package var isVerbFocused = false

  init(
    title: String, lines: [String], verb: String, isDangerous: Bool, requests: [MachineRequest]
  ) {
    self.title = title
    self.lines = lines
    self.verb = verb
    self.isDangerous = isDangerous
    self.requests = requests
  }
}

/// A list to choose from, narrowed by typing.
package struct Picker: Equatable, Sendable {
  package struct Item: Equatable, Sendable {
    package var value: String
    package var label: String
    /// Shown at the right: the key, or what it is.
    package var note: String
  }

  package enum Purpose: Equatable, Sendable {
    case action
    case template
    /// The theme to go back to when nothing is chosen.
    case theme(before: String)
    case child(machine: String)
    /// A key for the display that has the focus.
    case guestKey
    /// A console to go to, and one to show beside the active one.
    case console
    case split
    case bootDevice(machine: String)
    /// What to do with the CD drive.
    case disc(machine: String)
  }

  package var title: String
  package var purpose: Purpose
  package var items: [Item]
  package var query = TextField()
  package var selection = 0

  init(_ purpose: Purpose, title: String, items: [Item], selection: Int = 0) {
    self.purpose = purpose
    self.title = title
    self.items = items
    self.selection = selection
  }

  /// Items that have all words of the query, those whose label begins with it first.
  package var shown: [Item] {
    let words = query.text.lowercased().split(separator: " ")
    guard let first = words.first else { return items }
    let found = items.filter { item in
      let text = (item.label + " " + item.value + " " + item.note).lowercased()
      return words.allSatisfy { text.contains($0) }
    }
    return found.filter { $0.label.lowercased().hasPrefix(first) }
      + found.filter { !$0.label.lowercased().hasPrefix(first) }
  }

  package var selected: Item? {
    let items = shown
    return items.isEmpty ? nil : items[min(items.count - 1, max(0, selection))]
  }
}
