/// The line that `:` opens: a text field with history and completion.
package struct CommandPrompt: Equatable, Sendable {
  package var field = TextField()
  /// Steps back in the history; 0 is the line being typed.
  package var historyPlace = 0
  /// What was typed before going back in the history.
  package var draft = ""
  /// Words that Tab offers, and which of them is in the line.
  package var candidates: [String] = []
  package var candidate: Int?

  package init() {}

  package mutating func recall(_ step: Int, in history: [String]) {
    let place = historyPlace + step
    guard place >= 0, place <= history.count else { return }
    if historyPlace == 0 { draft = field.text }
    historyPlace = place
    field.replace(with: place == 0 ? draft : history[history.count - place])
  }

  /// Completes the last word; again takes the next candidate.
  package mutating func complete(_ step: Int, with completer: CommandCompleter) {
    if let current = candidate, candidates.count > 1 {
      candidate = (current + step + candidates.count) % candidates.count
    } else {
      candidates = completer.candidates(for: field.text)
      candidate = candidates.isEmpty ? nil : step > 0 ? 0 : candidates.count - 1
    }
    guard let candidate else { return }
    let end = field.text.lastIndex(of: " ").map { field.text.index(after: $0) }
    let head = end.map { String(field.text[..<$0]) } ?? ""
    field.replace(
      with: head + candidates[candidate]
        + (candidates.count == 1 && !candidates[candidate].hasSuffix("/")
          && !candidates[candidate].hasSuffix("=") ? " " : ""))
    if candidates.count == 1 { forgetCandidates() }
  }

  package mutating func forgetCandidates() {
    candidates = []
    candidate = nil
  }
}

/// What Tab can put into the command line.
package struct CommandCompleter: Sendable {
  package var machines: [String]
  package var templates: [String]
  package var themes: [String]
  /// Names of files that begin like a text.
  package var paths: @Sendable (String) -> [String]

  package init(
    machines: [String], templates: [String], themes: [String],
    paths: @escaping @Sendable (String) -> [String] = { _ in [] }
  ) {
    self.paths = paths
    self.machines = machines
    self.templates = templates
    self.themes = themes
  }

  package func candidates(for line: String) -> [String] {
    let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
    let last = words.last ?? ""
    let options: [String]
    if words.count <= 1 {
      options = CommandVerb.allCases.map(\.rawValue)
    } else {
      let before = words.dropLast().filter { !$0.isEmpty }
      let verb = CommandVerb(abbreviation: before.first ?? "")
      if last.contains("/"), [.cdrom, .disk, .create].contains(verb) { return paths(last) }
      options = arguments(verb, before)
    }
    return options.filter { $0.hasPrefix(last) }
  }

  private func arguments(_ verb: CommandVerb?, _ before: [String]) -> [String] {
    switch verb {
    case nil: return []
    case .start where before.last == "-t": return templates
    case .theme: return before.count == 1 ? themes : []
    case .sort: return before.count == 1 ? MachineList.Column.allCases.map(\.rawValue) : []
    case .snapshot where before.count == 1: return SnapshotVerb.allCases.map(\.rawValue)
    case .start where before.last == "-B": return ["disk", "cdrom", "net"]
    case .create, .quit, .help, .demo, .filter, .events, .images, .host, .settings: return []
    case .cdrom: return before.count == 1 ? machines : ["eject", "-f"]
    case .disk: return before.count == 1 ? ["check", "create", "convert"] : []
    case .group: return MachineList.Grouping.allCases.map(\.rawValue)
    case .bind where before.count == 1: return KeyContext.allCases.map(\.rawValue)
    case .bind where before.count == 2:
      let place = KeyContext(rawValue: before[1])
      return KeyTable.standard.filter { $0.context == place }.map(\.action.configurationName)
    case .bind: return []
    case .set where before.count > 1:
      return [
        "memory=", "processors=", "cpu=", "accelerator=", "boot.order=", "cdrom=", "tags=",
        "notes=", "serial=", "autostart.enabled=",
      ]
    case .stop: return machines + ["-a", "-f"]
    default: return machines
    }
  }
}
