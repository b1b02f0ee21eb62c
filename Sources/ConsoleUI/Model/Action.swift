/// Everything that a key, a command or the palette can ask for.
package enum Action: String, CaseIterable, Hashable, Sendable {
  // Everywhere
  case help, palette, commandLine, quit, suspend, repaint, chooseTheme, clear
  case showMachines, showEvents, showImages, showHost, showSettings
  // Moving
  case up, down, left, right, first, last, pageUp, pageDown, halfUp, halfDown
  // The list
  case filter, sortNext, sortPrevious, reverseSort, group, fold, mark, markRange, markAll
  case toggleDetail, showCharts, showLog, copyName
  // Power
  case attach, start, bootFrom, pause, suspendMachine, powerDown, forceStop, reset, stopAll
  // Making and changing
  case newMachine, newFromTemplate, toggleTemplate, edit, editText, disc, rename, delete, demo
  // Snapshots
  case takeSnapshot, showSnapshots, undo, rollBack, rollForward, parentSnapshot
  case branch, renameSnapshot, deleteSnapshot
  // An attached console, after the prefix
  case detach, sendPrefix, zoom, copyMode, paste, focusList, split, closeTile, nextTile
  case previousTile, nextConsole, previousConsole, switchConsole, nextPort, typeToAll, watchOnly
  case sendBreak, tellSize, redrawConsole
  // Copy mode
  case wordForward, wordBackward, wordEnd, lineStart, lineEnd, screenTop, screenMiddle
  case screenBottom, searchForward, searchBackward, searchNext, searchPrevious
  case selectCharacters, selectLines, selectBlock, otherEnd, copy, copyLine
  // Logs
  case nextLog, follow, wrap
  // Images
  case imageInformation, checkImage, convertImage, newImage, resizeImage, deleteImage
  // Settings
  case change
  // A display
  case attachDisplay, keysMenu
}

/// Where keys have a meaning.
package enum KeyContext: String, CaseIterable, Hashable, Sendable {
  case everywhere, machines, snapshots, log, images, host, charts, settings, console, copy

  package var title: String {
    switch self {
    case .everywhere: "Everywhere"
    case .machines: "Machines"
    case .snapshots: "Snapshots"
    case .log: "Logs and events"
    case .images: "Images"
    case .host: "Host"
    case .charts: "Charts"
    case .settings: "Settings"
    case .console: "Attached console, after the prefix"
    case .copy: "Copy mode"
    }
  }

  /// Keys of `everywhere` have their meaning here, too.
  var hasCommonKeys: Bool { self != .console && self != .copy && self != .everywhere }
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
