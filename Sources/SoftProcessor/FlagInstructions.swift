// Instructions on IF, AC and the whole of RFLAGS, and INT (Intel SDM 2A, 2B; 3A, 20.2 for the extensions of
// virtual-8086 mode).
import CSoftProcessor

/// To be called when IF becomes 1: an interrupt that was held back is looked for again.
func interruptsEnabled(_ cpu: CPU) {
  if hasInterrupt(cpu) { soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT)) }
}

/// The next instruction runs before any interrupt.
///
/// - Parameter isStack: by a load of SS, which also holds back debug traps.
func castShadow(_ cpu: CPU, isStack: Bool) {
  cpu.pointee.interrupt_shadow = isStack ? 2 : 1
  cpu.pointee.mode |= UInt32(SOFT_MODE_SINGLE)
}

/// Whether VIF stands for IF: in virtual-8086 mode with VME, in ring 3 with PVI, where IOPL is too low.
private func usesVirtualInterrupt(_ cpu: CPU) -> Bool {
  if cpu.hasMode(SOFT_MODE_V86) { return cpu.pointee.cr4 & Control4.virtual8086 != 0 }
  return cpu.pointee.cpl == 3 && cpu.pointee.cr4 & Control4.protectedVirtualInterrupts != 0
}

@inline(never)
func clearInterruptFlag(_ cpu: CPU) -> Bool {
  if cpu.pointee.cpl <= inputOutputLevel(cpu) || cpu.pointee.cr0 & Control0.protection == 0 {
    cpu.pointee.flags_other &= ~SystemFlag.interrupt
  } else if usesVirtualInterrupt(cpu) {
    cpu.pointee.flags_other &= ~SystemFlag.virtualInterrupt
  } else {
    return protectionFault(cpu)
  }
  return true
}

@inline(never)
func setInterruptFlag(_ cpu: CPU) -> Bool {
  if cpu.pointee.cpl <= inputOutputLevel(cpu) || cpu.pointee.cr0 & Control0.protection == 0 {
    if cpu.pointee.flags_other & SystemFlag.interrupt == 0 {
      cpu.pointee.flags_other |= SystemFlag.interrupt
      castShadow(cpu, isStack: false)
      interruptsEnabled(cpu)
    }
  } else if usesVirtualInterrupt(cpu),
    cpu.pointee.flags_other & SystemFlag.virtualInterruptPending == 0
  {
    cpu.pointee.flags_other |= SystemFlag.virtualInterrupt
  } else {
    return protectionFault(cpu)
  }
  return true
}

// MARK: PUSHF, POPF

@inline(never)
func pushFlags(_ cpu: CPU, _ operation: Operation) -> Bool {
  let width = stackBytes(cpu, operation)
  var flags = currentFlags(cpu) & ~(SystemFlag.resume | SystemFlag.virtual8086)
  if cpu.hasMode(SOFT_MODE_V86), inputOutputLevel(cpu) != 3 {
    guard width == 2, cpu.pointee.cr4 & Control4.virtual8086 != 0 else {
      return protectionFault(cpu)
    }
    flags |= SystemFlag.privilegeLevel
    flags &= ~SystemFlag.interrupt
    if flags & SystemFlag.virtualInterrupt != 0 { flags |= SystemFlag.interrupt }
  }
  var stack = SystemStack(cpu)
  guard stack.push(UInt64(flags), width: width) else { return false }
  stack.commit()
  return true
}

/// What must happen after a POPF.
enum FlagsResult { case failed, quiet, noticed }

@inline(never)
func popFlags(_ cpu: CPU, _ operation: Operation) -> FlagsResult {
  let width = stackBytes(cpu, operation)
  var stack = SystemStack(cpu)
  guard let value = stack.pop(width: width) else { return .failed }
  var flags = UInt32(truncatingIfNeeded: value)
  // CF, PF, AF, ZF, SF, TF, DF, OF, NT.
  var mask: UInt32 = 0x4DD5
  if width > 2 { mask |= SystemFlag.alignmentCheck | SystemFlag.identification }
  let isVirtual = cpu.hasMode(SOFT_MODE_V86)
  let level = inputOutputLevel(cpu)
  if isVirtual, level != 3 {
    guard width == 2, cpu.pointee.cr4 & Control4.virtual8086 != 0 else {
      return protectionFault(cpu) ? .quiet : .failed
    }
    let enables = flags & SystemFlag.interrupt != 0
    if flags & SystemFlag.trap != 0
      || (enables && cpu.pointee.flags_other & SystemFlag.virtualInterruptPending != 0)
    {
      return protectionFault(cpu) ? .quiet : .failed
    }
    flags = flags & ~SystemFlag.virtualInterrupt
    if enables { flags |= SystemFlag.virtualInterrupt }
    mask |= SystemFlag.virtualInterrupt
  } else {
    if isVirtual || cpu.pointee.cpl <= level { mask |= SystemFlag.interrupt }
    if !isVirtual, cpu.pointee.cpl == 0 { mask |= SystemFlag.privilegeLevel }
  }
  stack.commit()
  let old = cpu.pointee.flags_other
  setFlags(cpu, flags, mask: mask)
  let changed = old ^ cpu.pointee.flags_other
  if changed & SystemFlag.interrupt != 0, cpu.pointee.flags_other & SystemFlag.interrupt != 0 {
    interruptsEnabled(cpu)
  }
  guard changed & (SystemFlag.trap | SystemFlag.alignmentCheck) != 0 || soft_events(cpu) != 0
  else { return .quiet }
  updateMode(cpu)
  return .noticed
}

// MARK: CLAC, STAC

/// Changes AC for SMAP: only the access class follows from it, so that the block goes on.
@inline(never)
func setAccessFlag(_ cpu: CPU, _ isSet: Bool) -> Bool {
  guard cpu.pointee.cpl == 0, !cpu.hasMode(SOFT_MODE_V86) else { return invalidOpcode(cpu) }
  if isSet {
    cpu.pointee.flags_other |= SystemFlag.alignmentCheck
  } else {
    cpu.pointee.flags_other &= ~SystemFlag.alignmentCheck
  }
  let classNumber =
    isSet && cpu.pointee.cr4 & Control4.supervisorAccess != 0
    ? AccessClass.supervisorOnUser : AccessClass.supervisor
  cpu.pointee.tlb_class = classNumber
  cpu.pointee.tlb = cpu.pointee.tlb_entries + Int(classNumber) * Int(SOFT_TLB_COUNT)
  return true
}

// MARK: INT

/// INT n, INT3, INTO, INT1: the return address is the next instruction.
@inline(never)
func softwareInterrupt(
  _ cpu: CPU, _ operation: Operation, vector: UInt32, kind: EventKind
) -> Bool {
  let start = cpu.pointee.rip
  cpu.pointee.rip = nextInstruction(cpu, operation)
  guard deliverInterrupt(cpu, vector: vector, kind: kind) else {
    // A task switch that failed in the new task has its own instruction pointer, which `fault` adds to.
    if cpu.pointee.rip == nextInstructionFrom(start, cpu, operation) {
      cpu.pointee.rip = start
    } else {
      cpu.pointee.rip &-= UInt64(operation.pointee.offset)
    }
    return false
  }
  return true
}

private func nextInstructionFrom(_ start: UInt64, _ cpu: CPU, _ operation: Operation) -> UInt64 {
  let next = start &+ UInt64(operation.pointee.offset) &+ UInt64(operation.pointee.length)
  if cpu.hasMode(SOFT_MODE_CODE64) { return next }
  return next & (cpu.hasMode(SOFT_MODE_CODE32) ? 0xFFFF_FFFF : 0xFFFF)
}

// MARK: Ports

/// Whether the port may be reached: IOPL, or the map in the task state (Intel SDM 1, 19.5); #GP(0) otherwise.
@inline(never)
func checkPortAccess(_ cpu: CPU, _ port: UInt32, _ size: UInt32) -> Bool {
  guard cpu.pointee.cr0 & Control0.protection != 0 else { return true }
  let isVirtual = cpu.hasMode(SOFT_MODE_V86)
  if !isVirtual, cpu.pointee.cpl <= inputOutputLevel(cpu) { return true }
  let task = cpu.segments[Int(SOFT_TR)]
  // Only task states of the 80386 have a map.
  guard task.attributes & 8 != 0, task.limit >= 0x67 else { return protectionFault(cpu) }
  guard let base = systemLoad(cpu, task.base &+ 0x66, count: 2) else { return false }
  let offset = base &+ UInt64(port >> 3)
  guard offset &+ 1 <= UInt64(task.limit) else { return protectionFault(cpu) }
  guard let bits = systemLoad(cpu, task.base &+ offset, count: 2) else { return false }
  let mask = (UInt64(1) << UInt64(size)) &- 1
  return bits >> UInt64(port & 7) & mask == 0 || protectionFault(cpu)
}
