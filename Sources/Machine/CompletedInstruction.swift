import Processor
import SoftProcessor
import Synchronization

/// Kinds of instructions that the kernel's emulator lacks, as they are counted.
enum CompletedInstruction: String, CaseIterable, Sendable {
  case int3, iret, fwait, sse, x87, cmpxchg16b, fxsave, xsave, stac, ud2, delivery, other

  /// - Parameter instruction: nil where an event was delivered, or the code could not be fetched.
  init(_ instruction: SoftInstruction?) {
    guard let instruction else {
      self = .delivery
      return
    }
    let opcode = UInt8(truncatingIfNeeded: instruction.opcode)
    switch instruction.opcode >> 8 {
    case 0: self = Self.oneByte(opcode)
    case 1: self = Self.twoByte(opcode, instruction)
    default: self = (0xF0...0xF6).contains(opcode) ? .other : .sse
    }
  }

  private static func oneByte(_ opcode: UInt8) -> CompletedInstruction {
    switch opcode {
    case 0xCC: .int3
    case 0xCF: .iret
    case 0x9B: .fwait
    case 0xD8...0xDF: .x87
    default: .other
    }
  }

  private static func twoByte(
    _ opcode: UInt8, _ instruction: SoftInstruction
  ) -> CompletedInstruction {
    switch opcode {
    case 0x01: isStac(instruction) ? .stac : .other
    case 0x0B: .ud2
    case 0xAE:
      switch (instruction.hasMemory, instruction.reg & 7) {
      case (true, 0), (true, 1): .fxsave
      case (true, 2), (true, 3): .sse
      case (true, 4...6): .xsave
      default: .other
      }
    case 0xC7:
      switch (instruction.hasMemory, instruction.reg & 7) {
      case (true, 1): .cmpxchg16b
      case (true, 3...5): .xsave
      default: .other
      }
    case 0x10...0x17, 0x28...0x2F, 0x50...0x7F, 0xC2, 0xC4...0xC6, 0xD0...0xFE: .sse
    default: .other
    }
  }

  /// CLAC and STAC.
  static func isStac(_ instruction: SoftInstruction) -> Bool {
    instruction.opcode == 0x101 && !instruction.hasMemory && instruction.reg & 7 == 1
      && [2, 3].contains(instruction.rm & 7)
  }
}

/// Counts by kind, read from any thread.
final class CompletionCounters: Sendable {
  private let counts = Mutex<[CompletedInstruction: UInt64]>([:])

  func note(_ kind: CompletedInstruction) { counts.withLock { $0[kind, default: 0] &+= 1 } }
  var values: [CompletedInstruction: UInt64] { counts.withLock { $0 } }
}

extension SoftInstruction {
  /// Whether it can be executed in software while nothing demands it: it touches no port, no system register and no
  /// CPUID, and writes no memory but the stack and what vector instructions write. The kernel must see every write to
  /// the guest's page tables where it shadows them, and only integer stores make those.
  var isHarmless: Bool {
    let byte = UInt8(truncatingIfNeeded: opcode)
    switch opcode >> 8 {
    case 0: return isHarmlessByte(byte)
    case 1:
      switch byte {
      case 0x10...0x17, 0x28...0x2F, 0x50...0x76, 0x7E, 0x7F, 0xC2, 0xC4...0xC6, 0xD0...0xFE,
        0x1F, 0x40...0x4F, 0x80...0x8F, 0xA3, 0xAF, 0xB6, 0xB7, 0xB8, 0xBC...0xBF, 0xC8...0xCF:
        return true
      case 0x90...0x9F, 0xA4, 0xA5, 0xAB...0xAD, 0xB3, 0xBA, 0xBB, 0xC0, 0xC1, 0xB0, 0xB1:
        return !hasMemory
      case 0x01: return CompletedInstruction.isStac(self)
      case 0xAE: return hasMemory && reg & 7 <= 3
      case 0xC7: return hasMemory && reg & 7 == 1
      default: return false
      }
    default: return true
    }
  }

  private func isHarmlessByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x50...0x5F, 0x68, 0x6A, 0x70...0x7F, 0x8D, 0x90, 0x9B, 0x98, 0x99, 0xA8, 0xA9,
      0xB0...0xBF, 0xC2, 0xC3, 0xE8, 0xE9, 0xEB, 0xF5, 0xF8, 0xF9, 0xFC, 0xFD, 0x91...0x97,
      0xD8...0xDF:
      true
    // Arithmetic: CMP and TEST write nothing, the others where the destination is a register.
    case 0x38...0x3D, 0x84, 0x85: true
    case 0x00...0x3D: byte & 7 <= 1 ? !hasMemory : byte & 7 <= 5
    case 0x69, 0x6B, 0x8A, 0x8B, 0x63: true
    case 0x80, 0x81, 0x83: !hasMemory || reg & 7 == 7
    case 0x86...0x89, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0...0xD3, 0xFE: !hasMemory
    case 0xF6, 0xF7: !hasMemory || reg & 7 != 2 && reg & 7 != 3
    // Near calls and jumps, PUSH; a register is counted up or down.
    case 0xFF: hasMemory ? [2, 4, 6].contains(reg & 7) : ![3, 5].contains(reg & 7)
    default: false
    }
  }
}
