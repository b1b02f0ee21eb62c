import CLinux
import Devices
import GuestMemory
import KVM
import Processor
import SoftProcessor
import Synchronization

/// A board's share of /dev/kvm: the virtual machine, its memory slots and its chips in the kernel.
final class KernelVirtualization: Virtualization, InterruptSink {
  /// Slots of RAM come first; these follow.
  private enum Slot {
    static let firmware: UInt32 = 8
    static let optionROMs: Range<UInt32> = 16..<32
  }

  /// Addresses that KVM takes for itself; the guest's memory map leaves them out.
  static let reservedRanges: [Range<UInt64>] = [
    VirtualMachine.identityMapAddress.rawValue..<VirtualMachine.identityMapAddress.rawValue
      + VirtualMachine.identityMapSize,
    VirtualMachine.taskStateAddress.rawValue..<VirtualMachine.taskStateAddress.rawValue
      + VirtualMachine.taskStateSize,
  ]

  private let system: KVMSystem
  private let configuration: MachineConfiguration
  /// The kernel emulates the guest's kernel mode, with gaps.
  private let emulatesSupervisorMode: Bool
  let machine: VirtualMachine
  let doorbells: (any DoorbellBinding)?
  let regionMapper: (any PCIRegionMapper)?
  private let parts: CompletionParts
  /// The event timer stands in for the 8254 and the clock (see `InterruptRouter.Line`).
  private let isReplaced = Mutex(false)

  private struct Time {
    var processors: [VirtualProcessor] = []
    var shownLeaves: [[CPUIDLeaf]] = []
    /// What the KVM clock showed when the guest's time was stopped.
    var stoppedAt: UInt64?
  }
  private let time = Mutex(Time())

  /// - Throws: `MachineError` with the kernel's reason.
  init(
    _ configuration: MachineConfiguration, system: KVMSystem, emulatesSupervisorMode: Bool,
    memory: GuestMemory
  ) throws(MachineError) {
    self.system = system
    self.configuration = configuration
    self.emulatesSupervisorMode = emulatesSupervisorMode
    do {
      machine = try system.makeVirtualMachine()
      try machine.setMemory(memory, hole: configuration.memoryHole)
      switch configuration.interruptChip {
      case .kernel: try machine.createInterruptChips()
      case .split: try machine.createLocalInterruptChips()
      }
      try machine.disableQuirks()
      // Counted, and answered as hardware does.
      _ = try machine.reportUnknownRegisters()
      // Not asked for: reports of emulation failures in user mode. There the kernel gives the guest #UD, as it should:
      // a program of the guest must not be able to end its machine.
    } catch {
      throw MachineError("KVM: \(error)")
    }
    doorbells = KernelDoorbells(machine)
    let parts = CompletionParts(
      memory: memory, hole: configuration.memoryHole, chip: configuration.interruptChip)
    self.parts = parts
    regionMapper = KernelRegionMapper(
      machine, slots: Slot.optionROMs,
      notes: .init(
        isShown: { region, base in
          parts.show(
            region.host, size: UInt64(region.size), at: base.rawValue,
            isWritable: region.isWritable, owner: region)
        },
        isHidden: { region, base in parts.hide(at: base.rawValue, owner: region) }))
  }

  func makeInterrupts() -> BoardInterrupts {
    switch configuration.interruptChip {
    case .kernel: BoardInterrupts(sink: self, router: nil, external: nil)
    case .split: BoardInterrupts(splitting: machine)
    }
  }

  func makeVectors() -> (any MessageVectorBinding)? { KernelVectors(machine) }

  func mapFirmware(_ image: FirmwareMapping, at address: GuestAddress) throws(MachineError) {
    do {
      try machine.setMemory(
        slot: Slot.firmware, guestAddress: address, size: UInt64(image.size), host: image.pointer,
        readOnly: true, owner: image)
    } catch {
      throw MachineError("KVM: \(error)")
    }
    parts.show(image.pointer, size: UInt64(image.size), at: address.rawValue, owner: image)
  }

  func connect(_ buses: BusAccess) { parts.buses = buses }

  /// The devices on the buses hold this object as their sink: nobody would ever go.
  func stop() { parts.stop() }

  var completionParts: CompletionParts? { parts }

  func makeProcessors(
    showing saved: [[CPUIDLeaf]]?
  ) throws(MachineError) -> [any BoardProcessor] {
    let topology = configuration.topology
    var policy = CPUIDPolicy(
      topology: topology, model: configuration.processorModel,
      allowsNesting: configuration.allowsNesting,
      hasTimerDeadline: system.capability(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
      hidesUnemulatedInstructions: emulatesSupervisorMode)
    do {
      var processors: [VirtualProcessor] = []
      var own: [[CPUIDLeaf]] = []
      for index in 0..<topology.processorCount {
        let processor = try machine.makeProcessor(
          index: index, apicNumber: topology.apicNumber(of: index))
        policy.timeStampKilohertz = processor.timeStampKilohertz
        var leaves = policy.leaves(supported: system.supportedLeaves, index: index)
        if emulatesSupervisorMode { leaves = SoftProcessorFeatures.common(leaves) }
        processors.append(processor)
        own.append(leaves)
      }
      let shown = try CPUIDCompatibility.leaves(saved, on: own)
      for (processor, leaves) in zip(processors, shown) { try processor.setLeaves(leaves) }
      // With several processors, or chips of our own beside the kernel's local APICs, some interrupts get lost there: such
      // guests stay with the kernel, however slowly.
      if emulatesSupervisorMode, configuration.interruptChip == .kernel,
        topology.processorCount == 1
      {
        parts.allowResidence(leaves: shown)
      }
      let made = processors
      time.withLock {
        $0.processors = made
        $0.shownLeaves = shown
      }
      return processors
    } catch let error as MachineError {
      throw error
    } catch {
      throw MachineError("KVM: \(error)")
    }
  }

  // MARK: The KVM clock

  func stopTime() {
    let clock = try? machine.clock()
    time.withLock { $0.stoppedAt = $0.stoppedAt ?? clock }
  }

  func continueTime() {
    time.withLock { time in
      guard let clock = time.stoppedAt else { return }
      time.stoppedAt = nil
      try? machine.setClock(clock)
      // Watchdogs of the guest are told that it was not its fault.
      for processor in time.processors { processor.notifyPaused() }
    }
  }

  var shownLeaves: [[CPUIDLeaf]] { time.withLock { $0.shownLeaves } }

  // MARK: Saving

  func saveState() throws(MachineError) -> VirtualizationState {
    do {
      let chips = try machine.saveChips()
      let clock = time.withLock { $0.stoppedAt } ?? chips.clock
      return VirtualizationState(clock: clock, chips: chips.chips.isEmpty ? nil : chips)
    } catch {
      throw MachineError("KVM: \(error)")
    }
  }

  func restoreState(_ state: VirtualizationState) throws(MachineError) {
    do {
      if let chips = state.chips { try machine.restoreChips(chips) }
      try machine.setClock(state.clock)
    } catch {
      throw MachineError("KVM: \(error)")
    }
    // Time goes on from there.
    time.withLock { $0.stoppedAt = state.clock }
  }

  // MARK: What is written

  /// Where the kernel emulates the guest's kernel mode software writes too, without telling.
  func startTracking() throws(MachineError) -> Bool {
    guard !emulatesSupervisorMode else { return false }
    do {
      try machine.setMemory(parts.memory, hole: configuration.memoryHole, logDirty: true)
      try parts.memory.startDirtyTracking()
    } catch {
      throw MachineError("KVM: \(error)")
    }
    return true
  }

  func takeWritten(isStopped: Bool) throws(MachineError) -> [Range<UInt64>] {
    let memory = parts.memory
    var ranges: [Range<UInt64>] = []
    for index in memory.regions.indices {
      if let pages = memory.takeDirtyPages(ofRegion: index) {
        ranges += memory.regions[index].offsets(of: pages)
      }
    }
    do throws(KVMError) {
      for (slot, region) in memory.regions(without: configuration.memoryHole).enumerated() {
        var pages = DirtyPages(
          first: FrameNumber(containing: region.base), count: Int(region.size / 4096))
        pages.formUnion(bitmap: try machine.readDirtyLog(slot: UInt32(slot)))
        ranges += region.offsets(of: pages)
      }
    } catch {
      throw MachineError("KVM: \(error)")
    }
    return ranges
  }

  func stopTracking() {
    guard !emulatesSupervisorMode else { return }
    _ = try? machine.setMemory(parts.memory, hole: configuration.memoryHole, logDirty: false)
    parts.memory.stopDirtyTracking()
  }

  // MARK: InterruptSink, where the chips are the kernel's

  // A line or message that the kernel refuses has no one to tell: on hardware it would be lost as well.

  func setLine(_ number: UInt32, asserted: Bool) {
    switch number {
    case 8, InterruptRouter.Line.legacyReplacement, InterruptRouter.Line.replacedTimer,
      InterruptRouter.Line.replacedClock:
      isReplaced.withLock { setReplaceable(number, asserted, &$0) }
    default: try? machine.setLine(number, asserted: asserted)
    }
  }

  private func setReplaceable(_ number: UInt32, _ asserted: Bool, _ isReplaced: inout Bool) {
    switch number {
    case InterruptRouter.Line.legacyReplacement:
      guard asserted != isReplaced else { return }
      isReplaced = asserted
      try? machine.setTimerReplaced(asserted)
      for line in [UInt32(0), 8] { try? machine.setLine(line, asserted: false) }
    case InterruptRouter.Line.replacedTimer:
      if isReplaced { try? machine.setLine(0, asserted: asserted) }
    case InterruptRouter.Line.replacedClock:
      if isReplaced { try? machine.setLine(8, asserted: asserted) }
    default:
      if !isReplaced { try? machine.setLine(number, asserted: asserted) }
    }
  }

  func deliver(_ message: MessageInterrupt) {
    _ = try? machine.signalMessage(address: message.address, data: message.data)
  }
}
