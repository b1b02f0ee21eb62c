// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NOT, NEG, MUL, DIV and their kin.
import CSoftProcessor

/// The eight operations of opcodes 00 to 3F and of group 1, by their number.
enum ArithmeticKind {
  static let add: UInt8 = 0
  static let or: UInt8 = 1
  static let addCarry: UInt8 = 2
  static let subtractBorrow: UInt8 = 3
  static let and: UInt8 = 4
  static let subtract: UInt8 = 5
  static let exclusiveOr: UInt8 = 6
  static let compare: UInt8 = 7
}

/// Result and flags; `carry` is CF before.
@inline(__always)
func arithmetic<Value: OperandValue>(
  _ cpu: CPU, _ kind: UInt8, _ left: Value, _ right: Value, carry: Bool
) -> Value {
  let result: Value
  switch kind {
  case ArithmeticKind.add, ArithmeticKind.addCarry:
    result = left &+ right &+ (kind == ArithmeticKind.addCarry && carry ? 1 : 0)
    cpu.setAddFlags(left, right, result)
  case ArithmeticKind.subtract, ArithmeticKind.compare, ArithmeticKind.subtractBorrow:
    result = left &- right &- (kind == ArithmeticKind.subtractBorrow && carry ? 1 : 0)
    cpu.setSubtractFlags(left, right, result)
  case ArithmeticKind.or:
    result = left | right
    cpu.setLogicFlags(result)
  case ArithmeticKind.and:
    result = left & right
    cpu.setLogicFlags(result)
  default:
    result = left ^ right
    cpu.setLogicFlags(result)
  }
  return result
}

@inline(__always)
private func apply<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _ kind: UInt8, _ right: Value
) {
  if kind == ArithmeticKind.compare {
    guard let left: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
    cpu.setSubtractFlags(left, right, left &- right)
    return next(cpu, operation)
  }
  let carry = cpu.carry
  guard
    modifyOperand(
      cpu, operation, { (left: Value) in arithmetic(cpu, kind, left, right, carry: carry) })
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// rm op= reg.
@inline(__always)
func arithmeticToOperand<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  apply(
    cpu, operation, UInt8(truncatingIfNeeded: operation.pointee.opcode >> 3 & 7),
    Value.register(cpu, operation.pointee.reg))
}

/// rm op= immediate, the kind in ModRM.reg.
@inline(__always)
func arithmeticImmediate<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  apply(
    cpu, operation, operation.pointee.reg & 7,
    Value(truncatingIfNeeded: operation.pointee.immediate)
  )
}

/// reg op= rm.
@inline(__always)
func arithmeticToRegister<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  guard let right: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let kind = UInt8(truncatingIfNeeded: operation.pointee.opcode >> 3 & 7)
  let left = Value.register(cpu, operation.pointee.reg)
  let result = arithmetic(cpu, kind, left, right, carry: cpu.carry)
  if kind != ArithmeticKind.compare { Value.setRegister(cpu, operation.pointee.reg, result) }
  next(cpu, operation)
}

/// rAX op= immediate.
@inline(__always)
func arithmeticAccumulator<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  let kind = UInt8(truncatingIfNeeded: operation.pointee.opcode >> 3 & 7)
  let right = Value(truncatingIfNeeded: operation.pointee.immediate)
  let result = arithmetic(cpu, kind, Value.register(cpu, 0), right, carry: cpu.carry)
  if kind != ArithmeticKind.compare { Value.setRegister(cpu, 0, result) }
  next(cpu, operation)
}

@inline(__always)
func testRegister<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let left: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  cpu.setLogicFlags(left & Value.register(cpu, operation.pointee.reg))
  next(cpu, operation)
}

@inline(__always)
func testImmediate<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let left: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  cpu.setLogicFlags(left & Value(truncatingIfNeeded: operation.pointee.immediate))
  next(cpu, operation)
}

@inline(__always)
func testAccumulator<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  cpu.setLogicFlags(
    Value.register(cpu, 0) & Value(truncatingIfNeeded: operation.pointee.immediate))
  next(cpu, operation)
}

/// INC and DEC leave CF alone.
@inline(__always)
func increment<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, by step: Value
) {
  let carry = cpu.carry
  let body = { (value: Value) -> Value in
    let result = value &+ step
    let edge: Value = step == 1 ? 1 &<< Value(Value.bitWidth &- 1) : Value.max &>> 1
    cpu.setFlags(
      result: result, carry: carry, overflow: result == edge,
      adjust: (result ^ value) & 0x10 != 0)
    return result
  }
  guard modifyOperand(cpu, operation, body) else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
func complement<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard modifyOperand(cpu, operation, { (value: Value) in ~value }) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(__always)
func negate<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let body = { (value: Value) -> Value in
    let result = 0 &- value
    cpu.setSubtractFlags(0, value, result)
    return result
  }
  guard modifyOperand(cpu, operation, body) else { return fault(cpu, operation) }
  next(cpu, operation)
}

// MARK: Products and quotients

/// rDX:rAX (AX for bytes) = rAX * rm.
@inline(__always)
func multiply<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type)
where Value.Magnitude == Value {
  guard let right: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let product = Value.register(cpu, 0).multipliedFullWidth(by: right)
  storeProduct(cpu, high: product.high, low: Value(truncatingIfNeeded: product.low))
  cpu.setFlags(
    result: Value(truncatingIfNeeded: product.low), carry: product.high != 0,
    overflow: product.high != 0)
  next(cpu, operation)
}

@inline(__always)
func multiplySigned<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let right: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let product = Value.register(cpu, 0).signed.multipliedFullWidth(by: right.signed)
  let low = Value(truncatingIfNeeded: product.low)
  let high = Value(bits: product.high)
  storeProduct(cpu, high: high, low: low)
  let overflows = product.high != low.signed &>> Value.Signed(Value.bitWidth &- 1)
  cpu.setFlags(result: low, carry: overflows, overflow: overflows)
  next(cpu, operation)
}

@inline(__always)
private func storeProduct<Value: OperandValue>(_ cpu: CPU, high: Value, low: Value) {
  if Value.bitWidth == 8 {
    UInt16.setRegister(
      cpu, 0, UInt16(truncatingIfNeeded: high) &<< 8 | UInt16(truncatingIfNeeded: low))
  } else {
    Value.setRegister(cpu, 0, low)
    Value.setRegister(cpu, 2, high)
  }
}

/// reg = rm * (reg or immediate).
@inline(__always)
func multiplyRegister<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, byImmediate: Bool
) {
  guard let left: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let right =
    byImmediate
    ? Value(truncatingIfNeeded: operation.pointee.immediate)
    : Value.register(cpu, operation.pointee.reg)
  let (product, overflows) = left.signed.multipliedReportingOverflow(by: right.signed)
  let result = Value(bits: product)
  Value.setRegister(cpu, operation.pointee.reg, result)
  cpu.setFlags(result: result, carry: overflows, overflow: overflows)
  next(cpu, operation)
}

@inline(__always)
func divide<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type)
where Value.Magnitude == Value {
  guard let divisor: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let (high, low) = dividend(cpu, Value.self)
  guard divisor > high else {
    raise(cpu, .divideError)
    return fault(cpu, operation)
  }
  let (quotient, remainder) = divisor.dividingFullWidth((high, low))
  storeQuotient(cpu, quotient, remainder)
  next(cpu, operation)
}

@inline(__always)
func divideSigned<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type)
where Value.Magnitude == Value {
  guard let divisor: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  var (high, low) = dividend(cpu, Value.self)
  // By magnitudes; the quotient is cut towards zero and the remainder has the dividend's sign.
  let isNegative = high.isNegative
  if isNegative {
    low = 0 &- low
    high = ~high &+ (low == 0 ? 1 : 0)
  }
  let isOpposite = isNegative != divisor.isNegative
  let magnitude = divisor.isNegative ? 0 &- divisor : divisor
  guard magnitude > high else {
    raise(cpu, .divideError)
    return fault(cpu, operation)
  }
  let (quotient, remainder) = magnitude.dividingFullWidth((high, low))
  let limit: Value = (1 &<< Value(Value.bitWidth &- 1)) &- (isOpposite ? 0 : 1)
  guard quotient <= limit else {
    raise(cpu, .divideError)
    return fault(cpu, operation)
  }
  storeQuotient(
    cpu, isOpposite ? 0 &- quotient : quotient, isNegative ? 0 &- remainder : remainder)
  next(cpu, operation)
}

@inline(__always)
private func dividend<Value: OperandValue>(_ cpu: CPU, _: Value.Type) -> (Value, Value) {
  if Value.bitWidth == 8 {
    let value = cpu.registers[0]
    return (Value(truncatingIfNeeded: value >> 8), Value(truncatingIfNeeded: value))
  }
  return (Value.register(cpu, 2), Value.register(cpu, 0))
}

@inline(__always)
private func storeQuotient<Value: OperandValue>(_ cpu: CPU, _ quotient: Value, _ remainder: Value) {
  storeProduct(cpu, high: remainder, low: quotient)
}
