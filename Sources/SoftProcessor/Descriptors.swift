// Selectors and descriptors (Intel SDM 3A, 3.4 and 5).
import CSoftProcessor

/// Eight bytes of a descriptor table, and the upper half that system descriptors have in long mode.
struct Descriptor {
  var raw: UInt64
  /// Bits 32 to 63 of the base or of a gate's offset, in long mode.
  var high: UInt32 = 0
  /// Linear address.
  var address: UInt64

  var limit: UInt32 {
    let limit = UInt32(truncatingIfNeeded: raw & 0xFFFF | raw >> 32 & 0xF_0000)
    return raw >> 55 & 1 == 1 ? limit << 12 | 0xFFF : limit
  }
  var base: UInt64 {
    raw >> 16 & 0xFF_FFFF | raw >> 32 & 0xFF00_0000 | UInt64(high) << 32
  }
  /// As in `soft_segment.attributes`.
  var attributes: UInt16 { UInt16(truncatingIfNeeded: raw >> 40) & 0xF0FF }
  /// S and the type: 0 to 15 are system descriptors.
  var type: UInt16 { attributes & 0x1F }
  var privilegeLevel: UInt32 { UInt32(attributes >> 5 & 3) }
  var isPresent: Bool { attributes & SegmentAttribute.present != 0 }
  var isCode: Bool { type & 0x18 == 0x18 }
  var isConforming: Bool { type & 0x1C == 0x1C }
  var isData: Bool { type & 0x18 == 0x10 }
  var isWritableData: Bool { type & 0x1A == 0x12 }
  /// Data, or code that can be read.
  var isReadable: Bool { isData || type & 0x1A == 0x1A }
  var isLong: Bool { attributes & SegmentAttribute.long != 0 }
  var isDefault32: Bool { attributes & SegmentAttribute.default32 != 0 }

  // Of gates.
  var gateSelector: UInt16 { UInt16(truncatingIfNeeded: raw >> 16) }
  var gateOffset: UInt64 { raw & 0xFFFF | raw >> 32 & 0xFFFF_0000 | UInt64(high) << 32 }
  var gateParameters: UInt64 { raw >> 32 & 0x1F }

  func segment(selector: UInt16) -> soft_segment {
    soft_segment(base: base, limit: limit, selector: selector, attributes: attributes)
  }
}

/// Types of system descriptors.
enum SystemType {
  static let availableTask16: UInt16 = 1
  static let localTable: UInt16 = 2
  static let busyTask16: UInt16 = 3
  static let callGate16: UInt16 = 4
  static let taskGate: UInt16 = 5
  static let interruptGate16: UInt16 = 6
  static let trapGate16: UInt16 = 7
  static let availableTask: UInt16 = 9
  static let busyTask: UInt16 = 11
  static let callGate: UInt16 = 12
  static let interruptGate: UInt16 = 14
  static let trapGate: UInt16 = 15
}

// MARK: Error codes

/// Raises an exception whose error code names a selector.
@inline(never)
func raise(_ cpu: CPU, _ exception: Exception, selector: UInt16) {
  raise(cpu, exception, error: UInt32(selector & 0xFFFC) | cpu.pointee.external_event)
}

/// Raises an exception with the error code 0, or only EXT.
@inline(never)
func raiseZero(_ cpu: CPU, _ exception: Exception) {
  raise(cpu, exception, error: cpu.pointee.external_event)
}

/// #GP(0), as the result of a check.
@inline(never)
func protectionFault(_ cpu: CPU) -> Bool {
  raiseZero(cpu, .generalProtection)
  return false
}

@inline(never)
func invalidOpcode(_ cpu: CPU) -> Bool {
  raise(cpu, .invalidOpcode)
  return false
}

@inline(__always)
func isCanonical(_ address: UInt64) -> Bool {
  (address &+ (1 &<< 47)) &>> 48 == 0
}

// MARK: Tables

/// The linear address of a selector's descriptor, nil if it lies beyond its table.
func descriptorAddress(_ cpu: CPU, _ selector: UInt16, count: UInt32 = 8) -> UInt64? {
  let offset = UInt32(selector & 0xFFF8)
  if selector & 4 == 0 {
    guard offset &+ count &- 1 <= cpu.pointee.gdtr_limit else { return nil }
    return cpu.pointee.gdtr_base &+ UInt64(offset)
  }
  let table = cpu.segments[Int(SOFT_LDTR)]
  guard table.has(SegmentAttribute.present) else { return nil }
  guard UInt64(offset) &+ UInt64(count) &- 1 <= UInt64(table.limit) else { return nil }
  return table.base &+ UInt64(offset)
}

/// Reads a descriptor. Beyond the table the exception is raised with the selector.
@inline(never)
func loadDescriptor(
  _ cpu: CPU, _ selector: UInt16, beyond exception: Exception = .generalProtection
) -> Descriptor? {
  guard let address = descriptorAddress(cpu, selector) else {
    raise(cpu, exception, selector: selector)
    return nil
  }
  guard let raw = systemLoad(cpu, address, count: 8) else { return nil }
  return Descriptor(raw: raw, address: address)
}

/// Completes a system descriptor that has 16 bytes in long mode.
func loadUpperHalf(
  _ cpu: CPU, _ descriptor: inout Descriptor, selector: UInt16,
  beyond exception: Exception = .generalProtection
) -> Bool {
  guard cpu.hasMode(SOFT_MODE_LONG) else { return true }
  guard descriptorAddress(cpu, selector, count: 16) != nil else {
    raise(cpu, exception, selector: selector)
    return false
  }
  guard let high = systemLoad(cpu, descriptor.address &+ 8, count: 8) else { return false }
  guard high >> 40 & 0x1F == 0 else {
    raise(cpu, exception, selector: selector)
    return false
  }
  descriptor.high = UInt32(truncatingIfNeeded: high)
  return true
}

/// Sets the accessed bit in memory and in the copy.
func markAccessed(_ cpu: CPU, _ descriptor: inout Descriptor) -> Bool {
  guard descriptor.raw >> 40 & 1 == 0 else { return true }
  descriptor.raw |= 1 << 40
  return systemStore(cpu, descriptor.address &+ 5, descriptor.raw >> 40 & 0xFF, count: 1)
}
