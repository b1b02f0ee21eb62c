// The display interface of Bochs (VBE_DISPI; documented with Bochs's and QEMU's standard VGA): sixteen-bit registers
// behind an index at port 0x1CE and data at 0x1CF, or side by side in the function's second memory BAR.

/// Linear graphics modes beyond those of a VGA.
package struct BochsDisplayInterface: Codable, Sendable, Equatable {
  package static let indexPort: UInt16 = 0x1CE
  /// Index, and data at the next port, which is read and written in words; some systems use the one after.
  package static let portCount = 3

  package enum Index {
    package static let identity = 0
    package static let width = 1
    package static let height = 2
    package static let depth = 3
    package static let enable = 4
    package static let bank = 5
    package static let virtualWidth = 6
    package static let virtualHeight = 7
    package static let xOffset = 8
    package static let yOffset = 9
    package static let memorySize = 10
    package static let count = 11
  }

  package enum Enable {
    package static let enabled: UInt16 = 0x01
    /// Width, height and depth read as the largest that there are.
    package static let capabilities: UInt16 = 0x02
    package static let widePalette: UInt16 = 0x20
    package static let linear: UInt16 = 0x40
    package static let keepMemory: UInt16 = 0x80
    static let all: UInt16 = 0xE3
  }

  package static let oldestIdentity: UInt16 = 0xB0C0
  package static let identity: UInt16 = 0xB0C5
  package static let widthLimit: UInt16 = 2560
  package static let heightLimit: UInt16 = 1600
  private static let depths: Set<UInt16> = [4, 8, 15, 16, 24, 32]

  /// What a write asks of the owner.
  package struct Effects: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The picture begins black.
    package static let clearMemory = Effects(rawValue: 1)
  }

  package private(set) var index: UInt16 = 0
  private var values: [UInt16]
  /// Bytes of display memory.
  private var memorySize: Int

  package init(memorySize: Int) {
    self.memorySize = memorySize
    values = Array(repeating: 0, count: Index.count)
    values[Index.identity] = Self.identity
    values[Index.width] = 640
    values[Index.height] = 480
    values[Index.depth] = 8
  }

  package subscript(index: Int) -> UInt16 { values[index] }

  package var isEnabled: Bool { values[Index.enable] & Enable.enabled != 0 }
  /// Enabled, and a pixel is at least a byte: memory is a row of pixels, not planes.
  package var isLinear: Bool { isEnabled && depth > 4 }
  package var hasWidePalette: Bool { values[Index.enable] & Enable.widePalette != 0 }
  package var width: Int { Int(values[Index.width]) }
  package var height: Int { Int(values[Index.height]) }
  package var depth: Int { Int(values[Index.depth]) }
  package var bytesPerPixel: Int { (depth + 7) / 8 }
  /// Bytes from line to line.
  package var pitch: Int {
    depth == 4
      ? Int(values[Index.virtualWidth]) / 8 : Int(values[Index.virtualWidth]) * bytesPerPixel
  }
  /// First byte that is displayed.
  package var startOffset: Int {
    let x = Int(values[Index.xOffset])
    return Int(values[Index.yOffset]) * pitch + (depth == 4 ? x / 8 : x * bytesPerPixel)
  }
  /// Byte of memory at the beginning of the window at 0xA0000.
  package var bankOffset: Int { isEnabled ? Int(values[Index.bank]) << 16 : 0 }

  package mutating func select(_ index: UInt16) { self.index = index }

  /// A register; all ones for none.
  package func read(_ index: Int) -> UInt16 {
    guard index >= 0, index < Index.count else { return 0xFFFF }
    if values[Index.enable] & Enable.capabilities != 0 {
      switch index {
      case Index.width: return Self.widthLimit
      case Index.height: return Self.heightLimit
      case Index.depth: return 32
      default: break
      }
    }
    if index == Index.memorySize { return UInt16(clamping: memorySize >> 16) }
    if index == Index.virtualHeight, isEnabled { return UInt16(clamping: virtualHeight) }
    return values[index]
  }

  package mutating func write(_ index: Int, _ value: UInt16) -> Effects {
    switch index {
    case Index.identity:
      // A driver writes the version that it wants and reads what it got.
      if value >= Self.oldestIdentity, value <= Self.identity { values[index] = value }
    case Index.width:
      // Not while it is on: the old mode would be shown with a wrong pitch.
      if !isEnabled, value > 0, value <= Self.widthLimit { values[index] = value & ~7 }
      if values[index] == 0 { values[index] = 8 }
    case Index.height:
      if !isEnabled, value > 0, value <= Self.heightLimit { values[index] = value }
    case Index.depth:
      if !isEnabled, value == 0 || Self.depths.contains(value) {
        values[index] = value == 0 ? 8 : value
      }
    case Index.enable: return enable(value & Enable.all)
    case Index.bank:
      if Int(value) << 16 < memorySize { values[index] = value }
    case Index.virtualWidth:
      if value >= values[Index.width] { setVirtualWidth(value) }
    case Index.xOffset:
      if Int(value) + width <= Int(values[Index.virtualWidth]) { values[index] = value }
    case Index.yOffset:
      if Int(value) + height <= virtualHeight { values[index] = value }
    default: break
    }
    return []
  }

  /// Lines that memory holds.
  private var virtualHeight: Int {
    let size = depth == 4 ? VGAPlanes.offsetLimit : memorySize
    return pitch > 0 ? size / pitch : 0
  }

  private mutating func setVirtualWidth(_ width: UInt16) {
    let old = values[Index.virtualWidth]
    values[Index.virtualWidth] = width
    guard virtualHeight >= height else {
      values[Index.virtualWidth] = old
      return
    }
    values[Index.xOffset] = 0
    values[Index.yOffset] = 0
  }

  private mutating func enable(_ value: UInt16) -> Effects {
    let wasEnabled = isEnabled
    values[Index.enable] = value
    values[Index.bank] = 0
    guard value & Enable.enabled != 0, !wasEnabled else { return [] }
    values[Index.virtualWidth] = values[Index.width]
    values[Index.xOffset] = 0
    values[Index.yOffset] = 0
    // The largest mode fits into 16 MiB with a pixel of 4 bytes; smaller memories make it shorter.
    if virtualHeight < height { values[Index.height] = UInt16(clamping: max(virtualHeight, 1)) }
    return value & Enable.keepMemory == 0 ? .clearMemory : []
  }

  /// After decoding: nothing that could not have been written.
  mutating func normalize(memorySize: Int) {
    var clean = BochsDisplayInterface(memorySize: memorySize)
    let saved = values
    func value(_ index: Int) -> UInt16 { index < saved.count ? saved[index] : 0 }
    for index in [Index.identity, Index.width, Index.height, Index.depth] {
      _ = clean.write(index, value(index))
    }
    _ = clean.write(Index.enable, value(Index.enable))
    for index in [Index.virtualWidth, Index.xOffset, Index.yOffset, Index.bank] {
      _ = clean.write(index, value(index))
    }
    clean.index = index
    self = clean
  }
}
