// The way of the processor's accesses from the window at 0xA0000 to the four planes (IBM PS/2 Hardware Interface
// Technical Reference, "Graphics Controller": write modes 0 to 3, read modes 0 and 1; "Sequencer": map mask, memory
// mode).
//
// The planes' bytes lie beside each other: plane p of offset o is byte 4 * o + p, so that one double word is what the
// latches hold.

/// 256 KiB in four planes.
package struct VGAPlanes {
  package static let offsetLimit = 0x1_0000
  package static let size = offsetLimit * 4
  /// The processor's window, from 0xA0000.
  package static let windowBase: UInt64 = 0xA_0000
  package static let windowSize: UInt64 = 0x2_0000

  /// At least `size` bytes, valid as long as this is used.
  let memory: UnsafeMutableRawPointer

  package init(_ memory: UnsafeMutableRawPointer) { self.memory = memory }

  /// All four bytes of an offset, plane 0 lowest.
  @inline(__always)
  package subscript(offset: Int) -> UInt32 {
    get {
      UInt32(littleEndian: memory.load(fromByteOffset: (offset & 0xFFFF) * 4, as: UInt32.self))
    }
    nonmutating set {
      memory.storeBytes(
        of: newValue.littleEndian, toByteOffset: (offset & 0xFFFF) * 4, as: UInt32.self)
    }
  }

  @inline(__always)
  package subscript(offset: Int, plane: Int) -> UInt8 {
    get { memory.load(fromByteOffset: (offset & 0xFFFF) * 4 + plane & 3, as: UInt8.self) }
    nonmutating set {
      memory.storeBytes(
        of: newValue, toByteOffset: (offset & 0xFFFF) * 4 + plane & 3, as: UInt8.self)
    }
  }

  /// Every bit of `nibble` as a byte of zeros or ones.
  @inline(__always)
  static func spread(_ nibble: UInt8) -> UInt32 {
    let bits = UInt32(nibble & 0xF)
    return (bits &* 0x0020_4081 & 0x0101_0101) &* 0xFF
  }

  @inline(__always)
  static func repeated(_ byte: UInt8) -> UInt32 { UInt32(byte) &* 0x0101_0101 }
}

extension VGAController {
  private typealias Graphics = VGARegisters.Graphics
  private typealias Sequencer = VGARegisters.Sequencer

  /// Where an offset into the window lies in the part that is decoded; nil where nobody answers.
  @inline(__always)
  package func decode(window offset: UInt64) -> Int? {
    guard registers.miscellaneous & VGARegisters.Miscellaneous.enableMemory != 0 else { return nil }
    switch registers.graphics[Graphics.miscellaneous] >> 2 & 3 {
    case 0: return offset < 0x2_0000 ? Int(offset) : nil
    case 1: return offset < 0x1_0000 ? Int(offset) : nil
    case 2: return (0x1_0000..<0x1_8000).contains(offset) ? Int(offset) - 0x1_0000 : nil
    default: return (0x1_8000..<0x2_0000).contains(offset) ? Int(offset) - 0x1_8000 : nil
    }
  }

  /// Reads a byte of the window and fills the latches.
  package mutating func readWindow(_ address: Int, _ planes: VGAPlanes) -> UInt8 {
    let mode = registers.graphics[Graphics.mode]
    let offset: Int
    var plane = Int(registers.graphics[Graphics.readMap])
    if registers.sequencer[Sequencer.memoryMode] & Sequencer.chain4 != 0 {
      offset = address & ~3
      plane = address & 3
    } else {
      offset = planeOffset(address)
      if mode & Graphics.oddEven != 0 { plane = plane & 2 | address & 1 }
    }
    latches = planes[offset]
    guard mode & 0x08 != 0 else { return UInt8(truncatingIfNeeded: latches >> UInt32(plane * 8)) }
    // Read mode 1: a bit is 1 where all planes that are cared for have the colour.
    let cared = VGAPlanes.spread(registers.graphics[Graphics.colorDoNotCare])
    let color = VGAPlanes.spread(registers.graphics[Graphics.colorCompare])
    let different = (latches ^ color) & cared
    let any = different | different >> 16
    return ~UInt8(truncatingIfNeeded: any | any >> 8)
  }

  /// Writes a byte to the window.
  package mutating func writeWindow(_ address: Int, _ value: UInt8, _ planes: VGAPlanes) {
    var map = registers.sequencer[Sequencer.mapMask]
    let memoryMode = registers.sequencer[Sequencer.memoryMode]
    let offset: Int
    if memoryMode & Sequencer.chain4 != 0 {
      offset = address & ~3
      map &= 1 << UInt8(address & 3)
    } else {
      offset = planeOffset(address)
      if memoryMode & Sequencer.disableOddEven == 0 { map &= address & 1 == 0 ? 0x5 : 0xA }
    }
    let mask = VGAPlanes.spread(map)
    guard mask != 0 else { return }
    planes[offset] = planes[offset] & ~mask | result(of: value) & mask
  }

  /// Without address bit 0 where that selects planes.
  @inline(__always)
  private func planeOffset(_ address: Int) -> Int {
    registers.graphics[Graphics.miscellaneous] & Graphics.chainOddEven != 0
      ? address & ~1 : address
  }

  /// What the graphics controller makes of a byte from the processor, for all four planes.
  private func result(of value: UInt8) -> UInt32 {
    let graphics = registers.graphics
    let rotation = graphics[Graphics.function] & 7
    let rotated = value >> rotation | value << ((8 &- rotation) & 7)
    let setReset = VGAPlanes.spread(graphics[Graphics.setReset])
    var bits = VGAPlanes.repeated(graphics[Graphics.bitMask])
    let source: UInt32
    switch graphics[Graphics.mode] & 3 {
    case 0:
      let enabled = VGAPlanes.spread(graphics[Graphics.enableSetReset])
      source = VGAPlanes.repeated(rotated) & ~enabled | setReset & enabled
    case 1: return latches
    case 2: source = VGAPlanes.spread(value)
    default:
      source = setReset
      bits &= VGAPlanes.repeated(rotated)
    }
    let combined =
      switch graphics[Graphics.function] >> 3 & 3 {
      case 0: source
      case 1: source & latches
      case 2: source | latches
      default: source ^ latches
      }
    return combined & bits | latches & ~bits
  }

  /// Whether the window from 0xB8000 is as good as memory: even bytes in plane 0, odd ones in plane 1, unchanged both
  /// ways. So the BIOS and most systems leave text modes.
  package var windowIsPlainText: Bool {
    let graphics = registers.graphics
    let sequencer = registers.sequencer
    return registers.miscellaneous & VGARegisters.Miscellaneous.enableMemory != 0
      && graphics[Graphics.miscellaneous] & 0x0F == 0x0E
      && graphics[Graphics.mode] & 0x1B == Graphics.oddEven
      && graphics[Graphics.function] == 0 && graphics[Graphics.enableSetReset] == 0
      && graphics[Graphics.bitMask] == 0xFF && graphics[Graphics.readMap] & 2 == 0
      && sequencer[Sequencer.mapMask] & 3 == 3 && sequencer[Sequencer.mapMask] & 0xC == 0
      && sequencer[Sequencer.memoryMode] & (Sequencer.chain4 | Sequencer.disableOddEven) == 0
  }
}
