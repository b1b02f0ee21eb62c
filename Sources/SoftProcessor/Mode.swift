// What the registers say about how code is decoded and what it may do.
import CSoftProcessor

enum SegmentAttribute {
  static let accessed: UInt16 = 1 << 0
  /// Data: writable. Code: readable.
  static let writable: UInt16 = 1 << 1
  /// Data: expand-down. Code: conforming.
  static let expandDown: UInt16 = 1 << 2
  static let code: UInt16 = 1 << 3
  /// S: not a system segment.
  static let codeOrData: UInt16 = 1 << 4
  static let present: UInt16 = 1 << 7
  static let long: UInt16 = 1 << 13
  static let default32: UInt16 = 1 << 14
  static let granular: UInt16 = 1 << 15
}

extension soft_segment {
  @inline(__always) var privilegeLevel: UInt32 { UInt32(attributes >> 5 & 3) }
  @inline(__always) func has(_ bit: UInt16) -> Bool { attributes & bit != 0 }
}

/// Computes what follows from CR0, CR4, EFER, RFLAGS and the segments: mode, privilege level, access class. Called by
/// whatever changes one of them; blocks end there.
@inline(never)
func updateMode(_ cpu: CPU) {
  let isProtected = cpu.pointee.cr0 & Control0.protection != 0
  let flags = cpu.pointee.flags_other
  let isVirtual = isProtected && flags & SystemFlag.virtual8086 != 0
  let isLong = cpu.pointee.efer & Extended.longModeActive != 0
  let segments = cpu.segments
  let code = segments[Int(SOFT_CS)]

  // The stack segment's privilege level is the processor's, also with a null selector: see `loadStack`.
  let level: UInt32 = !isProtected ? 0 : isVirtual ? 3 : segments[Int(SOFT_SS)].privilegeLevel
  var mode = 0
  if isLong { mode |= Int(SOFT_MODE_LONG) }
  if isVirtual {
    mode |= Int(SOFT_MODE_V86)
  } else if isProtected {
    mode |= Int(SOFT_MODE_PROTECTED)
  }
  if isLong, code.has(SegmentAttribute.long) {
    mode |= Int(SOFT_MODE_CODE64) | Int(SOFT_MODE_FLAT)
  } else {
    if code.has(SegmentAttribute.default32) { mode |= Int(SOFT_MODE_CODE32) }
    if segments[Int(SOFT_SS)].has(SegmentAttribute.default32) { mode |= Int(SOFT_MODE_STACK32) }
    if isProtected, !isVirtual, isFlat(segments) { mode |= Int(SOFT_MODE_FLAT) }
  }
  if level == 3 { mode |= Int(SOFT_MODE_USER) }
  // Breakpoints are looked at between instructions.
  if flags & SystemFlag.trap != 0 || cpu.pointee.interrupt_shadow != 0
    || soft_debug_registers(cpu)[7] & 0xFF != 0
  {
    mode |= Int(SOFT_MODE_SINGLE)
  }
  if let debugger = cpu.pointee.debugger, debugger.wantsSingleSteps {
    mode |= Int(SOFT_MODE_SINGLE)
  }
  cpu.pointee.mode = UInt32(mode)
  cpu.pointee.cpl = level

  let classNumber =
    level == 3
    ? AccessClass.user
    : flags & SystemFlag.alignmentCheck != 0
      && cpu.pointee.cr4 & Control4.supervisorAccess != 0
      ? AccessClass.supervisorOnUser : AccessClass.supervisor
  cpu.pointee.tlb_class = classNumber
  cpu.pointee.tlb = cpu.pointee.tlb_entries + Int(classNumber) * Int(SOFT_TLB_COUNT)
}

/// Base 0, limit 4 GiB, readable code, writable data: no check can fail.
private func isFlat(_ segments: UnsafeMutablePointer<soft_segment>) -> Bool {
  for index in [Int(SOFT_ES), Int(SOFT_CS), Int(SOFT_SS), Int(SOFT_DS)] {
    let segment = segments[index]
    guard segment.base == 0, segment.limit == .max,
      segment.has(SegmentAttribute.present), segment.has(SegmentAttribute.codeOrData),
      segment.has(SegmentAttribute.writable)
    else { return false }
    if index == Int(SOFT_CS) { continue }
    guard !segment.has(SegmentAttribute.code), !segment.has(SegmentAttribute.expandDown) else {
      return false
    }
  }
  return true
}
