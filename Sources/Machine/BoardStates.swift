import Devices
import Processor
import StateFile

/// The states of a board's devices, collected for a state file.
struct BoardStates {
  private(set) var sections: [StateManifest.Section] = []

  /// Names of sections that several places know.
  enum Name {
    static let leaves = "what CPUID tells"
    static let time = "machine time"
    static let virtualization = "virtualization"
    static let interruptChips = "interrupt chips"
    static let externalInterrupts = "external interrupts"
    static let intervalTimer = "interval timer"
    static let systemControlB = "system control B"
    static func processor(_ index: Int) -> String { "processor \(index)" }
  }

  /// `ProcessorState` and what CPUID tells.
  static let processorVersion = 1
  static let timeVersion = 1

  private mutating func add<State: Encodable>(
    _ name: String, version: Int, _ state: State
  ) throws(MachineError) {
    do {
      sections.append(.init(name: name, version: version, state: try StateEncoder.encode(state)))
    } catch {
      throw MachineError("\(name): its state cannot be saved: \(error)")
    }
  }

  private mutating func add<Device: Snapshottable>(
    _ name: String, _ device: Device
  ) throws(MachineError) {
    try add(name, version: Device.stateVersion, device.saveState())
  }

  // MARK: The parts of a board, which is paused

  mutating func add(
    _ processors: [any BoardProcessor], buses: BusAccess
  ) throws(MachineError) {
    for processor in processors {
      let state: ProcessorState
      do {
        try Self.settle(processor, buses)
        state = try processor.saveState()
      } catch {
        throw MachineError("\(error)")
      }
      try add(Name.processor(processor.index), version: Self.processorVersion, state)
    }
  }

  /// Finishes the access that the processor was stopped in.
  static func settle(
    _ processor: any BoardProcessor, _ buses: BusAccess
  ) throws(ProcessorError) {
    // Strings of accesses come in parts of up to 4 KiB; a guest cannot make more of one instruction than that.
    for _ in 0..<4096 {
      guard let exit = try processor.completeExit() else { return }
      switch exit {
      case .portRead(let port, let width, let count, let data):
        buses.readPort(port, width, count, data)
      case .portWrite(let port, let width, let count, let data):
        buses.writePort(port, width, count, data)
      case .memoryRead(let address, let count, let data): buses.readMemory(address, count, data)
      case .memoryWrite(let address, let count, let data): buses.writeMemory(address, count, data)
      default: return
      }
    }
  }

  mutating func add(_ devices: BoardDevices) throws(MachineError) {
    let functions = devices.functions
    try add("PCI", functions.bus)
    for (index, transport) in functions.transports.enumerated() {
      let name = "virtio \(index) (\(transport.device.type))"
      try add(name, transport)
      if let device = transport.device as? any Snapshottable {
        try add("\(name), device", device)
      }
    }
    if let storage = functions.serialStorage { try add("AHCI", storage) }
    if let storage = functions.parallelStorage { try add("IDE", storage) }
    if let drive = functions.opticalDrive { try add("CD-ROM drive", drive) }
    for (index, adapter) in functions.plainAdapters.enumerated() {
      try add("E1000 \(index)", adapter)
    }
    if let watchdog = functions.watchdog { try add("watchdog", watchdog.timer) }
    if let display = functions.display { try add("display", display) }
    try add(devices.chips)
    if let router = devices.interrupts.router { try add(Name.interruptChips, router) }
    if let external = devices.interrupts.external { try add(Name.externalInterrupts, external) }
  }

  private mutating func add(_ chips: BoardChips) throws(MachineError) {
    for (index, port) in chips.serialPorts.enumerated() { try add("COM\(index + 1)", port) }
    try add("power management", chips.power)
    try add("real-time clock", chips.realTimeClock)
    try add("keyboard", chips.keyboard)
    try add("event timer", chips.eventTimer)
    try add("system control", chips.systemControl)
    try add("DMA", chips.memoryAccess)
    try add("firmware configuration", chips.firmwareConfiguration)
    if let timer = chips.intervalTimer { try add(Name.intervalTimer, timer) }
    if let control = chips.systemControlB { try add(Name.systemControlB, control) }
  }

  mutating func add(
    _ virtualization: any Virtualization, clock: BoardClock
  ) throws(MachineError) {
    try add(Name.leaves, version: Self.processorVersion, virtualization.shownLeaves)
    try add(Name.time, version: Self.timeVersion, clock.now.rawValue)
    try add(
      Name.virtualization, version: VirtualizationState.version, try virtualization.saveState())
  }
}
