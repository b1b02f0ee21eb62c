import TOMLKit

/// Reads `config.toml`. What is wrong is left out and told with file and line; the rest counts.
///
/// ```toml
/// theme = "nord"
/// prefix = "C-]"
/// second-prefix = "F12"
/// mouse = true
/// ascii = false
/// refresh = 1.0
/// columns = ["name", "state", "processor", "memory"]
/// sort = "processor"
/// reverse = false
/// group = "template"
/// details = true
///
/// [confirm]
/// power-down = false
///
/// [keys.machines]
/// start = "s"
/// attach = ["Enter", "c"]
/// stop-all = []
/// ```
package struct ConfigurationFile {
  private let source: TOMLSource
  package private(set) var configuration = Configuration()
  package private(set) var problems: [ThemeProblem] = []

  private static let known = [
    "theme", "prefix", "second-prefix", "mouse", "ascii", "refresh", "columns", "sort", "reverse",
    "group", "details", "confirm", "keys",
  ]

  package init(file: String, text: String) {
    source = TOMLSource(file: file, text: text)
    do {
      read(try TOMLTable(string: text))
    } catch let error as TOMLParseError {
      problems.append(
        ThemeProblem(file: file, line: error.source.begin.line, text: error.description))
    } catch {
      problems.append(ThemeProblem(file: file, line: 1, text: "\(error)"))
    }
  }

  private mutating func read(_ table: TOMLTable) {
    for key in table.keys.sorted() where !Self.known.contains(key) {
      complain("unknown key '\(key)'; known are \(Self.known.joined(separator: ", "))", key)
    }
    if let value = table["theme"] {
      configuration.theme = value.string
      if value.string == nil { complain("'theme' takes a name in quotes", "theme") }
    }
    configuration.prefix = prefix("prefix", table["prefix"])
    configuration.secondPrefix = prefix("second-prefix", table["second-prefix"])
    if let key = configuration.secondPrefix, key == configuration.prefix {
      complain("is the same key as 'prefix'", "second-prefix")
    }
    configuration.usesMouse = flag("mouse", table["mouse"], configuration.usesMouse)
    configuration.usesASCII = flag("ascii", table["ascii"], configuration.usesASCII)
    configuration.isReversed = flag("reverse", table["reverse"], configuration.isReversed)
    configuration.showsDetail = flag("details", table["details"], configuration.showsDetail)
    readRefresh(table["refresh"])
    readList(table)
    readQuestions(table["confirm"])
    readKeys(table["keys"])
  }

  private mutating func complain(_ text: String, _ key: String, section: String? = nil) {
    problems.append(source.problem(text, at: key, section: section))
  }

  // MARK: Values

  private mutating func flag(
    _ key: String, _ value: (any TOMLValueConvertible)?, _ standard: Bool, section: String? = nil
  ) -> Bool {
    guard let value else { return standard }
    if let flag = value.bool { return flag }
    complain("'\(key)' takes true or false", key, section: section)
    return standard
  }

  private mutating func prefix(_ key: String, _ value: (any TOMLValueConvertible)?) -> Key? {
    guard let value, value.string != "" else { return nil }
    guard let text = value.string, let found = Key(name: text) else {
      complain("'\(key)' takes the name of a key such as \"C-]\" or \"F12\"", key)
      return nil
    }
    guard found.isFitForPrefix else {
      complain("\(text) is needed for typing; take a key with C- or M-, or F1 to F24", key)
      return nil
    }
    return found
  }

  private mutating func readRefresh(_ value: (any TOMLValueConvertible)?) {
    guard let value else { return }
    guard let seconds = value.double ?? value.int.map(Double.init),
      Configuration.refreshRange.contains(seconds)
    else { return complain("'refresh' takes seconds from 0.2 to 60", "refresh") }
    configuration.refresh = seconds
  }

  private mutating func readList(_ table: TOMLTable) {
    let words = MachineList.Column.allCases.map(\.rawValue).joined(separator: ", ")
    if let value = table["columns"] {
      var columns: [MachineList.Column] = []
      if value.array == nil { complain("'columns' takes a list of \(words)", "columns") }
      for element in value.array.map(Array.init) ?? [] {
        guard let column = element.string.flatMap(MachineList.Column.init(word:)) else {
          complain(
            "no column \(element.string.map { "'\($0)'" } ?? "of that kind"): \(words)", "columns")
          continue
        }
        if columns.contains(column) {
          complain("column '\(column.rawValue)' stands twice", "columns")
        } else {
          columns.append(column)
        }
      }
      configuration.columns = columns.isEmpty ? nil : columns
    }
    if let value = table["sort"] {
      if let column = value.string.flatMap(MachineList.Column.init(word:)) {
        configuration.sort = column
      } else {
        complain("'sort' takes one of \(words)", "sort")
      }
    }
    if let value = table["group"] {
      if let grouping = value.string.flatMap(MachineList.Grouping.init(rawValue:)) {
        configuration.grouping = grouping
      } else {
        complain("'group' takes none, template or tag", "group")
      }
    }
  }

  private mutating func readQuestions(_ value: (any TOMLValueConvertible)?) {
    guard let value else { return }
    guard let table = value.table else { return complain("'confirm' is a table", "confirm") }
    for key in table.keys.sorted() {
      guard let question = Configuration.Question(rawValue: key) else {
        let known = Configuration.Question.allCases.map(\.rawValue).joined(separator: ", ")
        complain("unknown question '\(key)'; known are \(known)", key, section: "confirm")
        continue
      }
      if !flag(key, table[key], true, section: "confirm") {
        configuration.questions.remove(question)
      }
    }
  }

  // MARK: Keys

  private mutating func readKeys(_ value: (any TOMLValueConvertible)?) {
    guard let value else { return }
    guard let table = value.table else { return complain("'keys' is a table", "keys") }
    for name in table.keys.sorted() {
      let section = "keys.\(name)"
      guard let context = KeyContext(rawValue: name) else {
        let known = KeyContext.allCases.map(\.rawValue).joined(separator: ", ")
        complain("no place '\(name)' for keys; there are \(known)", section)
        continue
      }
      guard let bindings = table[name]?.table else {
        complain("'\(section)' is a table", name, section: "keys")
        continue
      }
      readKeys(bindings, context, section)
    }
  }

  private mutating func readKeys(_ table: TOMLTable, _ context: KeyContext, _ section: String) {
    let possible = KeyTable.standard.filter { $0.context == context }.map(\.action)
    var owners: [Key: String] = [:]
    // In the order of the file, so that the later of two is the one complained about.
    let names = table.keys.sorted {
      (source.line(of: $0, section: section), $0) < (source.line(of: $1, section: section), $1)
    }
    for name in names {
      guard let action = Action(configurationName: name), possible.contains(action) else {
        complain(
          "no action '\(name)' in \(context.rawValue); there are "
            + possible.map(\.configurationName).joined(separator: ", "), name, section: section)
        continue
      }
      guard let words = Self.words(table[name]) else {
        complain("'\(name)' takes a key or a list of keys in quotes", name, section: section)
        continue
      }
      var keys: [Key] = []
      for word in words {
        guard let key = Key(name: word) else {
          complain("'\(word)' is no key; write a, C-a, M-a, F5, PgUp", name, section: section)
          continue
        }
        if let owner = owners[key] {
          complain(
            "\(word) is '\(owner)' already (line \(source.line(of: owner, section: section)))",
            name, section: section)
          continue
        }
        owners[key] = name
        keys.append(key)
      }
      configuration.keys[context, default: [:]][action] = keys
    }
    complainOfLost(context, owners, section)
  }

  /// An action that loses its last key to another should not vanish silently.
  private mutating func complainOfLost(
    _ context: KeyContext, _ owners: [Key: String], _ section: String
  ) {
    let bound = configuration.keys[context] ?? [:]
    for binding in KeyTable.standard
    where binding.context == context && bound[binding.action] == nil && !binding.keys.isEmpty {
      let left = binding.keys.filter { owners[$0] == nil }
      guard left.isEmpty, let owner = binding.keys.lazy.compactMap({ owners[$0] }).first else {
        continue
      }
      complain(
        "takes the only key of '\(binding.action.configurationName)'; give that another one", owner,
        section: section)
    }
  }

  private static func words(_ value: (any TOMLValueConvertible)?) -> [String]? {
    if let word = value?.string { return [word] }
    guard let list = value?.array else { return nil }
    let words = Array(list).map(\.string)
    return words.contains { $0 == nil } ? nil : words.compactMap { $0 }
  }
}

extension Key {
  /// Can lead commands without being missed for typing.
  package var isFitForPrefix: Bool {
    if case .function = code { return true }
    if case .character = code {
      return modifiers.contains(.control) || modifiers.contains(.alt)
    }
    return !modifiers.isEmpty || code == .insert
  }
}
