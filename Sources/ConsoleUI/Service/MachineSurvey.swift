import CLinux
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
    /// Bytes in the log of the first serial port: more means that the guest has printed.
    var logSize = 0
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
  }

  private let inventory: Inventory
  private let survey: StatusSurvey
  private let state = Mutex(State())
  private let wakeup: EventNotifier
  private let signal: @Sendable () -> Void
  /// Details that cost more than a look at a file, kept until the file changes.
  private let details = Mutex<[MachineName: (stamp: FileIdentity, finding: Finding)]>([:])

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

  /// Ends the thread soon.
  func end() {
    state.withLock { $0.isOver = true }
    wakeup.signal()
  }

  private func run() {
    while !state.withLock({ $0.isOver }) {
      let report = makeReport(state.withLock { $0.generation })
      state.withLock { $0.report = report }
      signal()
      var request = pollfd(fd: wakeup.rawDescriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&request, 1, 1000)
      wakeup.drain()
    }
  }

  private func makeReport(_ generation: Int) -> Report {
    do {
      let names = try inventory.names()
      let findings = names.map(finding)
      let known = Set(names)
      details.withLock { details in
        if details.count > known.count { details = details.filter { known.contains($0.key) } }
      }
      return Report(findings: findings, generation: generation)
    } catch {
      return Report(findings: [], generation: generation, problem: error.description)
    }
  }

  private func finding(_ name: MachineName) -> Finding {
    var finding = Finding(name: name, status: survey.resting(name))
    if let holder = inventory.holder(name), holder.role == .host {
      finding.host = holder.process
      finding.logSize = FileIdentity.size(inventory.location.serialLog(name, port: 0))
    }
    guard finding.status.state != .broken else { return finding }
    if let definition = try? inventory.definition(name) {
      finding.boot = Self.boot(definition)
    }
    // The running guest's layers grow without a change of this file; their size is told when it changes.
    guard let stamp = FileIdentity(inventory.location.state(name)) else { return finding }
    if let known = details.withLock({ $0[name] }), known.stamp == stamp {
      finding.snapshotCount = known.finding.snapshotCount
      finding.currentSnapshot = known.finding.currentSnapshot
      finding.disks = known.finding.disks
      return finding
    }
    addDetails(&finding)
    details.withLock { $0[name] = (stamp, finding) }
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
