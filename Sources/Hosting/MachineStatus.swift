import Inventory
import Machine

/// What is known of one machine, for lists and for programs.
package struct MachineStatus: Sendable, Equatable {
  package enum State: String, Sendable, CaseIterable {
    case stopped, starting, running, paused, stopping
    /// Its memory is on disk: the next start goes on from there.
    case suspended
    /// All processors are halted with interrupts off: only a reset wakes the guest.
    case halted
    /// The host process died, or the last run ended by a fault.
    case crashed
    /// The definition cannot be read; `problem` says why.
    case broken
    case template
    /// There is a host process, and it does not answer.
    case unresponsive

    /// There is a host process.
    package var isAlive: Bool {
      switch self {
      case .starting, .running, .paused, .stopping, .halted, .unresponsive: true
      case .stopped, .suspended, .crashed, .broken, .template: false
      }
    }
  }

  package var name: String
  package var state: State
  /// One line: why the machine is broken, crashed or does not answer.
  package var problem: String?
  /// The newest file that tells of a fault of this run, or of the last one.
  package var crashReport: String?
  /// The host process.
  package var process: Int32?
  package var processors: Int = 0
  /// Configured, bytes.
  package var memory: UInt64 = 0
  /// Guest memory that the host has given, bytes.
  package var residentMemory: UInt64?
  /// How many processors the guest keeps busy, 0 to `processors`.
  package var processorUse: Double?
  /// Nanoseconds since the start.
  package var uptime: UInt64?
  /// Which accelerator runs the guest, and why.
  package var accelerator: String?
  /// What the host process has given up, or `noSandbox`.
  package var sandbox: String?
  /// Attached consoles.
  package var clients: Int?
  package var diskBytesRead: UInt64?
  package var diskBytesWritten: UInt64?
  package var exits: UInt64?
  /// Instructions that KVM on this host could not emulate and that were completed in software, by kind.
  package var completedInstructions: [String: UInt64] = [:]
  /// Pseudo-terminals of the serial ports.
  package var serialDevices: [String] = []
  /// What is in the CD-ROM drive, as in the definition: "empty" or a path; nil without a drive.
  package var cdrom: String?
  package var networks: [NetworkStatus] = []
  /// nil without a socket device.
  package var sockets: SocketStatus?
  /// nil without a memory balloon.
  package var balloon: BalloonStatus?
  package var parent: String?
  package var tags: [String] = []

  package static let noSandbox = "off"
  /// The machine runs, and its host process is not confined.
  package var isUnconfined: Bool { sandbox == Self.noSandbox }

  package init(name: String, state: State) {
    self.name = name
    self.state = state
  }

  /// What the definition says.
  package mutating func describe(_ definition: MachineDefinition) {
    processors = definition.processors
    memory = definition.memory
    cdrom = definition.opticalDrive?.text
    parent = definition.parent
    tags = definition.tags
  }

  package var json: JSONValue {
    [
      "name": .string(name), "state": .string(state.rawValue),
      "problem": .optional(problem, JSONValue.string),
      "crashReport": .optional(crashReport, JSONValue.string),
      "process": .optional(process, JSONValue.unsigned),
      "processors": .unsigned(processors), "memory": .unsigned(memory),
      "residentMemory": .optional(residentMemory, JSONValue.unsigned),
      "processorUse": .optional(processorUse, JSONValue.number),
      "uptime": .optional(uptime, JSONValue.unsigned),
      "accelerator": .optional(accelerator, JSONValue.string),
      "sandbox": .optional(sandbox, JSONValue.string),
      "clients": .optional(clients, JSONValue.unsigned),
      "diskBytesRead": .optional(diskBytesRead, JSONValue.unsigned),
      "diskBytesWritten": .optional(diskBytesWritten, JSONValue.unsigned),
      "exits": .optional(exits, JSONValue.unsigned),
      "completedInstructions": .object(completedInstructions.mapValues { .unsigned($0) }),
      "serialDevices": .array(serialDevices.map(JSONValue.string)),
      "cdrom": .optional(cdrom, JSONValue.string),
      "networks": .array(networks.map(\.json)),
      "vsock": .optional(sockets) { $0.json },
      "balloon": .optional(balloon) { $0.json },
      "parent": .optional(parent, JSONValue.string),
      "tags": .array(tags.map(JSONValue.string)),
    ]
  }

  /// nil when name or state are missing; other members that are missing or of a wrong type are left out.
  package init?(_ json: JSONValue) {
    guard let name = json["name"]?.string,
      let state = json["state"]?.string.flatMap(State.init(rawValue:))
    else { return nil }
    self.init(name: name, state: state)
    func count(_ key: String) -> UInt64? { json[key]?.integer.flatMap { UInt64(exactly: $0) } }
    problem = json["problem"]?.string
    crashReport = json["crashReport"]?.string
    process = json["process"]?.integer.flatMap { Int32(exactly: $0) }
    processors = count("processors").flatMap { Int(exactly: $0) } ?? 0
    memory = count("memory") ?? 0
    residentMemory = count("residentMemory")
    processorUse = json["processorUse"]?.number
    uptime = count("uptime")
    accelerator = json["accelerator"]?.string
    sandbox = json["sandbox"]?.string
    clients = count("clients").flatMap { Int(exactly: $0) }
    diskBytesRead = count("diskBytesRead")
    diskBytesWritten = count("diskBytesWritten")
    exits = count("exits")
    networks = json["networks"]?.array?.compactMap { NetworkStatus($0) } ?? []
    sockets = json["vsock"].flatMap { SocketStatus($0) }
    balloon = json["balloon"].flatMap { BalloonStatus($0) }
    if case .object(let members) = json["completedInstructions"] {
      completedInstructions = members.compactMapValues { $0.integer.flatMap(UInt64.init(exactly:)) }
    }
    serialDevices = json["serialDevices"]?.array?.compactMap(\.string) ?? []
    cdrom = json["cdrom"]?.string
    parent = json["parent"]?.string
    tags = json["tags"]?.array?.compactMap(\.string) ?? []
  }
}
