// Operands of vector instructions: registers by number, memory by pointer or copied to the scratch area.
import CSoftProcessor

extension UnsafeMutablePointer where Pointee == soft_cpu {
  @inline(__always)
  func vector(_ number: UInt8) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(soft_vector_register(self, UInt32(number)))
  }
  @inline(__always)
  func mmx(_ number: UInt8) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(soft_x87_register(self, UInt32(number)))
  }
  /// 512 bytes, of which vector operands use the lower half.
  @inline(__always) var scratch: UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(soft_scratch(self))
  }
}

/// As `operandAddress`. In 64-bit mode an address that is not canonical is left to the slow path of the access.
@inline(__always)
private func vectorAddress(_ cpu: CPU, _ operation: Operation, size: UInt64, isWrite: Bool)
  -> UInt64?
{
  let addressing = operation.pointee.flags & UInt8(SOFT_OPERATION_ADDRESS_MASK)
  if cpu.hasMode(SOFT_MODE_CODE64), addressing == 2 << UInt8(SOFT_OPERATION_ADDRESS_SHIFT),
    operation.pointee.segment < 4, operation.pointee.base != AddressBase.nextInstruction
  {
    let index = cpu.registers[Int(operation.pointee.index)] &<< UInt64(operation.pointee.scale)
    return cpu.registers[Int(operation.pointee.base)] &+ index
      &+ UInt64(bitPattern: Int64(operation.pointee.displacement))
  }
  return operandAddress(cpu, operation, size: size, isWrite: isWrite)
}

/// #GP for a misaligned operand comes before what else may be wrong with its address.
@inline(__always)
func checkAlignment(
  _ cpu: CPU, _ operation: Operation, _ address: UInt64?, size: UInt64
) -> Bool {
  guard let address else {
    if linearAddress(cpu, operation) & (size &- 1) != 0 { raise(cpu, .generalProtection, error: 0) }
    return false
  }
  if address & (size &- 1) == 0 { return true }
  raise(cpu, .generalProtection, error: 0)
  return false
}

/// The memory source of an instruction: 16 bytes can be read there (32 if `size` says so), of which `size` are the guest's.
/// Nil after raising.
@inline(__always)
func vectorSource(_ cpu: CPU, _ operation: Operation, size: UInt64, isAligned: Bool)
  -> UnsafeRawPointer?
{
  let place = vectorAddress(cpu, operation, size: size, isWrite: false)
  if isAligned, !checkAlignment(cpu, operation, place, size: size) { return nil }
  guard let address = place else { return nil }
  if size >= 16 {
    if let host = readPointer(cpu, address, count: size) { return host }
    guard slowLoadBytes(cpu, address, into: cpu.scratch, count: size) else { return nil }
    return UnsafeRawPointer(cpu.scratch)
  }
  let value: UInt64
  switch size {
  case 8:
    guard let loaded = load64(cpu, address) else { return nil }
    value = loaded
  case 4:
    guard let loaded = load32(cpu, address) else { return nil }
    value = UInt64(loaded)
  case 2:
    guard let loaded = load16(cpu, address) else { return nil }
    value = UInt64(loaded)
  default:
    guard let loaded = load8(cpu, address) else { return nil }
    value = UInt64(loaded)
  }
  // Written whole: the kernel reads 16 bytes, and a wide load behind a narrow store would wait for the store.
  cpu.scratch.storeBytes(of: SIMD2<UInt64>(value, 0), as: SIMD2<UInt64>.self)
  return UnsafeRawPointer(cpu.scratch)
}

/// Stores `size` bytes from the scratch area to the memory operand. False after raising.
@inline(__always)
func vectorStore(
  _ cpu: CPU, _ operation: Operation, from source: UnsafeRawPointer, size: UInt64, isAligned: Bool
) -> Bool {
  let place = vectorAddress(cpu, operation, size: size, isWrite: true)
  if isAligned, !checkAlignment(cpu, operation, place, size: size) { return false }
  guard let address = place else { return false }
  switch size {
  case 32: return storeBytes(cpu, address, from: source, count: 32)
  case 16: return storeVector(cpu, address, from: source)
  case 8: return store64(cpu, address, source.loadUnaligned(as: UInt64.self))
  case 4: return store32(cpu, address, source.loadUnaligned(as: UInt32.self))
  case 2: return store16(cpu, address, source.loadUnaligned(as: UInt16.self))
  default: return store8(cpu, address, source.load(as: UInt8.self))
  }
}

/// The table entry of an operation: see `soft_vector_find`.
@inline(__always)
func vectorEntry(_ operation: Operation) -> UnsafePointer<soft_vector_entry> {
  soft_vector_at(UInt32(truncatingIfNeeded: operation.pointee.immediate >> 32 & 0xFFFF))
}
