// The arithmetic flags, kept as what they follow from (Intel SDM 1, 3.4.3.1).
//
// `flag_result` is the last result, sign-extended to 64 bits: ZF, SF and PF come from it. `flag_operand1` holds the
// carries: bit 63 is CF, bit 62 is the carry into the sign bit (OF is their difference), bit 3 is AF. Where the flags were
// loaded and not computed, bits 8 to 15 change PF and bit 16 changes SF, so that every combination can be expressed.
import CSoftProcessor

enum ArithmeticFlag {
  static let carry: UInt32 = 1 << 0
  static let parity: UInt32 = 1 << 2
  static let adjust: UInt32 = 1 << 4
  static let zero: UInt32 = 1 << 6
  static let sign: UInt32 = 1 << 7
  static let overflow: UInt32 = 1 << 11
  static let all: UInt32 = carry | parity | adjust | zero | sign | overflow
}

/// The bits of `flag_operand1` that carries are kept in.
@inline(__always) private var carryBits: UInt64 { 0xC000_0000_0000_0008 }

extension UnsafeMutablePointer where Pointee == soft_cpu {
  @inline(__always) var carry: Bool { Int64(bitPattern: pointee.flag_operand1) < 0 }
  @inline(__always) var overflow: Bool {
    Int64(bitPattern: pointee.flag_operand1 ^ pointee.flag_operand1 &<< 1) < 0
  }
  @inline(__always) var zero: Bool { pointee.flag_result == 0 }
  @inline(__always) var sign: Bool {
    Int64(bitPattern: pointee.flag_result ^ pointee.flag_operand1 &<< 47 & 1 &<< 63) < 0
  }
  @inline(__always) var parity: Bool {
    UInt8(truncatingIfNeeded: pointee.flag_result ^ pointee.flag_operand1 &>> 8)
      .nonzeroBitCount & 1 == 0
  }
  @inline(__always) var adjust: Bool { pointee.flag_operand1 & 8 != 0 }

  /// Of AND, OR, XOR, TEST: no carries.
  @inline(__always)
  func setLogicFlags<Value: OperandValue>(_ result: Value) {
    pointee.flag_result = result.signExtended
    pointee.flag_operand1 = 0
  }

  /// After left + right (+ carry) = result.
  @inline(__always)
  func setAddFlags<Value: OperandValue>(_ left: Value, _ right: Value, _ result: Value) {
    pointee.flag_result = result.signExtended
    setCarries((left & right) | ((left | right) & ~result))
  }

  /// After left - right (- borrow) = result.
  @inline(__always)
  func setSubtractFlags<Value: OperandValue>(_ left: Value, _ right: Value, _ result: Value) {
    pointee.flag_result = result.signExtended
    setCarries((~left & right) | (~(left ^ right) & result))
  }

  @inline(__always)
  private func setCarries<Value: OperandValue>(_ carries: Value) {
    let wide = UInt64(truncatingIfNeeded: carries)
    if Value.bitWidth == 64 {
      pointee.flag_operand1 = wide & carryBits
    } else {
      pointee.flag_operand1 = wide &<< UInt64(64 &- Value.bitWidth) & carryBits | wide & 8
    }
  }

  /// Result flags from `result`; the others as told.
  @inline(__always)
  func setFlags<Value: OperandValue>(
    result: Value, carry: Bool, overflow: Bool, adjust: Bool = false
  ) {
    pointee.flag_result = result.signExtended
    pointee.flag_operand1 = Self.carries(carry: carry, overflow: overflow, adjust: adjust)
  }

  /// CF and OF change, the others stay (rotates).
  @inline(__always)
  func setCarryAndOverflow(_ carry: Bool, _ overflow: Bool) {
    pointee.flag_operand1 =
      pointee.flag_operand1 & ~(3 << 62)
      | Self.carries(carry: carry, overflow: overflow, adjust: false)
  }

  /// CF changes, the others stay (CLC, STC, CMC, BT).
  @inline(__always)
  func setCarry(_ carry: Bool) { setCarryAndOverflow(carry, overflow) }

  @inline(__always)
  static func carries(carry: Bool, overflow: Bool, adjust: Bool) -> UInt64 {
    let high: UInt64 = carry ? 1 &<< 63 : 0
    let next: UInt64 = carry != overflow ? 1 &<< 62 : 0
    return high | next | (adjust ? 8 : 0)
  }
}

/// The arithmetic flags as in RFLAGS; all other bits are 0.
@inline(never)
func readFlags(_ cpu: CPU) -> UInt32 {
  var flags: UInt32 = 0
  if cpu.carry { flags |= ArithmeticFlag.carry }
  if cpu.parity { flags |= ArithmeticFlag.parity }
  if cpu.adjust { flags |= ArithmeticFlag.adjust }
  if cpu.zero { flags |= ArithmeticFlag.zero }
  if cpu.sign { flags |= ArithmeticFlag.sign }
  if cpu.overflow { flags |= ArithmeticFlag.overflow }
  return flags
}

/// Sets the arithmetic flags from their bits in RFLAGS.
@inline(never)
func writeFlags(_ cpu: CPU, _ flags: UInt32) {
  let isZero = flags & ArithmeticFlag.zero != 0
  // A result that is not zero has even parity in its low byte (3), and no sign.
  let result: UInt64 = isZero ? 0 : 3
  var carries = CPU.carries(
    carry: flags & ArithmeticFlag.carry != 0, overflow: flags & ArithmeticFlag.overflow != 0,
    adjust: flags & ArithmeticFlag.adjust != 0)
  if flags & ArithmeticFlag.parity == 0 { carries |= 1 << 8 }
  if flags & ArithmeticFlag.sign != 0 { carries |= 1 << 16 }
  cpu.pointee.flag_result = result
  cpu.pointee.flag_operand1 = carries
}

/// All of RFLAGS.
@inline(__always)
func readRFLAGS(_ cpu: CPU) -> UInt64 {
  UInt64(readFlags(cpu) | cpu.pointee.flags_other & ~ArithmeticFlag.all | 2)
}

/// Sets the bits of RFLAGS that `mask` names. Whoever changes IF, TF, VM or AC calls `updateMode` and ends the block.
@inline(__always)
func writeRFLAGS(_ cpu: CPU, _ value: UInt64, mask: UInt64) {
  let value = UInt32(truncatingIfNeeded: value)
  let mask = UInt32(truncatingIfNeeded: mask)
  let arithmetic = mask & ArithmeticFlag.all
  if arithmetic == ArithmeticFlag.all {
    writeFlags(cpu, value)
  } else if arithmetic != 0 {
    writeFlags(cpu, readFlags(cpu) & ~arithmetic | value & arithmetic)
  }
  let other = mask & ~ArithmeticFlag.all
  cpu.pointee.flags_other = cpu.pointee.flags_other & ~other | value & other | 2
}

/// Condition codes as in Jcc, SETcc, CMOVcc: 0 = O, 1 = NO, 2 = B, ... 15 = G.
@inline(__always)
func condition(_ cpu: CPU, _ code: UInt8) -> Bool {
  let isMet: Bool
  switch code >> 1 & 7 {
  case 0: isMet = cpu.overflow
  case 1: isMet = cpu.carry
  case 2: isMet = cpu.zero
  case 3: isMet = cpu.carry || cpu.zero
  case 4: isMet = cpu.sign
  case 5: isMet = cpu.parity
  case 6: isMet = cpu.sign != cpu.overflow
  default: isMet = cpu.zero || cpu.sign != cpu.overflow
  }
  return isMet != (code & 1 == 1)
}
