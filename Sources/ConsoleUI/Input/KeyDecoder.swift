/// Bytes from the user's terminal to keys: ECMA-48 control sequences, SS3 keys, UTF-8, mouse reports (xterm mode 1006),
/// bracketed paste (2004), focus (1004), CSI u keys, and the answer to OSC 11.
///
/// A value without clocks: who reads the descriptor calls `timeout()` when `isPending` and nothing came for 25 ms; an
/// Escape that stands alone is the Escape key then.
package struct KeyDecoder: Sendable {
  private enum State: Equatable {
    case ground
    case escape
    case control
    case singleShift
    case systemCommand
    case utf8(needed: Int)
    case paste
  }

  /// Longest control sequence that is understood; longer ones are swallowed.
  private static let sequenceLimit = 64
  /// Longest paste that is kept: 1 MiB.
  private static let pasteLimit = 1 << 20
  private static let pasteEnd: [UInt8] = Array("\u{1B}[201~".utf8)

  private var state = State.ground
  private var buffer: [UInt8] = []
  /// Alt was held: an Escape came right before.
  private var alt = false

  package init() {}

  /// Bytes came whose meaning depends on what follows.
  package var isPending: Bool { state != .ground }
  /// Inside a paste, which may pause for longer than a key's bytes do.
  package var isPasting: Bool { state == .paste }

  package mutating func feed(_ bytes: some Sequence<UInt8>) -> [InputEvent] {
    var events: [InputEvent] = []
    for byte in bytes { take(byte, &events) }
    return events
  }

  /// Nothing followed in time: what is there is all there is.
  package mutating func timeout() -> [InputEvent] {
    defer { reset() }
    switch state {
    case .ground: return []
    case .escape: return [.key(Key(.escape, alt ? .alt : []))]
    case .control: return buffer.isEmpty ? [.key(Key(.character("["), .alt))] : []
    case .singleShift: return [.key(Key(.character("O"), .alt))]
    case .systemCommand: return buffer.isEmpty ? [.key(Key(.character("]"), .alt))] : []
    case .utf8: return []
    case .paste: return [.paste(buffer)]
    }
  }

  private mutating func reset() {
    state = .ground
    buffer.removeAll(keepingCapacity: true)
    alt = false
  }

  private mutating func take(_ byte: UInt8, _ events: inout [InputEvent]) {
    switch state {
    case .ground: ground(byte, &events)
    case .escape: escape(byte, &events)
    case .control: control(byte, &events)
    case .singleShift:
      let key = Self.singleShiftKey(byte)
      reset()
      if let key { events.append(.key(key)) }
    case .systemCommand: systemCommand(byte, &events)
    case .utf8(let needed): continuation(byte, needed, &events)
    case .paste: paste(byte, &events)
    }
  }

  private mutating func ground(_ byte: UInt8, _ events: inout [InputEvent]) {
    switch byte {
    case 0x1B:
      state = .escape
    case 0xC2...0xDF: begin(byte, needed: 1)
    case 0xE0...0xEF: begin(byte, needed: 2)
    case 0xF0...0xF4: begin(byte, needed: 3)
    case 0x80...:
      reset()  // no first byte of UTF-8
    default:
      let key = Self.plainKey(byte, alt ? .alt : [])
      reset()
      events.append(.key(key))
    }
  }

  private mutating func begin(_ byte: UInt8, needed: Int) {
    buffer = [byte]
    state = .utf8(needed: needed)
  }

  private mutating func continuation(_ byte: UInt8, _ needed: Int, _ events: inout [InputEvent]) {
    guard byte & 0xC0 == 0x80 else {
      reset()
      take(byte, &events)
      return
    }
    buffer.append(byte)
    guard needed == 1 else {
      state = .utf8(needed: needed - 1)
      return
    }
    let text = String(validating: buffer, as: UTF8.self)
    let modifiers: Key.Modifiers = alt ? .alt : []
    reset()
    if let character = text?.first { events.append(.key(Key(.character(character), modifiers))) }
  }

  private mutating func escape(_ byte: UInt8, _ events: inout [InputEvent]) {
    switch byte {
    case 0x5B: state = .control
    case 0x4F: state = .singleShift
    case 0x5D: state = .systemCommand
    case 0x1B:
      // Escape twice: the first may be Alt of what the second begins, or a key of its own.
      if alt { events.append(.key(Key(.escape))) }
      alt = true
    default:
      state = .ground
      alt = true
      ground(byte, &events)
    }
  }

  private mutating func control(_ byte: UInt8, _ events: inout [InputEvent]) {
    // The Linux console sends CSI [ A to E for F1 to F5.
    let isLinuxFunction = byte == 0x5B && buffer.isEmpty
    guard (0x40...0x7E).contains(byte), !isLinuxFunction, buffer != [0x5B] else {
      if buffer == [0x5B] {
        reset()
        if (0x41...0x45).contains(byte) {
          events.append(.key(Key(.function(Int(byte) - 0x40))))
        }
      } else if byte < 0x20 {
        reset()
        take(byte, &events)
      } else if buffer.count < Self.sequenceLimit {
        buffer.append(byte)
      }
      return
    }
    let held: Key.Modifiers = alt ? .alt : []
    let parameters = buffer
    reset()
    if byte == 0x7E, parameters == Array("200".utf8) {
      state = .paste
      return
    }
    guard parameters.count < Self.sequenceLimit else { return }
    guard let event = ControlSequence.event(parameters: parameters, final: byte) else { return }
    if case .key(var key) = event {
      key.modifiers.formUnion(held)
      events.append(.key(key))
    } else {
      events.append(event)
    }
  }

  private mutating func systemCommand(_ byte: UInt8, _ events: inout [InputEvent]) {
    let isEnd = byte == 0x07 || byte == 0x9C || (byte == 0x5C && buffer.last == 0x1B)
    guard isEnd else {
      if buffer.count < Self.sequenceLimit { buffer.append(byte) }
      return
    }
    let body = buffer
    reset()
    if let color = ControlSequence.background(systemCommand: body) {
      events.append(.background(color))
    }
  }

  private mutating func paste(_ byte: UInt8, _ events: inout [InputEvent]) {
    buffer.append(byte)
    if byte == 0x7E, buffer.suffix(Self.pasteEnd.count).elementsEqual(Self.pasteEnd) {
      let text = Array(buffer.dropLast(Self.pasteEnd.count))
      reset()
      events.append(.paste(text))
    } else if buffer.count >= Self.pasteLimit + Self.pasteEnd.count {
      // Keeps what may be the beginning of the end mark.
      let tail = Array(buffer.suffix(Self.pasteEnd.count))
      events.append(.paste(Array(buffer.dropLast(Self.pasteEnd.count))))
      buffer = tail
    }
  }

  private static func plainKey(_ byte: UInt8, _ modifiers: Key.Modifiers) -> Key {
    switch byte {
    case 0x00: return Key(.character(" "), modifiers.union(.control))
    case 0x09: return Key(.tab, modifiers)
    case 0x0A: return Key(.character("j"), modifiers.union(.control))
    case 0x0D: return Key(.enter, modifiers)
    case 0x08: return Key(.character("h"), modifiers.union(.control))
    case 0x7F: return Key(.backspace, modifiers)
    case 0x01...0x1A:
      return Key(
        .character(Character(Unicode.Scalar(byte + 0x60))), modifiers.union(.control))
    case 0x1C...0x1F:
      return Key(
        .character(Character(Unicode.Scalar(byte + 0x40))), modifiers.union(.control))
    default:
      return Key(.character(Character(Unicode.Scalar(byte))), modifiers)
    }
  }

  private static func singleShiftKey(_ byte: UInt8) -> Key? {
    switch byte {
    case 0x4D: return Key(.enter)
    case 0x50...0x53: return Key(.function(Int(byte) - 0x4F))
    case 0x6A...0x79:
      // The keypad in application mode: * + , - . / and digits.
      return Key(.character(Character(Unicode.Scalar(byte - 0x40))))
    default: return ControlSequence.cursorKey(byte).map { Key($0) }
    }
  }
}
