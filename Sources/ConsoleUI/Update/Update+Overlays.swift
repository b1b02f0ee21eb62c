// Keys in dialogs, pickers, help and the command line.

extension Model {
  mutating func pressInOverlay(_ key: Key) -> [Effect] {
    switch overlay {
    case .confirmation(let confirmation): return press(key, in: confirmation)
    case .form(let form): return press(key, in: form)
    case .picker(let picker): return press(key, in: picker)
    case .help(let context, let top):
      overlay = scrolled(key, top, HelpView.lineCount(self, context)).map {
        .help(context, top: $0)
      }
    case .text(let title, let lines, let top):
      overlay = scrolled(key, top, lines.count).map { .text(title: title, lines: lines, top: $0) }
    case .commandLine(let line): return press(key, in: line)
    case .filter(let field, let before): return press(key, in: field, before)
    case .search(let field, let forward): return press(key, search: field, forward: forward)
    case .askKey(let question): return press(key, for: question)
    case nil: break
    }
    return []
  }

  /// The new first line of a text; nil closes it.
  private func scrolled(_ key: Key, _ top: Int, _ count: Int) -> Int? {
    let page = max(1, size.rows - 6)
    let last = max(0, count - page)
    switch key {
    case "Esc", "q", "Enter", "?", "F1", "C-c": return nil
    case "Down", "j": return min(last, top + 1)
    case "Up", "k": return max(0, top - 1)
    case "PgDn", "Space", "C-f", "C-d": return min(last, top + page)
    case "PgUp", "C-b", "C-u": return max(0, top - page)
    case "Home", "g": return 0
    case "End", "G": return last
    default: return top
    }
  }

  private mutating func press(_ key: Key, in confirmation: Confirmation) -> [Effect] {
    var confirmation = confirmation
    switch key {
    case "Tab", "S-Tab", "Left", "Right", "h", "l", "Up", "Down":
      confirmation.isVerbFocused.toggle()
      overlay = .confirmation(confirmation)
    case "Enter" where confirmation.isVerbFocused, "y":
      overlay = nil
      list.clearMarks()
      return confirmation.requests.map { request($0) }
    case "Esc", "n", "q", "C-c", "Enter":
      overlay = nil
    default:
      break
    }
    return []
  }

  private mutating func press(_ key: Key, in form: Form) -> [Effect] {
    var form = form
    if key == "Tab", form.completePath(completePath) {
      overlay = .form(form)
      return []
    }
    switch form.handle(key) {
    case .cancel:
      overlay = nil
    case .submit:
      switch answer(to: form) {
      case .success(let answer):
        overlay = nil
        list.clearMarks()
        return [request(answer)]
      case .failure(let problem):
        form.problem = (problem.field, problem.text)
        form.focus = form.fields.firstIndex { $0.name == problem.field } ?? form.focus
        overlay = .form(form)
      }
    case .edited, .ignored:
      overlay = .form(form)
    }
    return []
  }

  // MARK: Pickers

  private mutating func press(_ key: Key, in picker: Picker) -> [Effect] {
    var picker = picker
    let count = picker.shown.count
    var effects: [Effect] = []
    switch key {
    case "Esc", "C-c":
      overlay = nil
      if case .theme(let before) = picker.purpose { return [.loadTheme(before)] }
      return []
    case "Enter":
      overlay = nil
      return picker.selected.map { choose($0, picker.purpose) } ?? []
    case "Down", "C-n", "Tab": picker.selection = min(count - 1, picker.selection + 1)
    case "Up", "S-Tab": picker.selection = max(0, picker.selection - 1)
    case "PgDn": picker.selection = min(count - 1, picker.selection + 10)
    case "PgUp": picker.selection = max(0, picker.selection - 10)
    default:
      if picker.query.handle(key) { picker.selection = 0 }
    }
    picker.selection = max(0, picker.selection)
    // A theme is seen at once.
    if case .theme = picker.purpose, let name = picker.selected?.value, name != theme.name {
      effects.append(.loadTheme(name))
    }
    overlay = .picker(picker)
    return effects
  }

  private mutating func choose(_ item: Picker.Item, _ purpose: Picker.Purpose) -> [Effect] {
    switch purpose {
    case .action: return Action(rawValue: item.value).map { perform($0) } ?? []
    case .template:
      overlay = .form(templateForm(item.value))
      return []
    case .theme:
      return save("theme", item.value) { $0.theme = item.value } + [.loadTheme(item.value)]
    case .console, .split:
      let words = item.value.split(separator: " ", maxSplits: 1)
      guard words.count == 2, let port = Int(words[0]) else { return [] }
      let name = String(words[1])
      return purpose == .split ? split(with: name, .serial(port)) : open(name, .serial(port))
    case .bootDevice(let machine):
      return [request(.startFrom(machine, device: item.value))]
    case .disc(let machine):
      guard let status = list.machine(machine) else { return refuse("\(machine) is gone") }
      if item.value == "insert" {
        overlay = .form(discForm(status))
        return []
      }
      return [request(.ejectDisc(machine, force: item.value == "force"))]
    case .guestKey: return activeConsole.map { [.sendKeys([item.value], $0)] } ?? []
    case .child(let machine):
      guard let status = list.machine(machine), case .snapshots(let tree) = mainView,
        let snapshot = tree.snapshot(item.value)
      else { return refuse("that snapshot is gone") }
      return roll(status, to: snapshot, forward: true)
    }
  }

  func palettePicker() -> Picker {
    let shown = keys.bindings.filter {
      ($0.context == context || $0.context == .everywhere && context.hasCommonKeys)
        && $0.action != .palette
    }
    return Picker(
      .action, title: "What do you want to do?",
      items: shown.map {
        Picker.Item(
          value: $0.action.rawValue, label: "\($0.label): \($0.help)",
          note: $0.keys.first?.label ?? "")
      })
  }

  func themePicker() -> Picker {
    let names = themeNames.isEmpty ? [theme.name] : themeNames
    return Picker(
      .theme(before: theme.name), title: "Theme",
      items: names.map { Picker.Item(value: $0, label: $0, note: "") },
      selection: names.firstIndex(of: theme.name) ?? 0)
  }

  // MARK: Filter and search

  private mutating func press(_ key: Key, in field: TextField, _ before: String) -> [Effect] {
    var field = field
    switch key {
    case "Enter":
      overlay = nil
      return []
    case "Esc", "C-c":
      overlay = nil
      setFilter(before)
    case "Down", "Up":
      if case .machines = mainView {
        list.select(row: (list.selectedRow ?? 0) + (key == "Down" ? 1 : -1))
      }
    case "Backspace" where field.isEmpty:
      overlay = nil
    default:
      guard field.handle(key) else { return [] }
      overlay = .filter(field, before: before)
      setFilter(field.text)
    }
    list.scroll(toShow: Layout(self).listRows)
    return []
  }

  private mutating func press(
    _ key: Key, search field: TextField, forward: Bool
  ) -> [Effect] {
    var field = field
    switch key {
    case "Enter":
      overlay = nil
      withActiveConsole { $0.copyMode?.searchesForward = forward }
      let text = field.isEmpty ? focusedConsole?.copyMode?.query ?? "" : field.text
      if !text.isEmpty { search(text, forward: forward) }
    case "Esc", "C-c": overlay = nil
    case "Backspace" where field.isEmpty: overlay = nil
    default:
      guard field.handle(key) else { return [] }
      overlay = .search(field, forward: forward)
      // What would be found lights up while it is typed.
      withActiveConsole { $0.copyMode?.query = field.text }
    }
    return []
  }

  // MARK: Command line

  private mutating func press(_ key: Key, in line: CommandPrompt) -> [Effect] {
    var line = line
    switch key {
    case "Esc", "C-c":
      overlay = nil
      return []
    case "Enter":
      overlay = nil
      return run(line.field.text)
    case "Up", "C-p": line.recall(1, in: commandHistory)
    case "Down", "C-n": line.recall(-1, in: commandHistory)
    case "Tab", "S-Tab":
      line.complete(key == "Tab" ? 1 : -1, with: completer)
    case "Backspace" where line.field.isEmpty:
      overlay = nil
      return []
    default:
      if line.field.handle(key) { line.forgetCandidates() }
    }
    overlay = .commandLine(line)
    return []
  }

  private var completer: CommandCompleter {
    CommandCompleter(
      machines: list.machines.map(\.name), templates: list.templates, themes: themeNames,
      paths: completePath)
  }

  /// Carries out a command line.
  package mutating func run(_ text: String) -> [Effect] {
    guard text.contains(where: { $0 != " " }) else { return [] }
    if commandHistory.last != text { commandHistory.append(text) }
    if commandHistory.count > 500 { commandHistory.removeFirst() }
    switch CommandParser.parse(text) {
    case .failure(let problem): return refuse(problem.text)
    case .success(let command): return run(command)
    }
  }

  private mutating func run(_ command: Command) -> [Effect] {
    switch command {
    case .requests(let requests): return run(requests)
    case .stopAll(let force): return stopAll(force: force)
    case .action(let action): return perform(action)
    case .theme(let name): return [.loadTheme(name)]
    case .group(let grouping):
      list.setGrouping(grouping)
      return save("group", grouping.rawValue) { $0.grouping = grouping }
    case .bind(let context, let action, let words): return bind(context, action, words)
    case .sort(let column): list.setSort(column, reversed: false)
    case .filter(let text): list.setFilter(text)
    case .select(let name), .attach(let name), .showSnapshots(let name), .delete(let name),
      .onMachine(let name, _), .type(let name, _), .onSnapshot(_, let name, _):
      guard list.machine(name) != nil else { return refuse(unknown(name)) }
      list.select(name: name)
      list.scroll(toShow: Layout(self).listRows)
      isConsoleFocused = false
      if case .select = command { return [] }
      mainView = .machines
      return runOnSelected(command)
    }
    return []
  }

  private mutating func runOnSelected(_ command: Command) -> [Effect] {
    switch command {
    case .attach: return perform(.attach)
    case .showSnapshots: return perform(.showSnapshots)
    case .delete: return perform(.delete)
    case .onMachine(_, let action): return perform(action)
    case .type(let name, let text):
      let effects = open(name)
      guard let pane = focusedConsole else { return effects }
      // A console that is just being opened keeps what is sent to it.
      return effects + [.send(Array((text + "\r").utf8), pane.number)]
    case .onSnapshot(let verb, let machine, let snapshot):
      switch verb {
      case .rollback: return [request(.rollBack(machine, snapshot: snapshot))]
      case .forward: return [request(.rollForward(machine, snapshot: snapshot))]
      case .delete: return [request(.deleteSnapshot(machine, snapshot: snapshot))]
      case .take, .list: return []
      }
    default: return []
    }
  }

  /// Typed commands say what they mean: no dialog, but machines have to exist, and templates to be templates.
  private mutating func run(_ requests: [MachineRequest]) -> [Effect] {
    for request in requests {
      switch request {
      case .create, .demo, .createImage, .convertImage, .checkImage: break
      case .createFromTemplate(let template, _, _):
        if list.machine(template) == nil { return refuse(unknown(template)) }
      default:
        if let name = request.machine, list.machine(name) == nil { return refuse(unknown(name)) }
      }
    }
    return requests.map { request($0) }
  }

  /// Binds a key for good: `bind machines start F5`.
  private mutating func bind(
    _ context: KeyContext, _ action: Action, _ words: [String]
  ) -> [Effect] {
    let keys = words.compactMap { Key(name: $0) }
    guard keys.count == words.count else {
      return refuse("one of these is no key; write a, C-a, M-a, F5, PgUp")
    }
    let own = configuration.keys[context] ?? [:]
    for key in keys {
      if let other = own.first(where: { $0.key != action && $0.value.contains(key) }) {
        return refuse("\(key) is '\(other.key.configurationName)' already in your config.toml")
      }
    }
    configure { $0.keys[context, default: [:]][action] = keys }
    say("\(words.joined(separator: " ")) is '\(action.configurationName)' now", .success)
    let literal = "[" + words.map { Self.quoted($0) }.joined(separator: ", ") + "]"
    return [.save("keys.\(context.rawValue).\(action.configurationName)", literal)]
  }

  private func unknown(_ name: String) -> String {
    let close = list.machines.map(\.name).filter { $0.hasPrefix(name) || name.hasPrefix($0) }
    let hint = close.first.map { "; did you mean \($0)?" } ?? ""
    return "there is no machine '\(name)'\(hint)"
  }
}
