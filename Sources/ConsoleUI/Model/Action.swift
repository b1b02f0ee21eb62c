/// Everything that a key, a command or the palette can ask for.
package enum Action: String, CaseIterable, Hashable, Sendable {
  // Everywhere
  case help, palette, commandLine, quit, suspend, repaint, chooseTheme, clear
  // Moving
  case up, down, first, last, pageUp, pageDown, halfUp, halfDown
  // The list
  case filter, sortNext, sortPrevious, reverseSort, mark, markAll, toggleDetail
  // Power
  case attach, start, pause, powerDown, forceStop, reset, stopAll
  // Making and changing
  case newMachine, newFromTemplate, toggleTemplate, rename, delete, demo
  // Snapshots
  case takeSnapshot, showSnapshots, undo, rollBack, rollForward, parentSnapshot
  case branch, renameSnapshot, deleteSnapshot
  // An attached console, after the prefix
  case detach, sendPrefix, zoom, scrollback, focusList
  case nextConsole, previousConsole, redrawConsole
  // A display
  case attachDisplay, keysMenu
}

/// Where keys have a meaning.
package enum KeyContext: String, CaseIterable, Hashable, Sendable {
  case everywhere, machines, snapshots, console, scrollback

  package var title: String {
    switch self {
    case .everywhere: "Everywhere"
    case .machines: "Machines"
    case .snapshots: "Snapshots"
    case .console: "Attached console, after the prefix"
    case .scrollback: "Scrollback"
    }
  }
}

/// A row of the key table.
package struct KeyBinding: Sendable {
  package var context: KeyContext
  package var keys: [Key]
  package var action: Action
  /// One or two words for the key bar.
  package var label: String
  /// One line for help and palette.
  package var help: String
  /// Place in the key bar, 1 first; nil keeps it out.
  package var bar: Int?

  init(
    _ context: KeyContext, _ keys: [Key], _ action: Action, _ label: String, bar: Int? = nil,
    _ help: String
  ) {
    self.context = context
    self.keys = keys
    self.action = action
    self.label = label
    self.bar = bar
    self.help = help
  }
}
