// One instruction after the other in translated code.
import CSoftProcessor

extension Translator {
  mutating func emit(_ instruction: TranslatedInstruction, _ number: Int) {
    var needed = instruction.registers
    // A register that is only written need not be there before.
    if instruction.regUse == .write || instruction.rmUse == .write {
      var pure: UInt32 = 0
      if instruction.regUse == .write { pure |= 1 << UInt32(instruction.reg) }
      if instruction.rmUse == .write, !instruction.isMemory {
        pure |= 1 << UInt32(instruction.rm)
      }
      var others = instruction
      if others.regUse == .write { others.regUse = .none }
      if others.rmUse == .write, !others.isMemory { others.rmUse = .none }
      needed &= ~pure | others.registers
    }
    loadRegisters(needed)
    switch instruction.kind {
    case .same: emitSame(instruction, number)
    case .nothing: break
    case .loadAddress:
      host.loadAddress(place(instruction.reg), address(instruction), size: instruction.size)
    case .constant: emitConstant(instruction)
    case .push, .pushImmediate: emitPush(instruction, number)
    case .pop, .leaveFrame: emitPop(instruction, number)
    case .multiply: emitMultiply(instruction, number)
    case .compareExchange: emitCompareExchange(instruction, number)
    case .extendAccumulator:
      let isWide = instruction.size == 3
      host.code(
        isWide ? 0x63 : 0x0FBF, size: instruction.size, place(0), .register(place(0)))
    case .extendIntoData:
      host.move(HostRegister.rax, place(0))
      if instruction.size == 3 { host.byte(0x48) }
      host.byte(0x99)
      host.move(place(2), HostRegister.rdx, size: instruction.size)
    case .exchange:
      let size = instruction.size
      host.move(HostRegister.rcx, place(instruction.reg), size: size)
      host.move(place(instruction.reg), place(instruction.rm), size: size)
      host.move(place(instruction.rm), HostRegister.rcx, size: size)
    case .swapBytes:
      let register = place(instruction.rm)
      host.byte((instruction.size == 3 ? 0x48 : 0x40) | (register & 8) >> 3)
      host.byte(0x0F)
      host.byte(0xC8 | register & 7)
    case .jump, .jumpIf, .call, .jumpIndirect, .callIndirect, .returnNear, .end:
      return emitEnd(instruction, number)
    }
    note(written: instruction.written)
  }

  private var isShared: Bool { cpu.pointee.board.pointee.processor_count > 1 }

  private mutating func emitSame(_ instruction: TranslatedInstruction, _ number: Int) {
    var base = HostRegister.rax
    let takesFlags =
      instruction.flags.contains(.reads)
      || instruction.flags.contains(.changes) && isWanted(number)
    if instruction.isMemory {
      findOperand(instruction, number)
      if takesFlags {
        base = HostRegister.rdx
        host.move(base, HostRegister.rax)
      }
    }
    if takesFlags { loadFlags() }
    if instruction.countsInCL { host.move(HostRegister.rcx, place(1), size: 2) }
    host.code(
      instruction.opcode, size: instruction.size,
      instruction.regUse == .none ? instruction.reg : place(instruction.reg),
      instruction.isMemory ? .memory(.at(base)) : .register(place(instruction.rm)),
      isLocked: instruction.isLocked && isShared, namesBytes: instruction.memorySize == 0)
    host.number(instruction.operation.immediate, count: instruction.immediateCount)
    if instruction.flags.contains(.writes) || instruction.flags.contains(.changes) {
      keepFlags(number)
    }
  }

  private mutating func emitConstant(_ instruction: TranslatedInstruction) {
    let register = place(instruction.rm)
    let value = instruction.operation.immediate
    switch instruction.size {
    case 0:
      host.code(0xC6, size: 0, 0, .register(register))
      host.number(value, count: 1)
    case 1:
      host.code(0xC7, size: 1, 0, .register(register))
      host.number(value, count: 2)
    case 2: host.constant(register, value & 0xFFFF_FFFF)
    default: host.constant(register, value)
    }
  }

  private mutating func emitPush(_ instruction: TranslatedInstruction, _ number: Int) {
    var source = HostRegister.rsi
    if instruction.kind == .push {
      if instruction.isMemory {
        findOperand(instruction, number)
        host.load(source, .at(HostRegister.rax))
      } else {
        source = place(instruction.rm)
      }
    }
    lookUpStack(-8, isWrite: true, number)
    if instruction.kind == .push {
      host.store(source, .at(HostRegister.rax))
    } else {
      host.code(0xC7, size: 3, 0, .memory(.at(HostRegister.rax)))
      host.number(instruction.operation.immediate, count: 4)
    }
    host.loadAddress(place(4), .at(place(4), -8))
  }

  private mutating func emitPop(_ instruction: TranslatedInstruction, _ number: Int) {
    let isFrame = instruction.kind == .leaveFrame
    let pointer = place(isFrame ? 5 : 4)
    host.move(HostRegister.rax, pointer)
    lookUp(size: 3, isWrite: false, number)
    host.load(HostRegister.rcx, .at(HostRegister.rax))
    host.loadAddress(place(4), .at(pointer, 8))
    host.move(place(isFrame ? 5 : instruction.rm), HostRegister.rcx)
  }

  private mutating func emitMultiply(_ instruction: TranslatedInstruction, _ number: Int) {
    var source = HostRegister.rcx
    let size = instruction.size
    if instruction.isMemory {
      findOperand(instruction, number)
      host.load(source, .at(HostRegister.rax), size: size)
    } else {
      source = place(instruction.rm)
    }
    host.move(HostRegister.rax, place(0))
    host.code(instruction.opcode, size: size, instruction.reg, .register(source))
    host.move(place(0), HostRegister.rax, size: size)
    host.move(place(2), HostRegister.rdx, size: size)
    keepFlags(number)
  }

  private mutating func emitCompareExchange(_ instruction: TranslatedInstruction, _ number: Int) {
    findOperand(instruction, number)
    host.move(HostRegister.rdx, HostRegister.rax)
    host.move(HostRegister.rax, place(0))
    host.code(
      instruction.opcode, size: instruction.size, place(instruction.reg),
      .memory(.at(HostRegister.rdx)), isLocked: instruction.isLocked && isShared)
    host.move(place(0), HostRegister.rax)
    keepFlags(number)
  }
}
