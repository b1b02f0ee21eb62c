// Single instructions of a guest that another processor executes: the kernel's, where its emulator knows no more.
import CSoftProcessor
import Processor

/// A decoded instruction, as far as somebody outside must know it.
package struct SoftInstruction: Sendable, Equatable {
  /// Opcode map (0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A) << 8 | opcode.
  package var opcode: UInt16
  /// ModRM.reg with REX.R; of a group its number.
  package var reg: UInt8
  /// ModRM.rm with REX.B.
  package var rm: UInt8
  /// ModRM names memory.
  package var hasMemory: Bool
  /// Without the prefixes 66, F2 and F3, which make others of many.
  package var isPlain: Bool

  package init(
    opcode: UInt16, reg: UInt8 = 0, rm: UInt8 = 0, hasMemory: Bool = false, isPlain: Bool = true
  ) {
    self.opcode = opcode
    self.reg = reg
    self.rm = rm
    self.hasMemory = hasMemory
    self.isPlain = isPlain
  }
}

/// What one instruction is undone to: see `SoftProcessor.checkpoint`.
package struct SoftCheckpoint {
  fileprivate var cpu: Registers
  fileprivate struct Registers {
    var registers: InlineArray<16, UInt64>
    var rip: UInt64
    var flags: UInt64
    var shadow: UInt32
  }
}

extension SoftProcessor {
  /// Takes over the state of another processor. Code may have changed since without anybody's telling, so that nothing
  /// that was decoded counts.
  package func adopt(_ state: ProcessorState) throws(ProcessorError) {
    dropSingleBlocks(cpu)
    if let problem = SoftProcessorState.restore(cpu, state) {
      throw ProcessorError("processor \(index): \(problem)")
    }
    // XGETBV tells what the guest has set, also of components that are not here.
    if let control = state.extendedControls.first(where: { $0.index == 0 }) {
      cpu.pointee.xcr0 = control.value
    }
    cpu.pointee.noncanonical = 0
    cpu.pointee.halt_reported = 0
    updateMode(cpu)
  }

  /// The instruction at the instruction pointer; nil when something is to be delivered first, or it cannot be fetched:
  /// `executeInstruction` then delivers that.
  package func nextInstruction() -> SoftInstruction? {
    guard cpu.pointee.exception == UInt32(SOFT_EXCEPTION_NONE),
      cpu.pointee.restored_interrupt == 0, cpu.pointee.activity == 0
    else { return nil }
    cpu.pointee.mode |= UInt32(SOFT_MODE_SINGLE)
    guard let block = block(cpu) else { return nil }
    let operation = block.pointee.operations
    return SoftInstruction(
      opcode: operation.pointee.opcode, reg: operation.pointee.reg, rm: operation.pointee.rm,
      hasMemory: operation.isMemory,
      isPlain: operation.pointee.flags
        & UInt8(SOFT_OPERATION_REP | SOFT_OPERATION_REPNE) == 0
        && operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) != 1)
  }

  /// Executes one instruction and takes no interrupt. An exception that it raises is delivered.
  ///
  /// - Returns: the vector of that exception, or nil.
  package func executeInstruction() -> VectorNumber? {
    let vector = executeOne(cpu)
    soft_vector_leave(cpu)
    return vector.map { VectorNumber(UInt8(truncatingIfNeeded: $0)) }
  }

  /// General registers, instruction pointer and flags, to go back to when an instruction that only read memory is to
  /// count as not executed.
  package func checkpoint() -> SoftCheckpoint {
    var registers = InlineArray<16, UInt64>(repeating: 0)
    for number in 0..<16 { registers[number] = cpu.registers[number] }
    return SoftCheckpoint(
      cpu: .init(
        registers: registers, rip: cpu.pointee.rip, flags: readRFLAGS(cpu),
        shadow: cpu.pointee.interrupt_shadow))
  }

  package func goBack(to checkpoint: SoftCheckpoint) {
    for number in 0..<16 { cpu.registers[number] = checkpoint.cpu.registers[number] }
    cpu.pointee.rip = checkpoint.cpu.rip
    writeRFLAGS(cpu, checkpoint.cpu.flags, mask: 0x3F_7FD5)
    cpu.pointee.interrupt_shadow = checkpoint.cpu.shadow
    updateMode(cpu)
  }

  package var instructionPointer: UInt64 { cpu.pointee.rip }
  /// Current privilege level 0.
  package var isSupervisor: Bool { cpu.pointee.cpl == 0 }
  /// Components of the XSAVE area that this processor has.
  package var stateComponents: UInt64 {
    offersExtendedSave(cpu) ? offeredStateComponents(cpu) : 0b11
  }
}
