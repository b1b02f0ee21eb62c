// From characters and names of keys to places on the keyboard: the layout of the United States, which firmware and boot
// loaders assume (IBM PS/2 Hardware Interface Technical Reference, "Keyboard": key numbering and scan code set 1).

/// The US keyboard.
package enum KeyboardLayout {
  /// The four rows of the main block, each from the make code of its first key: plain, then with Shift.
  private static let rows: [(first: UInt16, plain: String, shifted: String)] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
  ]

  private static let characters: [Character: KeyStroke] = {
    var table: [Character: KeyStroke] = [
      " ": KeyStroke(KeyCode(rawValue: 0x39)), "\n": KeyStroke(.enter), "\r": KeyStroke(.enter),
      "\r\n": KeyStroke(.enter), "\t": KeyStroke(KeyCode(rawValue: 0x0F)),
      "\u{8}": KeyStroke(KeyCode(rawValue: 0x0E)), "\u{7F}": KeyStroke(KeyCode(rawValue: 0x0E)),
      "\u{1B}": KeyStroke(.escape),
    ]
    for row in rows {
      for (index, character) in row.plain.enumerated() {
        table[character] = KeyStroke(KeyCode(rawValue: row.first + UInt16(index)))
      }
      for (index, character) in row.shifted.enumerated() {
        table[character] = KeyStroke(
          KeyCode(rawValue: row.first + UInt16(index)), holding: [.leftShift])
      }
    }
    return table
  }()

  /// Names of keys that type no character, by what people call them.
  private static let names: [String: UInt16] = {
    var table: [String: UInt16] = [
      "esc": 0x01, "escape": 0x01, "minus": 0x0C, "equal": 0x0D, "backspace": 0x0E, "bs": 0x0E,
      "tab": 0x0F, "enter": 0x1C, "ret": 0x1C, "return": 0x1C, "space": 0x39, "spc": 0x39,
      "capslock": 0x3A, "caps": 0x3A, "numlock": 0x45, "scrolllock": 0x46, "less": 0x56,
      "print": 0xE037, "printscreen": 0xE037, "sysrq": 0xE037, "pause": 0xE11D, "break": 0xE046,
      "home": 0xE047, "up": 0xE048, "pgup": 0xE049, "pageup": 0xE049, "left": 0xE04B,
      "right": 0xE04D, "end": 0xE04F, "down": 0xE050, "pgdn": 0xE051, "pagedown": 0xE051,
      "ins": 0xE052, "insert": 0xE052, "del": 0xE053, "delete": 0xE053, "menu": 0xE05D,
      "kp*": 0x37, "kp7": 0x47, "kp8": 0x48, "kp9": 0x49, "kp-": 0x4A, "kp4": 0x4B, "kp5": 0x4C,
      "kp6": 0x4D, "kp+": 0x4E, "kp1": 0x4F, "kp2": 0x50, "kp3": 0x51, "kp0": 0x52, "kp.": 0x53,
      "kpenter": 0xE01C, "kp/": 0xE035, "f11": 0x57, "f12": 0x58,
    ]
    for number in UInt16(1)...10 { table["f\(number)"] = 0x3A + number }
    return table
  }()

  private static let modifiers: [String: UInt16] = [
    "ctrl": 0x1D, "control": 0x1D, "shift": 0x2A, "alt": 0x38, "rshift": 0x36, "rctrl": 0xE01D,
    "altgr": 0xE038, "ralt": 0xE038, "win": 0xE05B, "super": 0xE05B, "meta": 0xE05B,
    "rwin": 0xE05C,
  ]

  private static let alternates: Set<KeyCode> = [.leftAlt, KeyCode(rawValue: 0xE038)]
  private static let controls: Set<KeyCode> = [.leftControl, KeyCode(rawValue: 0xE01D)]

  /// Every name of a key that `stroke(named:)` takes beside characters, for help.
  package static var keyNames: [String] { names.keys.sorted() }
  package static var modifierNames: [String] { modifiers.keys.sorted() }

  /// What types a character; nil where the layout does not have it. Control characters are Ctrl with a letter.
  package static func stroke(for character: Character) -> KeyStroke? {
    if let stroke = characters[character] { return stroke }
    guard let scalar = character.unicodeScalars.first, character.unicodeScalars.count == 1,
      (1...0x1F).contains(scalar.value),
      var stroke = characters[Character(Unicode.Scalar(UInt8(scalar.value) + 0x60))]
        ?? characters[Character(Unicode.Scalar(UInt8(scalar.value) + 0x40))]
    else { return nil }
    stroke.held.insert(.leftControl, at: 0)
    return stroke
  }

  /// A key or a combination: `a`, `A`, `f10`, `ctrl-c`, `ctrl-alt-del`, `alt-sysrq`, `shift`. Upper and lower case of
  /// names are the same; of single characters they are not.
  package static func stroke(named name: String) -> KeyStroke? {
    var held: [KeyCode] = []
    var rest = Substring(name)
    while let dash = rest.firstIndex(of: "-"), dash != rest.startIndex,
      let code = modifiers[rest[..<dash].lowercased()]
    {
      let after = rest[rest.index(after: dash)...]
      guard !after.isEmpty else { return nil }
      held.append(KeyCode(rawValue: code))
      rest = after
    }
    guard held.count <= 8, var stroke = single(String(rest)) else { return nil }
    // A modifier that the character needs is pressed once only.
    stroke.held = held + stroke.held.filter { !held.contains($0) }
    return withKeyOfItsOwn(stroke)
  }

  private static func single(_ name: String) -> KeyStroke? {
    if name.count == 1, let character = name.first { return stroke(for: character) }
    let name = name.lowercased()
    return (names[name] ?? modifiers[name]).map { KeyStroke(KeyCode(rawValue: $0)) }
  }

  /// Two keys send another code while Alt or Ctrl is held.
  private static func withKeyOfItsOwn(_ stroke: KeyStroke) -> KeyStroke {
    var stroke = stroke
    if stroke.key == KeyCode(rawValue: 0xE037), stroke.held.contains(where: alternates.contains) {
      stroke.key = KeyCode(rawValue: 0x54)
    } else if stroke.key == .pause, stroke.held.contains(where: controls.contains) {
      stroke.key = KeyCode(rawValue: 0xE046)
    }
    return stroke
  }
}
