// Handlers of the VEX instructions that string functions are made of: moves, comparisons of bytes, logic. A C library takes
// its 32-byte functions when CPUID offers AVX2, so these run as often as the 16-byte moves of VectorHandlers.swift.
import CSoftProcessor

@inline(__always)
private func firstSource(_ cpu: CPU, _ operation: Operation) -> UnsafeMutableRawPointer {
  cpu.vector(UInt8(truncatingIfNeeded: soft_vex_first(operation.pointee.immediate)))
}

// MARK: Moves

@inline(__always)
private func moveFromMemory(_ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool) {
  guard vexReady(cpu),
    let source = vectorSource(cpu, operation, size: size, isAligned: isAligned)
  else { return fault(cpu, operation) }
  soft_vex_move(cpu.vector(operation.pointee.reg), source, size == 32 ? 1 : 0)
  next(cpu, operation)
}
@inline(__always)
private func moveToMemory(_ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool) {
  guard vexReady(cpu),
    vectorStore(
      cpu, operation, from: cpu.vector(operation.pointee.reg), size: size, isAligned: isAligned)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}
@inline(__always)
private func moveRegister(
  _ cpu: CPU, _ operation: Operation, to: UInt8, from: UInt8, _ wide: UInt32
) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  soft_vex_move(cpu.vector(to), cpu.vector(from), wide)
  next(cpu, operation)
}
func vexMoveFromMemory128(_ cpu: CPU, _ operation: Operation) {
  moveFromMemory(cpu, operation, size: 16, isAligned: false)
}
func vexMoveToMemory128(_ cpu: CPU, _ operation: Operation) {
  moveToMemory(cpu, operation, size: 16, isAligned: false)
}
func vexMoveFromMemory128Aligned(_ cpu: CPU, _ operation: Operation) {
  moveFromMemory(cpu, operation, size: 16, isAligned: true)
}
func vexMoveToMemory128Aligned(_ cpu: CPU, _ operation: Operation) {
  moveToMemory(cpu, operation, size: 16, isAligned: true)
}
func vexMoveRegister128(_ cpu: CPU, _ operation: Operation) {
  moveRegister(cpu, operation, to: operation.pointee.reg, from: operation.pointee.rm, 0)
}
func vexMoveRegisterBack128(_ cpu: CPU, _ operation: Operation) {
  moveRegister(cpu, operation, to: operation.pointee.rm, from: operation.pointee.reg, 0)
}
func vexMoveFromMemory256(_ cpu: CPU, _ operation: Operation) {
  moveFromMemory(cpu, operation, size: 32, isAligned: false)
}
func vexMoveToMemory256(_ cpu: CPU, _ operation: Operation) {
  moveToMemory(cpu, operation, size: 32, isAligned: false)
}
func vexMoveFromMemory256Aligned(_ cpu: CPU, _ operation: Operation) {
  moveFromMemory(cpu, operation, size: 32, isAligned: true)
}
func vexMoveToMemory256Aligned(_ cpu: CPU, _ operation: Operation) {
  moveToMemory(cpu, operation, size: 32, isAligned: true)
}
func vexMoveRegister256(_ cpu: CPU, _ operation: Operation) {
  moveRegister(cpu, operation, to: operation.pointee.reg, from: operation.pointee.rm, 1)
}
func vexMoveRegisterBack256(_ cpu: CPU, _ operation: Operation) {
  moveRegister(cpu, operation, to: operation.pointee.rm, from: operation.pointee.reg, 1)
}

/// VMOVD and VMOVQ between an XMM register and a general one, and between an XMM register and 64 bits of memory.
func vexSet32(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.registers[Int(operation.pointee.rm)] & 0xFFFF_FFFF
  soft_vex_set(cpu.vector(operation.pointee.reg), value)
  next(cpu, operation)
}
func vexSet64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  soft_vex_set(
    cpu.vector(operation.pointee.reg), cpu.registers[Int(operation.pointee.rm)])
  next(cpu, operation)
}
func vexGet32(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.vector(operation.pointee.reg).load(as: UInt32.self)
  cpu.registers[Int(operation.pointee.rm)] = UInt64(value)
  next(cpu, operation)
}
func vexGet64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.vector(operation.pointee.reg).load(as: UInt64.self)
  cpu.registers[Int(operation.pointee.rm)] = value
  next(cpu, operation)
}
func vexLoad64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu),
    let source = vectorSource(cpu, operation, size: 8, isAligned: false)
  else { return fault(cpu, operation) }
  soft_vex_set(cpu.vector(operation.pointee.reg), source.loadUnaligned(as: UInt64.self))
  next(cpu, operation)
}
func vexStore64(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu),
    vectorStore(
      cpu, operation, from: cpu.vector(operation.pointee.reg), size: 8, isAligned: false)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

// MARK: Two sources

private typealias Combination = (
  UnsafeMutableRawPointer, UnsafeRawPointer, UnsafeRawPointer, UInt32
) -> Void

@inline(__always)
private func combine(_ cpu: CPU, _ operation: Operation, _ wide: UInt32, _ body: Combination) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  body(
    cpu.vector(operation.pointee.reg), firstSource(cpu, operation),
    cpu.vector(operation.pointee.rm), wide)
  next(cpu, operation)
}
@inline(__always)
private func combineMemory(_ cpu: CPU, _ operation: Operation, _ wide: UInt32, _ body: Combination)
{
  guard vexReady(cpu),
    let source = vectorSource(cpu, operation, size: wide == 0 ? 16 : 32, isAligned: false)
  else { return fault(cpu, operation) }
  body(cpu.vector(operation.pointee.reg), firstSource(cpu, operation), source, wide)
  next(cpu, operation)
}

/// VPCMPEQB.
func vexEqual128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_equal_bytes($0, $1, $2, $3) }
}
func vexEqualMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_equal_bytes($0, $1, $2, $3) }
}
func vexEqual256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_equal_bytes($0, $1, $2, $3) }
}
func vexEqualMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_equal_bytes($0, $1, $2, $3) }
}

/// VPMINUB.
func vexLeast128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_least_bytes($0, $1, $2, $3) }
}
func vexLeastMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_least_bytes($0, $1, $2, $3) }
}
func vexLeast256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_least_bytes($0, $1, $2, $3) }
}
func vexLeastMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_least_bytes($0, $1, $2, $3) }
}

/// VPAND.
func vexAnd128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_and($0, $1, $2, $3) }
}
func vexAndMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_and($0, $1, $2, $3) }
}
func vexAnd256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_and($0, $1, $2, $3) }
}
func vexAndMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_and($0, $1, $2, $3) }
}

/// VPANDN.
func vexAndNot128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_and_not($0, $1, $2, $3) }
}
func vexAndNotMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_and_not($0, $1, $2, $3) }
}
func vexAndNot256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_and_not($0, $1, $2, $3) }
}
func vexAndNotMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_and_not($0, $1, $2, $3) }
}

/// VPOR.
func vexOr128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_or($0, $1, $2, $3) }
}
func vexOrMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_or($0, $1, $2, $3) }
}
func vexOr256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_or($0, $1, $2, $3) }
}
func vexOrMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_or($0, $1, $2, $3) }
}

/// VPXOR.
func vexXor128(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 0) { soft_vex_xor($0, $1, $2, $3) }
}
func vexXorMemory128(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 0) { soft_vex_xor($0, $1, $2, $3) }
}
func vexXor256(_ cpu: CPU, _ operation: Operation) {
  combine(cpu, operation, 1) { soft_vex_xor($0, $1, $2, $3) }
}
func vexXorMemory256(_ cpu: CPU, _ operation: Operation) {
  combineMemory(cpu, operation, 1) { soft_vex_xor($0, $1, $2, $3) }
}

// MARK: Others

@inline(__always)
private func byteSigns(_ cpu: CPU, _ operation: Operation, _ wide: UInt32) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let signs = soft_vex_byte_signs(cpu.vector(operation.pointee.rm), wide)
  cpu.registers[Int(operation.pointee.reg)] = UInt64(signs)
  next(cpu, operation)
}
/// VPMOVMSKB.
func vexByteSigns128(_ cpu: CPU, _ operation: Operation) { byteSigns(cpu, operation, 0) }
func vexByteSigns256(_ cpu: CPU, _ operation: Operation) { byteSigns(cpu, operation, 1) }

@inline(__always)
private func repeatByte(_ cpu: CPU, _ operation: Operation, _ wide: UInt32) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.vector(operation.pointee.rm).load(as: UInt8.self)
  soft_vex_repeat_byte(cpu.vector(operation.pointee.reg), value, wide)
  next(cpu, operation)
}
/// VPBROADCASTB from a register.
func vexRepeatByte128(_ cpu: CPU, _ operation: Operation) { repeatByte(cpu, operation, 0) }
func vexRepeatByte256(_ cpu: CPU, _ operation: Operation) { repeatByte(cpu, operation, 1) }

@inline(__always)
private func test(_ cpu: CPU, _ operation: Operation, _ wide: UInt32) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  let flags = soft_vex_test(
    cpu.vector(operation.pointee.reg), cpu.vector(operation.pointee.rm), wide)
  writeFlags(cpu, flags)
  next(cpu, operation)
}
/// VPTEST of two registers.
func vexTest128(_ cpu: CPU, _ operation: Operation) { test(cpu, operation, 0) }
func vexTest256(_ cpu: CPU, _ operation: Operation) { test(cpu, operation, 1) }

/// VZEROUPPER in 64-bit mode.
func vexZeroUpperLong(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu) else { return fault(cpu, operation) }
  soft_vex_zero_upper(cpu)
  next(cpu, operation)
}
