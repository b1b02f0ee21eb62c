/// A segment register with its hidden part (Intel SDM 3A, 3.4.5 and 24.4.1).
public struct SegmentRegister: Codable, Sendable, Equatable {
  public var base: UInt64
  /// The highest offset in bytes, after granularity was applied.
  public var limit: UInt32
  public var selector: UInt16
  /// The descriptor's four type bits.
  public var type: UInt8
  /// S: a code or data segment; false for TSS, LDT and gates.
  public var isCodeOrData: Bool
  /// DPL, 0 to 3.
  public var privilegeLevel: UInt8
  /// P.
  public var isPresent: Bool
  /// AVL: for software.
  public var isAvailable: Bool
  /// L: 64-bit code.
  public var isLong: Bool
  /// D/B: 32-bit operands, or a 32-bit stack pointer.
  public var isDefault32: Bool
  /// G: the descriptor's limit counted 4 KiB pages.
  public var isPageGranular: Bool
  /// Loaded with a null selector: any use faults.
  public var isUnusable: Bool

  public init(
    base: UInt64 = 0, limit: UInt32 = 0xFFFF, selector: UInt16 = 0, type: UInt8,
    isCodeOrData: Bool = true, privilegeLevel: UInt8 = 0, isPresent: Bool = true,
    isAvailable: Bool = false, isLong: Bool = false, isDefault32: Bool = false,
    isPageGranular: Bool = false, isUnusable: Bool = false
  ) {
    self.base = base
    self.limit = limit
    self.selector = selector
    self.type = type
    self.isCodeOrData = isCodeOrData
    self.privilegeLevel = privilegeLevel
    self.isPresent = isPresent
    self.isAvailable = isAvailable
    self.isLong = isLong
    self.isDefault32 = isDefault32
    self.isPageGranular = isPageGranular
    self.isUnusable = isUnusable
  }

  /// Type bits as the descriptor tables have them, with the accessed bit set.
  package enum Kind {
    package static let readWriteData: UInt8 = 0x3
    package static let executeReadCode: UInt8 = 0xB
    package static let localDescriptorTable: UInt8 = 0x2
    package static let busyTaskState: UInt8 = 0xB
  }

  /// Data at 0 with a 64 KiB limit: what every data segment holds after reset.
  public static let realModeData = SegmentRegister(type: Kind.readWriteData)
  /// The reset value of CS: the last 64 KiB below 4 GiB.
  public static let resetCode = SegmentRegister(
    base: 0xFFFF_0000, selector: 0xF000, type: Kind.executeReadCode)
  /// The reset value of LDTR.
  public static let resetLocalTable = SegmentRegister(
    type: Kind.localDescriptorTable, isCodeOrData: false)
  /// The reset value of TR. The busy type is what VM entries ask for.
  public static let resetTask = SegmentRegister(type: Kind.busyTaskState, isCodeOrData: false)

  /// 32-bit code from 0 to 4 GiB.
  public static func flatCode32(selector: UInt16) -> SegmentRegister {
    SegmentRegister(
      limit: .max, selector: selector, type: Kind.executeReadCode, isDefault32: true,
      isPageGranular: true)
  }

  /// 64-bit code.
  public static func flatCode64(selector: UInt16) -> SegmentRegister {
    SegmentRegister(
      limit: .max, selector: selector, type: Kind.executeReadCode, isLong: true,
      isPageGranular: true)
  }

  /// Data from 0 to 4 GiB.
  public static func flatData(selector: UInt16) -> SegmentRegister {
    SegmentRegister(
      limit: .max, selector: selector, type: Kind.readWriteData, isDefault32: true,
      isPageGranular: true)
  }

  /// The access rights as VMX and SVM save areas have them: type, S, DPL, P, AVL, L, D/B, G, unusable at bit 16.
  public var accessRights: UInt32 {
    var rights = UInt32(type & 0xF) | UInt32(privilegeLevel & 3) << 5
    if isCodeOrData { rights |= 1 << 4 }
    if isPresent { rights |= 1 << 7 }
    if isAvailable { rights |= 1 << 12 }
    if isLong { rights |= 1 << 13 }
    if isDefault32 { rights |= 1 << 14 }
    if isPageGranular { rights |= 1 << 15 }
    if isUnusable { rights |= 1 << 16 }
    return rights
  }
}

/// GDTR or IDTR.
public struct DescriptorTable: Codable, Sendable, Equatable {
  public var base: UInt64
  /// The last valid byte.
  public var limit: UInt16
  public init(base: UInt64 = 0, limit: UInt16 = 0xFFFF) {
    self.base = base
    self.limit = limit
  }
}
