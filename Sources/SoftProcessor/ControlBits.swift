// Bits of the control registers, EFER and RFLAGS (Intel SDM 3A, 2.3 and 2.5; AMD APM 2, 3.1).

enum Control0 {
  static let protection: UInt64 = 1 << 0
  static let monitorCoprocessor: UInt64 = 1 << 1
  static let emulation: UInt64 = 1 << 2
  static let taskSwitched: UInt64 = 1 << 3
  static let extensionType: UInt64 = 1 << 4
  static let numericError: UInt64 = 1 << 5
  static let writeProtect: UInt64 = 1 << 16
  static let alignmentMask: UInt64 = 1 << 18
  static let notWriteThrough: UInt64 = 1 << 29
  static let cacheDisable: UInt64 = 1 << 30
  static let paging: UInt64 = 1 << 31
}

enum Control4 {
  static let virtual8086: UInt64 = 1 << 0
  static let protectedVirtualInterrupts: UInt64 = 1 << 1
  static let timeStampDisable: UInt64 = 1 << 2
  static let debuggingExtensions: UInt64 = 1 << 3
  static let pageSizeExtension: UInt64 = 1 << 4
  static let physicalAddressExtension: UInt64 = 1 << 5
  static let machineCheck: UInt64 = 1 << 6
  static let pageGlobal: UInt64 = 1 << 7
  static let performanceCounter: UInt64 = 1 << 8
  static let fastSave: UInt64 = 1 << 9
  static let vectorExceptions: UInt64 = 1 << 10
  static let userModePrevention: UInt64 = 1 << 11
  static let baseAccess: UInt64 = 1 << 16
  static let processContext: UInt64 = 1 << 17
  static let extendedSave: UInt64 = 1 << 18
  static let supervisorExecution: UInt64 = 1 << 20
  static let supervisorAccess: UInt64 = 1 << 21
}

enum Extended {
  static let systemCall: UInt64 = 1 << 0
  static let longModeEnable: UInt64 = 1 << 8
  static let longModeActive: UInt64 = 1 << 10
  static let noExecute: UInt64 = 1 << 11
  static let fastSave: UInt64 = 1 << 14
}

/// RFLAGS without the arithmetic flags: what `soft_cpu.flags_other` holds.
enum SystemFlag {
  static let trap: UInt32 = 1 << 8
  static let interrupt: UInt32 = 1 << 9
  static let direction: UInt32 = 1 << 10
  static let privilegeLevel: UInt32 = 3 << 12
  static let nestedTask: UInt32 = 1 << 14
  static let resume: UInt32 = 1 << 16
  static let virtual8086: UInt32 = 1 << 17
  static let alignmentCheck: UInt32 = 1 << 18
  static let virtualInterrupt: UInt32 = 1 << 19
  static let virtualInterruptPending: UInt32 = 1 << 20
  static let identification: UInt32 = 1 << 21
}
