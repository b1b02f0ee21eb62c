// Shifts and rotates, single and double.
import CSoftProcessor

/// Group 2 by ModRM.reg: ROL, ROR, RCL, RCR, SHL, SHR, SAL, SAR. `count` is not masked yet.
@inline(__always)
func shift<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, count: UInt8
) {
  let kind = operation.pointee.reg & 7
  let masked = count & (Value.bitWidth == 64 ? 63 : 31)
  // Memory is read and written also for a count of 0, and no flag changes then.
  let carry = cpu.carry
  guard
    modifyOperand(
      cpu, operation,
      { (value: Value) in
        masked == 0 ? value : shifted(cpu, kind, value, masked, carry: carry)
      })
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
private func shifted<Value: OperandValue>(
  _ cpu: CPU, _ kind: UInt8, _ value: Value, _ count: UInt8, carry: Bool
) -> Value {
  let width = UInt8(truncatingIfNeeded: Value.bitWidth)
  switch kind {
  case 0:
    let distance = Value(truncatingIfNeeded: count & (width &- 1))
    let result =
      distance == 0 ? value : value &<< distance | value &>> (Value(width) &- distance)
    cpu.setCarryAndOverflow(result & 1 != 0, (result & 1 != 0) != result.isNegative)
    return result
  case 1:
    let distance = Value(truncatingIfNeeded: count & (width &- 1))
    let result =
      distance == 0 ? value : value &>> distance | value &<< (Value(width) &- distance)
    let next = result &<< 1
    cpu.setCarryAndOverflow(result.isNegative, result.isNegative != next.isNegative)
    return result
  case 2, 3:
    var result = value
    var bit = carry
    // A carry more than the width: 9, 17, 33 or 65 positions.
    for _ in 0..<(count % (width &+ 1)) {
      if kind == 2 {
        let out = result.isNegative
        result = result &<< 1 | (bit ? 1 : 0)
        bit = out
      } else {
        let out = result & 1 != 0
        result = result &>> 1 | (bit ? 1 &<< Value(width &- 1) : 0)
        bit = out
      }
    }
    let overflow =
      kind == 2
      ? result.isNegative != bit : result.isNegative != (result &<< 1).isNegative
    cpu.setCarryAndOverflow(bit, overflow)
    return result
  case 4, 6:
    // The smart shifts give 0 beyond the width, as the processor does.
    let result = value << Value(count)
    let out = count <= width && (value >> Value(width &- count)) & 1 != 0
    cpu.setFlags(result: result, carry: out, overflow: result.isNegative != out)
    return result
  case 5:
    let result = value >> Value(count)
    let out = count <= width && (value >> Value(count &- 1)) & 1 != 0
    cpu.setFlags(result: result, carry: out, overflow: count == 1 && value.isNegative)
    return result
  default:
    let distance = Value.Signed(truncatingIfNeeded: min(count, width &- 1))
    let before = Value.Signed(truncatingIfNeeded: min(count &- 1, width &- 1))
    let result = Value(bits: value.signed &>> distance)
    cpu.setFlags(
      result: result, carry: (value.signed &>> before) & 1 != 0, overflow: false)
    return result
  }
}

/// SHLD and SHRD.
@inline(__always)
func shiftDouble<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, count: UInt8, isLeft: Bool
) {
  let width = Value.bitWidth
  var distance = Int(count & (width == 64 ? 63 : 31))
  // Undefined beyond 16 bits; the processors that exist rotate the pair.
  let filler = Value.register(cpu, operation.pointee.reg)
  guard
    modifyOperand(
      cpu, operation,
      { (value: Value) in
        if distance == 0 { return value }
        var source = value
        var fill = filler
        if distance > width {
          distance &-= width
          (source, fill) = (filler, value)
        }
        let result: Value
        let out: Bool
        if isLeft {
          result = source << distance | fill >> (width &- distance)
          out = (source >> (width &- distance)) & 1 != 0
        } else {
          result = source >> distance | fill << (width &- distance)
          out = (source >> (distance &- 1)) & 1 != 0
        }
        cpu.setFlags(result: result, carry: out, overflow: (result ^ value).isNegative)
        return result
      })
  else { return fault(cpu, operation) }
  next(cpu, operation)
}
