// The register files of an IBM VGA (IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem"), as a value.
// Indexes, bits and what they mean to the rest; how ports lead to them is in `VGAController`.

/// The five register files, the palette memory of the DAC, and the index registers in front of them.
package struct VGARegisters: Codable, Sendable, Equatable {
  /// Miscellaneous output.
  package enum Miscellaneous {
    /// The CRT controller answers at 0x3D4, else at 0x3B4.
    package static let colorAddresses: UInt8 = 1 << 0
    package static let enableMemory: UInt8 = 1 << 1
  }

  package enum Sequencer {
    package static let count = 5
    package static let clocking = 1
    package static let mapMask = 2
    package static let characterMap = 3
    package static let memoryMode = 4
    /// Clocking: nothing is shown.
    package static let screenOff: UInt8 = 1 << 5
    /// Clocking: characters are 8 dots wide, else 9.
    package static let eightDots: UInt8 = 1 << 0
    /// Clocking: the dot clock is halved (40 columns).
    package static let halvesClock: UInt8 = 1 << 3
    /// Memory mode: address bit 0 does not select even and odd planes.
    package static let disableOddEven: UInt8 = 1 << 2
    /// Memory mode: address bits 0 and 1 select the plane.
    package static let chain4: UInt8 = 1 << 3
    static let writable: [UInt8] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E]
  }

  package enum Graphics {
    package static let count = 9
    package static let setReset = 0
    package static let enableSetReset = 1
    package static let colorCompare = 2
    package static let function = 3
    package static let readMap = 4
    package static let mode = 5
    package static let miscellaneous = 6
    package static let colorDoNotCare = 7
    package static let bitMask = 8
    /// Mode: reads take the plane from address bit 0.
    package static let oddEven: UInt8 = 1 << 4
    /// Mode: two planes feed the serializer alternately (CGA graphics).
    package static let shiftInterleaved: UInt8 = 1 << 5
    /// Mode: a byte is a pixel.
    package static let shift256: UInt8 = 1 << 6
    /// Miscellaneous: graphics, not text.
    package static let graphicsMode: UInt8 = 1 << 0
    /// Miscellaneous: address bit 0 does not reach memory.
    package static let chainOddEven: UInt8 = 1 << 1
    static let writable: [UInt8] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF]
  }

  package enum Attribute {
    package static let count = 21
    package static let mode = 16
    package static let overscan = 17
    package static let planeEnable = 18
    package static let panning = 19
    package static let colorSelect = 20
    /// Mode: bit 7 of an attribute makes the character blink, else the background bright.
    package static let blink: UInt8 = 1 << 3
    /// Mode: bits 5 and 4 of a colour come from the colour select register.
    package static let selectsMiddleBits: UInt8 = 1 << 7
    static let writable: [UInt8] =
      [UInt8](repeating: 0x3F, count: 16) + [0xEF, 0xFF, 0x3F, 0x0F, 0x0F]
  }

  package enum Controller {
    package static let count = 25
    package static let horizontalTotal = 0x00
    package static let horizontalDisplayEnd = 0x01
    package static let verticalTotal = 0x06
    package static let overflow = 0x07
    package static let presetRow = 0x08
    package static let maximumScanLine = 0x09
    package static let cursorStart = 0x0A
    package static let cursorEnd = 0x0B
    package static let startHigh = 0x0C
    package static let startLow = 0x0D
    package static let cursorHigh = 0x0E
    package static let cursorLow = 0x0F
    package static let retraceStart = 0x10
    package static let retraceEnd = 0x11
    package static let verticalDisplayEnd = 0x12
    package static let offset = 0x13
    package static let underline = 0x14
    package static let mode = 0x17
    package static let lineCompare = 0x18
    /// Retrace end: registers 0 to 7 cannot be written.
    package static let protects: UInt8 = 1 << 7
    /// Overflow: bit 8 of line compare, which protection spares.
    static let overflowLineCompare: UInt8 = 1 << 4
    /// Cursor start: no cursor.
    package static let cursorOff: UInt8 = 1 << 5
    /// Maximum scan line: each line is shown twice.
    package static let doublesLines: UInt8 = 1 << 7
    /// Underline: addresses count double words.
    package static let doubleWords: UInt8 = 1 << 6
    /// Mode: addresses count bytes, else words.
    package static let bytes: UInt8 = 1 << 6
    /// Mode: in word addresses bit 15 comes in as bit 0, else bit 13.
    package static let wrapsAt64K: UInt8 = 1 << 5
  }

  package internal(set) var miscellaneous: UInt8
  package internal(set) var featureControl: UInt8 = 0
  package internal(set) var sequencer: [UInt8]
  package internal(set) var graphics: [UInt8]
  package internal(set) var attribute: [UInt8]
  package internal(set) var controller: [UInt8]
  /// 256 colours of three bytes, red first; 6 bits each, or 8 where the Bochs interface says so.
  package internal(set) var palette: [UInt8]
  package internal(set) var paletteMask: UInt8 = 0xFF

  var sequencerIndex: UInt8 = 0
  var graphicsIndex: UInt8 = 0
  var controllerIndex: UInt8 = 0
  /// Bit 5: the palette belongs to the display, which shows something only then.
  var attributeIndex: UInt8 = 0x20
  /// The next write to 0x3C0 is data.
  var attributeExpectsData = false
  /// Byte of the palette that is read or written next.
  var paletteReadIndex = 0
  var paletteWriteIndex = 0
  var paletteIsReading = false

  /// As the BIOS leaves it in mode 3 (80 columns, 25 rows, 9 by 16 dots), for guests that are booted without any.
  package init() {
    miscellaneous = 0x67
    sequencer = [0x03, 0x00, 0x03, 0x00, 0x02]
    graphics = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF]
    attribute = [
      0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
      0x3F, 0x0C, 0x00, 0x0F, 0x08, 0x00,
    ]
    controller = [
      0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00,
      0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
    ]
    palette = []
    for color in 0..<256 {
      // The first 64 are those of the EGA: bits 2, 1, 0 two thirds of red, green, blue and bits 5, 4, 3 one third.
      for bit in [2, 1, 0] {
        let bright = color >> bit & 1 != 0 ? 0x2A : 0
        let dim = color >> (bit + 3) & 1 != 0 ? 0x15 : 0
        palette.append(color < 64 ? UInt8(bright + dim) : 0)
      }
    }
  }

  /// Whether every file has its size.
  var isWhole: Bool {
    sequencer.count == Sequencer.count && graphics.count == Graphics.count
      && attribute.count == Attribute.count && controller.count == Controller.count
      && palette.count == 768
  }

  /// After decoding: files get their sizes back, values their ranges.
  mutating func normalize() {
    func fit(_ file: [UInt8], _ count: Int) -> [UInt8] {
      Array((file + [UInt8](repeating: 0, count: count)).prefix(count))
    }
    sequencer = fit(sequencer, Sequencer.count)
    graphics = fit(graphics, Graphics.count)
    attribute = fit(attribute, Attribute.count)
    controller = fit(controller, Controller.count)
    palette = fit(palette, 768)
    for index in 0..<Sequencer.count { sequencer[index] &= Sequencer.writable[index] }
    for index in 0..<Graphics.count { graphics[index] &= Graphics.writable[index] }
    for index in 0..<Attribute.count { attribute[index] &= Attribute.writable[index] }
    paletteReadIndex = ((paletteReadIndex % 768) + 768) % 768
    paletteWriteIndex = ((paletteWriteIndex % 768) + 768) % 768
    attributeIndex &= 0x3F
  }

  // MARK: What several registers say together

  /// Scan lines of the displayed part.
  package var displayedLines: Int {
    let overflow = Int(controller[Controller.overflow])
    return Int(controller[Controller.verticalDisplayEnd]) + (overflow >> 1 & 1) << 8
      + (overflow >> 6 & 1) << 9 + 1
  }

  /// Character clocks of the displayed part.
  package var displayedCharacters: Int { Int(controller[Controller.horizontalDisplayEnd]) + 1 }

  /// The scan line after which the address starts from 0 again.
  package var splitLine: Int {
    Int(controller[Controller.lineCompare])
      + (Int(controller[Controller.overflow]) >> 4 & 1) << 8
      + (Int(controller[Controller.maximumScanLine]) >> 6 & 1) << 9
  }

  /// Scan lines of a character row, 1 to 32, without doubling.
  package var rowHeight: Int { Int(controller[Controller.maximumScanLine] & 0x1F) + 1 }

  package var doublesLines: Bool {
    controller[Controller.maximumScanLine] & Controller.doublesLines != 0
  }

  /// The first address that is displayed, as the address counter has it.
  package var startAddress: Int {
    Int(controller[Controller.startHigh]) << 8 | Int(controller[Controller.startLow])
  }

  package var cursorAddress: Int {
    Int(controller[Controller.cursorHigh]) << 8 | Int(controller[Controller.cursorLow])
  }

  /// What the address counter grows by from row to row.
  package var rowPitch: Int { Int(controller[Controller.offset]) * 2 }

  package var isGraphics: Bool {
    graphics[Graphics.miscellaneous] & Graphics.graphicsMode != 0
  }

  /// Whether anything is shown.
  package var isDisplaying: Bool {
    attributeIndex & 0x20 != 0
      && sequencer[Sequencer.clocking] & Sequencer.screenOff == 0
  }

  /// Where in each plane the CRT controller finds what its address counter points to.
  package func planeOffset(ofAddress address: Int) -> Int {
    let mode = controller[Controller.mode]
    if controller[Controller.underline] & Controller.doubleWords != 0 {
      return (address << 2 | address >> 14 & 3) & 0xFFFF
    }
    if mode & Controller.bytes != 0 { return address & 0xFFFF }
    let low = mode & Controller.wrapsAt64K != 0 ? address >> 15 : address >> 13
    return (address << 1 | low & 1) & 0xFFFF
  }
}
