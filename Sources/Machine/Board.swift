import Devices
import Firmware
import GuestMemory
import Platform
import Processor
import StateFile
import Synchronization

/// One power-on life of the machine: processors, buses and devices, put together by a list of named steps.
///
/// A reset throws the board away and builds another. Only the supervisor calls the methods that change it.
final class Board: Sendable {
  /// A step of the building and what it took.
  struct Step: CustomStringConvertible {
    var name: String
    var nanoseconds: UInt64
    var description: String { "built \(name) in \(nanoseconds / 1000) us" }
  }

  let parts: BoardParts
  let signals: BoardSignals
  let steps: [Step]
  let devices: BoardDevices
  /// It went on from a saved state: memory that was not written since is that state's.
  let isRestored: Bool
  private let virtualization: any Virtualization
  private let runSwitch: RunSwitch
  private let processors: [any BoardProcessor]
  private let threads: [ProcessorThread]
  private let before: ProcessorCounters
  /// Only where the kernel emulates the guest's kernel mode.
  private let watch = Mutex<EmulationWatch?>(nil)

  /// - Parameters:
  ///   - old: the board that this one follows after a reset: gives its CMOS and its counters.
  ///   - saved: what the board goes on from instead of being switched on.
  init(
    _ parts: BoardParts, after old: Board? = nil, from saved: SavedBoard? = nil
  ) throws(MachineError) {
    var builder = BoardBuilder()
    let signals = BoardSignals()
    let virtualization = try builder.step("virtual machine") { () throws(MachineError) in
      try parts.accelerator.makeVirtualization(parts.configuration, memory: parts.memory)
    }
    let interrupts = virtualization.makeInterrupts()
    let devices = try builder.step("devices") { () throws(MachineError) in
      try BoardDevices(
        parts, virtualization: virtualization, interrupts: interrupts, signals: signals,
        cmos: old?.devices.chips.cmosContent)
    }
    let placement = try builder.step("boot content") { () throws(MachineError) in
      guard saved == nil else {
        try parts.boot.show(virtualization: virtualization)
        return BootContent.Placement()
      }
      return try parts.boot.place(
        in: parts.memory, virtualization: virtualization, devices: devices)
    }
    processors = try builder.step("processors") { () throws(MachineError) in
      virtualization.connect(devices.buses)
      let processors = try virtualization.makeProcessors(showing: try saved?.leaves())
      do {
        if let entry = placement.entry { try processors[0].restoreState(entry) }
      } catch {
        throw MachineError("\(error)")
      }
      return processors
    }
    let memoryBus = devices.memoryBus
    let unikernel = devices.functions.unikernel
    let runSwitch = RunSwitch(
      processors, wake: { unikernel?.interrupt() }, work: { memoryBus.collect() })
    self.runSwitch = runSwitch
    unikernel?.connect(
      to: runSwitch, start: placement.unikernel, leaves: virtualization.shownLeaves.first,
      memory: parts.memory)
    threads = Self.makeThreads(
      processors, memory: parts.memory, devices: devices, interrupts: interrupts,
      runSwitch: runSwitch, signals: signals, completionParts: virtualization.completionParts,
      debugPoint: parts.debugPoint)
    for (relay, port) in zip(parts.serialRelays, devices.chips.serialPorts) { relay.connect(port) }
    for (relay, port) in zip(parts.consoleRelays, devices.functions.consolePorts) {
      relay.connect(port)
    }
    before = old?.counters ?? ProcessorCounters(processorCount: processors.count)
    self.parts = parts
    self.signals = signals
    isRestored = saved != nil
    self.virtualization = virtualization
    self.devices = devices
    if let saved {
      let (boardProcessors, clock) = (processors, parts.clock)
      do throws(MachineError) {
        try builder.step("saved state") { () throws(MachineError) in
          try saved.restore(
            devices, boardProcessors, virtualization, clock: clock, memory: parts.memory)
        }
      } catch {
        devices.stop()
        virtualization.stop()
        throw error
      }
    }
    steps = builder.steps
  }

  /// Everything but memory. Only while paused.
  func saveState() throws(MachineError) -> [StateManifest.Section] {
    var states = BoardStates()
    try states.add(processors, buses: devices.buses)
    try states.add(devices)
    try states.add(virtualization, clock: parts.clock)
    return states.sections
  }

  private static func makeThreads(
    _ processors: [any BoardProcessor], memory: GuestMemory, devices: BoardDevices,
    interrupts: BoardInterrupts, runSwitch: RunSwitch, signals: BoardSignals,
    completionParts: CompletionParts?, debugPoint: DebugPoint
  ) -> [ProcessorThread] {
    if let router = interrupts.router, let boot = processors[0] as? any ExternalInterruptAcceptor {
      interrupts.external?.connect(boot, to: router)
    }
    let buses = devices.buses
    let scheduling = CoreScheduling()
    return processors.map { processor in
      ProcessorThread(
        processor, buses: buses, memory: memory, runSwitch: runSwitch, router: interrupts.router,
        externalInterrupts: processor.index == 0 ? interrupts.external : nil,
        scheduling: scheduling, completionParts: completionParts, debugPoint: debugPoint
      ) { outcome in
        switch outcome {
        case .reset: signals.send(.reset)
        case .tripleFault: signals.send(.tripleFault(processor: processor.index))
        case .powerOff: signals.send(.powerOff)
        case .failed(let report): signals.send(.failed(report: report))
        }
      }
    }
  }

  /// What CPUID tells each processor.
  var shownLeaves: [[CPUIDLeaf]] { virtualization.shownLeaves }

  // MARK: What is written while memory is copied

  /// While paused. False: this accelerator cannot tell.
  func startTracking() throws(MachineError) -> Bool { try virtualization.startTracking() }

  /// Offsets in the memory file that were written since the last call.
  ///
  /// - Parameter isStopped: the board is paused, and nothing is left out.
  func takeWritten(isStopped: Bool) throws(MachineError) -> [Range<UInt64>] {
    try virtualization.takeWritten(isStopped: isStopped)
  }

  func stopTracking() { virtualization.stopTracking() }

  // MARK: Running

  /// Starts the processors' threads; they wait for `resume`.
  func startThreads() throws(PlatformError) {
    for thread in threads { try thread.start() }
    if virtualization.completionParts?.mayWantResidence == true {
      let watch = try EmulationWatch(threads)
      self.watch.withLock { $0 = watch }
    }
  }

  func resume() {
    virtualization.continueTime()
    parts.clock.resume()
    devices.resume()
    runSwitch.resume()
  }

  /// Comes back when no processor executes guest code and no device works on guest memory.
  func pause() {
    runSwitch.park()
    devices.pause()
    parts.clock.pause()
    virtualization.stopTime()
  }

  /// Lets processors go on that a debugger has stopped, with the next `resume`.
  func release() { runSwitch.release() }

  /// Stops the processors for good, whatever the devices wait for.
  func abandon() { runSwitch.askToPark() }

  /// Ends the threads. The board does nothing afterwards.
  func tearDown() {
    watch.withLock { $0 }?.stop()
    runSwitch.park()
    runSwitch.end()
    for thread in threads { thread.join() }
    devices.stop()
    virtualization.stop()
    for relay in parts.serialRelays + parts.consoleRelays { relay.connect(nil) }
  }

  func pressPowerButton() { devices.chips.pressPowerButton() }

  /// Whether all processors are halted with interrupts off, or were never started. Stops them for a moment.
  func isStuck() -> Bool {
    runSwitch.park()
    defer { runSwitch.resume() }
    return processors.allSatisfy { $0.isStuck }
  }

  // MARK: Registers, while paused

  var processorCount: Int { processors.count }

  /// Everything architectural of a processor, between two instructions.
  func processorState(_ index: Int) throws -> ProcessorState {
    guard processors.indices.contains(index) else {
      throw MachineError("there is no processor \(index)")
    }
    try BoardStates.settle(processors[index], devices.buses)
    return try processors[index].saveState()
  }

  /// The same for a report of a fault: an access that was under way stays so.
  func reportedState(_ index: Int, isParked: Bool) throws -> ProcessorState {
    if isParked, let state = try? processorState(index) { return state }
    return try processors[index].saveState()
  }

  func setProcessorState(_ state: ProcessorState, _ index: Int) throws {
    guard processors.indices.contains(index) else {
      throw MachineError("there is no processor \(index)")
    }
    try processors[index].restoreState(state)
  }

  // MARK: Counters

  /// What the processors have done since the machine was started.
  var counters: ProcessorCounters {
    var counters = before
    for (index, thread) in threads.enumerated() {
      counters.exits &+= thread.exitCount.load(ordering: .relaxed)
      counters.unknownRegisterAccesses &+= thread.unknownRegisterCount.load(ordering: .relaxed)
      counters.unknownRegisterAccesses &+= processors[index].unknownRegisterCount
      counters.completions.merge(thread.completions.values) { $0 &+ $1 }
      if let count = processors[index].executedInstructions {
        counters.instructions = (counters.instructions ?? 0) &+ count
      }
      counters.times[index] &+= thread.processorTime
    }
    return counters
  }

  func statistics() -> MachineStatistics {
    let counters = counters
    var statistics = MachineStatistics()
    statistics.exits = counters.exits
    statistics.unknownRegisterAccesses = counters.unknownRegisterAccesses
    statistics.completedInstructions = Dictionary(
      uniqueKeysWithValues: counters.completions.map { ($0.key.rawValue, $0.value) })
    statistics.processorTimes = counters.times
    statistics.instructions = counters.instructions
    statistics.processorTime = counters.times.reduce(0, &+)
    statistics.residentMemory = parts.memory.residentSize
    statistics.uptime = parts.clock.now.rawValue
    for disk in parts.disks {
      let disk = disk.counters.statistics
      statistics.diskBytesRead &+= disk.reads.bytes
      statistics.diskBytesWritten &+= disk.writes.bytes
      statistics.disks.append(disk)
    }
    statistics.diskBytesRead &+= parts.tray?.bytesRead ?? 0
    return statistics
  }
}

/// Sums over the boards of a machine.
struct ProcessorCounters: Equatable {
  var exits: UInt64 = 0
  var unknownRegisterAccesses: UInt64 = 0
  /// nil where nobody counts them.
  var instructions: UInt64?
  /// Instructions executed in software that the kernel could not emulate.
  var completions: [CompletedInstruction: UInt64] = [:]
  /// CPU time of each processor's thread, nanoseconds.
  var times: [UInt64]

  init(processorCount: Int) { times = Array(repeating: 0, count: processorCount) }
}

/// Runs the steps of building a board and notes what each took.
struct BoardBuilder {
  private(set) var steps: [Board.Step] = []

  mutating func step<Result>(
    _ name: String, _ body: () throws(MachineError) -> Result
  ) throws(MachineError) -> Result {
    let start = MonotonicClock.now
    let result = try body()
    steps.append(Board.Step(name: name, nanoseconds: MonotonicClock.now - start))
    return result
  }
}
