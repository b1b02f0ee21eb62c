import CLinux
import Devices
import GuestMemory
import KVM
import Platform
import Processor
import Synchronization

/// A board's share of /dev/kvm: the virtual machine, its memory slots and its chips in the kernel.
final class KernelVirtualization: InterruptSink, Virtualization {
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
  let machine: VirtualMachine
  /// Shows option ROMs of PCI functions.
  let optionROMs: any PCIRegionMapper
  let doorbells: (any DoorbellBinding)?
  /// The kernel emulates the guest's kernel mode, with gaps.
  private let hidesUnemulatedInstructions: Bool
  private let processors = Monitor<[VirtualProcessor]>([])
  /// The event timer stands in for the 8254 and the clock (see `InterruptRouter.Line`).
  private let isReplaced = Mutex(false)

  /// - Throws: `MachineError` with the kernel's reason.
  init(
    system: KVMSystem, memory: GuestMemory, chip: InterruptChip, hidesUnemulatedInstructions: Bool
  ) throws(MachineError) {
    self.system = system
    self.hidesUnemulatedInstructions = hidesUnemulatedInstructions
    do {
      machine = try system.makeVirtualMachine()
      try machine.setMemory(memory)
      switch chip {
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
    optionROMs = KernelRegionMapper(machine, slots: Slot.optionROMs)
    doorbells = KernelDoorbells(machine)
  }

  func makeVectors() -> (any MessageVectorBinding)? { KernelVectors(machine) }

  func makeInterrupts(_ chip: InterruptChip) -> BoardInterrupts {
    BoardInterrupts(self, chip: chip)
  }

  /// Shows the firmware to the guest, read-only, where it ends at 4 GiB.
  func mapFirmware(_ image: FirmwareMapping, at address: GuestAddress) throws(MachineError) {
    do {
      try machine.setMemory(
        slot: Slot.firmware, guestAddress: address, size: UInt64(image.size), host: image.pointer,
        readOnly: true, owner: image)
    } catch {
      throw MachineError("KVM: \(error)")
    }
  }

  /// The processors of the board, CPUID set, as after power-on.
  func makeProcessors(
    _ configuration: MachineConfiguration, buses: BusAccess
  ) throws(MachineError) -> [any Processor] {
    let topology = configuration.topology
    var policy = CPUIDPolicy(
      topology: topology, model: configuration.processorModel,
      allowsNesting: configuration.allowsNesting,
      hasTimerDeadline: system.capability(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
      hidesUnemulatedInstructions: hidesUnemulatedInstructions)
    do {
      var processors: [VirtualProcessor] = []
      for index in 0..<topology.processorCount {
        let processor = try machine.makeProcessor(
          index: index, apicNumber: topology.apicNumber(of: index))
        policy.timeStampKilohertz = processor.timeStampKilohertz
        try processor.setLeaves(policy.leaves(supported: system.supportedLeaves, index: index))
        processors.append(processor)
      }
      let all = processors
      self.processors.update { $0 = all }
      return processors
    } catch {
      throw MachineError("KVM: \(error)")
    }
  }

  // MARK: Pauses

  func pauseClock() -> UInt64? { try? machine.clock() }

  func resumeClock(at nanoseconds: UInt64) {
    try? machine.setClock(nanoseconds)
    for processor in processors.read({ $0 }) { processor.notifyPaused() }
  }

  func isStuck() -> Bool {
    processors.read { $0 }.allSatisfy { (try? $0.isStuck()) ?? false }
  }

  func stop() {}

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
