// From `soft_cpu` to `ProcessorState` and back: how a machine is saved, and how an instruction moves here that the
// kernel could not emulate.
import CSoftProcessor
import Processor

/// Everything architectural of a processor that is between two instructions.
func saveState(_ cpu: CPU) -> ProcessorState {
  var state = ProcessorState()
  state.generalRegisters = (0..<16).map { cpu.registers[$0] }
  state.instructionPointer = cpu.pointee.rip
  state.flags = readRFLAGS(cpu)
  let segments = cpu.segments
  state.codeSegment = SegmentRegister(segments[Int(SOFT_CS)])
  state.dataSegment = SegmentRegister(segments[Int(SOFT_DS)])
  state.extraSegment = SegmentRegister(segments[Int(SOFT_ES)])
  state.extraSegmentF = SegmentRegister(segments[Int(SOFT_FS)])
  state.extraSegmentG = SegmentRegister(segments[Int(SOFT_GS)])
  state.stackSegment = SegmentRegister(segments[Int(SOFT_SS)])
  state.taskRegister = SegmentRegister(segments[Int(SOFT_TR)])
  state.localTable = SegmentRegister(segments[Int(SOFT_LDTR)])
  state.globalDescriptors = DescriptorTable(
    base: cpu.pointee.gdtr_base, limit: UInt16(truncatingIfNeeded: cpu.pointee.gdtr_limit))
  state.interruptDescriptors = DescriptorTable(
    base: cpu.pointee.idtr_base, limit: UInt16(truncatingIfNeeded: cpu.pointee.idtr_limit))
  state.control0 = cpu.pointee.cr0
  state.control2 = cpu.pointee.cr2
  state.control3 = cpu.pointee.cr3
  state.control4 = cpu.pointee.cr4
  state.control8 = readTaskPriority(cpu)
  state.extendedFeatures = cpu.pointee.efer
  state.apicBase = cpu.pointee.apic_base
  if hasPageDirectoryPointers(cpu) {
    state.pageDirectoryPointers = (0..<4).map { soft_page_directory_pointers(cpu)[$0] }
  }
  let debug = soft_debug_registers(cpu)
  state.debugAddresses = (0..<4).map { debug[$0] }
  state.debug6 = debug[6]
  state.debug7 = debug[7]
  state.extendedState = saveExtendedState(cpu)
  if offersExtendedSave(cpu) {
    state.extendedControls = [IndexedRegister(index: 0, value: cpu.pointee.xcr0)]
  }
  state.modelSpecificRegisters = savedRegisters.compactMap { index in
    modelRegister(cpu, index).map { IndexedRegister(index: index, value: $0) }
  }
  state.localAPIC = saveLocalAPIC(cpu)
  saveEvents(cpu, into: &state)
  return state
}

/// Takes a state over. What is empty in it stays as it is here.
///
/// - Returns: nil, or what is wrong with the state.
func restoreState(_ cpu: CPU, _ state: ProcessorState) -> String? {
  guard state.isWellFormed else { return "the processor's state is damaged" }
  guard state.nestedState.isEmpty else {
    return "a guest hypervisor is running, which the software processor does not know"
  }
  // AVX-512 and later lie behind the AVX state.
  let offered = offersExtendedSave(cpu) ? offeredStateComponents(cpu) : 0b11
  if state.extendedState.count >= 520 {
    let present = state.extendedState.littleEndian64(at: 512)
    guard present & ~(offered | 0b111) == 0 else {
      return "vector state \(String(present, radix: 16)) is in use, which the software processor "
        + "does not have"
    }
  }
  for index in 0..<16 { cpu.registers[index] = state.generalRegisters[index] }
  cpu.registers[Int(SOFT_ZERO)] = 0
  cpu.pointee.rip = state.instructionPointer
  cpu.pointee.block = nil
  writeRFLAGS(cpu, state.flags & 0x3F_7FD5, mask: 0x3F_7FD5)
  let segments = cpu.segments
  segments[Int(SOFT_CS)] = soft_segment(state.codeSegment)
  segments[Int(SOFT_DS)] = soft_segment(state.dataSegment)
  segments[Int(SOFT_ES)] = soft_segment(state.extraSegment)
  segments[Int(SOFT_FS)] = soft_segment(state.extraSegmentF)
  segments[Int(SOFT_GS)] = soft_segment(state.extraSegmentG)
  segments[Int(SOFT_SS)] = soft_segment(state.stackSegment)
  segments[Int(SOFT_TR)] = soft_segment(state.taskRegister)
  segments[Int(SOFT_LDTR)] = soft_segment(state.localTable)
  cpu.pointee.gdtr_base = state.globalDescriptors.base
  cpu.pointee.gdtr_limit = UInt32(state.globalDescriptors.limit)
  cpu.pointee.idtr_base = state.interruptDescriptors.base
  cpu.pointee.idtr_limit = UInt32(state.interruptDescriptors.limit)
  cpu.pointee.cr0 = state.control0 & 0xE005_002F | Control0.extensionType
  cpu.pointee.cr2 = state.control2
  cpu.pointee.cr3 = state.control3
  cpu.pointee.cr4 = state.control4
  cpu.pointee.efer = state.extendedFeatures
  let debug = soft_debug_registers(cpu)
  for index in 0..<4 { debug[index] = state.debugAddresses[index] }
  debug[6] = state.debug6
  debug[7] = state.debug7
  updateMode(cpu)
  flushTranslations(cpu, keepGlobal: false)
  if hasPageDirectoryPointers(cpu) {
    if state.pageDirectoryPointers.count == 4 {
      for index in 0..<4 {
        soft_page_directory_pointers(cpu)[index] = state.pageDirectoryPointers[index]
      }
    } else {
      _ = loadPageDirectoryPointers(cpu, state.control3)
    }
  }
  cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)

  // XCR0 says which part of the area counts.
  for control in state.extendedControls where control.index == 0 {
    cpu.pointee.xcr0 = control.value & (offered | 1)
  }
  restoreExtendedState(cpu, state.extendedState)
  var deadline: UInt64 = 0
  for register in state.modelSpecificRegisters {
    if register.index == ModelRegister.timerDeadline {
      deadline = register.value
    } else if register.index != ModelRegister.apicBase,
      register.index != ModelRegister.extendedFeatures
    {
      // Registers that do not exist here belong to features that CPUID does not show here.
      _ = setModelRegister(cpu, register.index, register.value)
    }
  }
  cpu.pointee.apic_base = state.apicBase
  if !state.localAPIC.isEmpty {
    guard restoreLocalAPIC(cpu, state.localAPIC, deadline: deadline) else {
      return "the local interrupt controller's state is damaged"
    }
  }
  writeTaskPriority(cpu, state.control8 & 15)
  restoreEvents(cpu, state)
  return nil
}

/// Delivers what a restored state had on its way. Once, when the processor begins to run.
func deliverRestoredEvents(_ cpu: CPU) {
  if cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE) { deliverException(cpu) }
  let interrupt = cpu.pointee.restored_interrupt
  guard interrupt != 0 else { return }
  cpu.pointee.restored_interrupt = 0
  let kind: EventKind =
    interrupt & 0x400 != 0 ? .nonMaskable : interrupt & 0x200 != 0 ? .software : .external
  if !deliverInterrupt(cpu, vector: interrupt & 0xFF, kind: kind) { deliverException(cpu) }
}

private func hasPageDirectoryPointers(_ cpu: CPU) -> Bool {
  cpu.pointee.cr0 & Control0.paging != 0
    && cpu.pointee.cr4 & Control4.physicalAddressExtension != 0
    && cpu.pointee.efer & Extended.longModeActive == 0
}

/// In the order in which they are written back: the clock's pages after the counter.
private let savedRegisters: [UInt32] =
  [
    ModelRegister.timeStamp, ModelRegister.enterCode, ModelRegister.enterStack,
    ModelRegister.enterTarget, ModelRegister.star, ModelRegister.longStar,
    ModelRegister.compatibilityStar, ModelRegister.callMask, ModelRegister.kernelBaseG,
    ModelRegister.processorNumber, ModelRegister.miscellaneous, ModelRegister.pageAttributes,
    ModelRegister.rangeDefault, ModelRegister.fixed64, 0x258, 0x259,
  ] + (UInt32(0x268)...0x26F) + (UInt32(0x200)...0x20F) + [
    0x4B56_4D00, 0x4B56_4D01, 0x4B56_4D03, ModelRegister.timerDeadline,
  ]

// MARK: Segments

extension SegmentRegister {
  init(_ segment: soft_segment) {
    let attributes = segment.attributes
    self.init(
      base: segment.base, limit: segment.limit, selector: segment.selector,
      type: UInt8(truncatingIfNeeded: attributes & 15),
      isCodeOrData: segment.has(SegmentAttribute.codeOrData),
      privilegeLevel: UInt8(truncatingIfNeeded: segment.privilegeLevel),
      isPresent: segment.has(SegmentAttribute.present), isAvailable: segment.has(1 << 12),
      isLong: segment.has(SegmentAttribute.long),
      isDefault32: segment.has(SegmentAttribute.default32),
      isPageGranular: segment.has(SegmentAttribute.granular),
      isUnusable: !segment.has(SegmentAttribute.present))
  }
}

extension soft_segment {
  init(_ segment: SegmentRegister) {
    var attributes = UInt16(truncatingIfNeeded: segment.accessRights & 0xF0FF)
    if segment.isUnusable { attributes &= ~SegmentAttribute.present }
    self.init(
      base: segment.base, limit: segment.limit, selector: segment.selector, attributes: attributes)
  }
}

// MARK: Events

private func saveEvents(_ cpu: CPU, into state: inout ProcessorState) {
  var events = PendingEvents()
  if cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE) {
    events.exception = PendingEvents.Exception(
      vector: VectorNumber(UInt8(truncatingIfNeeded: cpu.pointee.exception)),
      errorCode: cpu.pointee.exception_has_error != 0 ? cpu.pointee.exception_error : nil,
      isInjected: true)
  }
  switch cpu.pointee.interrupt_shadow {
  case 0: events.shadow = []
  case 2: events.shadow = .moveToStackSegment
  default: events.shadow = .setInterruptFlag
  }
  // What an earlier restore left to be delivered, when nothing has run since.
  let undelivered = cpu.pointee.restored_interrupt
  if undelivered & 0x400 != 0 {
    events.nonMaskableIsInjected = true
  } else if undelivered != 0 {
    events.interrupt = VectorNumber(UInt8(truncatingIfNeeded: undelivered))
    events.interruptIsSoftware = undelivered & 0x200 != 0
  }
  let pending = soft_events(cpu)
  events.nonMaskableIsPending = pending & UInt32(SOFT_EVENT_NMI) != 0
  events.nonMaskableIsBlocked = cpu.pointee.nmi_blocked != 0
  events.startupVector = cpu.pointee.startup_vector
  events.tripleFaultIsPending = cpu.pointee.activity == 3
  state.events = events
  switch cpu.pointee.activity {
  case 1: state.multiprocessing = .halted
  case 2:
    state.multiprocessing =
      pending & UInt32(SOFT_EVENT_STARTUP) != 0 ? .startupReceived : .initReceived
  default: state.multiprocessing = .runnable
  }
}

private func restoreEvents(_ cpu: CPU, _ state: ProcessorState) {
  switch state.multiprocessing {
  case .runnable: cpu.pointee.activity = 0
  case .halted: cpu.pointee.activity = 1
  case .uninitialized, .initReceived: cpu.pointee.activity = 2
  case .startupReceived:
    cpu.pointee.activity = 2
    soft_post(cpu, UInt32(SOFT_EVENT_STARTUP))
  }
  cpu.pointee.interrupt_shadow = 0
  cpu.pointee.nmi_blocked = 0
  cpu.pointee.restored_interrupt = 0
  soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
  guard let events = state.events else { return updateMode(cpu) }
  cpu.pointee.startup_vector = events.startupVector & 0xFF
  if let exception = events.exception, exception.vector.rawValue < 32 {
    cpu.pointee.exception = UInt32(exception.vector.rawValue)
    cpu.pointee.exception_has_error = exception.errorCode == nil ? 0 : 1
    cpu.pointee.exception_error = exception.errorCode ?? 0
    if let payload = exception.payload {
      if exception.vector.rawValue == 14 { cpu.pointee.cr2 = payload }
      if exception.vector.rawValue == 1 { soft_debug_registers(cpu)[6] |= payload & 0xE00F }
    }
  }
  if let vector = events.interrupt {
    cpu.pointee.restored_interrupt =
      UInt32(vector.rawValue) | (events.interruptIsSoftware ? 0x300 : 0x100)
  } else if events.nonMaskableIsInjected {
    cpu.pointee.restored_interrupt = 0x502
  }
  if events.nonMaskableIsPending { soft_post(cpu, UInt32(SOFT_EVENT_NMI)) }
  cpu.pointee.nmi_blocked = events.nonMaskableIsBlocked ? 1 : 0
  cpu.pointee.interrupt_shadow =
    events.shadow.isEmpty ? 0 : events.shadow.contains(.moveToStackSegment) ? 2 : 1
  if events.tripleFaultIsPending { cpu.pointee.activity = 3 }
  updateMode(cpu)
}

// MARK: Floating point and vectors

/// An XSAVE area in standard form: legacy area, header, upper halves of the AVX registers (Intel SDM 1, 13.4).
private func saveExtendedState(_ cpu: CPU) -> [UInt8] {
  let hasUpper = cpu.pointee.xcr0 & 4 != 0
  var bytes = [UInt8](repeating: 0, count: hasUpper ? 576 + 256 : 576)
  func put(_ value: UInt64, at offset: Int, count: Int) {
    for index in 0..<count {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
    }
  }
  put(UInt64(cpu.pointee.fcw), at: 0, count: 2)
  put(UInt64(cpu.pointee.fsw), at: 2, count: 2)
  put(UInt64(cpu.pointee.ftw), at: 4, count: 1)
  put(UInt64(cpu.pointee.fop), at: 6, count: 2)
  put(cpu.pointee.fip, at: 8, count: 8)
  put(cpu.pointee.fdp, at: 16, count: 8)
  put(UInt64(cpu.pointee.mxcsr), at: 24, count: 4)
  put(0xFFFF, at: 28, count: 4)
  let top = UInt32(cpu.pointee.fsw >> 11 & 7)
  for number in 0..<8 {
    // In the order of the stack.
    let register = soft_x87_register(cpu, top &+ UInt32(number))
    for index in 0..<10 { bytes[32 + number * 16 + index] = register[index] }
  }
  for number in 0..<16 {
    let register = soft_vector_register(cpu, UInt32(number))
    for index in 0..<16 {
      bytes[160 + number * 16 + index] = register[index]
      if hasUpper { bytes[576 + number * 16 + index] = register[16 + index] }
    }
  }
  put(hasUpper ? 7 : 3, at: 512, count: 8)
  return bytes
}

private func restoreExtendedState(_ cpu: CPU, _ bytes: [UInt8]) {
  soft_vector_leave(cpu)
  guard bytes.count >= 576 else { return }
  let present = bytes.littleEndian64(at: 512)
  let hasX87 = present & 1 != 0
  cpu.pointee.fcw = hasX87 ? UInt16(truncatingIfNeeded: bytes.littleEndian64(at: 0)) : 0x37F
  cpu.pointee.fsw = hasX87 ? UInt16(truncatingIfNeeded: bytes.littleEndian64(at: 0) >> 16) : 0
  cpu.pointee.ftw = hasX87 ? bytes[4] : 0
  cpu.pointee.fop = hasX87 ? UInt16(bytes[6]) | UInt16(bytes[7] & 7) << 8 : 0
  cpu.pointee.fip = hasX87 ? bytes.littleEndian64(at: 8) : 0
  cpu.pointee.fdp = hasX87 ? bytes.littleEndian64(at: 16) : 0
  cpu.pointee.fcs = 0
  cpu.pointee.fds = 0
  let top = UInt32(cpu.pointee.fsw >> 11 & 7)
  for number in 0..<8 {
    let register = soft_x87_register(cpu, top &+ UInt32(number))
    for index in 0..<16 {
      register[index] = hasX87 && index < 10 ? bytes[32 + number * 16 + index] : 0
    }
  }
  let hasVectors = present & 2 != 0
  let hasUpper = present & 4 != 0 && bytes.count >= 576 + 256
  // MXCSR belongs to SSE and AVX together.
  cpu.pointee.mxcsr =
    present & 6 != 0
    ? UInt32(truncatingIfNeeded: bytes.littleEndian64(at: 24)) & 0xFFFF : 0x1F80
  for number in 0..<16 {
    let register = soft_vector_register(cpu, UInt32(number))
    for index in 0..<16 {
      register[index] = hasVectors ? bytes[160 + number * 16 + index] : 0
      register[16 + index] = hasUpper ? bytes[576 + number * 16 + index] : 0
    }
  }
}

extension Array where Element == UInt8 {
  /// Eight bytes; the caller knows that they are there.
  fileprivate func littleEndian64(at offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(self[offset + $1]) << UInt64(8 * $1) }
  }
}
