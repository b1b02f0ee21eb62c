// Handlers of instructions with an MMX register among their operands. They are rare: each looks its operands up in the
// table.
import CSoftProcessor

/// Where the register of an instruction lies that may be MMX or XMM.
@inline(__always)
private func register(
  _ cpu: CPU, _ number: UInt8, _ flags: UInt8, _ bit: Int
) -> UnsafeMutableRawPointer {
  flags & UInt8(bit) != 0 ? cpu.mmx(number) : cpu.vector(number)
}

/// Both halves of the state are needed by instructions between MMX and XMM registers.
@inline(never)
private func mixedReady(_ cpu: CPU, _ operation: Operation, _ flags: UInt8) -> Bool {
  let both = UInt8(SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM)
  let shape = vectorEntry(operation).pointee.shape
  if flags & both != both, Int(shape) == Int(SOFT_SHAPE_LOAD), !vectorReady(cpu) { return false }
  return mmxReady(cpu)
}

/// The x87 as an MMX instruction leaves it.
@inline(__always)
private func finish(_ cpu: CPU, written number: UInt8?) {
  soft_x87_enter_mmx(cpu)
  if let number { soft_x87_set_mmx_exponent(cpu, UInt32(number)) }
}

/// MMX or XMM register from MMX or XMM register or memory.
func mmxLoad(_ cpu: CPU, _ operation: Operation) {
  let entry = vectorEntry(operation).pointee
  guard mixedReady(cpu, operation, entry.flags) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    guard
      let loaded = vectorSource(
        cpu, operation, size: UInt64(entry.size),
        isAligned: entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0)
    else { return fault(cpu, operation) }
    source = loaded
  } else {
    source = UnsafeRawPointer(
      register(cpu, operation.pointee.rm, entry.flags, Int(SOFT_VECTOR_MMX_RM)))
  }
  let target = register(cpu, operation.pointee.reg, entry.flags, Int(SOFT_VECTOR_MMX_REG))
  let writesMMX = entry.flags & UInt8(SOFT_VECTOR_MMX_REG) != 0
  // CVTPI2PS from memory has no MMX register and leaves the x87 alone. An unmasked exception comes after the change.
  let usesMMX = writesMMX || !operation.isMemory
  if usesMMX { soft_x87_enter_mmx(cpu) }
  guard runKernel(cpu, operation, target, source) else { return fault(cpu, operation) }
  if writesMMX { soft_x87_set_mmx_exponent(cpu, UInt32(operation.pointee.reg)) }
  next(cpu, operation)
}

/// MOVQ, MOVNTQ: MMX register or memory from MMX register.
func mmxStore(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let source = cpu.mmx(operation.pointee.reg)
  if operation.isMemory {
    guard vectorStore(cpu, operation, from: source, size: 8, isAligned: false) else {
      return fault(cpu, operation)
    }
    finish(cpu, written: nil)
  } else {
    _ = runKernel(cpu, operation, cpu.mmx(operation.pointee.rm), source)
    finish(cpu, written: operation.pointee.rm)
  }
  next(cpu, operation)
}

/// PMOVMSKB, PEXTRW.
func mmxToGeneral(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let result = cpu.scratch + 16
  _ = runKernel(cpu, operation, result, cpu.mmx(operation.pointee.rm))
  cpu.registers[Int(operation.pointee.reg)] = result.load(as: UInt64.self)
  finish(cpu, written: nil)
  next(cpu, operation)
}

/// MOVD, MOVQ to a general register or memory.
func mmxExtract(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let isWide = operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) == 3
  let source = cpu.mmx(operation.pointee.reg)
  let value = source.load(as: UInt64.self)
  if operation.isMemory {
    guard vectorStore(cpu, operation, from: source, size: isWide ? 8 : 4, isAligned: false) else {
      return fault(cpu, operation)
    }
  } else {
    cpu.registers[Int(operation.pointee.rm)] = isWide ? value : value & 0xFFFF_FFFF
  }
  finish(cpu, written: nil)
  next(cpu, operation)
}

/// MOVD, MOVQ, PINSRW from a general register or memory.
func mmxInsert(_ cpu: CPU, _ operation: Operation) {
  let entry = vectorEntry(operation).pointee
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let isWide =
    operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) == 3
    && entry.flags & UInt8(SOFT_VECTOR_WIDE) != 0
  let source: UnsafeRawPointer
  if operation.isMemory {
    guard
      let loaded = vectorSource(
        cpu, operation, size: isWide ? 8 : UInt64(entry.size), isAligned: false)
    else { return fault(cpu, operation) }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.registers + Int(operation.pointee.rm))
  }
  let target = cpu.mmx(operation.pointee.reg)
  if isWide {
    _ = soft_vector_call_wide(cpu, operation.pointee.immediate, target, source)
  } else {
    _ = soft_vector_call(cpu, operation.pointee.immediate, target, source)
  }
  finish(cpu, written: operation.pointee.reg)
  next(cpu, operation)
}

/// Shifts by an immediate.
func mmxGroup(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let register = cpu.mmx(operation.pointee.rm)
  _ = runKernel(cpu, operation, register, register)
  finish(cpu, written: operation.pointee.rm)
  next(cpu, operation)
}

/// MASKMOVQ.
func mmxMaskedStore(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  let mask = cpu.scratch + 16
  _ = runKernel(cpu, operation, mask, cpu.mmx(operation.pointee.rm))
  finish(cpu, written: nil)
  guard
    storeMasked(
      cpu, operation, from: cpu.mmx(operation.pointee.reg), mask: mask.load(as: UInt32.self),
      count: 8)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// EMMS: all registers are empty.
func emptyMMX(_ cpu: CPU, _ operation: Operation) {
  guard mmxReady(cpu) else { return fault(cpu, operation) }
  soft_x87_enter_mmx(cpu)
  cpu.pointee.ftw = 0
  next(cpu, operation)
}
