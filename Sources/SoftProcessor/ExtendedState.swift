// Instructions that save and restore the floating-point state and MXCSR, the fences beside them in group 15, and EMMS.
import CSoftProcessor

/// The handler of an instruction of 0F AE or 0F 77, or nil: RDFSBASE and its kin are not here.
func stateHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  guard instruction.map == 1, !instruction.hasLock else { return nil }
  if instruction.opcode == 0x77 {
    guard instruction.repeatPrefix == 0, !instruction.hasOperandPrefix else { return nil }
    return HandlerChoice(handler: emptyMMX)
  }
  if instruction.opcode == 0xC7, !instruction.isRegisterForm, instruction.repeatPrefix == 0,
    !instruction.hasOperandPrefix, instruction.group == 4
  {
    return HandlerChoice(handler: saveCompacted)
  }
  guard instruction.opcode == 0xAE, instruction.repeatPrefix == 0 else { return nil }
  if instruction.isRegisterForm {
    guard instruction.group >= 5, !instruction.hasOperandPrefix else { return nil }
    return HandlerChoice(handler: fence)
  }
  switch (instruction.group, instruction.hasOperandPrefix) {
  case (0, false): return HandlerChoice(handler: fastSave)
  case (1, false): return HandlerChoice(handler: fastRestore)
  case (2, false): return HandlerChoice(handler: loadVectorStatus)
  case (3, false): return HandlerChoice(handler: storeVectorStatus)
  case (4, false): return HandlerChoice(handler: saveStates)
  case (5, false): return HandlerChoice(handler: restoreStates)
  case (6, false): return HandlerChoice(handler: saveStatesInUse)
  case (7, _): return HandlerChoice(handler: flushLine)
  default: return nil
  }
}

/// VLDMXCSR and VSTMXCSR.
func vexStatusHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  switch instruction.group {
  case 2:
    return HandlerChoice { cpu, operation in
      guard vexReady(cpu) else { return fault(cpu, operation) }
      loadVectorStatus(cpu, operation)
    }
  case 3:
    return HandlerChoice { cpu, operation in
      guard vexReady(cpu) else { return fault(cpu, operation) }
      storeVectorStatus(cpu, operation)
    }
  default: return nil
  }
}

/// LFENCE, MFENCE, SFENCE.
private func fence(_ cpu: CPU, _ operation: Operation) {
  soft_fence()
  next(cpu, operation)
}

/// CLFLUSH, CLFLUSHOPT: the access is checked as a load of a byte; there is no cache to flush.
private func flushLine(_ cpu: CPU, _ operation: Operation) {
  guard let address = operandAddress(cpu, operation, size: 1, isWrite: false),
    load8(cpu, address) != nil
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

private func loadVectorStatus(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu),
    let address = operandAddress(cpu, operation, size: 4, isWrite: false),
    let value = load32(cpu, address)
  else { return fault(cpu, operation) }
  guard value & 0xFFFF_0000 == 0 else {
    raise(cpu, .generalProtection, error: 0)
    return fault(cpu, operation)
  }
  soft_vector_set_status(cpu, value)
  next(cpu, operation)
}

private func storeVectorStatus(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu),
    let address = operandAddress(cpu, operation, size: 4, isWrite: true),
    store32(cpu, address, soft_vector_status(cpu))
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// The address of FXSAVE's area, aligned; nil after raising.
@inline(never)
private func areaAddress(_ cpu: CPU, _ operation: Operation, isWrite: Bool) -> UInt64? {
  guard deviceReady(cpu),
    let address = operandAddress(cpu, operation, size: 512, isWrite: isWrite)
  else { return nil }
  guard address & 15 == 0 else {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  return address
}

private func isWide(_ operation: Operation) -> UInt32 {
  operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) == 3 ? 1 : 0
}

/// Bytes that FXSAVE writes: the rest of the 512 is left as it is.
@inline(__always)
private func areaLength(_ cpu: CPU) -> UInt64 { cpu.hasMode(SOFT_MODE_CODE64) ? 416 : 288 }

@inline(never)
private func saveArea(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: true) else { return false }
  soft_vector_leave(cpu)
  soft_x87_store_legacy_area(
    cpu, cpu.scratch.assumingMemoryBound(to: UInt8.self), cpu.hasMode(SOFT_MODE_CODE64) ? 1 : 0,
    isWide(operation))
  return storeBytes(cpu, address, from: cpu.scratch, count: areaLength(cpu))
}

@inline(never)
private func restoreArea(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: false),
    loadBytes(cpu, address, into: cpu.scratch, count: areaLength(cpu))
  else { return false }
  let isLoaded = soft_x87_load_legacy_area(
    cpu, cpu.scratch.assumingMemoryBound(to: UInt8.self), cpu.hasMode(SOFT_MODE_CODE64) ? 1 : 0,
    isWide(operation))
  if isLoaded == 0 { raise(cpu, .generalProtection, error: 0) }
  return isLoaded != 0
}

private func fastSave(_ cpu: CPU, _ operation: Operation) {
  guard saveArea(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}

private func fastRestore(_ cpu: CPU, _ operation: Operation) {
  guard restoreArea(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}

// MARK: XSAVE

/// CR4.OSXSAVE and CR0.TS; false after raising #UD or #NM.
private func extendedReady(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cr4 & Control4.extendedSave != 0 else {
    raise(cpu, .invalidOpcode)
    return false
  }
  guard cpu.pointee.cr0 & Control0.taskSwitched == 0 else {
    raise(cpu, .deviceNotAvailable)
    return false
  }
  return true
}

@inline(never)
private func saveComponents(
  _ cpu: CPU, _ operation: Operation, isCompacted: Bool, skipsInitial: Bool
) -> Bool {
  guard extendedReady(cpu) else { return false }
  // XSAVEC, XSAVEOPT: only where they are offered.
  let needed: UInt32 = isCompacted ? 2 : skipsInitial ? 1 : 0
  guard extendedSaveFeatures(cpu) & needed == needed else { return invalidOpcode(cpu) }
  return saveOwnComponents(
    cpu, operation, isCompacted: isCompacted, skipsInitial: skipsInitial)
}

/// XSAVE.
private func saveStates(_ cpu: CPU, _ operation: Operation) {
  guard saveComponents(cpu, operation, isCompacted: false, skipsInitial: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

/// XSAVEOPT: what has its initial values is not written. That nothing has changed since it was restored is not used.
private func saveStatesInUse(_ cpu: CPU, _ operation: Operation) {
  guard saveComponents(cpu, operation, isCompacted: false, skipsInitial: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

/// XSAVEC.
private func saveCompacted(_ cpu: CPU, _ operation: Operation) {
  guard saveComponents(cpu, operation, isCompacted: true, skipsInitial: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

/// XRSTOR.
private func restoreStates(_ cpu: CPU, _ operation: Operation) {
  guard extendedReady(cpu), restoreOwnComponents(cpu, operation) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
