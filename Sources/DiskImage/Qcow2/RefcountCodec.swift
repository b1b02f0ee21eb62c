// Refcounts of 1 to 64 bits in a block: below 8 bits the first one is in the lowest bits of a byte.

enum RefcountCodec {
  @inline(__always)
  static func get(_ block: UnsafeRawPointer, _ index: UInt64, order: UInt64) -> UInt64 {
    switch order {
    case 4: return UInt64(block.big16(Int(index) << 1))
    case 3: return UInt64(block.load(fromByteOffset: Int(index), as: UInt8.self))
    case 5: return UInt64(block.big32(Int(index) << 2))
    case 6: return block.big64(Int(index) << 3)
    default:
      let bit = index << order
      let byte = UInt64(block.load(fromByteOffset: Int(bit >> 3), as: UInt8.self))
      return byte >> (bit & 7) & ((1 << (1 << order)) - 1)
    }
  }

  /// The value must fit.
  @inline(__always)
  static func set(
    _ block: UnsafeMutableRawPointer, _ index: UInt64, order: UInt64, to value: UInt64
  ) {
    switch order {
    case 4:
      block.storeBytes(
        of: UInt16(truncatingIfNeeded: value).bigEndian, toByteOffset: Int(index) << 1,
        as: UInt16.self)
    case 3:
      block.storeBytes(
        of: UInt8(truncatingIfNeeded: value), toByteOffset: Int(index), as: UInt8.self)
    case 5:
      block.storeBytes(
        of: UInt32(truncatingIfNeeded: value).bigEndian, toByteOffset: Int(index) << 2,
        as: UInt32.self)
    case 6: block.setBig64(Int(index) << 3, value)
    default:
      let bit = index << order
      let mask = UInt8((1 << (1 << order)) - 1) << UInt8(bit & 7)
      let byte = block.load(fromByteOffset: Int(bit >> 3), as: UInt8.self)
      block.storeBytes(
        of: byte & ~mask | UInt8(truncatingIfNeeded: value) << UInt8(bit & 7) & mask,
        toByteOffset: Int(bit >> 3), as: UInt8.self)
    }
  }
}
