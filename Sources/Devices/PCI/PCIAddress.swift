/// Where a function sits on bus 0 (PCI Local Bus 3.0, 3.2.2.3.2).
public struct PCIAddress: Hashable, Sendable, Codable, CustomStringConvertible {
  /// Device number, 0 to 31.
  public let device: UInt8
  /// Function number, 0 to 7.
  public let function: UInt8

  public init(device: UInt8, function: UInt8 = 0) {
    self.device = device & 0x1F
    self.function = function & 7
  }

  /// Device and function as one number, as it stands in bits 15:8 of CONFIG_ADDRESS.
  public var index: UInt8 { device << 3 | function }

  init(index: UInt8) { self.init(device: index >> 3, function: index & 7) }

  public var description: String {
    "00:" + (device < 16 ? "0" : "") + String(device, radix: 16) + "." + String(function)
  }
}

/// What a function says it is.
public struct PCIIdentity: Sendable {
  public var vendor: UInt16
  public var device: UInt16
  public var revision: UInt8
  /// Base class, sub-class and programming interface as in registers 0x0B, 0x0A, 0x09: 0xBBSSPP.
  public var classCode: UInt32
  public var subsystemVendor: UInt16
  public var subsystem: UInt16

  public init(
    vendor: UInt16, device: UInt16, revision: UInt8 = 0, classCode: UInt32,
    subsystemVendor: UInt16 = 0x1AF4, subsystem: UInt16 = 0x1100
  ) {
    self.vendor = vendor
    self.device = device
    self.revision = revision
    self.classCode = classCode
    self.subsystemVendor = subsystemVendor
    self.subsystem = subsystem
  }
}

/// Offsets in a type 0 header (PCI Local Bus 3.0, 6.1).
public enum PCIRegister {
  public static let vendor = 0x00
  public static let device = 0x02
  public static let command = 0x04
  public static let status = 0x06
  public static let revision = 0x08
  public static let classCode = 0x09
  public static let cacheLineSize = 0x0C
  public static let latencyTimer = 0x0D
  public static let headerType = 0x0E
  public static let baseAddress = 0x10
  public static let subsystemVendor = 0x2C
  public static let subsystem = 0x2E
  public static let expansionROM = 0x30
  public static let capabilities = 0x34
  public static let interruptLine = 0x3C
  public static let interruptPin = 0x3D
}

/// Bits of the command register (6.2.2).
public enum PCICommand {
  public static let ports: UInt16 = 1 << 0
  public static let memory: UInt16 = 1 << 1
  public static let busMaster: UInt16 = 1 << 2
  public static let systemError: UInt16 = 1 << 8
  public static let interruptDisable: UInt16 = 1 << 10
}

/// Bits of the status register (6.2.3).
enum PCIStatus {
  static let interrupt: UInt16 = 1 << 3
  static let capabilityList: UInt16 = 1 << 4
  /// Cleared by writing 1: parity and abort reports.
  static let writeOneToClear: UInt16 = 0xF900
}
