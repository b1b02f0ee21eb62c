// The 256 bytes of a function's configuration space as a value: contents, and which bits a guest may change. No
// meaning beyond that; `PCIFunction` gives it some.

struct PCIConfigurationSpace: Sendable {
  static let size = 256

  private(set) var bytes = [UInt8](repeating: 0, count: size)
  /// Bits that a guest's write replaces.
  private(set) var writable = [UInt8](repeating: 0, count: size)
  /// Bits that a guest's write of 1 clears.
  private(set) var clearable = [UInt8](repeating: 0, count: size)

  /// Little-endian value at `offset`; bytes beyond the end read as all ones.
  func read(at offset: Int, width: AccessWidth) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<width.count {
      let position = offset &+ index
      let byte = position >= 0 && position < Self.size ? bytes[position] : 0xFF
      value |= UInt64(byte) << UInt64(8 * index)
    }
    return value
  }

  /// A guest's write, within the masks. Returns whether any byte changed.
  mutating func write(at offset: Int, width: AccessWidth, value: UInt64) -> Bool {
    var changed = false
    for index in 0..<width.count {
      let position = offset &+ index
      guard position >= 0 && position < Self.size else { break }
      let byte = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
      let old = bytes[position]
      var new = old & ~writable[position] | byte & writable[position]
      new &= ~(byte & clearable[position])
      bytes[position] = new
      changed = changed || new != old
    }
    return changed
  }

  /// Stores without regard to masks: what the hardware itself does.
  mutating func set<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    for index in 0..<MemoryLayout<Value>.size {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index))
    }
  }

  mutating func setWritable<Value: FixedWidthInteger>(_ mask: Value, at offset: Int) {
    for index in 0..<MemoryLayout<Value>.size {
      writable[offset + index] = UInt8(truncatingIfNeeded: mask >> Value(8 * index))
    }
  }

  mutating func setClearable(_ mask: UInt16, at offset: Int) {
    clearable[offset] = UInt8(truncatingIfNeeded: mask)
    clearable[offset + 1] = UInt8(truncatingIfNeeded: mask >> 8)
  }

  /// Replaces the contents with saved ones. Bits that the guest cannot change keep what this function says, so that a
  /// damaged file cannot turn it into another.
  mutating func restore(_ saved: [UInt8]) {
    guard saved.count == Self.size else { return }
    for index in 0..<Self.size {
      let free = writable[index] | clearable[index]
      bytes[index] = bytes[index] & ~free | saved[index] & free
    }
  }

  func load16(_ offset: Int) -> UInt16 {
    UInt16(truncatingIfNeeded: read(at: offset, width: .word))
  }
  func load32(_ offset: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: read(at: offset, width: .doubleword))
  }
}
