import CLinux
import ConsoleUI
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
  private var displays: [ConsoleNumber: DisplayStream] = [:]
  private var events: [ServiceEvent] = []
  private var watchedSnapshots: String?
  private var watchedLog: LogWatch?
  private let accelerator: String
  /// Something in the list may be another than was told last.
  private var isListStale = false
  private var lastProblem: String?
  /// Host processes whose connection ended; until the disk has been looked at, their machines are stopping.
  private var endedHosts: Set<Int32> = []
  /// Starts and stops under way. They are over when the survey has seen their end.
  private var moving: [RequestNumber: Movement] = [:]

  /// Bytes that disks moved, to tell how many a second.
  private var rates: [MachineName: (time: UInt64, bytes: UInt64, rate: Double)] = [:]

  private struct Movement {
    var name: String
    var state: MachineCondition
    /// The look after the end.
    var generation: Int?
  }

  /// - Parameters:
  ///   - accelerator: The accelerator that machines get here and why, in one line.
  ///   - program: The `uj` that hosts are started with; nil is the program that is running.
  ///   - demonstration: What `d` does; nil takes the key away.
  package init(
    inventory: Inventory, accelerator: String, program: String? = nil,
    demonstration: Demonstration? = nil
  ) throws(PlatformError) {
    self.inventory = inventory
    self.accelerator = accelerator
    self.demonstration = demonstration
    actions = MachineActions(inventory: inventory, program: program)
    let notifier = try EventNotifier()
    self.notifier = notifier
    host = HostSampler(accelerator: accelerator, home: inventory.location.home)
    jobs = MachineJobs { notifier.signal() }
    survey = try MachineSurvey(inventory) { notifier.signal() }
  }

  deinit { survey.end() }

  package var capabilities: ServiceCapabilities {
    let always: ServiceCapabilities = [
      .liveSnapshots, .memorySnapshots, .snapshotMerging, .snapshotRenaming, .branching,
    ]
    return demonstration == nil ? always : always.union(.demonstration)
  }

  package var descriptors: [PollRequest] {
    var requests = [PollRequest(descriptor: notifier.rawDescriptor)]
    requests += links.values.map(\.pollRequest)
    requests += consoles.values.compactMap(\.pollRequest)
    requests += displays.values.compactMap(\.pollRequest)
    return requests
  }

  package var deadline: UInt64? {
    if !events.isEmpty { return 0 }
    return
      (consoles.values.compactMap(\.deadline) + displays.values.compactMap(\.nextDeadline)).min()
  }

  package func process() -> [ServiceEvent] {
    notifier.drain()
    take(jobs.takeEvents())
    if let report = survey.takeReport() { take(report) }
    for link in links.values where link.process() { isListStale = true }
    for (name, link) in links where link.isClosed {
      links[name] = nil
      if let process = findings.first(where: { $0.name == name })?.host {
        endedHosts.insert(process)
      }
      survey.look()
    }
    for (number, console) in consoles { events += console.process(as: number) }
    for (number, display) in displays { events += display.process(as: number) }
    if let news = watchedLog?.news(), let source = watchedLog?.source {
      events.append(.log(source, news.bytes, restart: news.restart))
    }
    if isListStale {
      isListStale = false
      events.append(.machines(findings.map(summary)))
    }
    defer { events.removeAll() }
    return events
  }

  // MARK: Actions

  package func perform(_ request: MachineRequest, as number: RequestNumber) {
    let actions = actions
    let inventory = inventory
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
        if try inventory.holder(MachineName(name)) == nil {
          progress("starting \(name)", nil)
          _ = try actions.carryOut(.start(name))
        }
        return Outcome("the demonstration runs as \(name)", select: name, attach: true)
      }
    case .watchLog(let source):
      watchedLog = source.flatMap { LogWatch($0, at: inventory.location) }
      events.append(.finished(number, Outcome("")))
    case .inspectHost, .listImages, .readSettings: query(request, number)
    case .describeImage, .checkImage, .createImage, .convertImage, .resizeImage, .deleteImage:
      let images = ImageActions(inventory: inventory)
      let jobs = jobs
      jobs.begin(number, for: "images") { progress in
        let outcome = try images.carryOut(request, progress)
        jobs.post(.images(images.list()))
        return outcome
      }
    default:
      if let name = request.machine, let state = Self.movement(request) {
        moving[number] = Movement(name: name, state: state)
        isListStale = true
      }
      jobs.begin(number, for: request.machine ?? "") { progress in
        try actions.carryOut(request, progress: progress)
      }
    }
  }

  /// Reads something in a thread; the answer comes as an event.
  private func query(_ request: MachineRequest, _ number: RequestNumber) {
    let (actions, inventory, jobs, accelerator) = (actions, inventory, jobs, accelerator)
    jobs.begin(number, for: request.activity) { _ in
      switch request {
      case .inspectHost:
        let home = inventory.location.home
        jobs.post(
          .hostReport(HostInspection(accelerator: accelerator, home: home).report()))
      case .listImages: jobs.post(.images(ImageActions(inventory: inventory).list()))
      case .readSettings(let name):
        jobs.post(.settings(name, try actions.settings(of: try MachineName(name))))
      default: break
      }
      return Outcome("")
    }
  }

  private static func movement(_ request: MachineRequest) -> MachineCondition? {
    switch request {
    case .start, .startFrom: .starting
    case .forceStop, .suspend: .stopping
    default: nil
    }
  }

  private func take(_ news: [ServiceEvent]) {
    for event in news {
      switch event {
      case .finished(let number, _) where number.value == 0:
        continue
      case .finished(let number, _), .failed(let number, _):
        let generation = survey.look()
        moving[number]?.generation = generation
        if let name = watchedSnapshots { listSnapshots(name) }
      default: break
      }
      events.append(event)
    }
  }

  /// Reads the snapshots in a thread; the answer comes as an event.
  private func listSnapshots(_ name: String) {
    let inventory = inventory
    let jobs = jobs
    jobs.begin(RequestNumber(0), for: "snapshots of \(name)") { _ in
      jobs.post(.snapshots(name, SnapshotReading.list(name, inventory)))
      return Outcome("")
    }
  }

  // MARK: The list

  private func take(_ report: MachineSurvey.Report) {
    if let problem = report.problem, problem != lastProblem {
      events.append(.failed(RequestNumber(0), problem))
    }
    lastProblem = report.problem
    tellActivity(report.findings)
    findings = report.findings
    for finding in findings where finding.host != nil && links[finding.name] == nil {
      if let link = MachineLink(finding.name, at: inventory.location) {
        links[finding.name] = link
      }
    }
    let hosts = Set(findings.compactMap(\.host))
    let alive = Set(findings.filter { $0.host != nil }.map(\.name))
    links = links.filter { alive.contains($0.key) }
    endedHosts.formIntersection(hosts)
    moving = moving.filter { ($0.value.generation ?? .max) > report.generation }
    measureDisks()
    if let status = host.sample() { events.append(.host(status)) }
    // Once a second statistics are told anew.
    isListStale = true
  }

  private func measureDisks() {
    let now = MonotonicClock.now
    if rates.count > links.count { rates = rates.filter { links[$0.key] != nil } }
    for (name, link) in links {
      guard let status = link.status, let read = status.diskBytesRead,
        let written = status.diskBytesWritten
      else { continue }
      let bytes = read &+ written
      guard let old = rates[name] else {
        rates[name] = (now, bytes, 0)
        continue
      }
      let seconds = Double(now - old.time) / 1e9
      guard seconds > 0.15 else { continue }
      rates[name] = (now, bytes, bytes < old.bytes ? 0 : Double(bytes - old.bytes) / seconds)
    }
  }

  /// Guests that printed since the last look.
  private func tellActivity(_ new: [MachineSurvey.Finding]) {
    let before = Dictionary(
      findings.filter { $0.host != nil }.map { ($0.name, $0.logSize) },
      uniquingKeysWith: { first, _ in first })
    for finding in new {
      if let old = before[finding.name], finding.logSize > old {
        events.append(.activity(finding.name.description, bell: finding.rang))
      }
    }
  }

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
        status.state = endedHosts.contains(process) ? .stopping : .starting
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
    summary.isUnconfined = status.isUnconfined
    summary.parent = status.parent
    summary.tags = status.tags
    summary.processIdentifier = status.process
    summary.clients = status.clients ?? 0
    summary.snapshotCount = finding.snapshotCount
    summary.currentSnapshot = finding.currentSnapshot
    summary.disks = finding.disks
    summary.boot = finding.boot
    summary.bootOrder = finding.bootOrder
    summary.serialPorts = finding.serialPorts
    summary.disc = status.cdrom
    summary.counters.diskRead = status.diskBytesRead ?? 0
    summary.counters.diskWritten = status.diskBytesWritten ?? 0
    summary.counters.exits = status.exits ?? 0
    summary.counters.completedInstructions = status.completedInstructions
    if summary.state.isAlive {
      summary.processorShares = finding.processorShares
      summary.lastLines = finding.lastLines
      summary.diskRate = rates[finding.name]?.rate
    }
    if let movement = moving.values.first(where: { $0.name == status.name }) {
      summary.state = movement.state
      summary.problem = nil
    }
    return summary
  }

  // MARK: Consoles

  package func attach(
    _ machine: String, _ source: ConsoleSource, as console: ConsoleNumber, size: Size
  ) {
    guard let name = try? MachineName(machine) else {
      events.append(.consoleClosed(console, "'\(printable(machine))' is no name of a machine"))
      return
    }
    guard case .serial(let port) = source else {
      displays[console] = DisplayStream(name, at: inventory.location)
      return
    }
    guard
      inventory.holder(name)?.role == .host || moving.values.contains(where: { $0.name == machine })
    else {
      showLog(name, port, console)
      return
    }
    consoles[console] = ConsoleStream(name, port: port, at: inventory.location)
  }

  /// Of a machine that is off the end of the log is shown; the console opens by itself when it starts.
  private func showLog(_ name: MachineName, _ port: Int, _ console: ConsoleNumber) {
    events.append(.attached(console, Size(columns: 80, rows: 24)))
    let log = LogTail.read(inventory.location.serialLog(name, port: port), limit: 65536)
    if !log.isEmpty { events.append(.output(console, log)) }
    events.append(.consoleClosed(console, "\(name) is off; the console opens when it starts"))
  }

  package func send(_ bytes: [UInt8], to console: ConsoleNumber) {
    consoles[console]?.send(bytes)
  }

  package func sendKeys(_ names: [String], to console: ConsoleNumber) {
    displays[console]?.send(names)
  }

  package func resize(_ console: ConsoleNumber, to size: Size) {
    // A serial line has no channel for it.
  }

  package func refresh(every seconds: Double) {
    survey.setInterval(Int32(min(60, max(0.2, seconds)) * 1000))
  }

  package func detach(_ console: ConsoleNumber) {
    consoles.removeValue(forKey: console)?.close()
    displays.removeValue(forKey: console)?.close()
  }
}

extension MachineCondition {
  fileprivate init(_ state: MachineStatus.State) {
    self = MachineCondition(rawValue: state.rawValue) ?? .unresponsive
  }
}
