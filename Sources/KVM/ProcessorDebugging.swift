// A debugger of the host's on a kernel's processor: KVM_SET_GUEST_DEBUG with the hardware's four breakpoints. The guest's
// own debug registers rest meanwhile.
import CLinux
import GuestMemory
import Processor

extension VirtualProcessor: DebuggableProcessor {
  /// DR0 to DR3.
  private static let pointLimit = 4
  /// KVM_GUESTDBG_BLOCKIRQ, from Linux 5.16 on: interrupts wait while an instruction is stepped over.
  private static let blocksInterrupts: UInt32 = 0x10_0000

  public func setDebugging(_ settings: DebugSettings?) throws(ProcessorError) {
    do throws(KVMError) {
      try set(settings ?? DebugSettings())
    } catch {
      throw ProcessorError("processor \(index): \(error)")
    }
  }

  private func set(_ settings: DebugSettings) throws(KVMError) {
    guard settings.breakpoints.count + settings.watchpoints.count <= Self.pointLimit else {
      throw .invalidRequest("a processor has no more than four breakpoints and watchpoints")
    }
    var registers = [UInt64](repeating: 0, count: 8)
    // Exact, and RTM off: Intel SDM 3B, 18.2.4.
    registers[7] = 0x600
    var number = 0
    for address in settings.breakpoints {
      registers[number] = address
      registers[7] |= 2 << UInt64(number * 2)
      number += 1
    }
    for point in settings.watchpoints {
      guard let size = Self.sizeCode(point.count), point.address & (point.count &- 1) == 0 else {
        throw .invalidRequest(
          "a processor watches 1, 2, 4 or 8 bytes at a multiple of as many")
      }
      registers[number] = point.address
      // Reads alone cannot be watched.
      let kind: UInt64 = point.kind == .write ? 1 : 3
      registers[7] |= 2 << UInt64(number * 2) | (size << 2 | kind) << UInt64(16 + number * 4)
      number += 1
    }
    var argument = kvm_guest_debug()
    if settings != DebugSettings() { argument.control = UInt32(LINUX_KVM_DEBUG_ENABLE) }
    if settings.isStepping { argument.control |= UInt32(LINUX_KVM_DEBUG_SINGLE_STEP) }
    if number > 0 { argument.control |= UInt32(KVM_GUESTDBG_USE_HW_BP) }
    withUnsafeMutableBytes(of: &argument.arch.debugreg) { bytes in
      let target = bytes.bindMemory(to: UInt64.self)
      for index in registers.indices where index < target.count {
        target[index] = registers[index]
      }
    }
    guard settings.isStepping else { return try apply(argument) }
    var blocking = argument
    blocking.control |= Self.blocksInterrupts
    do throws(KVMError) {
      try apply(blocking)
    } catch {
      // A kernel before that.
      try apply(argument)
    }
  }

  private func apply(_ argument: kvm_guest_debug) throws(KVMError) {
    try request(
      rawDescriptor, "KVM_SET_GUEST_DEBUG", kvm_request_set_guest_debug(), reading: argument)
    debugRegisters = withUnsafeBytes(of: argument.arch.debugreg) { bytes in
      Array(bytes.bindMemory(to: UInt64.self).prefix(4))
    }
  }

  private static func sizeCode(_ count: UInt64) -> UInt64? {
    switch count {
    case 1: 0
    case 2: 1
    case 4: 3
    case 8: 2
    default: nil
    }
  }

  public var debugStop: DebugStop {
    let address = linux_kvm_debug_address(shared)
    let status = linux_kvm_debug_status(shared)
    for number in 0..<Self.pointLimit where status >> UInt64(number) & 1 == 1 {
      guard number < debugRegisters.count else { break }
      // An instruction that is not executed yet, or one that was and touched what is watched.
      let isBreakpoint = debugRegisters[number] == address
      return DebugStop(
        reason: isBreakpoint ? .breakpoint : .watchpoint(debugRegisters[number]), address: address)
    }
    // BS.
    return DebugStop(reason: status >> 14 & 1 == 1 ? .step : .other, address: address)
  }
}
