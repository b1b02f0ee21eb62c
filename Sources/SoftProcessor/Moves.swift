// Data movement: MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, PUSH, POP, BSWAP, ENTER, LEAVE and their kin.
import CSoftProcessor

@inline(__always)
func moveToOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard writeOperand(cpu, operation, Value.register(cpu, operation.pointee.reg)) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(__always)
func moveToRegister<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  Value.setRegister(cpu, operation.pointee.reg, value)
  next(cpu, operation)
}

@inline(__always)
func moveImmediate<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard writeOperand(cpu, operation, Value(truncatingIfNeeded: operation.pointee.immediate)) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

/// B8 to BF: without ModRM.
@inline(__always)
func moveImmediateToRegister<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  Value.setRegister(
    cpu, operation.pointee.rm, Value(truncatingIfNeeded: operation.pointee.immediate))
  next(cpu, operation)
}

/// A0 to A3: an offset without ModRM.
@inline(__always)
func moveOffset<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, isStore: Bool
) {
  guard
    let address = checkedAddress(
      cpu, segment: operation.pointee.segment, offset: operation.pointee.immediate,
      size: Value.byteCount, isWrite: isStore)
  else { return fault(cpu, operation) }
  if isStore {
    guard storeValue(cpu, address, Value.register(cpu, 0)) else { return fault(cpu, operation) }
  } else {
    guard let value: Value = loadValue(cpu, address) else { return fault(cpu, operation) }
    Value.setRegister(cpu, 0, value)
  }
  next(cpu, operation)
}

@inline(__always)
func moveZeroExtended<Source: OperandValue, Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Source.Type, _: Value.Type
) {
  guard let value: Source = readOperand(cpu, operation) else { return fault(cpu, operation) }
  Value.setRegister(cpu, operation.pointee.reg, Value(truncatingIfNeeded: value))
  next(cpu, operation)
}

@inline(__always)
func moveSignExtended<Source: OperandValue, Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Source.Type, _: Value.Type
) {
  guard let value: Source = readOperand(cpu, operation) else { return fault(cpu, operation) }
  Value.setRegister(cpu, operation.pointee.reg, Value(truncatingIfNeeded: value.signExtended))
  next(cpu, operation)
}

@inline(__always)
func loadAddress<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  Value.setRegister(
    cpu, operation.pointee.reg, Value(truncatingIfNeeded: effectiveAddress(cpu, operation)))
  next(cpu, operation)
}

/// With memory always locked.
@inline(__always)
func exchange<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let number = operation.pointee.reg
  let value = Value.register(cpu, number)
  var old: Value = 0
  guard operation.isMemory else {
    Value.setRegister(cpu, number, Value.register(cpu, operation.pointee.rm))
    Value.setRegister(cpu, operation.pointee.rm, value)
    return next(cpu, operation)
  }
  guard let address = operandAddress(cpu, operation, size: Value.byteCount, isWrite: true),
    modify(
      cpu, address, isLocked: true,
      { (current: Value) in
        old = current
        return value
      })
  else { return fault(cpu, operation) }
  Value.setRegister(cpu, number, old)
  next(cpu, operation)
}

/// 91 to 97.
@inline(__always)
func exchangeAccumulator<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let value = Value.register(cpu, operation.pointee.rm)
  Value.setRegister(cpu, operation.pointee.rm, Value.register(cpu, 0))
  Value.setRegister(cpu, 0, value)
  next(cpu, operation)
}

@inline(__always)
func exchangeAdd<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let addend = Value.register(cpu, operation.pointee.reg)
  if !operation.isMemory {
    let value = Value.register(cpu, operation.pointee.rm)
    let result = value &+ addend
    cpu.setAddFlags(value, addend, result)
    Value.setRegister(cpu, operation.pointee.reg, value)
    Value.setRegister(cpu, operation.pointee.rm, result)
    return next(cpu, operation)
  }
  var old: Value = 0
  guard
    modifyOperand(
      cpu, operation,
      { (value: Value) in
        old = value
        return value &+ addend
      })
  else { return fault(cpu, operation) }
  cpu.setAddFlags(old, addend, old &+ addend)
  Value.setRegister(cpu, operation.pointee.reg, old)
  next(cpu, operation)
}

/// Writes memory whether it is equal or not.
@inline(__always)
func compareExchange<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let expected = Value.register(cpu, 0)
  let value = Value.register(cpu, operation.pointee.reg)
  var old: Value = 0
  if !operation.isMemory {
    old = Value.register(cpu, operation.pointee.rm)
    cpu.setSubtractFlags(expected, old, expected &- old)
    if old == expected {
      Value.setRegister(cpu, operation.pointee.rm, value)
    } else {
      Value.setRegister(cpu, 0, old)
    }
    return next(cpu, operation)
  }
  guard
    modifyOperand(
      cpu, operation,
      { (current: Value) in
        old = current
        return current == expected ? value : current
      })
  else { return fault(cpu, operation) }
  cpu.setSubtractFlags(expected, old, expected &- old)
  if old != expected { Value.setRegister(cpu, 0, old) }
  next(cpu, operation)
}

@inline(__always)
func moveIf<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type
) {
  guard let value: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
  let number = operation.pointee.reg
  // 32-bit forms clear the upper half also when nothing is moved.
  let isMet = condition(cpu, UInt8(truncatingIfNeeded: operation.pointee.opcode & 15))
  Value.setRegister(cpu, number, isMet ? value : Value.register(cpu, number))
  next(cpu, operation)
}

@inline(__always)
func setIf(_ cpu: CPU, _ operation: Operation) {
  let isMet = condition(cpu, UInt8(truncatingIfNeeded: operation.pointee.opcode & 15))
  guard writeOperand(cpu, operation, isMet ? 1 as UInt8 : 0) else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
func swapBytes<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let number = operation.pointee.rm
  // Undefined for 16 bits: processors give 0.
  let value = Value.register(cpu, number)
  Value.setRegister(cpu, number, Value.bitWidth == 16 ? 0 : value.byteSwapped)
  next(cpu, operation)
}

/// MOVBE.
@inline(__always)
func moveSwapped<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, isStore: Bool
) {
  let number = operation.pointee.reg
  if isStore {
    guard writeOperand(cpu, operation, Value.register(cpu, number).byteSwapped) else {
      return fault(cpu, operation)
    }
  } else {
    guard let value: Value = readOperand(cpu, operation) else { return fault(cpu, operation) }
    Value.setRegister(cpu, number, value.byteSwapped)
  }
  next(cpu, operation)
}

// MARK: The stack

@inline(__always)
func pushRegister<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard push(cpu, Value.register(cpu, operation.pointee.rm)) else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
func pushOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = readOperand(cpu, operation), push(cpu, value) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(__always)
func pushImmediate<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard push(cpu, Value(truncatingIfNeeded: operation.pointee.immediate)) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

@inline(__always)
func popRegister<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = peek(cpu) else { return fault(cpu, operation) }
  dropStack(cpu, Value.byteCount)
  Value.setRegister(cpu, operation.pointee.rm, value)
  next(cpu, operation)
}

/// The address is computed with the stack pointer as it is after the value was taken.
@inline(__always)
func popOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let value: Value = peek(cpu) else { return fault(cpu, operation) }
  let before = cpu.registers[Int(SOFT_RSP)]
  dropStack(cpu, Value.byteCount)
  guard writeOperand(cpu, operation, value) else {
    cpu.registers[Int(SOFT_RSP)] = before
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

/// PUSHA.
@inline(__always)
func pushAll<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let mask = stackMask(cpu)
  let start = cpu.registers[Int(SOFT_RSP)]
  // The lowest first: if it can be stored all can, but for limits and page faults between.
  for number in (0..<8).reversed() {
    let pointer = (start &- UInt64(number &+ 1) &* Value.byteCount) & mask
    guard
      let address = checkedAddress(
        cpu, segment: 2, offset: pointer, size: Value.byteCount, isWrite: true),
      storeValue(cpu, address, Value.register(cpu, UInt8(truncatingIfNeeded: number)))
    else { return fault(cpu, operation) }
  }
  setStackPointer(cpu, start &- 8 &* Value.byteCount, mask: mask)
  next(cpu, operation)
}

/// POPA: the stack pointer's own value is skipped.
@inline(__always)
func popAll<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  guard let di: Value = peek(cpu), let si: Value = peek(cpu, distance: Value.byteCount),
    let bp: Value = peek(cpu, distance: 2 &* Value.byteCount),
    let bx: Value = peek(cpu, distance: 4 &* Value.byteCount),
    let dx: Value = peek(cpu, distance: 5 &* Value.byteCount),
    let cx: Value = peek(cpu, distance: 6 &* Value.byteCount),
    let ax: Value = peek(cpu, distance: 7 &* Value.byteCount)
  else { return fault(cpu, operation) }
  Value.setRegister(cpu, 7, di)
  Value.setRegister(cpu, 6, si)
  Value.setRegister(cpu, 5, bp)
  Value.setRegister(cpu, 3, bx)
  Value.setRegister(cpu, 2, dx)
  Value.setRegister(cpu, 1, cx)
  Value.setRegister(cpu, 0, ax)
  dropStack(cpu, 8 &* Value.byteCount)
  next(cpu, operation)
}

@inline(__always)
func leaveFrame<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let mask = stackMask(cpu)
  let frame = cpu.registers[Int(SOFT_RBP)] & mask
  guard
    let address = checkedAddress(
      cpu, segment: 2, offset: frame, size: Value.byteCount, isWrite: false),
    let value: Value = loadValue(cpu, address)
  else { return fault(cpu, operation) }
  setStackPointer(cpu, frame &+ Value.byteCount, mask: mask)
  Value.setRegister(cpu, UInt8(SOFT_RBP), value)
  next(cpu, operation)
}

@inline(__always)
func enterFrame<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let size = operation.pointee.immediate & 0xFFFF
  let level = operation.pointee.immediate >> 16 & 31
  let mask = stackMask(cpu)
  var pointer = cpu.registers[Int(SOFT_RSP)]
  var frame = cpu.registers[Int(SOFT_RBP)]
  func store(_ value: Value) -> Bool {
    pointer = (pointer &- Value.byteCount) & mask
    guard
      let address = checkedAddress(
        cpu, segment: 2, offset: pointer, size: Value.byteCount, isWrite: true)
    else { return false }
    return storeValue(cpu, address, value)
  }
  guard store(Value(truncatingIfNeeded: frame)) else { return fault(cpu, operation) }
  // With a stack of 16 bits the frame keeps the upper half of the pointer.
  let newFrame = cpu.registers[Int(SOFT_RSP)] & ~mask | pointer
  if level > 0 {
    for _ in 1..<max(level, 1) {
      frame = (frame &- Value.byteCount) & mask
      guard
        let address = checkedAddress(
          cpu, segment: 2, offset: frame, size: Value.byteCount, isWrite: false),
        let value: Value = loadValue(cpu, address), store(value)
      else { return fault(cpu, operation) }
    }
    guard store(Value(truncatingIfNeeded: newFrame)) else { return fault(cpu, operation) }
  }
  // The final stack pointer must be writable, though nothing is written.
  pointer = (pointer &- size) & mask
  guard
    let address = checkedAddress(cpu, segment: 2, offset: pointer, size: 1, isWrite: true),
    probeStore(cpu, address, count: 1, classNumber: cpu.pointee.tlb_class)
  else { return fault(cpu, operation) }
  setStackPointer(cpu, pointer, mask: mask)
  Value.setRegister(cpu, UInt8(SOFT_RBP), Value(truncatingIfNeeded: newFrame))
  next(cpu, operation)
}
