// Operands of system instructions: few, slow, and all of one shape.
import CSoftProcessor

/// Bytes of the operand: 2, 4 or 8.
@inline(__always)
func operandBytes(_ operation: Operation) -> UInt64 {
  1 << UInt64(operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK))
}

/// Bytes of a value that is pushed or popped: 64-bit code has no pushes of 32 bits.
@inline(__always)
func stackBytes(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  let count = operandBytes(operation)
  return count == 4 && cpu.hasMode(SOFT_MODE_CODE64) ? 8 : count
}

@inline(__always)
func isMemory(_ operation: Operation) -> Bool {
  operation.pointee.flags & UInt8(SOFT_OPERATION_MEMORY) != 0
}

@inline(__always)
func byteMask(_ count: UInt64) -> UInt64 { .max >> (64 &- count &* 8) }

/// The address after an instruction, cut to the width of the code segment.
func nextInstruction(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  let next = following(cpu, operation)
  if cpu.hasMode(SOFT_MODE_CODE64) { return next }
  return next & (cpu.hasMode(SOFT_MODE_CODE32) ? 0xFFFF_FFFF : 0xFFFF)
}

/// The ModRM operand: register or memory; nil after an exception.
@inline(never)
func loadOperand(_ cpu: CPU, _ operation: Operation, count: UInt64) -> UInt64? {
  guard isMemory(operation) else {
    return cpu.registers[Int(operation.pointee.rm)] & byteMask(count)
  }
  return loadMemoryOperand(cpu, operation, at: 0, count: count)
}

/// Part of a memory operand.
@inline(never)
func loadMemoryOperand(
  _ cpu: CPU, _ operation: Operation, at offset: UInt64, count: UInt64
) -> UInt64? {
  guard let address = operandAddress(cpu, operation, size: offset &+ count, isWrite: false) else {
    return nil
  }
  return load(cpu, address &+ offset, count: count, classNumber: cpu.pointee.tlb_class)
}

/// Stores to the ModRM operand; a register of 32 bits is extended with zeros.
@inline(never)
func storeOperand(_ cpu: CPU, _ operation: Operation, _ value: UInt64, count: UInt64) -> Bool {
  guard isMemory(operation) else {
    setRegister(cpu, operation.pointee.rm, value, count: count)
    return true
  }
  guard let address = operandAddress(cpu, operation, size: count, isWrite: true) else {
    return false
  }
  return store(cpu, address, value, count: count, classNumber: cpu.pointee.tlb_class)
}

func setRegister(_ cpu: CPU, _ number: UInt8, _ value: UInt64, count: UInt64) {
  let register = cpu.registers + Int(number)
  if count == 2 {
    register.pointee = register.pointee & ~0xFFFF | value & 0xFFFF
  } else {
    register.pointee = value & byteMask(count)
  }
}

// MARK: Flags

@inline(__always)
func currentFlags(_ cpu: CPU) -> UInt32 { UInt32(truncatingIfNeeded: readRFLAGS(cpu)) }

/// Writes the flags in the mask. Does not update the mode.
func setFlags(_ cpu: CPU, _ value: UInt32, mask: UInt32) {
  writeRFLAGS(cpu, UInt64(value), mask: UInt64(mask))
}

@inline(__always)
func setZeroFlag(_ cpu: CPU, _ on: Bool) { setFlags(cpu, on ? 0x40 : 0, mask: 0x40) }

@inline(__always)
func inputOutputLevel(_ cpu: CPU) -> UInt32 { cpu.pointee.flags_other >> 12 & 3 }

/// Only ring 0 may; #GP(0) otherwise.
@inline(__always)
func requireSupervisor(_ cpu: CPU) -> Bool {
  cpu.pointee.cpl == 0 || protectionFault(cpu)
}

/// Instructions that real and virtual-8086 mode do not know.
@inline(__always)
func requireProtected(_ cpu: CPU) -> Bool {
  cpu.hasMode(SOFT_MODE_PROTECTED) || invalidOpcode(cpu)
}

// MARK: How system handlers end

/// The next instruction, or the exception.
@inline(__always)
func finish(_ cpu: CPU, _ operation: Operation, _ isDone: Bool) {
  guard isDone else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// As above, but the block ends: the mode or the address space may have changed.
@inline(__always)
func finishBlock(_ cpu: CPU, _ operation: Operation, _ isDone: Bool) {
  guard isDone else { return fault(cpu, operation) }
  leave(cpu, at: nextInstruction(cpu, operation))
}

/// After a transfer that has set `rip` itself; if it failed, `rip` is still the block's.
@inline(__always)
func finishTransfer(_ cpu: CPU, _ operation: Operation, _ isDone: Bool) {
  guard isDone else { return fault(cpu, operation) }
}
