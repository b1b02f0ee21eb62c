// Which handler executes an integer instruction, by opcode map.
import CSoftProcessor

/// By operand size: 16, 32, 64 bit.
@inline(__always)
func wide(
  _ size: UInt8, _ word: soft_handler, _ doubleword: soft_handler, _ quadword: soft_handler
) -> soft_handler {
  size == 1 ? word : size == 2 ? doubleword : quadword
}

private func stays(_ handler: soft_handler) -> HandlerChoice { HandlerChoice(handler: handler) }
private func ends(_ handler: soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler, endsBlock: true)
}

/// The handler of an integer instruction; nil if it is none.
func integerHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  if instruction.isVEX { return vexIntegerHandler(instruction) }
  switch instruction.map {
  case 0:
    if instruction.opcode < 0x80 { return lowOneByteHandler(instruction) }
    return instruction.opcode < 0xC0
      ? middleOneByteHandler(instruction) : highOneByteHandler(instruction)
  case 1: return twoByteIntegerHandler(instruction)
  case 2: return threeByteIntegerHandler(instruction)
  default: return nil
  }
}

/// The size of stack operations and near branches: in 64-bit mode 64 bits, or 16 with the prefix.
func stackSize(_ instruction: DecodedInstruction) -> UInt8 {
  instruction.isLong && instruction.operandSize == 2 ? 3 : instruction.operandSize
}

/// The size of a near branch: in 64-bit mode always 64 bits.
func branchSize(_ instruction: DecodedInstruction) -> UInt8 {
  instruction.isLong ? 3 : instruction.operandSize
}

private func lowOneByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let opcode = instruction.opcode
  let size = instruction.operandSize
  let isLong = instruction.isLong
  switch opcode {
  case 0x27 where !isLong:
    return stays {
      adjustDecimal($0, isSubtract: false)
      next($0, $1)
    }
  case 0x2F where !isLong:
    return stays {
      adjustDecimal($0, isSubtract: true)
      next($0, $1)
    }
  case 0x37 where !isLong:
    return stays {
      adjustAscii($0, isSubtract: false)
      next($0, $1)
    }
  case 0x3F where !isLong:
    return stays {
      adjustAscii($0, isSubtract: true)
      next($0, $1)
    }
  case 0..<0x40:
    switch opcode & 7 {

    case 0: return stays { arithmeticToOperand($0, $1, UInt8.self) }
    case 1:
      return stays(
        wide(
          size, { arithmeticToOperand($0, $1, UInt16.self) },
          { arithmeticToOperand($0, $1, UInt32.self) },
          { arithmeticToOperand($0, $1, UInt64.self) }))
    case 2: return stays { arithmeticToRegister($0, $1, UInt8.self) }
    case 3:
      return stays(
        wide(
          size, { arithmeticToRegister($0, $1, UInt16.self) },
          { arithmeticToRegister($0, $1, UInt32.self) },
          { arithmeticToRegister($0, $1, UInt64.self) }))
    case 4: return stays { arithmeticAccumulator($0, $1, UInt8.self) }
    case 5:
      return stays(
        wide(
          size, { arithmeticAccumulator($0, $1, UInt16.self) },
          { arithmeticAccumulator($0, $1, UInt32.self) },
          { arithmeticAccumulator($0, $1, UInt64.self) }))
    default: return nil
    }
  case 0x40...0x47 where !isLong:
    return stays(
      wide(
        size, { increment($0, $1, UInt16.self, by: 1) },
        { increment($0, $1, UInt32.self, by: 1) },
        { increment($0, $1, UInt64.self, by: 1) }))
  case 0x48...0x4F where !isLong:
    return stays(
      wide(
        size, { increment($0, $1, UInt16.self, by: .max) },
        { increment($0, $1, UInt32.self, by: .max) },
        { increment($0, $1, UInt64.self, by: .max) }))
  case 0x50...0x57:
    return stays(
      wide(
        stackSize(instruction), { pushRegister($0, $1, UInt16.self) },
        { pushRegister($0, $1, UInt32.self) },
        { pushRegister($0, $1, UInt64.self) }))
  case 0x58...0x5F:
    return stays(
      wide(
        stackSize(instruction), { popRegister($0, $1, UInt16.self) },
        { popRegister($0, $1, UInt32.self) },
        { popRegister($0, $1, UInt64.self) }))
  case 0x60 where !isLong:
    return stays(
      wide(
        size, { pushAll($0, $1, UInt16.self) },
        { pushAll($0, $1, UInt32.self) },
        { pushAll($0, $1, UInt64.self) }))
  case 0x61 where !isLong:
    return stays(
      wide(
        size, { popAll($0, $1, UInt16.self) },
        { popAll($0, $1, UInt32.self) },
        { popAll($0, $1, UInt64.self) }))
  case 0x62 where !isLong && !instruction.isRegisterForm:
    return size == 1
      ? stays { finish($0, $1, checkBounds($0, $1, UInt16.self)) }
      : stays { finish($0, $1, checkBounds($0, $1, UInt32.self)) }
  case 0x63 where isLong:
    return stays(
      wide(
        size, { moveSignExtended($0, $1, UInt16.self, UInt16.self) },
        { moveSignExtended($0, $1, UInt32.self, UInt32.self) },
        { moveSignExtended($0, $1, UInt32.self, UInt64.self) }))
  case 0x68, 0x6A:
    return stays(
      wide(
        stackSize(instruction), { pushImmediate($0, $1, UInt16.self) },
        { pushImmediate($0, $1, UInt32.self) },
        { pushImmediate($0, $1, UInt64.self) }))
  case 0x69, 0x6B:
    return stays(
      wide(
        size, { multiplyRegister($0, $1, UInt16.self, byImmediate: true) },
        { multiplyRegister($0, $1, UInt32.self, byImmediate: true) },
        { multiplyRegister($0, $1, UInt64.self, byImmediate: true) }))
  case 0x6C: return ends { inputString($0, $1, UInt8.self) }
  case 0x6D:
    return ends(
      size == 1 ? { inputString($0, $1, UInt16.self) } : { inputString($0, $1, UInt32.self) })
  case 0x6E: return ends { outputString($0, $1, UInt8.self) }
  case 0x6F:
    return ends(
      size == 1 ? { outputString($0, $1, UInt16.self) } : { outputString($0, $1, UInt32.self) })
  case 0x70...0x7F:
    return ends(
      wide(
        branchSize(instruction), { jumpIf($0, $1, UInt16.self) },
        { jumpIf($0, $1, UInt32.self) },
        { jumpIf($0, $1, UInt64.self) }))
  default: return nil
  }
}

/// F6 and F7: TEST, NOT, NEG, MUL, IMUL, DIV, IDIV.
func unaryHandler(_ instruction: DecodedInstruction) -> HandlerChoice {
  let size = instruction.operandSize
  if instruction.opcode == 0xF6 {
    switch instruction.group {
    case 0, 1: return stays { testImmediate($0, $1, UInt8.self) }
    case 2: return stays { complement($0, $1, UInt8.self) }
    case 3: return stays { negate($0, $1, UInt8.self) }
    case 4: return stays { multiply($0, $1, UInt8.self) }
    case 5: return stays { multiplySigned($0, $1, UInt8.self) }
    case 6: return stays { divide($0, $1, UInt8.self) }
    default: return stays { divideSigned($0, $1, UInt8.self) }
    }
  }
  switch instruction.group {
  case 0, 1:
    return stays(
      wide(
        size, { testImmediate($0, $1, UInt16.self) },
        { testImmediate($0, $1, UInt32.self) },
        { testImmediate($0, $1, UInt64.self) }))
  case 2:
    return stays(
      wide(
        size, { complement($0, $1, UInt16.self) },
        { complement($0, $1, UInt32.self) },
        { complement($0, $1, UInt64.self) }))
  case 3:
    return stays(
      wide(
        size, { negate($0, $1, UInt16.self) },
        { negate($0, $1, UInt32.self) },
        { negate($0, $1, UInt64.self) }))
  case 4:
    return stays(
      wide(
        size, { multiply($0, $1, UInt16.self) },
        { multiply($0, $1, UInt32.self) },
        { multiply($0, $1, UInt64.self) }))
  case 5:
    return stays(
      wide(
        size, { multiplySigned($0, $1, UInt16.self) },
        { multiplySigned($0, $1, UInt32.self) },
        { multiplySigned($0, $1, UInt64.self) }))
  case 6:
    return stays(
      wide(
        size, { divide($0, $1, UInt16.self) },
        { divide($0, $1, UInt32.self) },
        { divide($0, $1, UInt64.self) }))
  default:
    return stays(
      wide(
        size, { divideSigned($0, $1, UInt16.self) },
        { divideSigned($0, $1, UInt32.self) },
        { divideSigned($0, $1, UInt64.self) }))
  }
}
