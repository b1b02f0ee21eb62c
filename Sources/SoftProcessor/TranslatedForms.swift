// Which instructions are translated, by opcode: the integer instructions that compilers use most.
import CSoftProcessor

extension TranslatedInstruction {
  mutating func describeOneByte(_ instruction: DecodedInstruction) -> Bool {
    let opcode = instruction.opcode
    let group = instruction.group
    switch opcode {
    case 0..<0x40: return describeArithmetic(opcode)
    case 0x50...0x57, 0x58...0x5F:
      guard size != 1 else { return false }
      size = 3
      rmUse = opcode < 0x58 ? .read : .write
      return become(opcode < 0x58 ? .push : .pop)
    case 0x63:
      guard size >= 2 else { return false }
      memorySize = 2
      return use(0x63, reg: .write, rm: .read)
    case 0x68, 0x6A: return size != 1 && become(.pushImmediate)
    case 0x69: return use(0x69, reg: .write, rm: .read, flags: .writes, immediate: fullImmediate)
    case 0x6B: return use(0x6B, reg: .write, rm: .read, flags: .writes, immediate: 1)
    case 0x70...0x7F:
      condition = opcode & 15
      flags = .reads
      return become(.jumpIf)
    case 0x80, 0x81, 0x83:
      if opcode == 0x80 { setByte() }
      return useGroup(
        Int(opcode), group, rm: group == 7 ? .read : .modify, flags: Self.arithmeticFlags(group),
        immediate: opcode == 0x81 ? fullImmediate : 1)
    case 0x84, 0x85:
      if opcode == 0x84 { setByte() }
      return use(Int(opcode), reg: .read, rm: .read, flags: .writes)
    case 0x88, 0x89, 0xC6, 0xC7:
      if opcode & 1 == 0 { setByte() }
      if opcode < 0x90 { return use(Int(opcode), reg: .read, rm: .write) }
      return group == 0 && useGroup(Int(opcode), 0, rm: .write, immediate: fullImmediate)
    case 0x8A, 0x8B:
      if opcode == 0x8A { setByte() }
      return use(Int(opcode), reg: .write, rm: .read)
    case 0x8D:
      guard isMemory else { return false }
      regUse = .write
      return become(.loadAddress)
    // PAUSE lets other processors run.
    case 0x90 where instruction.rex & 1 == 0:
      return instruction.repeatPrefix != 0xF3 && become(.nothing)
    case 0x87, 0x90...0x97:
      guard !isMemory, size >= 2 else { return false }
      if opcode != 0x87 { reg = 0 }
      regUse = .modify
      rmUse = .modify
      return become(.exchange)
    case 0x98, 0x99:
      return size >= 2 && become(opcode == 0x98 ? .extendAccumulator : .extendIntoData)
    case 0xA8, 0xA9:
      if opcode == 0xA8 { setByte() }
      rm = 0
      return useGroup(
        opcode == 0xA8 ? 0xF6 : 0xF7, 0, rm: .read, flags: .writes, immediate: fullImmediate)
    case 0xB0...0xBF:
      if opcode < 0xB8 { setByte() }
      rmUse = .write
      return become(.constant)
    case 0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3: return describeShift(opcode, group)
    case 0xC2, 0xC3: return become(.returnNear)
    case 0xC9: return size != 1 && become(.leaveFrame)
    case 0xE8, 0xE9, 0xEB: return become(opcode == 0xE8 ? .call : .jump)
    case 0xF6, 0xF7: return describeUnary(opcode, group)
    case 0xFE, 0xFF: return describeLast(opcode, group)
    default: return false
    }
  }

  private mutating func setByte() {
    size = 0
    memorySize = 0
  }

  private static func arithmeticFlags(_ kind: UInt8) -> FlagUse {
    kind == ArithmeticKind.addCarry || kind == ArithmeticKind.subtractBorrow
      ? [.reads, .writes] : .writes
  }

  private mutating func describeArithmetic(_ opcode: UInt8) -> Bool {
    let kind = opcode >> 3
    let flags = Self.arithmeticFlags(kind)
    let target = kind == ArithmeticKind.compare ? OperandUse.read : .modify
    guard opcode & 7 < 6 else { return false }
    if opcode & 1 == 0 { setByte() }
    switch opcode & 7 {
    case 0, 1: return use(Int(opcode), reg: .read, rm: target, flags: flags)
    case 2, 3: return use(Int(opcode), reg: target, rm: .read, flags: flags)
    default:
      rm = 0
      return useGroup(
        opcode & 1 == 0 ? 0x80 : 0x81, kind, rm: target, flags: flags, immediate: fullImmediate)
    }
  }

  private mutating func describeShift(_ opcode: UInt8, _ group: UInt8) -> Bool {
    if opcode & 1 == 0 { setByte() }
    // RCL and RCR read CF, and what they do to it depends on the count.
    guard group != 2, group != 3 else { return false }
    let isRotate = group < 2
    if opcode >= 0xD2 {
      countsInCL = true
      return useGroup(Int(opcode), group, rm: .modify, flags: .changes)
    }
    let byCount = opcode < 0xD0
    let count = byCount ? operation.immediate & (size == 3 ? 63 : 31) : 1
    guard count != 0 else { return false }
    return useGroup(
      Int(opcode), group, rm: .modify, flags: isRotate ? .changes : .writes,
      immediate: byCount ? 1 : 0)
  }

  private mutating func describeUnary(_ opcode: UInt8, _ group: UInt8) -> Bool {
    if opcode == 0xF6 { setByte() }
    switch group {
    case 0, 1:
      return useGroup(
        Int(opcode), 0, rm: .read, flags: .writes, immediate: fullImmediate)
    case 2: return useGroup(Int(opcode), 2, rm: .modify)
    case 3: return useGroup(Int(opcode), 3, rm: .modify, flags: .writes)
    case 4, 5:
      guard size >= 2 else { return false }
      _ = useGroup(Int(opcode), group, rm: .read, flags: .writes)
      return become(.multiply)
    default: return false
    }
  }

  private mutating func describeLast(_ opcode: UInt8, _ group: UInt8) -> Bool {
    if opcode == 0xFE { setByte() }
    switch group {
    case 0, 1: return useGroup(Int(opcode), group, rm: .modify, flags: .changes)
    case 2, 4, 6:
      guard opcode == 0xFF, size != 1 else { return false }
      size = 3
      memorySize = 3
      rmUse = .read
      return become(group == 2 ? .callIndirect : group == 4 ? .jumpIndirect : .push)
    default: return false
    }
  }

  mutating func describeTwoBytes(_ instruction: DecodedInstruction) -> Bool {
    let opcode = instruction.opcode
    let code = 0x0F00 | Int(opcode)
    switch opcode {
    case 0x0D, 0x18...0x1F: return become(.nothing)
    case 0x40...0x4F:
      return use(code, reg: .modify, rm: .read, flags: .reads)
    case 0x80...0x8F:
      condition = opcode & 15
      flags = .reads
      return become(.jumpIf)
    case 0x90...0x9F:
      size = 0
      memorySize = 0
      return useGroup(code, 0, rm: .write, flags: .reads)
    case 0xA3, 0xAB, 0xB3, 0xBB:
      // With memory the bit's number reaches beyond the operand.
      guard !isMemory else { return false }
      return use(code, reg: .read, rm: opcode == 0xA3 ? .read : .modify, flags: .changes)
    case 0xBA:
      let group = instruction.group
      guard group >= 4 else { return false }
      return useGroup(
        code, group, rm: group == 4 ? .read : .modify, flags: .changes, immediate: 1)
    case 0xAF: return use(code, reg: .modify, rm: .read, flags: .writes)
    case 0xB0, 0xB1:
      guard isMemory else { return false }
      if opcode == 0xB0 {
        size = 0
        memorySize = 0
      }
      _ = use(code, reg: .read, rm: .modify, flags: .writes)
      return become(.compareExchange)
    case 0xB6, 0xB7, 0xBE, 0xBF:
      guard size >= 2 else { return false }
      memorySize = opcode & 1
      return use(code, reg: .write, rm: .read)
    case 0xC0, 0xC1:
      // Only with memory, where both change at once.
      guard isMemory else { return false }
      if opcode == 0xC0 {
        size = 0
        memorySize = 0
      }
      return use(code, reg: .modify, rm: .modify, flags: .writes)
    case 0xC8...0xCF:
      guard size >= 2 else { return false }
      rmUse = .modify
      return become(.swapBytes)
    default: return false
    }
  }
}
