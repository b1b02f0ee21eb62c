// What the front end shows of a machine. Plain values: the service makes new ones whenever something changed.

/// What a machine is doing, as the list says it.
package enum MachineCondition: String, CaseIterable, Hashable, Sendable {
  case running
  case paused
  case starting
  case stopping
  case stopped
  /// Its memory is on disk: starting it goes on from there.
  case suspended
  /// The guest turned itself off or halted; its host process still shows the screen.
  case halted
  /// The host process died without having been told to.
  case crashed
  /// The definition can not be read; `problem` says why.
  case broken
  /// A template: never started, its instances grow from it.
  case template
  /// The host process does not answer.
  case unresponsive

  /// The word in the list.
  package var word: String { self == .unresponsive ? "not answering" : rawValue }

  /// A host process exists.
  package var isAlive: Bool {
    switch self {
    case .running, .paused, .starting, .stopping, .halted, .unresponsive: true
    case .stopped, .suspended, .crashed, .broken, .template: false
    }
  }

  /// The machine is being changed: the list shows a turning wheel.
  package var isMoving: Bool { self == .starting || self == .stopping }
}

/// One disk of a machine.
package struct DiskStatus: Hashable, Sendable {
  package var name: String
  /// What the guest sees, in bytes.
  package var virtualSize: UInt64
  /// What the layers take on the host, in bytes.
  package var allocatedSize: UInt64
  package var layers: Int

  package init(name: String, virtualSize: UInt64, allocatedSize: UInt64, layers: Int) {
    self.name = name
    self.virtualSize = virtualSize
    self.allocatedSize = allocatedSize
    self.layers = layers
  }
}

/// What a machine has counted since it was started.
package struct MachineCounters: Hashable, Sendable {
  /// Bytes.
  package var diskRead: UInt64 = 0
  package var diskWritten: UInt64 = 0
  /// Times that its processors left the guest.
  package var exits: UInt64 = 0
  /// Instructions that KVM could not emulate and that were completed in software, by kind.
  package var completedInstructions: [String: UInt64] = [:]

  package init() {}
}

/// One machine, as far as it is known.
package struct MachineSummary: Hashable, Sendable {
  package var name: String
  package var state: MachineCondition
  /// Why the machine is broken, crashed or not answering; one line.
  package var problem: String?
  package var processors: Int
  /// Configured memory in bytes.
  package var memory: UInt64
  /// What of it the host process holds, in bytes.
  package var residentMemory: UInt64?
  /// 0 to `processors`; nil when it is not running.
  package var processorUse: Double?
  /// Nanoseconds since the machine was started.
  package var uptime: UInt64?
  /// Its host process has kept its rights: a guest that breaks out of its machine has them.
  package var isUnconfined = false
  /// Which accelerator runs the machine, in one line, with the reason.
  package var accelerator: String?
  /// The template that it grew from.
  package var parent: String?
  package var tags: [String]
  package var snapshotCount: Int
  /// Title of the snapshot that the disks grow from.
  package var currentSnapshot: String?
  package var disks: [DiskStatus]
  /// What it boots from, in words.
  package var boot: String?
  package var processIdentifier: Int32?
  /// Consoles that are attached, this one included.
  package var clients: Int
  /// Share of each virtual processor, 0 to 1; empty when unknown.
  package var processorShares: [Double] = []
  package var counters = MachineCounters()
  /// Bytes read and written a second.
  package var diskRate: Double?
  /// What is in the CD-ROM drive: "empty" or a path; nil without a drive.
  package var disc: String?
  /// Ports that take consoles, COM1 being 0.
  package var serialPorts: [Int] = [0]
  package var bootOrder: [String] = []
  /// What the first serial port printed last.
  package var lastLines: [String] = []

  package init(
    name: String, state: MachineCondition, processors: Int = 1, memory: UInt64 = 0
  ) {
    self.name = name
    self.state = state
    self.processors = processors
    self.memory = memory
    tags = []
    snapshotCount = 0
    disks = []
    clients = 0
  }
}

/// One node of a machine's tree of snapshots.
package struct SnapshotStatus: Hashable, Sendable {
  package var identifier: String
  package var title: String
  package var parent: String?
  /// Seconds since 1970, UTC.
  package var time: Int64
  /// RAM and devices were saved with it.
  package var hasMemory: Bool
  /// Made by rolling, to keep the state that was left.
  package var isAutomatic: Bool
  /// Bytes that its own layers take.
  package var size: UInt64
  /// The machine's disks grow from it now.
  package var isCurrent: Bool
  /// Where rolling forward goes.
  package var isNext = false

  package init(
    identifier: String, title: String, parent: String?, time: Int64, hasMemory: Bool = false,
    isAutomatic: Bool = false, size: UInt64 = 0, isCurrent: Bool = false
  ) {
    self.identifier = identifier
    self.title = title
    self.parent = parent
    self.time = time
    self.hasMemory = hasMemory
    self.isAutomatic = isAutomatic
    self.size = size
    self.isCurrent = isCurrent
  }
}

/// The host that all machines share.
package struct HostStatus: Hashable, Sendable {
  package var processors: Int
  /// 0 to 1 of all processors; nil when unknown.
  package var processorUse: Double?
  package var memory: UInt64
  package var availableMemory: UInt64
  /// The accelerator and why it was chosen, in one line.
  package var accelerator: String
  /// The folder of machines.
  package var home: String

  package init(
    processors: Int = 1, processorUse: Double? = nil, memory: UInt64 = 0,
    availableMemory: UInt64 = 0, accelerator: String = "", home: String = ""
  ) {
    self.processors = processors
    self.processorUse = processorUse
    self.memory = memory
    self.availableMemory = availableMemory
    self.accelerator = accelerator
    self.home = home
  }
}
