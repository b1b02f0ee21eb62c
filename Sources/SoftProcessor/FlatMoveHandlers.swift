// Moves, tests, branches and the stack among the handlers for 64-bit code.
import CSoftProcessor

private func stays(_ handler: soft_handler) -> HandlerChoice { HandlerChoice(handler: handler) }
private func ends(_ handler: soft_handler) -> HandlerChoice {
  HandlerChoice(handler: handler, endsBlock: true)
}

func flatOneByteHandler(
  _ instruction: DecodedInstruction, isMemory: Bool, _ operation: inout soft_operation
) -> HandlerChoice? {
  switch (instruction.opcode, instruction.operandSize, isMemory) {
  case (0x50...0x57, 2...3, _): return stays { flatPush($0, $1) }
  case (0x58...0x5F, 2...3, _): return stays { flatPop($0, $1) }
  case (0x63, 3, true):
    return stays { flatExtend($0, $1, UInt32.self, UInt64.self, .memory, isSigned: true) }
  case (0x63, 3, false):
    return stays { flatExtend($0, $1, UInt32.self, UInt64.self, .rm, isSigned: true) }
  case (0x70...0x7F, _, _): return flatJumpIfHandler(instruction.opcode & 15)
  case (0x84, _, true):
    return stays { flatTest($0, $1, UInt8.self, .memory, .reg) }
  case (0x84, _, false):
    return stays { flatTest($0, $1, UInt8.self, .rm, .reg) }
  case (0x85, 2, true):
    return stays { flatTest($0, $1, UInt32.self, .memory, .reg) }
  case (0x85, 2, false):
    return stays { flatTest($0, $1, UInt32.self, .rm, .reg) }
  case (0x85, 3, true):
    return stays { flatTest($0, $1, UInt64.self, .memory, .reg) }
  case (0x85, 3, false):
    return stays { flatTest($0, $1, UInt64.self, .rm, .reg) }
  case (0x88, _, true):
    return stays { flatMove($0, $1, UInt8.self, .memory, .reg) }
  case (0x8A, _, true):
    return stays { flatMove($0, $1, UInt8.self, .reg, .memory) }
  case (0x88, _, false):
    return stays { flatMove($0, $1, UInt8.self, .rm, .reg) }
  case (0x8A, _, false):
    return stays { flatMove($0, $1, UInt8.self, .reg, .rm) }
  case (0x89, 1, true):
    return stays { flatMove($0, $1, UInt16.self, .memory, .reg) }
  case (0x8B, 1, true):
    return stays { flatMove($0, $1, UInt16.self, .reg, .memory) }
  case (0x89, 1, false):
    return stays { flatMove($0, $1, UInt16.self, .rm, .reg) }
  case (0x8B, 1, false):
    return stays { flatMove($0, $1, UInt16.self, .reg, .rm) }
  case (0x89, 2, true):
    return stays { flatMove($0, $1, UInt32.self, .memory, .reg) }
  case (0x8B, 2, true):
    return stays { flatMove($0, $1, UInt32.self, .reg, .memory) }
  case (0x89, 2, false):
    return stays { flatMove($0, $1, UInt32.self, .rm, .reg) }
  case (0x8B, 2, false):
    return stays { flatMove($0, $1, UInt32.self, .reg, .rm) }
  case (0x89, 3, true):
    return stays { flatMove($0, $1, UInt64.self, .memory, .reg) }
  case (0x8B, 3, true):
    return stays { flatMove($0, $1, UInt64.self, .reg, .memory) }
  case (0x89, 3, false):
    return stays { flatMove($0, $1, UInt64.self, .rm, .reg) }
  case (0x8B, 3, false):
    return stays { flatMove($0, $1, UInt64.self, .reg, .rm) }
  case (0x8D, 2, true): return stays { flatLoadAddress($0, $1, UInt32.self) }
  case (0x8D, 3, true): return stays { flatLoadAddress($0, $1, UInt64.self) }
  case (0xA8, _, _):
    operation.rm = 0
    return stays { flatTest($0, $1, UInt8.self, .rm, .immediate) }
  case (0xB8...0xBF, 2...3, _): return stays { flatMove($0, $1, UInt64.self, .rm, .immediate) }
  case (0xC2, _, _), (0xC3, _, _): return ends { flatReturn($0, $1) }
  case (0xC6, _, true) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt8.self, .memory, .immediate) }
  case (0xC6, _, false) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt8.self, .rm, .immediate) }
  case (0xC7, 1, true) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt16.self, .memory, .immediate) }
  case (0xC7, 1, false) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt16.self, .rm, .immediate) }
  case (0xC7, 2, true) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt32.self, .memory, .immediate) }
  case (0xC7, 2, false) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt32.self, .rm, .immediate) }
  case (0xC7, 3, true) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt64.self, .memory, .immediate) }
  case (0xC7, 3, false) where instruction.group == 0:
    return stays { flatMove($0, $1, UInt64.self, .rm, .immediate) }
  case (0xE8, _, _): return ends { flatCall($0, $1) }
  case (0xE9, _, _), (0xEB, _, _): return ends { flatJump($0, $1) }
  case (0xF6, _, true) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt8.self, .memory, .immediate) }
  case (0xF6, _, false) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt8.self, .rm, .immediate) }
  case (0xF7, 2, true) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt32.self, .memory, .immediate) }
  case (0xF7, 2, false) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt32.self, .rm, .immediate) }
  case (0xF7, 3, true) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt64.self, .memory, .immediate) }
  case (0xF7, 3, false) where instruction.group < 2:
    return stays { flatTest($0, $1, UInt64.self, .rm, .immediate) }
  case (0xFF, 2, false) where instruction.group == 0:
    return stays { flatIncrement($0, $1, UInt32.self, by: 1) }
  case (0xFF, 3, false) where instruction.group == 0:
    return stays { flatIncrement($0, $1, UInt64.self, by: 1) }
  case (0xFF, 2, false) where instruction.group == 1:
    return stays { flatIncrement($0, $1, UInt32.self, by: .max) }
  case (0xFF, 3, false) where instruction.group == 1:
    return stays { flatIncrement($0, $1, UInt64.self, by: .max) }
  default: return nil
  }
}

func flatTwoByteHandler(_ instruction: DecodedInstruction) -> HandlerChoice? {
  let isMemory = instruction.hasModRM && !instruction.isRegisterForm
  switch (instruction.opcode, instruction.operandSize, isMemory) {
  case (0x80...0x8F, _, _): return flatJumpIfHandler(instruction.opcode & 15)
  case (0xB6, 2, true):
    return stays { flatExtend($0, $1, UInt8.self, UInt32.self, .memory, isSigned: false) }
  case (0xB6, 2, false):
    return stays { flatExtend($0, $1, UInt8.self, UInt32.self, .rm, isSigned: false) }
  case (0xB6, 3, true):
    return stays { flatExtend($0, $1, UInt8.self, UInt64.self, .memory, isSigned: false) }
  case (0xB6, 3, false):
    return stays { flatExtend($0, $1, UInt8.self, UInt64.self, .rm, isSigned: false) }
  case (0xB7, 2, true):
    return stays { flatExtend($0, $1, UInt16.self, UInt32.self, .memory, isSigned: false) }
  case (0xB7, 2, false):
    return stays { flatExtend($0, $1, UInt16.self, UInt32.self, .rm, isSigned: false) }
  case (0xB7, 3, true):
    return stays { flatExtend($0, $1, UInt16.self, UInt64.self, .memory, isSigned: false) }
  case (0xB7, 3, false):
    return stays { flatExtend($0, $1, UInt16.self, UInt64.self, .rm, isSigned: false) }
  case (0xBE, 2, true):
    return stays { flatExtend($0, $1, UInt8.self, UInt32.self, .memory, isSigned: true) }
  case (0xBE, 2, false):
    return stays { flatExtend($0, $1, UInt8.self, UInt32.self, .rm, isSigned: true) }
  case (0xBE, 3, true):
    return stays { flatExtend($0, $1, UInt8.self, UInt64.self, .memory, isSigned: true) }
  case (0xBE, 3, false):
    return stays { flatExtend($0, $1, UInt8.self, UInt64.self, .rm, isSigned: true) }
  case (0xBF, 2, true):
    return stays { flatExtend($0, $1, UInt16.self, UInt32.self, .memory, isSigned: true) }
  case (0xBF, 2, false):
    return stays { flatExtend($0, $1, UInt16.self, UInt32.self, .rm, isSigned: true) }
  case (0xBF, 3, true):
    return stays { flatExtend($0, $1, UInt16.self, UInt64.self, .memory, isSigned: true) }
  case (0xBF, 3, false):
    return stays { flatExtend($0, $1, UInt16.self, UInt64.self, .rm, isSigned: true) }
  default: return nil
  }
}

private func flatJumpIfHandler(_ code: UInt8) -> HandlerChoice {
  switch code {
  case 0: return ends { flatJumpIf($0, $1, 0) }
  case 1: return ends { flatJumpIf($0, $1, 1) }
  case 2: return ends { flatJumpIf($0, $1, 2) }
  case 3: return ends { flatJumpIf($0, $1, 3) }
  case 4: return ends { flatJumpIf($0, $1, 4) }
  case 5: return ends { flatJumpIf($0, $1, 5) }
  case 6: return ends { flatJumpIf($0, $1, 6) }
  case 7: return ends { flatJumpIf($0, $1, 7) }
  case 8: return ends { flatJumpIf($0, $1, 8) }
  case 9: return ends { flatJumpIf($0, $1, 9) }
  case 10: return ends { flatJumpIf($0, $1, 10) }
  case 11: return ends { flatJumpIf($0, $1, 11) }
  case 12: return ends { flatJumpIf($0, $1, 12) }
  case 13: return ends { flatJumpIf($0, $1, 13) }
  case 14: return ends { flatJumpIf($0, $1, 14) }
  default: return ends { flatJumpIf($0, $1, 15) }
  }
}
