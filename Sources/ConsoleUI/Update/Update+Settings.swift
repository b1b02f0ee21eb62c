// The view of settings: each change counts at once and is saved in `config.toml`.

extension Model {
  /// The effect that saves a setting, after the change was made.
  mutating func save(
    _ key: String, _ value: some CustomStringConvertible,
    _ change: (inout Configuration) -> Void
  ) -> [Effect] {
    configure(change)
    let isText = value is String
    return [.save(key, isText ? Self.quoted("\(value)") : "\(value)")]
  }

  /// A TOML basic string.
  static func quoted(_ text: String) -> String {
    var literal = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": literal += "\\\(scalar)"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7F { continue }
        literal.unicodeScalars.append(scalar)
      }
    }
    return literal + "\""
  }

  mutating func changeSetting() -> [Effect] {
    guard case .settings(let page) = mainView else { return [] }
    switch page.selected {
    case .theme:
      overlay = .picker(themePicker())
      return []
    case .ascii:
      glyphs = glyphs == .ascii ? .unicode : .ascii
      let isASCII = glyphs == .ascii
      return save("ascii", isASCII) { $0.usesASCII = isASCII }
    case .mouse:
      let on = !configuration.usesMouse
      return save("mouse", on) { $0.usesMouse = on } + [.mouse(on)]
    case .prefix: overlay = .askKey(.prefix)
    case .secondPrefix: overlay = .askKey(.secondPrefix)
    case .refresh: return changeRefresh()
    case .grouping: return perform(.group)
    case .detail: return perform(.toggleDetail)
    case .column(let column): return toggle(column)
    case .question(let question):
      let isOn = configuration.questions.contains(question)
      return save("confirm.\(question.rawValue)", !isOn) { configuration in
        if isOn {
          configuration.questions.remove(question)
        } else {
          configuration.questions.insert(question)
        }
      }
    }
    return []
  }

  private mutating func changeRefresh() -> [Effect] {
    let steps = [0.5, 1, 2, 5, 10]
    let next = steps.first { $0 > configuration.refresh } ?? steps[0]
    list.sampleInterval = UInt64(next * 1e9)
    return save("refresh", next) { $0.refresh = next } + [.refresh(next)]
  }

  /// Shows or hides a column. The name always stays.
  private mutating func toggle(_ column: MachineList.Column) -> [Effect] {
    guard column != .name else {
      say("the name is always shown")
      return []
    }
    var columns = configuration.columns ?? MachineListView.standardColumns
    if let index = columns.firstIndex(of: column) {
      columns.remove(at: index)
    } else {
      // In its usual place among the others.
      let order = MachineList.Column.allCases
      let rank = order.firstIndex(of: column) ?? 0
      let place = columns.firstIndex { (order.firstIndex(of: $0) ?? 0) > rank } ?? columns.count
      columns.insert(column, at: place)
    }
    configure { $0.columns = columns }
    let literal = "[" + columns.map { Self.quoted($0.rawValue) }.joined(separator: ", ") + "]"
    return [.save("columns", literal)]
  }

  // MARK: A key that is pressed to be chosen

  mutating func press(_ key: Key, for question: KeyQuestion) -> [Effect] {
    switch key {
    case "Esc" where question != .prefixAtAttach, "C-c" where question != .prefixAtAttach:
      overlay = nil
      return []
    case "Esc":
      // Asked again at the next start.
      overlay = nil
      asksForPrefix = false
      say("\(prefix.label) leads commands for now")
      return []
    case "Enter" where question == .prefixAtAttach:
      return choosePrefix(Configuration.defaultPrefix, question)
    case "Backspace" where question == .secondPrefix, "Del" where question == .secondPrefix:
      overlay = nil
      return save("second-prefix", "") { $0.secondPrefix = nil }
    default:
      guard key.isFitForPrefix else {
        say(
          "\(key.label) is needed for typing; take one with Control or Alt, or F1 to F24", .failure)
        return []
      }
      return choosePrefix(key, question)
    }
  }

  private mutating func choosePrefix(_ key: Key, _ question: KeyQuestion) -> [Effect] {
    overlay = nil
    asksForPrefix = false
    if question == .secondPrefix {
      say("\(key.label) leads commands, too", .success)
      return save("second-prefix", key.description) { $0.secondPrefix = key }
    }
    say("\(key.label) d leaves a console from now on", .success)
    return save("prefix", key.description) { $0.prefix = key }
  }
}
