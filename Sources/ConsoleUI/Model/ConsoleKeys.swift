// The keys of an attached console, after the prefix, and those of copy mode, as in vi.

extension KeyTable {
  static let console: [KeyBinding] = [
    KeyBinding(
      .console, ["d"], .detach, "Detach", bar: 1, "leave the console; the machine runs on"),
    KeyBinding(.console, ["z"], .zoom, "Full screen", bar: 2, "full screen, or beside the list"),
    KeyBinding(
      .console, ["[", "PgUp"], .copyMode, "Scroll", bar: 3,
      "look back at what was printed, search it, copy from it"),
    KeyBinding(
      .console, ["Tab"], .focusList, "List", bar: 4, "back to the list, the console stays open"),
    KeyBinding(
      .console, ["%", "\"", "|"], .split, "Split", bar: 6, "another console beside this one"),
    KeyBinding(.console, ["o", "Right", "Down"], .nextTile, "Other", "the next console shown"),
    KeyBinding(.console, ["Left", "Up"], .previousTile, "Other back", "the console shown before"),
    KeyBinding(
      .console, ["x"], .closeTile, "Unsplit", "show this console no longer; it stays open"),
    KeyBinding(.console, ["V"], .attachDisplay, "Display", "the machine's screen and keyboard"),
    KeyBinding(
      .console, ["K"], .keysMenu, "Keys", "press Ctrl-Alt-Del, an F-key or another on a display"),
    KeyBinding(.console, ["n"], .nextConsole, "Next", "the next open console"),
    KeyBinding(.console, ["p"], .previousConsole, "Previous", "the open console before"),
    KeyBinding(.console, ["w"], .switchConsole, "Switch", "choose among all machines"),
    KeyBinding(.console, ["t"], .nextPort, "Port", "the machine's next serial port"),
    KeyBinding(
      .console, ["a"], .typeToAll, "Type to all", "what you type goes to every console shown"),
    KeyBinding(
      .console, ["W"], .watchOnly, "Watch only", "keys do not reach the guest, or do again"),
    KeyBinding(.console, ["/"], .searchBackward, "Search", "search what was printed"),
    KeyBinding(.console, ["]"], .paste, "Paste", "type what was copied last"),
    KeyBinding(
      .console, ["B"], .sendBreak, "Break",
      "a break on the line; a letter after it is Linux's SysRq"),
    KeyBinding(
      .console, ["r"], .tellSize, "Tell size", "types the stty line that sets the screen's size"),
    KeyBinding(.console, ["S"], .takeSnapshot, "Snapshot", "take a snapshot of the machine"),
    KeyBinding(.console, ["P"], .powerDown, "Power down", "ask the guest to power down"),
    KeyBinding(.console, ["F"], .forceStop, "Force off", "cut the power"),
    KeyBinding(.console, ["Z"], .reset, "Reset", "press the reset button"),
    KeyBinding(.console, ["s"], .start, "Start", "start the machine"),
    KeyBinding(.console, ["l"], .showLog, "Log", "the machine's log"),
    KeyBinding(.console, ["C-l"], .repaint, "Repaint", "paint the screen anew"),
    KeyBinding(.console, ["?"], .help, "Help", bar: 5, "these keys"),
  ]

  static let copyMode: [KeyBinding] = [
    KeyBinding(.copy, ["q", "Esc", "C-c"], .clear, "Back to now", bar: 1, "leave"),
    KeyBinding(.copy, ["v", "Space"], .selectCharacters, "Select", bar: 2, "begin to select"),
    KeyBinding(.copy, ["y", "Enter"], .copy, "Copy", bar: 3, "copy what is selected and leave"),
    KeyBinding(.copy, ["/"], .searchForward, "Search", bar: 4, "search towards now"),
    KeyBinding(.copy, ["?"], .searchBackward, "Search back", bar: 5, "search towards the past"),
    KeyBinding(.copy, ["n"], .searchNext, "Next", bar: 6, "the next place found"),
    KeyBinding(.copy, ["N"], .searchPrevious, "Previous", bar: 7, "the place found before"),
    KeyBinding(.copy, ["V"], .selectLines, "Lines", "select whole lines"),
    KeyBinding(.copy, ["C-v"], .selectBlock, "Block", "select a rectangle"),
    KeyBinding(.copy, ["Y"], .copyLine, "Copy line", "copy the line and leave"),
    KeyBinding(.copy, ["o"], .otherEnd, "Other end", "go to the selection's other end"),
    KeyBinding(.copy, ["Up", "k"], .up, "Up", "one line up"),
    KeyBinding(.copy, ["Down", "j"], .down, "Down", "one line down"),
    KeyBinding(.copy, ["Left", "h"], .left, "Left", "one column left"),
    KeyBinding(.copy, ["Right", "l"], .right, "Right", "one column right"),
    KeyBinding(.copy, ["w"], .wordForward, "Word", "next word"),
    KeyBinding(.copy, ["b"], .wordBackward, "Word back", "word before"),
    KeyBinding(.copy, ["e"], .wordEnd, "Word end", "end of the word"),
    KeyBinding(.copy, ["0", "^", "Home"], .lineStart, "Line start", "first column"),
    KeyBinding(.copy, ["$", "End"], .lineEnd, "Line end", "last character of the line"),
    KeyBinding(.copy, ["H"], .screenTop, "High", "first line of the screen"),
    KeyBinding(.copy, ["M"], .screenMiddle, "Middle", "middle of the screen"),
    KeyBinding(.copy, ["L"], .screenBottom, "Low", "last line of the screen"),
    KeyBinding(.copy, ["PgUp", "C-b"], .pageUp, "Page up", "one page up"),
    KeyBinding(.copy, ["PgDn", "C-f"], .pageDown, "Page down", "one page down"),
    KeyBinding(.copy, ["g"], .first, "Top", "the oldest line"),
    KeyBinding(.copy, ["G"], .last, "Bottom", "the newest line"),
    KeyBinding(.copy, ["C-u"], .halfUp, "Half up", "half a page up"),
    KeyBinding(.copy, ["C-d"], .halfDown, "Half down", "half a page down"),
    KeyBinding(.copy, ["F1"], .help, "Help", bar: 8, "these keys"),
  ]
}
