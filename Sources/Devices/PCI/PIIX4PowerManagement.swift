// The power management function of the PIIX4 (82371AB data sheet, function 3): says where the 64 bytes of power
// management registers and the SMBus controller are decoded.

import GuestMemory
import Synchronization

/// 00:01.3.
public final class PIIX4PowerManagement: PCIDevice {
  /// PMBASE: bits 15:6 of the port, bit 0 always set.
  static let base = 0x40
  /// DEVACTA, and from 0x58 DEVACTB.
  static let activityB = 0x58
  /// PMREGMISC: bit 0 decodes PMBASE.
  static let miscellaneous = 0x80
  static let systemManagementBusBase = 0x90
  static let systemManagementBusHost = 0xD2
  public static let portCount = 64

  public let function: PCIFunction
  private let registers: any BusDevice
  /// The bus keeps the host that keeps this.
  private weak let ports: PortBus?
  private let onMove: @Sendable (UInt16?) -> Void
  private let decoded = Mutex<UInt16?>(nil)

  /// - Parameters:
  ///   - registers: the 64 bytes from PMBASE.
  ///   - onMove: called with the host's lock held when they are decoded elsewhere, or (nil) no more.
  public init(
    registers: any BusDevice, ports: PortBus,
    onMove: @escaping @Sendable (UInt16?) -> Void = { _ in }
  ) {
    self.registers = registers
    self.ports = ports
    self.onMove = onMove
    // The SCI is wired to ISA line 9 and not to a PIRQ: the pin is for show.
    function = PCIFunction(
      PCIIdentity(vendor: 0x8086, device: 0x7113, revision: 3, classCode: 0x068000),
      interruptPin: 1)
    function.set(UInt16(0x0280), at: PCIRegister.status)
    function.define(at: PCIRegister.interruptLine, value: UInt8(9), writable: UInt8(0xFF))
    function.define(at: Self.base, value: UInt32(1), writable: UInt32(0xFFC0))
    // Counters and activity registers: kept, without effect.
    for offset in stride(from: 0x44, to: Self.miscellaneous, by: 4) {
      function.define(at: offset, value: UInt32(0), writable: UInt32.max)
    }
    // APMC_EN is set from the start: firmware takes it that system management mode has been set up, and leaves it.
    function.define(at: Self.activityB, value: UInt32(0x0200_0000), writable: UInt32.max)
    function.define(at: Self.miscellaneous, value: UInt8(0), writable: UInt8(0x01))
    function.define(at: Self.systemManagementBusBase, value: UInt32(1), writable: UInt32(0xFFF0))
    function.define(
      at: Self.systemManagementBusHost, value: UInt32(0), writable: UInt32(0xFFFF_FF0F))
  }

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    guard range.overlaps(Self.base..<Self.miscellaneous + 1) else { return }
    let port = UInt16(truncatingIfNeeded: function.space.load32(Self.base) & 0xFFC0)
    let enabled = function.space.load32(Self.miscellaneous) & 1 != 0
    let wanted = enabled && port != 0 ? port : nil
    decoded.withLock { decoded in
      guard wanted != decoded else { return }
      if let decoded { ports?.unregister(registers, at: decoded, count: Self.portCount) }
      if let wanted { ports?.register(registers, at: wanted, count: Self.portCount) }
      decoded = wanted
      onMove(wanted)
    }
  }
}
