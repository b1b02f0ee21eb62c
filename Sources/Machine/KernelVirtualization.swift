import Devices
import GuestMemory
import KVM
import Processor

/// A board's share of /dev/kvm: the virtual machine, its memory slots and its chips in the kernel.
final class KernelVirtualization: InterruptSink {
  /// Slots of RAM come first; these follow.
  private enum Slot {
    static let firmware: UInt32 = 8
    static let firstOptionROM: UInt32 = 16
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

  /// - Throws: `MachineError` with the kernel's reason.
  init(system: KVMSystem, memory: GuestMemory) throws(MachineError) {
    self.system = system
    do {
      machine = try system.makeVirtualMachine()
      try machine.setMemory(memory)
      try machine.createInterruptChips()
      try machine.disableQuirks()
      _ = try machine.reportEmulationFailures()
    } catch {
      throw MachineError("KVM: \(error)")
    }
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
  ///
  /// - Parameter hidesUnemulatedInstructions: for hosts whose kernel emulates the guest's kernel mode, with gaps.
  func makeProcessors(
    count: Int, hidesUnemulatedInstructions: Bool
  ) throws(MachineError) -> [VirtualProcessor] {
    do {
      let policy = CPUIDPolicy(
        topology: ProcessorTopology(processorCount: count),
        hidesUnemulatedInstructions: hidesUnemulatedInstructions)
      var processors: [VirtualProcessor] = []
      for index in 0..<count {
        let processor = try machine.makeProcessor(index: index)
        try processor.setLeaves(policy.leaves(supported: system.supportedLeaves, index: index))
        processors.append(processor)
      }
      return processors
    } catch {
      throw MachineError("KVM: \(error)")
    }
  }

  // MARK: InterruptSink

  // A line or message that the kernel refuses has no one to tell: on hardware it would be lost as well.

  func setLine(_ number: UInt32, asserted: Bool) {
    try? machine.setLine(number, asserted: asserted)
  }

  func deliver(_ message: MessageInterrupt) {
    _ = try? machine.signalMessage(address: message.address, data: message.data)
  }
}
