import ConsoleUI
import Platform

/// Machines that exist only here: enough of a world to play a user's session against.
final class FakeMachineService: MachineService {
  private(set) var requests: [MachineRequest] = []
  private(set) var sent: [UInt8] = []
  /// The same by machine.
  private(set) var sentTo: [String: [UInt8]] = [:]
  private(set) var sources: [ConsoleNumber: ConsoleSource] = [:]
  private(set) var refreshed: Double?
  /// What `readSettings` answers.
  var settings: [String: String] = ["memory": "1G", "processors": "2", "boot.order": "disk"]
  var images: [ImageStatus] = []
  var machines: [MachineSummary] = []
  var snapshots: [String: [SnapshotStatus]] = [:]
  /// Statistics change with time, as on a living host; off in tests.
  var isAnimated = false
  private var consoles: [ConsoleNumber: String] = [:]
  private var events: [ServiceEvent] = []
  private var nextSample: UInt64 = 0
  private var started: [String: UInt64] = [:]
  private var step = 0

  var host = HostStatus(
    processors: 8, processorUse: 0.12, memory: 16 << 30, availableMemory: 11 << 30,
    accelerator: "kvm: /dev/kvm works, with hardware virtualization",
    home: "/home/user/.local/share/underjack")

  var capabilities = ServiceCapabilities.all
  var descriptors: [PollRequest] { [] }
  var deadline: UInt64? { events.isEmpty ? (isAnimated ? nextSample : nil) : 0 }

  func process() -> [ServiceEvent] {
    let now = MonotonicClock.now
    if isAnimated, now >= nextSample {
      nextSample = now + 1_000_000_000
      sample(now)
    }
    defer { events.removeAll() }
    return events
  }

  /// Tells of everything, as after each change.
  func announce() {
    events.append(.host(host))
    events.append(.machines(machines.sorted { $0.name < $1.name }))
  }

  /// False: a host that has not answered yet.
  var answersAttach = true

  func attach(
    _ machine: String, _ source: ConsoleSource, as console: ConsoleNumber, size: Size
  ) {
    sources[console] = source
    if source == .display {
      displays[console] = machine
      return
    }
    consoles[console] = machine
    guard answersAttach else { return }
    events.append(.attached(console, Size(columns: 80, rows: 24)))
    events.append(.output(console, Array(FakeGuest.screen.utf8)))
  }

  func refresh(every seconds: Double) { refreshed = seconds }

  func send(_ bytes: [UInt8], to console: ConsoleNumber) {
    sent += bytes
    sentTo[consoles[console] ?? "", default: []] += bytes
    events.append(.output(console, FakeGuest.answer(to: bytes)))
  }

  func resize(_ console: ConsoleNumber, to size: Size) {}

  private(set) var displays: [ConsoleNumber: String] = [:]
  private(set) var pressedKeys: [String] = []
  func sendKeys(_ names: [String], to console: ConsoleNumber) { pressedKeys += names }

  func detach(_ console: ConsoleNumber) { consoles[console] = nil }

  func emit(_ event: ServiceEvent) { events.append(event) }

  func perform(_ request: MachineRequest, as number: RequestNumber) {
    requests.append(request)
    switch carryOut(request) {
    case .success(let outcome): events.append(.finished(number, outcome))
    case .failure(let problem): events.append(.failed(number, problem.text))
    }
    announce()
    if let name = request.machine {
      events.append(.snapshots(name, snapshots[name] ?? []))
    }
  }

  struct Problem: Error { var text: String }

  private func change(_ name: String, _ body: (inout MachineSummary) -> Void) {
    guard let index = machines.firstIndex(where: { $0.name == name }) else { return }
    body(&machines[index])
  }

  private func carryOut(_ request: MachineRequest) -> Result<Outcome, Problem> {
    switch request {
    case .start(let name):
      started[name] = MonotonicClock.now
      change(name) {
        $0.state = .running
        $0.processorUse = 0.4
        $0.uptime = 0
        $0.accelerator = "kvm: /dev/kvm works"
      }
      return .success(Outcome("\(name) is running"))
    case .stop(let name), .forceStop(let name):
      change(name) {
        $0.state = .stopped
        $0.processorUse = nil
        $0.uptime = nil
      }
      for (console, machine) in consoles where machine == name {
        events.append(.consoleClosed(console, "the machine was stopped"))
      }
      return .success(Outcome("\(name) is off"))
    case .pause(let name):
      change(name) { $0.state = .paused }
      return .success(Outcome("\(name) is paused", undo: .unpause(name)))
    case .suspend(let name):
      change(name) { $0.state = .suspended }
      return .success(Outcome("\(name) is suspended"))
    case .unpause(let name):
      change(name) { $0.state = .running }
      return .success(Outcome("\(name) goes on"))
    case .createFromTemplate(let template, let name, let start):
      var machine = MachineSummary(name: name, state: .stopped, processors: 2, memory: 1 << 30)
      machine.parent = template
      machine.disks = [
        DiskStatus(name: "disk0", virtualSize: 8 << 30, allocatedSize: 193 << 10, layers: 2)
      ]
      machines.append(machine)
      if start { _ = carryOut(.start(name)) }
      return .success(Outcome("\(name) made from \(template) in 4 ms", select: name))
    case .create(let specification):
      machines.append(
        MachineSummary(
          name: specification.name, state: .stopped, processors: specification.processors,
          memory: specification.memory))
      return .success(Outcome("\(specification.name) made", select: specification.name))
    case .delete(let name):
      machines.removeAll { $0.name == name }
      return .success(Outcome("\(name) is deleted"))
    case .takeSnapshot(let name, let text, let memory):
      let title = text.isEmpty ? "snapshot-\((snapshots[name] ?? []).count + 1)" : text
      take(name, title, memory)
      return .success(Outcome("snapshot '\(title)' of \(name) taken"))
    case .rollBack(let name, let identifier), .rollForward(let name, let identifier?):
      let old = snapshots[name]?.first { $0.isCurrent }?.identifier ?? ""
      var list = snapshots[name] ?? []
      for index in list.indices { list[index].isCurrent = list[index].identifier == identifier }
      snapshots[name] = list
      return .success(
        Outcome("\(name) rolled to \(identifier)", undo: .rollBack(name, snapshot: old)))
    case .listSnapshots: return .success(Outcome(""))
    case .readSettings(let name):
      events.append(.settings(name, settings))
      return .success(Outcome(""))
    case .listImages:
      events.append(.images(images))
      return .success(Outcome(""))
    case .inspectHost:
      events.append(
        .hostReport(
          HostReport([
            .init("Accelerator", [.init("Machines run with", host.accelerator)]),
            .init("Weaknesses of the processors", [.init("meltdown", "Not affected", .good)]),
          ])))
      return .success(Outcome(""))
    case .watchLog(let source?):
      let text = "booting\r\n\u{1B}[32mok\u{1B}[0m started\r\nlogin: "
      events.append(.log(source, Array(text.utf8), restart: true))
      return .success(Outcome(""))
    case .demo: return .failure(Problem(text: "apt-get download needs a network: none is up"))
    default: return .success(Outcome("done"))
    }
  }

  private func take(_ name: String, _ title: String, _ memory: Bool) {
    var list = snapshots[name] ?? []
    let parent = list.first { $0.isCurrent }?.identifier
    for index in list.indices { list[index].isCurrent = false }
    list.append(
      SnapshotStatus(
        identifier: "s\(list.count + 1)", title: title, parent: parent, time: 1_700_000_000,
        hasMemory: memory, size: 12 << 20, isCurrent: true))
    snapshots[name] = list
    change(name) {
      $0.snapshotCount = list.count
      $0.currentSnapshot = title
    }
  }

  private func sample(_ now: UInt64) {
    step += 1
    for index in machines.indices where machines[index].state == .running {
      let name = machines[index].name
      let start = started[name] ?? now
      started[name] = start
      machines[index].uptime = now - start
      let seed = name.utf8.reduce(7) { ($0 &* 31 &+ Int($1)) & 0xFFFF }
      let wave = (step * (3 + seed % 5) + seed) % 40
      machines[index].processorUse = Double(wave < 20 ? wave : 40 - wave) / 20
    }
    announce()
  }
}

enum FakeGuest {
  static let screen =
    "\u{1B}[2J\u{1B}[H\u{1B}[1;37;44m                     GNU GRUB  version 2.06                     "
    + "\u{1B}[0m\r\n\r\n  Minimal BASH-like line editing is supported.\r\n\r\ngrub> "

  /// Echoes, as a terminal line does.
  static func answer(to bytes: [UInt8]) -> [UInt8] {
    bytes.flatMap { byte -> [UInt8] in
      byte == 0x0D ? Array("\r\nok\r\ngrub> ".utf8) : byte == 0x7F ? [8, 32, 8] : [byte]
    }
  }
}
