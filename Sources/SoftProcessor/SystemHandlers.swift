// Which handler a system instruction has.
import CSoftProcessor

/// The handler of a system instruction, or nil if it is none.
func systemHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  // LOCK is allowed with none of them.
  switch instruction.map {
  case 0: instruction.isVEX ? nil : oneByteHandler(instruction)
  case 1: instruction.isVEX ? nil : twoByteHandler(instruction)
  default: nil
  }
}

/// The instruction does something and the block goes on.
private func stays(_ handler: @escaping soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler)
}

/// The block ends with it.
private func ends(_ handler: @escaping soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler, endsBlock: true)
}

// MARK: One-byte opcodes

private func oneByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let isLong = instruction.isLong
  switch instruction.opcode {
  case 0x06 where !isLong: return stays { finish($0, $1, pushSegment($0, $1, index: 0)) }
  case 0x0E where !isLong: return stays { finish($0, $1, pushSegment($0, $1, index: 1)) }
  case 0x16 where !isLong: return stays { finish($0, $1, pushSegment($0, $1, index: 2)) }
  case 0x1E where !isLong: return stays { finish($0, $1, pushSegment($0, $1, index: 3)) }
  case 0x07 where !isLong: return ends { finishBlock($0, $1, popSegment($0, $1, index: 0)) }
  case 0x17 where !isLong:
    var choice = ends { finishBlock($0, $1, popSegment($0, $1, index: 2)) }
    choice.castsShadow = true
    return choice
  case 0x1F where !isLong: return ends { finishBlock($0, $1, popSegment($0, $1, index: 3)) }
  case 0x63 where !isLong: return stays { finish($0, $1, adjustRequestedLevel($0, $1)) }
  case 0x8C: return stays { finish($0, $1, moveFromSegment($0, $1)) }
  case 0x8E:
    var choice = ends { finishBlock($0, $1, moveToSegment($0, $1)) }
    choice.castsShadow = instruction.group == 2
    return choice
  case 0x9A where !isLong: return ends { finishTransfer($0, $1, farCallDirect($0, $1)) }
  case 0xEA where !isLong: return ends { finishTransfer($0, $1, farJumpDirect($0, $1)) }
  case 0x9C: return stays { finish($0, $1, pushFlags($0, $1)) }
  case 0x9D:
    return stays { cpu, operation in
      switch popFlags(cpu, operation) {
      case .failed: fault(cpu, operation)
      case .noticed: leave(cpu, at: nextInstruction(cpu, operation))
      case .quiet: next(cpu, operation)
      }
    }
  case 0xC4 where !isLong && !instruction.isRegisterForm:
    return ends { finishBlock($0, $1, loadFarPointer($0, $1, index: 0)) }
  case 0xC5 where !isLong && !instruction.isRegisterForm:
    return ends { finishBlock($0, $1, loadFarPointer($0, $1, index: 3)) }
  case 0xCA:
    return ends {
      finishTransfer($0, $1, farReturn($0, $1, immediate: $1.pointee.immediate & 0xFFFF))
    }
  case 0xCB: return ends { finishTransfer($0, $1, farReturn($0, $1, immediate: 0)) }
  case 0xCC:
    return ends {
      finishTransfer($0, $1, softwareInterrupt($0, $1, vector: 3, kind: .softwareException))
    }
  case 0xCD:
    return ends {
      finishTransfer(
        $0, $1,
        softwareInterrupt(
          $0, $1, vector: UInt32(truncatingIfNeeded: $1.pointee.immediate & 0xFF), kind: .software))
    }
  case 0xCE where !isLong:
    return ends { cpu, operation in
      guard readFlags(cpu) & ArithmeticFlag.overflow != 0 else {
        return leave(cpu, at: nextInstruction(cpu, operation))
      }
      finishTransfer(
        cpu, operation, softwareInterrupt(cpu, operation, vector: 4, kind: .softwareException))
    }
  case 0xCF: return ends { finishTransfer($0, $1, interruptReturn($0, $1)) }
  case 0xF1:
    return ends {
      finishTransfer($0, $1, softwareInterrupt($0, $1, vector: 1, kind: .privilegedSoftware))
    }
  case 0xFA: return stays { finish($0, $1, clearInterruptFlag($0)) }
  case 0xFB:
    var choice = ends { finishBlock($0, $1, setInterruptFlag($0)) }
    choice.castsShadow = true
    return choice
  case 0xFF where !instruction.isRegisterForm && instruction.group == 3:
    return ends { finishTransfer($0, $1, farCallIndirect($0, $1)) }
  case 0xFF where !instruction.isRegisterForm && instruction.group == 5:
    return ends { finishTransfer($0, $1, farJumpIndirect($0, $1)) }
  default: return nil
  }
}

// MARK: Two-byte opcodes

private func twoByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  switch instruction.opcode {
  case 0x00: return group6(instruction)
  case 0x01: return group7(instruction)
  case 0x02: return stays { finish($0, $1, inspectDescriptor($0, $1, isLimit: false)) }
  case 0x03: return stays { finish($0, $1, inspectDescriptor($0, $1, isLimit: true)) }
  case 0x05: return ends { finishTransfer($0, $1, systemCall($0, $1)) }
  case 0x06: return stays { finish($0, $1, clearTaskSwitched($0)) }
  case 0x07: return ends { finishTransfer($0, $1, systemReturn($0, $1)) }
  // INVD, WBINVD: there is no cache to write back.
  case 0x08, 0x09: return stays { finish($0, $1, requireSupervisor($0)) }
  case 0x20: return stays { finish($0, $1, readControlRegister($0, $1)) }
  case 0x21: return stays { finish($0, $1, readDebugRegister($0, $1)) }
  case 0x22: return ends { finishBlock($0, $1, writeControlRegister($0, $1)) }
  case 0x23: return ends { finishBlock($0, $1, writeDebugRegister($0, $1)) }
  case 0x30: return ends { finishBlock($0, $1, writeModelRegister($0)) }
  case 0x32: return ends { finishBlock($0, $1, readModelRegister($0)) }
  case 0x33: return stays { finish($0, $1, readPerformanceCounter($0)) }
  case 0x34: return ends { finishTransfer($0, $1, systemEnter($0)) }
  case 0x35: return ends { finishTransfer($0, $1, systemExit($0, $1)) }
  case 0xA0: return stays { finish($0, $1, pushSegment($0, $1, index: 4)) }
  case 0xA8: return stays { finish($0, $1, pushSegment($0, $1, index: 5)) }
  case 0xA1: return ends { finishBlock($0, $1, popSegment($0, $1, index: 4)) }
  case 0xA9: return ends { finishBlock($0, $1, popSegment($0, $1, index: 5)) }
  case 0xA2: return stays { finish($0, $1, identify($0)) }
  case 0xAE where instruction.isRegisterForm && instruction.repeatPrefix == 0xF3:
    switch instruction.group {
    case 0: return stays { finish($0, $1, accessBase($0, $1, index: 4, isWrite: false)) }
    case 1: return stays { finish($0, $1, accessBase($0, $1, index: 5, isWrite: false)) }
    case 2: return stays { finish($0, $1, accessBase($0, $1, index: 4, isWrite: true)) }
    case 3: return stays { finish($0, $1, accessBase($0, $1, index: 5, isWrite: true)) }
    default: return nil
    }
  case 0xB2 where !instruction.isRegisterForm:
    var choice = ends { finishBlock($0, $1, loadFarPointer($0, $1, index: 2)) }
    choice.castsShadow = false
    return choice
  case 0xB4 where !instruction.isRegisterForm:
    return ends { finishBlock($0, $1, loadFarPointer($0, $1, index: 4)) }
  case 0xB5 where !instruction.isRegisterForm:
    return ends { finishBlock($0, $1, loadFarPointer($0, $1, index: 5)) }
  default: return nil
  }
}

private func group6(_ instruction: DecodedInstruction) -> HandlerChoice? {
  switch instruction.group {
  case 0:
    return stays { finish($0, $1, storeSystemSelector($0, $1, index: Int(SOFT_LDTR))) }
  case 1: return stays { finish($0, $1, storeSystemSelector($0, $1, index: Int(SOFT_TR))) }
  case 2: return ends { finishBlock($0, $1, loadLocalTable($0, $1)) }
  case 3: return ends { finishBlock($0, $1, loadTaskRegister($0, $1)) }
  case 4: return stays { finish($0, $1, verifySegment($0, $1, isWrite: false)) }
  case 5: return stays { finish($0, $1, verifySegment($0, $1, isWrite: true)) }
  default: return nil
  }
}

private func group7(_ instruction: DecodedInstruction) -> HandlerChoice? {
  guard instruction.isRegisterForm else {
    switch instruction.group {
    case 0: return stays { finish($0, $1, storeTable($0, $1, isInterrupt: false)) }
    case 1: return stays { finish($0, $1, storeTable($0, $1, isInterrupt: true)) }
    case 2: return stays { finish($0, $1, loadTable($0, $1, isInterrupt: false)) }
    case 3: return stays { finish($0, $1, loadTable($0, $1, isInterrupt: true)) }
    case 4: return stays { finish($0, $1, storeStatusWord($0, $1)) }
    case 6: return ends { finishBlock($0, $1, loadStatusWord($0, $1)) }
    case 7:
      return ends { cpu, operation in
        guard requireSupervisor(cpu) else { return fault(cpu, operation) }
        flushTranslation(cpu, linearAddress(cpu, operation))
        leave(cpu, at: nextInstruction(cpu, operation))
      }
    default: return nil
    }
  }
  switch instruction.modRM {
  case 0xC1, 0xD9: return stays { finish($0, $1, hypercall($0)) }
  case 0xCA: return stays { finish($0, $1, setAccessFlag($0, false)) }
  case 0xCB: return stays { finish($0, $1, setAccessFlag($0, true)) }
  case 0xD0: return stays { finish($0, $1, readExtendedControl($0)) }
  case 0xD1: return ends { finishBlock($0, $1, writeExtendedControl($0)) }
  case 0xF8: return stays { finish($0, $1, swapBase($0)) }
  default: break
  }
  switch instruction.group {
  case 4: return stays { finish($0, $1, storeStatusWord($0, $1)) }
  case 6: return ends { finishBlock($0, $1, loadStatusWord($0, $1)) }
  default: return nil
  }
}
