/// What the user has settled in `config.toml`. Everything has a value without a file.
package struct Configuration: Equatable, Sendable {
  /// Questions that can be switched off.
  package enum Question: String, CaseIterable, Sendable {
    case powerDown = "power-down"
    case forceOff = "force-off"
    case reset
    case roll
    case deleteSnapshot = "delete-snapshot"
    /// Typing the machine's name before it is deleted; switched off, a button remains.
    case typeName = "type-name"

    var summary: String {
      switch self {
      case .powerDown: "before guests are asked to power down"
      case .forceOff: "before the power is cut"
      case .reset: "before the reset button is pressed"
      case .roll: "before a running machine is rolled"
      case .deleteSnapshot: "before a snapshot is deleted"
      case .typeName: "the name is typed before a machine is deleted"
      }
    }
  }

  /// A theme's name, or a path with a slash.
  package var theme: String?
  /// The key that leads commands while a console has the keyboard; nil until the user was asked.
  package var prefix: Key?
  /// Another key that does the same.
  package var secondPrefix: Key?
  package var usesMouse = true
  package var usesASCII = false
  /// Seconds between statistics, 0.2 to 60.
  package var refresh = 1.0
  /// The list's columns in order; nil takes the usual ones.
  package var columns: [MachineList.Column]?
  package var sort = MachineList.Column.name
  package var isReversed = false
  package var grouping = MachineList.Grouping.none
  package var showsDetail = true
  package var questions = Set(Question.allCases)
  /// Keys of actions that the user has bound, by context.
  package var keys: [KeyContext: [Action: [Key]]] = [:]

  package init() {}

  package static let defaultPrefix: Key = "C-]"
  package static let refreshRange = 0.2...60.0
}

extension Action {
  /// The name in the configuration and in help: `take-snapshot`.
  package var configurationName: String { Self.dashed(rawValue) }

  package init?(configurationName name: String) {
    guard let found = Action.allCases.first(where: { $0.configurationName == name }) else {
      return nil
    }
    self = found
  }

  private static func dashed(_ word: String) -> String {
    word.reduce(into: "") { text, letter in
      if letter.isUppercase { text += "-" }
      text += letter.lowercased()
    }
  }
}
