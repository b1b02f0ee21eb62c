/// What a key press is, whatever bytes the terminal sent for it.
package struct Key: Hashable, Sendable {
  package enum Code: Hashable, Sendable {
    case character(Character)
    case enter, tab, escape, backspace, delete, insert
    case up, down, left, right, home, end, pageUp, pageDown
    case function(Int)
  }

  package struct Modifiers: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let shift = Modifiers(rawValue: 1)
    package static let alt = Modifiers(rawValue: 2)
    package static let control = Modifiers(rawValue: 4)
  }

  package var code: Code
  package var modifiers: Modifiers

  package init(_ code: Code, _ modifiers: Modifiers = []) {
    self.code = code
    self.modifiers = modifiers
  }

  /// A printable character without Control or Alt: what goes into a text field.
  package var typedCharacter: Character? {
    guard case .character(let character) = code, modifiers.isSubset(of: .shift) else {
      return nil
    }
    return character
  }
}

/// Something that came from the user's terminal.
package enum InputEvent: Equatable, Sendable {
  case key(Key)
  case mouse(MouseEvent)
  /// Text between the marks of bracketed paste; its bytes may be any.
  case paste([UInt8])
  /// The terminal's window got or lost the focus.
  case focus(Bool)
  /// The terminal's answer to OSC 11.
  case background(Color)
}

/// A report of the mouse (xterm's mode 1006).
package struct MouseEvent: Equatable, Sendable {
  package enum Action: Equatable, Sendable {
    case press, release, drag, wheelUp, wheelDown
  }
  package var action: Action
  /// 0 left, 1 middle, 2 right; 3 none.
  package var button: Int
  package var position: Position
  package var modifiers: Key.Modifiers

  package init(
    _ action: Action, button: Int = 0, at position: Position, modifiers: Key.Modifiers = []
  ) {
    self.action = action
    self.button = button
    self.position = position
    self.modifiers = modifiers
  }
}
