// The bodies of the handlers for what is executed most: 64-bit code, addresses of 64 bits in segments without a base,
// no LOCK. Everything that the general handlers test is known when these are chosen.
import CSoftProcessor

/// The address of a memory operand: no wrap, no segment, no check. An address that is not canonical misses in the
/// translation buffer, and the slow path finds out.
@inline(__always)
private func flatAddress(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  cpu.registers[Int(operation.pointee.base)]
    &+ cpu.registers[Int(operation.pointee.index)] &<< UInt64(operation.pointee.scale)
    &+ UInt64(bitPattern: Int64(operation.pointee.displacement))
}

/// What an operand is, known when the handler is chosen.
enum FlatOperand {
  case rm, reg, memory, immediate
}

@inline(__always)
private func read<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _ operand: FlatOperand, _: Value.Type = Value.self
) -> Value? {
  switch operand {
  case .rm: Value.register(cpu, operation.pointee.rm)
  case .reg: Value.register(cpu, operation.pointee.reg)
  case .immediate: Value(truncatingIfNeeded: operation.pointee.immediate)
  case .memory: loadValue(cpu, flatAddress(cpu, operation))
  }
}

/// target op= source; the target is rm, reg or memory.
@inline(__always)
func flatArithmetic<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ kind: UInt8, _ target: FlatOperand,
  _ source: FlatOperand
) {
  guard let right: Value = read(cpu, operation, source) else { return fault(cpu, operation) }
  switch target {
  case .memory:
    let address = flatAddress(cpu, operation)
    if kind == ArithmeticKind.compare {
      guard let left: Value = loadValue(cpu, address) else { return fault(cpu, operation) }
      cpu.setSubtractFlags(left, right, left &- right)
      return next(cpu, operation)
    }
    let carry = cpu.carry
    guard
      modify(
        cpu, address, isLocked: false,
        { (left: Value) in arithmetic(cpu, kind, left, right, carry: carry) })
    else { return fault(cpu, operation) }
  default:
    let number = target == .rm ? operation.pointee.rm : operation.pointee.reg
    let result = arithmetic(cpu, kind, Value.register(cpu, number), right, carry: cpu.carry)
    if kind != ArithmeticKind.compare { Value.setRegister(cpu, number, result) }
  }
  next(cpu, operation)
}

@inline(__always)
func flatTest<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ left: FlatOperand, _ right: FlatOperand
) {
  guard let first: Value = read(cpu, operation, left),
    let second: Value = read(cpu, operation, right)
  else { return fault(cpu, operation) }
  cpu.setLogicFlags(first & second)
  next(cpu, operation)
}

@inline(__always)
func flatMove<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ target: FlatOperand, _ source: FlatOperand
) {
  guard let value: Value = read(cpu, operation, source) else { return fault(cpu, operation) }
  switch target {
  case .memory:
    guard storeValue(cpu, flatAddress(cpu, operation), value) else {
      return fault(cpu, operation)
    }
  case .rm: Value.setRegister(cpu, operation.pointee.rm, value)
  default: Value.setRegister(cpu, operation.pointee.reg, value)
  }
  next(cpu, operation)
}

/// MOVZX, MOVSX, MOVSXD.
@inline(__always)
func flatExtend<Source: OperandValue, Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Source.Type, _: Value.Type, _ source: FlatOperand,
  isSigned: Bool
) {
  guard let value: Source = read(cpu, operation, source) else { return fault(cpu, operation) }
  Value.setRegister(
    cpu, operation.pointee.reg,
    isSigned
      ? Value(truncatingIfNeeded: value.signExtended) : Value(truncatingIfNeeded: value))
  next(cpu, operation)
}

@inline(__always)
func flatLoadAddress<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  Value.setRegister(
    cpu, operation.pointee.reg, Value(truncatingIfNeeded: flatAddress(cpu, operation)))
  next(cpu, operation)
}

/// SHL, SHR, SAR of a register by a count that is neither 0 nor beyond the width.
@inline(__always)
func flatShift<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ kind: UInt8
) {
  let number = operation.pointee.rm
  let value = Value.register(cpu, number)
  let count = Value(truncatingIfNeeded: operation.pointee.immediate)
  let result: Value
  switch kind {
  case 4:
    result = value &<< count
    let out = (value &>> (Value(Value.bitWidth) &- count)) & 1 != 0
    cpu.setFlags(result: result, carry: out, overflow: result.isNegative != out)
  case 5:
    result = value &>> count
    cpu.setFlags(
      result: result, carry: value &>> (count &- 1) & 1 != 0,
      overflow: count == 1 && value.isNegative)
  default:
    let distance = Value.Signed(truncatingIfNeeded: count)
    result = Value(bits: value.signed &>> distance)
    cpu.setFlags(
      result: result, carry: value.signed &>> (distance &- 1) & 1 != 0, overflow: false)
  }
  Value.setRegister(cpu, number, result)
  next(cpu, operation)
}

@inline(__always)
func flatIncrement<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, by step: Value
) {
  let number = operation.pointee.rm
  let value = Value.register(cpu, number)
  let result = value &+ step
  let edge: Value = step == 1 ? 1 &<< Value(Value.bitWidth &- 1) : Value.max &>> 1
  cpu.setFlags(
    result: result, carry: cpu.carry, overflow: result == edge,
    adjust: (result ^ value) & 0x10 != 0)
  Value.setRegister(cpu, number, result)
  next(cpu, operation)
}

// MARK: Branches and the stack

@inline(__always)
func flatJumpIf(_ cpu: CPU, _ operation: Operation, _ code: UInt8) {
  let next = following(cpu, operation)
  if condition(cpu, code) {
    return jump(cpu, to: next &+ operation.pointee.immediate, slot: 0)
  }
  jump(cpu, to: next, slot: 1)
}

@inline(__always)
func flatJump(_ cpu: CPU, _ operation: Operation) {
  jump(cpu, to: following(cpu, operation) &+ operation.pointee.immediate, slot: 0)
}

/// Raises #SS in place of #GP for an address that is not canonical.
@inline(never)
private func stackFault(_ cpu: CPU, _ operation: Operation) {
  if cpu.pointee.noncanonical != 0 {
    cpu.pointee.noncanonical = 0
    cpu.pointee.exception = Exception.stackFault.rawValue
  }
  fault(cpu, operation)
}

@inline(__always)
func flatPush(_ cpu: CPU, _ operation: Operation) {
  let pointer = cpu.registers[Int(SOFT_RSP)] &- 8
  guard storeValue(cpu, pointer, cpu.registers[Int(operation.pointee.rm)]) else {
    return stackFault(cpu, operation)
  }
  cpu.registers[Int(SOFT_RSP)] = pointer
  next(cpu, operation)
}

@inline(__always)
func flatPop(_ cpu: CPU, _ operation: Operation) {
  let pointer = cpu.registers[Int(SOFT_RSP)]
  guard let value: UInt64 = loadValue(cpu, pointer) else { return stackFault(cpu, operation) }
  cpu.registers[Int(SOFT_RSP)] = pointer &+ 8
  cpu.registers[Int(operation.pointee.rm)] = value
  next(cpu, operation)
}

@inline(__always)
func flatCall(_ cpu: CPU, _ operation: Operation) {
  let back = following(cpu, operation)
  let pointer = cpu.registers[Int(SOFT_RSP)] &- 8
  guard storeValue(cpu, pointer, back) else { return stackFault(cpu, operation) }
  cpu.registers[Int(SOFT_RSP)] = pointer
  let target = back &+ operation.pointee.immediate
  // Most calls leave the page.
  if (target ^ cpu.pointee.rip) >> 12 == 0 { return jump(cpu, to: target, slot: 0) }
  jumpIndirect(cpu, to: target)
}

@inline(__always)
func flatReturn(_ cpu: CPU, _ operation: Operation) {
  let pointer = cpu.registers[Int(SOFT_RSP)]
  guard let target: UInt64 = loadValue(cpu, pointer) else { return stackFault(cpu, operation) }
  guard isCanonical(target) else {
    raise(cpu, .generalProtection, error: 0)
    return fault(cpu, operation)
  }
  cpu.registers[Int(SOFT_RSP)] = pointer &+ 8 &+ operation.pointee.immediate
  jumpIndirect(cpu, to: target)
}
