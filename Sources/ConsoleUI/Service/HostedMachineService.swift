import CLinux
import Hosting
import Inventory
import Platform

/// The machines of an inventory and their host processes, for the front end. Nothing here waits: the disk is looked at
/// by a survey thread, actions run in threads, running machines report over their sockets.
package final class HostedMachineService: MachineService {
  /// Prepares the demonstration; reports what it does and how much of it is done, and returns the machine to show.
  package typealias Demonstration =
    @Sendable (_ progress: @escaping @Sendable (String, Double?) -> Void) throws -> String

  private let inventory: Inventory
  private let actions: MachineActions
  private let demonstration: Demonstration?
  private let notifier: EventNotifier
  private let survey: MachineSurvey
  private let jobs: MachineJobs
  private var host: HostSampler
  private var findings: [MachineSurvey.Finding] = []
  private var links: [MachineName: MachineLink] = [:]
  private var consoles: [ConsoleNumber: ConsoleStream] = [:]
  private var events: [ServiceEvent] = []
  private var watchedSnapshots: String?
  private var announced: [MachineSummary]?
  /// Machines whose start or stop is under way, with the word for it.
  private var moving: [RequestNumber: (name: String, state: MachineCondition)] = [:]

  /// - Parameters:
  ///   - accelerator: The accelerator that machines get here and why, in one line.
  ///   - program: The `uj` that hosts are started with; nil is the program that is running.
  ///   - demonstration: What `d` does; nil takes the key away.
  package init(
    inventory: Inventory, accelerator: String, program: String? = nil,
    demonstration: Demonstration? = nil
  ) throws(PlatformError) {
    self.inventory = inventory
    self.demonstration = demonstration
    actions = MachineActions(inventory: inventory, program: program)
    let notifier = try EventNotifier()
    self.notifier = notifier
    host = HostSampler(accelerator: accelerator, home: inventory.location.home)
    jobs = MachineJobs { notifier.signal() }
    survey = try MachineSurvey(inventory) { notifier.signal() }
  }

  deinit { survey.end() }

  package var capabilities: ServiceCapabilities { demonstration == nil ? [] : .demonstration }

  package var descriptors: [PollRequest] {
    var requests = [PollRequest(descriptor: notifier.rawDescriptor)]
    requests += links.values.map(\.pollRequest)
    requests += consoles.values.compactMap(\.pollRequest)
    return requests
  }

  package var deadline: UInt64? {
    if !events.isEmpty { return 0 }
    return consoles.values.compactMap(\.deadline).min()
  }

  package func process() -> [ServiceEvent] {
    notifier.drain()
    take(jobs.takeEvents())
    if let report = survey.takeReport() { take(report) }
    for link in links.values where link.process() { survey.look() }
    links = links.filter { !$0.value.isClosed }
    for (number, console) in consoles { events += console.process(as: number) }
    announce()
    defer { events.removeAll() }
    return events
  }

  // MARK: Actions

  package func perform(_ request: MachineRequest, as number: RequestNumber) {
    let actions = actions
    switch request {
    case .listSnapshots(let name):
      watchedSnapshots = name
      listSnapshots(name)
      events.append(.finished(number, Outcome("")))
    case .demo:
      guard let demonstration else {
        events.append(.failed(number, "there is no demonstration here"))
        return
      }
      jobs.begin(number, for: "") { progress in
        let name = try demonstration(progress)
        return Outcome("the demonstration runs as \(name)", select: name, attach: true)
      }
    default:
      if let name = request.machine, let state = Self.movement(request) {
        moving[number] = (name, state)
      }
      jobs.begin(number, for: request.machine ?? "") { _ in try actions.carryOut(request) }
    }
  }

  private static func movement(_ request: MachineRequest) -> MachineCondition? {
    switch request {
    case .start: .starting
    case .forceStop: .stopping
    default: nil
    }
  }

  private func take(_ news: [ServiceEvent]) {
    for event in news {
      switch event {
      case .finished(let number, _), .failed(let number, _):
        moving[number] = nil
        survey.look()
        if let name = watchedSnapshots { listSnapshots(name) }
      default: break
      }
      events.append(event)
    }
  }

  /// Reads the snapshots in a thread; the answer comes as an event.
  private func listSnapshots(_ name: String) {
    do {
      let tree = try inventory.snapshots(try MachineName(name))
      let next = tree.left.last
      let summaries = tree.snapshots.map { node in
        var summary = SnapshotStatus(
          identifier: node.identifier, title: node.name, parent: node.parent, time: node.created,
          isAutomatic: node.isAutomatic, size: size(of: node, name),
          isCurrent: node.identifier == tree.position)
        summary.isNext = node.identifier == next
        return summary
      }
      events.append(.snapshots(name, summaries))
    } catch {
      events.append(.snapshots(name, []))
    }
  }

  /// What the node's own layers take on the host.
  private func size(of node: Snapshot, _ name: String) -> UInt64 {
    guard let machine = try? MachineName(name) else { return 0 }
    return node.layers.reduce(0) { sum, layer in
      let path = "\(inventory.location.disks(machine))/\(layer.key)/\(layer.value).qcow2"
      return sum &+ FileIdentity.allocatedSize(path)
    }
  }

  // MARK: The list

  private func take(_ report: MachineSurvey.Report) {
    if let problem = report.problem { events.append(.failed(RequestNumber(0), problem)) }
    findings = report.findings
    for finding in findings where finding.host != nil && links[finding.name] == nil {
      if let link = MachineLink(finding.name, at: inventory.location) {
        links[finding.name] = link
      }
    }
    let alive = Set(findings.filter { $0.host != nil }.map(\.name))
    links = links.filter { alive.contains($0.key) }
    if let status = host.sample() { events.append(.host(status)) }
    // A second has gone by: statistics are shown again even if they are the same.
    announced = nil
  }

  private func announce() {
    guard announced == nil || links.values.contains(where: { $0.status?.state != nil }) else {
      return
    }
    let list = findings.map(summary)
    guard announced == nil || states(list) != states(announced ?? []) else { return }
    guard !findings.isEmpty || announced == nil, list != announced else { return }
    announced = list
    events.append(.machines(list))
  }

  private func states(_ list: [MachineSummary]) -> [MachineCondition] { list.map(\.state) }

  private func summary(_ finding: MachineSurvey.Finding) -> MachineSummary {
    var status = finding.status
    if let process = finding.host {
      let resting = status
      if let link = links[finding.name], let live = link.status, !link.isSilent {
        status = live
        status.parent = resting.parent
        status.tags = resting.tags
        status.processors = resting.processors
        status.memory = resting.memory
      } else {
        status.problem = nil
        status.state = .starting
        if links[finding.name]?.isSilent ?? false {
          status.state = .unresponsive
          status.problem = "its host process \(process) does not answer; F kills it"
        }
      }
      status.process = process
    }
    return summary(finding, status)
  }

  private func summary(
    _ finding: MachineSurvey.Finding, _ status: MachineStatus
  ) -> MachineSummary {
    var summary = MachineSummary(
      name: status.name, state: MachineCondition(status.state), processors: status.processors,
      memory: status.memory)
    summary.problem = status.problem
    summary.residentMemory = status.residentMemory
    summary.processorUse = status.processorUse
    summary.uptime = status.uptime
    summary.accelerator = status.accelerator
    summary.parent = status.parent
    summary.tags = status.tags
    summary.processIdentifier = status.process
    summary.clients = status.clients ?? 0
    summary.snapshotCount = finding.snapshotCount
    summary.currentSnapshot = finding.currentSnapshot
    summary.disks = finding.disks
    summary.boot = finding.boot
    if let movement = moving.values.first(where: { $0.name == status.name }) {
      summary.state = movement.state
      summary.problem = nil
    }
    return summary
  }

  // MARK: Consoles

  package func attach(_ machine: String, as console: ConsoleNumber, size: Size) {
    guard let name = try? MachineName(machine) else {
      events.append(.consoleClosed(console, "'\(printable(machine))' is no name of a machine"))
      return
    }
    guard inventory.holder(name)?.role == .host || moving.values.contains(where: { $0.name == machine })
    else {
      showLog(name, console)
      return
    }
    consoles[console] = ConsoleStream(name, at: inventory.location)
  }

  /// Of a machine that is off the end of the log is shown; the console opens by itself when it starts.
  private func showLog(_ name: MachineName, _ console: ConsoleNumber) {
    events.append(.attached(console, Size(columns: 80, rows: 24)))
    let log = LogTail.read(inventory.location.serialLog(name, port: 0), limit: 65536)
    if !log.isEmpty { events.append(.output(console, log)) }
    events.append(.consoleClosed(console, "\(name) is off; the console opens when it starts"))
  }

  package func send(_ bytes: [UInt8], to console: ConsoleNumber) {
    consoles[console]?.send(bytes)
  }

  package func resize(_ console: ConsoleNumber, to size: Size) {
    // A serial line has no channel for it.
  }

  package func detach(_ console: ConsoleNumber) {
    consoles.removeValue(forKey: console)?.close()
  }
}

extension MachineCondition {
  fileprivate init(_ state: MachineStatus.State) {
    self = MachineCondition(rawValue: state.rawValue) ?? .unresponsive
  }
}
