import CSoftProcessor

/// One processor's state. Everything in the hot path goes through this pointer.
typealias CPU = UnsafeMutablePointer<soft_cpu>
/// One decoded instruction.
typealias Operation = UnsafePointer<soft_operation>

extension UnsafeMutablePointer where Pointee == soft_cpu {
  /// RAX to R15, then the register that is always 0.
  @inline(__always) var registers: UnsafeMutablePointer<UInt64> { soft_registers(self) }

  @inline(__always) var segments: UnsafeMutablePointer<soft_segment> { soft_segments(self) }

  /// The byte at an offset of the register file: how AL, AH, SPL, ... are named in an operation.
  @inline(__always) func byteRegister(_ offset: UInt8) -> UnsafeMutablePointer<UInt8> {
    UnsafeMutableRawPointer(self).assumingMemoryBound(to: UInt8.self) + Int(offset)
  }

  @inline(__always) func hasMode(_ bit: Int) -> Bool { pointee.mode & UInt32(bit) != 0 }
}

// MARK: How a handler ends

/// The next instruction of the block. The last thing that a handler does: it becomes a jump.
@inline(__always)
func next(_ cpu: CPU, _ operation: Operation) {
  let following = operation + 1
  following.pointee.handler(cpu, following)
}

/// After an exception was raised: the instruction has had no effect, RIP points to it, and the loop delivers.
@inline(__always)
func fault(_ cpu: CPU, _ operation: Operation) {
  cpu.pointee.rip &+= UInt64(operation.pointee.offset)
  cpu.pointee.fault_operation = operation
}

/// The instruction is done, and what follows must be looked up anew: the mode, the address space or the instruction
/// pointer changed. The loop goes on at `rip`, which the handler has set to the next instruction.
@inline(__always)
func leave(_ cpu: CPU, at rip: UInt64) {
  cpu.pointee.rip = rip
}

/// The address of the instruction itself, while its block runs.
@inline(__always)
func address(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  cpu.pointee.rip &+ UInt64(operation.pointee.offset)
}

/// The address of the instruction after this one. Cut to the width of the code segment by whoever stores it.
@inline(__always)
func following(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  cpu.pointee.rip &+ UInt64(operation.pointee.offset) &+ UInt64(operation.pointee.length)
}

// MARK: Exceptions

/// Exceptions by vector (Intel SDM 3A, table 6-1).
enum Exception: UInt32 {
  case divideError = 0
  case debug, nonMaskable, breakpoint, overflow, boundRange, invalidOpcode
  case deviceNotAvailable, doubleFault
  case invalidTaskState = 10
  case segmentNotPresent, stackFault, generalProtection, pageFault
  case floatingPoint = 16
  case alignmentCheck, machineCheck, vectorFloatingPoint
}

/// Notes an exception. The handler returns by `fault` at once, having changed nothing.
@inline(never)
func raise(_ cpu: CPU, _ exception: Exception) {
  cpu.pointee.exception = exception.rawValue
  cpu.pointee.exception_has_error = 0
  cpu.pointee.exception_error = 0
}

/// As above, for the exceptions that push an error code.
@inline(never)
func raise(_ cpu: CPU, _ exception: Exception, error: UInt32) {
  cpu.pointee.exception = exception.rawValue
  cpu.pointee.exception_has_error = 1
  cpu.pointee.exception_error = error
}
