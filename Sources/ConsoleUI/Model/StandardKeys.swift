// The keys that are bound when the user has bound none. What cuts power or loses data is upper case.

extension KeyTable {
  static let machines: [KeyBinding] = [
    KeyBinding(
      .machines, ["Enter", "c"], .attach, "Attach", bar: 1,
      "attach to the serial console, also before the start; several marked ones side by side"),
    KeyBinding(
      .machines, ["V"], .attachDisplay, "Display", "open the machine's screen and keyboard"),
    KeyBinding(.machines, ["s"], .start, "Start", bar: 2, "start the machine; resume it if paused"),
    KeyBinding(
      .machines, ["b"], .bootFrom, "Boot from", "start once from another device than usual"),
    KeyBinding(.machines, ["p"], .pause, "Pause", "pause the machine, or let it go on"),
    KeyBinding(
      .machines, ["z"], .suspendMachine, "Suspend",
      "save the machine's memory and end it; starting it goes on from there"),
    KeyBinding(
      .machines, ["P"], .powerDown, "Stop", bar: 3, "ask the guest to power down (ACPI)"),
    KeyBinding(
      .machines, ["F"], .forceStop, "Force off", bar: 10,
      "cut the power: the guest gets no warning"),
    KeyBinding(.machines, ["Z"], .reset, "Reset", "press the reset button"),
    KeyBinding(.machines, ["X"], .stopAll, "Stop all", "power down every running machine"),
    KeyBinding(
      .machines, ["t"], .newFromTemplate, "From template", bar: 6,
      "make a machine from a template, at once and without copying"),
    KeyBinding(.machines, ["n", "F7"], .newMachine, "New", bar: 7, "make a machine from scratch"),
    KeyBinding(
      .machines, ["T"], .toggleTemplate, "Template",
      "make the machine a template, or a template a machine"),
    KeyBinding(
      .machines, ["e"], .edit, "Edit", bar: 8, "change memory, processors, boot order, tags"),
    KeyBinding(
      .machines, ["E"], .editText, "Edit file", "change the definition's text in your editor"),
    KeyBinding(.machines, ["x"], .disc, "CD", "insert a disc image into the CD drive, or eject"),
    KeyBinding(.machines, ["r"], .rename, "Rename", "rename the machine"),
    KeyBinding(
      .machines, ["D", "F8"], .delete, "Delete", "delete the machine, its disks and snapshots"),
    KeyBinding(.machines, ["S"], .takeSnapshot, "Snapshot", bar: 4, "take a snapshot"),
    KeyBinding(
      .machines, ["m", "F5"], .showSnapshots, "Tree", bar: 5,
      "the tree of snapshots: roll back, forward, branch"),
    KeyBinding(.machines, ["]"], .rollForward, "Forward", "roll forward to the next snapshot"),
    KeyBinding(.machines, ["u"], .undo, "Undo", "take back the last roll or change"),
    KeyBinding(
      .machines, ["l"], .showLog, "Log", bar: 11, "what the machine printed, and its host"),
    KeyBinding(.machines, ["M"], .showCharts, "Charts", "large charts of the machine"),
    KeyBinding(.machines, ["/", "F4"], .filter, "Filter", bar: 9, "show only machines that match"),
    KeyBinding(.machines, [">", "F6"], .sortNext, "Sort", "sort by the next column"),
    KeyBinding(.machines, ["<"], .sortPrevious, "Sort back", "sort by the column before"),
    KeyBinding(.machines, ["o"], .reverseSort, "Reverse", "turn the order around"),
    KeyBinding(.machines, ["a"], .group, "Group", "group by template, by tag, or not at all"),
    KeyBinding(
      .machines, ["-"], .fold, "Fold", "hide or show a template's machines, or those of a tag"),
    KeyBinding(.machines, ["Space"], .mark, "Mark", "mark the machine for a common action"),
    KeyBinding(
      .machines, ["v"], .markRange, "Mark range", "mark from the last marked row to this one"),
    KeyBinding(.machines, ["*"], .markAll, "Mark all", "mark all shown, or none"),
    KeyBinding(.machines, ["y"], .copyName, "Copy name", "put the name on the clipboard"),
    KeyBinding(.machines, ["i"], .toggleDetail, "Details", "show or hide the details"),
    KeyBinding(.machines, ["d"], .demo, "Demo", bar: 3, "run the demonstration"),
  ]

  static let snapshots: [KeyBinding] = [
    KeyBinding(
      .snapshots, ["R", "Enter"], .rollBack, "Roll to", bar: 1,
      "make the machine what it was at the selected snapshot; what is there now is kept"),
    KeyBinding(
      .snapshots, ["]"], .rollForward, "Forward", bar: 2,
      "roll forward from where the machine stands to the next snapshot"),
    KeyBinding(
      .snapshots, ["["], .parentSnapshot, "Parent", "roll back to the snapshot before this state"),
    KeyBinding(
      .snapshots, ["Left", "h"], .left, "Earlier", "along the time line: the one taken before"),
    KeyBinding(
      .snapshots, ["Right", "l"], .right, "Later", "along the time line: the one taken after"),
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

  /// Views beside the list.
  static let pages: [KeyBinding] = [
    KeyBinding(.log, ["f"], .follow, "Follow", bar: 1, "stay at the end as lines come in, or not"),
    KeyBinding(.log, ["/", "F4"], .filter, "Filter", bar: 2, "show only lines with these words"),
    KeyBinding(
      .log, ["Left", "Right", "h", "l"], .nextLog, "Other log", bar: 3,
      "console, host process and events in turn"),
    KeyBinding(.log, ["w"], .wrap, "Wrap", bar: 4, "break long lines, or cut them"),
    KeyBinding(.log, ["c"], .attach, "Attach", "attach to the machine's console"),
    KeyBinding(.log, ["q", "F10"], .clear, "Back", bar: 21, "back to the list"),
    KeyBinding(
      .images, ["Enter", "i"], .imageInformation, "About", bar: 1,
      "all that the image says of itself"
    ),
    KeyBinding(.images, ["c"], .checkImage, "Check", bar: 2, "look for damage; changes nothing"),
    KeyBinding(
      .images, ["C"], .convertImage, "Convert", bar: 3, "copy into a new image of another format"),
    KeyBinding(.images, ["n", "F7"], .newImage, "New", bar: 4, "make an empty image"),
    KeyBinding(.images, ["e"], .resizeImage, "Size", bar: 5, "give the disk another size"),
    KeyBinding(
      .images, ["D", "F8"], .deleteImage, "Delete", bar: 6, "delete an image that nothing uses"),
    KeyBinding(.images, ["q", "F10"], .clear, "Back", bar: 21, "back to the list"),
    KeyBinding(.host, ["q", "F10"], .clear, "Back", bar: 21, "back to the list"),
    KeyBinding(.charts, ["c", "Enter"], .attach, "Attach", bar: 1, "attach to the console"),
    KeyBinding(.charts, ["q", "F10", "M"], .clear, "Back", bar: 21, "back to the list"),
    KeyBinding(
      .settings, ["Enter", "Space", "Right", "l"], .change, "Change", bar: 1,
      "change the setting, at once and for good"),
    KeyBinding(.settings, ["q", "F10"], .clear, "Back", bar: 21, "back to the list"),
  ]

  static let everywhere: [KeyBinding] = [
    KeyBinding(.everywhere, ["?", "F1"], .help, "Help", bar: 0, "the keys of where you are"),
    KeyBinding(
      .everywhere, [":"], .commandLine, "Command", bar: 21,
      "type a command, such as: start web1; Tab completes"),
    KeyBinding(.everywhere, ["C-p"], .palette, "Palette", "find any action by its words"),
    KeyBinding(.everywhere, ["1"], .showMachines, "Machines", "the list of machines"),
    KeyBinding(.everywhere, ["2", "L"], .showEvents, "Events", "what happened, newest below"),
    KeyBinding(
      .everywhere, ["3", "I"], .showImages, "Images", "disk images: check, convert, make"),
    KeyBinding(.everywhere, ["4", "H"], .showHost, "Host", "processors, memory, accelerator"),
    KeyBinding(
      .everywhere, ["5", ",", "F2"], .showSettings, "Settings", "theme, keys, columns, questions"),
    KeyBinding(.everywhere, ["Down", "j"], .down, "Down", "next row"),
    KeyBinding(.everywhere, ["Up", "k"], .up, "Up", "row before"),
    KeyBinding(.everywhere, ["g", "Home"], .first, "Top", "first row"),
    KeyBinding(.everywhere, ["G", "End"], .last, "Bottom", "last row"),
    KeyBinding(.everywhere, ["PgDn", "C-f"], .pageDown, "Page down", "next page"),
    KeyBinding(.everywhere, ["PgUp", "C-b"], .pageUp, "Page up", "page before"),
    KeyBinding(.everywhere, ["C-d"], .halfDown, "Half down", "half a page down"),
    KeyBinding(.everywhere, ["C-u"], .halfUp, "Half up", "half a page up"),
    KeyBinding(.everywhere, ["Tab"], .focusList, "Switch", "between list and open console"),
    KeyBinding(.everywhere, [], .chooseTheme, "Theme", "choose the colours"),
    KeyBinding(.everywhere, ["Esc"], .clear, "Back", "close, clear the filter and marks"),
    KeyBinding(.everywhere, ["C-l"], .repaint, "Repaint", "paint the screen anew"),
    KeyBinding(.everywhere, ["C-z"], .suspend, "Suspend", "back to the shell; fg returns"),
    KeyBinding(
      .everywhere, ["q", "F10", "C-c"], .quit, "Quit", bar: 22,
      "leave; every machine runs on"),
  ]
}
