// Near branches: JMP, Jcc, CALL, RET, LOOP, JCXZ. Far ones belong to the system instructions.
import CSoftProcessor

/// Goes on at a target in the code segment, checked against its limit outside of 64-bit mode.
@inline(__always)
private func go(_ cpu: CPU, _ operation: Operation, _ target: UInt64, slot: Int) {
  if cpu.hasMode(SOFT_MODE_FLAT) {
    return slot < 2 ? jump(cpu, to: target, slot: slot) : jumpIndirect(cpu, to: target)
  }
  leave(cpu, at: target)
}

/// Whether a branch may go to `target`; raises #GP otherwise.
@inline(__always)
private func isReachable(_ cpu: CPU, _ target: UInt64) -> Bool {
  if cpu.hasMode(SOFT_MODE_CODE64) {
    if (target &+ 1 &<< 47) &>> 48 == 0 { return true }
  } else if target <= UInt64(cpu.segments[Int(SOFT_CS)].limit) {
    return true
  }
  raise(cpu, .generalProtection, error: 0)
  return false
}

/// The bits of the instruction pointer that an operand size keeps.
@inline(__always)
private func mask<Value: OperandValue>(_: Value.Type) -> UInt64 { UInt64(Value.max) }

@inline(__always)
func jumpRelative<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let target =
    (following(cpu, operation) &+ operation.pointee.immediate) & mask(Value.self)
  guard isReachable(cpu, target) else { return fault(cpu, operation) }
  go(cpu, operation, target, slot: 0)
}

@inline(__always)
func jumpRelativeIf<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ isMet: Bool
) {
  let next = following(cpu, operation)
  guard isMet else {
    return go(
      cpu, operation, cpu.hasMode(SOFT_MODE_CODE64) ? next : next & 0xFFFF_FFFF, slot: 1)
  }
  let target = (next &+ operation.pointee.immediate) & mask(Value.self)
  guard isReachable(cpu, target) else { return fault(cpu, operation) }
  go(cpu, operation, target, slot: 0)
}

@inline(__always)
func jumpIf<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  jumpRelativeIf(
    cpu, operation, Value.self,
    condition(cpu, UInt8(truncatingIfNeeded: operation.pointee.opcode & 15)))
}

/// E0 to E3: LOOPNE, LOOPE, LOOP, JCXZ. The counter has the address size.
@inline(__always)
func loopBranch<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let kind = operation.pointee.opcode & 3
  let counterMask = operation.addressMask
  let old = cpu.registers[Int(SOFT_RCX)]
  if kind == 3 {
    return jumpRelativeIf(cpu, operation, Value.self, old & counterMask == 0)
  }
  let count = (old &- 1) & counterMask
  let isMet = count != 0 && (kind == 2 || cpu.zero == (kind == 1))
  if isMet {
    let target =
      (following(cpu, operation) &+ operation.pointee.immediate) & mask(Value.self)
    guard isReachable(cpu, target) else { return fault(cpu, operation) }
  }
  setCounter(cpu, count, mask: counterMask)
  jumpRelativeIf(cpu, operation, Value.self, isMet)
}

/// A counter or index register by address size: 32-bit writes clear the upper half.
@inline(__always)
func setAddressRegister(_ cpu: CPU, _ number: Int, _ value: UInt64, mask: UInt64) {
  if mask == 0xFFFF {
    cpu.registers[number] = cpu.registers[number] & ~0xFFFF | value & 0xFFFF
  } else {
    cpu.registers[number] = value & mask
  }
}

@inline(__always)
func setCounter(_ cpu: CPU, _ value: UInt64, mask: UInt64) {
  setAddressRegister(cpu, Int(SOFT_RCX), value, mask: mask)
}

@inline(__always)
func jumpToOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = readOperand(cpu, operation), isReachable(cpu, UInt64(value)) else {
    return fault(cpu, operation)
  }
  go(cpu, operation, UInt64(value), slot: 2)
}

@inline(__always)
func callRelative<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let back = following(cpu, operation)
  let target = (back &+ operation.pointee.immediate) & mask(Value.self)
  guard isReachable(cpu, target), push(cpu, Value(truncatingIfNeeded: back)) else {
    return fault(cpu, operation)
  }
  go(cpu, operation, target, slot: 0)
}

@inline(__always)
func callOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = readOperand(cpu, operation), isReachable(cpu, UInt64(value)),
    push(cpu, Value(truncatingIfNeeded: following(cpu, operation)))
  else { return fault(cpu, operation) }
  go(cpu, operation, UInt64(value), slot: 2)
}

/// RET, with an immediate of bytes to drop or 0.
@inline(__always)
func returnNear<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = peek(cpu), isReachable(cpu, UInt64(value)) else {
    return fault(cpu, operation)
  }
  dropStack(cpu, Value.byteCount &+ (operation.pointee.immediate & 0xFFFF))
  go(cpu, operation, UInt64(value), slot: 2)
}
