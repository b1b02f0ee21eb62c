// The language of the command line: the verbs of `uj` and vmctl(8), which may be shortened as long as they are clear.

package enum CommandVerb: String, CaseIterable, Sendable {
  case start, stop, pause, unpause, suspend, reset, create, delete, rename, console, snapshot,
    status
  case template, branch, theme, sort, filter, demo, help, quit
  case set, edit, cdrom, log, charts, type, disk, group, bind, events, images, host, settings

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
    case .start: "start NAME | start -t TEMPLATE NAME | start -B disk|cdrom|net NAME"
    case .stop: "stop [-f] NAME | stop [-f] -a"
    case .pause, .unpause, .suspend, .reset, .delete, .console, .status: "\(rawValue) NAME"
    case .create: "create NAME [-m MEMORY] [-c CPUS] [-s DISKSIZE | -i IMAGE | -k KERNEL]"
    case .rename: "rename NAME NEWNAME"
    case .snapshot: "snapshot take|list|rollback|forward|delete NAME [TITLE]"
    case .template: "template NAME on|off"
    case .branch: "branch NAME SNAPSHOT NEWNAME"
    case .theme: "theme NAME"
    case .sort: "sort COLUMN"
    case .filter: "filter [WORDS]"
    case .demo, .help, .quit, .events, .images, .host, .settings: rawValue
    case .set: "set NAME KEY=VALUE ..."
    case .edit, .log, .charts: "\(rawValue) NAME"
    case .cdrom: "cdrom NAME FILE | cdrom NAME eject [-f]"
    case .type: "type NAME TEXT"
    case .disk: "disk check FILE | disk create FILE SIZE | disk convert [-c] FILE NEWFILE"
    case .group: "group none|template|tag"
    case .bind: "bind PLACE ACTION KEY ..."
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
  /// An action on a machine that is selected for it.
  case onMachine(String, Action)
  /// A line typed at a machine's console.
  case type(String, String)
  case group(MachineList.Grouping)
  case bind(KeyContext, Action, [String])
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
    case .suspend: return only.map { .requests([.suspend($0)]) }
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
    case .sort: return only.flatMap { MachineList.Column(word: $0) }.map { .sort($0) }
    case .filter: return .filter(words.joined(separator: " "))
    case .demo: return words.isEmpty ? .requests([.demo]) : nil
    case .set: return set(words)
    case .edit: return only.map { .onMachine($0, .edit) }
    case .log: return only.map { .onMachine($0, .showLog) }
    case .charts: return only.map { .onMachine($0, .showCharts) }
    case .cdrom: return disc(words)
    case .type:
      guard words.count >= 2 else { return nil }
      return .type(words[0], words.dropFirst().joined(separator: " "))
    case .disk: return disk(words)
    case .group: return only.flatMap { MachineList.Grouping(rawValue: $0) }.map { .group($0) }
    case .bind:
      guard words.count >= 3, let place = KeyContext(rawValue: words[0]),
        let action = Action(configurationName: words[1])
      else { return nil }
      return .bind(place, action, Array(words.dropFirst(2)))
    case .events: return .action(.showEvents)
    case .images: return .action(.showImages)
    case .host: return .action(.showHost)
    case .settings: return .action(.showSettings)
    case .help: return .action(.help)
    case .quit: return .action(.quit)
    }
  }

  private static func start(_ words: [String]) -> Command? {
    guard let flag = words.firstIndex(where: { $0.hasPrefix("-") }) else {
      return words.isEmpty ? nil : .requests(words.map { .start($0) })
    }
    guard words.count == 3, flag < 2, !words[flag + 1].hasPrefix("-") else { return nil }
    let name = flag == 0 ? words[2] : words[0]
    let value = words[flag + 1]
    switch words[flag] {
    case "-t": return .requests([.createFromTemplate(template: value, name: name, start: true)])
    case "-B" where ["disk", "cdrom", "net"].contains(value):
      return .requests([.startFrom(name, device: value)])
    default: return nil
    }
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

  private static func set(_ words: [String]) -> Command? {
    guard words.count >= 2 else { return nil }
    var changes: [SettingChange] = []
    // A value may hold spaces: what has no `=` belongs to the one before.
    for word in words.dropFirst() {
      if let equals = word.firstIndex(of: "="), equals != word.startIndex {
        changes.append(
          SettingChange(String(word[..<equals]), String(word[word.index(after: equals)...])))
      } else if !changes.isEmpty {
        changes[changes.count - 1].value += " " + word
      } else {
        return nil
      }
    }
    return .requests([.change(words[0], changes)])
  }

  private static func disc(_ words: [String]) -> Command? {
    let force = words.contains("-f")
    let plain = words.filter { $0 != "-f" }
    guard plain.count == 2 else { return nil }
    return .requests([
      plain[1] == "eject"
        ? .ejectDisc(plain[0], force: force)
        : .insertDisc(plain[0], path: plain[1], force: force)
    ])
  }

  private static func disk(_ words: [String]) -> Command? {
    let plain = words.filter { $0 != "-c" }
    switch (plain.first, plain.count) {
    case ("check", 2): return .requests([.checkImage(plain[1])])
    case ("create", 3):
      return Quantity.bytes(plain[2]).map { .requests([.createImage(path: plain[1], size: $0)]) }
    case ("convert", 3):
      return .requests([.convertImage(plain[1], to: plain[2], compress: words.contains("-c"))])
    default: return nil
    }
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
