// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, and the bases of FS and GS (Intel SDM 2B; AMD APM 3).
import CSoftProcessor

private enum Flat {
  /// Present, readable and accessed code; S.
  static let code: UInt16 = 0x9B | SegmentAttribute.granular
  static let data: UInt16 = 0x93 | SegmentAttribute.granular | SegmentAttribute.default32

  static func code(selector: UInt64, level: UInt16, isLong: Bool) -> soft_segment {
    soft_segment(
      base: 0, limit: .max, selector: UInt16(truncatingIfNeeded: selector) & 0xFFFC | level,
      attributes: code | level << 5
        | (isLong ? SegmentAttribute.long : SegmentAttribute.default32))
  }

  static func stack(selector: UInt64, level: UInt16) -> soft_segment {
    soft_segment(
      base: 0, limit: .max, selector: UInt16(truncatingIfNeeded: selector) & 0xFFFC | level,
      attributes: data | level << 5)
  }
}

@inline(never)
func systemCall(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard cpu.pointee.efer & Extended.systemCall != 0 else { return invalidOpcode(cpu) }
  let selector = cpu.pointee.star >> 32 & 0xFFFF
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  guard isLong else {
    guard cpu.hasMode(SOFT_MODE_PROTECTED) || cpu.hasMode(SOFT_MODE_V86) else {
      return invalidOpcode(cpu)
    }
    cpu.registers[Int(SOFT_RCX)] = nextInstruction(cpu, operation)
    cpu.pointee.flags_other &=
      ~(SystemFlag.interrupt | SystemFlag.virtual8086 | SystemFlag.resume)
    return enterSystem(
      cpu, code: Flat.code(selector: selector, level: 0, isLong: false),
      stack: Flat.stack(selector: selector &+ 8, level: 0),
      rip: cpu.pointee.star & 0xFFFF_FFFF)
  }
  let flags = currentFlags(cpu) & ~SystemFlag.resume
  let target = cpu.hasMode(SOFT_MODE_CODE64) ? cpu.pointee.lstar : cpu.pointee.cstar
  cpu.registers[Int(SOFT_RCX)] = nextInstruction(cpu, operation)
  cpu.registers[11] = UInt64(flags)
  let mask = UInt32(truncatingIfNeeded: cpu.pointee.fmask)
  setFlags(cpu, flags & ~mask, mask: 0x3F_7FD5)
  return enterSystem(
    cpu, code: Flat.code(selector: selector, level: 0, isLong: true),
    stack: Flat.stack(selector: selector &+ 8, level: 0), rip: target)
}

private func enterSystem(
  _ cpu: CPU, code: soft_segment, stack: soft_segment, rip: UInt64
) -> Bool {
  cpu.segments[Int(SOFT_CS)] = code
  cpu.segments[Int(SOFT_SS)] = stack
  cpu.pointee.rip = rip
  updateMode(cpu)
  stepAfterTransfer(cpu)
  return true
}

@inline(never)
func systemReturn(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard cpu.pointee.efer & Extended.systemCall != 0, cpu.hasMode(SOFT_MODE_PROTECTED) else {
    return invalidOpcode(cpu)
  }
  guard requireSupervisor(cpu) else { return false }
  let selector = cpu.pointee.star >> 48
  let target = cpu.registers[Int(SOFT_RCX)]
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  let to64 = isLong && operandBytes(operation) == 8
  if to64 {
    guard isCanonical(target) else { return protectionFault(cpu) }
  }
  if isLong {
    // RF and VM are cleared.
    setFlags(cpu, UInt32(truncatingIfNeeded: cpu.registers[11]) & 0x3C_7FD7, mask: 0x3F_7FD5)
  } else {
    cpu.pointee.flags_other |= SystemFlag.interrupt
  }
  cpu.segments[Int(SOFT_CS)] = Flat.code(
    selector: to64 ? selector &+ 16 : selector, level: 3, isLong: to64)
  cpu.segments[Int(SOFT_SS)] = Flat.stack(selector: selector &+ 8, level: 3)
  cpu.pointee.rip = to64 ? target : target & 0xFFFF_FFFF
  updateMode(cpu)
  if cpu.pointee.flags_other & SystemFlag.interrupt != 0 { interruptsEnabled(cpu) }
  stepAfterTransfer(cpu)
  return true
}

@inline(never)
func systemEnter(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cr0 & Control0.protection != 0, cpu.pointee.sysenter_cs & 0xFFFC != 0 else {
    return protectionFault(cpu)
  }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  let selector = cpu.pointee.sysenter_cs
  cpu.pointee.flags_other &= ~(SystemFlag.interrupt | SystemFlag.virtual8086 | SystemFlag.resume)
  let mask: UInt64 = isLong ? .max : 0xFFFF_FFFF
  cpu.registers[Int(SOFT_RSP)] = cpu.pointee.sysenter_esp & mask
  return enterSystem(
    cpu, code: Flat.code(selector: selector, level: 0, isLong: isLong),
    stack: Flat.stack(selector: selector &+ 8, level: 0), rip: cpu.pointee.sysenter_eip & mask)
}

@inline(never)
func systemExit(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard cpu.hasMode(SOFT_MODE_PROTECTED), cpu.pointee.cpl == 0,
    cpu.pointee.sysenter_cs & 0xFFFC != 0
  else { return protectionFault(cpu) }
  let selector = cpu.pointee.sysenter_cs
  let to64 = operandBytes(operation) == 8
  let target = cpu.registers[Int(SOFT_RDX)]
  let pointer = cpu.registers[Int(SOFT_RCX)]
  if to64 {
    guard isCanonical(target), isCanonical(pointer) else { return protectionFault(cpu) }
  }
  cpu.registers[Int(SOFT_RSP)] = to64 ? pointer : pointer & 0xFFFF_FFFF
  return enterSystem(
    cpu, code: Flat.code(selector: selector &+ (to64 ? 32 : 16), level: 3, isLong: to64),
    stack: Flat.stack(selector: selector &+ (to64 ? 40 : 24), level: 3),
    rip: to64 ? target : target & 0xFFFF_FFFF)
}

@inline(never)
func swapBase(_ cpu: CPU) -> Bool {
  guard cpu.hasMode(SOFT_MODE_CODE64) else { return invalidOpcode(cpu) }
  guard requireSupervisor(cpu) else { return false }
  let segment = cpu.segments + Int(SOFT_GS)
  let base = segment.pointee.base
  segment.pointee.base = cpu.pointee.kernel_gs_base
  cpu.pointee.kernel_gs_base = base
  return true
}

/// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: groups 0 to 3 of F3 0F AE.
@inline(never)
func accessBase(_ cpu: CPU, _ operation: Operation, index: Int, isWrite: Bool) -> Bool {
  guard cpu.hasMode(SOFT_MODE_CODE64), cpu.pointee.cr4 & Control4.baseAccess != 0 else {
    return invalidOpcode(cpu)
  }
  let count: UInt64 = operandBytes(operation) == 8 ? 8 : 4
  let segment = cpu.segments + index
  guard isWrite else {
    setRegister(cpu, operation.pointee.rm, segment.pointee.base, count: count)
    return true
  }
  let value = cpu.registers[Int(operation.pointee.rm)] & byteMask(count)
  guard isCanonical(value) else { return protectionFault(cpu) }
  segment.pointee.base = value
  return true
}

/// VMCALL and VMMCALL, as a guest of KVM knows them (Linux, Documentation/virt/kvm/x86/hypercalls.rst): there are none
/// here, and that is what they say.
@inline(never)
func hypercall(_ cpu: CPU) -> Bool {
  guard cpu.hasMode(SOFT_MODE_PROTECTED) else { return invalidOpcode(cpu) }
  guard !leaves(cpu) else { return false }
  // KVM_EPERM for user code, KVM_ENOSYS.
  let result: Int64 = cpu.pointee.cpl == 0 ? -1000 : -1
  let isLong = cpu.hasMode(SOFT_MODE_CODE64)
  setRegister(
    cpu, UInt8(SOFT_RAX), UInt64(bitPattern: result), count: isLong ? 8 : 4)
  return true
}
