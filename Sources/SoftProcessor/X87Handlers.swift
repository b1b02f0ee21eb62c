// Handlers of x87 instructions: opcodes D8 to DF, and WAIT. The arithmetic is the host's (soft_x87.c); here are operands,
// exceptions and the pointers to the last instruction.
import CSoftProcessor

/// The handler of D8 to DF and 9B, or nil.
func x87Handler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  if instruction.opcode == 0x9B { return HandlerChoice(handler: x87Wait) }
  guard instruction.opcode & 0xF8 == 0xD8, !instruction.hasLock else { return nil }
  let form = soft_x87_classify(UInt32(instruction.opcode), UInt32(instruction.modRM))
  let handler: soft_handler
  switch Int(form.kind) {
  case Int(SOFT_X87_REGISTER):
    if usesFlags(instruction) { handler = x87Flags } else { handler = x87Register }
  case Int(SOFT_X87_LOAD): handler = x87Load
  case Int(SOFT_X87_STORE): handler = x87Store
  case Int(SOFT_X87_CONTROL): handler = controlHandler(form.control)
  default: return nil
  }
  return HandlerChoice(
    handler: handler, kernel: UInt16(instruction.opcode) << 8 | UInt16(instruction.modRM))
}

/// FCMOVcc reads the flags, FCOMI and FUCOMI with and without pop write them.
private func usesFlags(_ instruction: DecodedInstruction) -> Bool {
  switch instruction.opcode {
  case 0xDA: return instruction.modRM < 0xE0
  case 0xDB: return true
  case 0xDF: return instruction.modRM >= 0xE8
  default: return false
  }
}

private func controlHandler(_ control: UInt8) -> soft_handler {
  switch Int(control) {
  case Int(SOFT_X87_FLDENV): return x87LoadEnvironment
  case Int(SOFT_X87_FLDCW): return x87LoadControl
  case Int(SOFT_X87_FNSTENV): return x87StoreEnvironment
  case Int(SOFT_X87_FNSTCW): return x87StoreControl
  case Int(SOFT_X87_FRSTOR): return x87Restore
  case Int(SOFT_X87_FNSAVE): return x87Save
  case Int(SOFT_X87_FNSTSW): return x87StoreStatus
  case Int(SOFT_X87_FNSTSW_AX): return x87StoreStatusAX
  case Int(SOFT_X87_FNCLEX): return x87ClearExceptions
  case Int(SOFT_X87_FNINIT): return x87Initialize
  default: return x87Nothing
  }
}

extension UnsafePointer where Pointee == soft_operation {
  @inline(__always) fileprivate var x87Opcode: UInt32 {
    UInt32(truncatingIfNeeded: pointee.immediate >> 40 & 0xFF)
  }
  @inline(__always) fileprivate var x87ModRM: UInt32 {
    UInt32(truncatingIfNeeded: pointee.immediate >> 32 & 0xFF)
  }
}

/// The last instruction's address and opcode, as FNSTENV tells them.
@inline(__always)
private func noteInstruction(_ cpu: CPU, _ operation: Operation) {
  cpu.pointee.fip = address(cpu, operation)
  cpu.pointee.fcs = cpu.segments[Int(SOFT_CS)].selector
  cpu.pointee.fop = UInt16(
    truncatingIfNeeded: (operation.x87Opcode & 7) << 8 | operation.x87ModRM)
}

@inline(__always)
private func noteOperand(_ cpu: CPU, _ operation: Operation) {
  cpu.pointee.fdp = effectiveAddress(cpu, operation)
  cpu.pointee.fds = cpu.segments[Int(operation.pointee.segment)].selector
}

private func x87Register(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu) else { return fault(cpu, operation) }
  noteInstruction(cpu, operation)
  // No memory operand: any address will do.
  soft_x87_execute(cpu, operation.x87Opcode, operation.x87ModRM, cpu.scratch)
  next(cpu, operation)
}

private func x87Flags(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu) else { return fault(cpu, operation) }
  noteInstruction(cpu, operation)
  cpu.pointee.host_flags = UInt64(readFlags(cpu))
  soft_x87_execute(cpu, operation.x87Opcode, operation.x87ModRM, cpu.scratch)
  writeFlags(cpu, UInt32(truncatingIfNeeded: cpu.pointee.host_flags))
  next(cpu, operation)
}

private func x87Load(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu), loadOperand(cpu, operation) else { return fault(cpu, operation) }
  noteInstruction(cpu, operation)
  noteOperand(cpu, operation)
  soft_x87_execute(cpu, operation.x87Opcode, operation.x87ModRM, cpu.scratch)
  next(cpu, operation)
}

private func x87Store(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu), storeResult(cpu, operation) else { return fault(cpu, operation) }
  noteInstruction(cpu, operation)
  noteOperand(cpu, operation)
  next(cpu, operation)
}

@inline(never)
private func loadOperand(_ cpu: CPU, _ operation: Operation) -> Bool {
  let size = UInt64(soft_x87_classify(operation.x87Opcode, operation.x87ModRM).size)
  guard let address = operandAddress(cpu, operation, size: size, isWrite: false) else {
    return false
  }
  return loadBytes(cpu, address, into: cpu.scratch, count: size)
}

/// The state changes only once the result is in memory.
@inline(never)
private func storeResult(_ cpu: CPU, _ operation: Operation) -> Bool {
  let size = UInt64(soft_x87_classify(operation.x87Opcode, operation.x87ModRM).size)
  guard let address = operandAddress(cpu, operation, size: size, isWrite: true) else {
    return false
  }
  if soft_x87_execute_store(cpu, operation.x87Opcode, operation.x87ModRM, cpu.scratch) != 0 {
    guard storeBytes(cpu, address, from: cpu.scratch, count: size) else { return false }
  } else {
    // Nothing is stored, and still the operand must be writable.
    guard probeStore(cpu, address, count: size, classNumber: cpu.pointee.tlb_class) else {
      return false
    }
  }
  soft_x87_commit(cpu)
  return true
}

/// WAIT looks at CR0.TS only with CR0.MP.
private func x87Wait(_ cpu: CPU, _ operation: Operation) {
  let both = Control0.monitorCoprocessor | Control0.taskSwitched
  if cpu.pointee.cr0 & both == both {
    raise(cpu, .deviceNotAvailable)
    return fault(cpu, operation)
  }
  if hasPendingException(cpu) {
    raise(cpu, .floatingPoint)
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
