/// A line of text that is being edited.
package struct TextField: Equatable, Sendable {
  package private(set) var characters: [Character]
  package private(set) var cursor: Int
  /// The text was proposed and nothing was typed yet: the first character typed replaces it.
  package private(set) var isProposal: Bool
  /// No more characters than this.
  private static let limit = 4096

  package init(_ text: String = "", proposal: Bool = false) {
    characters = Array(text)
    cursor = characters.count
    isProposal = proposal && !text.isEmpty
  }

  package var text: String { String(characters) }
  package var isEmpty: Bool { characters.isEmpty }
  /// Cells before the cursor.
  package var cursorColumn: Int { String(characters[..<cursor]).cellWidth }

  package mutating func replace(with text: String) {
    self = TextField(text)
  }

  /// Inserts text at the cursor; control characters are left out.
  package mutating func insert(_ text: String) {
    if isProposal { self = TextField() }
    for character in text where character.cellWidth > 0 && characters.count < Self.limit {
      characters.insert(character, at: cursor)
      cursor += 1
    }
  }

  /// Returns false for keys that mean nothing to a text field.
  package mutating func handle(_ key: Key) -> Bool {
    if let character = key.typedCharacter {
      insert(String(character))
      return true
    }
    guard edit(key) else { return false }
    isProposal = false
    return true
  }

  private mutating func edit(_ key: Key) -> Bool {
    switch key {
    case "Left", "C-b": cursor = max(0, cursor - 1)
    case "Right", "C-f": cursor = min(characters.count, cursor + 1)
    case "Home", "C-a": cursor = 0
    case "End", "C-e": cursor = characters.count
    case "Backspace", "C-h":
      if cursor > 0 {
        cursor -= 1
        characters.remove(at: cursor)
      }
    case "Del", "C-d":
      if cursor < characters.count { characters.remove(at: cursor) }
    case "C-u":
      characters.removeSubrange(..<cursor)
      cursor = 0
    case "C-k": characters.removeSubrange(cursor...)
    case "C-w", "M-Backspace":
      let start = wordStart
      characters.removeSubrange(start..<cursor)
      cursor = start
    case "C-Left", "M-b": cursor = wordStart
    case "C-Right", "M-f":
      while cursor < characters.count, characters[cursor] == " " { cursor += 1 }
      while cursor < characters.count, characters[cursor] != " " { cursor += 1 }
    default: return false
    }
    return true
  }

  private var wordStart: Int {
    var place = cursor
    while place > 0, characters[place - 1] == " " { place -= 1 }
    while place > 0, characters[place - 1] != " " { place -= 1 }
    return place
  }
}
