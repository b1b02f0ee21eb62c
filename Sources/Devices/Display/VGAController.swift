// Ports 0x3B0 to 0x3DF of an IBM VGA (IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem": general,
// sequencer, CRT controller, graphics controller, attribute controller, video DAC). Times are those of its crystals.

/// The ports in front of the registers, with the beam's place on the screen.
package struct VGAController: Codable, Sendable, Equatable {
  package static let firstPort: UInt16 = 0x3B0
  package static let portCount = 0x30

  package enum Port {
    package static let attribute: UInt16 = 0x3C0
    package static let attributeRead: UInt16 = 0x3C1
    /// Write: miscellaneous output. Read: input status 0.
    package static let miscellaneous: UInt16 = 0x3C2
    package static let subsystemEnable: UInt16 = 0x3C3
    package static let sequencerIndex: UInt16 = 0x3C4
    package static let sequencerData: UInt16 = 0x3C5
    package static let paletteMask: UInt16 = 0x3C6
    /// Write: index to read from. Read: what was asked for last.
    package static let paletteRead: UInt16 = 0x3C7
    package static let paletteWrite: UInt16 = 0x3C8
    package static let paletteData: UInt16 = 0x3C9
    package static let featureRead: UInt16 = 0x3CA
    package static let miscellaneousRead: UInt16 = 0x3CC
    package static let graphicsIndex: UInt16 = 0x3CE
    package static let graphicsData: UInt16 = 0x3CF
    /// 0x3B4 with monochrome addresses.
    package static let controllerIndex: UInt16 = 0x3D4
    package static let controllerData: UInt16 = 0x3D5
    /// Read: input status 1. Write: feature control.
    package static let status: UInt16 = 0x3DA
  }

  package enum Status {
    /// Input status 0: the comparator sees a colour display.
    package static let switchSense: UInt8 = 1 << 4
    /// Input status 1: nothing is drawn now.
    package static let displayDisabled: UInt8 = 1 << 0
    package static let verticalRetrace: UInt8 = 1 << 3
  }

  /// 31.47 kHz: 800 dots of 25.175 MHz, and 900 of 28.322.
  package static let nanosecondsALine: UInt64 = 31_778

  package internal(set) var registers = VGARegisters()
  /// The four planes' bytes of the last read, plane 0 in the low byte.
  var latches: UInt32 = 0
  /// The palette takes 8 bits a colour, not 6.
  var hasWidePalette = false

  package init() {}

  mutating func normalize() { registers.normalize() }

  /// One byte. What does not exist reads as all ones.
  package mutating func read(port: UInt16, now: MachineTime) -> UInt8 {
    guard let port = colorPort(port) else { return 0xFF }
    switch port {
    case Port.attribute: return registers.attributeExpectsData ? 0 : registers.attributeIndex
    case Port.attributeRead:
      let index = Int(registers.attributeIndex & 0x1F)
      return index < VGARegisters.Attribute.count ? registers.attribute[index] : 0
    case Port.miscellaneous: return Status.switchSense
    case Port.subsystemEnable: return 1
    case Port.sequencerIndex: return registers.sequencerIndex
    case Port.sequencerData: return Self.value(registers.sequencer, registers.sequencerIndex)
    case Port.paletteMask: return registers.paletteMask
    case Port.paletteRead: return registers.paletteIsReading ? 3 : 0
    case Port.paletteWrite: return UInt8(truncatingIfNeeded: registers.paletteWriteIndex / 3)
    case Port.paletteData: return readPalette()
    case Port.featureRead: return registers.featureControl
    case Port.miscellaneousRead: return registers.miscellaneous
    case Port.graphicsIndex: return registers.graphicsIndex
    case Port.graphicsData: return Self.value(registers.graphics, registers.graphicsIndex)
    case Port.controllerIndex: return registers.controllerIndex
    case Port.controllerData: return Self.value(registers.controller, registers.controllerIndex)
    case Port.status:
      registers.attributeExpectsData = false
      return status(now)
    default: return 0xFF
    }
  }

  package mutating func write(port: UInt16, value: UInt8) {
    guard let port = colorPort(port) else { return }
    switch port {
    case Port.attribute: writeAttribute(value)
    case Port.miscellaneous: registers.miscellaneous = value & 0xEF
    case Port.sequencerIndex: registers.sequencerIndex = value & 0x07
    case Port.sequencerData:
      let index = Int(registers.sequencerIndex)
      guard index < VGARegisters.Sequencer.count else { return }
      registers.sequencer[index] = value & VGARegisters.Sequencer.writable[index]
    case Port.paletteMask: registers.paletteMask = value
    case Port.paletteRead:
      registers.paletteReadIndex = Int(value) * 3
      registers.paletteIsReading = true
    case Port.paletteWrite:
      registers.paletteWriteIndex = Int(value) * 3
      registers.paletteIsReading = false
    case Port.paletteData: writePalette(value)
    case Port.graphicsIndex: registers.graphicsIndex = value & 0x0F
    case Port.graphicsData:
      let index = Int(registers.graphicsIndex)
      guard index < VGARegisters.Graphics.count else { return }
      registers.graphics[index] = value & VGARegisters.Graphics.writable[index]
    case Port.controllerIndex: registers.controllerIndex = value & 0x1F
    case Port.controllerData: writeController(value)
    case Port.status: registers.featureControl = value & 0x0B
    default: return
    }
  }

  /// The colour address of a port; nil for a CRT controller's port at the address that is not selected.
  private func colorPort(_ port: UInt16) -> UInt16? {
    let isColor =
      registers.miscellaneous & VGARegisters.Miscellaneous.colorAddresses != 0
    switch port {
    case 0x3B0...0x3BF: return isColor ? nil : port &+ 0x20
    case 0x3D0...0x3DF: return isColor ? port : nil
    default: return port
    }
  }

  private static func value(_ file: [UInt8], _ index: UInt8) -> UInt8 {
    Int(index) < file.count ? file[Int(index)] : 0
  }

  /// Index and data take turns at one port; reading input status 1 makes the next an index.
  private mutating func writeAttribute(_ value: UInt8) {
    defer { registers.attributeExpectsData.toggle() }
    guard registers.attributeExpectsData else {
      registers.attributeIndex = value & 0x3F
      return
    }
    let index = Int(registers.attributeIndex & 0x1F)
    guard index < VGARegisters.Attribute.count else { return }
    registers.attribute[index] = value & VGARegisters.Attribute.writable[index]
  }

  private mutating func writeController(_ value: UInt8) {
    typealias Controller = VGARegisters.Controller
    let index = Int(registers.controllerIndex)
    guard index < Controller.count else { return }
    if index <= Controller.overflow,
      registers.controller[Controller.retraceEnd] & Controller.protects != 0
    {
      guard index == Controller.overflow else { return }
      let old = registers.controller[index] & ~Controller.overflowLineCompare
      registers.controller[index] = old | value & Controller.overflowLineCompare
      return
    }
    registers.controller[index] = value
  }

  private mutating func readPalette() -> UInt8 {
    let value = registers.palette[registers.paletteReadIndex]
    registers.paletteReadIndex = (registers.paletteReadIndex + 1) % 768
    return value
  }

  private mutating func writePalette(_ value: UInt8) {
    registers.palette[registers.paletteWriteIndex] = hasWidePalette ? value : value & 0x3F
    registers.paletteWriteIndex = (registers.paletteWriteIndex + 1) % 768
  }

  // MARK: The beam

  /// Input status 1: where the beam is, by the clock.
  private func status(_ now: MachineTime) -> UInt8 {
    typealias Controller = VGARegisters.Controller
    let controller = registers.controller
    let overflow = Int(controller[Controller.overflow])
    let total =
      Int(controller[Controller.verticalTotal]) + (overflow & 1) << 8 + (overflow >> 5 & 1) << 9 + 2
    let time = now.rawValue % (UInt64(total) * Self.nanosecondsALine)
    let line = Int(time / Self.nanosecondsALine)
    let start =
      Int(controller[Controller.retraceStart]) + (overflow >> 2 & 1) << 8 + (overflow >> 7 & 1) << 9
    // The end register holds the low four bits of the line where it ends: at most 15 lines later.
    let length = max((Int(controller[Controller.retraceEnd] & 0xF) - start) & 0xF, 1)
    // Programmed beyond the total it would never come, and who waits for it would wait for ever.
    let first = start + length <= total ? start : total - min(length, total)
    if line >= first && line < first + length {
      return Status.verticalRetrace | Status.displayDisabled
    }
    if line >= registers.displayedLines { return Status.displayDisabled }
    let horizontalTotal = UInt64(controller[Controller.horizontalTotal]) + 5
    let column = time % Self.nanosecondsALine * horizontalTotal / Self.nanosecondsALine
    return column >= UInt64(registers.displayedCharacters) ? Status.displayDisabled : 0
  }
}
