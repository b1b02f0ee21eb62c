import Devices
import GuestMemory
import KVM
import Processor
import StateFile

/// A state file that a board is to go on from.
final class SavedBoard: Sendable {
  private let reader: StateFileReader

  /// Reads everything but memory.
  ///
  /// - Throws: one line that names the file.
  init(path: String) throws(MachineError) {
    do throws(StateFileError) {
      reader = try StateFileReader(path: path)
    } catch {
      throw MachineError("\(error)")
    }
  }

  /// Compares memory with its checksums, which takes reading all of it.
  func verify() throws(MachineError) {
    do throws(StateFileError) {
      try reader.verifyMemory()
    } catch {
      throw MachineError("\(error)")
    }
  }

  private func refusal(_ reason: String) -> MachineError {
    MachineError("\(StateFileError.mismatch(path: reader.path, reason: reason))")
  }

  func makeMemory(size: UInt64, hugePages: HugePageAdvice) throws(MachineError) -> GuestMemory {
    guard size == reader.memorySize else {
      throw refusal(
        "memory was \(reader.memorySize >> 20) MiB and is \(size >> 20) MiB now")
    }
    do throws(StateFileError) {
      return try reader.makeMemory(hugePages: hugePages)
    } catch {
      throw MachineError("\(error)")
    }
  }

  /// - Throws: naming what is otherwise than it was.
  func check(_ parts: BoardParts) throws(MachineError) {
    let differences = reader.manifest.differences(
      from: parts.facts, except: [ChipCrossing.subject])
    guard differences.isEmpty else {
      let more = differences.count > 3 ? "; and \(differences.count - 3) more" : ""
      throw refusal(differences.prefix(3).joined(separator: "; ") + more)
    }
  }

  // MARK: Parts

  private func part<State: Decodable>(
    _ name: String, version: Int, as type: State.Type
  ) throws(MachineError) -> State {
    guard let section = reader.manifest.section(name) else {
      throw refusal("it has no state of \(name)")
    }
    guard section.version == version else {
      throw refusal(
        "its state of \(name) is of version \(section.version), and this uj knows \(version): use "
          + (section.version > version ? "a newer uj" : "the uj that saved it")
          + ", or start it with --discard-state")
    }
    do throws(StateValueError) {
      return try StateDecoder.decode(type, from: section.state)
    } catch {
      throw refusal("its state of \(name) is damaged: \(error)")
    }
  }

  private func restore<Device: Snapshottable>(
    _ name: String, _ device: Device
  ) throws(MachineError) {
    // Devices are classes: the copy is the device.
    var device = device
    let state = try part(name, version: Device.stateVersion, as: Device.State.self)
    try damaged(name) { () throws(DeviceStateError) in try device.check(state) }
    device.restoreState(state)
  }

  /// What CPUID is to tell each processor.
  func leaves() throws(MachineError) -> [[CPUIDLeaf]] {
    try part(
      BoardStates.Name.leaves, version: BoardStates.processorVersion, as: [[CPUIDLeaf]].self)
  }

  /// Into a new board that does nothing yet. Time first, which devices ask for; devices before the processors, and those
  /// before the interrupt chips: what lines and messages do on the way is overwritten by the state of where they go.
  func restore(
    _ devices: BoardDevices, _ processors: [any BoardProcessor],
    _ virtualization: any Virtualization, clock: BoardClock, memory: GuestMemory
  ) throws(MachineError) {
    devices.pause()
    clock.restore(
      MachineTime(
        nanoseconds: try part(
          BoardStates.Name.time, version: BoardStates.timeVersion, as: UInt64.self)))
    var kernel = try part(
      BoardStates.Name.virtualization, version: VirtualizationState.version,
      as: VirtualizationState.self)
    let crossing = ChipCrossing(saved: kernel.chips)
    try restore(devices.functions)
    try restore(devices.chips, crossing, now: clock.now)
    try restore(processors, memory)
    if let router = devices.interrupts.router {
      try restore(router, devices.interrupts.external, crossing)
      kernel.chips = nil
    } else if kernel.chips == nil {
      kernel.chips = try kernelChips(clock: kernel.clock)
    }
    try virtualization.restoreState(kernel)
  }

  /// Our chips, from the state of ours or of the kernel's.
  private func restore(
    _ router: InterruptRouter, _ external: ExternalInterrupts?, _ crossing: ChipCrossing
  ) throws(MachineError) {
    guard crossing.saved == nil else {
      return try damaged(Name.interruptChips) { () throws(DeviceStateError) in
        try crossing.restore(router)
      }
    }
    try restore(Name.interruptChips, router)
    guard let owed = try owedVector else { return }
    if let external {
      external.restoreState(.init(owed: owed))
    } else {
      var state = router.saveState()
      state.takeBack(owed)
      router.restoreState(state)
    }
  }

  /// What our 8259As gave away when the state was saved and the processor had not taken.
  private var owedVector: UInt8? {
    get throws(MachineError) {
      guard reader.manifest.section(Name.externalInterrupts) != nil else { return nil }
      return try part(
        Name.externalInterrupts, version: ExternalInterrupts.stateVersion,
        as: ExternalInterrupts.State.self
      ).owed
    }
  }

  /// The kernel's chips, of a state with ours.
  private func kernelChips(clock: UInt64) throws(MachineError) -> InterruptChipState {
    var router = try part(
      Name.interruptChips, version: InterruptRouter.stateVersion, as: InterruptRouter.State.self)
    let timer = try part(
      Name.intervalTimer, version: ProgrammableIntervalTimer.stateVersion,
      as: ProgrammableIntervalTimer.self)
    let port = try part(
      Name.systemControlB, version: SystemControlPortB.stateVersion,
      as: SystemControlPortB.State.self)
    try damaged(Name.interruptChips) { () throws(DeviceStateError) in try router.check() }
    try damaged(Name.intervalTimer) { () throws(DeviceStateError) in
      try ProgrammableIntervalTimer().check(timer)
    }
    if let owed = try owedVector { router.takeBack(owed) }
    return ChipCrossing.kernelChips(
      router, timer, port: port, isReplaced: router.isReplaced, clock: clock)
  }

  private typealias Name = BoardStates.Name

  private func damaged(
    _ name: String, _ body: () throws(DeviceStateError) -> Void
  ) throws(MachineError) {
    do throws(DeviceStateError) {
      try body()
    } catch {
      throw refusal("its state of \(name) is damaged: \(error)")
    }
  }

  private func restore(_ functions: BoardFunctions) throws(MachineError) {
    try restore("PCI", functions.bus)
    for (index, transport) in functions.transports.enumerated() {
      let name = "virtio \(index) (\(transport.device.type))"
      try restore(name, transport)
      if let device = transport.device as? any Snapshottable {
        try restore("\(name), device", device)
      }
    }
    if let storage = functions.serialStorage { try restore("AHCI", storage) }
    if let storage = functions.parallelStorage { try restore("IDE", storage) }
    if let drive = functions.opticalDrive { try restore("CD-ROM drive", drive) }
    for (index, adapter) in functions.plainAdapters.enumerated() {
      try restore("E1000 \(index)", adapter)
    }
    if let watchdog = functions.watchdog { try restore("watchdog", watchdog.timer) }
    if let display = functions.display { try restore("display", display) }
  }

  private func restore(
    _ chips: BoardChips, _ crossing: ChipCrossing, now: MachineTime
  ) throws(MachineError) {
    for (index, port) in chips.serialPorts.enumerated() { try restore("COM\(index + 1)", port) }
    try restore("power management", chips.power)
    try restore("real-time clock", chips.realTimeClock)
    try restore("keyboard", chips.keyboard)
    try restore("system control", chips.systemControl)
    try restore("DMA", chips.memoryAccess)
    try restore("firmware configuration", chips.firmwareConfiguration)
    if let timer = chips.intervalTimer, let control = chips.systemControlB {
      if crossing.saved == nil {
        try restore(Name.intervalTimer, timer)
        try restore(Name.systemControlB, control)
      } else {
        try damaged(Name.intervalTimer) { () throws(DeviceStateError) in
          try crossing.restore(timer, control, now: now)
        }
      }
    }
    // Last of those with lines: it may cut the others off.
    try restore("event timer", chips.eventTimer)
  }

  // MARK: Processors

  /// Registers that tell the host where in the guest's memory to keep the guest informed, and how many bytes: writing
  /// them writes there at once, over what the restored guest has there.
  private static let informed: [(index: UInt32, mask: UInt64, count: Int)] = [
    (0x11, .max, 12), (0x4B56_4D00, .max, 12), (0x12, ~1, 32), (0x4B56_4D01, ~1, 32),
    (0x4B56_4D03, ~0x3F, 64),
  ]

  private func restore(
    _ processors: [any BoardProcessor], _ memory: GuestMemory
  ) throws(MachineError) {
    var kept: [(address: GuestAddress, bytes: [UInt8])] = []
    for processor in processors {
      let state = try part(
        BoardStates.Name.processor(processor.index), version: BoardStates.processorVersion,
        as: ProcessorState.self)
      for register in state.modelSpecificRegisters where register.value != 0 {
        for place in Self.informed where place.index == register.index {
          let address = GuestAddress(register.value & place.mask)
          if let bytes = try? memory.bytes(at: address, count: place.count) {
            kept.append((address, bytes))
          }
        }
      }
      do throws(ProcessorError) {
        try processor.restoreState(state)
      } catch {
        throw refusal("\(error)")
      }
    }
    for (address, bytes) in kept.reversed() { try? memory.write(bytes, at: address) }
  }
}
