import Devices
import DiskImage
import GuestMemory
import Platform

/// The board's owner: builds it, runs it, builds it anew at each reset, and takes it down.
///
/// A reset is a power cycle of everything but RAM, disks and CMOS: no device has to know how to get back to its first
/// state, and none can forget a part of it. All methods may be called from any thread; the work is done by one
/// supervisor thread, so that a guest's own power-off and a person's `stop` cannot get in each other's way.
public final class Machine: Sendable {
  public let configuration: MachineConfiguration
  /// Which accelerator runs the guest and why, in one line.
  public let acceleratorDescription: String

  enum Request {
    case pause, resume, reset
    /// What a processor has died of: the state of all is told before anything else happens.
    case fault(String)
    case end(MachineEnd)
    case work(PausedWork)
  }

  struct Life {
    var state = MachineRunState.ready
    var requests: [Request] = []
    var board: Board
    var supervisor: PosixThread?
    /// Set when the supervisor is done.
    var isOver = false
    /// Its disks wait for ever: nothing of it can be closed any more.
    var isAbandoned = false
  }

  let parts: BoardParts
  let life: Monitor<Life>
  let events: @Sendable (MachineEvent) -> Void
  /// What the next saved state may rest on.
  let lastSaved = Monitor<SavingRound.Last?>(nil)

  /// Opens and builds everything; the guest does not run yet.
  ///
  /// - Parameters:
  ///   - serialBackends: the host's end of COM1, COM2, ... in order (at most four).
  ///   - consoleBackends: the host's end of the virtio console's ports: `configuration.consolePorts` of them.
  ///   - debugBackend: the host's end of port 0x402, where SeaBIOS reports.
  ///   - events: called on a thread of the machine's.
  /// - Throws: `MachineError`, one line.
  public init(
    _ configuration: MachineConfiguration, serialBackends: [any CharacterBackend],
    consoleBackends: [any CharacterBackend] = [], debugBackend: (any CharacterBackend)? = nil,
    events: @escaping @Sendable (MachineEvent) -> Void
  ) throws(MachineError) {
    let parts = try BoardParts(
      configuration, serialBackends: serialBackends, consoleBackends: consoleBackends,
      debugBackend: debugBackend)
    self.configuration = configuration
    self.parts = parts
    self.events = events
    acceleratorDescription = parts.accelerator.description
    let board: Board
    do {
      try parts.savedState?.check(parts)
      board = try Board(parts, from: parts.savedState)
    } catch {
      parts.close()
      throw error
    }
    parts.notices.set { events(.message($0)) }
    for line in parts.warnings { events(.message(line)) }
    for (index, network) in parts.networks.enumerated() {
      network.report(to: parts.notices, index: index)
    }
    for line in board.steps.map(\.description) { events(.message(line)) }
    life = Monitor(Life(board: board))
  }

  /// Before the process is confined: takes what cannot be had afterwards and a reset wants.
  public func prepareConfinement() { RequestEngine.stockRings() }

  /// Software executes the guest, or may have to, and makes code of the guest's.
  public var executesInSoftware: Bool { !parts.accelerator.isHardware }

  /// The guest's ends of the serial ports, in the order of the back ends. They stay the same through resets.
  public var serialDevices: [any CharacterDevice] { parts.serialRelays }

  /// The network adapters. They stay the same through resets.
  public var networkPorts: [NetworkPort] { parts.networks }

  /// Where programs of the host meet the guest's sockets; nil without a socket device.
  public var socketPoint: GuestSocketPoint? { parts.socketPoint }

  /// The memory balloon, which stays the same through resets; nil without one.
  public var balloon: MemoryBalloon? { parts.balloon }

  /// The same for the ports of the virtio console.
  public var consoleDevices: [any CharacterDevice] { parts.consoleRelays }

  /// The board of the present life: the next reset replaces it.
  var board: Board { life.read { $0.board } }

  public var runState: MachineRunState { life.read { $0.state } }

  /// Starts the processors.
  ///
  /// - Throws: `MachineError` when the host gives no threads, the machine was started before, or the memory of its saved
  ///   state is damaged.
  public func start() throws(MachineError) {
    try parts.savedState?.verify()
    try begin()
  }

  func begin() throws(MachineError) {
    guard life.read({ $0.supervisor == nil && $0.state == .ready }) else {
      throw MachineError("\(configuration.name) was started before")
    }
    life.read { $0.board }.signals.set { [weak self] outcome in self?.boardEnded(outcome) }
    do {
      try life.read { $0.board }.startThreads()
      ask(.resume)
      let supervisor = try PosixThread(name: "supervisor") { [self] in supervise() }
      life.update { $0.supervisor = supervisor }
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  /// Stops the guest's time; memory and devices stay as they are.
  public func pause() { ask(.pause) }

  public func resume() { ask(.resume) }

  /// Presses the power button: the guest is asked to shut down.
  public func pressPowerButton() { life.read { $0.board }.pressPowerButton() }

  /// The reset button.
  public func reset() { ask(.reset) }

  /// Ends the run at once, flushes and closes the disks, and waits until all threads are gone. The end is reported as
  /// `MachineEvent.ended`. Not from inside an event.
  public func stop() {
    let (supervisor, isAbandoned) = life.read { ($0.supervisor, $0.isAbandoned) }
    guard !isAbandoned else { return }
    guard let supervisor else {
      if life.update({ life in
        defer {
          life.isOver = true
          life.state = .stopped
        }
        return !life.isOver
      }) {
        life.read { $0.board }.tearDown()
        parts.close()
      }
      return
    }
    ask(.end(.stopped))
    life.wait { $0.isOver ? true : nil }
    supervisor.join()
  }

  /// Counters, read without stopping the guest.
  public func statistics() -> MachineStatistics {
    life.read { $0.board }.statistics()
  }

  // MARK: The supervisor

  private func ask(_ request: Request) {
    life.update { if !$0.isOver && $0.state != .stopped { $0.requests.append(request) } }
  }

  /// From a device or a processor, on a thread that must not wait.
  private func boardEnded(_ outcome: BoardOutcome) {
    switch outcome {
    case .reset:
      if configuration.stopsOnReset { ask(.end(.reset)) } else { ask(.reset) }
    case .tripleFault(let processor):
      ask(.fault("processor \(processor): triple fault"))
      ask(configuration.stopsOnReset ? .end(.reset) : .reset)
    case .powerOff: ask(.end(.powerOff))
    case .pause: ask(.pause)
    case .debugExit(let status): ask(.end(.debugExit(status: status)))
    case .failed(let report):
      ask(.fault(report))
      ask(.end(.failed(report: report)))
    }
  }

  private func supervise() {
    var watch = HaltWatch()
    while true {
      let request = life.wait(until: watch.deadline) {
        $0.requests.isEmpty ? nil : $0.requests.removeFirst()
      }
      guard let request else {
        lookForHalt(&watch)
        continue
      }
      watch.restart()
      switch request {
      case .resume:
        changeState(to: .running) { board in
          board.release()
          board.resume()
        }
      case .pause: changeState(to: .paused) { $0.pause() }
      case .reset: powerCycle()
      case .fault(let reason): reportFault(reason)
      case .work(let work):
        guard let end = carryOut(work) else { continue }
        finish(end)
        return
      case .end(let end):
        finish(end)
        return
      }
    }
  }

  private func lookForHalt(_ watch: inout HaltWatch) {
    let (state, board) = life.read { ($0.state, $0.board) }
    switch state {
    case .running: if watch.look(at: board) { setState(.halted) }
    case .halted: if watch.hasWoken(board) { setState(.running) }
    case .ready, .paused, .stopped: watch.restart()
    }
  }

  func setState(_ state: MachineRunState) {
    life.update { $0.state = state }
    events(.stateChanged(state))
  }

  private func changeState(to state: MachineRunState, _ action: (Board) -> Void) {
    guard life.read({ $0.state }) != state else { return }
    action(life.read { $0.board })
    setState(state)
  }

  private func powerCycle() {
    let (old, state) = life.read { ($0.board, $0.state) }
    old.pause()
    old.tearDown()
    do {
      let board = try Board(parts, after: old)
      board.signals.set { [weak self] outcome in self?.boardEnded(outcome) }
      try board.startThreads()
      life.update { life in
        life.board = board
        // What the old board still asked for is void.
        life.requests.removeAll { if case .reset = $0 { true } else { false } }
      }
      events(.message("reset"))
      if state == .running || state == .halted { board.resume() }
      if state == .halted { setState(.running) }
    } catch {
      life.update { $0.requests.insert(.end(.failed(report: "reset: \(error)")), at: 0) }
    }
  }

  private func finish(_ end: MachineEnd) {
    let board = life.read { $0.board }
    board.pause()
    board.tearDown()
    parts.close()
    // The state first: who hears of the end finds a machine that has ended.
    let left = life.update { life in
      life.state = .stopped
      defer { life.requests = [] }
      return life.requests
    }
    for case .work(let work) in left {
      work.end(.failure(MachineError("\(configuration.name): has ended meanwhile")))
    }
    events(.stateChanged(.stopped))
    events(.ended(end))
    life.update { $0.isOver = true }
  }
}
