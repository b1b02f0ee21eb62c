// From an operand's form to its linear address: base, index, displacement, width, segment (Intel SDM 1, 3.7.5).
import CSoftProcessor

/// The register numbers of an operation that stand for RIP: see `soft_operation.base`.
enum AddressBase {
  /// Relative to the next instruction.
  static let nextInstruction: UInt8 = 17
  /// The block's start: `rip` follows the registers in memory, and the displacement counts from there.
  static let blockStart: UInt8 = 18
}

extension UnsafePointer where Pointee == soft_operation {
  /// 0 = 16, 1 = 32, 2 = 64 bit.
  @inline(__always) var addressSize: UInt8 { pointee.flags >> 2 & 3 }
  @inline(__always) var addressMask: UInt64 {
    addressSize == 2 ? .max : addressSize == 1 ? 0xFFFF_FFFF : 0xFFFF
  }
  @inline(__always) var isMemory: Bool { pointee.flags & UInt8(SOFT_OPERATION_MEMORY) != 0 }
  @inline(__always) var isLocked: Bool { pointee.flags & UInt8(SOFT_OPERATION_LOCK) != 0 }
}

/// The operand's offset in its segment, cut to the address size.
@inline(__always)
func effectiveAddress(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  var base = cpu.registers[Int(operation.pointee.base)]
  if operation.pointee.base == AddressBase.nextInstruction { base = following(cpu, operation) }
  let index = cpu.registers[Int(operation.pointee.index)] &<< UInt64(operation.pointee.scale)
  let displacement = UInt64(bitPattern: Int64(operation.pointee.displacement))
  return (base &+ index &+ displacement) & operation.addressMask
}

/// Base plus offset, in the width of linear addresses.
@inline(__always)
func linear(_ cpu: CPU, segment: UInt8, offset: UInt64) -> UInt64 {
  if cpu.hasMode(SOFT_MODE_CODE64) {
    return segment >= 4 ? cpu.segments[Int(segment)].base &+ offset : offset
  }
  return (cpu.segments[Int(segment)].base &+ offset) & 0xFFFF_FFFF
}

/// Where a memory operand lies, unchecked.
@inline(__always)
func linearAddress(_ cpu: CPU, _ operation: Operation) -> UInt64 {
  linear(cpu, segment: operation.pointee.segment, offset: effectiveAddress(cpu, operation))
}

/// Where a memory operand of `size` bytes lies; nil after raising #GP or #SS by the segment's limit and attributes, or
/// because the address is not canonical.
@inline(__always)
func operandAddress(_ cpu: CPU, _ operation: Operation, size: UInt64, isWrite: Bool) -> UInt64? {
  checkedAddress(
    cpu, segment: operation.pointee.segment, offset: effectiveAddress(cpu, operation), size: size,
    isWrite: isWrite)
}

/// As `operandAddress`, for an offset that the caller has computed (and cut).
@inline(__always)
func checkedAddress(
  _ cpu: CPU, segment: UInt8, offset: UInt64, size: UInt64, isWrite: Bool
) -> UInt64? {
  let address = linear(cpu, segment: segment, offset: offset)
  if cpu.hasMode(SOFT_MODE_CODE64) {
    // Bits 63 to 47 alike, of the first and the last byte.
    let last = address &+ (size &- 1)
    if ((address &+ (1 &<< 47)) | (last &+ (1 &<< 47))) &>> 48 == 0 { return address }
    raise(cpu, segment == 2 ? .stackFault : .generalProtection, error: 0)
    return nil
  }
  // Code segments are flat too, and cannot be written.
  if cpu.hasMode(SOFT_MODE_FLAT), segment < 4, offset &+ size <= 1 &<< 32,
    !(isWrite && segment == UInt8(SOFT_CS))
  {
    return address
  }
  return checkSegment(cpu, segment: segment, offset: offset, size: size, isWrite: isWrite)
    ? address : nil
}

/// The checks of a data access outside of 64-bit mode (Intel SDM 3A, 5.3 to 5.5).
@inline(never)
private func checkSegment(
  _ cpu: CPU, segment: UInt8, offset: UInt64, size: UInt64, isWrite: Bool
) -> Bool {
  let register = cpu.segments[Int(segment)]
  let last = offset &+ (size &- 1)
  var isValid: Bool
  let isData = register.attributes & SegmentAttribute.code == 0
  if isData, register.attributes & SegmentAttribute.expandDown != 0 {
    let top: UInt64 =
      register.attributes & SegmentAttribute.default32 != 0 ? 0xFFFF_FFFF : 0xFFFF
    isValid = offset > UInt64(register.limit) && last <= top
  } else {
    isValid = last <= UInt64(register.limit)
  }
  if cpu.hasMode(SOFT_MODE_PROTECTED) {
    let isAllowed =
      register.attributes & SegmentAttribute.present != 0
      && (isWrite
        ? isData && register.attributes & SegmentAttribute.writable != 0
        : isData || register.attributes & SegmentAttribute.writable != 0)
    if !isAllowed {
      raise(cpu, segment == 2 ? .stackFault : .generalProtection, error: 0)
      return false
    }
  }
  if !isValid {
    raise(cpu, segment == 2 ? .stackFault : .generalProtection, error: 0)
    return false
  }
  return true
}
