// News from the service: the list, ends of requests, what guests print.

extension Model {
  package mutating func handle(_ event: ServiceEvent) -> [Effect] {
    switch event {
    case .machines(let machines): return take(machines)
    case .host(let status):
      host = status
      hostSeries.add(status, now: now)
    case .snapshots(let machine, let snapshots):
      guard case .snapshots(var tree) = mainView, tree.machine == machine else { return [] }
      tree.replace(snapshots)
      tree.scroll(toShow: SnapshotView.treeRows(in: Layout(self).main))
      mainView = .snapshots(tree)
    case .progress(let number, let text, let share):
      pending[number]?.text = text
      pending[number]?.progress = share
    case .finished(let number, let outcome): return finish(number, outcome)
    case .failed(let number, let text):
      record(text, machine: pending[number]?.request.machine, kind: .failure)
      pending[number] = nil
      say(text, .failure)
      if text.cellWidth > size.columns * 2 / 3 {
        overlay = overlay ?? .text(title: "That did not work", lines: [text], top: 0)
      }
    case .attached(let number, let size):
      withConsole(number) { pane in
        pane.state = .open
        pane.restart(size: size)
      }
    case .output(let number, let bytes): return take(bytes, from: number)
    case .consoleClosed(let number, let reason):
      let machine = consoles.first { $0.number == number }.flatMap { list.machine($0.machine) }
      withConsole(number) { pane in
        pane.state = .closed(reason)
        pane.waitsForStart = !(machine?.state.isAlive ?? false)
      }
      if let pane = consoles.first(where: { $0.number == number }), number != activeConsole {
        say("console of \(pane.machine) closed: \(reason)")
      }
    case .activity(let machine, let bell):
      guard !isSeen(machine) else { return [] }
      list.unread.insert(machine)
      if bell { list.bells.insert(machine) }
    case .settings(let machine, let values):
      guard overlay == nil, list.machine(machine) != nil else { return [] }
      overlay = .form(editForm(machine, values))
    case .log(let source, let bytes, let restart):
      guard case .log(var page) = mainView, page.source == source else { return [] }
      page.append(bytes, restart: restart)
      mainView = .log(page)
    case .hostReport(let report): hostReport = report
    case .images(let images):
      guard case .images(var page) = mainView else { return [] }
      page.replace(images)
      page.scroll(toShow: max(1, Layout(self).main.rows - 1))
      mainView = .images(page)
    }
    return []
  }

  /// The machine's console is on the screen.
  private func isSeen(_ machine: String) -> Bool {
    shownConsoles.contains { $0.machine == machine }
  }

  private mutating func take(_ machines: [MachineSummary]) -> [Effect] {
    if list.isLoaded { recordChanges(machines) }
    list.replace(machines, now: now)
    list.scroll(toShow: Layout(self).listRows)
    closeStaleViews()
    return reattach()
  }

  /// What others did to machines, and what happened to them, is kept for the view of events.
  private mutating func recordChanges(_ new: [MachineSummary]) {
    for machine in new {
      guard let old = list.machine(machine.name) else {
        record("\(machine.name) is new", machine: machine.name)
        continue
      }
      guard old.state != machine.state, !machine.state.isMoving else { continue }
      var text = "\(machine.name) is \(machine.state.word)"
      if let problem = machine.problem { text += ": \(problem)" }
      let isBad = [.crashed, .broken, .unresponsive].contains(machine.state)
      record(text, machine: machine.name, kind: isBad ? .failure : .notice)
    }
    guard new.count < list.machines.count + 1 else { return }
    let names = Set(new.map(\.name))
    for machine in list.machines where !names.contains(machine.name) {
      record("\(machine.name) is gone", machine: machine.name)
    }
  }

  /// A view or dialog of a machine that someone else deleted goes away, with a word.
  private mutating func closeStaleViews() {
    func gone(_ name: String?) -> Bool { name.map { list.machine($0) == nil } ?? false }
    let viewed: String?
    switch mainView {
    case .snapshots(let tree): viewed = tree.machine
    case .charts(let name): viewed = name
    default: viewed = nil
    }
    if gone(viewed) {
      mainView = .machines
      say("\(viewed ?? "it") was deleted")
    }
    let subject: String?
    switch overlay {
    case .confirmation(let confirmation): subject = confirmation.requests.first?.machine
    case .form(let form): subject = form.existingMachine
    default: subject = nil
    }
    if gone(subject) {
      overlay = nil
      say("\(subject ?? "it") was deleted meanwhile")
    }
  }

  /// A console whose machine was stopped comes back when the machine does.
  private mutating func reattach() -> [Effect] {
    var effects: [Effect] = []
    for index in consoles.indices {
      guard case .closed = consoles[index].state,
        let machine = list.machine(consoles[index].machine)
      else { continue }
      guard machine.state.isAlive else {
        consoles[index].waitsForStart = true
        continue
      }
      guard consoles[index].waitsForStart, machine.state != .stopping else { continue }
      let number = ConsoleNumber(makeNumber())
      let old = consoles[index]
      consoles[index] = ConsolePane(
        number: number, machine: old.machine, source: old.source, size: old.size)
      consoles[index].isWatchOnly = old.isWatchOnly
      if activeConsole == old.number { activeConsole = number }
      splitConsoles = splitConsoles.map { $0 == old.number ? number : $0 }
      effects.append(.attach(old.machine, old.source, number, old.size))
    }
    return effects
  }

  private mutating func finish(_ number: RequestNumber, _ outcome: Outcome) -> [Effect] {
    let request = pending.removeValue(forKey: number)?.request
    if !outcome.text.isEmpty {
      let hint = outcome.undo == nil ? "" : "; \(keys.label(.undo)) takes it back"
      say(outcome.text + hint, .success)
      record(outcome.text, machine: request?.machine ?? outcome.select, kind: .success)
    }
    if !outcome.details.isEmpty, overlay == nil {
      overlay = .text(title: outcome.text, lines: outcome.details, top: 0)
    }
    if let undo = outcome.undo {
      undoStack.append(undo)
      if undoStack.count > 100 { undoStack.removeFirst() }
    }
    if case .rename(let old, let new) = request { list.rename(old, to: new) }
    if let name = outcome.select {
      list.select(name: name)
      if outcome.attach { return open(name) }
    }
    return []
  }

  private mutating func take(_ bytes: [UInt8], from number: ConsoleNumber) -> [Effect] {
    var effects: [Effect] = []
    var rang = false
    withConsole(number) { pane in
      rang = pane.feed(bytes)
      if let text = pane.drainClipboard() { effects.append(.copy(text)) }
    }
    guard let index = consoles.firstIndex(where: { $0.number == number }) else { return [] }
    let machine = consoles[index].machine
    if shownConsoles.contains(where: { $0.number == number }) {
      // Two consoles side by side ring alike; the mark says which it was.
      if rang, number != activeConsole { list.bells.insert(machine) }
      return rang ? effects + [.bell] : effects
    }
    list.unread.insert(machine)
    if rang { list.bells.insert(machine) }
    return []
  }

  package mutating func withConsole(
    _ number: ConsoleNumber, _ body: (inout ConsolePane) -> Void
  ) {
    guard let index = consoles.firstIndex(where: { $0.number == number }) else { return }
    body(&consoles[index])
  }
}

extension Form {
  /// The machine that has to exist for this form to make sense.
  var existingMachine: String? {
    switch purpose {
    case .newMachine, .newFromTemplate: nil
    case .rename(let name), .takeSnapshot(let name), .delete(let name), .edit(let name, _),
      .insertDisc(let name), .renameSnapshot(let name, _), .branch(let name, _):
      name
    case .newImage, .convertImage, .resizeImage: nil
    }
  }
}
