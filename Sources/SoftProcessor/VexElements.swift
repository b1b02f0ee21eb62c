// VEX instructions that reach memory element by element: masked moves and gathers.
import CSoftProcessor

/// Bytes of the vectors that an operation works on.
@inline(__always)
private func vectorBytes(_ operation: Operation) -> Int {
  soft_vex_is_256(operation.pointee.immediate) != 0 ? 32 : 16
}

/// Whether an element's top bit is set.
@inline(__always)
private func isChosen(_ mask: UnsafeRawPointer, _ offset: Int, _ size: Int) -> Bool {
  mask.load(fromByteOffset: offset + size - 1, as: UInt8.self) & 0x80 != 0
}

private func elementLoad(_ cpu: CPU, _ address: UInt64, _ size: Int) -> UInt64? {
  size == 4 ? load32(cpu, address).map { UInt64($0) } : load64(cpu, address)
}

private func put(_ value: UInt64, _ to: UnsafeMutableRawPointer, _ offset: Int, _ size: Int) {
  if size == 4 {
    to.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset, as: UInt32.self)
  } else {
    to.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
  }
}

/// The address of an element: what the mask leaves out is not looked at. Nil after raising.
private func elementAddress(
  _ cpu: CPU, _ operation: Operation, offset: UInt64, size: Int, isWrite: Bool
) -> UInt64? {
  checkedAddress(
    cpu, segment: operation.pointee.segment, offset: offset & operation.addressMask,
    size: UInt64(size), isWrite: isWrite)
}

/// VMASKMOVPS and VPMASKMOVD to a register: elements that are not chosen become 0.
@inline(never)
private func maskedLoad(_ cpu: CPU, _ operation: Operation) -> Bool {
  let size = Int(soft_vex_of(operation.pointee.immediate).pointee.size)
  let mask = UnsafeRawPointer(
    cpu.vector(UInt8(truncatingIfNeeded: soft_vex_first(operation.pointee.immediate))))
  let result = cpu.scratch + 128
  for half in 0..<4 {
    result.storeBytes(of: 0, toByteOffset: half * 8, as: UInt64.self)
  }
  let start = effectiveAddress(cpu, operation)
  for offset in stride(from: 0, to: vectorBytes(operation), by: size)
  where isChosen(mask, offset, size) {
    guard
      let address = elementAddress(
        cpu, operation, offset: start &+ UInt64(offset), size: size, isWrite: false),
      let value = elementLoad(cpu, address, size)
    else { return false }
    put(value, result, offset, size)
  }
  cpu.vector(operation.pointee.reg).copyMemory(from: result, byteCount: 32)
  return true
}
func vexMaskedLoad(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), maskedLoad(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// And to memory: nothing is written unless all that is chosen can be.
@inline(never)
private func maskedStore(_ cpu: CPU, _ operation: Operation) -> Bool {
  let size = Int(soft_vex_of(operation.pointee.immediate).pointee.size)
  let mask = UnsafeRawPointer(
    cpu.vector(UInt8(truncatingIfNeeded: soft_vex_first(operation.pointee.immediate))))
  let source = UnsafeRawPointer(cpu.vector(operation.pointee.reg))
  let start = effectiveAddress(cpu, operation)
  let offsets = stride(from: 0, to: vectorBytes(operation), by: size)
  for offset in offsets where isChosen(mask, offset, size) {
    guard
      let address = elementAddress(
        cpu, operation, offset: start &+ UInt64(offset), size: size, isWrite: true),
      checkCanonical(cpu, address, count: UInt64(size)),
      probeStore(cpu, address, count: UInt64(size), classNumber: cpu.pointee.tlb_class)
    else { return false }
  }
  for offset in offsets where isChosen(mask, offset, size) {
    guard
      let address = elementAddress(
        cpu, operation, offset: start &+ UInt64(offset), size: size, isWrite: true)
    else { return false }
    let isStored =
      size == 4
      ? store32(cpu, address, source.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      : store64(cpu, address, source.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    guard isStored else { return false }
  }
  return true
}
func vexMaskedElements(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), maskedStore(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}

/// VGATHERxxx and VPGATHERxx: each element that is done clears its mask, so that the instruction goes on after a fault
/// where it was. The index register is in the low bits of the immediate, its scale above.
@inline(never)
private func gather(_ cpu: CPU, _ operation: Operation) -> Bool {
  let immediate = operation.pointee.immediate
  let index = UInt8(truncatingIfNeeded: immediate & 15)
  let scale = immediate >> 4 & 3
  let first = UInt8(truncatingIfNeeded: soft_vex_first(immediate))
  let target = operation.pointee.reg
  guard index != target, index != first, first != target else {
    raise(cpu, .invalidOpcode)
    return false
  }
  let size = Int(soft_vex_of(immediate).pointee.size)
  // Opcodes 91 and 93 have indices of 64 bits.
  let indexSize = operation.pointee.opcode & 1 == 0 ? 4 : 8
  let count = vectorBytes(operation) / max(size, indexSize)
  let indices = UnsafeRawPointer(cpu.vector(index))
  let mask = cpu.vector(first)
  let result = cpu.vector(target)
  let base = effectiveAddress(cpu, operation)
  for number in 0..<count {
    let place = number * size
    if isChosen(mask, place, size) {
      let distance =
        indexSize == 4
        ? UInt64(
          bitPattern: Int64(indices.loadUnaligned(fromByteOffset: number * 4, as: Int32.self)))
        : indices.loadUnaligned(fromByteOffset: number * 8, as: UInt64.self)
      guard
        let address = elementAddress(
          cpu, operation, offset: base &+ distance &<< scale, size: size, isWrite: false),
        let value = elementLoad(cpu, address, size)
      else { return false }
      put(value, result, place, size)
    }
    put(0, mask, place, size)
  }
  for offset in stride(from: 0, to: 32, by: 4) {
    if offset >= count * size {
      put(0, result, offset, 4)
    }
    put(0, mask, offset, 4)
  }
  return true
}
func vexGather(_ cpu: CPU, _ operation: Operation) {
  guard vexReady(cpu), gather(cpu, operation) else { return fault(cpu, operation) }
  next(cpu, operation)
}
