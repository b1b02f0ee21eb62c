/// The one table of keys. It drives what keys do, the key bar, help and the palette, so that they can not disagree.
///
/// Lower case never cuts power or loses data; what does is upper case and asks first.
package struct KeyTable: Sendable {
  package private(set) var bindings: [KeyBinding]
  private var lookup: [KeyContext: [Key: Action]] = [:]

  /// - Parameter capabilities: What the service can do; keys for other things are left out.
  package init(
    bindings: [KeyBinding] = KeyTable.standard, capabilities: ServiceCapabilities = .all
  ) {
    let bindings = bindings.filter { binding in
      switch binding.action {
      case .branch: capabilities.contains(.branching)
      case .renameSnapshot: capabilities.contains(.snapshotRenaming)
      case .demo: capabilities.contains(.demonstration)
      default: true
      }
    }
    self.bindings = bindings
    for binding in bindings {
      for key in binding.keys { lookup[binding.context, default: [:]][key] = binding.action }
    }
  }

  package func action(for key: Key, in context: KeyContext) -> Action? {
    if let action = lookup[context]?[key] { return action }
    // A console's prefix takes only its own keys.
    guard context != .console, context != .scrollback else { return nil }
    return lookup[.everywhere]?[key]
  }

  package func bindings(in context: KeyContext) -> [KeyBinding] {
    bindings.filter { $0.context == context }
  }

  /// The first binding of an action where the user is.
  package func binding(for action: Action, in context: KeyContext) -> KeyBinding? {
    bindings.first { $0.action == action && $0.context == context }
      ?? bindings.first { $0.action == action && $0.context == .everywhere }
  }

  /// What the key bar shows, most important first.
  package func bar(in context: KeyContext) -> [KeyBinding] {
    bindings.filter { ($0.context == context || $0.context == .everywhere) && $0.bar != nil }
      .sorted { ($0.bar ?? 0) < ($1.bar ?? 0) }
  }

  package static let standard: [KeyBinding] = machines + snapshots + console + everywhere

  private static let machines: [KeyBinding] = [
    KeyBinding(
      .machines, ["Enter", "c"], .attach, "Attach", bar: 1,
      "attach to the serial console, also before the start"),
    KeyBinding(
      .machines, ["V"], .attachDisplay, "Display", "open the display: screen and keyboard"),
    KeyBinding(.machines, ["s"], .start, "Start", bar: 2, "start the machine; resume it if paused"),
    KeyBinding(.machines, ["p"], .pause, "Pause", "pause the machine, or let it go on"),
    KeyBinding(
      .machines, ["P"], .powerDown, "Stop", bar: 3, "ask the guest to power down (ACPI)"),
    KeyBinding(
      .machines, ["F"], .forceStop, "Force off", bar: 9, "cut the power: the guest gets no warning"),
    KeyBinding(.machines, ["Z"], .reset, "Reset", "press the reset button"),
    KeyBinding(.machines, ["X"], .stopAll, "Stop all", "power down every running machine"),
    KeyBinding(
      .machines, ["t"], .newFromTemplate, "From template", bar: 6,
      "make a machine from a template, at once and without copying"),
    KeyBinding(.machines, ["n", "F7"], .newMachine, "New", bar: 7, "make a machine from scratch"),
    KeyBinding(
      .machines, ["T"], .toggleTemplate, "Template",
      "make the machine a template, or a template a machine"),
    KeyBinding(.machines, ["r"], .rename, "Rename", "rename the machine"),
    KeyBinding(
      .machines, ["D", "F8"], .delete, "Delete", "delete the machine, its disks and snapshots"),
    KeyBinding(.machines, ["S"], .takeSnapshot, "Snapshot", bar: 4, "take a snapshot"),
    KeyBinding(
      .machines, ["m", "F5"], .showSnapshots, "Tree", bar: 5,
      "the tree of snapshots: roll back, forward, branch"),
    KeyBinding(.machines, ["]"], .rollForward, "Forward", "roll forward to the next snapshot"),
    KeyBinding(.machines, ["u"], .undo, "Undo", "take back the last roll or change"),
    KeyBinding(.machines, ["/", "F4"], .filter, "Filter", bar: 8, "show only machines that match"),
    KeyBinding(.machines, [">", "F6"], .sortNext, "Sort", "sort by the next column"),
    KeyBinding(.machines, ["<"], .sortPrevious, "Sort", "sort by the column before"),
    KeyBinding(.machines, ["o"], .reverseSort, "Reverse", "turn the order around"),
    KeyBinding(.machines, ["Space"], .mark, "Mark", "mark the machine for a common action"),
    KeyBinding(.machines, ["*"], .markAll, "Mark all", "mark all shown, or none"),
    KeyBinding(.machines, ["i"], .toggleDetail, "Details", "show or hide the details"),
    KeyBinding(.machines, ["d"], .demo, "Demo", "run the demonstration"),
  ]

  private static let snapshots: [KeyBinding] = [
    KeyBinding(
      .snapshots, ["R", "Enter"], .rollBack, "Roll to", bar: 1,
      "make the machine what it was at the selected snapshot; what is there now is kept"),
    KeyBinding(
      .snapshots, ["]"], .rollForward, "Forward", bar: 2,
      "roll forward from where the machine stands to the next snapshot"),
    KeyBinding(
      .snapshots, ["["], .parentSnapshot, "Parent", "roll back to the snapshot before this state"),
    KeyBinding(.snapshots, ["S"], .takeSnapshot, "Take", bar: 3, "take a snapshot of now"),
    KeyBinding(
      .snapshots, ["b"], .branch, "Branch", bar: 4, "make a new machine from the snapshot"),
    KeyBinding(.snapshots, ["e", "r"], .renameSnapshot, "Rename", bar: 5, "rename the snapshot"),
    KeyBinding(
      .snapshots, ["D", "F8"], .deleteSnapshot, "Delete", bar: 6,
      "delete the snapshot; those that grow from it keep what they need"),
    KeyBinding(.snapshots, ["u"], .undo, "Undo", bar: 7, "take back the last roll"),
    KeyBinding(.snapshots, ["s"], .start, "Start", "start the machine"),
    KeyBinding(.snapshots, ["P"], .powerDown, "Power down", "ask the guest to power down"),
    KeyBinding(.snapshots, ["F"], .forceStop, "Force off", "cut the power"),
    KeyBinding(.snapshots, ["c"], .attach, "Attach", "attach to the machine's console"),
    KeyBinding(
      .snapshots, ["q", "m", "F5", "F10"], .clear, "Back", bar: 21, "back to the list"),
  ]

  private static let console: [KeyBinding] = [
    KeyBinding(
      .console, ["d"], .detach, "Detach", bar: 1, "leave the console; the machine runs on"),
    KeyBinding(.console, ["z"], .zoom, "Full screen", bar: 2, "full screen, or beside the list"),
    KeyBinding(
      .console, ["[", "PgUp"], .scrollback, "Scroll back", bar: 3,
      "look at what was printed before"),
    KeyBinding(
      .console, ["Tab"], .focusList, "List", bar: 4, "back to the list, the console stays open"),
    KeyBinding(.console, ["V"], .attachDisplay, "Display", "open the machine's display"),
    KeyBinding(
      .console, ["K"], .keysMenu, "Keys", "press Ctrl-Alt-Del, an F-key and others (displays)"),
    KeyBinding(.console, ["n"], .nextConsole, "Next", "the next open console"),
    KeyBinding(.console, ["p"], .previousConsole, "Previous", "the open console before"),
    KeyBinding(.console, ["S"], .takeSnapshot, "Snapshot", "take a snapshot of the machine"),
    KeyBinding(.console, ["P"], .powerDown, "Power down", "ask the guest to power down"),
    KeyBinding(.console, ["F"], .forceStop, "Force off", "cut the power"),
    KeyBinding(.console, ["Z"], .reset, "Reset", "press the reset button"),
    KeyBinding(.console, ["s"], .start, "Start", "start the machine"),
    KeyBinding(.console, ["C-l"], .repaint, "Repaint", "paint the screen anew"),
    KeyBinding(.console, ["?"], .help, "Help", bar: 5, "these keys"),
    KeyBinding(
      .scrollback, ["q", "Esc", "Enter"], .clear, "Back to now", bar: 1, "leave the scrollback"),
    KeyBinding(.scrollback, ["Up", "k"], .up, "Up", bar: 2, "one line up"),
    KeyBinding(.scrollback, ["Down", "j"], .down, "Down", bar: 3, "one line down"),
    KeyBinding(.scrollback, ["PgUp", "C-b"], .pageUp, "Page up", bar: 4, "one page up"),
    KeyBinding(
      .scrollback, ["PgDn", "C-f", "Space"], .pageDown, "Page down", bar: 5, "one page down"),
    KeyBinding(.scrollback, ["g", "Home"], .first, "Top", bar: 6, "the oldest line"),
    KeyBinding(.scrollback, ["G", "End"], .last, "Bottom", bar: 7, "the newest line"),
    KeyBinding(.scrollback, ["C-u"], .halfUp, "Half up", "half a page up"),
    KeyBinding(.scrollback, ["C-d"], .halfDown, "Half down", "half a page down"),
    KeyBinding(.scrollback, ["?"], .help, "Help", "these keys"),
  ]

  private static let everywhere: [KeyBinding] = [
    KeyBinding(.everywhere, ["?", "F1"], .help, "Help", bar: 0, "the keys of where you are"),
    KeyBinding(
      .everywhere, [":"], .commandLine, "Command", bar: 21,
      "type a command, such as: start web1; Tab completes"),
    KeyBinding(
      .everywhere, ["C-p"], .palette, "Palette", "find any action by its words"),
    KeyBinding(.everywhere, ["Down", "j"], .down, "Down", "next row"),
    KeyBinding(.everywhere, ["Up", "k"], .up, "Up", "row before"),
    KeyBinding(.everywhere, ["g", "Home"], .first, "Top", "first row"),
    KeyBinding(.everywhere, ["G", "End"], .last, "Bottom", "last row"),
    KeyBinding(.everywhere, ["PgDn", "C-f"], .pageDown, "Page down", "next page"),
    KeyBinding(.everywhere, ["PgUp", "C-b"], .pageUp, "Page up", "page before"),
    KeyBinding(.everywhere, ["C-d"], .halfDown, "Half down", "half a page down"),
    KeyBinding(.everywhere, ["C-u"], .halfUp, "Half up", "half a page up"),
    KeyBinding(.everywhere, ["Tab"], .focusList, "Switch", "between list and open console"),
    KeyBinding(.everywhere, [",", "F2"], .chooseTheme, "Theme", "choose the colours"),
    KeyBinding(.everywhere, ["Esc"], .clear, "Back", "close, clear the filter and marks"),
    KeyBinding(.everywhere, ["C-l"], .repaint, "Repaint", "paint the screen anew"),
    KeyBinding(.everywhere, ["C-z"], .suspend, "Suspend", "back to the shell; fg returns"),
    KeyBinding(
      .everywhere, ["q", "F10", "C-c"], .quit, "Quit", bar: 22,
      "leave; every machine runs on"),
  ]
}
