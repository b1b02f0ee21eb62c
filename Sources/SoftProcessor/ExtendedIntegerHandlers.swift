// Which handler executes an integer instruction of the maps behind 0F.
import CSoftProcessor

private func stays(_ handler: soft_handler) -> HandlerChoice { HandlerChoice(handler: handler) }

func twoByteIntegerHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let size = instruction.operandSize
  switch instruction.opcode {
  case 0x01 where instruction.modRM == 0xF9:
    return stays { cpu, operation in
      guard readTimeStamp(cpu) else { return fault(cpu, operation) }
      cpu.registers[1] = cpu.pointee.tsc_aux & 0xFFFF_FFFF
      next(cpu, operation)
    }
  case 0x0D, 0x18...0x1F: return stays { next($0, $1) }
  case 0x31: return stays { finish($0, $1, readTimeStamp($0)) }
  case 0x40...0x4F:
    return stays(
      wide(
        size, { moveIf($0, $1, UInt16.self) },
        { moveIf($0, $1, UInt32.self) },
        { moveIf($0, $1, UInt64.self) }))
  case 0x80...0x8F:
    return HandlerChoice(
      handler: wide(
        instruction.isLong ? 3 : size, { jumpIf($0, $1, UInt16.self) },
        { jumpIf($0, $1, UInt32.self) },
        { jumpIf($0, $1, UInt64.self) }), endsBlock: true)
  case 0x90...0x9F: return stays { setIf($0, $1) }
  case 0xA3:
    return stays(
      wide(
        size, { bitByRegister($0, $1, UInt16.self, .test) },
        { bitByRegister($0, $1, UInt32.self, .test) },
        { bitByRegister($0, $1, UInt64.self, .test) }))
  case 0xAB:
    return stays(
      wide(
        size, { bitByRegister($0, $1, UInt16.self, .set) },
        { bitByRegister($0, $1, UInt32.self, .set) },
        { bitByRegister($0, $1, UInt64.self, .set) }))
  case 0xB3:
    return stays(
      wide(
        size, { bitByRegister($0, $1, UInt16.self, .reset) },
        { bitByRegister($0, $1, UInt32.self, .reset) },
        { bitByRegister($0, $1, UInt64.self, .reset) }))
  case 0xBB:
    return stays(
      wide(
        size, { bitByRegister($0, $1, UInt16.self, .complement) },
        { bitByRegister($0, $1, UInt32.self, .complement) },
        { bitByRegister($0, $1, UInt64.self, .complement) }))
  case 0xBA where instruction.group == 4:
    return stays(
      wide(
        size, { bitByImmediate($0, $1, UInt16.self, .test) },
        { bitByImmediate($0, $1, UInt32.self, .test) },
        { bitByImmediate($0, $1, UInt64.self, .test) }))
  case 0xBA where instruction.group == 5:
    return stays(
      wide(
        size, { bitByImmediate($0, $1, UInt16.self, .set) },
        { bitByImmediate($0, $1, UInt32.self, .set) },
        { bitByImmediate($0, $1, UInt64.self, .set) }))
  case 0xBA where instruction.group == 6:
    return stays(
      wide(
        size, { bitByImmediate($0, $1, UInt16.self, .reset) },
        { bitByImmediate($0, $1, UInt32.self, .reset) },
        { bitByImmediate($0, $1, UInt64.self, .reset) }))
  case 0xBA where instruction.group == 7:
    return stays(
      wide(
        size, { bitByImmediate($0, $1, UInt16.self, .complement) },
        { bitByImmediate($0, $1, UInt32.self, .complement) },
        { bitByImmediate($0, $1, UInt64.self, .complement) }))
  case 0xA4:
    return stays(
      wide(
        size,
        {
          shiftDouble(
            $0, $1, UInt16.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: true)
        },
        {
          shiftDouble(
            $0, $1, UInt32.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: true)
        },
        {
          shiftDouble(
            $0, $1, UInt64.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: true)
        }))
  case 0xA5:
    return stays(
      wide(
        size, { shiftDouble($0, $1, UInt16.self, count: UInt8.register($0, 8), isLeft: true) },
        { shiftDouble($0, $1, UInt32.self, count: UInt8.register($0, 8), isLeft: true) },
        { shiftDouble($0, $1, UInt64.self, count: UInt8.register($0, 8), isLeft: true) }))
  case 0xAC:
    return stays(
      wide(
        size,
        {
          shiftDouble(
            $0, $1, UInt16.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: false)
        },
        {
          shiftDouble(
            $0, $1, UInt32.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: false)
        },
        {
          shiftDouble(
            $0, $1, UInt64.self, count: UInt8(truncatingIfNeeded: $1.pointee.immediate),
            isLeft: false)
        }))
  case 0xAD:
    return stays(
      wide(
        size, { shiftDouble($0, $1, UInt16.self, count: UInt8.register($0, 8), isLeft: false) },
        { shiftDouble($0, $1, UInt32.self, count: UInt8.register($0, 8), isLeft: false) },
        { shiftDouble($0, $1, UInt64.self, count: UInt8.register($0, 8), isLeft: false) }))
  case 0xAF:
    return stays(
      wide(
        size, { multiplyRegister($0, $1, UInt16.self, byImmediate: false) },
        { multiplyRegister($0, $1, UInt32.self, byImmediate: false) },
        { multiplyRegister($0, $1, UInt64.self, byImmediate: false) }))
  case 0xB0: return stays { compareExchange($0, $1, UInt8.self) }
  case 0xB1:
    return stays(
      wide(
        size, { compareExchange($0, $1, UInt16.self) },
        { compareExchange($0, $1, UInt32.self) },
        { compareExchange($0, $1, UInt64.self) }))
  case 0xB6:
    return stays(
      wide(
        size, { moveZeroExtended($0, $1, UInt8.self, UInt16.self) },
        { moveZeroExtended($0, $1, UInt8.self, UInt32.self) },
        { moveZeroExtended($0, $1, UInt8.self, UInt64.self) }))
  case 0xB7:
    return stays(
      wide(
        size, { moveZeroExtended($0, $1, UInt16.self, UInt16.self) },
        { moveZeroExtended($0, $1, UInt16.self, UInt32.self) },
        { moveZeroExtended($0, $1, UInt16.self, UInt64.self) }))
  case 0xBE:
    return stays(
      wide(
        size, { moveSignExtended($0, $1, UInt8.self, UInt16.self) },
        { moveSignExtended($0, $1, UInt8.self, UInt32.self) },
        { moveSignExtended($0, $1, UInt8.self, UInt64.self) }))
  case 0xBF:
    return stays(
      wide(
        size, { moveSignExtended($0, $1, UInt16.self, UInt16.self) },
        { moveSignExtended($0, $1, UInt16.self, UInt32.self) },
        { moveSignExtended($0, $1, UInt16.self, UInt64.self) }))
  case 0xB8 where instruction.repeatPrefix == 0xF3:
    return stays(
      wide(
        size, { scanBits($0, $1, UInt16.self, .population) },
        { scanBits($0, $1, UInt32.self, .population) },
        { scanBits($0, $1, UInt64.self, .population) }))
  case 0xBC:
    if instruction.repeatPrefix == 0xF3 {
      return stays(
        wide(
          size, { scanBits($0, $1, UInt16.self, .trailing) },
          { scanBits($0, $1, UInt32.self, .trailing) },
          { scanBits($0, $1, UInt64.self, .trailing) }))
    }
    return stays(
      wide(
        size, { scanBits($0, $1, UInt16.self, .forward) },
        { scanBits($0, $1, UInt32.self, .forward) },
        { scanBits($0, $1, UInt64.self, .forward) }))
  case 0xBD:
    if instruction.repeatPrefix == 0xF3 {
      return stays(
        wide(
          size, { scanBits($0, $1, UInt16.self, .leading) },
          { scanBits($0, $1, UInt32.self, .leading) },
          { scanBits($0, $1, UInt64.self, .leading) }))
    }
    return stays(
      wide(
        size, { scanBits($0, $1, UInt16.self, .reverse) },
        { scanBits($0, $1, UInt32.self, .reverse) },
        { scanBits($0, $1, UInt64.self, .reverse) }))
  case 0xC0: return stays { exchangeAdd($0, $1, UInt8.self) }
  case 0xC1:
    return stays(
      wide(
        size, { exchangeAdd($0, $1, UInt16.self) },
        { exchangeAdd($0, $1, UInt32.self) },
        { exchangeAdd($0, $1, UInt64.self) }))
  case 0xC3
  where !instruction.isRegisterForm && instruction.operandSize >= 2 && instruction.repeatPrefix == 0:
    return size == 2
      ? stays { moveToOperand($0, $1, UInt32.self) } : stays { moveToOperand($0, $1, UInt64.self) }
  case 0xC7: return group9(instruction)
  case 0xC8...0xCF:
    return stays(
      wide(
        size, { swapBytes($0, $1, UInt16.self) },
        { swapBytes($0, $1, UInt32.self) },
        { swapBytes($0, $1, UInt64.self) }))
  default: return nil
  }
}

/// CMPXCHG8B, CMPXCHG16B, RDRAND, RDSEED, RDPID.
private func group9(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let size = instruction.operandSize
  switch (instruction.group, instruction.isRegisterForm) {
  case (1, false):
    return size == 3
      ? stays { finish($0, $1, compareExchange16($0, $1)) }
      : stays { finish($0, $1, compareExchange8($0, $1)) }
  case (7, true) where instruction.repeatPrefix == 0xF3:
    return stays { cpu, operation in
      cpu.registers[Int(operation.pointee.rm)] = cpu.pointee.tsc_aux & 0xFFFF_FFFF
      next(cpu, operation)
    }
  case (6, true), (7, true):
    return stays(
      wide(
        size,
        {
          randomNumber($0, $1, UInt16.self)
          next($0, $1)
        },
        {
          randomNumber($0, $1, UInt32.self)
          next($0, $1)
        },
        {
          randomNumber($0, $1, UInt64.self)
          next($0, $1)
        }))
  default: return nil
  }
}

/// 0F 38: MOVBE, CRC32, ADCX, ADOX.
func threeByteIntegerHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let size = instruction.operandSize
  switch (instruction.opcode, instruction.repeatPrefix) {
  case (0xF0, 0xF2): return stays { crc32($0, $1, UInt8.self) }
  case (0xF1, 0xF2):
    return stays(
      wide(
        size, { crc32($0, $1, UInt16.self) },
        { crc32($0, $1, UInt32.self) },
        { crc32($0, $1, UInt64.self) }))
  case (0xF0, 0) where !instruction.isRegisterForm:
    return stays(
      wide(
        size, { moveSwapped($0, $1, UInt16.self, isStore: false) },
        { moveSwapped($0, $1, UInt32.self, isStore: false) },
        { moveSwapped($0, $1, UInt64.self, isStore: false) }))
  case (0xF1, 0) where !instruction.isRegisterForm:
    return stays(
      wide(
        size, { moveSwapped($0, $1, UInt16.self, isStore: true) },
        { moveSwapped($0, $1, UInt32.self, isStore: true) },
        { moveSwapped($0, $1, UInt64.self, isStore: true) }))
  case (0xF6, 0xF3):
    return size == 3
      ? stays { addWithFlag($0, $1, UInt64.self, usesOverflow: true) }
      : stays { addWithFlag($0, $1, UInt32.self, usesOverflow: true) }
  case (0xF6, 0) where instruction.hasOperandPrefix:
    return size == 3
      ? stays { addWithFlag($0, $1, UInt64.self, usesOverflow: false) }
      : stays { addWithFlag($0, $1, UInt32.self, usesOverflow: false) }
  default: return nil
  }
}

/// The integer instructions with VEX: BMI1 and BMI2. All of them have L = 0.
func vexIntegerHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  guard !instruction.vexLength256 else { return nil }
  let isWide = instruction.rex & 8 != 0 && instruction.isLong
  let prefix: UInt8 = instruction.hasOperandPrefix ? 0x66 : instruction.repeatPrefix
  func choice(_ narrow: soft_handler, _ wide: soft_handler) -> HandlerChoice {
    stays(isWide ? wide : narrow)
  }
  switch (instruction.map, instruction.opcode, prefix) {
  case (2, 0xF2, 0):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .andNot) },
      { manipulateBits($0, $1, UInt64.self, .andNot) })
  case (2, 0xF5, 0):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .zeroHigh) },
      { manipulateBits($0, $1, UInt64.self, .zeroHigh) })
  case (2, 0xF5, 0xF3):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .extract) },
      { manipulateBits($0, $1, UInt64.self, .extract) })
  case (2, 0xF5, 0xF2):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .deposit) },
      { manipulateBits($0, $1, UInt64.self, .deposit) })
  case (2, 0xF6, 0xF2):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .multiply) },
      { manipulateBits($0, $1, UInt64.self, .multiply) })
  case (2, 0xF7, 0):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .extractField) },
      { manipulateBits($0, $1, UInt64.self, .extractField) })
  case (2, 0xF7, 0x66):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .shiftLeft) },
      { manipulateBits($0, $1, UInt64.self, .shiftLeft) })
  case (2, 0xF7, 0xF3):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .shiftArithmetic) },
      { manipulateBits($0, $1, UInt64.self, .shiftArithmetic) })
  case (2, 0xF7, 0xF2):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .shiftRight) },
      { manipulateBits($0, $1, UInt64.self, .shiftRight) })
  case (2, 0xF3, 0):
    switch instruction.group {
    case 1:
      return choice(
        { manipulateBits($0, $1, UInt32.self, .resetLowest) },
        { manipulateBits($0, $1, UInt64.self, .resetLowest) })
    case 2:
      return choice(
        { manipulateBits($0, $1, UInt32.self, .maskLowest) },
        { manipulateBits($0, $1, UInt64.self, .maskLowest) })
    case 3:
      return choice(
        { manipulateBits($0, $1, UInt32.self, .isolateLowest) },
        { manipulateBits($0, $1, UInt64.self, .isolateLowest) })
    default: return nil
    }
  case (3, 0xF0, 0xF2):
    return choice(
      { manipulateBits($0, $1, UInt32.self, .rotate) },
      { manipulateBits($0, $1, UInt64.self, .rotate) })
  default: return nil
  }
}
