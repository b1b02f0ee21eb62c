// A ring of descriptors of 16 bytes in guest memory (Intel 317453, 3.2.6 and 3.4): the adapter owns what is from its
// head up to the driver's tail.

import GuestMemory

struct E1000Ring {
  static let descriptorSize: UInt64 = 16

  let base: UInt64
  let count: UInt32
  var head: UInt32
  let tail: UInt32

  /// nil where there is no ring, or its head is none of its places.
  init?(_ registers: E1000Registers, at offset: Int) {
    typealias Ring = E1000Registers.Ring
    base =
      UInt64(registers[offset + Ring.base]) | UInt64(registers[offset + Ring.baseHigh]) << 32
    count = registers[offset + Ring.length] / UInt32(Self.descriptorSize)
    head = registers[offset + Ring.head]
    tail = registers[offset + Ring.tail]
    // A tail beyond the end would never be reached.
    guard count > 0, head < count, tail < count else { return nil }
  }

  /// Descriptors that are the adapter's.
  var available: UInt32 { head <= tail ? tail - head : count - head + tail }

  mutating func advance() { head = head + 1 == count ? 0 : head + 1 }

  /// The descriptor at the head: its two halves, read once. nil outside RAM.
  func load(_ memory: GuestMemory) -> (place: UInt64, low: UInt64, high: UInt64)? {
    let (place, overflow) = base.addingReportingOverflow(UInt64(head) * Self.descriptorSize)
    guard !overflow,
      let low = memory.load(UInt64.self, at: GuestAddress(place)),
      let high = memory.load(UInt64.self, at: GuestAddress(place &+ 8))
    else { return nil }
    return (place, low, high)
  }
}
