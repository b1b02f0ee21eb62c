// BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT, and the groups BMI1, BMI2, ADX.
import CSoftProcessor

enum BitChange {
  case test, set, reset, complement
}

@inline(__always)
private func changed<Value: OperandValue>(_ value: Value, _ bit: Value, _ change: BitChange)
  -> Value
{
  switch change {
  case .test: value
  case .set: value | bit
  case .reset: value & ~bit
  case .complement: value ^ bit
  }
}

/// The bit's number in a register: it may lie outside of the operand when that is in memory.
@inline(__always)
func bitByRegister<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ change: BitChange
) {
  let number = Value.register(cpu, operation.pointee.reg)
  let bit: Value = 1 &<< number
  guard operation.isMemory else {
    let value = Value.register(cpu, operation.pointee.rm)
    if change != .test {
      Value.setRegister(cpu, operation.pointee.rm, changed(value, bit, change))
    }
    cpu.setCarry(value & bit != 0)
    return next(cpu, operation)
  }
  // Signed: the words before and after.
  let shift = Value.Signed(truncatingIfNeeded: Value.bitWidth.trailingZeroBitCount)
  let word = UInt64(bitPattern: Int64(number.signed &>> shift))
  let offset =
    (effectiveAddress(cpu, operation) &+ word &* Value.byteCount) & operation.addressMask
  guard
    let address = checkedAddress(
      cpu, segment: operation.pointee.segment, offset: offset, size: Value.byteCount,
      isWrite: change != .test)
  else { return fault(cpu, operation) }
  bitInMemory(cpu, operation, address, bit, change)
}

@inline(__always)
private func bitInMemory<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _ address: UInt64, _ bit: Value, _ change: BitChange
) {
  var old: Value = 0
  if change == .test {
    guard let value: Value = loadValue(cpu, address) else { return fault(cpu, operation) }
    old = value
  } else {
    guard
      modify(
        cpu, address, isLocked: operation.isLocked,
        { (value: Value) in
          old = value
          return changed(value, bit, change)
        })
    else { return fault(cpu, operation) }
  }
  cpu.setCarry(old & bit != 0)
  next(cpu, operation)
}

@inline(__always)
func bitByImmediate<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ change: BitChange
) {
  let bit: Value = 1 &<< Value(truncatingIfNeeded: operation.pointee.immediate)
  guard operation.isMemory else {
    let value = Value.register(cpu, operation.pointee.rm)
    if change != .test {
      Value.setRegister(cpu, operation.pointee.rm, changed(value, bit, change))
    }
    cpu.setCarry(value & bit != 0)
    return next(cpu, operation)
  }
  guard
    let address = operandAddress(
      cpu, operation, size: Value.byteCount, isWrite: change != .test)
  else { return fault(cpu, operation) }
  bitInMemory(cpu, operation, address, bit, change)
}

enum BitScan {
  case forward, reverse, trailing, leading, population
}

@inline(__always)
func scanBits<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ scan: BitScan
) {
  guard let value: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let result: Int
  switch scan {
  case .forward, .reverse:
    // Of zero the destination stays, also the upper half of a 32-bit one (AMD APM 3, BSF); the other flags are left as
    // of a comparison with zero.
    cpu.setLogicFlags(value)
    guard value != 0 else { return next(cpu, operation) }
    result =
      scan == .forward
      ? value.trailingZeroBitCount : Value.bitWidth &- 1 &- value.leadingZeroBitCount
  case .trailing, .leading:
    result = scan == .trailing ? value.trailingZeroBitCount : value.leadingZeroBitCount
    cpu.setFlags(
      result: Value(truncatingIfNeeded: result), carry: value == 0, overflow: false)
  case .population:
    result = value.nonzeroBitCount
    cpu.setFlags(result: value, carry: false, overflow: false)
    writeFlags(cpu, value == 0 ? ArithmeticFlag.zero : 0)
  }
  Value.setRegister(cpu, operation.pointee.reg, Value(truncatingIfNeeded: result))
  next(cpu, operation)
}

// MARK: BMI

@inline(__always)
private func vexRegister<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type)
  -> Value
{
  Value.register(cpu, UInt8(truncatingIfNeeded: operation.pointee.immediate >> 48 & 15))
}

enum BitManipulation {
  case andNot, resetLowest, maskLowest, isolateLowest, zeroHigh, extractField
  case deposit, extract, shiftLeft, shiftRight, shiftArithmetic, rotate, multiply
}

@inline(__always)
func manipulateBits<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, _ kind: BitManipulation
) where Value.Magnitude == Value {
  guard let source: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let other = vexRegister(cpu, operation, Value.self)
  let width = UInt8(truncatingIfNeeded: Value.bitWidth)
  var target = operation.pointee.reg
  let result: Value
  switch kind {
  case .andNot:
    result = ~other & source
    cpu.setLogicFlags(result)
  case .resetLowest, .maskLowest, .isolateLowest:
    target = UInt8(truncatingIfNeeded: operation.pointee.immediate >> 48 & 15)
    switch kind {
    case .resetLowest: result = source & (source &- 1)
    case .maskLowest: result = source ^ (source &- 1)
    default: result = source & (0 &- source)
    }
    cpu.setFlags(
      result: result, carry: kind == .isolateLowest ? source != 0 : source == 0, overflow: false)
  case .zeroHigh:
    let count = UInt8(truncatingIfNeeded: other)
    result = count < width ? source & ((1 &<< Value(count)) &- 1) : source
    cpu.setFlags(result: result, carry: count >= width, overflow: false)
  case .extractField:
    let start = UInt8(truncatingIfNeeded: other)
    let count = UInt8(truncatingIfNeeded: other >> 8)
    let moved = start < width ? source >> Value(start) : 0
    result = count < width ? moved & ((1 &<< Value(count)) &- 1) : moved
    cpu.setLogicFlags(result)
  case .deposit:
    var mask = source
    var bits = other
    var value: Value = 0
    while mask != 0 {
      let lowest = mask & (0 &- mask)
      if bits & 1 != 0 { value |= lowest }
      bits >>= 1
      mask &= mask &- 1
    }
    result = value
  case .extract:
    var mask = source
    var value: Value = 0
    var place: Value = 1
    while mask != 0 {
      let lowest = mask & (0 &- mask)
      if other & lowest != 0 { value |= place }
      place = place &<< 1
      mask &= mask &- 1
    }
    result = value
  case .shiftLeft: result = source &<< other
  case .shiftRight: result = source &>> other
  case .shiftArithmetic: result = Value(bits: source.signed &>> other.signed)
  case .rotate:
    let distance = Value(truncatingIfNeeded: operation.pointee.immediate & UInt64(width &- 1))
    result =
      distance == 0 ? source : source &>> distance | source &<< (Value(width) &- distance)
  case .multiply:
    let product = Value.register(cpu, 2).multipliedFullWidth(by: source)
    let low = UInt8(truncatingIfNeeded: operation.pointee.immediate >> 48 & 15)
    Value.setRegister(cpu, low, Value(truncatingIfNeeded: product.low))
    result = product.high
  }
  Value.setRegister(cpu, target, result)
  next(cpu, operation)
}

/// ADCX (CF) and ADOX (OF): the other flags stay.
@inline(__always)
func addWithFlag<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, usesOverflow: Bool
) {
  guard let source: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let carry = cpu.carry
  let overflow = cpu.overflow
  let (sum, first) = Value.register(cpu, operation.pointee.reg).addingReportingOverflow(source)
  let (result, second) = sum.addingReportingOverflow((usesOverflow ? overflow : carry) ? 1 : 0)
  Value.setRegister(cpu, operation.pointee.reg, result)
  cpu.setCarryAndOverflow(
    usesOverflow ? carry : first || second, usesOverflow ? first || second : overflow)
  next(cpu, operation)
}

/// CRC32: the result has 32 bits, also with REX.W.
@inline(__always)
func crc32<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let source: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let number = operation.pointee.reg
  let result = soft_crc32c(
    UInt32(truncatingIfNeeded: cpu.registers[Int(number)]), UInt64(source),
    UInt32(truncatingIfNeeded: Value.byteCount))
  UInt32.setRegister(cpu, number, result)
  next(cpu, operation)
}
