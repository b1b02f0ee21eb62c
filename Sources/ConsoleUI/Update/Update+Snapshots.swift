// Taking snapshots, rolling back and forward, branching. Rolling keeps the state that is left, so it asks nothing of a
// stopped machine: `u` takes it back.

extension Model {
  mutating func performOnSnapshots(_ action: Action) -> [Effect] {
    if action == .undo { return undo() }
    guard let machine = subject else { return refuse("no machine is selected") }
    guard machine.state != .broken else {
      return refuse("\(machine.name) is broken: \(machine.problem ?? "no reason known")")
    }
    if machine.state == .template, action != .showSnapshots {
      return refuse("\(machine.name) is a template: it can not change under its machines")
    }
    switch action {
    case .takeSnapshot:
      if machine.state.isAlive, !capabilities.contains(.liveSnapshots) {
        return refuse("\(machine.name) is \(machine.state.word); stop it to take a snapshot")
      }
      overlay = .form(snapshotForm(machine))
      return []
    case .showSnapshots:
      return show(.snapshots(SnapshotOutline(machine: machine.name)))
        + [request(.listSnapshots(machine.name))]
    case .rollForward: return rollForward(machine)
    default: break
    }
    guard case .snapshots(let tree) = mainView, let selected = tree.selected else {
      return refuse("no snapshot is selected; S takes one")
    }
    switch action {
    case .rollBack: return roll(machine, to: selected)
    case .parentSnapshot:
      guard let parent = tree.current?.parent, let target = tree.snapshot(parent) else {
        return refuse("nothing comes before the present snapshot")
      }
      return roll(machine, to: target)
    case .branch: overlay = .form(branchForm(machine, selected))
    case .renameSnapshot: overlay = .form(renameSnapshotForm(machine, selected))
    case .deleteSnapshot:
      let isBase = selected.isCurrent || !tree.children(of: selected.identifier).isEmpty
      if isBase, !capabilities.contains(.snapshotMerging) {
        return refuse(
          selected.isCurrent
            ? "the machine stands on '\(selected.title)'; roll it to another snapshot first"
            : "other snapshots grow from '\(selected.title)'; delete those first")
      }
      let question = deletion(of: selected, in: tree)
      guard configuration.questions.contains(.deleteSnapshot) else {
        return question.requests.map { self.request($0) }
      }
      overlay = .confirmation(question)
    default: break
    }
    return []
  }

  private mutating func undo() -> [Effect] {
    guard let last = undoStack.popLast() else { return refuse("nothing to take back") }
    return [request(last)]
  }

  private mutating func rollForward(_ machine: MachineSummary) -> [Effect] {
    guard case .snapshots(let tree) = mainView, tree.isLoaded else {
      return roll(machine, .rollForward(machine.name, snapshot: nil), title: "the next snapshot")
    }
    if let next = tree.rows.first(where: { $0.snapshot.isNext }) {
      return roll(machine, to: next.snapshot, forward: true)
    }
    let children = tree.current.map { tree.children(of: $0.identifier) } ?? []
    switch children.count {
    case 0: return refuse("nothing comes after the present snapshot")
    case 1: return roll(machine, to: children[0], forward: true)
    default:
      overlay = .picker(
        Picker(
          .child(machine: machine.name), title: "Roll forward to which snapshot?",
          items: children.map {
            Picker.Item(
              value: $0.identifier, label: $0.title,
              note: Quantity.age(of: $0.time, now: wallClock))
          }))
      return []
    }
  }

  mutating func roll(
    _ machine: MachineSummary, to snapshot: SnapshotStatus, forward: Bool = false
  ) -> [Effect] {
    roll(
      machine,
      forward
        ? .rollForward(machine.name, snapshot: snapshot.identifier)
        : .rollBack(machine.name, snapshot: snapshot.identifier),
      title: "'\(snapshot.title)'")
  }

  private mutating func roll(
    _ machine: MachineSummary, _ request: MachineRequest, title: String
  ) -> [Effect] {
    guard machine.state.isAlive else { return [self.request(request)] }
    guard configuration.questions.contains(.roll) else {
      return [self.request(.forceStop(machine.name)), self.request(request)]
    }
    overlay = .confirmation(
      Confirmation(
        title: "Cut the power of \(machine.name) and roll it to \(title)?",
        lines: [
          "The machine is \(machine.state.word). Its disks are kept as they are and can be rolled",
          "forward to, but what is only in its memory is lost.",
        ], verb: "Force off and roll", isDangerous: true,
        requests: [.forceStop(machine.name), request]))
    return []
  }

  private func deletion(of snapshot: SnapshotStatus, in tree: SnapshotOutline) -> Confirmation {
    let children = tree.children(of: snapshot.identifier).count
    var lines = [
      "The machine can not be rolled to it any more."
    ]
    if children > 0 || snapshot.isCurrent {
      lines.append("What grows from it keeps all its data: the layers are merged.")
    } else {
      lines.append("Nothing grows from it: its \(Quantity.short(snapshot.size)) of data are lost.")
    }
    return Confirmation(
      title: "Delete snapshot '\(snapshot.title)'?", lines: lines, verb: "Delete",
      isDangerous: true,
      requests: [.deleteSnapshot(tree.machine, snapshot: snapshot.identifier)])
  }
}
