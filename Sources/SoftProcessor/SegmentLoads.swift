// Loading segment registers (Intel SDM 3A, 3.4.4 and 5.5; 2B, MOV).
import CSoftProcessor

/// Loads ES, SS, DS, FS or GS; false after raising an exception, and then nothing changed. The caller ends the block.
@inline(never)
func loadSegment(_ cpu: CPU, _ index: Int, _ selector: UInt16) -> Bool {
  let segment = cpu.segments + index
  guard cpu.hasMode(SOFT_MODE_PROTECTED) else {
    loadRealSegment(cpu, index, selector)
    updateMode(cpu)
    return true
  }
  if index == Int(SOFT_SS) {
    guard let loaded = checkedStackSegment(cpu, selector, level: cpu.pointee.cpl) else {
      return false
    }
    segment.pointee = loaded
    updateMode(cpu)
    return true
  }
  guard selector & 0xFFFC != 0 else {
    segment.pointee = soft_segment(base: 0, limit: 0, selector: selector, attributes: 0)
    if !cpu.hasMode(SOFT_MODE_CODE64) { updateMode(cpu) }
    return true
  }
  guard var descriptor = loadDescriptor(cpu, selector) else { return false }
  let requested = UInt32(selector & 3)
  guard descriptor.isReadable,
    descriptor.isConforming || descriptor.privilegeLevel >= max(requested, cpu.pointee.cpl)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return false
  }
  guard descriptor.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return false
  }
  guard markAccessed(cpu, &descriptor) else { return false }
  segment.pointee = descriptor.segment(selector: selector)
  if !cpu.hasMode(SOFT_MODE_CODE64) { updateMode(cpu) }
  return true
}

/// Real and virtual-8086 mode: the selector is the base.
func loadRealSegment(_ cpu: CPU, _ index: Int, _ selector: UInt16) {
  let segment = cpu.segments + index
  segment.pointee.selector = selector
  segment.pointee.base = UInt64(selector) << 4
  if cpu.hasMode(SOFT_MODE_V86) {
    segment.pointee.limit = 0xFFFF
    segment.pointee.attributes = 0xF3
  } else if index == Int(SOFT_CS) {
    // The limit and attributes of protected mode stay, except that the segment is of ring 0 and can be executed.
    segment.pointee.attributes = segment.pointee.attributes & 0xF000 | 0x93
  }
}

/// A stack segment for privilege level `level`, with every check; nil after raising an exception.
///
/// - Parameter exception: #GP for a load by an instruction, #TS for a stack out of a task state.
func checkedStackSegment(
  _ cpu: CPU, _ selector: UInt16, level: UInt32, failure exception: Exception = .generalProtection
) -> soft_segment? {
  guard selector & 0xFFFC != 0 else {
    // 64-bit code below ring 3 may run without a stack segment.
    guard exception == .generalProtection, cpu.hasMode(SOFT_MODE_CODE64), level < 3,
      UInt32(selector & 3) == level
    else {
      raise(cpu, exception, selector: selector & 0)
      return nil
    }
    return nullStack(selector: selector, level: level)
  }
  guard var descriptor = loadDescriptor(cpu, selector, beyond: exception) else { return nil }
  guard UInt32(selector & 3) == level, descriptor.isWritableData,
    descriptor.privilegeLevel == level
  else {
    raise(cpu, exception, selector: selector)
    return nil
  }
  guard descriptor.isPresent else {
    raise(cpu, .stackFault, selector: selector)
    return nil
  }
  guard markAccessed(cpu, &descriptor) else { return nil }
  return descriptor.segment(selector: selector)
}

/// A stack segment without a descriptor: its privilege level is still the processor's.
func nullStack(selector: UInt16, level: UInt32) -> soft_segment {
  soft_segment(
    base: 0, limit: 0, selector: selector, attributes: UInt16(truncatingIfNeeded: level << 5))
}

/// After a return to an outer level: what the inner level had in its data segments must not stay reachable.
func dropInnerSegments(_ cpu: CPU, level: UInt32) {
  for index in [Int(SOFT_ES), Int(SOFT_DS), Int(SOFT_FS), Int(SOFT_GS)] {
    let segment = cpu.segments + index
    let attributes = segment.pointee.attributes
    guard attributes & SegmentAttribute.present != 0 else { continue }
    let isConforming = attributes & 0x1C == 0x1C
    if !isConforming, segment.pointee.privilegeLevel < level {
      // The base stays: 64-bit code sees it through FS and GS.
      segment.pointee.selector = 0
      segment.pointee.attributes = 0
    }
  }
}
