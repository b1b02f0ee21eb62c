// Which handler a vector or x87 instruction gets.
import CSoftProcessor

/// The handler of an MMX, SSE or x87 instruction, or of one that saves or restores their state; nil when it is none, or
/// when the host's processor lacks what its kernel needs.
func vectorHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  if instruction.isVEX { return vexHandler(instruction) }
  if instruction.map == 0 { return x87Handler(instruction) }
  if let choice = stateHandler(instruction) { return choice }
  let prefix: UInt32 =
    instruction.repeatPrefix != 0
    ? UInt32(instruction.repeatPrefix) : instruction.hasOperandPrefix ? 0x66 : 0
  let number = soft_vector_find(
    UInt32(instruction.map), prefix, UInt32(instruction.opcode), UInt32(instruction.modRM))
  guard number != UInt32(SOFT_VECTOR_NONE), !instruction.hasLock else { return nil }
  let entry = soft_vector_at(number).pointee
  let isMMX = entry.flags & UInt8(SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM) != 0
  let handler =
    isMMX ? mmxHandler(entry) : moveHandler(instruction, entry) ?? xmmHandler(instruction, entry)
  guard let handler else { return nil }
  return HandlerChoice(handler: handler, kernel: UInt16(truncatingIfNeeded: number))
}

private func mmxHandler(_ entry: soft_vector_entry) -> soft_handler? {
  switch Int(entry.shape) {
  case Int(SOFT_SHAPE_LOAD): return mmxLoad
  case Int(SOFT_SHAPE_STORE): return mmxStore
  case Int(SOFT_SHAPE_TO_GENERAL): return mmxToGeneral
  case Int(SOFT_SHAPE_EXTRACT): return mmxExtract
  case Int(SOFT_SHAPE_INSERT): return mmxInsert
  case Int(SOFT_SHAPE_GROUP): return mmxGroup
  case Int(SOFT_SHAPE_MASKED_STORE): return mmxMaskedStore
  default: return nil
  }
}

/// MOVAPS, MOVUPS, MOVAPD, MOVUPD, MOVDQA, MOVDQU and the non-temporal stores.
private func moveHandler(
  _ instruction: DecodedInstruction, _ entry: soft_vector_entry
) -> soft_handler? {
  guard instruction.map == 1, entry.size == 16 else { return nil }
  let isAligned = entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0
  let isRegister = instruction.isRegisterForm
  switch instruction.opcode {
  case 0x10, 0x28, 0x6F, 0xF0:
    if isRegister { return vectorMoveRegister }
    if isAligned { return vectorMoveFromMemoryAligned }
    return vectorMoveFromMemoryUnaligned
  case 0x11, 0x29, 0x2B, 0x7F, 0xE7:
    if isRegister { return vectorMoveRegisterBack }
    if isAligned { return vectorMoveToMemoryAligned }
    return vectorMoveToMemoryUnaligned
  default: return nil
  }
}

private func xmmHandler(
  _ instruction: DecodedInstruction, _ entry: soft_vector_entry
) -> soft_handler? {
  let isAligned = entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0
  let isRegister = instruction.isRegisterForm
  let isWide = instruction.rex & 8 != 0 && entry.flags & UInt8(SOFT_VECTOR_WIDE) != 0
  switch Int(entry.shape) {
  case Int(SOFT_SHAPE_LOAD):
    if isRegister { return vectorFromRegister }
    switch entry.size {
    case 16:
      if isAligned { return vectorFromMemory16Aligned }
      return vectorFromMemory16
    case 8: return vectorFromMemory8
    case 4: return vectorFromMemory4
    default: return vectorFromMemory2
    }
  case Int(SOFT_SHAPE_STORE):
    if isRegister { return vectorToRegister }
    switch entry.size {
    case 16:
      if isAligned { return vectorToMemory16Aligned }
      return vectorToMemory16
    case 8: return vectorToMemory8
    default: return vectorToMemory4
    }
  case Int(SOFT_SHAPE_TO_GENERAL):
    if isWide { return generalFromVector64 }
    return generalFromVector32
  case Int(SOFT_SHAPE_EXTRACT):
    if isWide { return vectorExtract64 }
    return vectorExtract32
  case Int(SOFT_SHAPE_INSERT):
    if isWide { return vectorInsert64 }
    return vectorInsert32
  case Int(SOFT_SHAPE_FLAGS): return vectorCompare
  case Int(SOFT_SHAPE_STRING):
    if isWide { return vectorStringWide }
    return vectorFlags
  case Int(SOFT_SHAPE_GROUP): return vectorGroup
  case Int(SOFT_SHAPE_MASKED_STORE): return vectorMaskedStore
  default: return nil
  }
}
