// What the control sequences of terminals mean: keys, mouse, focus (xterm "Control Sequences", XTerm 390; the kitty
// keyboard protocol for CSI u).

enum ControlSequence {
  /// The meaning of CSI, parameters, final byte; nil when it has none for us.
  static func event(parameters: [UInt8], final: UInt8) -> InputEvent? {
    if parameters.first == 0x3C, final == 0x4D || final == 0x6D {
      return mouse(numbers(parameters.dropFirst()), release: final == 0x6D)
    }
    // Other private or intermediate bytes belong to answers that nobody waits for.
    guard parameters.allSatisfy({ (0x30...0x3B).contains($0) }) else { return nil }
    let values = numbers(parameters[...])
    let modifiers = values.count > 1 ? held(values[1]) : []
    switch final {
    case 0x49 where parameters.isEmpty: return .focus(true)
    case 0x4F where parameters.isEmpty: return .focus(false)
    case 0x5A: return .key(Key(.tab, .shift))
    case 0x50...0x53: return .key(Key(.function(Int(final) - 0x4F), modifiers))
    case 0x7E: return editingKey(values, modifiers).map { .key($0) }
    case 0x75: return unicodeKey(values.first ?? 0, modifiers).map { .key($0) }
    default: return cursorKey(final).map { .key(Key($0, modifiers)) }
    }
  }

  static func cursorKey(_ final: UInt8) -> Key.Code? {
    switch final {
    case 0x41: .up
    case 0x42: .down
    case 0x43: .right
    case 0x44: .left
    case 0x48: .home
    case 0x46: .end
    default: nil
    }
  }

  /// The colour in `11;rgb:RRRR/GGGG/BBBB`.
  static func background(systemCommand body: [UInt8]) -> Color? {
    let text = String(decoding: body.filter { $0 != 0x1B }, as: UTF8.self)
    guard text.hasPrefix("11;rgb:") else { return nil }
    let parts = text.dropFirst(7).split(separator: "/").map { part -> UInt8? in
      guard let value = Int(part, radix: 16), (1...4).contains(part.count) else { return nil }
      let full = (1 << (4 * part.count)) - 1
      return UInt8(clamping: value * 255 / full)
    }
    guard parts.count == 3, let red = parts[0], let green = parts[1], let blue = parts[2] else {
      return nil
    }
    return .rgb(red: red, green: green, blue: blue)
  }

  /// xterm's modifier parameter: 1 plus bits for Shift, Alt and Control.
  private static func held(_ parameter: Int) -> Key.Modifiers {
    guard parameter > 1 else { return [] }
    return Key.Modifiers(rawValue: UInt8(truncatingIfNeeded: parameter - 1)).intersection([
      .shift, .alt, .control,
    ])
  }

  private static func editingKey(_ values: [Int], _ modifiers: Key.Modifiers) -> Key? {
    switch values.first ?? 0 {
    case 1, 7: return Key(.home, modifiers)
    case 2: return Key(.insert, modifiers)
    case 3: return Key(.delete, modifiers)
    case 4, 8: return Key(.end, modifiers)
    case 5: return Key(.pageUp, modifiers)
    case 6: return Key(.pageDown, modifiers)
    case let number where 11...15 ~= number: return Key(.function(number - 10), modifiers)
    case let number where 17...21 ~= number: return Key(.function(number - 11), modifiers)
    case let number where 23...24 ~= number: return Key(.function(number - 12), modifiers)
    case 27 where values.count == 3: return unicodeKey(values[2], modifiers)
    default: return nil
    }
  }

  private static func unicodeKey(_ value: Int, _ modifiers: Key.Modifiers) -> Key? {
    switch value {
    case 9: return Key(.tab, modifiers)
    case 13: return Key(.enter, modifiers)
    case 27: return Key(.escape, modifiers)
    case 127: return Key(.backspace, modifiers)
    default:
      guard value >= 32, let scalar = UInt32(exactly: value).flatMap(Unicode.Scalar.init) else {
        return nil
      }
      return Key(.character(Character(scalar)), modifiers)
    }
  }

  private static func mouse(_ values: [Int], release: Bool) -> InputEvent? {
    guard values.count == 3, values[1] > 0, values[2] > 0 else { return nil }
    let code = values[0]
    var modifiers: Key.Modifiers = []
    if code & 4 != 0 { modifiers.insert(.shift) }
    if code & 8 != 0 { modifiers.insert(.alt) }
    if code & 16 != 0 { modifiers.insert(.control) }
    let action: MouseEvent.Action
    switch code & 0x43 {
    case 64: action = .wheelUp
    case 65: action = .wheelDown
    case 66, 67: return nil
    default: action = release ? .release : code & 32 != 0 ? .drag : .press
    }
    return .mouse(
      MouseEvent(
        action, button: code & 3, at: Position(row: values[2] - 1, column: values[1] - 1),
        modifiers: modifiers))
  }

  /// Numbers between semicolons; a missing one is 0, a huge one is cut.
  private static func numbers(_ bytes: ArraySlice<UInt8>) -> [Int] {
    guard !bytes.isEmpty else { return [] }
    var values = [0]
    for byte in bytes {
      if byte == 0x3B {
        values.append(0)
      } else if (0x30...0x39).contains(byte) {
        values[values.count - 1] = min(0x10FFFF, values[values.count - 1] * 10 + Int(byte - 0x30))
      }
    }
    return values
  }
}
