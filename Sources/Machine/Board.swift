import Devices
import Firmware
import GuestMemory
import KVM
import Platform
import Processor
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
  private let virtualization: KernelVirtualization
  private let runSwitch: RunSwitch
  private let threads: [ProcessorThread]
  private let exitsBefore: UInt64
  private let processorTimeBefore: UInt64

  /// - Parameter old: the board that this one follows after a reset: gives its CMOS and its counters.
  init(_ parts: BoardParts, after old: Board? = nil) throws(MachineError) {
    var builder = BoardBuilder()
    let signals = BoardSignals()
    let runSwitch = RunSwitch()
    let virtualization = try builder.step("virtual machine") { () throws(MachineError) in
      try KernelVirtualization(system: parts.accelerator.system, memory: parts.memory)
    }
    let devices = try builder.step("devices") { () throws(MachineError) in
      try BoardDevices(
        parts, sink: virtualization, doorbells: KernelDoorbells(virtualization.machine),
        signals: signals, cmos: old?.devices.cmosContent)
    }
    let entry = try builder.step("boot content") { () throws(MachineError) in
      try parts.boot.place(in: parts.memory, virtualization: virtualization, devices: devices)
    }
    let processors = try builder.step("processors") { () throws(MachineError) in
      try virtualization.makeProcessors(
        count: parts.configuration.processorCount,
        hidesUnemulatedInstructions: parts.accelerator.emulatesSupervisorMode)
    }
    if let entry {
      do {
        try processors[0].restoreState(entry)
      } catch {
        throw MachineError("\(error)")
      }
    }
    threads = processors.map { processor in
      ProcessorThread(
        processor, ports: devices.ports, memoryBus: devices.memoryBus, runSwitch: runSwitch
      ) { _, outcome in
        switch outcome {
        case .reset: signals.send(.reset)
        case .powerOff: signals.send(.powerOff)
        case .failed(let report): signals.send(.failed(report: report))
        }
      }
    }
    for (relay, port) in zip(parts.serialRelays, devices.serialPorts) { relay.connect(port) }
    exitsBefore = old?.exitCount ?? 0
    processorTimeBefore = old?.processorTime ?? 0
    self.parts = parts
    self.signals = signals
    self.runSwitch = runSwitch
    self.virtualization = virtualization
    self.devices = devices
    steps = builder.steps
  }

  // MARK: Running

  /// Starts the processors' threads; they wait for `resume`.
  func startThreads() throws(PlatformError) {
    for thread in threads { try thread.start() }
  }

  func resume() {
    parts.clock.resume()
    devices.resume()
    runSwitch.control.update { $0.mode = .running }
  }

  /// Comes back when no processor executes guest code and no device works on guest memory.
  func pause() {
    parkProcessors()
    devices.pause()
    parts.clock.pause()
  }

  /// Ends the threads. The board does nothing afterwards.
  func tearDown() {
    parkProcessors()
    runSwitch.control.update { $0.mode = .exiting }
    for thread in threads { thread.join() }
    devices.stop()
    for relay in parts.serialRelays { relay.connect(nil) }
  }

  private func parkProcessors() {
    runSwitch.control.update { $0.mode = .parked }
    // A kick may come before the thread is in the guest; it is remembered there (immediate_exit), so once is enough.
    for thread in threads { thread.processor.interrupt() }
    let count = threads.filter(\.isStarted).count
    runSwitch.control.wait { $0.parked >= count ? true : nil }
  }

  func pressPowerButton() { devices.pressPowerButton() }

  // MARK: Counters

  private var exitCount: UInt64 {
    threads.reduce(exitsBefore) { $0 &+ $1.exitCount.load(ordering: .relaxed) }
  }

  private var processorTime: UInt64 {
    threads.reduce(processorTimeBefore) { $0 &+ $1.processorTime }
  }

  func statistics() -> MachineStatistics {
    var statistics = MachineStatistics()
    statistics.exits = exitCount
    statistics.processorTime = processorTime
    statistics.residentMemory = parts.memory.residentSize
    statistics.uptime = parts.clock.now.rawValue
    for disk in parts.disks {
      statistics.diskBytesRead &+= disk.bytesRead
      statistics.diskBytesWritten &+= disk.bytesWritten
    }
    return statistics
  }
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
