// What the translator knows of an instruction: which registers, flags and memory it touches, and how it is written again
// for the host. An instruction that is not described here is left to its handler.
import CSoftProcessor

/// What an instruction does with the arithmetic flags.
struct FlagUse: OptionSet {
  let rawValue: UInt8
  static let reads = FlagUse(rawValue: 1)
  /// All six.
  static let writes = FlagUse(rawValue: 2)
  /// Some, or not always: the others stay.
  static let changes = FlagUse(rawValue: 4)
}

enum OperandUse {
  case none, read, write, modify

  var reads: Bool { self == .read || self == .modify }
  var writes: Bool { self == .write || self == .modify }
}

struct TranslatedInstruction {
  enum Kind {
    /// The host executes the same opcode on other registers, or on memory that was looked up.
    case same
    case nothing, loadAddress, constant, push, pushImmediate, pop, leaveFrame
    case multiply, compareExchange, extendAccumulator, extendIntoData, exchange, swapBytes
    case jump, jumpIf, call, jumpIndirect, callIndirect, returnNear
    /// The block goes on in the next one.
    case end
  }

  var kind: Kind
  var operation: soft_operation
  /// As for `HostAssembler.code`.
  var opcode = 0
  /// Of the operands: log2 of bytes.
  var size: UInt8
  /// log2 of the bytes of ModRM.rm, which MOVZX and its kin have smaller.
  var memorySize: UInt8
  var isMemory: Bool
  var isLocked = false
  var hasSegmentBase = false
  /// Guest registers; of groups `reg` is the opcode's extension.
  var reg: UInt8 = 0
  var rm: UInt8 = 0
  var regUse = OperandUse.none
  var rmUse = OperandUse.none
  var immediateCount = 0
  var flags: FlagUse = []
  /// The count is in CL.
  var countsInCL = false
  /// Code of Jcc, SETcc, CMOVcc.
  var condition: UInt8 = 0

  /// Guest registers by bit; 18 is the block's start.
  var registers: UInt32 {
    var set: UInt32 = 0
    if regUse != .none { set |= 1 << UInt32(reg) }
    if !isMemory, rmUse != .none { set |= 1 << UInt32(rm) }
    if isMemory {
      set |= 1 << UInt32(operation.base) | 1 << UInt32(operation.index)
    }
    if countsInCL { set |= 1 << 1 }
    switch kind {
    case .push, .pushImmediate, .pop, .call, .callIndirect, .returnNear: set |= 1 << 4
    case .leaveFrame: set |= 1 << 4 | 1 << 5
    case .multiply, .extendIntoData: set |= 1 | 1 << 2
    case .extendAccumulator, .compareExchange: set |= 1
    default: break
    }
    return set & ~(1 << UInt32(SOFT_ZERO))
  }

  /// Guest registers whose value changes.
  var written: UInt32 {
    var set: UInt32 = 0
    if regUse.writes { set |= 1 << UInt32(reg) }
    if !isMemory, rmUse.writes { set |= 1 << UInt32(rm) }
    switch kind {
    case .push, .pushImmediate, .pop: set |= 1 << 4
    case .leaveFrame: set |= 1 << 4 | 1 << 5
    case .multiply: set |= 1 | 1 << 2
    case .extendIntoData: set |= 1 << 2
    case .extendAccumulator, .compareExchange: set |= 1
    default: break
    }
    return set
  }

  /// It may go to the interpreter in place of being done, and changes the host's flags before.
  var reachesMemory: Bool {
    switch kind {
    case .same, .multiply, .compareExchange: isMemory
    case .push, .pushImmediate, .pop, .leaveFrame, .call, .jumpIndirect, .callIndirect, .returnNear:
      true
    default: false
    }
  }

  var endsBlock: Bool {
    switch kind {
    case .jump, .jumpIf, .call, .jumpIndirect, .callIndirect, .returnNear, .end: true
    default: false
    }
  }

  private init(_ kind: Kind, _ operation: soft_operation, size: UInt8, isMemory: Bool) {
    self.kind = kind
    self.operation = operation
    self.size = size
    memorySize = size
    self.isMemory = isMemory
  }

  /// What stands behind the last instruction of a block that no branch ends.
  static func end(_ operation: soft_operation) -> TranslatedInstruction {
    TranslatedInstruction(.end, operation, size: 3, isMemory: false)
  }

  /// nil: left to the interpreter.
  init?(_ instruction: DecodedInstruction, _ operation: soft_operation) {
    guard !instruction.isVEX, instruction.map < 2, instruction.isLong,
      instruction.addressSize == 2, operation.base != AddressBase.nextInstruction
    else { return nil }
    let isMemory = instruction.hasModRM && !instruction.isRegisterForm
    self.init(.same, operation, size: instruction.operandSize, isMemory: isMemory)
    hasSegmentBase = isMemory && instruction.segment > 3
    isLocked = instruction.hasLock
    reg = operation.reg
    rm = operation.rm
    let isKnown =
      instruction.map == 0
      ? describeOneByte(instruction) : describeTwoBytes(instruction)
    guard isKnown, nameBytes(instruction) else { return nil }
    if isLocked, !isMemory || kind != .same && kind != .compareExchange { return nil }
    // Parts of registers: the rest stays.
    if size < 2, regUse == .write { regUse = .modify }
    if size < 2, !isMemory, rmUse == .write { rmUse = .modify }
  }

  /// Byte registers are named by their offset: makes numbers of them. AH to BH are left to the interpreter.
  private mutating func nameBytes(_ instruction: DecodedInstruction) -> Bool {
    if regUse != .none, size == 0 {
      guard reg & 1 == 0 else { return false }
      reg >>= 3
    }
    if !isMemory, rmUse != .none, memorySize == 0 {
      guard rm & 1 == 0 else { return false }
      rm >>= 3
    }
    return true
  }

  /// A plain two-operand form.
  mutating func use(
    _ opcode: Int, reg: OperandUse, rm: OperandUse, flags: FlagUse = [], immediate: Int = 0
  ) -> Bool {
    self.opcode = opcode
    regUse = reg
    rmUse = rm
    self.flags = flags
    immediateCount = immediate
    return true
  }

  /// The same with an opcode extension in place of a register.
  mutating func useGroup(
    _ opcode: Int, _ digit: UInt8, rm: OperandUse, flags: FlagUse = [], immediate: Int = 0
  ) -> Bool {
    reg = digit
    return use(opcode, reg: .none, rm: rm, flags: flags, immediate: immediate)
  }

  mutating func become(_ kind: Kind) -> Bool {
    self.kind = kind
    return true
  }

  /// Bytes of an immediate as wide as the operand.
  var fullImmediate: Int { size == 0 ? 1 : size == 1 ? 2 : 4 }
}
