// JMP, CALL and RET between segments, with gates (Intel SDM 3A, 5.8; 2A, CALL, JMP, RET). Each sets `rip` when nothing
// can fail any more.
import CSoftProcessor

/// The far pointer in the code: offset, then selector.
private func directPointer(_ operation: Operation) -> (selector: UInt16, offset: UInt64) {
  let immediate = operation.pointee.immediate
  return (UInt16(truncatingIfNeeded: immediate >> 32), immediate & 0xFFFF_FFFF)
}

/// The far pointer in memory; nil after an exception.
private func indirectPointer(
  _ cpu: CPU, _ operation: Operation
) -> (selector: UInt16, offset: UInt64)? {
  let width = operandBytes(operation)
  guard let selector = loadMemoryOperand(cpu, operation, at: width, count: 2),
    let offset = loadMemoryOperand(cpu, operation, at: 0, count: width)
  else { return nil }
  return (UInt16(truncatingIfNeeded: selector), offset)
}

@inline(never)
func farJumpDirect(_ cpu: CPU, _ operation: Operation) -> Bool {
  let pointer = directPointer(operation)
  return farJump(cpu, operation, pointer.selector, pointer.offset)
}

@inline(never)
func farJumpIndirect(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let pointer = indirectPointer(cpu, operation) else { return false }
  return farJump(cpu, operation, pointer.selector, pointer.offset)
}

@inline(never)
func farCallDirect(_ cpu: CPU, _ operation: Operation) -> Bool {
  let pointer = directPointer(operation)
  return farCall(cpu, operation, pointer.selector, pointer.offset)
}

@inline(never)
func farCallIndirect(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let pointer = indirectPointer(cpu, operation) else { return false }
  return farCall(cpu, operation, pointer.selector, pointer.offset)
}

// MARK: Code segments

/// Installs a code segment and jumps; the checks are done.
func enter(_ cpu: CPU, _ code: Descriptor, selector: UInt16, level: UInt32, rip: UInt64) {
  cpu.segments[Int(SOFT_CS)] = code.segment(
    selector: selector & 0xFFFC | UInt16(truncatingIfNeeded: level))
  cpu.pointee.rip = rip
  updateMode(cpu)
}

/// Whether an offset may be executed in a code segment that is not yet loaded; #GP(0) otherwise.
func checkTarget(_ cpu: CPU, _ code: Descriptor, _ offset: UInt64) -> Bool {
  if cpu.hasMode(SOFT_MODE_LONG), code.isLong {
    return isCanonical(offset) || protectionFault(cpu)
  }
  return offset <= UInt64(code.limit) || protectionFault(cpu)
}

/// A code segment for a transfer that keeps the privilege level; nil after an exception.
private func checkSameLevel(_ cpu: CPU, _ code: Descriptor, _ selector: UInt16) -> Bool {
  let level = cpu.pointee.cpl
  let isAllowed =
    code.isConforming
    ? code.privilegeLevel <= level
    : UInt32(selector & 3) <= level && code.privilegeLevel == level
  guard code.isCode, isAllowed,
    !(cpu.hasMode(SOFT_MODE_LONG) && code.isLong && code.isDefault32)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
  guard code.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return false
  }
  return true
}

/// What a selector of a far transfer names; nil after an exception.
private func loadTransferDescriptor(_ cpu: CPU, _ selector: UInt16) -> Descriptor? {
  guard selector & 0xFFFC != 0 else {
    raiseZero(cpu, .generalProtection)
    return nil
  }
  return loadDescriptor(cpu, selector)
}

private func checkGate(_ cpu: CPU, _ gate: Descriptor, _ selector: UInt16) -> Bool {
  guard gate.privilegeLevel >= cpu.pointee.cpl, gate.privilegeLevel >= UInt32(selector & 3) else {
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
  guard gate.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return false
  }
  return true
}

/// The code segment behind a call gate; nil after an exception. Privilege is the caller's matter.
private func loadGateTarget(_ cpu: CPU, _ gate: Descriptor) -> Descriptor? {
  let selector = gate.gateSelector
  guard let code = loadTransferDescriptor(cpu, selector) else { return nil }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  guard code.isCode, code.privilegeLevel <= cpu.pointee.cpl,
    !isLong || (code.isLong && !code.isDefault32)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return nil
  }
  guard code.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return nil
  }
  return code
}

/// Task state, task gate: a switch instead of a transfer.
private func transferToTask(
  _ cpu: CPU, _ operation: Operation, _ descriptor: Descriptor, _ selector: UInt16,
  reason: TaskSwitchReason
) -> Bool {
  guard checkGate(cpu, descriptor, selector) else { return false }
  var task = descriptor
  var taskSelector = selector
  if descriptor.type == SystemType.taskGate {
    taskSelector = descriptor.gateSelector
    guard let named = loadTaskDescriptor(cpu, taskSelector, failure: .generalProtection) else {
      return false
    }
    task = named
  }
  // The old task goes on after this instruction; an exception of the new one is the new one's.
  let start = cpu.pointee.rip
  cpu.pointee.rip = nextInstruction(cpu, operation)
  let oldTask = cpu.segments[Int(SOFT_TR)].selector
  guard switchTask(cpu, taskSelector, task, reason: reason) else {
    if cpu.segments[Int(SOFT_TR)].selector == oldTask {
      cpu.pointee.rip = start
    } else {
      // `fault` is going to add the offset.
      cpu.pointee.rip &-= UInt64(operation.pointee.offset)
    }
    return false
  }
  return true
}

// MARK: JMP

private func farJump(
  _ cpu: CPU, _ operation: Operation, _ selector: UInt16, _ offset: UInt64
) -> Bool {
  guard cpu.hasMode(SOFT_MODE_PROTECTED) else {
    guard offset <= UInt64(cpu.segments[Int(SOFT_CS)].limit) else { return protectionFault(cpu) }
    loadRealSegment(cpu, Int(SOFT_CS), selector)
    cpu.pointee.rip = offset
    updateMode(cpu)
    return true
  }
  guard var descriptor = loadTransferDescriptor(cpu, selector) else { return false }
  if descriptor.type & 0x10 != 0 {
    guard checkSameLevel(cpu, descriptor, selector), checkTarget(cpu, descriptor, offset),
      markAccessed(cpu, &descriptor)
    else { return false }
    enter(cpu, descriptor, selector: selector, level: cpu.pointee.cpl, rip: offset)
    return true
  }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  switch descriptor.type {
  case SystemType.callGate,
    SystemType.callGate16 where !isLong:
    guard checkGate(cpu, descriptor, selector),
      loadUpperHalf(cpu, &descriptor, selector: selector),
      var code = loadGateTarget(cpu, descriptor)
    else { return false }
    guard code.isConforming || code.privilegeLevel == cpu.pointee.cpl else {
      raise(cpu, .generalProtection, selector: descriptor.gateSelector)
      return false
    }
    let target = isLong ? descriptor.gateOffset : descriptor.gateOffset & gateMask(descriptor)
    guard checkTarget(cpu, code, target), markAccessed(cpu, &code) else { return false }
    enter(
      cpu, code, selector: descriptor.gateSelector, level: cpu.pointee.cpl, rip: target)
    return true
  case SystemType.taskGate where !isLong, SystemType.availableTask where !isLong,
    SystemType.availableTask16 where !isLong:
    return transferToTask(cpu, operation, descriptor, selector, reason: .jump)
  default:
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
}

// MARK: CALL

private func farCall(
  _ cpu: CPU, _ operation: Operation, _ selector: UInt16, _ offset: UInt64
) -> Bool {
  let width = operandBytes(operation)
  let returnAddress = nextInstruction(cpu, operation)
  let returnSelector = UInt64(cpu.segments[Int(SOFT_CS)].selector)
  guard cpu.hasMode(SOFT_MODE_PROTECTED) else {
    guard offset <= UInt64(cpu.segments[Int(SOFT_CS)].limit) else { return protectionFault(cpu) }
    var stack = SystemStack(cpu)
    guard stack.reserve(2, width: width), stack.push(returnSelector, width: width),
      stack.push(returnAddress, width: width)
    else { return false }
    stack.commit()
    loadRealSegment(cpu, Int(SOFT_CS), selector)
    cpu.pointee.rip = offset
    updateMode(cpu)
    return true
  }
  guard var descriptor = loadTransferDescriptor(cpu, selector) else { return false }
  if descriptor.type & 0x10 != 0 {
    guard checkSameLevel(cpu, descriptor, selector) else { return false }
    var stack = SystemStack(cpu)
    guard stack.reserve(2, width: width), checkTarget(cpu, descriptor, offset),
      markAccessed(cpu, &descriptor), stack.push(returnSelector, width: width),
      stack.push(returnAddress, width: width)
    else { return false }
    stack.commit()
    enter(cpu, descriptor, selector: selector, level: cpu.pointee.cpl, rip: offset)
    return true
  }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  switch descriptor.type {
  case SystemType.callGate,
    SystemType.callGate16 where !isLong:
    guard checkGate(cpu, descriptor, selector),
      loadUpperHalf(cpu, &descriptor, selector: selector),
      let code = loadGateTarget(cpu, descriptor)
    else { return false }
    return callThroughGate(cpu, descriptor, code, returnSelector, returnAddress)
  case SystemType.taskGate where !isLong, SystemType.availableTask where !isLong,
    SystemType.availableTask16 where !isLong:
    return transferToTask(cpu, operation, descriptor, selector, reason: .call)
  default:
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
}

private func callThroughGate(
  _ cpu: CPU, _ gate: Descriptor, _ target: Descriptor, _ returnSelector: UInt64,
  _ returnAddress: UInt64
) -> Bool {
  var code = target
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  let offset = isLong ? gate.gateOffset : gate.gateOffset & gateMask(gate)
  let width: UInt64 = isLong ? 8 : gate.type & 8 != 0 ? 4 : 2
  let level = code.isConforming ? cpu.pointee.cpl : code.privilegeLevel
  guard checkTarget(cpu, code, offset) else { return false }
  guard level < cpu.pointee.cpl else {
    let current = SystemStack(cpu)
    var stack =
      isLong
      ? SystemStack(
        cpu, segment: current.segment, pointer: current.pointer, is64: true,
        classNumber: current.classNumber, errorSelector: 0) : current
    guard stack.reserve(2, width: width), markAccessed(cpu, &code),
      stack.push(returnSelector, width: width), stack.push(returnAddress, width: width)
    else { return false }
    stack.commit()
    enter(cpu, code, selector: gate.gateSelector, level: level, rip: offset)
    return true
  }

  let old = SystemStack(cpu)
  var stack: SystemStack
  var parameters: UInt64 = 0
  if isLong {
    guard let pointer = loadTaskField(cpu, 4 &+ UInt64(level) &* 8, count: 8) else { return false }
    stack = SystemStack(
      cpu, segment: nullStack(selector: UInt16(truncatingIfNeeded: level), level: level),
      pointer: pointer, is64: true, classNumber: SystemStack.classNumber(level: level),
      errorSelector: 0)
  } else {
    guard let inner = innerStack(cpu, level: level) else { return false }
    stack = inner
    parameters = gate.gateParameters
  }
  guard stack.reserve(4 &+ parameters, width: width), markAccessed(cpu, &code),
    stack.push(UInt64(cpu.segments[Int(SOFT_SS)].selector), width: width),
    stack.push(cpu.registers[Int(SOFT_RSP)], width: width)
  else { return false }
  var number = parameters
  while number > 0 {
    number &-= 1
    guard let value = old.peek(at: number &* width, width: width),
      stack.push(value, width: width)
    else { return false }
  }
  guard stack.push(returnSelector, width: width), stack.push(returnAddress, width: width) else {
    return false
  }
  cpu.segments[Int(SOFT_SS)] = stack.segment
  stack.commit()
  enter(cpu, code, selector: gate.gateSelector, level: level, rip: offset)
  return true
}

// MARK: RET

/// RETF: `immediate` bytes of parameters are dropped.
@inline(never)
func farReturn(_ cpu: CPU, _ operation: Operation, immediate: UInt64) -> Bool {
  let width = operandBytes(operation)
  var stack = SystemStack(cpu)
  guard let offset = stack.pop(width: width), let selectorValue = stack.pop(width: width) else {
    return false
  }
  let selector = UInt16(truncatingIfNeeded: selectorValue)
  guard cpu.hasMode(SOFT_MODE_PROTECTED) else {
    guard offset <= UInt64(cpu.segments[Int(SOFT_CS)].limit) else { return protectionFault(cpu) }
    stack.skip(immediate)
    stack.commit()
    loadRealSegment(cpu, Int(SOFT_CS), selector)
    cpu.pointee.rip = offset
    updateMode(cpu)
    return true
  }
  guard var code = checkedReturnSegment(cpu, selector) else { return false }
  let level = UInt32(selector & 3)
  guard level > cpu.pointee.cpl else {
    guard checkTarget(cpu, code, offset), markAccessed(cpu, &code) else { return false }
    stack.skip(immediate)
    stack.commit()
    enter(cpu, code, selector: selector, level: level, rip: offset)
    return true
  }
  stack.skip(immediate)
  guard let pointer = stack.pop(width: width), let stackSelector = stack.pop(width: width),
    let segment = checkedOuterStack(
      cpu, UInt16(truncatingIfNeeded: stackSelector), level: level, code: code),
    checkTarget(cpu, code, offset), markAccessed(cpu, &code)
  else { return false }
  leaveLevel(
    cpu, code, selector: selector, level: level, rip: offset, stack: segment, pointer: pointer,
    width: width)
  let outer = SystemStack(cpu)
  var adjusted = outer
  adjusted.skip(immediate)
  adjusted.commit()
  return true
}

/// The code segment that a RET or IRET names; nil after an exception.
func checkedReturnSegment(_ cpu: CPU, _ selector: UInt16) -> Descriptor? {
  guard let code = loadTransferDescriptor(cpu, selector) else { return nil }
  let level = UInt32(selector & 3)
  guard code.isCode, level >= cpu.pointee.cpl,
    code.isConforming ? code.privilegeLevel <= level : code.privilegeLevel == level,
    !(cpu.hasMode(SOFT_MODE_LONG) && code.isLong && code.isDefault32)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return nil
  }
  guard code.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return nil
  }
  return code
}

/// The stack segment of an outer level; nil after an exception. 64-bit code below ring 3 may have none.
func checkedOuterStack(
  _ cpu: CPU, _ selector: UInt16, level: UInt32, code: Descriptor
) -> soft_segment? {
  if selector & 0xFFFC == 0 {
    guard cpu.hasMode(SOFT_MODE_LONG), code.isLong, level < 3, UInt32(selector & 3) == level
    else {
      raiseZero(cpu, .generalProtection)
      return nil
    }
    return nullStack(selector: selector, level: level)
  }
  return checkedStackSegment(cpu, selector, level: level)
}

/// Enters an outer level with its stack; the checks are done.
func leaveLevel(
  _ cpu: CPU, _ code: Descriptor, selector: UInt16, level: UInt32, rip: UInt64,
  stack: soft_segment, pointer: UInt64, width: UInt64
) {
  cpu.segments[Int(SOFT_SS)] = stack
  let register = cpu.registers + Int(SOFT_RSP)
  let isLongCode = cpu.hasMode(SOFT_MODE_LONG) && code.isLong
  if isLongCode {
    register.pointee = pointer
  } else if stack.has(SegmentAttribute.default32) {
    register.pointee = pointer & 0xFFFF_FFFF
  } else {
    register.pointee = register.pointee & ~0xFFFF | pointer & 0xFFFF
  }
  enter(cpu, code, selector: selector, level: level, rip: rip)
  dropInnerSegments(cpu, level: level)
}
