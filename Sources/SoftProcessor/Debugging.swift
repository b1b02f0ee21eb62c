// Debug registers, breakpoints and single steps (Intel SDM 3B, chapter 18).
import CSoftProcessor

private enum DebugStatus {
  static let accessDetected: UInt64 = 1 << 13
  static let singleStep: UInt64 = 1 << 14
  /// Bits that read as 1.
  static let fixed: UInt64 = 0xFFFF_0FF0
  static let writable: UInt64 = 0xE00F
}

private enum DebugControl {
  static let generalDetect: UInt64 = 1 << 13
  static let fixed: UInt64 = 1 << 10
  static let writable: UInt64 = 0xFFFF_23FF
}

/// #DB as a trap: RIP is the next instruction.
private func raiseTrap(_ cpu: CPU) {
  raise(cpu, .debug)
  // No error code is pushed; the word tells the delivery that nothing is started again.
  cpu.pointee.exception_error = 1
}

// MARK: MOV DR

/// The register's number after aliases; nil after an exception.
private func debugNumber(_ cpu: CPU, _ operation: Operation) -> Int? {
  var number = Int(operation.pointee.reg)
  guard number < 8 else {
    _ = invalidOpcode(cpu)
    return nil
  }
  if number == 4 || number == 5 {
    guard cpu.pointee.cr4 & Control4.debuggingExtensions == 0 else {
      _ = invalidOpcode(cpu)
      return nil
    }
    number += 2
  }
  guard requireSupervisor(cpu) else { return nil }
  let registers = soft_debug_registers(cpu)
  guard registers[7] & DebugControl.generalDetect == 0 else {
    registers[7] &= ~DebugControl.generalDetect
    registers[6] |= DebugStatus.accessDetected
    raise(cpu, .debug)
    return nil
  }
  return number
}

@inline(never)
func readDebugRegister(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let number = debugNumber(cpu, operation) else { return false }
  setRegister(
    cpu, operation.pointee.rm, soft_debug_registers(cpu)[number],
    count: cpu.hasMode(SOFT_MODE_CODE64) ? 8 : 4)
  return true
}

@inline(never)
func writeDebugRegister(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let number = debugNumber(cpu, operation) else { return false }
  let mask: UInt64 = cpu.hasMode(SOFT_MODE_CODE64) ? .max : 0xFFFF_FFFF
  let value = cpu.registers[Int(operation.pointee.rm)] & mask
  let registers = soft_debug_registers(cpu)
  switch number {
  case 6:
    guard value >> 32 == 0 else { return protectionFault(cpu) }
    registers[6] = value & DebugStatus.writable | DebugStatus.fixed
    return true
  case 7:
    guard value >> 32 == 0 else { return protectionFault(cpu) }
    registers[7] = value & DebugControl.writable | DebugControl.fixed
  default: registers[number] = value
  }
  // Pages with breakpoints have no fast path.
  flushTranslations(cpu, keepGlobal: false)
  updateMode(cpu)
  return true
}

// MARK: Single steps and breakpoints

/// Before a block of one instruction (`SOFT_MODE_SINGLE`): false after an instruction breakpoint has raised #DB.
@inline(never)
func beginStep(_ cpu: CPU) -> Bool {
  cpu.pointee.step_pending = cpu.pointee.flags_other & (SystemFlag.trap | SystemFlag.resume)
  let registers = soft_debug_registers(cpu)
  guard registers[7] & 0xFF != 0, cpu.pointee.flags_other & SystemFlag.resume == 0 else {
    return true
  }
  let base = cpu.hasMode(SOFT_MODE_CODE64) ? 0 : cpu.segments[Int(SOFT_CS)].base
  let linear = cpu.pointee.rip &+ base
  var hits: UInt64 = 0
  var isEnabled = false
  for number in 0..<4 {
    let kind = registers[7] >> UInt64(16 + number * 4) & 3
    guard kind == 0, registers[number] == linear else { continue }
    hits |= 1 << UInt64(number)
    if registers[7] >> UInt64(number * 2) & 3 != 0 { isEnabled = true }
  }
  guard isEnabled else { return true }
  registers[6] = registers[6] & ~0xF | hits
  raise(cpu, .debug)
  return false
}

/// After such a block, when it raised no exception and `rip` is the next instruction: the shadow is over, and the traps
/// of the instruction are raised.
@inline(never)
func endStep(_ cpu: CPU, hadShadow: Bool) {
  if hadShadow, cpu.pointee.interrupt_shadow != 0 {
    cpu.pointee.interrupt_shadow = 0
    updateMode(cpu)
  }
  // RF holds for one instruction: the one before which it was set.
  if cpu.pointee.step_pending & SystemFlag.resume != 0 {
    cpu.pointee.flags_other &= ~SystemFlag.resume
  }
  // After a load of SS the traps wait for one more instruction; the single step is that one's.
  if cpu.pointee.interrupt_shadow == 2 {
    cpu.pointee.step_pending = 0
    return
  }
  let hits = UInt64(cpu.pointee.debug_hits)
  cpu.pointee.debug_hits = 0
  let isStep = cpu.pointee.step_pending & SystemFlag.trap != 0
  cpu.pointee.step_pending = 0
  guard hits != 0 || isStep else { return }
  let registers = soft_debug_registers(cpu)
  registers[6] = registers[6] & ~0xF | hits | (isStep ? DebugStatus.singleStep : 0)
  raiseTrap(cpu)
}

/// SYSCALL and SYSRET trap by the TF that they leave, not by the one before them: SYSRET at its target, before the first
/// instruction there.
func stepAfterTransfer(_ cpu: CPU) {
  cpu.pointee.step_pending &= ~SystemFlag.trap
  guard cpu.pointee.flags_other & SystemFlag.trap != 0 else { return }
  soft_debug_registers(cpu)[6] |= DebugStatus.singleStep
  raiseTrap(cpu)
}

/// Notes the data breakpoints that an access meets. From the slow paths of loads and stores: pages with breakpoints have
/// no other.
@inline(never)
func checkDataBreakpoints(_ cpu: CPU, _ linear: UInt64, count: UInt64, isWrite: Bool) {
  if let debugger = cpu.pointee.debugger {
    debugger.noteAccess(linear, count: count, isWrite: isWrite)
  }
  let registers = soft_debug_registers(cpu)
  guard registers[7] & 0xFF != 0 else { return }
  for number in 0..<4 where registers[7] >> UInt64(number * 2) & 3 != 0 {
    let kind = registers[7] >> UInt64(16 + number * 4) & 3
    guard kind == 3 || (kind == 1 && isWrite) else { continue }
    let size = breakpointSize(registers[7] >> UInt64(18 + number * 4) & 3)
    let start = registers[number] & ~(size &- 1)
    if linear < start &+ size, start < linear &+ count {
      cpu.pointee.debug_hits |= 1 << UInt32(number)
    }
  }
}

/// Bytes that a LEN field says: 1, 2, 8, 4.
private func breakpointSize(_ code: UInt64) -> UInt64 {
  switch code {
  case 0: 1
  case 1: 2
  case 2: 8
  default: 4
  }
}
