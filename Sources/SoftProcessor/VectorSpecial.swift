// Vector instructions with flags, masks or a single register: COMISS, PTEST, PCMPISTRI, shifts by an immediate,
// MASKMOVDQU.
import CSoftProcessor

/// COMISS, UCOMISS, PTEST and their kin: ZF, PF and CF come from the comparison, the others are 0.
func vectorCompare(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    let entry = vectorEntry(operation).pointee
    guard
      let loaded = vectorSource(
        cpu, operation, size: UInt64(entry.size),
        isAligned: entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0)
    else { return fault(cpu, operation) }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  guard runKernel(cpu, operation, cpu.vector(operation.pointee.reg), source) else {
    return fault(cpu, operation)
  }
  // As `writeFlags`, without branches: a result of 3 has even parity and no sign, bit 8 turns the parity.
  let flags = UInt64(cpu.pointee.vector_flags)
  cpu.pointee.flag_result = 3 &* (1 &- (flags &>> 6 & 1))
  cpu.pointee.flag_operand1 =
    (0 &- (flags & 1)) & 0xC000_0000_0000_0000 | (flags &>> 2 & 1 ^ 1) &<< 8
  next(cpu, operation)
}

/// PCMPxSTRx with 32-bit lengths: all six arithmetic flags come from the comparison.
func vectorFlags(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    let entry = vectorEntry(operation).pointee
    guard
      let loaded = vectorSource(
        cpu, operation, size: UInt64(entry.size),
        isAligned: entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0)
    else { return fault(cpu, operation) }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  guard runKernel(cpu, operation, cpu.vector(operation.pointee.reg), source) else {
    return fault(cpu, operation)
  }
  writeFlags(cpu, cpu.pointee.vector_flags)
  next(cpu, operation)
}

/// PCMPxSTRx with 64-bit lengths: the flags, and ECX or XMM0, which the kernel writes.
func vectorStringWide(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    guard let loaded = vectorSource(cpu, operation, size: 16, isAligned: false) else {
      return fault(cpu, operation)
    }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  _ = soft_vector_call_wide(
    cpu, operation.pointee.immediate, cpu.vector(operation.pointee.reg), source)
  writeFlags(cpu, cpu.pointee.vector_flags)
  next(cpu, operation)
}

/// Shifts by an immediate: ModRM.rm is the destination.
func vectorGroup(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let register = cpu.vector(operation.pointee.rm)
  _ = runKernel(cpu, operation, register, register)
  next(cpu, operation)
}

/// MASKMOVDQU: bytes of ModRM.reg to DS:rDI where ModRM.rm has the byte's top bit set.
func vectorMaskedStore(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let mask = cpu.scratch + 16
  _ = runKernel(cpu, operation, mask, cpu.vector(operation.pointee.rm))
  guard
    storeMasked(
      cpu, operation, from: cpu.vector(operation.pointee.reg), mask: mask.load(as: UInt32.self),
      count: 16)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// Byte by byte: other processors must not see bytes written that the mask leaves out. The whole operand must be
/// writable first, so that nothing is stored when a part of it is not.
@inline(never)
func storeMasked(
  _ cpu: CPU, _ operation: Operation, from source: UnsafeRawPointer, mask: UInt32, count: UInt64
) -> Bool {
  let offset = cpu.registers[Int(SOFT_RDI)] & operation.addressMask
  guard
    let address = checkedAddress(
      cpu, segment: operation.pointee.segment, offset: offset, size: count, isWrite: true),
    probeStore(cpu, address, count: count, classNumber: cpu.pointee.tlb_class)
  else { return false }
  for position in 0..<Int(truncatingIfNeeded: count) where mask >> UInt32(position) & 1 == 1 {
    let value = source.load(fromByteOffset: position, as: UInt8.self)
    guard store8(cpu, address &+ UInt64(position), value) else { return false }
  }
  return true
}
