// Which handler executes an integer instruction of the one-byte map from opcode 80 on.
import CSoftProcessor

private func stays(_ handler: soft_handler) -> HandlerChoice { HandlerChoice(handler: handler) }
private func ends(_ handler: soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler, endsBlock: true)
}

/// PAUSE.
private func pause(_ cpu: CPU, _ operation: Operation) {
  if cpu.pointee.board.pointee.processor_count > 1 { soft_pause() }
  next(cpu, operation)
}

func middleOneByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let opcode = instruction.opcode
  let size = instruction.operandSize
  let isLong = instruction.isLong
  switch opcode {
  case 0x80: return stays { arithmeticImmediate($0, $1, UInt8.self) }
  case 0x82 where !isLong: return stays { arithmeticImmediate($0, $1, UInt8.self) }
  case 0x81, 0x83:
    return stays(
      wide(
        size, { arithmeticImmediate($0, $1, UInt16.self) },
        { arithmeticImmediate($0, $1, UInt32.self) },
        { arithmeticImmediate($0, $1, UInt64.self) }))
  case 0x84: return stays { testRegister($0, $1, UInt8.self) }
  case 0x85:
    return stays(
      wide(
        size, { testRegister($0, $1, UInt16.self) },
        { testRegister($0, $1, UInt32.self) },
        { testRegister($0, $1, UInt64.self) }))
  case 0x86: return stays { exchange($0, $1, UInt8.self) }
  case 0x87:
    return stays(
      wide(
        size, { exchange($0, $1, UInt16.self) },
        { exchange($0, $1, UInt32.self) },
        { exchange($0, $1, UInt64.self) }))
  case 0x88: return stays { moveToOperand($0, $1, UInt8.self) }
  case 0x89:
    return stays(
      wide(
        size, { moveToOperand($0, $1, UInt16.self) },
        { moveToOperand($0, $1, UInt32.self) },
        { moveToOperand($0, $1, UInt64.self) }))
  case 0x8A: return stays { moveToRegister($0, $1, UInt8.self) }
  case 0x8B:
    return stays(
      wide(
        size, { moveToRegister($0, $1, UInt16.self) },
        { moveToRegister($0, $1, UInt32.self) },
        { moveToRegister($0, $1, UInt64.self) }))
  case 0x8D where !instruction.isRegisterForm:
    return stays(
      wide(
        size, { loadAddress($0, $1, UInt16.self) },
        { loadAddress($0, $1, UInt32.self) },
        { loadAddress($0, $1, UInt64.self) }))
  case 0x8F where instruction.group == 0:
    return stays(
      wide(
        stackSize(instruction), { popOperand($0, $1, UInt16.self) },
        { popOperand($0, $1, UInt32.self) },
        { popOperand($0, $1, UInt64.self) }))
  case 0x90 where instruction.rex & 1 == 0:
    if instruction.repeatPrefix == 0xF3 { return stays(pause) }
    return stays { next($0, $1) }
  case 0x90...0x97:
    return stays(
      wide(
        size, { exchangeAccumulator($0, $1, UInt16.self) },
        { exchangeAccumulator($0, $1, UInt32.self) },
        { exchangeAccumulator($0, $1, UInt64.self) }))
  case 0x98:
    return stays(
      wide(
        size,
        {
          extendAccumulator($0, size: 1)
          next($0, $1)
        },
        {
          extendAccumulator($0, size: 2)
          next($0, $1)
        },
        {
          extendAccumulator($0, size: 3)
          next($0, $1)
        }))
  case 0x99:
    return stays(
      wide(
        size,
        {
          extendIntoData($0, size: 1)
          next($0, $1)
        },
        {
          extendIntoData($0, size: 2)
          next($0, $1)
        },
        {
          extendIntoData($0, size: 3)
          next($0, $1)
        }))
  case 0x9E:
    return stays {
      loadFlagsFromAH($0)
      next($0, $1)
    }
  case 0x9F:
    return stays {
      storeFlagsInAH($0)
      next($0, $1)
    }
  case 0xA0: return stays { moveOffset($0, $1, UInt8.self, isStore: false) }
  case 0xA1:
    return stays(
      wide(
        size, { moveOffset($0, $1, UInt16.self, isStore: false) },
        { moveOffset($0, $1, UInt32.self, isStore: false) },
        { moveOffset($0, $1, UInt64.self, isStore: false) }))
  case 0xA2: return stays { moveOffset($0, $1, UInt8.self, isStore: true) }
  case 0xA3:
    return stays(
      wide(
        size, { moveOffset($0, $1, UInt16.self, isStore: true) },
        { moveOffset($0, $1, UInt32.self, isStore: true) },
        { moveOffset($0, $1, UInt64.self, isStore: true) }))
  case 0xA4: return stays { moveString($0, $1, UInt8.self) }
  case 0xA5:
    return stays(
      wide(
        size, { moveString($0, $1, UInt16.self) },
        { moveString($0, $1, UInt32.self) },
        { moveString($0, $1, UInt64.self) }))
  case 0xA6: return stays { compareString($0, $1, UInt8.self) }
  case 0xA7:
    return stays(
      wide(
        size, { compareString($0, $1, UInt16.self) },
        { compareString($0, $1, UInt32.self) },
        { compareString($0, $1, UInt64.self) }))
  case 0xAA: return stays { storeString($0, $1, UInt8.self) }
  case 0xAB:
    return stays(
      wide(
        size, { storeString($0, $1, UInt16.self) },
        { storeString($0, $1, UInt32.self) },
        { storeString($0, $1, UInt64.self) }))
  case 0xAC: return stays { loadString($0, $1, UInt8.self) }
  case 0xAD:
    return stays(
      wide(
        size, { loadString($0, $1, UInt16.self) },
        { loadString($0, $1, UInt32.self) },
        { loadString($0, $1, UInt64.self) }))
  case 0xAE: return stays { scanString($0, $1, UInt8.self) }
  case 0xAF:
    return stays(
      wide(
        size, { scanString($0, $1, UInt16.self) },
        { scanString($0, $1, UInt32.self) },
        { scanString($0, $1, UInt64.self) }))
  case 0xA8: return stays { testAccumulator($0, $1, UInt8.self) }
  case 0xA9:
    return stays(
      wide(
        size, { testAccumulator($0, $1, UInt16.self) },
        { testAccumulator($0, $1, UInt32.self) },
        { testAccumulator($0, $1, UInt64.self) }))
  case 0xB0...0xB7: return stays { moveImmediateToRegister($0, $1, UInt8.self) }
  case 0xB8...0xBF:
    return stays(
      wide(
        size, { moveImmediateToRegister($0, $1, UInt16.self) },
        { moveImmediateToRegister($0, $1, UInt32.self) },
        { moveImmediateToRegister($0, $1, UInt64.self) }))
  default: return nil
  }
}

func highOneByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let opcode = instruction.opcode
  let size = instruction.operandSize
  let isLong = instruction.isLong
  let group = instruction.group
  switch opcode {
  case 0xC0:
    return stays {
      shift($0, $1, UInt8.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate))
    }
  case 0xC1:
    return stays(
      wide(
        size,
        { shift($0, $1, UInt16.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate)) },
        { shift($0, $1, UInt32.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate)) },
        { shift($0, $1, UInt64.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate)) }))
  case 0xD0: return stays { shift($0, $1, UInt8.self, count: 1) }
  case 0xD1:
    return stays(
      wide(
        size, { shift($0, $1, UInt16.self, count: 1) },
        { shift($0, $1, UInt32.self, count: 1) },
        { shift($0, $1, UInt64.self, count: 1) }))
  case 0xD2: return stays { shift($0, $1, UInt8.self, count: UInt8.register($0, 8)) }
  case 0xD3:
    return stays(
      wide(
        size, { shift($0, $1, UInt16.self, count: UInt8.register($0, 8)) },
        { shift($0, $1, UInt32.self, count: UInt8.register($0, 8)) },
        { shift($0, $1, UInt64.self, count: UInt8.register($0, 8)) }))
  case 0xC2, 0xC3:
    return ends(
      wide(
        branchSize(instruction), { returnNear($0, $1, UInt16.self) },
        { returnNear($0, $1, UInt32.self) },
        { returnNear($0, $1, UInt64.self) }))
  case 0xC6 where group == 0: return stays { moveImmediate($0, $1, UInt8.self) }
  case 0xC7 where group == 0:
    return stays(
      wide(
        size, { moveImmediate($0, $1, UInt16.self) },
        { moveImmediate($0, $1, UInt32.self) },
        { moveImmediate($0, $1, UInt64.self) }))
  case 0xC8:
    return stays(
      wide(
        stackSize(instruction), { enterFrame($0, $1, UInt16.self) },
        { enterFrame($0, $1, UInt32.self) },
        { enterFrame($0, $1, UInt64.self) }))
  case 0xC9:
    return stays(
      wide(
        stackSize(instruction), { leaveFrame($0, $1, UInt16.self) },
        { leaveFrame($0, $1, UInt32.self) },
        { leaveFrame($0, $1, UInt64.self) }))
  case 0xD4 where !isLong:
    return stays {
      finish($0, $1, adjustMultiply($0, base: UInt8(truncatingIfNeeded: $1.pointee.immediate)))
    }
  case 0xD5 where !isLong:
    return stays {
      adjustDivide($0, base: UInt8(truncatingIfNeeded: $1.pointee.immediate))
      next($0, $1)
    }
  case 0xD6 where !isLong:
    return stays {
      UInt8.setRegister($0, 0, $0.carry ? 0xFF : 0)
      next($0, $1)
    }
  case 0xD7: return stays { finish($0, $1, translateByte($0, $1)) }
  case 0xE0...0xE3:
    return ends(
      wide(
        branchSize(instruction), { loopBranch($0, $1, UInt16.self) },
        { loopBranch($0, $1, UInt32.self) },
        { loopBranch($0, $1, UInt64.self) }))
  case 0xE4: return ends { inputPort($0, $1, UInt8.self, isImmediate: true) }
  case 0xE5:
    return ends(
      size == 1
        ? { inputPort($0, $1, UInt16.self, isImmediate: true) }
        : { inputPort($0, $1, UInt32.self, isImmediate: true) })
  case 0xE6: return ends { outputPort($0, $1, UInt8.self, isImmediate: true) }
  case 0xE7:
    return ends(
      size == 1
        ? { outputPort($0, $1, UInt16.self, isImmediate: true) }
        : { outputPort($0, $1, UInt32.self, isImmediate: true) })
  case 0xEC: return ends { inputPort($0, $1, UInt8.self, isImmediate: false) }
  case 0xED:
    return ends(
      size == 1
        ? { inputPort($0, $1, UInt16.self, isImmediate: false) }
        : { inputPort($0, $1, UInt32.self, isImmediate: false) })
  case 0xEE: return ends { outputPort($0, $1, UInt8.self, isImmediate: false) }
  case 0xEF:
    return ends(
      size == 1
        ? { outputPort($0, $1, UInt16.self, isImmediate: false) }
        : { outputPort($0, $1, UInt32.self, isImmediate: false) })
  case 0xE8:
    return ends(
      wide(
        branchSize(instruction), { callRelative($0, $1, UInt16.self) },
        { callRelative($0, $1, UInt32.self) },
        { callRelative($0, $1, UInt64.self) }))
  case 0xE9, 0xEB:
    return ends(
      wide(
        branchSize(instruction), { jumpRelative($0, $1, UInt16.self) },
        { jumpRelative($0, $1, UInt32.self) },
        { jumpRelative($0, $1, UInt64.self) }))
  case 0xF4: return ends { finishBlock($0, $1, halt($0)) }
  case 0xF5:
    return stays {
      $0.setCarry(!$0.carry)
      next($0, $1)
    }
  case 0xF8:
    return stays {
      $0.setCarry(false)
      next($0, $1)
    }
  case 0xF9:
    return stays {
      $0.setCarry(true)
      next($0, $1)
    }
  case 0xFC:
    return stays {
      $0.pointee.flags_other &= ~(1 << 10)
      next($0, $1)
    }
  case 0xFD:
    return stays {
      $0.pointee.flags_other |= 1 << 10
      next($0, $1)
    }
  case 0xF6, 0xF7: return unaryHandler(instruction)
  case 0xFE where group == 0: return stays { increment($0, $1, UInt8.self, by: 1) }
  case 0xFE where group == 1: return stays { increment($0, $1, UInt8.self, by: .max) }
  case 0xFF where group == 0:
    return stays(
      wide(
        size, { increment($0, $1, UInt16.self, by: 1) },
        { increment($0, $1, UInt32.self, by: 1) },
        { increment($0, $1, UInt64.self, by: 1) }))
  case 0xFF where group == 1:
    return stays(
      wide(
        size, { increment($0, $1, UInt16.self, by: .max) },
        { increment($0, $1, UInt32.self, by: .max) },
        { increment($0, $1, UInt64.self, by: .max) }))
  case 0xFF where group == 2:
    return ends(
      wide(
        branchSize(instruction), { callOperand($0, $1, UInt16.self) },
        { callOperand($0, $1, UInt32.self) },
        { callOperand($0, $1, UInt64.self) }))
  case 0xFF where group == 4:
    return ends(
      wide(
        branchSize(instruction), { jumpToOperand($0, $1, UInt16.self) },
        { jumpToOperand($0, $1, UInt32.self) },
        { jumpToOperand($0, $1, UInt64.self) }))
  case 0xFF where group == 6:
    return stays(
      wide(
        stackSize(instruction), { pushOperand($0, $1, UInt16.self) },
        { pushOperand($0, $1, UInt32.self) },
        { pushOperand($0, $1, UInt64.self) }))
  default: return nil
  }
}
