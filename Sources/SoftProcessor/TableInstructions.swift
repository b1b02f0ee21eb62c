// Descriptor tables and looking at descriptors: LGDT, LIDT, LLDT, LTR and their stores; LAR, LSL, VERR, VERW, ARPL
// (Intel SDM 2A, 2B).
import CSoftProcessor

@inline(never)
func storeTable(_ cpu: CPU, _ operation: Operation, isInterrupt: Bool) -> Bool {
  guard checkUserPrevention(cpu) else { return false }
  let is64 = cpu.hasMode(SOFT_MODE_CODE64)
  let count = is64 ? 10 : 6
  guard let address = operandAddress(cpu, operation, size: UInt64(count), isWrite: true) else {
    return false
  }
  let base = isInterrupt ? cpu.pointee.idtr_base : cpu.pointee.gdtr_base
  let limit = isInterrupt ? cpu.pointee.idtr_limit : cpu.pointee.gdtr_limit
  let classNumber = cpu.pointee.tlb_class
  return probeStore(cpu, address, count: UInt64(count), classNumber: classNumber)
    && store(cpu, address, UInt64(limit) & 0xFFFF, count: 2, classNumber: classNumber)
    && store(cpu, address &+ 2, base, count: is64 ? 8 : 4, classNumber: classNumber)
}

@inline(never)
func loadTable(_ cpu: CPU, _ operation: Operation, isInterrupt: Bool) -> Bool {
  guard requireSupervisor(cpu) else { return false }
  let is64 = cpu.hasMode(SOFT_MODE_CODE64)
  let width: UInt64 = is64 ? 8 : 4
  guard let limit = loadMemoryOperand(cpu, operation, at: 0, count: 2),
    var base = loadMemoryOperand(cpu, operation, at: 2, count: width)
  else { return false }
  if is64 {
    guard isCanonical(base) else { return protectionFault(cpu) }
  } else if operandBytes(operation) == 2 {
    base &= 0xFF_FFFF
  }
  if isInterrupt {
    cpu.pointee.idtr_base = base
    cpu.pointee.idtr_limit = UInt32(truncatingIfNeeded: limit)
  } else {
    cpu.pointee.gdtr_base = base
    cpu.pointee.gdtr_limit = UInt32(truncatingIfNeeded: limit)
  }
  return true
}

/// SLDT, STR.
@inline(never)
func storeSystemSelector(_ cpu: CPU, _ operation: Operation, index: Int) -> Bool {
  guard requireProtected(cpu), checkUserPrevention(cpu) else { return false }
  return storeOperand(
    cpu, operation, UInt64(cpu.segments[index].selector),
    count: isMemory(operation) ? 2 : operandBytes(operation))
}

@inline(never)
func loadLocalTable(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard requireProtected(cpu), requireSupervisor(cpu),
    let value = loadOperand(cpu, operation, count: 2)
  else { return false }
  return loadLocalTable(cpu, UInt16(truncatingIfNeeded: value), failure: .generalProtection)
}

/// - Parameter exception: #GP for LLDT, #TS for a task switch.
func loadLocalTable(_ cpu: CPU, _ selector: UInt16, failure exception: Exception) -> Bool {
  let segment = cpu.segments + Int(SOFT_LDTR)
  guard selector & 0xFFFC != 0 else {
    segment.pointee = soft_segment(base: 0, limit: 0, selector: selector, attributes: 0)
    return true
  }
  guard selector & 4 == 0 else {
    raise(cpu, exception, selector: selector)
    return false
  }
  guard var descriptor = loadDescriptor(cpu, selector, beyond: exception) else { return false }
  guard descriptor.type == SystemType.localTable else {
    raise(cpu, exception, selector: selector)
    return false
  }
  guard descriptor.isPresent else {
    raise(
      cpu, exception == .generalProtection ? .segmentNotPresent : exception, selector: selector)
    return false
  }
  guard loadUpperHalf(cpu, &descriptor, selector: selector, beyond: exception) else {
    return false
  }
  segment.pointee = descriptor.segment(selector: selector)
  return true
}

@inline(never)
func loadTaskRegister(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard requireProtected(cpu), requireSupervisor(cpu),
    let value = loadOperand(cpu, operation, count: 2)
  else { return false }
  let selector = UInt16(truncatingIfNeeded: value)
  guard selector & 0xFFFC != 0 else { return protectionFault(cpu) }
  guard selector & 4 == 0 else {
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
  guard var task = loadDescriptor(cpu, selector) else { return false }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  guard
    task.type == SystemType.availableTask
      || (!isLong && task.type == SystemType.availableTask16)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
  guard task.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return false
  }
  guard loadUpperHalf(cpu, &task, selector: selector) else { return false }
  task.raw |= 1 << 41
  guard systemStore(cpu, task.address &+ 5, task.raw >> 40 & 0xFF, count: 1) else { return false }
  cpu.segments[Int(SOFT_TR)] = task.segment(selector: selector)
  return true
}

// MARK: Looking at descriptors

private enum Inspection {
  case visible(Descriptor)
  case hidden
  /// An exception was raised.
  case failed
}

/// A descriptor that LAR, LSL, VERR, VERW may see: a wrong selector is no exception.
private func inspect(_ cpu: CPU, _ selector: UInt16) -> Inspection {
  guard selector & 0xFFFC != 0, let address = descriptorAddress(cpu, selector) else {
    return .hidden
  }
  guard let raw = systemLoad(cpu, address, count: 8) else { return .failed }
  let descriptor = Descriptor(raw: raw, address: address)
  if descriptor.isConforming { return .visible(descriptor) }
  let level = max(cpu.pointee.cpl, UInt32(selector & 3))
  return descriptor.privilegeLevel >= level ? .visible(descriptor) : .hidden
}

/// LAR, LSL.
@inline(never)
func inspectDescriptor(_ cpu: CPU, _ operation: Operation, isLimit: Bool) -> Bool {
  guard requireProtected(cpu), let value = loadOperand(cpu, operation, count: 2) else {
    return false
  }
  let descriptor: Descriptor
  switch inspect(cpu, UInt16(truncatingIfNeeded: value)) {
  case .failed: return false
  case .hidden:
    setZeroFlag(cpu, false)
    return true
  case .visible(let found): descriptor = found
  }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  let isKnown: Bool
  switch descriptor.type {
  case 0x10...0x1F, SystemType.localTable, SystemType.availableTask, SystemType.busyTask:
    isKnown = true
  case SystemType.availableTask16, SystemType.busyTask16: isKnown = !isLong
  case SystemType.callGate: isKnown = !isLimit
  case SystemType.callGate16, SystemType.taskGate: isKnown = !isLimit && !isLong
  default: isKnown = false
  }
  guard isKnown else {
    setZeroFlag(cpu, false)
    return true
  }
  let result = isLimit ? UInt64(descriptor.limit) : descriptor.raw >> 32 & 0x00FF_FF00
  setRegister(cpu, operation.pointee.reg, result, count: operandBytes(operation))
  setZeroFlag(cpu, true)
  return true
}

/// VERR, VERW.
@inline(never)
func verifySegment(_ cpu: CPU, _ operation: Operation, isWrite: Bool) -> Bool {
  guard requireProtected(cpu), let value = loadOperand(cpu, operation, count: 2) else {
    return false
  }
  switch inspect(cpu, UInt16(truncatingIfNeeded: value)) {
  case .failed: return false
  case .hidden: setZeroFlag(cpu, false)
  case .visible(let descriptor):
    setZeroFlag(cpu, isWrite ? descriptor.isWritableData : descriptor.isReadable)
  }
  return true
}

@inline(never)
func adjustRequestedLevel(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard requireProtected(cpu), let destination = loadOperand(cpu, operation, count: 2) else {
    return false
  }
  let source = cpu.registers[Int(operation.pointee.reg)]
  let isLower = destination & 3 < source & 3
  if isLower {
    guard storeOperand(cpu, operation, destination & ~3 | source & 3, count: 2) else {
      return false
    }
  }
  setZeroFlag(cpu, isLower)
  return true
}

// MARK: Segment registers

/// The segment register of ModRM.reg; #UD for those that do not exist.
private func segmentIndex(_ operation: Operation) -> Int? {
  let index = Int(operation.pointee.reg & 7)
  return index < 6 ? index : nil
}

@inline(never)
func moveFromSegment(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let index = segmentIndex(operation) else { return invalidOpcode(cpu) }
  return storeOperand(
    cpu, operation, UInt64(cpu.segments[index].selector),
    count: isMemory(operation) ? 2 : operandBytes(operation))
}

@inline(never)
func moveToSegment(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let index = segmentIndex(operation), index != Int(SOFT_CS) else {
    return invalidOpcode(cpu)
  }
  guard let value = loadOperand(cpu, operation, count: 2),
    loadSegment(cpu, index, UInt16(truncatingIfNeeded: value))
  else { return false }
  if index == Int(SOFT_SS) { castShadow(cpu, isStack: true) }
  return true
}

@inline(never)
func pushSegment(_ cpu: CPU, _ operation: Operation, index: Int) -> Bool {
  var stack = SystemStack(cpu)
  guard stack.push(UInt64(cpu.segments[index].selector), width: stackBytes(cpu, operation)) else {
    return false
  }
  stack.commit()
  return true
}

@inline(never)
func popSegment(_ cpu: CPU, _ operation: Operation, index: Int) -> Bool {
  var stack = SystemStack(cpu)
  guard let value = stack.peek(at: 0, width: 2) else { return false }
  let width = stackBytes(cpu, operation)
  stack.skip(width)
  guard loadSegment(cpu, index, UInt16(truncatingIfNeeded: value)) else { return false }
  // In the width that the stack had before.
  stack.commit()
  if index == Int(SOFT_SS) { castShadow(cpu, isStack: true) }
  return true
}

/// LDS, LES, LFS, LGS, LSS.
@inline(never)
func loadFarPointer(_ cpu: CPU, _ operation: Operation, index: Int) -> Bool {
  let width = operandBytes(operation)
  guard let selector = loadMemoryOperand(cpu, operation, at: width, count: 2),
    let offset = loadMemoryOperand(cpu, operation, at: 0, count: width),
    loadSegment(cpu, index, UInt16(truncatingIfNeeded: selector))
  else { return false }
  setRegister(cpu, operation.pointee.reg, offset, count: width)
  return true
}
