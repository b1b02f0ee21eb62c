/// What the front end can ask for. Each has the word of its command-line verb.
package enum MachineRequest: Hashable, Sendable {
  case start(String)
  /// Asks the guest to turn itself off.
  case stop(String)
  /// Ends the machine as if its power were cut.
  case forceStop(String)
  case pause(String)
  case unpause(String)
  case reset(String)
  case create(MachineSpecification)
  /// A new machine whose disks grow from the template's.
  case createFromTemplate(template: String, name: String, start: Bool)
  case delete(String)
  case rename(String, to: String)
  case setTemplate(String, Bool)
  /// An empty title makes one up.
  case takeSnapshot(String, title: String, memory: Bool)
  /// Makes the disks (and RAM, where saved) those of a snapshot; keeps what was there as a snapshot of its own.
  case rollBack(String, snapshot: String)
  /// Goes to a child of the present snapshot; nil where there is only one.
  case rollForward(String, snapshot: String?)
  case branch(String, snapshot: String, name: String)
  case deleteSnapshot(String, snapshot: String)
  case renameSnapshot(String, snapshot: String, title: String)
  /// Asks for `ServiceEvent.snapshots`, now and after each change, until another machine is asked for.
  case listSnapshots(String)
  /// Fetches what the demonstration boots with, makes its template and machine, and starts it.
  case demo

  /// The machine that it changes.
  package var machine: String? {
    switch self {
    case .start(let name), .stop(let name), .forceStop(let name), .pause(let name),
      .unpause(let name), .reset(let name), .delete(let name), .rename(let name, _),
      .setTemplate(let name, _), .takeSnapshot(let name, _, _), .rollBack(let name, _),
      .rollForward(let name, _), .branch(let name, _, _), .deleteSnapshot(let name, _),
      .renameSnapshot(let name, _, _), .listSnapshots(let name):
      name
    case .create(let specification): specification.name
    case .createFromTemplate(_, let name, _): name
    case .demo: nil
    }
  }

  /// What is going on while the request runs, for the message line.
  package var activity: String {
    switch self {
    case .start(let name): "starting \(name)"
    case .stop(let name): "asking \(name) to power down"
    case .forceStop(let name): "cutting the power of \(name)"
    case .pause(let name): "pausing \(name)"
    case .unpause(let name): "resuming \(name)"
    case .reset(let name): "resetting \(name)"
    case .create(let specification): "creating \(specification.name)"
    case .createFromTemplate(let template, let name, _): "making \(name) from \(template)"
    case .delete(let name): "deleting \(name)"
    case .rename(let name, let new): "renaming \(name) to \(new)"
    case .setTemplate(let name, let on):
      on ? "making \(name) a template" : "making \(name) a machine again"
    case .takeSnapshot(let name, _, _): "taking a snapshot of \(name)"
    case .rollBack(let name, _): "rolling \(name) back"
    case .rollForward(let name, _): "rolling \(name) forward"
    case .branch(let name, _, let new): "making \(new) from a snapshot of \(name)"
    case .deleteSnapshot(let name, _): "deleting a snapshot of \(name)"
    case .renameSnapshot(let name, _, _): "renaming a snapshot of \(name)"
    case .listSnapshots(let name): "reading snapshots of \(name)"
    case .demo: "preparing the demonstration"
    }
  }
}

/// What a new machine is made of. Either a new disk, an existing image or a kernel.
package struct MachineSpecification: Hashable, Sendable {
  package var name: String
  package var processors: Int
  /// Bytes.
  package var memory: UInt64
  /// Size of a new, empty disk in bytes; nil for none.
  package var newDiskSize: UInt64?
  /// An image to boot from: the machine's disk becomes an overlay of it.
  package var image: String?
  package var kernel: String?
  package var commandLine: String?

  package init(name: String, processors: Int = 1, memory: UInt64 = 512 << 20) {
    self.name = name
    self.processors = processors
    self.memory = memory
  }
}
