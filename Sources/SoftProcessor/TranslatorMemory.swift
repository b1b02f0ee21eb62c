// Memory and flags in translated code.
import CSoftProcessor

extension Translator {
  func address(_ instruction: TranslatedInstruction) -> HostAddress {
    let operation = instruction.operation
    let zero = UInt8(SOFT_ZERO)
    return HostAddress(
      base: operation.base == zero ? HostRegister.none : place(operation.base),
      index: operation.index == zero ? HostRegister.none : place(operation.index),
      scale: operation.scale, displacement: operation.displacement)
  }

  /// RAX = where the operand lies in host memory, or an exit. RCX and RDX are lost, and the host's flags.
  mutating func findOperand(_ instruction: TranslatedInstruction, _ number: Int) {
    host.loadAddress(HostRegister.rax, address(instruction))
    if instruction.hasSegmentBase {
      let segment = Int(instruction.operation.segment)
      host.code(
        0x03, size: 3, HostRegister.rax,
        .memory(
          .field(Int(SOFT_OFFSET_SEGMENTS) + segment * Int(SOFT_OFFSET_SEGMENT_SIZE))))
    }
    let size = instruction.memorySize
    if instruction.isLocked, size > 0 {
      // Over the end of a cache line the interpreter locks the bus, as for all others.
      host.move(HostRegister.rcx, HostRegister.rax, size: 2)
      host.immediate(4, .register(HostRegister.rcx), 63, size: 2)
      host.immediate(7, .register(HostRegister.rcx), 64 - 1 << Int32(size), size: 2)
      exit(7, number)
    }
    lookUp(size: size, isWrite: instruction.rmUse.writes, number)
  }

  /// From the linear address in RAX to the host's, as `readPointer` and `writePointer` do it.
  mutating func lookUp(size: UInt8, isWrite: Bool, _ number: Int) {
    hasHostFlags = false
    if size == 0 {
      host.move(HostRegister.rcx, HostRegister.rax, size: 2)
    } else {
      host.loadAddress(HostRegister.rcx, .at(HostRegister.rax, 1 << Int(size) - 1), size: 2)
    }
    // Bits 12 up, times 32.
    host.code(0xC1, size: 2, 5, .register(HostRegister.rcx))
    host.byte(7)
    host.immediate(
      4, .register(HostRegister.rcx), (Int32(SOFT_TLB_COUNT) - 1) << 5, size: 2)
    host.code(0x03, size: 3, HostRegister.rcx, .memory(.field(Int(SOFT_OFFSET_TLB))))
    host.move(HostRegister.rdx, HostRegister.rax)
    host.immediate(4, .register(HostRegister.rdx), -4096)
    let tag = isWrite ? SOFT_OFFSET_TLB_WRITE : SOFT_OFFSET_TLB_READ
    host.code(0x3B, size: 3, HostRegister.rdx, .memory(.at(HostRegister.rcx, Int(tag))))
    exit(HostCondition.notEqual, number)
    host.code(
      0x03, size: 3, HostRegister.rax,
      .memory(.at(HostRegister.rcx, Int(SOFT_OFFSET_TLB_ADDEND))))
  }

  /// RAX = host memory at RSP + distance.
  mutating func lookUpStack(_ distance: Int, isWrite: Bool, _ number: Int) {
    host.loadAddress(HostRegister.rax, .at(place(4), distance))
    lookUp(size: 3, isWrite: isWrite, number)
  }

  // MARK: Flags

  /// Makes the host's flags the guest's; RAX and RCX are lost.
  mutating func loadFlags() {
    if hasHostFlags { return }
    host.code(
      0x0FB7, size: 2, HostRegister.rax, .memory(.field(Int(SOFT_OFFSET_FLAGS_RAW))))
    if !hasRawFlags {
      // If the interpreter was here last, its flags have another form.
      host.code(0x85, size: 2, HostRegister.rax, .register(HostRegister.rax))
      let known = host.jump(HostCondition.notEqual)
      host.constant(HostRegister.rax, UInt64(UInt(bitPattern: soft_taking_code())))
      host.code(0xFF, size: 2, 2, .register(HostRegister.rax))
      host.code(
        0x0FB7, size: 2, HostRegister.rax, .memory(.field(Int(SOFT_OFFSET_FLAGS_RAW))))
      host.bind(known)
      hasRawFlags = true
    }
    // OF from bit 0, the others from AH.
    host.byte(0x04)
    host.byte(0x7F)
    host.byte(0x9E)
    hasHostFlags = true
  }

  /// After an instruction that set flags: keeps them where they are wanted. RAX is lost.
  mutating func keepFlags(_ number: Int) {
    let need = needs[number - first]
    hasHostFlags = need.saved || need.value
    guard need.saved else { return }
    host.byte(0x9F)
    host.code(0x0F90, size: 0, 0, .register(HostRegister.rax))
    host.store(HostRegister.rax, .field(Int(SOFT_OFFSET_FLAGS_RAW)), size: 1)
    hasRawFlags = true
  }

  func isWanted(_ number: Int) -> Bool {
    let need = needs[number - first]
    return need.saved || need.value
  }
}
