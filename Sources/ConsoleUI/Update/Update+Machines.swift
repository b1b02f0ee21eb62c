// Actions on machines: what each state allows, what is asked before.

extension Model {
  mutating func refuse(_ text: String) -> [Effect] {
    say(text, .failure)
    return []
  }

  /// The machines of an action: marked ones in the list, else the subject.
  private var targets: [MachineSummary] {
    context == .machines ? list.targets : subject.map { [$0] } ?? []
  }

  mutating func performOnMachine(_ action: Action) -> [Effect] {
    switch action {
    case .demo: return [request(.demo)]
    case .newMachine:
      overlay = .form(newMachineForm())
      return []
    case .newFromTemplate: return newFromTemplate()
    case .stopAll: return stopAll(force: false)
    default: break
    }
    let targets = targets
    guard let first = targets.first else {
      return refuse(
        list.machines.isEmpty
          ? "there is no machine yet: \(keys.label(.demo)) runs the demonstration, \(keys.label(.newMachine)) makes one"
          : "no machine is selected")
    }
    switch action {
    case .start: return start(targets)
    case .bootFrom: return bootFrom(first)
    case .edit: return edit(first)
    case .editText: return [.editDefinition(first.name)]
    case .disc: return disc(first)
    case .copyName: return keep(targets.map(\.name).joined(separator: " "))
    case .pause: return pause(targets)
    case .suspendMachine: return suspend(targets)
    case .powerDown:
      return ask(
        targets, verb: "Power down", .powerDown, allowed: [.running, .halted],
        lines: ["The guest is asked to turn itself off (ACPI power button)."]
      ) { .stop($0) }
    case .forceStop:
      return ask(
        targets, verb: "Force off", .forceOff,
        allowed: [.running, .paused, .halted, .starting, .stopping, .unresponsive],
        lines: [
          "The power is cut. The guest gets no warning: what it has not",
          "written to its disks is lost.",
        ]
      ) { .forceStop($0) }
    case .reset:
      return ask(
        targets, verb: "Reset", .reset, allowed: [.running, .paused, .halted],
        lines: [
          "The reset button is pressed. What the guest has not written to",
          "its disks is lost.",
        ]
      ) { .reset($0) }
    case .toggleTemplate: return toggleTemplate(first)
    case .rename:
      overlay = .form(renameForm(first))
      return []
    case .delete: return delete(targets)
    default: return []
    }
  }

  private mutating func start(_ targets: [MachineSummary]) -> [Effect] {
    var effects: [Effect] = []
    var reason = ""
    for machine in targets {
      switch machine.state {
      case .stopped, .suspended, .crashed: effects.append(request(.start(machine.name)))
      case .paused: effects.append(request(.unpause(machine.name)))
      case .halted: effects.append(request(.reset(machine.name)))
      case .template:
        reason =
          "\(machine.name) is a template and never runs; \(keys.label(.newFromTemplate)) makes a machine from it"
      case .broken:
        reason =
          "\(machine.name) is broken: \(machine.problem ?? "no reason known"); \(keys.label(.editText)) opens it in an editor"
      default: reason = "\(machine.name) is \(machine.state.word) already"
      }
    }
    list.clearMarks()
    if effects.isEmpty { return refuse(reason) }
    return effects
  }

  private mutating func pause(_ targets: [MachineSummary]) -> [Effect] {
    var effects: [Effect] = []
    for machine in targets {
      if machine.state == .running { effects.append(request(.pause(machine.name))) }
      if machine.state == .paused { effects.append(request(.unpause(machine.name))) }
    }
    list.clearMarks()
    guard effects.isEmpty, let machine = targets.first else { return effects }
    return refuse("\(machine.name) is \(machine.state.word); only a running machine can be paused")
  }

  private mutating func suspend(_ targets: [MachineSummary]) -> [Effect] {
    let allowed: Set<MachineCondition> = [.running, .paused, .halted]
    let machines = targets.filter { allowed.contains($0.state) }
    list.clearMarks()
    guard machines.isEmpty, let machine = targets.first else {
      return machines.map { request(.suspend($0.name)) }
    }
    return refuse(
      "\(machine.name) is \(machine.state.word); only a machine that runs can be suspended")
  }

  /// Asks once for all targets that are in a state that allows the action.
  private mutating func ask(
    _ targets: [MachineSummary], verb: String, _ question: Configuration.Question,
    allowed: Set<MachineCondition>, lines: [String], _ makeRequest: (String) -> MachineRequest
  ) -> [Effect] {
    let machines = targets.filter { allowed.contains($0.state) }
    guard let first = machines.first else {
      let name = targets.first?.name ?? "it"
      return refuse("\(name) is \(targets.first?.state.word ?? "not there")")
    }
    // One machine may go unasked; several never do.
    if machines.count == 1, !configuration.questions.contains(question) {
      list.clearMarks()
      return [request(makeRequest(first.name))]
    }
    let what = machines.count == 1 ? first.name : "\(machines.count) machines"
    var text = lines
    if machines.count > 1 {
      text.append("")
      text += names(machines)
    }
    overlay = .confirmation(
      Confirmation(
        title: "\(verb) \(what)?", lines: text, verb: verb, isDangerous: question != .powerDown,
        requests: machines.map { makeRequest($0.name) }))
    return []
  }

  /// Names in a column, at most eight.
  private func names(_ machines: [MachineSummary]) -> [String] {
    var lines = machines.prefix(8).map { "  \(glyphs.bullet) \($0.name)" }
    if machines.count > 8 { lines.append("  and \(machines.count - 8) more") }
    return lines
  }

  mutating func stopAll(force: Bool) -> [Effect] {
    let alive = list.machines.filter { $0.state.isAlive }
    guard !alive.isEmpty else { return refuse("no machine is running") }
    return ask(
      alive, verb: force ? "Force off" : "Power down", force ? .forceOff : .powerDown,
      allowed: [.running, .paused, .halted, .starting, .unresponsive],
      lines: force
        ? ["The power of every machine is cut. What guests have not written", "is lost."]
        : ["Every guest is asked to turn itself off."]
    ) { force ? .forceStop($0) : .stop($0) }
  }

  private mutating func toggleTemplate(_ machine: MachineSummary) -> [Effect] {
    switch machine.state {
    case .template:
      let children = list.machines.filter { $0.parent == machine.name }
      guard children.isEmpty else {
        return refuse(
          "\(children.count) machines grow from \(machine.name), \(children[0].name) among them:"
            + " it has to stay a template")
      }
      return [request(.setTemplate(machine.name, false))]
    case .stopped, .crashed:
      return [request(.setTemplate(machine.name, true))]
    default:
      return refuse("\(machine.name) is \(machine.state.word); stop it to make it a template")
    }
  }

  private mutating func delete(_ targets: [MachineSummary]) -> [Effect] {
    guard let machine = targets.first else { return [] }
    guard targets.count == 1 else {
      return refuse("delete takes one machine at a time; Esc clears the marks")
    }
    guard !machine.state.isAlive else {
      return refuse("\(machine.name) is \(machine.state.word); stop it before deleting it")
    }
    let children = list.machines.filter { $0.parent == machine.name }
    guard children.isEmpty else {
      return refuse(
        "\(children.count == 1 ? "a machine grows" : "\(children.count) machines grow")"
          + " from \(machine.name): delete \(children[0].name) first")
    }
    overlay = .form(deleteForm(machine))
    return []
  }

  // MARK: Boot device, disc, settings

  private mutating func bootFrom(_ machine: MachineSummary) -> [Effect] {
    guard machine.state == .stopped || machine.state == .crashed else {
      return refuse("\(machine.name) is \(machine.state.word); only a stopped machine can boot")
    }
    var items = [Picker.Item(value: "disk", label: "Disk", note: "")]
    let disc = machine.disc.map { $0 == "empty" ? "the drive is empty" : MachineRequest.file($0) }
    items.append(
      Picker.Item(
        value: "cdrom", label: "CD-ROM",
        note: disc ?? "no drive yet; \(keys.label(.disc)) inserts a disc"))
    items.append(Picker.Item(value: "net", label: "Network", note: ""))
    let usual = machine.bootOrder.first ?? "disk"
    for index in items.indices where items[index].value == usual {
      items[index].note = items[index].note.isEmpty ? "as usual" : items[index].note + ", as usual"
    }
    overlay = .picker(
      Picker(
        .bootDevice(machine: machine.name), title: "Start \(machine.name) once from",
        items: items, selection: items.firstIndex { $0.value == usual } ?? 0))
    return []
  }

  private mutating func disc(_ machine: MachineSummary) -> [Effect] {
    guard machine.state != .broken else {
      return refuse("\(machine.name) is broken: \(machine.problem ?? "no reason known")")
    }
    if let disc = machine.disc, disc != "empty" {
      overlay = .picker(
        Picker(
          .disc(machine: machine.name), title: "CD drive of \(machine.name)",
          items: [
            Picker.Item(value: "eject", label: "Eject", note: MachineRequest.file(disc)),
            Picker.Item(value: "insert", label: "Insert another disc", note: ""),
            Picker.Item(
              value: "force", label: "Eject by force", note: "also when the guest has locked it"),
          ]))
      return []
    }
    if machine.disc == nil, machine.state.isAlive {
      return refuse("\(machine.name) has no CD drive; stop it first, then insert a disc")
    }
    overlay = .form(discForm(machine))
    return []
  }

  private mutating func edit(_ machine: MachineSummary) -> [Effect] {
    // What can not be read can only be mended as text.
    guard machine.state != .broken else { return [.editDefinition(machine.name)] }
    return [request(.readSettings(machine.name))]
  }

  private mutating func newFromTemplate() -> [Effect] {
    let templates = list.templates
    guard let first = templates.first else {
      return refuse("there is no template yet: T makes the selected machine one")
    }
    if let selected = list.selected {
      let own = selected.state == .template ? selected.name : selected.parent
      if let own, templates.contains(own) {
        overlay = .form(templateForm(own))
        return []
      }
    }
    guard templates.count > 1 else {
      overlay = .form(templateForm(first))
      return []
    }
    overlay = .picker(
      Picker(
        .template, title: "New machine from which template?",
        items: templates.map { name in
          let count = list.machines.count { $0.parent == name }
          return Picker.Item(
            value: name, label: name, note: count == 1 ? "1 machine" : "\(count) machines")
        }))
    return []
  }
}
