import CLinux
import Platform
import Processor

/// The kernel's chips of one machine. The bytes are the kernel's own structures, whose form is fixed.
public struct InterruptChipState: Codable, Sendable, Equatable {
  /// struct kvm_irqchip of the first and second PIC and of the I/O APIC; empty without kernel chips.
  public var chips: [[UInt8]] = []
  /// struct kvm_pit_state2; empty without a kernel PIT.
  public var timer: [UInt8] = []
  /// When the timer was read, in nanoseconds of the clock that it has its times of (CLOCK_MONOTONIC).
  public var timerRead: UInt64?
  /// Nanoseconds of the KVM clock.
  public var clock: UInt64 = 0
  public init() {}
}

// Saving, restoring and switches of a whole machine.
extension VirtualMachine {
  /// Chips and clock, with all processors stopped.
  public func saveChips() throws(KVMError) -> InterruptChipState {
    var state = InterruptChipState()
    state.clock = try clock()
    guard chipsAreInKernel else { return state }
    for number in 0..<UInt32(KVM_NR_IRQCHIPS) {
      var chip = kvm_irqchip()
      chip.chip_id = number
      try request(rawDescriptor, "KVM_GET_IRQCHIP", kvm_request_get_irqchip(), filling: &chip)
      state.chips.append(withUnsafeBytes(of: chip) { [UInt8]($0) })
    }
    if timerIsInKernel {
      var timer = kvm_pit_state2()
      try request(rawDescriptor, "KVM_GET_PIT2", kvm_request_get_pit2(), filling: &timer)
      state.timer = withUnsafeBytes(of: timer) { [UInt8]($0) }
      state.timerRead = MonotonicClock.now
    }
    return state
  }

  /// After the processors' states.
  public func restoreChips(_ state: InterruptChipState) throws(KVMError) {
    try restoreTimer(state)
    try setClock(state.clock)
    try restoreInterruptChips(state)
  }

  /// The kernel's chips back to power-on; the clock runs on. With all processors stopped.
  public func resetChips() throws(KVMError) {
    guard let state = powerOnChips else { return }
    try restoreTimer(state)
    try restoreInterruptChips(state)
  }

  private func restoreTimer(_ state: InterruptChipState) throws(KVMError) {
    guard timerIsInKernel, !state.timer.isEmpty else { return }
    let timer = try Self.structure(kvm_pit_state2(), from: state.timer, named: "PIT")
    try request(rawDescriptor, "KVM_SET_PIT2", kvm_request_set_pit2(), reading: timer)
  }

  private func restoreInterruptChips(_ state: InterruptChipState) throws(KVMError) {
    guard chipsAreInKernel else { return }
    for (number, bytes) in state.chips.prefix(Int(KVM_NR_IRQCHIPS)).enumerated() {
      var chip = try Self.structure(kvm_irqchip(), from: bytes, named: "interrupt chip")
      chip.chip_id = UInt32(number)
      try request(rawDescriptor, "KVM_SET_IRQCHIP", kvm_request_set_irqchip(), reading: chip)
    }
  }

  private static func structure<Structure>(
    _ empty: Structure, from bytes: [UInt8], named name: String
  ) throws(KVMError) -> Structure {
    var value = empty
    guard bytes.count == MemoryLayout<Structure>.size else {
      throw .invalidRequest("the saved state of the \(name) is damaged")
    }
    withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes) }
    return value
  }

  /// The KVM clock of the guest, nanoseconds.
  public func clock() throws(KVMError) -> UInt64 {
    var value = kvm_clock_data()
    try request(rawDescriptor, "KVM_GET_CLOCK", kvm_request_get_clock(), filling: &value)
    return value.clock
  }

  /// Lets the guest's clock go on from a value: time that a guest was stopped does not pass for it.
  public func setClock(_ nanoseconds: UInt64) throws(KVMError) {
    var value = kvm_clock_data()
    value.clock = nanoseconds
    try request(rawDescriptor, "KVM_SET_CLOCK", kvm_request_set_clock(), reading: value)
  }

  /// Lets MONITOR and MWAIT fault where CPUID does not announce them. Since Linux 5.18; older kernels always treat
  /// them as no-operations, which this leaves so.
  public func disableQuirks() throws(KVMError) {
    let supported = UInt64(capability(KVM_CAP_DISABLE_QUIRKS2))
    let wanted = UInt64(KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)
    guard supported & wanted != 0 else { return }
    try enable(KVM_CAP_DISABLE_QUIRKS2, wanted, named: "quirk switches")
  }

  /// Reports every instruction that the kernel cannot emulate as `.failure(.emulation)`, also one of the guest's
  /// user mode, without giving the guest an invalid-opcode exception first. For those who can finish the
  /// instruction themselves: without that a guest's program could stop its machine.
  ///
  /// - Returns: false on kernels before 5.14.
  public func reportEmulationFailures() throws(KVMError) -> Bool {
    guard capability(KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0 else { return false }
    try enable(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1, named: "exit on emulation failure")
    return true
  }

  /// Reports accesses to model specific registers that the kernel does not know as `.registerRead` and
  /// `.registerWrite`, instead of giving the guest a general protection fault.
  ///
  /// - Returns: false on kernels before 5.10.
  public func reportUnknownRegisters() throws(KVMError) -> Bool {
    guard capability(KVM_CAP_X86_USER_SPACE_MSR) > 0 else { return false }
    try enable(
      KVM_CAP_X86_USER_SPACE_MSR, UInt64(KVM_MSR_EXIT_REASON_UNKNOWN), named: "register exits")
    return true
  }
}
