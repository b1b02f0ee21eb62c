// IRET in every mode (Intel SDM 2A, IRET; 3A, 20.2.4 for virtual-8086 mode).
import CSoftProcessor

private enum ReturnFlag {
  /// CF, PF, AF, ZF, SF, TF, DF, OF, NT.
  static let always: UInt32 = 0x4DD5
  static let wide: UInt32 =
    SystemFlag.resume | SystemFlag.alignmentCheck | SystemFlag.identification
  static let virtual: UInt32 =
    SystemFlag.virtualInterrupt | SystemFlag.virtualInterruptPending
}

@inline(never)
func interruptReturn(_ cpu: CPU, _ operation: Operation) -> Bool {
  let width = operandBytes(operation)
  let isDone: Bool
  if cpu.hasMode(SOFT_MODE_PROTECTED) {
    isDone =
      cpu.pointee.flags_other & SystemFlag.nestedTask != 0
      ? returnToTask(cpu, operation) : returnProtected(cpu, width: width)
  } else {
    isDone = returnReal(cpu, width: width)
  }
  if isDone {
    cpu.pointee.nmi_blocked = 0
    // RF is looked at only where instruction breakpoints are on, and nothing else would clear it.
    if !cpu.hasMode(SOFT_MODE_SINGLE) { cpu.pointee.flags_other &= ~SystemFlag.resume }
    if cpu.pointee.flags_other & SystemFlag.interrupt != 0 { interruptsEnabled(cpu) }
  }
  return isDone
}

/// Which flags an IRET at this level may change.
private func returnMask(_ cpu: CPU, width: UInt64) -> UInt32 {
  var mask = ReturnFlag.always
  if width > 2 { mask |= ReturnFlag.wide }
  let level = cpu.pointee.cpl
  if level <= inputOutputLevel(cpu) { mask |= SystemFlag.interrupt }
  if level == 0 {
    mask |= SystemFlag.privilegeLevel
    if width > 2 { mask |= ReturnFlag.virtual }
  }
  return mask
}

// MARK: Real and virtual-8086 mode

private func returnReal(_ cpu: CPU, width: UInt64) -> Bool {
  let isVirtual = cpu.hasMode(SOFT_MODE_V86)
  let isFree = !isVirtual || inputOutputLevel(cpu) == 3
  if !isFree, width != 2 || cpu.pointee.cr4 & Control4.virtual8086 == 0 {
    return protectionFault(cpu)
  }
  var stack = SystemStack(cpu)
  guard let offset = stack.pop(width: width), let selector = stack.pop(width: width),
    let flagsValue = stack.pop(width: width)
  else { return false }
  guard offset <= UInt64(cpu.segments[Int(SOFT_CS)].limit) else { return protectionFault(cpu) }
  var flags = UInt32(truncatingIfNeeded: flagsValue)
  var mask = ReturnFlag.always
  if isFree {
    mask |= SystemFlag.interrupt
    if !isVirtual { mask |= SystemFlag.privilegeLevel }
    if width > 2 { mask |= ReturnFlag.wide }
  } else {
    // IF of the image is VIF of the virtual machine.
    let enables = flags & SystemFlag.interrupt != 0
    if flags & SystemFlag.trap != 0
      || (enables && cpu.pointee.flags_other & SystemFlag.virtualInterruptPending != 0)
    {
      return protectionFault(cpu)
    }
    flags &= ~SystemFlag.virtualInterrupt
    if enables { flags |= SystemFlag.virtualInterrupt }
    mask |= SystemFlag.virtualInterrupt
  }
  stack.commit()
  loadRealSegment(cpu, Int(SOFT_CS), UInt16(truncatingIfNeeded: selector))
  cpu.pointee.rip = offset
  setFlags(cpu, flags, mask: mask)
  updateMode(cpu)
  return true
}

// MARK: Protected and long mode

private func returnProtected(_ cpu: CPU, width: UInt64) -> Bool {
  var stack = SystemStack(cpu)
  guard let offset = stack.pop(width: width), let selectorValue = stack.pop(width: width),
    let flagsValue = stack.pop(width: width)
  else { return false }
  let selector = UInt16(truncatingIfNeeded: selectorValue)
  let flags = UInt32(truncatingIfNeeded: flagsValue)
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  if flags & SystemFlag.virtual8086 != 0, cpu.pointee.cpl == 0, width == 4, !isLong {
    return returnToVirtual(cpu, &stack, offset: offset, selector: selector, flags: flags)
  }
  guard var code = checkedReturnSegment(cpu, selector) else { return false }
  let level = UInt32(selector & 3)
  let mask = returnMask(cpu, width: width)
  let is64 = cpu.hasMode(SOFT_MODE_CODE64)
  guard is64 || level > cpu.pointee.cpl else {
    guard checkTarget(cpu, code, offset), markAccessed(cpu, &code) else { return false }
    stack.commit()
    setFlags(cpu, flags, mask: mask)
    enter(cpu, code, selector: selector, level: level, rip: offset)
    return true
  }
  guard let pointer = stack.pop(width: width), let stackValue = stack.pop(width: width) else {
    return false
  }
  guard
    let segment = checkedOuterStack(
      cpu, UInt16(truncatingIfNeeded: stackValue), level: level, code: code),
    checkTarget(cpu, code, offset), markAccessed(cpu, &code)
  else { return false }
  let isOuter = level > cpu.pointee.cpl
  setFlags(cpu, flags, mask: mask)
  if isOuter {
    leaveLevel(
      cpu, code, selector: selector, level: level, rip: offset, stack: segment,
      pointer: pointer, width: width)
  } else {
    cpu.segments[Int(SOFT_SS)] = segment
    setRegister(
      cpu, UInt8(SOFT_RSP), pointer,
      count: code.isLong ? 8 : segment.has(SegmentAttribute.default32) ? 4 : 2)
    enter(cpu, code, selector: selector, level: level, rip: offset)
  }
  return true
}

private func returnToVirtual(
  _ cpu: CPU, _ stack: inout SystemStack, offset: UInt64, selector: UInt16, flags: UInt32
) -> Bool {
  guard let pointer = stack.pop(width: 4), let stackSelector = stack.pop(width: 4),
    let extra = stack.pop(width: 4), let data = stack.pop(width: 4),
    let extraF = stack.pop(width: 4), let extraG = stack.pop(width: 4)
  else { return false }
  guard offset <= 0xFFFF else { return protectionFault(cpu) }
  setFlags(
    cpu, flags,
    mask: returnMask(cpu, width: 4) | SystemFlag.virtual8086 | SystemFlag.interrupt)
  // The mode tells how the segments are loaded.
  cpu.segments[Int(SOFT_SS)].attributes = 0xF3
  updateMode(cpu)
  loadRealSegment(cpu, Int(SOFT_CS), selector)
  loadRealSegment(cpu, Int(SOFT_SS), UInt16(truncatingIfNeeded: stackSelector))
  loadRealSegment(cpu, Int(SOFT_ES), UInt16(truncatingIfNeeded: extra))
  loadRealSegment(cpu, Int(SOFT_DS), UInt16(truncatingIfNeeded: data))
  loadRealSegment(cpu, Int(SOFT_FS), UInt16(truncatingIfNeeded: extraF))
  loadRealSegment(cpu, Int(SOFT_GS), UInt16(truncatingIfNeeded: extraG))
  cpu.registers[Int(SOFT_RSP)] = pointer
  cpu.pointee.rip = offset
  updateMode(cpu)
  return true
}

/// NT: back to the task that called.
private func returnToTask(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard !cpu.hasMode(SOFT_MODE_LONG) else { return protectionFault(cpu) }
  let old = cpu.segments[Int(SOFT_TR)]
  guard let link = systemLoad(cpu, old.base, count: 2) else { return false }
  let selector = UInt16(truncatingIfNeeded: link)
  guard
    let task = loadTaskDescriptor(cpu, selector, failure: .invalidTaskState, busy: true)
  else { return false }
  let start = cpu.pointee.rip
  cpu.pointee.rip = nextInstruction(cpu, operation)
  guard switchTask(cpu, selector, task, reason: .interruptReturn) else {
    if cpu.segments[Int(SOFT_TR)].selector == old.selector {
      cpu.pointee.rip = start
    } else {
      cpu.pointee.rip &-= UInt64(operation.pointee.offset)
    }
    return false
  }
  return true
}
