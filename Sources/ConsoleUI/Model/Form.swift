/// A dialog with fields: text, choices and switches. Its purpose says what to do with them.
package struct Form: Equatable, Sendable {
  package enum Content: Equatable, Sendable {
    case text(TextField)
    case toggle(Bool)
    case choice([String], Int)
  }

  package struct Field: Equatable, Sendable {
    package var name: FieldName
    package var label: String
    package var content: Content
    /// What may be written here, shown while the field has the focus.
    package var hint: String
    /// A file's path: Tab completes it.
    package var isPath = false

    init(
      _ name: FieldName, _ label: String, _ content: Content, hint: String = "",
      isPath: Bool = false
    ) {
      self.isPath = isPath
      self.name = name
      self.label = label
      self.content = content
      self.hint = hint
    }
  }

  package enum FieldName: Hashable, Sendable {
    case name, template, start, memory, processors, disk, kernel, commandLine, title, withMemory
    case confirmation, accelerator, bootOrder, initrd, disc, tags, notes, serial, autostart
    case processorModel, path, target, size, compress, force
  }

  package enum Purpose: Equatable, Sendable {
    case newMachine
    case newFromTemplate
    case rename(String)
    case takeSnapshot(String)
    case renameSnapshot(machine: String, snapshot: String)
    case branch(machine: String, snapshot: String)
    /// The name of the machine has to be typed.
    case delete(String)
    /// The definition's values as they were.
    case edit(String, [String: String])
    case insertDisc(String)
    case newImage
    case convertImage(String)
    case resizeImage(ImageStatus)
  }

  package var title: String
  /// What is going to happen or be lost.
  package var lines: [String]
  package var fields: [Field]
  package var focus = 0
  package var purpose: Purpose
  /// What is wrong with a field, shown beside it.
  package var problem: (field: FieldName, text: String)?
  /// The word on the button.
  package var verb: String
  package var isDangerous = false

  init(_ purpose: Purpose, title: String, verb: String, lines: [String] = [], fields: [Field]) {
    self.purpose = purpose
    self.title = title
    self.verb = verb
    self.lines = lines
    self.fields = fields
  }

  package static func == (a: Form, b: Form) -> Bool {
    a.title == b.title && a.lines == b.lines && a.fields == b.fields && a.focus == b.focus
      && a.purpose == b.purpose && a.problem?.field == b.problem?.field
      && a.problem?.text == b.problem?.text
  }

  package func text(_ name: FieldName) -> String {
    for field in fields where field.name == name {
      switch field.content {
      case .text(let field): return field.text
      case .choice(let words, let index): return words.indices.contains(index) ? words[index] : ""
      case .toggle: return ""
      }
    }
    return ""
  }

  /// The field holds what was proposed and nothing was typed.
  package func isProposal(_ name: FieldName) -> Bool {
    fields.contains { field in
      if field.name == name, case .text(let text) = field.content { return text.isProposal }
      return false
    }
  }

  package func isOn(_ name: FieldName) -> Bool {
    fields.contains { $0.name == name && $0.content == .toggle(true) }
  }

  /// What a key did to a form.
  package enum Reaction: Equatable, Sendable {
    case edited, submit, cancel, ignored
  }

  package mutating func handle(_ key: Key) -> Reaction {
    switch key {
    case "Esc", "C-c": return .cancel
    case "Enter", "C-s", "F10": return .submit
    case "Tab", "Down": focus = (focus + 1) % max(1, fields.count)
    case "S-Tab", "Up": focus = (focus + fields.count - 1) % max(1, fields.count)
    default: return edit(key) ? .edited : .ignored
    }
    return .edited
  }

  package mutating func paste(_ text: String) {
    guard fields.indices.contains(focus), case .text(var field) = fields[focus].content else {
      return
    }
    field.insert(String(text.prefix { !$0.isNewline }))
    fields[focus].content = .text(field)
    problem = nil
  }

  /// Completes the path in the focused field as far as it is certain.
  ///
  /// - Returns: false where there is nothing to complete.
  package mutating func completePath(_ candidates: (String) -> [String]) -> Bool {
    guard fields.indices.contains(focus), fields[focus].isPath,
      case .text(var field) = fields[focus].content, !field.isEmpty, !field.isProposal
    else { return false }
    let found = candidates(field.text)
    guard var common = found.first else { return false }
    for name in found { common = name.commonPrefix(with: common) }
    guard common.count > field.text.count else { return false }
    field.replace(with: common)
    fields[focus].content = .text(field)
    return true
  }

  private mutating func edit(_ key: Key) -> Bool {
    guard fields.indices.contains(focus) else { return false }
    problem = nil
    switch fields[focus].content {
    case .text(var field):
      guard field.handle(key) else { return false }
      fields[focus].content = .text(field)
    case .toggle(let on):
      guard ["Space", "Left", "Right", "y", "n", "x"].contains(key) else { return false }
      fields[focus].content = .toggle(key == "y" ? true : key == "n" ? false : !on)
    case .choice(let words, let index):
      let step = key == "Left" ? -1 : key == "Right" || key == "Space" ? 1 : 0
      guard step != 0, !words.isEmpty else { return false }
      fields[focus].content = .choice(words, (index + step + words.count) % words.count)
    }
    return true
  }
}

extension String {
  /// Characters at the beginning that both have.
  fileprivate func commonPrefix(with other: String) -> String {
    String(zip(self, other).prefix { $0 == $1 }.map(\.0))
  }
}
