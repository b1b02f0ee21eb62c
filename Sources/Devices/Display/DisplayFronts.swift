// The fronts of the display on the buses.

import Processor

/// The processor's window, 0xA0000 to 0xBFFFF.
final class DisplayWindow: BusDevice {
  private let core: DisplayCore

  init(_ core: DisplayCore) { self.core = core }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 { core.readWindow(offset, width) }

  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    core.writeWindow(offset, width, value)
  }
}

/// The VGA's ports; offset 0 is port 0x3B0.
final class DisplayPorts: BusDevice {
  private let core: DisplayCore

  init(_ core: DisplayCore) { self.core = core }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    core.readPort(VGAController.firstPort &+ UInt16(truncatingIfNeeded: offset), width)
  }

  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    core.writePort(VGAController.firstPort &+ UInt16(truncatingIfNeeded: offset), width, value)
  }
}

/// The Bochs interface's ports: index at offset 0, data at 1 and at 2. Words only.
final class BochsDisplayPorts: BusDevice {
  private let core: DisplayCore

  init(_ core: DisplayCore) { self.core = core }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    guard width == .word else { return width.mask }
    return offset == 0 ? core.bochsIndex : core.readBochs(nil)
  }

  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard width == .word else { return }
    let word = UInt16(truncatingIfNeeded: value)
    if offset == 0 { core.selectBochs(word) } else { core.writeBochs(nil, word) }
  }
}

/// The registers in base address 2 (QEMU, "standard vga": memory-mapped registers).
final class DisplayRegisters: BusDevice {
  static let size: UInt64 = 4096

  private enum Offset {
    /// VGA ports 0x3C0 to 0x3DF.
    static let ports: UInt64 = 0x400
    static let portsEnd: UInt64 = 0x420
    /// The Bochs interface's registers, a word each.
    static let bochs: UInt64 = 0x500
    static let bochsEnd = bochs + UInt64(BochsDisplayInterface.Index.count) * 2
    /// What follows in `extensionSize` bytes.
    static let `extension`: UInt64 = 0x600
    static let byteOrder: UInt64 = 0x604
  }
  private static let extensionSize: UInt64 = 8
  /// The display takes pixels low byte first, and cannot be told otherwise.
  private static let littleEndian: UInt64 = 0x1E1E_1E1E
  private static let firstMappedPort: UInt16 = 0x3C0

  private let core: DisplayCore

  init(_ core: DisplayCore) { self.core = core }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    switch offset {
    // No description of a monitor (EDID): a header of zeros tells so.
    case 0..<Offset.ports: return 0
    case Offset.ports..<Offset.portsEnd: return core.readPort(port(offset), width)
    case Offset.bochs..<Offset.bochsEnd where width == .word && offset & 1 == 0:
      return core.readBochs(Int(offset - Offset.bochs) / 2)
    case Offset.extension: return Self.extensionSize
    case Offset.byteOrder: return Self.littleEndian
    default: return width.mask
    }
  }

  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    switch offset {
    case Offset.ports..<Offset.portsEnd: core.writePort(port(offset), width, value)
    case Offset.bochs..<Offset.bochsEnd where width == .word && offset & 1 == 0:
      core.writeBochs(Int(offset - Offset.bochs) / 2, UInt16(truncatingIfNeeded: value))
    default: break
    }
  }

  private func port(_ offset: UInt64) -> UInt16 {
    Self.firstMappedPort &+ UInt16(truncatingIfNeeded: offset - Offset.ports)
  }
}
