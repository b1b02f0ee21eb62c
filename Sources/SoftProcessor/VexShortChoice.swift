// Which instructions with a VEX prefix have a handler of their own (VexStrings.swift) and not their shape's.
import CSoftProcessor

/// The handler, or nil: the general one. `isWide`: VEX.W, in 64-bit mode.
func shortVexHandler(
  _ instruction: DecodedInstruction, _ entry: soft_vex_entry, isWide: Bool
) -> soft_handler? {
  let is256 = instruction.vexLength256
  let isRegister = instruction.isRegisterForm
  if instruction.map == 2, isRegister {
    switch instruction.opcode {
    case 0x17:
      if is256 { return vexTest256 }
      return vexTest128
    case 0x78:
      if is256 { return vexRepeatByte256 }
      return vexRepeatByte128
    default: return nil
    }
  }
  guard instruction.map == 1 else { return nil }
  switch instruction.opcode {
  case 0x10, 0x28, 0x6F, 0xF0, 0x11, 0x29, 0x2B, 0x7F, 0xE7:
    return entry.size == 16 ? wholeMove(instruction, entry) : nil
  case 0x6E, 0x7E, 0xD6: return partMove(instruction, entry, isWide: isWide)
  case 0xD7:
    if is256 { return vexByteSigns256 }
    return vexByteSigns128
  case 0x74:
    return pick(
      is256, isRegister, vexEqual128, vexEqualMemory128, vexEqual256, vexEqualMemory256)
  case 0xDA:
    return pick(
      is256, isRegister, vexLeast128, vexLeastMemory128, vexLeast256, vexLeastMemory256)
  case 0xDB:
    return pick(
      is256, isRegister, vexAnd128, vexAndMemory128, vexAnd256, vexAndMemory256)
  case 0xDF:
    return pick(
      is256, isRegister, vexAndNot128, vexAndNotMemory128, vexAndNot256, vexAndNotMemory256)
  case 0xEB:
    return pick(
      is256, isRegister, vexOr128, vexOrMemory128, vexOr256, vexOrMemory256)
  case 0xEF:
    return pick(
      is256, isRegister, vexXor128, vexXorMemory128, vexXor256, vexXorMemory256)
  default: return nil
  }
}

private func pick(
  _ is256: Bool, _ isRegister: Bool, _ register128: @escaping soft_handler,
  _ memory128: @escaping soft_handler, _ register256: @escaping soft_handler,
  _ memory256: @escaping soft_handler
) -> soft_handler {
  if is256 { return isRegister ? register256 : memory256 }
  return isRegister ? register128 : memory128
}

/// VMOVAPS, VMOVUPS, VMOVAPD, VMOVUPD, VMOVDQA, VMOVDQU, VLDDQU and the non-temporal stores.
private func wholeMove(
  _ instruction: DecodedInstruction, _ entry: soft_vex_entry
) -> soft_handler? {
  let is256 = instruction.vexLength256
  let isRegister = instruction.isRegisterForm
  let isAligned = entry.flags & UInt16(SOFT_VEX_ALIGNED) != 0
  switch instruction.opcode {
  case 0x10, 0x28, 0x6F, 0xF0:
    if isAligned {
      return pick(
        is256, isRegister, vexMoveRegister128, vexMoveFromMemory128Aligned, vexMoveRegister256,
        vexMoveFromMemory256Aligned)
    }
    return pick(
      is256, isRegister, vexMoveRegister128, vexMoveFromMemory128, vexMoveRegister256,
      vexMoveFromMemory256)
  default:
    if isAligned {
      return pick(
        is256, isRegister, vexMoveRegisterBack128, vexMoveToMemory128Aligned,
        vexMoveRegisterBack256, vexMoveToMemory256Aligned)
    }
    return pick(
      is256, isRegister, vexMoveRegisterBack128, vexMoveToMemory128, vexMoveRegisterBack256,
      vexMoveToMemory256)
  }
}

/// VMOVD and VMOVQ.
private func partMove(
  _ instruction: DecodedInstruction, _ entry: soft_vex_entry, isWide: Bool
) -> soft_handler? {
  let isRegister = instruction.isRegisterForm
  switch (instruction.opcode, entry.prefix) {
  case (0x6E, 0x66):
    guard isRegister else { return nil }
    if isWide { return vexSet64 }
    return vexSet32
  case (0x7E, 0x66):
    guard isRegister else { return nil }
    if isWide { return vexGet64 }
    return vexGet32
  case (0x7E, 0xF3):
    guard !isRegister else { return nil }
    return vexLoad64
  case (0xD6, 0x66):
    guard !isRegister else { return nil }
    return vexStore64
  default: return nil
  }
}
