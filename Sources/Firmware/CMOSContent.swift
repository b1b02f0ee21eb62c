// The non-volatile memory beside the real-time clock, as SeaBIOS (src/hw/rtc.h) and old kernels read it.
import GuestMemory

/// What the 128 bytes hold at power-on. Bytes 0 to 0x0D belong to the clock and are zero here.
package struct CMOSContent: Sendable, Equatable {
  /// What firmware tries in turn where no `bootorder` file decides.
  package enum BootClass: UInt8, Sendable {
    case floppy = 1
    case disk = 2
    case cdrom = 3
    case network = 4
  }

  private enum Register {
    static let floppyTypes = 0x10
    static let equipment = 0x14
    static let baseMemory = 0x15
    static let extendedMemory = 0x17
    static let checksum = 0x2E
    static let extendedMemoryFound = 0x30
    static let century = 0x32
    static let memoryAbove16MiB = 0x34
    static let bootFlags1 = 0x38
    static let bootFlags2 = 0x3D
    static let memoryAbove4GiB = 0x5B
    static let processorCount = 0x5F
  }

  private static let coprocessor: UInt8 = 1 << 1
  private static let pointingDevice: UInt8 = 1 << 2
  private static let skipFloppySignature: UInt8 = 1 << 0

  package private(set) var bytes = [UInt8](repeating: 0, count: 128)

  /// - Parameters:
  ///   - memorySize: bytes of RAM, laid out as `GuestMemory` does.
  ///   - processorCount: processors at power-on. Above 256 the low byte only; firmware then uses fw_cfg.
  ///   - bootClasses: at most three are stored.
  package init(
    memorySize: UInt64, processorCount: Int, bootClasses: [BootClass], hasMouse: Bool = true
  ) {
    let low = min(memorySize, GuestMemory.lowMemoryLimit)
    let high = memorySize - low
    bytes[Register.equipment] = Self.coprocessor | (hasMouse ? Self.pointingDevice : 0)
    bytes.store(little: UInt16(640), at: Register.baseMemory)
    let extended = UInt16(clamping: (low >> 10) - min(low >> 10, 1024))
    bytes.store(little: extended, at: Register.extendedMemory)
    bytes.store(little: extended, at: Register.extendedMemoryFound)
    let above16MiB = low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0
    bytes.store(little: UInt16(clamping: above16MiB), at: Register.memoryAbove16MiB)
    let above4GiB = min(high >> 16, 0xFF_FFFF)
    bytes.store(little: UInt16(truncatingIfNeeded: above4GiB), at: Register.memoryAbove4GiB)
    bytes[Register.memoryAbove4GiB + 2] = UInt8(truncatingIfNeeded: above4GiB >> 16)
    bytes[Register.processorCount] = UInt8(truncatingIfNeeded: max(1, processorCount) - 1)
    bytes[Register.century] = 0x20
    func code(_ index: Int) -> UInt8 {
      index < bootClasses.count ? bootClasses[index].rawValue : 0
    }
    bytes[Register.bootFlags1] = code(2) << 4 | Self.skipFloppySignature
    bytes[Register.bootFlags2] = code(1) << 4 | code(0)
    // The PC/AT's sum, high byte first.
    let sum = bytes[Register.floppyTypes..<Register.checksum].reduce(UInt16(0)) { $0 &+ UInt16($1) }
    bytes[Register.checksum] = UInt8(sum >> 8)
    bytes[Register.checksum + 1] = UInt8(truncatingIfNeeded: sum)
  }
}
