// Task switches by hardware (Intel SDM 3A, chapter 7), with task states of the 80386 and the 80286.
import CSoftProcessor

enum TaskSwitchReason { case jump, call, interruptReturn }

/// A descriptor of a task state that may be switched to; nil after an exception.
///
/// - Parameter exception: for what is wrong with the selector: #GP for transfers, #TS for a return.
func loadTaskDescriptor(
  _ cpu: CPU, _ selector: UInt16, failure exception: Exception, busy: Bool = false
) -> Descriptor? {
  guard selector & 4 == 0, selector & 0xFFFC != 0 else {
    raise(cpu, exception, selector: selector)
    return nil
  }
  guard let task = loadDescriptor(cpu, selector, beyond: exception) else { return nil }
  let isTask =
    busy
    ? task.type == SystemType.busyTask || task.type == SystemType.busyTask16
    : task.type == SystemType.availableTask || task.type == SystemType.availableTask16
  guard isTask else {
    raise(cpu, exception, selector: selector)
    return nil
  }
  guard task.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return nil
  }
  return task
}

/// Offsets in a task state.
private struct TaskLayout {
  let isWide: Bool
  var width: UInt64 { isWide ? 4 : 2 }
  var size: UInt64 { isWide ? 0x68 : 0x2C }
  var instructionPointer: UInt64 { isWide ? 0x20 : 0x0E }
  var flags: UInt64 { isWide ? 0x24 : 0x10 }
  var registers: UInt64 { isWide ? 0x28 : 0x12 }
  var segments: UInt64 { isWide ? 0x48 : 0x22 }
  var localTable: UInt64 { isWide ? 0x60 : 0x2A }
  /// FS and GS came with the 80386.
  var segmentCount: Int { isWide ? 6 : 4 }
}

/// What a new task starts with.
private struct TaskImage {
  var control3: UInt64 = 0
  var instructionPointer: UInt64 = 0
  var flags: UInt64 = 0
  var registers = InlineArray<8, UInt64>(repeating: 0)
  var segments = InlineArray<6, UInt16>(repeating: 0)
  var localTable: UInt16 = 0
  var hasTrap = false
}

/// Switches to a task; `rip` is where the old one goes on. False after an exception; one that comes from the new task's
/// own state belongs to the new task.
@inline(never)
func switchTask(
  _ cpu: CPU, _ selector: UInt16, _ descriptor: Descriptor, reason: TaskSwitchReason
) -> Bool {
  let layout = TaskLayout(isWide: descriptor.type & 8 != 0)
  guard UInt64(descriptor.limit) >= layout.size - 1 else {
    raise(cpu, .invalidTaskState, selector: selector)
    return false
  }
  let old = cpu.segments[Int(SOFT_TR)]
  let oldLayout = TaskLayout(isWide: old.attributes & 8 != 0)
  guard UInt64(old.limit) >= oldLayout.size - 1 else {
    raise(cpu, .invalidTaskState, selector: old.selector)
    return false
  }
  // Everything that can fault in the old task's name comes first.
  guard
    probeStore(
      cpu, old.base, count: oldLayout.size, classNumber: AccessClass.supervisor),
    probeStore(cpu, descriptor.base, count: 2, classNumber: AccessClass.supervisor),
    let image = readImage(cpu, descriptor.base, layout)
  else { return false }
  guard setBusy(cpu, old: old, new: descriptor, reason: reason) else { return false }

  var flags = UInt64(currentFlags(cpu))
  if reason == .interruptReturn { flags &= ~UInt64(SystemFlag.nestedTask) }
  guard writeImage(cpu, old.base, oldLayout, flags: flags) else { return false }
  if reason == .call {
    guard systemStore(cpu, descriptor.base, UInt64(old.selector), count: 2) else { return false }
  }
  return load(cpu, image, layout, selector, descriptor, reason: reason)
}

private func setBusy(
  _ cpu: CPU, old: soft_segment, new: Descriptor, reason: TaskSwitchReason
) -> Bool {
  if reason != .call {
    guard let address = descriptorAddress(cpu, old.selector),
      let type = systemLoad(cpu, address &+ 5, count: 1),
      systemStore(cpu, address &+ 5, type & ~2, count: 1)
    else {
      if cpu.pointee.exception == UInt32(SOFT_EXCEPTION_NONE) {
        raise(cpu, .invalidTaskState, selector: old.selector)
      }
      return false
    }
  }
  if reason != .interruptReturn {
    return systemStore(cpu, new.address &+ 5, new.raw >> 40 & 0xFF | 2, count: 1)
  }
  return true
}

private func readImage(_ cpu: CPU, _ base: UInt64, _ layout: TaskLayout) -> TaskImage? {
  var image = TaskImage()
  let width = layout.width
  guard let pointer = systemLoad(cpu, base &+ layout.instructionPointer, count: width),
    let flags = systemLoad(cpu, base &+ layout.flags, count: width),
    let table = systemLoad(cpu, base &+ layout.localTable, count: 2)
  else { return nil }
  image.instructionPointer = pointer
  image.flags = flags
  image.localTable = UInt16(truncatingIfNeeded: table)
  for index in 0..<8 {
    guard
      let value = systemLoad(cpu, base &+ layout.registers &+ UInt64(index) &* width, count: width)
    else { return nil }
    // The upper halves are not in a state of the 80286.
    image.registers[index] = layout.isWide ? value : value | 0xFFFF_0000
  }
  for index in 0..<layout.segmentCount {
    guard let value = systemLoad(cpu, base &+ layout.segments &+ UInt64(index) &* width, count: 2)
    else { return nil }
    image.segments[index] = UInt16(truncatingIfNeeded: value)
  }
  if layout.isWide {
    guard let control = systemLoad(cpu, base &+ 0x1C, count: 4),
      let trap = systemLoad(cpu, base &+ 0x64, count: 2)
    else { return nil }
    image.control3 = control
    image.hasTrap = trap & 1 == 1
  }
  return image
}

private func writeImage(
  _ cpu: CPU, _ base: UInt64, _ layout: TaskLayout, flags: UInt64
) -> Bool {
  let width = layout.width
  guard systemStore(cpu, base &+ layout.instructionPointer, cpu.pointee.rip, count: width),
    systemStore(cpu, base &+ layout.flags, flags, count: width)
  else { return false }
  for index in 0..<8 {
    guard
      systemStore(
        cpu, base &+ layout.registers &+ UInt64(index) &* width, cpu.registers[index], count: width)
    else { return false }
  }
  for index in 0..<layout.segmentCount {
    guard
      systemStore(
        cpu, base &+ layout.segments &+ UInt64(index) &* width,
        UInt64(cpu.segments[index].selector), count: 2)
    else { return false }
  }
  return true
}

/// The part of the switch that happens in the new task.
private func load(
  _ cpu: CPU, _ image: TaskImage, _ layout: TaskLayout, _ selector: UInt16,
  _ descriptor: Descriptor, reason: TaskSwitchReason
) -> Bool {
  var task = descriptor.segment(selector: selector)
  task.attributes |= 2
  cpu.segments[Int(SOFT_TR)] = task
  cpu.pointee.cr0 |= Control0.taskSwitched
  if layout.isWide, cpu.pointee.cr0 & Control0.paging != 0, image.control3 != cpu.pointee.cr3 {
    cpu.pointee.cr3 = image.control3
    if cpu.pointee.cr4 & Control4.physicalAddressExtension != 0 {
      _ = loadPageDirectoryPointers(cpu, image.control3)
    }
    flushTranslations(cpu, keepGlobal: true)
  }
  cpu.pointee.rip = image.instructionPointer
  for index in 0..<8 { cpu.registers[index] = image.registers[index] }
  var flags = UInt32(truncatingIfNeeded: image.flags)
  if reason == .call { flags |= SystemFlag.nestedTask }
  setFlags(cpu, flags, mask: layout.isWide ? 0x3F_7FD5 : 0x7FD5)
  // Local breakpoints do not go with the task.
  soft_debug_registers(cpu)[7] &= ~0x155

  // Selectors first, without descriptors: what faults from here on is the new task's.
  for index in 0..<6 {
    cpu.segments[index] = soft_segment(
      base: 0, limit: 0, selector: image.segments[index], attributes: 0)
  }
  cpu.segments[Int(SOFT_LDTR)] = soft_segment(
    base: 0, limit: 0, selector: image.localTable, attributes: 0)
  let isVirtual = flags & SystemFlag.virtual8086 != 0
  let level: UInt32 = isVirtual ? 3 : UInt32(image.segments[Int(SOFT_CS)] & 3)
  cpu.segments[Int(SOFT_SS)].attributes = UInt16(truncatingIfNeeded: level << 5)
  updateMode(cpu)
  guard loadLocalTable(cpu, image.localTable, failure: .invalidTaskState) else { return false }
  if isVirtual {
    for index in 0..<6 { loadRealSegment(cpu, index, image.segments[index]) }
  } else {
    guard loadTaskSegments(cpu, image, level: level) else { return false }
  }
  updateMode(cpu)
  guard image.instructionPointer <= UInt64(cpu.segments[Int(SOFT_CS)].limit) else {
    return protectionFault(cpu)
  }
  if image.hasTrap {
    // T: a debug exception before the first instruction.
    soft_debug_registers(cpu)[6] |= 1 << 15
    raise(cpu, .debug)
    cpu.pointee.exception_error = 1
    return false
  }
  return true
}

private func loadTaskSegments(_ cpu: CPU, _ image: TaskImage, level: UInt32) -> Bool {
  let codeSelector = image.segments[Int(SOFT_CS)]
  guard codeSelector & 0xFFFC != 0 else {
    raise(cpu, .invalidTaskState, selector: codeSelector)
    return false
  }
  guard var code = loadDescriptor(cpu, codeSelector, beyond: .invalidTaskState) else {
    return false
  }
  guard code.isCode,
    code.isConforming ? code.privilegeLevel <= level : code.privilegeLevel == level
  else {
    raise(cpu, .invalidTaskState, selector: codeSelector)
    return false
  }
  guard code.isPresent else {
    raise(cpu, .segmentNotPresent, selector: codeSelector)
    return false
  }
  guard
    let stack = checkedStackSegment(
      cpu, image.segments[Int(SOFT_SS)], level: level, failure: .invalidTaskState),
    markAccessed(cpu, &code)
  else { return false }
  cpu.segments[Int(SOFT_SS)] = stack
  cpu.segments[Int(SOFT_CS)] = code.segment(selector: codeSelector)
  updateMode(cpu)
  for index in [Int(SOFT_ES), Int(SOFT_DS), Int(SOFT_FS), Int(SOFT_GS)] {
    guard loadSegment(cpu, index, image.segments[index]) else {
      // The selector is wrong in the task state, not in an instruction.
      if cpu.pointee.exception == Exception.generalProtection.rawValue {
        cpu.pointee.exception = Exception.invalidTaskState.rawValue
      }
      return false
    }
  }
  return true
}
