// From bytes to an operation: prefixes, opcode maps, ModRM and SIB, immediates (Intel SDM 2A, chapter 2). Which handler
// executes it is asked elsewhere.
import CSoftProcessor

enum DecodeResult {
  case decoded(endsBlock: Bool)
  /// The bytes that are there are the beginning of an instruction.
  case incomplete
}

/// Decodes one instruction from at most 15 bytes.
struct Decoder {
  let bytes: UnsafePointer<UInt8>
  let available: Int
  let mode: UInt32
  var position = 0
  var instruction = DecodedInstruction()
  var operation: soft_operation
  private var segmentOverride: UInt8?
  private var overrun = false
  /// #UD.
  private(set) var isUndefined = false

  init(bytes: UnsafePointer<UInt8>, available: Int, mode: UInt32) {
    self.bytes = bytes
    self.available = available
    self.mode = mode
    operation = emptyOperation()
  }

  private var isLong: Bool { mode & UInt32(SOFT_MODE_CODE64) != 0 }
  private var isCode32: Bool { mode & UInt32(SOFT_MODE_CODE32) != 0 }

  private mutating func fetch8() -> UInt8 {
    guard position < available else {
      overrun = true
      return 0
    }
    let value = bytes[position]
    position &+= 1
    return value
  }
  private mutating func fetch16() -> UInt16 { UInt16(fetch8()) | UInt16(fetch8()) << 8 }
  private mutating func fetch32() -> UInt32 { UInt32(fetch16()) | UInt32(fetch16()) << 16 }
  private mutating func fetch64() -> UInt64 { UInt64(fetch32()) | UInt64(fetch32()) << 32 }

  /// - Parameter offset: of the instruction from the start of its block.
  mutating func decode(offset: Int) -> DecodeResult {
    instruction.mode = mode
    var opcode = readPrefixes()
    var map: UInt8 = 0
    if opcode == 0x0F {
      map = 1
      opcode = fetch8()
      if opcode == 0x38 || opcode == 0x3A {
        map = opcode == 0x38 ? 2 : 3
        opcode = fetch8()
      }
    } else if opcode == 0xC4 || opcode == 0xC5 {
      // LES and LDS take no register operand; in 64-bit mode they do not exist.
      if position >= available { return .incomplete }
      if isLong || bytes[position] >> 6 == 3 {
        (map, opcode) = readVEX(isLongForm: opcode == 0xC4)
      }
    }
    if overrun { return .incomplete }
    instruction.map = map
    instruction.opcode = opcode
    setSizes()

    var form: OpcodeForm
    switch map {
    case 0: form = OpcodeForm.oneByte(opcode, isLong: isLong)
    case 1: form = instruction.isVEX && opcode == 0x77 ? .plain() : OpcodeForm.twoBytes(opcode)
    case 2:
      form = .modRM()
      if opcode == 0xF0, instruction.repeatPrefix == 0xF2 { form.rmIsByte = true }
    default: form = .modRM(.byte)
    }
    if map == 1, opcode & 0xFC == 0x20 { form = .modRM() }
    if form.hasModRM {
      readModRM(form)
    } else if form.registerInOpcode {
      let number = opcode & 7 | (instruction.rex & 1) << 3
      operation.rm = form.rmIsByte ? instruction.byteRegister(number) : number
      operation.reg = operation.rm
    }
    if map == 0, opcode == 0xF6 || opcode == 0xF7, instruction.group < 2 {
      form.immediate = opcode == 0xF6 ? .byte : .full
    }
    readImmediate(form.immediate)
    if overrun { return .incomplete }
    return .decoded(endsBlock: finish(form, offset: offset))
  }

  // MARK: Parts

  private mutating func readPrefixes() -> UInt8 {
    while !overrun {
      let byte = fetch8()
      switch byte {
      case 0x66: instruction.hasOperandPrefix = true
      case 0x67: instruction.hasAddressPrefix = true
      case 0xF0: instruction.hasLock = true
      case 0xF2, 0xF3: instruction.repeatPrefix = byte
      case 0x26, 0x2E, 0x36, 0x3E:
        // Null prefixes in 64-bit mode; they do not undo an FS or GS before them.
        if !isLong { segmentOverride = byte >> 3 & 3 }
      case 0x64: segmentOverride = 4
      case 0x65: segmentOverride = 5
      case 0x40...0x4F where isLong:
        // Only directly before the opcode.
        instruction.rex = byte
        continue
      default: return byte
      }
      instruction.rex = 0
    }
    return 0
  }

  /// VEX: gives map and opcode. Invalid combinations get a map without instructions.
  private mutating func readVEX(isLongForm: Bool) -> (UInt8, UInt8) {
    let isRefused =
      instruction.hasLock || instruction.hasOperandPrefix || instruction.repeatPrefix != 0
      || instruction.rex != 0 || mode & UInt32(SOFT_MODE_PROTECTED) == 0
    instruction.isVEX = true
    let first = fetch8()
    var map: UInt8 = 1
    var last = first
    var rex: UInt8 = 0x40 | (~first >> 7 & 1) << 2
    if isLongForm {
      map = first & 0x1F
      last = fetch8()
      rex |= (~first >> 6 & 1) << 1 | ~first >> 5 & 1 | (last >> 7) << 3
    }
    if !isLong { rex &= 0x48 }
    instruction.rex = rex
    instruction.vexRegister = ~last >> 3 & (isLong ? 15 : 7)
    instruction.vexLength256 = last & 4 != 0
    switch last & 3 {
    case 1: instruction.hasOperandPrefix = true
    case 2: instruction.repeatPrefix = 0xF3
    case 3: instruction.repeatPrefix = 0xF2
    default: break
    }
    let opcode = fetch8()
    return (isRefused || map == 0 || map > 3 ? 0xF : map, opcode)
  }

  private mutating func setSizes() {
    if isLong {
      instruction.operandSize =
        instruction.rex & 8 != 0 ? 3 : instruction.hasOperandPrefix ? 1 : 2
      instruction.addressSize = instruction.hasAddressPrefix ? 1 : 2
    } else {
      instruction.operandSize = instruction.hasOperandPrefix != isCode32 ? 2 : 1
      instruction.addressSize = instruction.hasAddressPrefix != isCode32 ? 1 : 0
    }
    instruction.segment = segmentOverride ?? 3
  }

  private mutating func readModRM(_ form: OpcodeForm) {
    let modRM = fetch8()
    instruction.hasModRM = true
    instruction.modRM = modRM
    let reg = modRM >> 3 & 7 | (instruction.rex & 4) << 1
    operation.reg = form.regIsByte ? instruction.byteRegister(reg) : reg
    let rm = modRM & 7 | (instruction.rex & 1) << 3
    operation.rm = form.rmIsByte ? instruction.byteRegister(rm) : rm
    operation.base = UInt8(SOFT_ZERO)
    operation.index = UInt8(SOFT_ZERO)
    // MOV to and from control and debug registers: always registers.
    if instruction.map == 1, instruction.opcode & 0xFC == 0x20 {
      instruction.modRM |= 0xC0
      return
    }
    guard modRM >> 6 != 3 else { return }
    operation.flags |= UInt8(SOFT_OPERATION_MEMORY)
    if instruction.addressSize == 0 { readAddress16(modRM) } else { readAddress(modRM) }
  }

  private mutating func readAddress16(_ modRM: UInt8) {
    let kind = modRM >> 6
    let rm = modRM & 7
    var usesStack = false
    switch rm {
    case 0: (operation.base, operation.index) = (3, 6)
    case 1: (operation.base, operation.index) = (3, 7)
    case 2: (operation.base, operation.index, usesStack) = (5, 6, true)
    case 3: (operation.base, operation.index, usesStack) = (5, 7, true)
    case 4: operation.base = 6
    case 5: operation.base = 7
    case 6:
      if kind != 0 { (operation.base, usesStack) = (5, true) }
    default: operation.base = 3
    }
    if kind == 1 {
      operation.displacement = Int32(Int8(bitPattern: fetch8()))
    } else if kind == 2 || rm == 6 && kind == 0 {
      operation.displacement = Int32(Int16(bitPattern: fetch16()))
    }
    if usesStack { instruction.segment = segmentOverride ?? 2 }
  }

  private mutating func readAddress(_ modRM: UInt8) {
    let kind = modRM >> 6
    var hasWide = kind == 2
    if modRM & 7 == 4 {
      let sib = fetch8()
      instruction.vectorIndex = sib >> 3 & 7 | (instruction.rex & 2) << 2 | (sib >> 6) << 4
      let index = sib >> 3 & 7 | (instruction.rex & 2) << 2
      if instruction.isGather {
        instruction.hasVectorIndex = true
      } else if index != 4 {
        operation.index = index
        operation.scale = sib >> 6
      }
      if sib & 7 == 5, kind == 0 {
        hasWide = true
      } else {
        operation.base = sib & 7 | (instruction.rex & 1) << 3
      }
    } else if modRM & 7 == 5, kind == 0 {
      hasWide = true
      if isLong { operation.base = AddressBase.nextInstruction }
    } else {
      operation.base = modRM & 7 | (instruction.rex & 1) << 3
    }
    if kind == 1 {
      operation.displacement = Int32(Int8(bitPattern: fetch8()))
    } else if hasWide {
      operation.displacement = Int32(bitPattern: fetch32())
    }
    if operation.base == 4 || operation.base == 5 { instruction.segment = segmentOverride ?? 2 }
  }

  private mutating func readImmediate(_ kind: ImmediateKind) {
    let isWord = instruction.operandSize == 1
    switch kind {
    case .none: break
    case .byte: operation.immediate = UInt64(bitPattern: Int64(Int8(bitPattern: fetch8())))
    case .word: operation.immediate = UInt64(fetch16())
    case .full:
      operation.immediate =
        isWord
        ? UInt64(bitPattern: Int64(Int16(bitPattern: fetch16())))
        : UInt64(bitPattern: Int64(Int32(bitPattern: fetch32())))
    case .quad:
      operation.immediate =
        isWord
        ? UInt64(fetch16()) : instruction.operandSize == 3 ? fetch64() : UInt64(fetch32())
    case .address:
      operation.immediate =
        instruction.addressSize == 2
        ? fetch64() : instruction.addressSize == 1 ? UInt64(fetch32()) : UInt64(fetch16())
    case .farPointer:
      let offset = isWord ? UInt64(fetch16()) : UInt64(fetch32())
      operation.immediate = offset | UInt64(fetch16()) << 32
    case .wordAndByte: operation.immediate = UInt64(fetch16()) | UInt64(fetch8()) << 16
    case .branch:
      operation.immediate =
        isWord && !isLong
        ? UInt64(bitPattern: Int64(Int16(bitPattern: fetch16())))
        : UInt64(bitPattern: Int64(Int32(bitPattern: fetch32())))
    }
  }

  /// Everything is read: chooses the handler. Gives whether the block ends.
  private mutating func finish(_ form: OpcodeForm, offset: Int) -> Bool {
    operation.length = UInt8(truncatingIfNeeded: position)
    operation.offset = UInt16(truncatingIfNeeded: offset)
    operation.opcode = UInt16(instruction.map) << 8 | UInt16(instruction.opcode)
    operation.segment = instruction.segment
    let isByte =
      form.rmIsByte && !(instruction.map == 1 && instruction.opcode & 0xF7 == 0xB6)
    operation.flags |= isByte ? 0 : instruction.operandSize
    operation.flags |= instruction.addressSize << UInt8(SOFT_OPERATION_ADDRESS_SHIFT)
    if instruction.hasLock { operation.flags |= UInt8(SOFT_OPERATION_LOCK) }
    if instruction.repeatPrefix == 0xF3 { operation.flags |= UInt8(SOFT_OPERATION_REP) }
    if instruction.repeatPrefix == 0xF2 { operation.flags |= UInt8(SOFT_OPERATION_REPNE) }
    if operation.base == AddressBase.nextInstruction, instruction.hasModRM, isLong {
      let wanted = Int64(operation.displacement) + Int64(offset) + Int64(position)
      if let displacement = Int32(exactly: wanted) {
        operation.base = AddressBase.blockStart
        operation.displacement = displacement
      }
    }
    if instruction.hasLock, !isLockable { return setUndefined() }
    if instruction.isVEX {
      operation.immediate &= 0xFFFF_FFFF
      // Blends by a register that the immediate names: there are only 8 outside 64-bit mode.
      if !isLong, instruction.map == 3, 0x4A...0x4C ~= instruction.opcode {
        operation.immediate &= 0x7F
      }
      if instruction.hasVectorIndex { operation.immediate = UInt64(instruction.vectorIndex) }
      operation.immediate |= UInt64(instruction.vexRegister) << 48
      if instruction.vexLength256 { operation.immediate |= 1 << 52 }
    }
    let isFlat =
      isLong && !instruction.hasLock && instruction.addressSize == 2
      && operation.base != AddressBase.nextInstruction
    if isFlat, let choice = flatHandler(instruction, &operation) {
      operation.handler = choice.handler
      return choice.endsBlock
    }
    guard let choice = chooseHandler(instruction) else { return setUndefined() }
    operation.handler = choice.handler
    if choice.kernel != 0 {
      operation.immediate = operation.immediate & ~(0xFFFF << 32) | UInt64(choice.kernel) << 32
    }
    return choice.endsBlock || choice.castsShadow
  }

  private mutating func setUndefined() -> Bool {
    operation.handler = undefinedHandler
    isUndefined = true
    return true
  }

  /// LOCK is allowed with these when the destination is in memory.
  private var isLockable: Bool {
    guard instruction.hasModRM, !instruction.isRegisterForm, !instruction.isVEX else {
      return false
    }
    let opcode = instruction.opcode
    let group = instruction.group
    switch (instruction.map, opcode) {
    case (0, 0x00..<0x38): return opcode & 7 < 2
    case (0, 0x80...0x83): return group != 7
    case (0, 0x86), (0, 0x87): return true
    case (0, 0xF6), (0, 0xF7): return group == 2 || group == 3
    case (0, 0xFE), (0, 0xFF): return group < 2
    case (1, 0xAB), (1, 0xB3), (1, 0xBB), (1, 0xB0), (1, 0xB1), (1, 0xC0), (1, 0xC1): return true
    case (1, 0xBA): return group >= 5
    case (1, 0xC7): return group == 1
    default: return false
    }
  }
}

/// Who executes an instruction; nil: #UD.
func chooseHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  integerHandler(instruction) ?? systemHandler(instruction) ?? vectorHandler(instruction)
}

/// #UD.
private let undefinedHandler: soft_handler = { cpu, operation in
  raise(cpu, .invalidOpcode)
  fault(cpu, operation)
}

/// An operation without operands that does nothing yet.
func emptyOperation() -> soft_operation {
  soft_operation(
    handler: undefinedHandler, immediate: 0, displacement: 0, base: UInt8(SOFT_ZERO),
    index: UInt8(SOFT_ZERO), scale: 0, segment: 3, reg: 0, rm: 0, length: 0, flags: 0, offset: 0,
    opcode: 0)
}
