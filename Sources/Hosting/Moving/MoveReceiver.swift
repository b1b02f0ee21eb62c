import CLinux
import Inventory
import Machine
import Networks
import Platform
import StateFile
import Synchronization

/// The receiving end of a machine's stream: makes a machine of what comes and starts it. Whoever sends: nothing that comes
/// can do more than be refused, and no path of it is used.
package final class MoveReceiver {
  /// What the person at this end says.
  package struct Options: Sendable {
    /// Another name than it has.
    package var name: MachineName?
    /// Where disks are that do not come along, by their names.
    package var disks: [String: String] = [:]
    /// Where cables lead, from the first adapter on.
    package var networks: [NetworkConfiguration] = []
    /// The `uj` that hosts are started with; nil is the program that is running.
    package var program: String?

    package init() {}
  }

  /// How far it is; shared between who receives and who shows it.
  package final class Progress: Sendable {
    package struct State: Sendable, Equatable {
      package var name = ""
      package var receivedBytes: UInt64 = 0
      /// The guest stands still at the other end.
      package var isLast = false
    }
    private let guarded = Mutex(State())
    package init() {}
    package var state: State { guarded.withLock { $0 } }
    func update(_ body: (inout State) -> Void) { guarded.withLock { body(&$0) } }
  }

  private let inventory: Inventory
  private let options: Options
  private let channel: MoveChannel
  private let progress: Progress
  private var isAnswered = false
  private var hasGreeted = false
  private var manifest: [UInt8] = []
  private var isComplete = false
  private var host: PreparedHost?

  /// Nanoseconds from the machine's completeness here to the word that it is ours.
  private static let handOverPatience: UInt64 = 120_000_000_000

  package init(
    _ inventory: Inventory, _ options: Options, _ channel: MoveChannel,
    _ progress: Progress = Progress()
  ) {
    self.inventory = inventory
    self.options = options
    self.channel = channel
    self.progress = progress
  }

  /// Comes back when the machine runs here.
  ///
  /// - Throws: one line; then it does not run here, unless the line says that it may.
  package func run() throws -> MachineName {
    let frame = try channel.receive()
    guard frame.kind == .machine else {
      throw MoveError.damaged("it does not begin with a machine")
    }
    let machine: MovingMachine
    do throws(StateValueError) {
      machine = try MovingMachine(decoding: Array(channel.content(of: frame)))
    } catch {
      throw MoveError.damaged("\(error)")
    }
    isAnswered = machine.isAnswered
    do {
      let arriving = try accept(machine)
      do {
        try receive(arriving)
      } catch {
        arriving.discard()
        throw error
      }
      return try take(arriving)
    } catch let error as Uncertain {
      throw HostingError(.machine, error.line)
    } catch {
      // From here on it never runs here, and who has sent it may know.
      try? answer(.failed, "\(error)")
      throw error
    }
  }

  /// It may run here: the sender must not hear that it does not.
  private struct Uncertain: Error {
    var line: String
  }

  private func answer(
    _ kind: MoveFrame.Kind, _ line: String? = nil, place: UInt64 = 0
  ) throws(MoveError) {
    guard isAnswered else { return }
    if !hasGreeted {
      hasGreeted = true
      try channel.greet()
    }
    if let line { try channel.send(kind, line: line) } else { try channel.send(kind, place: place) }
  }

  // MARK: Before anything comes

  private func accept(_ machine: MovingMachine) throws -> ArrivingMachine {
    let name = try options.name ?? MachineName(machine.name)
    let theirs = try MachineDefinition(text: machine.definition, path: "\(name)'s definition")
    try checkSizes(machine, theirs, name)
    var shared: [String: (path: String, backing: [String])] = [:]
    for disk in machine.disks where !disk.isCopied {
      shared[disk.name] = try place(of: disk.name, theirs)
    }
    for own in options.disks.keys where shared[own] == nil {
      throw HostingError(
        .refused, "\(name): its disk \(printable(own)) is not shared, but comes along")
    }
    let files = Dictionary(machine.files.map { ($0.file, $0.size) }) { $1 }
    let definition = try theirs.arriving(
      files: Set(files.keys), sharedDisks: shared, networks: options.networks)
    try definition.checkBoot(name)
    try Machine.checkArrival(
      MachineConfiguration(name: name.description, definition), facts: machine.facts,
      leaves: machine.leaves, serialPortCount: definition.serialPorts.count)
    let arriving = try ArrivingMachine(
      inventory, name, definition, disks: machine.disks, files: files,
      memorySize: machine.memorySize)
    progress.update { $0.name = name.description }
    do {
      try answer(.accepted)
    } catch {
      arriving.discard()
      throw error
    }
    return arriving
  }

  private func checkSizes(
    _ machine: MovingMachine, _ definition: MachineDefinition, _ name: MachineName
  ) throws {
    guard machine.memorySize == definition.memory else {
      throw MoveError.damaged("its memory is not as large as its definition says")
    }
    // A guest need not use all that it has, but what is kept of each page should not fill this host.
    let pages = UInt64(clamping: sysconf(Int32(_SC_PHYS_PAGES)))
    let own = pages &* UInt64(clamping: sysconf(Int32(_SC_PAGESIZE)))
    guard machine.memorySize / 4 <= own else {
      throw HostingError(
        .refused,
        "\(name): has \(machine.memorySize >> 20) MiB of memory, and this host \(own >> 20) MiB")
    }
    guard machine.disks.map(\.name) == definition.disks.map(\.name) else {
      throw MoveError.damaged("its disks are not those of its definition")
    }
  }

  private func place(
    of disk: String, _ definition: MachineDefinition
  ) throws -> (path: String, backing: [String]) {
    let settings = definition.disks.first { $0.name == disk }
    guard let path = options.disks[disk] else {
      let there = settings?.path.map { " (there it is \(printable($0.prefix(300))))" } ?? ""
      throw HostingError(
        .refused,
        "disk \(disk) is shared and does not come along\(there); say where it is here: "
          + "'uj receive --disk \(disk)=FILE'")
    }
    guard FileReading.exists(path) else {
      throw HostingError(.refused, "\(printable(path)): no such file, for disk \(disk)")
    }
    return (path, settings?.format == .qcow2 ? try inventory.images.backing(of: path) : [])
  }

  // MARK: What comes

  private func receive(_ arriving: ArrivingMachine) throws {
    while !isComplete {
      let frame = try channel.receive()
      let content = channel.content(of: frame)
      switch frame.kind {
      case .memory: try arriving.writeMemory(content, at: frame.place)
      case .memoryZeros:
        try arriving.writeMemoryZeros(count: try channel.number(of: frame), at: frame.place)
      case .disk: try arriving.writeDisk(Int(frame.part), content, at: frame.place)
      case .diskZeros:
        try arriving.writeDiskZeros(
          Int(frame.part), count: try channel.number(of: frame), at: frame.place)
      case .file:
        guard let file = MovingFile(rawValue: frame.part) else {
          throw MoveError.damaged("a file is of no known kind")
        }
        try arriving.writeFile(file, content, at: frame.place)
      case .synchronize:
        try answer(.synchronized, place: frame.place)
        arriving.writeAhead()
        try prepareHost(arriving)
      case .manifest: try append(content, frame.place)
      case .complete:
        guard frame.place == UInt64(manifest.count) else {
          throw MoveError.damaged("the state is not as long as it should be")
        }
        try arriving.complete(manifest)
        manifest = []
        isComplete = true
      case .withdrawn:
        throw HostingError(.refused, "the machine stays where it was: \(channel.line(of: frame))")
      case .machine, .handOver, .accepted, .synchronized, .ready, .runs, .failed, .executes:
        throw MoveError.damaged("a frame comes where it cannot")
      }
      let bytes = channel.receivedBytes
      progress.update { $0.receivedBytes = bytes }
    }
  }

  private func append(_ content: UnsafeRawBufferPointer, _ place: UInt64) throws(MoveError) {
    guard place == UInt64(manifest.count),
      manifest.count + content.count <= StateManifest.sizeLimit
    else { throw .damaged("the state comes in parts that do not fit") }
    manifest += content
    progress.update { $0.isLast = true }
  }

  // MARK: Taking it over

  private func take(_ arriving: ArrivingMachine) throws -> MachineName {
    let name = arriving.name
    do {
      try answer(.ready)
      // Until this frame is here, whole, the machine is the sender's, and what came is nothing.
      channel.deadline = MonotonicClock.now &+ Self.handOverPatience
      let frame = try channel.receive()
      guard frame.kind == .handOver else {
        let reason = frame.kind == .withdrawn ? channel.line(of: frame) : "it was not handed over"
        throw HostingError(.refused, "the machine stays where it was: \(reason)")
      }
      try prepareHost(arriving)
      try arriving.place()
    } catch {
      arriving.discard()
      throw error
    }
    var failure: (any Error)?
    do {
      try host?.begin { [self] in
        try? answer(.executes)
        // Meanwhile the host writes down what is its own.
        do { try arriving.makeLasting() } catch { failure = error }
      }
    } catch {
      try withdraw(arriving, error)
      throw error
    }
    arriving.keep()
    if let failure {
      throw Uncertain(
        line: "\(name): runs here, but may be gone after a power cut: \(failure). The sender waits")
    }
    channel.deadline = MonotonicClock.now &+ Self.handOverPatience
    // Whoever does not hear it any more does not run the machine either.
    try? answer(.runs)
    return name
  }

  /// Has the host's process begin, which takes its time, before anybody waits for it.
  private func prepareHost(_ arriving: ArrivingMachine) throws {
    guard host == nil else { return }
    host = try PreparedHost(
      arriving.name, inventory, log: arriving.hostLog, program: options.program,
      ["uj", "host", "--report", "--received", arriving.name.description])
  }

  private func withdraw(_ arriving: ArrivingMachine, _ reason: any Error) throws {
    let name = arriving.name
    if let holder = inventory.holder(name), holder.role == .host {
      kill(holder.process, SIGKILL)
      let deadline = MonotonicClock.now &+ 5_000_000_000
      while inventory.holder(name)?.role == .host, MonotonicClock.now < deadline { usleep(2000) }
    }
    do {
      try arriving.withdraw()
    } catch {
      throw Uncertain(
        line: "\(name): \(reason); and it could not be taken away again: \(error). It is here, and "
          + "the sender waits: see 'uj status \(name)'")
    }
  }
}
