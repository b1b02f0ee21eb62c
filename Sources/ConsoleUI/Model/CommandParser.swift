// The language of the command line: the verbs of `uj` and vmctl(8), which may be shortened as long as they are clear.

package enum CommandVerb: String, CaseIterable, Sendable {
  case start, stop, pause, unpause, reset, create, delete, rename, console, snapshot, status
  case template, branch, theme, sort, filter, demo, help, quit

  /// The verb that begins like this, if only one does. `st` could be start, stop or status: then nil.
  package init?(abbreviation: String) {
    if let exact = CommandVerb(rawValue: abbreviation) {
      self = exact
      return
    }
    if abbreviation == "attach" {
      self = .console
      return
    }
    let found = CommandVerb.allCases.filter { $0.rawValue.hasPrefix(abbreviation) }
    guard found.count == 1, !abbreviation.isEmpty else { return nil }
    self = found[0]
  }

  /// Arguments, for help and errors.
  package var usage: String {
    switch self {
    case .start: "start NAME | start -t TEMPLATE NAME"
    case .stop: "stop [-f] NAME | stop [-f] -a"
    case .pause, .unpause, .reset, .delete, .console, .status: "\(rawValue) NAME"
    case .create: "create NAME [-m MEMORY] [-c CPUS] [-s DISKSIZE | -i IMAGE | -k KERNEL]"
    case .rename: "rename NAME NEWNAME"
    case .snapshot: "snapshot take|list|rollback|forward|delete NAME [TITLE]"
    case .template: "template NAME on|off"
    case .branch: "branch NAME SNAPSHOT NEWNAME"
    case .theme: "theme NAME"
    case .sort: "sort COLUMN"
    case .filter: "filter [WORDS]"
    case .demo, .help, .quit: rawValue
    }
  }
}

package enum SnapshotVerb: String, CaseIterable, Sendable {
  case take, list, rollback, forward, delete
}

/// A command line that was understood.
package enum Command: Equatable, Sendable {
  case requests([MachineRequest])
  case stopAll(force: Bool)
  case attach(String)
  case select(String)
  case showSnapshots(String)
  /// A snapshot named by its title or the beginning of its identifier.
  case onSnapshot(SnapshotVerb, machine: String, snapshot: String)
  case delete(String)
  case theme(String)
  case sort(MachineList.Column)
  case filter(String)
  case action(Action)
}

package enum CommandParser {
  /// - Returns: The command, or one line saying what is wrong.
  package static func parse(_ line: String) -> Result<Command, CommandProblem> {
    var words = line.split(separator: " ").map(String.init)
    guard !words.isEmpty else { return .failure(CommandProblem("")) }
    let first = words.removeFirst()
    guard let verb = CommandVerb(abbreviation: first) else {
      let close = CommandVerb.allCases.map(\.rawValue).filter { $0.hasPrefix(first) }
      return .failure(
        CommandProblem(
          close.isEmpty
            ? "no command '\(first)'; Tab shows them all"
            : "'\(first)' could be \(close.joined(separator: ", "))"))
    }
    if let command = command(verb, words) { return .success(command) }
    return .failure(CommandProblem("usage: \(verb.usage)"))
  }

  private static func command(_ verb: CommandVerb, _ words: [String]) -> Command? {
    let only = words.count == 1 ? words[0] : nil
    switch verb {
    case .start: return start(words)
    case .stop: return stop(words)
    case .pause: return only.map { .requests([.pause($0)]) }
    case .unpause: return only.map { .requests([.unpause($0)]) }
    case .reset: return only.map { .requests([.reset($0)]) }
    case .create: return create(words).map { .requests([.create($0)]) }
    case .delete: return only.map { .delete($0) }
    case .rename: return words.count == 2 ? .requests([.rename(words[0], to: words[1])]) : nil
    case .console: return only.map { .attach($0) }
    case .status: return only.map { .select($0) } ?? (words.isEmpty ? .filter("") : nil)
    case .snapshot: return snapshot(words)
    case .template:
      guard words.count == 2, ["on", "off"].contains(words[1]) else { return nil }
      return .requests([.setTemplate(words[0], words[1] == "on")])
    case .branch:
      guard words.count == 3 else { return nil }
      return .requests([.branch(words[0], snapshot: words[1], name: words[2])])
    case .theme: return only.map { .theme($0) } ?? (words.isEmpty ? .action(.chooseTheme) : nil)
    case .sort: return only.flatMap { MachineList.Column(rawValue: $0) }.map { .sort($0) }
    case .filter: return .filter(words.joined(separator: " "))
    case .demo: return words.isEmpty ? .requests([.demo]) : nil
    case .help: return .action(.help)
    case .quit: return .action(.quit)
    }
  }

  private static func start(_ words: [String]) -> Command? {
    if words.count == 1, !words[0].hasPrefix("-") { return .requests([.start(words[0])]) }
    guard words.count == 3, let flag = words.firstIndex(of: "-t"), flag < 2 else { return nil }
    let name = flag == 0 ? words[2] : words[0]
    return .requests([
      .createFromTemplate(template: words[flag + 1], name: name, start: true)
    ])
  }

  private static func stop(_ words: [String]) -> Command? {
    let flags = words.filter { $0.hasPrefix("-") }.flatMap { $0.dropFirst() }
    let names = words.filter { !$0.hasPrefix("-") }
    guard flags.allSatisfy({ "af".contains($0) }) else { return nil }
    let force = flags.contains("f")
    if flags.contains("a") { return names.isEmpty ? .stopAll(force: force) : nil }
    guard !names.isEmpty else { return nil }
    return .requests(names.map { force ? .forceStop($0) : .stop($0) })
  }

  private static func create(_ words: [String]) -> MachineSpecification? {
    var words = words[...]
    var specification = MachineSpecification(name: "")
    while let word = words.popFirst() {
      guard word.hasPrefix("-") else {
        guard specification.name.isEmpty else { return nil }
        specification.name = word
        continue
      }
      guard let value = words.popFirst() else { return nil }
      switch word {
      case "-m":
        guard let bytes = Quantity.bytes(value) else { return nil }
        specification.memory = bytes
      case "-c":
        guard let count = Int(value), (1...64).contains(count) else { return nil }
        specification.processors = count
      case "-s":
        guard let bytes = Quantity.bytes(value) else { return nil }
        specification.newDiskSize = bytes
      case "-i": specification.image = value
      case "-k": specification.kernel = value
      default: return nil
      }
    }
    return specification.name.isEmpty ? nil : specification
  }

  private static func snapshot(_ words: [String]) -> Command? {
    guard words.count >= 2, let verb = SnapshotVerb(rawValue: words[0]) else { return nil }
    let machine = words[1]
    let title = words.dropFirst(2).joined(separator: " ")
    switch verb {
    case .take:
      return .requests([.takeSnapshot(machine, title: title, memory: false)])
    case .list: return title.isEmpty ? .showSnapshots(machine) : nil
    case .forward where title.isEmpty:
      return .requests([.rollForward(machine, snapshot: nil)])
    case .rollback, .forward, .delete:
      return title.isEmpty ? nil : .onSnapshot(verb, machine: machine, snapshot: title)
    }
  }
}

/// Why a command line was not understood.
package struct CommandProblem: Error, Equatable, Sendable {
  package var text: String
  init(_ text: String) { self.text = text }
}
