// Which handler an instruction with a VEX prefix gets: AVX, AVX2, FMA, F16C (Intel SDM 2A, 2.3). What works on general
// registers belongs to the integer instructions.
import CSoftProcessor

/// The handler, or nil: #UD. What the prefix must or must not say is checked here.
func vexHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let prefix: UInt32 =
    instruction.repeatPrefix != 0
    ? UInt32(instruction.repeatPrefix) : instruction.hasOperandPrefix ? 0x66 : 0
  if instruction.map == 1, instruction.opcode == 0x77 {
    guard prefix == 0, instruction.vexRegister == 0, soft_vex_host_has() != 0 else { return nil }
    if instruction.vexLength256 { return HandlerChoice(handler: vexZeroAll) }
    return HandlerChoice(handler: instruction.isLong ? vexZeroUpperLong : vexZeroUpper)
  }
  if instruction.map == 1, instruction.opcode == 0xAE {
    guard prefix == 0, instruction.vexRegister == 0, !instruction.vexLength256,
      !instruction.isRegisterForm, soft_vex_host_has() != 0
    else { return nil }
    return vexStatusHandler(instruction)
  }
  let isWide = instruction.rex & 8 != 0
  let number = soft_vex_find(
    UInt32(instruction.map), prefix, UInt32(instruction.opcode), UInt32(instruction.modRM),
    isWide ? 1 : 0, instruction.vexLength256 ? 1 : 0)
  guard number != 0 else { return nil }
  let entry = soft_vex_table_entry(number)
  let hasFirst = entry.flags & UInt16(SOFT_VEX_FIRST) != 0
  let isGroup = Int(entry.shape) == Int(SOFT_SHAPE_GROUP)
  guard hasFirst || isGroup || instruction.vexRegister == 0 else { return nil }
  // Byte, word and doubleword elements of general registers: 64 bits only in 64-bit mode.
  let isWideOperand = isWide && instruction.isLong
  guard
    let handler = shortVexHandler(instruction, entry, isWide: isWideOperand)
      ?? vexHandler(instruction, entry, isWide: isWideOperand)
  else { return nil }
  // Older handlers look their operands up in the older table.
  let kernel = usesOlderHandler(entry) ? UInt32(entry.number) : number
  return HandlerChoice(handler: handler, kernel: UInt16(truncatingIfNeeded: kernel))
}

private func usesOlderHandler(_ entry: soft_vex_entry) -> Bool {
  switch Int(entry.shape) {
  case Int(SOFT_SHAPE_STRING), Int(SOFT_SHAPE_MASKED_STORE): true
  default: false
  }
}

private func vexHandler(
  _ instruction: DecodedInstruction, _ entry: soft_vex_entry, isWide: Bool
) -> soft_handler? {
  let isAligned = entry.flags & UInt16(SOFT_VEX_ALIGNED) != 0
  switch Int(entry.shape) {
  case Int(SOFT_SHAPE_LOAD):
    if instruction.isRegisterForm { return vexFromRegister }
    return isAligned ? vexFromMemoryAligned : vexFromMemory
  case Int(SOFT_SHAPE_STORE):
    if instruction.isRegisterForm { return vexToRegister }
    return isAligned ? vexToMemoryAligned : vexToMemory
  case Int(SOFT_SHAPE_TO_GENERAL):
    // MOVMSK and PMOVMSKB know no width.
    return isWide && instruction.opcode & 0xFE == 0x2C
      ? vexToGeneral64 : vexToGeneral32
  case Int(SOFT_SHAPE_EXTRACT): return isWide && isWidening(entry) ? vexExtract64 : vexExtract32
  case Int(SOFT_SHAPE_INSERT): return isWide && isWidening(entry) ? vexInsert64 : vexInsert32
  case Int(SOFT_SHAPE_FLAGS): return vexCompare
  case Int(SOFT_SHAPE_STRING): return isWide ? vexStringWide : vexString
  case Int(SOFT_SHAPE_GROUP): return vexGroup
  case Int(SOFT_SHAPE_MASKED_STORE): return vexMaskedStore
  case Int(SOFT_SHAPE_MASKED_LOAD): return vexMaskedLoad
  case Int(SOFT_SHAPE_MASKED_ELEMENTS): return vexMaskedElements
  case Int(SOFT_SHAPE_GATHER):
    return instruction.hasVectorIndex ? vexGather : nil
  default: return nil
  }
}

private func isWidening(_ entry: soft_vex_entry) -> Bool {
  soft_vector_at(UInt32(entry.number)).pointee.flags & UInt8(SOFT_VECTOR_WIDE) != 0
}
