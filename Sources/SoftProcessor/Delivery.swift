// Delivery of exceptions and interrupts: which table, which checks, which stack (Intel SDM 3A, chapter 6; 6.15 for
// double faults).
import CSoftProcessor

/// What an event is: how it is checked and what it pushes.
enum EventKind {
  case exception
  /// INT n.
  case software
  /// INT3, INTO: an exception by an instruction, without the check of IOPL in virtual-8086 mode.
  case softwareException
  /// INT1: without the check of the gate's privilege level.
  case privilegedSoftware
  case external
  case nonMaskable

  /// The gate's privilege level must allow it.
  var isChecked: Bool { self == .software || self == .softwareException }
  /// EXT in error codes.
  var isExternal: Bool { self == .exception || self == .external || self == .nonMaskable }
}

/// One event on its way.
struct Event {
  var vector: UInt32
  var kind: EventKind
  var errorCode: UInt32?
  /// Sets RF in the flags that are pushed: the instruction will be started again.
  var restarts = false
}

/// Delivers the exception that the instruction in hand raised; what goes wrong meanwhile becomes a double fault and
/// then a shutdown. `rip` is the instruction.
@inline(never)
func deliverException(_ cpu: CPU) {
  var vector = cpu.pointee.exception
  while vector != UInt32(SOFT_EXCEPTION_NONE) {
    var event = Event(vector: vector, kind: .exception)
    if cpu.pointee.exception_has_error != 0 { event.errorCode = cpu.pointee.exception_error }
    // A trap of #DB carries a mark in its (unused) error code.
    event.restarts = vector != 1 || cpu.pointee.exception_error == 0
    cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
    cpu.pointee.interrupt_shadow = 0
    cpu.pointee.step_pending = 0
    cpu.pointee.debug_hits = 0
    // The trap of a single step ends HLT.
    if cpu.pointee.activity == 1 { cpu.pointee.activity = 0 }
    if deliver(cpu, event) { return }
    let second = cpu.pointee.exception
    if vector == Exception.doubleFault.rawValue {
      cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
      cpu.pointee.activity = 3
      soft_post(cpu, UInt32(SOFT_EVENT_SELF))
      return
    }
    if isDoubleFault(first: vector, second: second) {
      raise(cpu, .doubleFault, error: 0)
    }
    vector = cpu.pointee.exception
  }
}

/// Table 6-5 of the manual.
private func isDoubleFault(first: UInt32, second: UInt32) -> Bool {
  func isContributory(_ vector: UInt32) -> Bool { vector == 0 || (10...13).contains(vector) }
  let isSecondContributory = isContributory(second)
  if isContributory(first) { return isSecondContributory }
  if first == Exception.pageFault.rawValue {
    return isSecondContributory || second == Exception.pageFault.rawValue
  }
  return false
}

/// Delivers an interrupt between two instructions, or that of an INT instruction (`rip` is then the next one). False
/// after raising an exception; the interrupt is lost then, as on the processor.
@inline(never)
func deliverInterrupt(_ cpu: CPU, vector: UInt32, kind: EventKind) -> Bool {
  // Before the mode is computed for the handler.
  cpu.pointee.interrupt_shadow = 0
  guard deliver(cpu, Event(vector: vector & 0xFF, kind: kind)) else { return false }
  if kind == .nonMaskable { cpu.pointee.nmi_blocked = 1 }
  if kind.isExternal { cpu.pointee.activity = 0 }
  cpu.pointee.step_pending = 0
  return true
}

private func deliver(_ cpu: CPU, _ event: Event) -> Bool {
  cpu.pointee.external_event = event.kind.isExternal ? 1 : 0
  defer { cpu.pointee.external_event = 0 }
  if cpu.hasMode(SOFT_MODE_LONG) { return deliverLong(cpu, event) }
  if cpu.hasMode(SOFT_MODE_PROTECTED) || cpu.hasMode(SOFT_MODE_V86) {
    return deliverProtected(cpu, event)
  }
  return deliverReal(cpu, event)
}

// MARK: Real mode

private func deliverReal(_ cpu: CPU, _ event: Event) -> Bool {
  let offset = event.vector &* 4
  guard offset &+ 3 <= cpu.pointee.idtr_limit else { return protectionFault(cpu) }
  let address = (cpu.pointee.idtr_base &+ UInt64(offset)) & 0xFFFF_FFFF
  guard let target = systemLoad(cpu, address, count: 4) else { return false }
  var stack = SystemStack(cpu)
  guard stack.reserve(3, width: 2),
    stack.push(UInt64(currentFlags(cpu)) & 0xFFFF, width: 2),
    stack.push(UInt64(cpu.segments[Int(SOFT_CS)].selector), width: 2),
    stack.push(cpu.pointee.rip & 0xFFFF, width: 2)
  else { return false }
  stack.commit()
  loadRealSegment(cpu, Int(SOFT_CS), UInt16(truncatingIfNeeded: target >> 16))
  cpu.pointee.rip = target & 0xFFFF
  cpu.pointee.flags_other &=
    ~(SystemFlag.interrupt | SystemFlag.trap | SystemFlag.alignmentCheck | SystemFlag.resume)
  updateMode(cpu)
  return true
}

// MARK: The gate

/// Reads the event's gate with the checks that every mode makes; nil after an exception.
private func loadGate(_ cpu: CPU, _ event: Event) -> Descriptor? {
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  let size: UInt32 = isLong ? 16 : 8
  let error = event.vector &* 8 | 2 | cpu.pointee.external_event
  let offset = event.vector &* size
  func refused(_ exception: Exception = .generalProtection) -> Descriptor? {
    raise(cpu, exception, error: error)
    return nil
  }
  guard offset &+ size &- 1 <= cpu.pointee.idtr_limit else { return refused() }
  let address = cpu.pointee.idtr_base &+ UInt64(offset)
  guard let raw = systemLoad(cpu, address, count: 8) else { return nil }
  var gate = Descriptor(raw: raw, address: address)
  if isLong {
    guard let high = systemLoad(cpu, address &+ 8, count: 8) else { return nil }
    gate.high = UInt32(truncatingIfNeeded: high)
  }
  switch gate.type {
  case SystemType.interruptGate, SystemType.trapGate: break
  case SystemType.interruptGate16, SystemType.trapGate16, SystemType.taskGate:
    guard !isLong else { return refused() }
  default: return refused()
  }
  if event.kind.isChecked, gate.privilegeLevel < cpu.pointee.cpl { return refused() }
  guard gate.isPresent else { return refused(.segmentNotPresent) }
  return gate
}

/// The code segment of a gate; nil after an exception.
private func loadHandlerSegment(_ cpu: CPU, _ gate: Descriptor) -> Descriptor? {
  let selector = gate.gateSelector
  guard selector & 0xFFFC != 0 else {
    raiseZero(cpu, .generalProtection)
    return nil
  }
  guard let code = loadDescriptor(cpu, selector) else { return nil }
  let isLong = cpu.hasMode(SOFT_MODE_LONG)
  guard code.isCode, code.privilegeLevel <= cpu.pointee.cpl,
    !isLong || (code.isLong && !code.isDefault32)
  else {
    raise(cpu, .generalProtection, selector: selector)
    return nil
  }
  guard code.isPresent else {
    raise(cpu, .segmentNotPresent, selector: selector)
    return nil
  }
  return code
}

private func pushedFlags(_ cpu: CPU, _ event: Event) -> UInt64 {
  var flags = currentFlags(cpu)
  if event.restarts { flags |= SystemFlag.resume }
  return UInt64(flags)
}

/// What the flags become in the handler.
private func setHandlerFlags(_ cpu: CPU, isInterruptGate: Bool) {
  cpu.pointee.flags_other &=
    ~(SystemFlag.trap | SystemFlag.nestedTask | SystemFlag.resume | SystemFlag.virtual8086)
  if isInterruptGate { cpu.pointee.flags_other &= ~SystemFlag.interrupt }
}

// MARK: Long mode

private func deliverLong(_ cpu: CPU, _ event: Event) -> Bool {
  guard let gate = loadGate(cpu, event), var code = loadHandlerSegment(cpu, gate) else {
    return false
  }
  let target = gate.gateOffset
  guard isCanonical(target) else { return protectionFault(cpu) }
  let level = code.isConforming ? cpu.pointee.cpl : code.privilegeLevel
  let isInner = level < cpu.pointee.cpl
  let stackNumber = UInt64(gate.raw >> 32 & 7)

  var pointer = cpu.registers[Int(SOFT_RSP)]
  if stackNumber != 0 || isInner {
    // RSP0 to RSP2 at 4, IST1 to IST7 at 36.
    let offset = stackNumber != 0 ? 28 &+ stackNumber &* 8 : 4 &+ UInt64(level) &* 8
    guard let loaded = loadTaskField(cpu, offset, count: 8) else { return false }
    pointer = loaded
  }
  pointer &= ~0xF
  let classNumber =
    isInner ? SystemStack.classNumber(level: level) : cpu.pointee.tlb_class
  var stack = SystemStack(
    cpu, segment: cpu.segments[Int(SOFT_SS)], pointer: pointer, is64: true,
    classNumber: classNumber, errorSelector: 0)
  let count: UInt64 = event.errorCode == nil ? 5 : 6
  guard isCanonical(pointer) else {
    raiseZero(cpu, .stackFault)
    return false
  }
  guard probeStore(cpu, pointer &- count &* 8, count: count &* 8, classNumber: classNumber)
  else { return false }
  guard stack.push(UInt64(cpu.segments[Int(SOFT_SS)].selector), width: 8),
    stack.push(cpu.registers[Int(SOFT_RSP)], width: 8),
    stack.push(pushedFlags(cpu, event), width: 8),
    stack.push(UInt64(cpu.segments[Int(SOFT_CS)].selector), width: 8),
    stack.push(cpu.pointee.rip, width: 8)
  else { return false }
  if let errorCode = event.errorCode {
    guard stack.push(UInt64(errorCode), width: 8) else { return false }
  }
  guard markAccessed(cpu, &code) else { return false }
  if isInner {
    cpu.segments[Int(SOFT_SS)] = nullStack(
      selector: UInt16(truncatingIfNeeded: level), level: level)
  }
  cpu.registers[Int(SOFT_RSP)] = stack.pointer
  cpu.segments[Int(SOFT_CS)] = code.segment(
    selector: gate.gateSelector & 0xFFFC | UInt16(truncatingIfNeeded: level))
  cpu.pointee.rip = target
  setHandlerFlags(cpu, isInterruptGate: gate.type == SystemType.interruptGate)
  updateMode(cpu)
  return true
}

/// A field of the current task state; #TS with its selector if it lies beyond the limit.
func loadTaskField(_ cpu: CPU, _ offset: UInt64, count: UInt64) -> UInt64? {
  let task = cpu.segments[Int(SOFT_TR)]
  guard offset &+ count &- 1 <= UInt64(task.limit) else {
    raise(cpu, .invalidTaskState, selector: task.selector)
    return nil
  }
  return systemLoad(cpu, task.base &+ offset, count: count)
}

// MARK: Protected and virtual-8086 mode

private func deliverProtected(_ cpu: CPU, _ event: Event) -> Bool {
  let isVirtual = cpu.hasMode(SOFT_MODE_V86)
  if isVirtual, event.kind == .software {
    if cpu.pointee.cr4 & Control4.virtual8086 != 0, let isRedirected = redirects(cpu, event.vector)
    {
      if isRedirected { return deliverRedirected(cpu, event) }
    } else if cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE) {
      return false
    }
    guard cpu.pointee.flags_other & SystemFlag.privilegeLevel == SystemFlag.privilegeLevel else {
      return protectionFault(cpu)
    }
  }
  guard let gate = loadGate(cpu, event) else { return false }
  if gate.type == SystemType.taskGate {
    return deliverByTask(cpu, event, gate)
  }
  guard var code = loadHandlerSegment(cpu, gate) else { return false }
  let level = code.isConforming ? cpu.pointee.cpl : code.privilegeLevel
  let isInner = level < cpu.pointee.cpl
  if isVirtual, !isInner || level != 0 {
    raise(cpu, .generalProtection, selector: gate.gateSelector)
    return false
  }
  guard gate.gateOffset & gateMask(gate) <= UInt64(code.limit) else { return protectionFault(cpu) }

  let width: UInt64 = gate.type & 8 != 0 ? 4 : 2
  let flags = pushedFlags(cpu, event)
  let old = cpu.segments[Int(SOFT_SS)].selector
  let oldPointer = cpu.registers[Int(SOFT_RSP)]
  var stack: SystemStack
  if isInner {
    guard let inner = innerStack(cpu, level: level) else { return false }
    stack = inner
  } else {
    stack = SystemStack(cpu)
  }
  var count: UInt64 = event.errorCode == nil ? 3 : 4
  if isInner { count &+= isVirtual ? 6 : 2 }
  guard stack.reserve(count, width: width) else { return false }
  if isVirtual {
    for index in [Int(SOFT_GS), Int(SOFT_FS), Int(SOFT_DS), Int(SOFT_ES)] {
      guard stack.push(UInt64(cpu.segments[index].selector), width: width) else { return false }
    }
  }
  if isInner {
    guard stack.push(UInt64(old), width: width), stack.push(oldPointer, width: width) else {
      return false
    }
  }
  guard stack.push(flags, width: width),
    stack.push(UInt64(cpu.segments[Int(SOFT_CS)].selector), width: width),
    stack.push(cpu.pointee.rip, width: width)
  else { return false }
  if let errorCode = event.errorCode {
    guard stack.push(UInt64(errorCode), width: width) else { return false }
  }
  guard markAccessed(cpu, &code) else { return false }

  setHandlerFlags(
    cpu,
    isInterruptGate: gate.type == SystemType.interruptGate
      || gate.type == SystemType.interruptGate16)
  if isInner { cpu.segments[Int(SOFT_SS)] = stack.segment }
  stack.commit()
  if isVirtual {
    for index in [Int(SOFT_GS), Int(SOFT_FS), Int(SOFT_DS), Int(SOFT_ES)] {
      cpu.segments[index] = soft_segment(base: 0, limit: 0, selector: 0, attributes: 0)
    }
  }
  cpu.segments[Int(SOFT_CS)] = code.segment(
    selector: gate.gateSelector & 0xFFFC | UInt16(truncatingIfNeeded: level))
  cpu.pointee.rip = gate.gateOffset & gateMask(gate)
  updateMode(cpu)
  return true
}

/// Gates of the 80286 have offsets of 16 bits.
func gateMask(_ gate: Descriptor) -> UInt64 { gate.type & 8 != 0 ? 0xFFFF_FFFF : 0xFFFF }

/// The stack that the task state has for an inner privilege level; nil after #TS or #SS.
func innerStack(_ cpu: CPU, level: UInt32) -> SystemStack? {
  let task = cpu.segments[Int(SOFT_TR)]
  let isWide = task.attributes & 8 != 0
  let offset = isWide ? 4 &+ UInt64(level) &* 8 : 2 &+ UInt64(level) &* 4
  guard offset &+ (isWide ? 5 : 3) <= UInt64(task.limit) else {
    raise(cpu, .invalidTaskState, selector: task.selector)
    return nil
  }
  guard let pointer = systemLoad(cpu, task.base &+ offset, count: isWide ? 4 : 2),
    let selector = systemLoad(cpu, task.base &+ offset &+ (isWide ? 4 : 2), count: 2)
  else { return nil }
  let stackSelector = UInt16(truncatingIfNeeded: selector)
  guard
    let segment = checkedStackSegment(
      cpu, stackSelector, level: level, failure: .invalidTaskState)
  else { return nil }
  return SystemStack(
    cpu, segment: segment, pointer: pointer, is64: false,
    classNumber: SystemStack.classNumber(level: level), errorSelector: stackSelector)
}

private func deliverByTask(_ cpu: CPU, _ event: Event, _ gate: Descriptor) -> Bool {
  let selector = gate.gateSelector
  guard let task = loadTaskDescriptor(cpu, selector, failure: .generalProtection) else {
    return false
  }
  guard switchTask(cpu, selector, task, reason: .call) else { return false }
  guard let errorCode = event.errorCode else { return true }
  let width: UInt64 = task.type & 8 != 0 ? 4 : 2
  var stack = SystemStack(cpu)
  guard stack.reserve(1, width: width), stack.push(UInt64(errorCode), width: width) else {
    return false
  }
  stack.commit()
  return true
}

// MARK: Virtual-8086 mode extensions

/// Whether INT n goes to the virtual machine's own table (bit clear in the redirection map, SDM 3A, 20.3.3); nil after
/// an exception or where the map is missing.
private func redirects(_ cpu: CPU, _ vector: UInt32) -> Bool? {
  guard let base = loadTaskField(cpu, 0x66, count: 2) else { return nil }
  let offset = base &- 32 &+ UInt64(vector >> 3)
  guard base >= 32, offset <= UInt64(cpu.segments[Int(SOFT_TR)].limit) else {
    raiseZero(cpu, .generalProtection)
    return nil
  }
  guard let bits = systemLoad(cpu, cpu.segments[Int(SOFT_TR)].base &+ offset, count: 1) else {
    return nil
  }
  return bits >> UInt64(vector & 7) & 1 == 0
}

/// As in real mode, with VIF in place of IF below IOPL 3.
private func deliverRedirected(_ cpu: CPU, _ event: Event) -> Bool {
  guard
    let target = load(
      cpu, UInt64(event.vector &* 4), count: 4, classNumber: cpu.pointee.tlb_class)
  else { return false }
  let isFree =
    cpu.pointee.flags_other & SystemFlag.privilegeLevel == SystemFlag.privilegeLevel
  var flags = currentFlags(cpu)
  if !isFree {
    flags |= SystemFlag.privilegeLevel
    flags &= ~SystemFlag.interrupt
    if flags & SystemFlag.virtualInterrupt != 0 { flags |= SystemFlag.interrupt }
  }
  var stack = SystemStack(cpu)
  guard stack.reserve(3, width: 2), stack.push(UInt64(flags) & 0xFFFF, width: 2),
    stack.push(UInt64(cpu.segments[Int(SOFT_CS)].selector), width: 2),
    stack.push(cpu.pointee.rip & 0xFFFF, width: 2)
  else { return false }
  stack.commit()
  loadRealSegment(cpu, Int(SOFT_CS), UInt16(truncatingIfNeeded: target >> 16))
  cpu.pointee.rip = target & 0xFFFF
  cpu.pointee.flags_other &= ~(SystemFlag.trap | SystemFlag.nestedTask)
  cpu.pointee.flags_other &= ~(isFree ? SystemFlag.interrupt : SystemFlag.virtualInterrupt)
  updateMode(cpu)
  return true
}
