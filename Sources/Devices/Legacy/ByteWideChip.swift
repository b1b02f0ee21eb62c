import Processor

/// A chip on an 8-bit bus: a wider access is a row of byte accesses to the following addresses, low byte first, as the
/// ISA bus's byte steering does it.
package protocol ByteWideChip: Chip {
  mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8
  mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime)
}

extension ByteWideChip {
  package mutating func read(at offset: UInt64, width: AccessWidth, now: MachineTime) -> UInt64 {
    if width == .byte { return UInt64(readByte(at: offset, now: now)) }
    var value: UInt64 = 0
    for index in 0..<UInt64(width.rawValue) {
      value |= UInt64(readByte(at: offset &+ index, now: now)) << (index * 8)
    }
    return value
  }

  package mutating func write(
    at offset: UInt64, width: AccessWidth, value: UInt64, now: MachineTime
  ) {
    for index in 0..<UInt64(width.rawValue) {
      let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
      writeByte(at: offset &+ index, value: byte, now: now)
    }
  }
}

extension MachineTime {
  /// Nanoseconds from `earlier` to this; 0 if that lies in the future.
  @inline(__always)
  package func nanoseconds(since earlier: MachineTime) -> UInt64 {
    rawValue > earlier.rawValue ? rawValue &- earlier.rawValue : 0
  }
}

/// `value * multiplier / divisor` without overflow in between; stays at the maximum where the result does not fit.
@inline(__always)
package func scale(_ value: UInt64, by multiplier: UInt64, over divisor: UInt64) -> UInt64 {
  let product = value.multipliedFullWidth(by: multiplier)
  guard divisor > product.high else { return .max }
  return divisor.dividingFullWidth(product).quotient
}
