import CLinux
import ConsoleUI
import Glibc
import Hosting
import Inventory
import Platform
import Synchronization

/// Looks at the inventory on disk in a thread of its own, once a second and whenever it is told to, so that a slow disk
/// or a thousand machines never hold up the screen.
final class MachineSurvey: Sendable {
  /// What the files say of one machine.
  struct Finding: Sendable {
    var name: MachineName
    /// As if no host process were there.
    var status: MachineStatus
    /// The process that holds the machine as its host.
    var host: Int32?
    var snapshotCount = 0
    var currentSnapshot: String?
    var disks: [DiskStatus] = []
    var boot: String?
    var bootOrder: [String] = []
    /// Serial ports that take consoles.
    var serialPorts: [Int] = [0]
    /// Bytes in the log of the first serial port: more means that the guest has printed.
    var logSize = 0
    /// The guest rang the bell since the last look.
    var rang = false
    /// What the first serial port printed last.
    var lastLines: [String] = []
    /// Share of each virtual processor since the last look.
    var processorShares: [Double] = []
  }

  struct Report: Sendable {
    var findings: [Finding]
    /// The look that it answers, see `look`.
    var generation: Int
    /// Why the inventory could not be read.
    var problem: String?
  }

  private struct State {
    var report: Report?
    var generation = 0
    var isOver = false
    /// Milliseconds between looks.
    var interval: Int32 = 1000
  }

  /// What was found out of files, as long as they do not change.
  private struct Known: Sendable {
    var stamps: [FileIdentity?]
    var finding: Finding
  }

  /// What is kept between two looks; only the survey's thread has it.
  private struct Memory {
    var known: [MachineName: Known] = [:]
    var logs: [MachineName: (size: Int, lastLines: [String])] = [:]
    var samplers: [MachineName: ProcessorSampler] = [:]
  }

  private let inventory: Inventory
  private let survey: StatusSurvey
  private let state = Mutex(State())
  private let wakeup: EventNotifier
  private let signal: @Sendable () -> Void

  /// - Parameter signal: Called from the survey's thread when there is a new report.
  init(_ inventory: Inventory, signal: @escaping @Sendable () -> Void) throws(PlatformError) {
    self.inventory = inventory
    self.signal = signal
    survey = StatusSurvey(inventory)
    wakeup = try EventNotifier()
    _ = try PosixThread(name: "survey") { [self] in run() }
  }

  /// The last report, once.
  func takeReport() -> Report? {
    state.withLock { state in
      defer { state.report = nil }
      return state.report
    }
  }

  /// Something changed: looks now. Reports of the returned generation or a later one know of it.
  @discardableResult
  func look() -> Int {
    defer { wakeup.signal() }
    return state.withLock { state in
      state.generation += 1
      return state.generation
    }
  }

  /// Milliseconds between looks that nobody asked for.
  func setInterval(_ milliseconds: Int32) {
    state.withLock { $0.interval = milliseconds }
    wakeup.signal()
  }

  /// Ends the thread soon.
  func end() {
    state.withLock { $0.isOver = true }
    wakeup.signal()
  }

  private func run() {
    var memory = Memory()
    while !state.withLock({ $0.isOver }) {
      let report = makeReport(state.withLock { $0.generation }, &memory)
      let interval = state.withLock { state in
        state.report = report
        return state.interval
      }
      signal()
      var request = pollfd(fd: wakeup.rawDescriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&request, 1, interval)
      wakeup.drain()
    }
  }

  private func makeReport(_ generation: Int, _ memory: inout Memory) -> Report {
    do {
      let names = try inventory.names()
      let findings = names.map { finding($0, &memory) }
      if memory.known.count > names.count {
        let names = Set(names)
        memory.known = memory.known.filter { names.contains($0.key) }
        memory.logs = memory.logs.filter { names.contains($0.key) }
      }
      return Report(findings: findings, generation: generation)
    } catch {
      return Report(findings: [], generation: generation, problem: error.description)
    }
  }

  private func finding(_ name: MachineName, _ memory: inout Memory) -> Finding {
    let location = inventory.location
    var finding: Finding
    // Reading a definition costs far more than a look whether it has changed.
    let stamps = [
      FileIdentity(location.definition(name)), FileIdentity(location.state(name)),
      FileIdentity(location.runRecord(name)),
    ]
    if let known = memory.known[name], known.stamps == stamps {
      finding = known.finding
    } else {
      finding = read(name)
      memory.known[name] = Known(stamps: stamps, finding: finding)
    }
    // Without a record of a run there was never a host.
    guard stamps[2] != nil, let holder = inventory.holder(name), holder.role == .host else {
      if memory.samplers[name] != nil { memory.samplers[name] = nil }
      if finding.status.state == .crashed {
        // The reason is in the log, which may be written after the record.
        finding.status = survey.resting(name)
      }
      return finding
    }
    finding.host = holder.process
    glance(at: &finding, &memory)
    var sampler = memory.samplers[name] ?? ProcessorSampler(process: holder.process)
    if !sampler.isOf(holder.process) { sampler = ProcessorSampler(process: holder.process) }
    sampler.sample()
    finding.processorShares = sampler.shares
    memory.samplers[name] = sampler
    return finding
  }

  private func glance(at finding: inout Finding, _ memory: inout Memory) {
    let path = inventory.location.serialLog(finding.name, port: 0)
    let size = FileIdentity.size(path)
    let old = memory.logs[finding.name]
    finding.logSize = size
    if let old, old.size == size {
      finding.lastLines = old.lastLines
      return
    }
    let seen = LogGlance.read(path, from: old?.size ?? size, size: size)
    finding.rang = seen.rang
    finding.lastLines = seen.lastLines
    memory.logs[finding.name] = (size, seen.lastLines)
  }

  /// All that the files say of a machine.
  private func read(_ name: MachineName) -> Finding {
    var finding = Finding(name: name, status: survey.resting(name))
    guard finding.status.state != .broken else { return finding }
    if let definition = try? inventory.definition(name) {
      finding.boot = Self.boot(definition)
      finding.bootOrder = definition.bootOrder.map(\.rawValue)
      finding.serialPorts = definition.serialPorts.indices.filter {
        definition.serialPorts[$0].takesClients
      }
    }
    // The running guest's layers grow without a change of this file; their size is told when it changes.
    addDetails(&finding)
    return finding
  }

  private func addDetails(_ finding: inout Finding) {
    guard let state = try? inventory.state(finding.name) else { return }
    finding.snapshotCount = state.snapshots.count
    finding.currentSnapshot = state.position.flatMap { state.snapshot($0) }?.name
    for disk in state.disks {
      let path = inventory.layerPath(finding.name, disk, disk.current)
      let size = try? inventory.images.size(
        path, format: disk.current == nil ? disk.baseFormat ?? .raw : .qcow2)
      let layers = disk.parents.keys.map { inventory.layerPath(finding.name, disk, $0) }
      finding.disks.append(
        DiskStatus(
          name: disk.name, virtualSize: size ?? 0,
          allocatedSize: layers.reduce(0) { $0 + FileIdentity.allocatedSize($1) },
          layers: max(1, disk.parents.count)))
    }
  }

  private static func boot(_ definition: MachineDefinition) -> String? {
    if let kernel = definition.kernel {
      let file = kernel.split(separator: "/").last.map(String.init) ?? kernel
      return "kernel \(file)"
    }
    return definition.bootOrder.map(\.rawValue).joined(separator: ", then ")
  }
}

/// Tells a file from its later versions.
struct FileIdentity: Equatable, Sendable {
  private var inode: UInt
  private var seconds: Int
  private var nanoseconds: Int
  private var size: Int

  init?(_ path: String) {
    var information = stat()
    guard stat(path, &information) == 0 else { return nil }
    inode = UInt(information.st_ino)
    seconds = information.st_mtim.tv_sec
    nanoseconds = information.st_mtim.tv_nsec
    size = Int(information.st_size)
  }

  /// Bytes in a file; 0 when it is not there.
  static func size(_ path: String) -> Int {
    var information = stat()
    return stat(path, &information) == 0 ? Int(information.st_size) : 0
  }

  /// Bytes that a file takes on the host; 0 when it is not there.
  static func allocatedSize(_ path: String) -> UInt64 {
    var information = stat()
    guard stat(path, &information) == 0 else { return 0 }
    return UInt64(clamping: information.st_blocks) &* 512
  }
}
