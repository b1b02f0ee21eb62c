import VirtualTerminal

/// The bytes that a key press sends to a guest whose terminal is an xterm (XTerm Control Sequences, "PC-Style Function
/// Keys"), by the modes that the guest has set.
package enum GuestKeys {
  package static func bytes(for key: Key, modes: Modes) -> [UInt8] {
    switch key.code {
    case .character(let character): return characterBytes(character, key.modifiers)
    case .enter: return escaped(modes.contains(.newLine) ? [0x0D, 0x0A] : [0x0D], key.modifiers)
    case .tab:
      return key.modifiers.contains(.shift)
        ? Array("\u{1B}[Z".utf8) : escaped([0x09], key.modifiers)
    case .escape: return escaped([0x1B], key.modifiers)
    case .backspace:
      let byte: UInt8 = modes.contains(.backarrowSendsBackspace) ? 0x08 : 0x7F
      return escaped([byte], key.modifiers)
    case .up: return cursor("A", key.modifiers, modes)
    case .down: return cursor("B", key.modifiers, modes)
    case .right: return cursor("C", key.modifiers, modes)
    case .left: return cursor("D", key.modifiers, modes)
    case .home: return cursor("H", key.modifiers, modes)
    case .end: return cursor("F", key.modifiers, modes)
    case .insert: return editing(2, key.modifiers)
    case .delete: return editing(3, key.modifiers)
    case .pageUp: return editing(5, key.modifiers)
    case .pageDown: return editing(6, key.modifiers)
    case .function(let number): return function(number, key.modifiers)
    }
  }

  /// Pasted text: line ends become carriage returns, as if typed; marked as a paste where the guest wants that. The
  /// end mark inside of the text is taken out, so that nothing pasted can pretend to be typed.
  package static func paste(_ text: [UInt8], modes: Modes) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count + 12)
    let isMarked = modes.contains(.bracketedPaste)
    if isMarked { bytes += Array("\u{1B}[200~".utf8) }
    var previous: UInt8 = 0
    for byte in text {
      if byte == 0x0A {
        if previous != 0x0D { bytes.append(0x0D) }
      } else if byte != 0x1B || !isMarked {
        bytes.append(byte)
      }
      previous = byte
    }
    if isMarked { bytes += Array("\u{1B}[201~".utf8) }
    return bytes
  }

  /// A mouse report for a guest that asked for it (SGR or legacy encoding); empty when it did not.
  package static func mouse(
    _ event: MouseEvent, at place: Position, tracking: MouseTracking, encoding: MouseEncoding
  ) -> [UInt8] {
    guard tracking != .off else { return [] }
    if event.action == .drag, tracking == .normal || tracking == .x10 { return [] }
    if tracking == .x10, event.action != .press { return [] }
    var code = event.button & 3
    switch event.action {
    case .wheelUp: code = 64
    case .wheelDown: code = 65
    case .drag: code += 32
    case .press, .release: break
    }
    if event.modifiers.contains(.shift) { code += 4 }
    if event.modifiers.contains(.alt) { code += 8 }
    if event.modifiers.contains(.control) { code += 16 }
    if encoding == .sgr {
      let final = event.action == .release ? "m" : "M"
      return Array("\u{1B}[<\(code);\(place.column + 1);\(place.row + 1)\(final)".utf8)
    }
    if event.action == .release { code = code & ~3 | 3 }
    guard place.column < 223, place.row < 223 else { return [] }
    return [
      0x1B, 0x5B, 0x4D, UInt8(32 + code), UInt8(33 + place.column), UInt8(33 + place.row),
    ]
  }

  private static func characterBytes(
    _ character: Character, _ modifiers: Key.Modifiers
  ) -> [UInt8] {
    guard modifiers.contains(.control), let ascii = character.asciiValue else {
      return escaped(Array(String(character).utf8), modifiers)
    }
    switch ascii {
    case 0x20, 0x40: return escaped([0x00], modifiers)
    case 0x3F: return escaped([0x7F], modifiers)
    case 0x41...0x5F, 0x61...0x7A: return escaped([ascii & 0x1F], modifiers)
    default: return escaped([ascii], modifiers)
    }
  }

  private static func escaped(_ bytes: [UInt8], _ modifiers: Key.Modifiers) -> [UInt8] {
    modifiers.contains(.alt) ? [0x1B] + bytes : bytes
  }

  private static func parameter(_ modifiers: Key.Modifiers) -> Int { 1 + Int(modifiers.rawValue) }

  private static func cursor(
    _ final: String, _ modifiers: Key.Modifiers, _ modes: Modes
  ) -> [UInt8] {
    if !modifiers.isEmpty { return Array("\u{1B}[1;\(parameter(modifiers))\(final)".utf8) }
    let opening = modes.contains(.applicationCursorKeys) ? "\u{1B}O" : "\u{1B}["
    return Array((opening + final).utf8)
  }

  private static func editing(_ number: Int, _ modifiers: Key.Modifiers) -> [UInt8] {
    let suffix = modifiers.isEmpty ? "" : ";\(parameter(modifiers))"
    return Array("\u{1B}[\(number)\(suffix)~".utf8)
  }

  private static func function(_ number: Int, _ modifiers: Key.Modifiers) -> [UInt8] {
    let finals = ["P", "Q", "R", "S"]
    if (1...4).contains(number) {
      let final = finals[number - 1]
      return modifiers.isEmpty
        ? Array("\u{1B}O\(final)".utf8)
        : Array("\u{1B}[1;\(parameter(modifiers))\(final)".utf8)
    }
    let codes = [15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34]
    guard codes.indices.contains(number - 5) else { return [] }
    return editing(codes[number - 5], modifiers)
  }
}
