import CSoftProcessor

/// What the decoder knows of one instruction when it looks for a handler. Lives only while decoding.
struct DecodedInstruction {
  /// As in `soft_cpu.mode`.
  var mode: UInt32 = 0
  /// 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A.
  var map: UInt8 = 0
  var opcode: UInt8 = 0
  /// 0x66 was among the prefixes. Operand size and mandatory prefix are both read from it.
  var hasOperandPrefix = false
  var hasAddressPrefix = false
  var hasLock = false
  /// The last of F2 and F3, or 0.
  var repeatPrefix: UInt8 = 0
  /// 0x40 to 0x4F, or 0 when there is none.
  var rex: UInt8 = 0
  /// VEX (2 or 3 bytes): W, R, X, B are folded into `rex`, pp into the prefixes above.
  var isVEX = false
  var vexLength256 = false
  /// VEX.vvvv, already inverted.
  var vexRegister: UInt8 = 0
  /// A gather's index: a vector register in bits 0 to 3, the scale in bits 4 and 5.
  var vectorIndex: UInt8 = 0
  var hasVectorIndex = false
  var hasModRM = false
  var modRM: UInt8 = 0
  /// log2 of the operand's bytes: 1 = 16, 2 = 32, 3 = 64 bit. Byte instructions are known by their opcode.
  var operandSize: UInt8 = 2
  /// 0 = 16, 1 = 32, 2 = 64 bit.
  var addressSize: UInt8 = 2
  /// Of the memory operand or of the string source: override or default (SS for rBP, rSP bases). 0 to 5.
  var segment: UInt8 = 3

  /// ModRM.mod is 3.
  var isRegisterForm: Bool { modRM >> 6 == 3 }
  /// ModRM.reg without REX.R: the opcode extension of a group.
  var group: UInt8 { modRM >> 3 & 7 }
  var isLong: Bool { mode & UInt32(SOFT_MODE_CODE64) != 0 }

  /// VGATHERxxx and VPGATHERxx.
  var isGather: Bool { isVEX && map == 2 && opcode & 0xFC == 0x90 }

  /// Of the byte registers' offsets in the register file: AH, CH, DH, BH exist only without REX.
  func byteRegister(_ number: UInt8) -> UInt8 {
    number >= 4 && number < 8 && rex == 0 ? (number - 4) * 8 + 1 : number * 8
  }
}

/// What a lookup gives back: the handler, and what the decoder must know of it.
struct HandlerChoice {
  var handler: soft_handler
  /// The block ends with this instruction: branches, far transfers, writes to control registers and MSRs, segment
  /// loads, port I/O, HLT, everything that may change the mode or the address space.
  var endsBlock = false
  /// The next instruction runs alone, before interrupts are looked at again (STI, MOV SS, POP SS).
  var castsShadow = false
  /// Which C kernel the handler calls: bits 32 to 47 of the operation's immediate. VEX.vvvv is in bits 48 to 51, VEX.L
  /// in bit 52.
  var kernel: UInt16 = 0
}
