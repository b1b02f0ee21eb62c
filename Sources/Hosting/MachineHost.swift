import CLinux
import Devices
import Inventory
import Machine
import Platform
import StateFile
import Synchronization

/// Owns one running machine: the board, a multiplexer for each serial port, and the control server.
///
/// The same class in every way of living: `uj host` runs it in a process of its own, `uj run` in the foreground.
package final class MachineHost: @unchecked Sendable {
  // @unchecked: everything that changes after `init` belongs to the thread that calls `run`; other threads come in by
  // `loop.perform`.

  /// How a run ended.
  package struct End: Sendable, Equatable {
    package var reason: String
    /// No fault.
    package var isClean: Bool
    /// What the guest gave by the debug-exit port.
    package var status: Int32?
    /// What a processor that gave up says of itself: several lines.
    package var report: String?

    package init(
      reason: String, isClean: Bool, status: Int32? = nil, report: String? = nil
    ) {
      self.reason = reason
      self.isClean = isClean
      self.status = status
      self.report = report
    }
  }

  package let name: String
  let plan: HostPlan
  let loop: EventLoop
  let machine: any HostedMachine
  let serial: [any SerialMultiplexer]
  /// One change of snapshots at a time.
  let snapshotWork = Mutex<Void>(())
  /// The way to another host that is under way, or the last.
  let move = Monitor<HostMove?>(nil)
  /// nil: the clock takes no snapshots.
  let autosnapClock: AutosnapClock?
  /// The earlier states that the machine's memory comes from, beside its own.
  let mappedStates: [String]
  private(set) var server: ControlServer?
  /// nil: this process is not confined.
  private(set) var sandbox: Sandbox.Report?
  /// System calls that were refused and of which was told.
  private var refusedCalls = 0
  private var record: RunRecord?
  private var end: End?
  private var stopper: PosixThread?
  /// Set while the guest is asked to power down.
  private var stopDeadline: UInt64?
  private var lastPress: UInt64 = 0
  private var lastSample: (time: UInt64, processorTime: UInt64) = (0, 0)
  private(set) var processorUse: Double = 0
  /// Files that tell of faults of this run.
  var crashReports: [String] = []
  private var signals: FileDescriptor?

  /// The guest has been asked to power down.
  var isStopping: Bool { stopDeadline != nil }

  /// How long a guest may take to power down before it counts as deaf to the button.
  static let stopPatience: UInt64 = 120_000_000_000

  /// Builds the machine and starts it.
  ///
  /// - Throws: one line; nothing is left running.
  package init(_ plan: HostPlan, parts: HostParts) throws(HostingError) {
    self.plan = plan
    autosnapClock = plan.autosnap.map { AutosnapClock($0) }
    mappedStates = plan.configuration.savedState.flatMap { StateFilePages.files(of: $0) } ?? []
    name = plan.configuration.name
    loop = try platform { () throws(PlatformError) in try EventLoop() }
    let debug: FileBackend?
    if let path = plan.debugPath { debug = try FileBackend(path) } else { debug = nil }
    let serial = try Self.makeSerial(plan, parts)
    self.serial = serial
    let mailbox = Mailbox()
    do {
      machine = try parts.makeMachine(
        plan.configuration, serial.map(\.backend), debug
      ) { event in mailbox.deliver(event) }
    } catch {
      for port in serial { port.close() }
      throw HostingError(error)
    }
    // Files are made only now: a machine that cannot be built leaves none.
    for (port, device) in zip(serial, machine.serialDevices) { port.connect(device) }
    mailbox.connect { [weak self] event in
      guard let self else { return }
      self.loop.perform { self.handle(event) }
    }
    do {
      try debug?.open()
      try begin()
    } catch {
      machine.stop()
      for port in serial { port.close() }
      throw error
    }
  }

  private static func makeSerial(
    _ plan: HostPlan, _ parts: HostParts
  ) throws(HostingError) -> [any SerialMultiplexer] {
    var serial: [any SerialMultiplexer] = []
    do {
      for place in plan.serial { serial.append(try parts.makeSerial(place)) }
    } catch {
      for port in serial { port.close() }
      throw error
    }
    return serial
  }

  private func begin() throws(HostingError) {
    if let path = plan.controlPath {
      server = try ControlServer(
        loop: loop, path: path, access: plan.access, service: self)
    }
    if let claim = plan.claim {
      let record = RunRecord()
      try inventoried { () throws(InventoryError) in
        try claim.inventory.write(record, claim.name, isLasting: false)
      }
      self.record = record
    }
    _ = CrashReport.kernelRelease
    if plan.isSandboxed {
      machine.prepareConfinement()
      do throws(HostingError) {
        sandbox = try Sandbox.enter(plan, translates: machine.executesInSoftware)
      } catch {
        finishRecord(End(reason: error.description, isClean: true))
        server?.close()
        throw error
      }
      log("sandbox: \(sandbox?.text ?? "")")
    }
    do {
      try machine.startRestored { [plan] in
        plan.onExecuting?()
        // From here on its disks change. What has failed before leaves a suspended machine as it was.
        if let claim = plan.claim { try claim.inventory.forgetSuspended(claim.name) }
      }
    } catch {
      let end = End(reason: "\(error)", isClean: true)
      finishRecord(end)
      server?.close()
      throw HostingError(.machine, "\(error)")
    }
    if let claim = plan.claim {
      do {
        try claim.inventory.makeRecordLast(claim.name)
      } catch {
        HostLog.write("\(name): \(error)")
      }
    }
    log("started; \(machine.acceleratorDescription)")
    lastSample.time = MonotonicClock.now
  }

  /// Serves clients until the machine's run is over, however it ends; then everything is flushed and closed.
  package func run() -> End {
    loop.schedule(at: MonotonicClock.now &+ 1_000_000_000, every: 1_000_000_000) { [weak self] in
      self?.tick()
    }
    while end == nil {
      do {
        try loop.runOnce(timeoutMilliseconds: nil)
      } catch {
        end = End(reason: "the host's event loop failed: \(error)", isClean: false)
      }
    }
    answerLastQuestion()
    stopper?.join()
    machine.stop()
    let end = self.end ?? End(reason: "stopped", isClean: true)
    finishRecord(end)
    log("ended: \(end.reason)")
    server?.notify(.events, "ended", ["reason": .string(end.reason), "clean": .bool(end.isClean)])
    for port in serial { port.close() }
    server?.close()
    return end
  }

  /// Signals, by default SIGTERM and SIGINT, end the machine in order. Call on the thread that will call `run`, with
  /// the signals blocked in all others.
  ///
  /// - Parameter received: hears which one came.
  package func handleSignals(
    _ numbers: [Int32] = [SIGTERM, SIGINT], received: (@Sendable (Int32) -> Void)? = nil
  ) throws(HostingError) {
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    let descriptor = try platform { () throws(PlatformError) in
      FileDescriptor(
        owning: try systemCall("signalfd") {
          signalfd(-1, &set, Int32(SFD_CLOEXEC) | Int32(SFD_NONBLOCK))
        })
    }
    let number = descriptor.rawValue
    signals = consume descriptor
    try platform { () throws(PlatformError) in
      try loop.watch(number, for: .readable) { [weak self] _ in
        if let signal = SignalDescriptor.read(number) { received?(signal) }
        self?.stopAtOnce()
      }
    }
  }

  /// The pseudo-terminals of ports that are nothing else.
  package var terminalDevices: [(port: Int, path: String)] {
    zip(plan.serial, serial).compactMap { place, multiplexer in
      guard place.target == .pty, let path = multiplexer.devicePath else { return nil }
      return (place.port, path)
    }
  }

  /// Ends the machine as if its power were cut; what was flushed is safe. Callable from any thread.
  package func requestStop() {
    loop.perform { [weak self] in self?.stopAtOnce() }
  }

  private func finishRecord(_ end: End) {
    guard let claim = plan.claim, var record else { return }
    record.end(reason: end.reason, isClean: end.isClean)
    do {
      try claim.inventory.write(record, claim.name)
    } catch {
      HostLog.write("\(name): \(error)")
    }
  }

  private func log(_ text: String) {
    if plan.logsEvents { HostLog.write("\(name): \(text)") }
  }

  // MARK: On the loop's thread

  private func handle(_ event: MachineEvent) {
    switch event {
    case .stateChanged:
      server?.notify(.events, "state", status().json)
    case .message(let text):
      log(text)
      plan.onMessage?(text)
      server?.notify(.events, "message", ["text": .string(text)])
    case .fault(let report): reportFault(report)
    case .ended(let reason):
      guard end == nil else { return }
      if case .failed(let report) = reason { log(report) }
      end = End(reason)
    }
  }

  func noteMessage(_ text: String) { handle(.message(text)) }

  private func tick() {
    let now = MonotonicClock.now
    let processorTime = machine.statistics().processorTime
    let elapsed = now &- lastSample.time
    if elapsed > 0 {
      let used =
        processorTime >= lastSample.processorTime ? processorTime - lastSample.processorTime : 0
      processorUse = Double(used) / Double(elapsed)
    }
    lastSample = (now, processorTime)
    tickAutosnap(now)
    noteRefusedCalls()
    machine.expireTrace()
    if let deadline = stopDeadline, now >= deadline {
      stopDeadline = nil
      let text = "the guest did not react to the power button; 'uj stop -f \(name)' forces it"
      handle(.message(text))
      server?.notify(.events, "state", status().json)
    }
    if stopDeadline != nil, now &- lastPress >= plan.buttonInterval {
      lastPress = now
      machine.pressPowerButton()
    }
    if let server, server.hasClients(of: .statistics) {
      server.notify(.statistics, "statistics", status().json)
    }
  }

  private func noteRefusedCalls() {
    let count = RefusedCalls.count
    // Whoever tries again every second is told of ever more seldom.
    guard sandbox != nil, count > 0, count >= refusedCalls &* 2 else { return }
    let text = "the sandbox has refused \(count) system call(s); see 'uj log --host \(name)'"
    refusedCalls = count
    handle(.message(text))
  }

  func stopGracefully() {
    machine.pressPowerButton()
    lastPress = MonotonicClock.now
    stopDeadline = lastPress &+ Self.stopPatience
    server?.notify(.events, "state", status().json)
  }

  func stopAtOnce() {
    guard stopper == nil, end == nil else { return }
    let machine = machine
    do {
      // `stop` waits for the machine's threads, and those may wait for a disk: not on the loop's thread.
      stopper = try PosixThread(name: "stopper") { [self] in
        machine.stop()
        loop.perform { self.handle(.ended(.stopped)) }
      }
    } catch {
      machine.stop()
      handle(.ended(.stopped))
    }
  }
}

extension MachineHost.End {
  init(_ end: MachineEnd) {
    switch end {
    case .powerOff: self.init(reason: "the guest powered off", isClean: true)
    case .stopped: self.init(reason: "stopped", isClean: true)
    case .suspended: self.init(reason: "suspended", isClean: true)
    case .moved: self.init(reason: "runs on another host now", isClean: true)
    case .reset: self.init(reason: "the guest asked for a reset", isClean: true)
    case .debugExit(let status):
      self.init(reason: "the guest ended with status \(status)", isClean: true, status: status)
    case .failed(let report):
      let line = report.split(separator: "\n").first.map(String.init) ?? "a processor failed"
      self.init(reason: line, isClean: false, report: report)
    }
  }
}

/// Keeps what the machine reports before its host is complete.
private final class Mailbox: Sendable {
  private struct State {
    var waiting: [MachineEvent] = []
    var receiver: (@Sendable (MachineEvent) -> Void)?
  }
  private let state = Mutex(State())

  func deliver(_ event: MachineEvent) {
    let receiver = state.withLock { state in
      if state.receiver == nil { state.waiting.append(event) }
      return state.receiver
    }
    receiver?(event)
  }

  func connect(_ receiver: @escaping @Sendable (MachineEvent) -> Void) {
    let waiting = state.withLock { state in
      state.receiver = receiver
      defer { state.waiting = [] }
      return state.waiting
    }
    for event in waiting { receiver(event) }
  }
}
