import CLinux
import ConsoleUI
import Hosting
import Inventory
import Platform

/// What requests do, on a thread that may wait.
struct MachineActions: Sendable {
  let inventory: Inventory
  /// The program that hosts are started with; nil is the one that is running.
  let program: String?

  private var snapshots: SnapshotCommands { SnapshotCommands(inventory, program: program) }

  /// - Parameter progress: hears of what takes longer.
  func carryOut(
    _ request: MachineRequest, progress: MachineJobs.Progress = { _, _ in }
  ) throws -> Outcome {
    switch request {
    case .start(let name): return try start(try MachineName(name))
    case .startFrom(let name, let device):
      try HostProcess.spawn(
        try MachineName(name), inventory, program: program,
        arguments: { ["uj", "host", "--report", "--boot=\(device)", $0.description] })
      return Outcome("\(name) is running, from \(device)")
    case .insertDisc(let name, let path, let force):
      return try insertDisc(try MachineName(name), path, force)
    case .ejectDisc(let name, let force): return try ejectDisc(try MachineName(name), force)
    case .change(let name, let changes): return try change(try MachineName(name), changes)
    case .restoreDefinition(let name, let text):
      let machine = try MachineName(name)
      let old = try inventory.definitionText(machine)
      try inventory.saveDefinition(text, of: machine)
      return Outcome(
        "\(name)'s definition is what it was", undo: .restoreDefinition(name, text: old))
    case .sendBreak(let name, let port):
      _ = try MachineClient(try MachineName(name), at: inventory.location)
        .call("serial.break", ["port": .unsigned(port)])
      return Outcome("a break was sent to \(name)")
    case .stop(let name):
      _ = try MachineClient(try MachineName(name), at: inventory.location).call("stop")
      return Outcome("\(name) was asked to power down")
    case .forceStop(let name): return try forceStop(try MachineName(name))
    case .pause(let name): return try call(name, "pause", "\(name) is paused")
    case .unpause(let name): return try call(name, "unpause", "\(name) goes on")
    case .suspend(let name):
      try snapshots.suspend(try MachineName(name))
      return Outcome("\(name) is suspended; starting it goes on from here")
    case .reset(let name): return try call(name, "reset", "\(name) was reset")
    case .create(let specification): return try create(specification)
    case .createFromTemplate(let template, let name, let starts):
      return try clone(template, name, starts)
    case .delete(let name):
      try inventory.delete(try MachineName(name))
      return Outcome("\(name) is deleted")
    case .rename(let old, let new):
      try inventory.rename(try MachineName(old), to: try MachineName(new))
      return Outcome("\(old) is now \(new)", undo: .rename(new, to: old), select: new)
    case .setTemplate(let name, let on): return try setTemplate(try MachineName(name), on)
    default: return try snapshotAction(request, progress)
    }
  }

  private func snapshotAction(
    _ request: MachineRequest, _ progress: MachineJobs.Progress
  ) throws -> Outcome {
    switch request {
    case .takeSnapshot(let name, let title, let memory):
      let machine = try MachineName(name)
      let taken = try snapshots.take(
        machine, title: title.isEmpty ? nil : title,
        memory: memory && snapshots.isRunning(machine))
      let how =
        taken.heldMilliseconds == nil
        ? "" : memory ? " with its memory" : " while it runs, as a power cut would leave it"
      return Outcome("snapshot '\(taken.name)' of \(name) taken\(how)")
    case .rollBack(let name, let selector):
      return rolled(name, try inventory.rollBack(try MachineName(name), to: selector), from: name)
    case .rollForward(let name, let selector):
      return rolled(
        name, try inventory.rollForward(try MachineName(name), to: selector), from: name)
    case .deleteSnapshot(let name, let selector):
      return try deleteSnapshot(try MachineName(name), selector, progress)
    case .branch(let name, let selector, let target):
      try snapshots.branch(try MachineName(name), selector, as: try MachineName(target))
      return Outcome("\(target) made from a snapshot of \(name)", select: target)
    case .renameSnapshot(let name, let selector, let title):
      try snapshots.rename(try MachineName(name), selector, to: title)
      return Outcome("the snapshot of \(name) is called '\(title)' now")
    default:
      throw InventoryError(.refused, "this can not be done here: \(request.activity)")
    }
  }

  private func deleteSnapshot(
    _ name: MachineName, _ selector: String, _ progress: MachineJobs.Progress
  ) throws -> Outcome {
    let gone = try snapshots.delete(name, selector)
    guard !snapshots.isRunning(name) else {
      return Outcome("snapshot '\(gone)' of \(name) is deleted; its layers merge when it is off")
    }
    let report = try inventory.mergeLayers(name) { disk, left in
      progress("merging layers of \(name) (\(disk), \(left) left)", nil)
    }
    let rest =
      report.hasMadeWay
      ? "; its other layers are merged later"
      : report.postponed.isEmpty ? "" : "; some layers are in use and are merged later"
    return Outcome("snapshot '\(gone)' of \(name) is deleted\(rest)")
  }

  private func rolled(
    _ name: String, _ result: (target: Snapshot, kept: Snapshot?), from: String
  ) -> Outcome {
    let undo = result.kept.map { MachineRequest.rollBack(name, snapshot: $0.identifier) }
    let kept = result.kept == nil ? "" : "; what was there is kept"
    return Outcome("\(name) stands on '\(result.target.name)'\(kept)", undo: undo)
  }

  // MARK: Power

  private func start(_ name: MachineName) throws -> Outcome {
    try HostProcess.spawn(name, inventory, program: program)
    return Outcome("\(name) is running")
  }

  private func call(_ name: String, _ method: String, _ done: String) throws -> Outcome {
    _ = try MachineClient(try MachineName(name), at: inventory.location).call(method)
    return Outcome(done)
  }

  /// Asks the host to end at once; one that does not answer is killed.
  private func forceStop(_ name: MachineName) throws -> Outcome {
    guard let holder = inventory.holder(name), holder.role == .host else {
      return Outcome("\(name) is off")
    }
    do {
      _ = try MachineClient(name, at: inventory.location)
        .call("stop", ["force": true], timeout: 3)
    } catch {
      kill(holder.process, SIGKILL)
    }
    if waitUntilGone(name, seconds: 5) { return Outcome("\(name) is off") }
    kill(holder.process, SIGKILL)
    guard waitUntilGone(name, seconds: 5) else {
      throw InventoryError(
        .busy,
        "\(name): its host process \(holder.process) can not be killed; see ps \(holder.process)")
    }
    return Outcome("\(name) is off; its host process had to be killed")
  }

  private func waitUntilGone(_ name: MachineName, seconds: UInt64) -> Bool {
    let deadline = MonotonicClock.now &+ seconds &* 1_000_000_000
    while inventory.holder(name) != nil {
      if MonotonicClock.now > deadline { return false }
      usleep(20_000)
    }
    return true
  }

  // MARK: Making

  private func clone(_ template: String, _ name: String, _ starts: Bool) throws -> Outcome {
    let begin = MonotonicClock.now
    try inventory.clone(try MachineName(template), as: try MachineName(name))
    let milliseconds = (MonotonicClock.now - begin) / 1_000_000
    if starts { _ = try start(try MachineName(name)) }
    return Outcome(
      "\(name) made from \(template) in \(milliseconds) ms" + (starts ? "; it is running" : ""),
      select: name)
  }

  private func create(_ specification: MachineSpecification) throws -> Outcome {
    var definition = MachineDefinition()
    definition.processors = specification.processors
    definition.memory = specification.memory &+ (1 << 20 - 1) & ~(1 << 20 - 1)
    definition.uuid = .random()
    definition.kernel = specification.kernel.map { InventoryLocation.absolute($0) }
    definition.initrd = specification.initrd.map { InventoryLocation.absolute($0) }
    definition.commandLine = specification.commandLine ?? ""
    if let disc = specification.disc {
      definition.opticalDrive = MachineDefinition.OpticalDrive(disc)
      definition.bootOrder = [.cdrom, .disk]
    }
    var sources: [String: Inventory.DiskSource] = [:]
    if let image = specification.image {
      let path = InventoryLocation.absolute(image)
      definition.disks = [MachineDefinition.Disk(name: "disk0")]
      sources["disk0"] = .overlay(path: path, format: format(of: path))
    } else if let size = specification.newDiskSize {
      definition.disks = [MachineDefinition.Disk(name: "disk0")]
      sources["disk0"] = .empty(size: size)
    }
    try inventory.create(try MachineName(specification.name), definition, sources: sources)
    return Outcome("\(specification.name) made; it can be started", select: specification.name)
  }

  /// By the extension, never by the content: a guest can make a raw disk look like anything.
  private func format(of path: String) -> MachineDefinition.DiskFormat {
    path.lowercased().hasSuffix(".qcow2") ? .qcow2 : .raw
  }

  private func setTemplate(_ name: MachineName, _ on: Bool) throws -> Outcome {
    let lock = try inventory.lock(name, .change)
    defer { _ = lock }
    if !on {
      let dependents = try inventory.dependents(of: name)
      guard dependents.isEmpty else {
        throw InventoryError(
          .refused, "\(name): the disks of \(dependents[0]) rest on its own; it stays a template")
      }
    }
    let text = try DefinitionEditor.set(
      "template", to: on ? "true" : "false", in: try inventory.definitionText(name),
      path: inventory.location.definition(name))
    try inventory.saveDefinition(text, of: name)
    return Outcome(
      on ? "\(name) is a template now; machines can be made from it" : "\(name) is a machine again",
      undo: .setTemplate(name.description, !on))
  }
}
