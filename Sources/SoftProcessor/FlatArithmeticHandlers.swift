// Which of the handlers for 64-bit code takes an instruction.
import CSoftProcessor

private func stays(_ handler: soft_handler) -> HandlerChoice { HandlerChoice(handler: handler) }
private func ends(_ handler: soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler, endsBlock: true)
}

/// The handler of an instruction of 64-bit code without LOCK, with addresses of 64 bits; nil: a general one. May change
/// how the operation names its operands.
func flatHandler(_ instruction: DecodedInstruction, _ operation: inout soft_operation)
  -> HandlerChoice?
{
  guard !instruction.isVEX, instruction.map < 2 else { return nil }
  let isMemory = instruction.hasModRM && !instruction.isRegisterForm
  if isMemory, instruction.segment > 3, !(instruction.map == 0 && instruction.opcode == 0x8D) {
    return nil
  }
  if instruction.map == 1 { return flatTwoByteHandler(instruction) }
  let opcode = instruction.opcode
  let size = instruction.operandSize
  switch opcode {
  case 0..<0x40 where size >= 2 || opcode & 1 == 0:
    let form = opcode & 7
    guard form < 6 else { return nil }
    let kind = opcode >> 3
    if form >= 4 {
      operation.rm = 0
      return flatArithmeticHandler(
        kind, size: form == 4 ? 0 : size, isMemory: false, source: .immediate)
    }
    if form < 2 {
      return flatArithmeticHandler(
        kind, size: form == 0 ? 0 : size, isMemory: isMemory, source: .reg)
    }
    return flatLoadArithmeticHandler(kind, size: form == 2 ? 0 : size, isMemory: isMemory)
  case 0x80:
    return flatArithmeticHandler(
      instruction.group, size: 0, isMemory: isMemory, source: .immediate)
  case 0x81 where size >= 2, 0x83 where size >= 2:
    return flatArithmeticHandler(
      instruction.group, size: size, isMemory: isMemory, source: .immediate)
  case 0xC1 where size >= 2 && !isMemory, 0xD1 where size >= 2 && !isMemory:
    let count = opcode == 0xD1 ? 1 : operation.immediate & (size == 3 ? 63 : 31)
    guard count != 0 else { return nil }
    guard let choice = flatShiftHandler(instruction.group, size: size) else { return nil }
    operation.immediate = count
    return choice
  default: return flatOneByteHandler(instruction, isMemory: isMemory, &operation)
  }
}

private func flatArithmeticHandler(
  _ kind: UInt8, size: UInt8, isMemory: Bool, source: FlatOperand
) -> HandlerChoice? {
  switch (kind, size, isMemory, source == .reg) {
  case (0, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .rm, .reg) }
  case (0, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .rm, .immediate) }
  case (0, 0, true, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .memory, .reg) }
  case (0, 0, true, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .memory, .immediate) }
  case (0, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .rm, .reg) }
  case (0, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .rm, .immediate) }
  case (0, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .memory, .reg) }
  case (0, 2, true, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .memory, .immediate) }
  case (0, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .rm, .reg) }
  case (0, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .rm, .immediate) }
  case (0, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .memory, .reg) }
  case (0, 3, true, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .memory, .immediate) }
  case (1, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .rm, .reg) }
  case (1, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .rm, .immediate) }
  case (1, 0, true, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .memory, .reg) }
  case (1, 0, true, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .memory, .immediate) }
  case (1, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .rm, .reg) }
  case (1, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .rm, .immediate) }
  case (1, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .memory, .reg) }
  case (1, 2, true, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .memory, .immediate) }
  case (1, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .rm, .reg) }
  case (1, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .rm, .immediate) }
  case (1, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .memory, .reg) }
  case (1, 3, true, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .memory, .immediate) }
  case (2, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.addCarry, .rm, .reg) }
  case (2, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.addCarry, .rm, .immediate) }
  case (2, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.addCarry, .rm, .reg) }
  case (2, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.addCarry, .rm, .immediate) }
  case (3, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtractBorrow, .rm, .reg) }
  case (3, 2, false, false):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtractBorrow, .rm, .immediate)
    }
  case (3, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtractBorrow, .rm, .reg) }
  case (3, 3, false, false):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtractBorrow, .rm, .immediate)
    }
  case (4, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .rm, .reg) }
  case (4, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .rm, .immediate) }
  case (4, 0, true, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .memory, .reg) }
  case (4, 0, true, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .memory, .immediate) }
  case (4, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .rm, .reg) }
  case (4, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .rm, .immediate) }
  case (4, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .memory, .reg) }
  case (4, 2, true, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .memory, .immediate) }
  case (4, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .rm, .reg) }
  case (4, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .rm, .immediate) }
  case (4, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .memory, .reg) }
  case (4, 3, true, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .memory, .immediate) }
  case (5, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.subtract, .rm, .reg) }
  case (5, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.subtract, .rm, .immediate) }
  case (5, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .rm, .reg) }
  case (5, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .rm, .immediate) }
  case (5, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .memory, .reg) }
  case (5, 2, true, false):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .memory, .immediate)
    }
  case (5, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .rm, .reg) }
  case (5, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .rm, .immediate) }
  case (5, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .memory, .reg) }
  case (5, 3, true, false):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .memory, .immediate)
    }
  case (6, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.exclusiveOr, .rm, .reg) }
  case (6, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.exclusiveOr, .rm, .immediate) }
  case (6, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .rm, .reg) }
  case (6, 2, false, false):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .rm, .immediate)
    }
  case (6, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .memory, .reg) }
  case (6, 2, true, false):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .memory, .immediate)
    }
  case (6, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .rm, .reg) }
  case (6, 3, false, false):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .rm, .immediate)
    }
  case (6, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .memory, .reg) }
  case (6, 3, true, false):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .memory, .immediate)
    }
  case (7, 0, false, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .rm, .reg) }
  case (7, 0, false, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .rm, .immediate) }
  case (7, 0, true, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .memory, .reg) }
  case (7, 0, true, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .memory, .immediate) }
  case (7, 2, false, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .rm, .reg) }
  case (7, 2, false, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .rm, .immediate) }
  case (7, 2, true, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .memory, .reg) }
  case (7, 2, true, false):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .memory, .immediate)
    }
  case (7, 3, false, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .rm, .reg) }
  case (7, 3, false, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .rm, .immediate) }
  case (7, 3, true, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .memory, .reg) }
  case (7, 3, true, false):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .memory, .immediate)
    }
  default: return nil
  }
}

private func flatLoadArithmeticHandler(_ kind: UInt8, size: UInt8, isMemory: Bool)
  -> HandlerChoice?
{
  switch (kind, size, isMemory) {
  case (0, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .reg, .rm) }
  case (0, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.add, .reg, .memory) }
  case (0, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .reg, .rm) }
  case (0, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.add, .reg, .memory) }
  case (0, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .reg, .rm) }
  case (0, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.add, .reg, .memory) }
  case (1, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .reg, .rm) }
  case (1, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.or, .reg, .memory) }
  case (1, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .reg, .rm) }
  case (1, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.or, .reg, .memory) }
  case (1, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .reg, .rm) }
  case (1, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.or, .reg, .memory) }
  case (2, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.addCarry, .reg, .rm) }
  case (2, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.addCarry, .reg, .memory) }
  case (2, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.addCarry, .reg, .rm) }
  case (2, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.addCarry, .reg, .memory) }
  case (3, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtractBorrow, .reg, .rm) }
  case (3, 2, true):
    return stays {
      flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtractBorrow, .reg, .memory)
    }
  case (3, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtractBorrow, .reg, .rm) }
  case (3, 3, true):
    return stays {
      flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtractBorrow, .reg, .memory)
    }
  case (4, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .reg, .rm) }
  case (4, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.and, .reg, .memory) }
  case (4, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .reg, .rm) }
  case (4, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.and, .reg, .memory) }
  case (4, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .reg, .rm) }
  case (4, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.and, .reg, .memory) }
  case (5, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.subtract, .reg, .rm) }
  case (5, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.subtract, .reg, .memory) }
  case (5, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .reg, .rm) }
  case (5, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.subtract, .reg, .memory) }
  case (5, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .reg, .rm) }
  case (5, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.subtract, .reg, .memory) }
  case (6, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.exclusiveOr, .reg, .rm) }
  case (6, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.exclusiveOr, .reg, .memory) }
  case (6, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .reg, .rm) }
  case (6, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.exclusiveOr, .reg, .memory) }
  case (6, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .reg, .rm) }
  case (6, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.exclusiveOr, .reg, .memory) }
  case (7, 0, false):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .reg, .rm) }
  case (7, 0, true):
    return stays { flatArithmetic($0, $1, UInt8.self, ArithmeticKind.compare, .reg, .memory) }
  case (7, 2, false):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .reg, .rm) }
  case (7, 2, true):
    return stays { flatArithmetic($0, $1, UInt32.self, ArithmeticKind.compare, .reg, .memory) }
  case (7, 3, false):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .reg, .rm) }
  case (7, 3, true):
    return stays { flatArithmetic($0, $1, UInt64.self, ArithmeticKind.compare, .reg, .memory) }
  default: return nil
  }
}

private func flatShiftHandler(_ kind: UInt8, size: UInt8) -> HandlerChoice? {
  switch (kind, size) {
  case (4, 2): return stays { flatShift($0, $1, UInt32.self, 4) }
  case (4, 3): return stays { flatShift($0, $1, UInt64.self, 4) }
  case (5, 2): return stays { flatShift($0, $1, UInt32.self, 5) }
  case (5, 3): return stays { flatShift($0, $1, UInt64.self, 5) }
  case (7, 2): return stays { flatShift($0, $1, UInt32.self, 7) }
  case (7, 3): return stays { flatShift($0, $1, UInt64.self, 7) }
  default: return nil
  }
}
