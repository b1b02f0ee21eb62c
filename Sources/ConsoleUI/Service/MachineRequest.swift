/// What the front end can ask for. Each has the word of its command-line verb.
package enum MachineRequest: Hashable, Sendable {
  case start(String)
  /// Starts it once from `disk`, `cdrom` or `net`, whatever the definition says.
  case startFrom(String, device: String)
  /// Asks the guest to turn itself off.
  case stop(String)
  /// Ends the machine as if its power were cut.
  case forceStop(String)
  case pause(String)
  case unpause(String)
  /// Saves its memory and ends it; starting it goes on from there.
  case suspend(String)
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
  /// Puts a disc image into the CD-ROM drive; with `force` also when the guest has locked it.
  case insertDisc(String, path: String, force: Bool)
  case ejectDisc(String, force: Bool)
  /// Asks for `ServiceEvent.settings`.
  case readSettings(String)
  /// Sets keys of the definition as `uj set` does; an empty value takes the default.
  case change(String, [SettingChange])
  /// Puts a definition's text back.
  case restoreDefinition(String, text: String)
  /// A break condition on a serial line.
  case sendBreak(String, port: Int)
  /// Asks for `ServiceEvent.log`, now and as lines come in, until another log is asked for; nil ends it.
  case watchLog(LogSource?)
  /// Asks for `ServiceEvent.hostReport`.
  case inspectHost
  /// Asks for `ServiceEvent.images`.
  case listImages
  case describeImage(String)
  case checkImage(String)
  case createImage(path: String, size: UInt64)
  case convertImage(String, to: String, compress: Bool)
  case resizeImage(String, size: UInt64, shrink: Bool)
  case deleteImage(String)
  /// Asks for `ServiceEvent.snapshots`, now and after each change, until another machine is asked for.
  case listSnapshots(String)
  /// Fetches what the demonstration boots with, makes its template and machine, and starts it.
  case demo

  /// The machine that it changes.
  package var machine: String? {
    switch self {
    case .startFrom(let name, _), .insertDisc(let name, _, _), .ejectDisc(let name, _),
      .readSettings(let name), .change(let name, _), .restoreDefinition(let name, _),
      .sendBreak(let name, _):
      name
    case .start(let name), .stop(let name), .forceStop(let name), .pause(let name),
      .unpause(let name), .suspend(let name), .reset(let name), .delete(let name),
      .rename(let name, _),
      .setTemplate(let name, _), .takeSnapshot(let name, _, _), .rollBack(let name, _),
      .rollForward(let name, _), .branch(let name, _, _), .deleteSnapshot(let name, _),
      .renameSnapshot(let name, _, _), .listSnapshots(let name):
      name
    case .create(let specification): specification.name
    case .createFromTemplate(_, let name, _): name
    case .demo, .watchLog, .inspectHost, .listImages, .describeImage, .checkImage, .createImage,
      .convertImage, .resizeImage, .deleteImage:
      nil
    }
  }

  /// Asks only, and changes nothing: no word is said of it.
  package var isQuery: Bool {
    switch self {
    case .listSnapshots, .watchLog, .inspectHost, .listImages, .readSettings: true
    default: false
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
    case .suspend(let name): "suspending \(name)"
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
    case .startFrom(let name, let device): "starting \(name) from \(device)"
    case .insertDisc(let name, _, _): "inserting a disc into \(name)"
    case .ejectDisc(let name, _): "ejecting the disc of \(name)"
    case .readSettings(let name): "reading \(name)'s definition"
    case .change(let name, _), .restoreDefinition(let name, _): "changing \(name)"
    case .sendBreak(let name, _): "sending a break to \(name)"
    case .watchLog: "reading the log"
    case .inspectHost: "looking at the host"
    case .listImages: "looking for images"
    case .describeImage(let path): "reading \(Self.file(path))"
    case .checkImage(let path): "checking \(Self.file(path))"
    case .createImage(let path, _): "making \(Self.file(path))"
    case .convertImage(let path, let target, _):
      "converting \(Self.file(path)) to \(Self.file(target))"
    case .resizeImage(let path, _, _): "resizing \(Self.file(path))"
    case .deleteImage(let path): "deleting \(Self.file(path))"
    }
  }
}

extension MachineRequest {
  /// A path's last part.
  package static func file(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }
}

/// One key of a definition and its value as a person types it.
package struct SettingChange: Hashable, Sendable {
  package var key: String
  package var value: String
  package init(_ key: String, _ value: String) {
    self.key = key
    self.value = value
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
  package var initrd: String?
  package var commandLine: String?
  /// A disc image in a CD-ROM drive, from which it boots first.
  package var disc: String?

  package init(name: String, processors: Int = 1, memory: UInt64 = 512 << 20) {
    self.name = name
    self.processors = processors
    self.memory = memory
  }
}
