// Handlers of vector instructions on XMM registers, one for each shape of operands. The kernel that does the work is
// named by the operation's immediate.
import CSoftProcessor

/// Calls the operation's kernel; false after raising #XM.
@inline(__always)
func runKernel(
  _ cpu: CPU, _ operation: Operation, _ destination: UnsafeMutableRawPointer,
  _ source: UnsafeRawPointer
) -> Bool {
  if soft_vector_call(cpu, operation.pointee.immediate, destination, source) == 0 { return true }
  raiseVectorException(cpu)
  return false
}

@inline(__always)
private func runWideKernel(
  _ cpu: CPU, _ operation: Operation, _ destination: UnsafeMutableRawPointer,
  _ source: UnsafeRawPointer
) -> Bool {
  if soft_vector_call_wide(cpu, operation.pointee.immediate, destination, source) == 0 {
    return true
  }
  raiseVectorException(cpu)
  return false
}

// MARK: XMM from XMM or memory

func vectorFromRegister(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu),
    runKernel(cpu, operation, cpu.vector(operation.pointee.reg), cpu.vector(operation.pointee.rm))
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
private func vectorFromMemory(
  _ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool
) {
  guard vectorReady(cpu),
    let source = vectorSource(cpu, operation, size: size, isAligned: isAligned),
    runKernel(cpu, operation, cpu.vector(operation.pointee.reg), source)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

func vectorFromMemory16Aligned(_ cpu: CPU, _ operation: Operation) {
  vectorFromMemory(cpu, operation, size: 16, isAligned: true)
}
func vectorFromMemory16(_ cpu: CPU, _ operation: Operation) {
  vectorFromMemory(cpu, operation, size: 16, isAligned: false)
}
func vectorFromMemory8(_ cpu: CPU, _ operation: Operation) {
  vectorFromMemory(cpu, operation, size: 8, isAligned: false)
}
func vectorFromMemory4(_ cpu: CPU, _ operation: Operation) {
  vectorFromMemory(cpu, operation, size: 4, isAligned: false)
}
func vectorFromMemory2(_ cpu: CPU, _ operation: Operation) {
  vectorFromMemory(cpu, operation, size: 2, isAligned: false)
}

// MARK: XMM to XMM or memory

func vectorToRegister(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu),
    runKernel(cpu, operation, cpu.vector(operation.pointee.rm), cpu.vector(operation.pointee.reg))
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

@inline(__always)
private func vectorToMemory(_ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool) {
  guard vectorReady(cpu),
    runKernel(cpu, operation, cpu.scratch, cpu.vector(operation.pointee.reg)),
    vectorStore(cpu, operation, from: cpu.scratch, size: size, isAligned: isAligned)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

func vectorToMemory16Aligned(_ cpu: CPU, _ operation: Operation) {
  vectorToMemory(cpu, operation, size: 16, isAligned: true)
}
func vectorToMemory16(_ cpu: CPU, _ operation: Operation) {
  vectorToMemory(cpu, operation, size: 16, isAligned: false)
}
func vectorToMemory8(_ cpu: CPU, _ operation: Operation) {
  vectorToMemory(cpu, operation, size: 8, isAligned: false)
}
func vectorToMemory4(_ cpu: CPU, _ operation: Operation) {
  vectorToMemory(cpu, operation, size: 4, isAligned: false)
}

// MARK: Plain 16-byte moves, which are most of what runs: no kernel

func vectorMoveRegister(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.vector(operation.pointee.rm).load(as: SIMD2<UInt64>.self)
  cpu.vector(operation.pointee.reg).storeBytes(of: value, as: SIMD2<UInt64>.self)
  next(cpu, operation)
}

func vectorMoveRegisterBack(_ cpu: CPU, _ operation: Operation) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let value = cpu.vector(operation.pointee.reg).load(as: SIMD2<UInt64>.self)
  cpu.vector(operation.pointee.rm).storeBytes(of: value, as: SIMD2<UInt64>.self)
  next(cpu, operation)
}

@inline(__always)
private func vectorMoveFromMemory(_ cpu: CPU, _ operation: Operation, isAligned: Bool) {
  guard vectorReady(cpu),
    let source = vectorSource(cpu, operation, size: 16, isAligned: isAligned)
  else { return fault(cpu, operation) }
  let value = source.loadUnaligned(as: SIMD2<UInt64>.self)
  cpu.vector(operation.pointee.reg).storeBytes(of: value, as: SIMD2<UInt64>.self)
  next(cpu, operation)
}

func vectorMoveFromMemoryAligned(_ cpu: CPU, _ operation: Operation) {
  vectorMoveFromMemory(cpu, operation, isAligned: true)
}
func vectorMoveFromMemoryUnaligned(_ cpu: CPU, _ operation: Operation) {
  vectorMoveFromMemory(cpu, operation, isAligned: false)
}

@inline(__always)
private func vectorMoveToMemory(_ cpu: CPU, _ operation: Operation, isAligned: Bool) {
  guard vectorReady(cpu),
    vectorStore(
      cpu, operation, from: cpu.vector(operation.pointee.reg), size: 16, isAligned: isAligned)
  else { return fault(cpu, operation) }
  next(cpu, operation)
}

func vectorMoveToMemoryAligned(_ cpu: CPU, _ operation: Operation) {
  vectorMoveToMemory(cpu, operation, isAligned: true)
}
func vectorMoveToMemoryUnaligned(_ cpu: CPU, _ operation: Operation) {
  vectorMoveToMemory(cpu, operation, isAligned: false)
}

// MARK: General registers

/// MOVMSKPS, PMOVMSKB, PEXTRW, CVTSS2SI, ... with 32-bit result (the upper half is cleared).
@inline(__always)
private func generalFromVector(_ cpu: CPU, _ operation: Operation, isWide: Bool) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    let size = UInt64(vectorEntry(operation).pointee.size)
    guard let loaded = vectorSource(cpu, operation, size: size, isAligned: false) else {
      return fault(cpu, operation)
    }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.vector(operation.pointee.rm))
  }
  let result = cpu.scratch + 16
  let isDone =
    isWide
    ? runWideKernel(cpu, operation, result, source) : runKernel(cpu, operation, result, source)
  guard isDone else { return fault(cpu, operation) }
  cpu.registers[Int(operation.pointee.reg)] = result.load(as: UInt64.self)
  next(cpu, operation)
}
func generalFromVector32(_ cpu: CPU, _ operation: Operation) {
  generalFromVector(cpu, operation, isWide: false)
}
func generalFromVector64(_ cpu: CPU, _ operation: Operation) {
  generalFromVector(cpu, operation, isWide: true)
}

/// MOVD, PEXTRx, EXTRACTPS: a general register or memory from an XMM register.
@inline(__always)
private func vectorExtract(_ cpu: CPU, _ operation: Operation, isWide: Bool) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source = UnsafeRawPointer(cpu.vector(operation.pointee.reg))
  let result = cpu.scratch + 16
  _ =
    isWide
    ? runWideKernel(cpu, operation, result, source) : runKernel(cpu, operation, result, source)
  guard operation.isMemory else {
    cpu.registers[Int(operation.pointee.rm)] = result.load(as: UInt64.self)
    return next(cpu, operation)
  }
  let size = isWide ? 8 : UInt64(vectorEntry(operation).pointee.size)
  guard vectorStore(cpu, operation, from: result, size: size, isAligned: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
func vectorExtract32(_ cpu: CPU, _ operation: Operation) {
  vectorExtract(cpu, operation, isWide: false)
}
func vectorExtract64(_ cpu: CPU, _ operation: Operation) {
  vectorExtract(cpu, operation, isWide: true)
}

/// MOVD, PINSRx, CVTSI2SS: an XMM register from a general register or memory.
@inline(__always)
private func vectorInsert(_ cpu: CPU, _ operation: Operation, isWide: Bool) {
  guard vectorReady(cpu) else { return fault(cpu, operation) }
  let source: UnsafeRawPointer
  if operation.isMemory {
    let size = isWide ? 8 : UInt64(vectorEntry(operation).pointee.size)
    guard let loaded = vectorSource(cpu, operation, size: size, isAligned: false) else {
      return fault(cpu, operation)
    }
    source = loaded
  } else {
    source = UnsafeRawPointer(cpu.registers + Int(operation.pointee.rm))
  }
  let target = cpu.vector(operation.pointee.reg)
  let isDone =
    isWide
    ? runWideKernel(cpu, operation, target, source) : runKernel(cpu, operation, target, source)
  guard isDone else { return fault(cpu, operation) }
  next(cpu, operation)
}
func vectorInsert32(_ cpu: CPU, _ operation: Operation) {
  vectorInsert(cpu, operation, isWide: false)
}
func vectorInsert64(_ cpu: CPU, _ operation: Operation) {
  vectorInsert(cpu, operation, isWide: true)
}
