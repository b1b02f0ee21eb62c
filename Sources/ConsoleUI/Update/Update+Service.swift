// News from the service: the list, ends of requests, what guests print.

extension Model {
  package mutating func handle(_ event: ServiceEvent) -> [Effect] {
    switch event {
    case .machines(let machines): return take(machines)
    case .host(let status): host = status
    case .snapshots(let machine, let snapshots):
      guard case .snapshots(var tree) = mainView, tree.machine == machine else { return [] }
      tree.replace(snapshots)
      tree.scroll(toShow: max(1, Layout(self).main.rows - 2))
      mainView = .snapshots(tree)
    case .progress(let number, let text, let share):
      pending[number]?.text = text
      pending[number]?.progress = share
    case .finished(let number, let outcome): return finish(number, outcome)
    case .failed(let number, let text):
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
    case .activity(let machine):
      if focusedConsole?.machine != machine { list.unread.insert(machine) }
    }
    return []
  }

  private mutating func take(_ machines: [MachineSummary]) -> [Effect] {
    list.replace(machines, now: now)
    list.scroll(toShow: Layout(self).listRows)
    closeStaleViews()
    return reattach()
  }

  /// A view or dialog of a machine that someone else deleted goes away, with a word.
  private mutating func closeStaleViews() {
    func gone(_ name: String?) -> Bool { name.map { list.machine($0) == nil } ?? false }
    if case .snapshots(let tree) = mainView, gone(tree.machine) {
      mainView = .machines
      say("\(tree.machine) was deleted")
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
        number: number, machine: old.machine, size: old.size, kind: old.kind)
      if activeConsole == old.number { activeConsole = number }
      effects.append(
        old.kind == .display
          ? .attachDisplay(old.machine, number) : .attach(old.machine, number, old.size))
    }
    return effects
  }

  private mutating func finish(_ number: RequestNumber, _ outcome: Outcome) -> [Effect] {
    let request = pending.removeValue(forKey: number)?.request
    if !outcome.text.isEmpty {
      let hint = outcome.undo == nil ? "" : "; u takes it back"
      say(outcome.text + hint, .success)
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
    withConsole(number) { pane in
      if pane.feed(bytes) { effects.append(.bell) }
      if let text = pane.drainClipboard() { effects.append(.copy(text)) }
    }
    if number != activeConsole, let pane = consoles.first(where: { $0.number == number }) {
      list.unread.insert(pane.machine)
      return []
    }
    return effects
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
    case .rename(let name), .takeSnapshot(let name), .delete(let name): name
    case .renameSnapshot(let name, _), .branch(let name, _): name
    }
  }
}
