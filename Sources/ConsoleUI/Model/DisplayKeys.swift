/// The name that the control protocol's `keyboard.send` has for a key press at the user's terminal.
package enum DisplayKeys {
  /// nil for a key that no PC keyboard has.
  package static func name(of key: Key) -> String? {
    var modifiers = ""
    if key.modifiers.contains(.control) { modifiers += "ctrl-" }
    if key.modifiers.contains(.alt) { modifiers += "alt-" }
    if case .character(let character) = key.code {
      // Shift is in the character already.
      return modifiers + (character == " " ? "space" : String(character))
    }
    if key.modifiers.contains(.shift) { modifiers += "shift-" }
    return plainName(key.code).map { modifiers + $0 }
  }

  private static func plainName(_ code: Key.Code) -> String? {
    switch code {
    case .character: nil
    case .enter: "enter"
    case .tab: "tab"
    case .escape: "esc"
    case .backspace: "backspace"
    case .delete: "delete"
    case .insert: "insert"
    case .up: "up"
    case .down: "down"
    case .left: "left"
    case .right: "right"
    case .home: "home"
    case .end: "end"
    case .pageUp: "pgup"
    case .pageDown: "pgdn"
    case .function(let number): (1...12).contains(number) ? "f\(number)" : nil
    }
  }

  /// What cannot be typed at every terminal, for the menu of keys.
  package static let menu: [(name: String, label: String)] =
    [
      ("ctrl-alt-del", "Ctrl-Alt-Del"), ("esc", "Escape"), ("ctrl-alt-backspace", "Ctrl-Alt-BS"),
      ("pause", "Pause"), ("ctrl-break", "Break"), ("print", "Print"),
      ("alt-sysrq", "Alt-SysRq"), ("menu", "Menu"), ("win", "Windows"), ("insert", "Insert"),
      ("numlock", "Num Lock"), ("scrolllock", "Scroll Lock"), ("capslock", "Caps Lock"),
    ]
    + (1...12).map { ("f\($0)", "F\($0)") }
    + (1...12).map { ("ctrl-alt-f\($0)", "Ctrl-Alt-F\($0)") }
    + (1...12).map { ("alt-f\($0)", "Alt-F\($0)") }
}
