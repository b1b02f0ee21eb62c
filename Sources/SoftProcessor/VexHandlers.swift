// Handlers of VEX instructions, one for each shape of operands: see soft_vex.h for what computes.
import CSoftProcessor

/// CR4.OSXSAVE, and XCR0 with SSE and AVX; then CR0.TS. False after raising #UD or #NM (Intel SDM 2A, table 2-21).
@inline(__always)
func vexReady(_ cpu: CPU) -> Bool {
  if cpu.pointee.cr4 & Control4.extendedSave != 0, cpu.pointee.xcr0 & 6 == 6,
    cpu.pointee.cr0 & Control0.taskSwitched == 0
  {
    return true
  }
  refuseVex(cpu)
  return false
}

@inline(never)
private func refuseVex(_ cpu: CPU) {
  let isOn = cpu.pointee.cr4 & Control4.extendedSave != 0 && cpu.pointee.xcr0 & 6 == 6
  raise(cpu, isOn ? .deviceNotAvailable : .invalidOpcode)
}

@inline(__always)
private func size(_ operation: Operation) -> UInt64 {
  let entry = soft_vex_of(operation.pointee.immediate)
  return UInt64(
    soft_vex_is_256(operation.pointee.immediate) != 0
      ? entry.pointee.size256 : entry.pointee.size)
}

/// The memory operand's bytes in the scratch area, with zeroes behind them. Nil after raising.
@inline(__always)
private func memorySource(
  _ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool
) -> UnsafeRawPointer? {
  guard let address = vexAddress(cpu, operation, size: size, isAligned: isAligned, isWrite: false)
  else { return nil }
  (cpu.scratch + 16).storeBytes(of: SIMD4<UInt64>.zero, as: SIMD4<UInt64>.self)
  cpu.scratch.storeBytes(of: SIMD2<UInt64>.zero, as: SIMD2<UInt64>.self)
  guard loadBytes(cpu, address, into: cpu.scratch, count: size) else { return nil }
  return UnsafeRawPointer(cpu.scratch)
}

@inline(never)
private func vexAddress(
  _ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool, isWrite: Bool
) -> UInt64? {
  if isAligned, linearAddress(cpu, operation) & (size &- 1) != 0 {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  return operandAddress(cpu, operation, size: size, isWrite: isWrite)
}

@inline(__always)
private func compute(
  _ cpu: CPU, _ operation: Operation, _ target: UInt8, _ source: UnsafeRawPointer,
  isWide: Bool = false
) -> Bool {
  if soft_vex_run(
    cpu, operation.pointee.immediate, UInt32(target), source, isWide ? 1 : 0) == 0
  {
    return true
  }
  raiseVectorException(cpu)
  return false
}

// MARK: Registers and memory

func vexFromRegister(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu),
    compute(cpu, operation, operation.pointee.reg, cpu.vector(operation.pointee.rm))
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
private func fromMemory(_ cpu: CPU, _ operation: Operation, isAligned: Bool) {
  guard vexReady(cpu),
    let source = memorySource(cpu, operation, size: size(operation), isAligned: isAligned),
    compute(cpu, operation, operation.pointee.reg, source)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}
func vexFromMemory(_ cpu: CPU, _ operation: Operation) {
  fromMemory(cpu, operation, isAligned: false)
}
func vexFromMemoryAligned(_ cpu: CPU, _ operation: Operation) {
  fromMemory(cpu, operation, isAligned: true)
}

func vexToRegister(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu),
    compute(cpu, operation, operation.pointee.rm, cpu.vector(operation.pointee.reg))
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
private func toMemory(_ cpu: CPU, _ operation: Operation, isAligned: Bool) {
  guard vexReady(cpu), storeResult(cpu, operation, isAligned: isAligned) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(never)
private func storeResult(_ cpu: CPU, _ operation: Operation, isAligned: Bool) -> Bool {
  let result = cpu.scratch.assumingMemoryBound(to: UInt8.self)
  let count = size(operation)
  guard
    let address = vexAddress(cpu, operation, size: count, isAligned: isAligned, isWrite: true)
  else { return false }
  // A fault leaves the flags of MXCSR as they were.
  if soft_vex_of(operation.pointee.immediate).pointee.flags & UInt16(SOFT_VEX_FLOAT) != 0 {
    guard checkCanonical(cpu, address, count: count),
      probeStore(cpu, address, count: count, classNumber: cpu.pointee.tlb_class)
    else { return false }
  }
  if soft_vex_compute(
    cpu, operation.pointee.immediate, UInt32(operation.pointee.reg),
    cpu.vector(operation.pointee.reg), 0, result) != 0
  {
    raiseVectorException(cpu)
    return false
  }
  return storeBytes(cpu, address, from: result, count: count)
}
func vexToMemory(_ cpu: CPU, _ operation: Operation) {
  toMemory(cpu, operation, isAligned: false)
}
func vexToMemoryAligned(_ cpu: CPU, _ operation: Operation) {
  toMemory(cpu, operation, isAligned: true)
}

// MARK: General registers

@inline(never)
private func toGeneral(_ cpu: CPU, _ operation: Operation, isWide: Bool) -> Bool {
  let source: UnsafeRawPointer
  if operation.isMemory {
    guard
      let loaded = memorySource(
        cpu, operation, size: UInt64(soft_vex_of(operation.pointee.immediate).pointee.size),
        isAligned: false)
    else { return false }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  let result = (cpu.scratch + 64).assumingMemoryBound(to: UInt64.self)
  if soft_vex_to_general(cpu, operation.pointee.immediate, source, isWide ? 1 : 0, result) != 0 {
    raiseVectorException(cpu)
    return false
  }
  cpu.registers[Int(operation.pointee.reg)] = result.pointee
  return true
}
func vexToGeneral32(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), toGeneral(cpu, operation, isWide: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
func vexToGeneral64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), toGeneral(cpu, operation, isWide: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(never)
private func extract(_ cpu: CPU, _ operation: Operation, isWide: Bool) -> Bool {
  let result = cpu.scratch.assumingMemoryBound(to: UInt8.self)
  _ = soft_vex_compute(
    cpu, operation.pointee.immediate, 0, cpu.vector(operation.pointee.reg), isWide ? 1 : 0, result)
  guard operation.isMemory else {
    cpu.registers[Int(operation.pointee.rm)] = cpu.scratch.load(as: UInt64.self)
    return true
  }
  let count =
    isWide ? 8 : UInt64(soft_vex_of(operation.pointee.immediate).pointee.size)
  guard let address = operandAddress(cpu, operation, size: count, isWrite: true) else {
    return false
  }
  return storeBytes(cpu, address, from: result, count: count)
}
func vexExtract32(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), extract(cpu, operation, isWide: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
func vexExtract64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), extract(cpu, operation, isWide: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(never)
private func insert(_ cpu: CPU, _ operation: Operation, isWide: Bool) -> Bool {
  let source: UnsafeRawPointer
  if operation.isMemory {
    let count = isWide ? 8 : UInt64(soft_vex_of(operation.pointee.immediate).pointee.size)
    guard let loaded = memorySource(cpu, operation, size: count, isAligned: false) else {
      return false
    }
    source = loaded
  } else {
    (cpu.scratch + 16).storeBytes(of: 0, as: UInt64.self)
    cpu.scratch.storeBytes(
      of: cpu.registers[Int(operation.pointee.rm)], as: UInt64.self)
    source = UnsafeRawPointer(cpu.scratch)
  }
  return compute(cpu, operation, operation.pointee.reg, source, isWide: isWide)
}
func vexInsert32(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), insert(cpu, operation, isWide: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
func vexInsert64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), insert(cpu, operation, isWide: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

// MARK: Flags and strings

@inline(never)
private func compare(_ cpu: CPU, _ operation: Operation) -> Bool {
  let source: UnsafeRawPointer
  if operation.isMemory {
    guard
      let loaded = memorySource(cpu, operation, size: size(operation), isAligned: false)
    else { return false }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  if soft_vex_compare(
    cpu, operation.pointee.immediate, UInt32(operation.pointee.reg), source) != 0
  {
    raiseVectorException(cpu)
    return false
  }
  writeFlags(cpu, cpu.pointee.vector_flags)
  return true
}
func vexCompare(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), compare(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// VPCMPxSTRx: the older instruction; what gives a mask clears the rest of its register. Opcodes 60 and 62.
@inline(__always)
private func clearAfterString(_ cpu: CPU, _ operation: Operation) {
  if operation.pointee.opcode & 1 == 0 { soft_vex_clear_upper(cpu, 0) }
}

/// The operand can be read, so that nothing was changed before a fault.
@inline(__always)
private func isStringReady(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard vexReady(cpu) else { return false }
  return !operation.isMemory
    || memorySource(cpu, operation, size: 16, isAligned: false) != nil
}

func vexString(_ cpu: CPU, _ operation: Operation) {
  guard isStringReady(cpu, operation) else { return fault(cpu, operation) }
  clearAfterString(cpu, operation)
  vectorFlags(cpu, operation)
}
func vexStringWide(_ cpu: CPU, _ operation: Operation) {
  guard isStringReady(cpu, operation) else { return fault(cpu, operation) }
  clearAfterString(cpu, operation)
  vectorStringWide(cpu, operation)
}

/// Shifts by an immediate: VEX.vvvv is the destination.
func vexGroup(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  _ = soft_vex_run(
    cpu, operation.pointee.immediate, soft_vex_first(operation.pointee.immediate),
    cpu.vector(operation.pointee.rm), 0)
  next(cpu, operation)
}

/// VMASKMOVDQU.
func vexMaskedStore(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  vectorMaskedStore(cpu, operation)
}

func vexZeroUpper(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  soft_vex_zero(cpu, cpu.hasMode(SOFT_MODE_CODE64) ? 16 : 8, 0)
  next(cpu, operation)
}
func vexZeroAll(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  soft_vex_zero(cpu, cpu.hasMode(SOFT_MODE_CODE64) ? 16 : 8, 1)
  next(cpu, operation)
}
