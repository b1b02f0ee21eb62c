// What a device occupies: resource descriptors (ACPI 6.5, section 6.4).

/// A list of resource descriptors, as `_CRS`, `_PRS` and `_SRS` want it.
package struct ResourceTemplate: Sendable {
  private var bytes: [UInt8] = []

  package init() {}

  /// The list with its end tag; a checksum of 0 means "none".
  package var term: AMLTerm { .buffer(bytes + [0x79, 0x00]) }

  /// Where the next descriptor will stand in the buffer.
  package var count: Int { bytes.count }

  /// Fixed ports, all 16 address lines decoded.
  package mutating func addPorts(_ base: UInt16, count: UInt8, alignment: UInt8 = 1) {
    bytes.append(contentsOf: [0x47, 0x01])
    bytes.append(little: base)
    bytes.append(little: base)
    bytes.append(contentsOf: [alignment, count])
  }

  /// ISA interrupts: edge-triggered, active high, not shared.
  package mutating func addInterrupt(_ line: UInt8) {
    bytes.append(0x22)
    bytes.append(little: UInt16(1) << UInt16(min(line, 15)))
  }

  /// Interrupts that PCI devices share: level-triggered, active high, as PIIX3 delivers them.
  package mutating func addSharedInterrupts(_ lines: [UInt32]) {
    bytes.append(0x89)
    bytes.append(little: UInt16(2 + 4 * lines.count))
    let consumerLevelHighShared: UInt8 = 0b1001
    bytes.append(contentsOf: [consumerLevelHighShared, UInt8(clamping: lines.count)])
    for line in lines { bytes.append(little: line) }
  }

  package mutating func addDMAChannel(_ channel: UInt8) {
    bytes.append(contentsOf: [0x2A, 1 << min(channel, 7), 0x00])
  }

  /// 32-bit memory at a fixed place.
  package mutating func addMemory(_ base: UInt32, count: UInt32, isWritable: Bool = true) {
    bytes.append(0x86)
    bytes.append(little: UInt16(9))
    bytes.append(isWritable ? 1 : 0)
    bytes.append(little: base)
    bytes.append(little: count)
  }

  /// The bus numbers behind a bridge.
  package mutating func addBusWindow(_ range: ClosedRange<UInt16>) {
    addWordWindow(kind: 2, specific: 0, range)
  }

  /// Ports that a bridge passes on.
  package mutating func addPortWindow(_ range: ClosedRange<UInt16>) {
    let wholeRange: UInt8 = 3
    addWordWindow(kind: 1, specific: wholeRange, range)
  }

  private mutating func addWordWindow(
    kind: UInt8, specific: UInt8, _ range: ClosedRange<UInt16>
  ) {
    bytes.append(0x88)
    bytes.append(little: UInt16(13))
    bytes.append(contentsOf: [kind, Self.fixedWindow, specific])
    let length = UInt32(range.upperBound) - UInt32(range.lowerBound) + 1
    bytes.append(little: UInt16(0))
    bytes.append(little: range.lowerBound)
    bytes.append(little: range.upperBound)
    bytes.append(little: UInt16(0))
    bytes.append(little: UInt16(truncatingIfNeeded: length))
  }

  /// Producer, minimum and maximum fixed, positive decode.
  private static let fixedWindow: UInt8 = 0b1100

  /// 32-bit memory that a bridge passes on.
  package mutating func addMemoryWindow(_ range: ClosedRange<UInt32>, isCacheable: Bool = false) {
    bytes.append(0x87)
    bytes.append(little: UInt16(23))
    bytes.append(contentsOf: [0, Self.fixedWindow, isCacheable ? 0b11 : 0b01])
    let length = UInt64(range.upperBound) - UInt64(range.lowerBound) + 1
    bytes.append(little: UInt32(0))
    bytes.append(little: range.lowerBound)
    bytes.append(little: range.upperBound)
    bytes.append(little: UInt32(0))
    bytes.append(little: UInt32(truncatingIfNeeded: length))
  }

  /// 64-bit memory that a bridge passes on.
  package mutating func addLongMemoryWindow(_ range: Range<UInt64>) {
    guard !range.isEmpty else { return }
    bytes.append(0x8A)
    bytes.append(little: UInt16(43))
    bytes.append(contentsOf: [0, Self.fixedWindow, 0b11])
    bytes.append(little: UInt64(0))
    bytes.append(little: range.lowerBound)
    bytes.append(little: range.upperBound - 1)
    bytes.append(little: UInt64(0))
    bytes.append(little: range.upperBound - range.lowerBound)
  }
}
