// RDMSR and WRMSR (Intel SDM 4; AMD APM 2, appendix A). A register that is not here gives #GP and is counted.
import CSoftProcessor

enum ModelRegister {
  static let timeStamp: UInt32 = 0x10
  static let platform: UInt32 = 0x17
  static let apicBase: UInt32 = 0x1B
  static let microcodeUpdate: UInt32 = 0x79
  static let microcodeRevision: UInt32 = 0x8B
  static let rangeCapability: UInt32 = 0xFE
  static let enterCode: UInt32 = 0x174
  static let enterStack: UInt32 = 0x175
  static let enterTarget: UInt32 = 0x176
  static let machineCheckCapability: UInt32 = 0x179
  static let machineCheckStatus: UInt32 = 0x17A
  static let miscellaneous: UInt32 = 0x1A0
  static let debugControl: UInt32 = 0x1D9
  static let variableRanges: UInt32 = 0x200
  static let fixed64: UInt32 = 0x250
  static let pageAttributes: UInt32 = 0x277
  static let rangeDefault: UInt32 = 0x2FF
  static let timerDeadline: UInt32 = 0x6E0
  static let extendedFeatures: UInt32 = 0xC000_0080
  static let star: UInt32 = 0xC000_0081
  static let longStar: UInt32 = 0xC000_0082
  static let compatibilityStar: UInt32 = 0xC000_0083
  static let callMask: UInt32 = 0xC000_0084
  static let baseF: UInt32 = 0xC000_0100
  static let baseG: UInt32 = 0xC000_0101
  static let kernelBaseG: UInt32 = 0xC000_0102
  static let processorNumber: UInt32 = 0xC000_0103
}

@inline(never)
func readModelRegister(_ cpu: CPU) -> Bool {
  guard requireSupervisor(cpu) else { return false }
  let index = UInt32(truncatingIfNeeded: cpu.registers[Int(SOFT_RCX)])
  guard !leavesRegister(cpu, index, isWrite: false) else { return false }
  guard let value = modelRegister(cpu, index) else {
    cpu.pointee.unknown_registers &+= 1
    return protectionFault(cpu)
  }
  cpu.registers[Int(SOFT_RAX)] = value & 0xFFFF_FFFF
  cpu.registers[Int(SOFT_RDX)] = value >> 32
  return true
}

@inline(never)
func writeModelRegister(_ cpu: CPU) -> Bool {
  guard requireSupervisor(cpu) else { return false }
  let index = UInt32(truncatingIfNeeded: cpu.registers[Int(SOFT_RCX)])
  guard !leavesRegister(cpu, index, isWrite: true) else { return false }
  let value =
    cpu.registers[Int(SOFT_RDX)] << 32 | cpu.registers[Int(SOFT_RAX)] & 0xFFFF_FFFF
  guard setModelRegister(cpu, index, value) else {
    cpu.pointee.unknown_registers &+= 1
    return protectionFault(cpu)
  }
  return true
}

/// The index of a fixed range register in `mtrr_fixed`, or nil.
private func fixedRange(_ index: UInt32) -> Int? {
  switch index {
  case 0x250: 0
  case 0x258, 0x259: Int(index - 0x258) + 1
  case 0x268...0x26F: Int(index - 0x268) + 3
  default: nil
  }
}

/// A register's value, or nil if there is none.
func modelRegister(_ cpu: CPU, _ index: UInt32) -> UInt64? {
  if let range = fixedRange(index) { return soft_fixed_ranges(cpu)[range] }
  switch index {
  case ModelRegister.timeStamp: return soft_board_ticks(cpu.pointee.board) &+ cpu.pointee.tsc_offset
  case ModelRegister.platform, ModelRegister.machineCheckCapability,
    ModelRegister.machineCheckStatus, ModelRegister.debugControl:
    return 0
  case ModelRegister.apicBase: return cpu.pointee.apic_base
  case ModelRegister.microcodeRevision: return 0x0100_0065
  // Eight variable ranges, fixed ranges, write-combining.
  case ModelRegister.rangeCapability: return 0x508
  case ModelRegister.enterCode: return cpu.pointee.sysenter_cs
  case ModelRegister.enterStack: return cpu.pointee.sysenter_esp
  case ModelRegister.enterTarget: return cpu.pointee.sysenter_eip
  case ModelRegister.miscellaneous: return cpu.pointee.misc_enable
  case ModelRegister.variableRanges..<ModelRegister.variableRanges + 16:
    return soft_variable_ranges(cpu)[Int(index - ModelRegister.variableRanges)]
  case ModelRegister.pageAttributes: return cpu.pointee.pat
  case ModelRegister.rangeDefault: return cpu.pointee.mtrr_def_type
  case ModelRegister.timerDeadline: return readTimerDeadline(cpu)
  case 0x800...0x8FF: return readLocalAPICRegister(cpu, index)
  case ModelRegister.extendedFeatures: return cpu.pointee.efer
  case ModelRegister.star: return cpu.pointee.star
  case ModelRegister.longStar: return cpu.pointee.lstar
  case ModelRegister.compatibilityStar: return cpu.pointee.cstar
  case ModelRegister.callMask: return cpu.pointee.fmask
  case ModelRegister.baseF: return cpu.segments[Int(SOFT_FS)].base
  case ModelRegister.baseG: return cpu.segments[Int(SOFT_GS)].base
  case ModelRegister.kernelBaseG: return cpu.pointee.kernel_gs_base
  case ModelRegister.processorNumber: return cpu.pointee.tsc_aux
  default: return readParavirtualRegister(cpu, index) ?? amdRegister(index)
  }
}

/// Registers of AMD processors that kernels read without asking: four performance counters and their selections (which
/// count nothing), system and hardware configuration, interrupt pending message, memory ranges, north bridge, virtual
/// machine control.
private func amdRegister(_ index: UInt32) -> UInt64? {
  switch index {
  case 0xC001_0000...0xC001_0007, 0xC001_0010, 0xC001_0015, 0xC001_0016...0xC001_001A, 0xC001_001D,
    0xC001_001F, 0xC001_0055,
    0xC001_0058, 0xC001_0111...0xC001_0114, 0xC001_1029:
    0
  default: nil
  }
}

/// False for #GP.
func setModelRegister(_ cpu: CPU, _ index: UInt32, _ value: UInt64) -> Bool {
  if let range = fixedRange(index) {
    soft_fixed_ranges(cpu)[range] = value
    return true
  }
  switch index {
  case ModelRegister.timeStamp:
    cpu.pointee.tsc_offset = value &- soft_board_ticks(cpu.pointee.board)
  case ModelRegister.apicBase: return writeLocalAPICBase(cpu, value)
  // Loading microcode does nothing.
  case ModelRegister.microcodeUpdate, ModelRegister.microcodeRevision, 0xC001_0020: break
  case ModelRegister.machineCheckStatus, ModelRegister.debugControl: break
  case ModelRegister.enterCode: cpu.pointee.sysenter_cs = value & 0xFFFF_FFFF
  case ModelRegister.enterStack:
    guard isCanonical(value) else { return false }
    cpu.pointee.sysenter_esp = value
  case ModelRegister.enterTarget:
    guard isCanonical(value) else { return false }
    cpu.pointee.sysenter_eip = value
  case ModelRegister.miscellaneous: cpu.pointee.misc_enable = value
  case ModelRegister.variableRanges..<ModelRegister.variableRanges + 16:
    soft_variable_ranges(cpu)[Int(index - ModelRegister.variableRanges)] = value
  case ModelRegister.pageAttributes:
    for entry in 0..<8 {
      let type = value >> UInt64(entry * 8) & 0xFF
      guard type < 8, type != 2, type != 3 else { return false }
    }
    cpu.pointee.pat = value
  case ModelRegister.rangeDefault:
    guard value & ~0xCFF == 0 else { return false }
    cpu.pointee.mtrr_def_type = value
  case ModelRegister.timerDeadline: writeTimerDeadline(cpu, value)
  case 0x800...0x8FF: return writeLocalAPICRegister(cpu, index, value)
  case ModelRegister.extendedFeatures: return setExtendedFeatures(cpu, value)
  case ModelRegister.star: cpu.pointee.star = value
  case ModelRegister.longStar:
    guard isCanonical(value) else { return false }
    cpu.pointee.lstar = value
  case ModelRegister.compatibilityStar:
    guard isCanonical(value) else { return false }
    cpu.pointee.cstar = value
  case ModelRegister.callMask: cpu.pointee.fmask = value & 0xFFFF_FFFF
  case ModelRegister.baseF:
    guard isCanonical(value) else { return false }
    cpu.segments[Int(SOFT_FS)].base = value
  case ModelRegister.baseG:
    guard isCanonical(value) else { return false }
    cpu.segments[Int(SOFT_GS)].base = value
  case ModelRegister.kernelBaseG:
    guard isCanonical(value) else { return false }
    cpu.pointee.kernel_gs_base = value
  case ModelRegister.processorNumber:
    guard value >> 32 == 0 else { return false }
    cpu.pointee.tsc_aux = value
  default: return writeParavirtualRegister(cpu, index, value) || amdRegister(index) != nil
  }
  return true
}

private func setExtendedFeatures(_ cpu: CPU, _ value: UInt64) -> Bool {
  let allowed =
    Extended.systemCall | Extended.longModeEnable | Extended.longModeActive | Extended.noExecute
  guard value & ~allowed == 0 else { return false }
  let old = cpu.pointee.efer
  if (old ^ value) & Extended.longModeEnable != 0, cpu.pointee.cr0 & Control0.paging != 0 {
    return false
  }
  // LMA follows CR0.PG.
  cpu.pointee.efer = value & ~Extended.longModeActive | old & Extended.longModeActive
  if (old ^ value) & Extended.noExecute != 0 { flushTranslations(cpu, keepGlobal: false) }
  return true
}

// MARK: Counters

/// RDPMC: there are no performance counters.
@inline(never)
func readPerformanceCounter(_ cpu: CPU) -> Bool { protectionFault(cpu) }
