// A processor that executes in the place of another one, which keeps the local APIC and the clocks: the kernel's, where
// it emulates the guest's kernel mode slowly and with gaps.
import CSoftProcessor
import Processor

/// Why a borrowed processor came back.
package enum BorrowedEnd: Sendable {
  /// Somebody asked for the thread.
  case stopped
  /// The next instruction is the other processor's: it works on what stayed there.
  case left
  /// HLT has been executed.
  case halted
  case shutdown
  /// See `debugStop`.
  case debugged
}

extension SoftProcessor {
  /// From now on the processor is borrowed.
  ///
  /// - Parameter hasChips: the other side also keeps the I/O APIC, the 8259As and the 8254.
  package func becomeBorrowed(hasChips: Bool) {
    cpu.pointee.borrowed = UInt32(SOFT_BORROWED | (hasChips ? SOFT_BORROWED_CHIPS : 0))
  }

  /// Executes until `interrupt`, or until the other processor is needed. Interrupts come by `accept` only.
  package func runBorrowed() -> BorrowedEnd {
    let end = runLoop(cpu)
    soft_vector_leave(cpu)
    switch end {
    case .stopped: return .stopped
    case .halted: return .halted
    case .shutdown: return .shutdown
    case .left: return .left
    case .debugged: return .debugged
    }
  }

  /// Takes the whole state of the other processor. Nothing that was decoded counts.
  ///
  /// - Parameters:
  ///   - apicBase: of the other side's local APIC, as CPUID tells of it. In the state it is off.
  ///   - timeStampOffset: what the guest's time stamp counter is ahead of the host's; nil: by the state.
  package func borrow(
    _ state: ProcessorState, apicBase: UInt64, timeStampOffset: UInt64?
  ) throws(ProcessorError) {
    try adopt(state)
    dropBlocks(cpu)
    cpu.pointee.apic_base = apicBase
    if let timeStampOffset { cpu.pointee.tsc_offset = timeStampOffset }
    cpu.pointee.activity = 0
  }

  package func setTimeStampOffset(_ offset: UInt64) { cpu.pointee.tsc_offset = offset }

  /// Takes over what one instruction or the delivery of an interrupt may have changed on the other side: general and
  /// system registers.
  package func takeBack(_ state: ProcessorState) {
    for index in 0..<16 { cpu.registers[index] = state.generalRegisters[index] }
    cpu.pointee.rip = state.instructionPointer
    cpu.pointee.block = nil
    writeRFLAGS(cpu, state.flags & 0x3F_7FD5, mask: 0x3F_7FD5)
    takeSegments(state)
    let control0 = state.control0 & 0xE005_002F | Control0.extensionType
    let isSameSpace =
      cpu.pointee.cr0 == control0 && cpu.pointee.cr3 == state.control3
      && cpu.pointee.cr4 == state.control4 && cpu.pointee.efer == state.extendedFeatures
    cpu.pointee.cr0 = control0
    cpu.pointee.cr2 = state.control2
    cpu.pointee.cr3 = state.control3
    cpu.pointee.cr4 = state.control4
    cpu.pointee.efer = state.extendedFeatures
    cpu.pointee.apic_base = state.apicBase
    cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
    cpu.pointee.activity = 0
    let events = state.events ?? PendingEvents()
    cpu.pointee.nmi_blocked = events.nonMaskableIsBlocked ? 1 : 0
    cpu.pointee.interrupt_shadow =
      events.shadow.isEmpty ? 0 : events.shadow.contains(.moveToStackSegment) ? 2 : 1
    accept(events)
    updateMode(cpu)
    guard !isSameSpace else { return }
    flushTranslations(cpu, keepGlobal: false)
    let usesPointers =
      control0 & Control0.paging != 0
      && state.control4 & Control4.physicalAddressExtension != 0
      && state.extendedFeatures & Extended.longModeActive == 0
    if usesPointers { _ = loadPageDirectoryPointers(cpu, state.control3) }
  }

  private func takeSegments(_ state: ProcessorState) {
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
  }

  /// An interrupt whose delivery the other side has begun: it is delivered here, before the next instruction.
  package func accept(_ events: PendingEvents) {
    if let vector = events.interrupt {
      cpu.pointee.restored_interrupt = UInt32(vector.rawValue) | 0x100
    } else if events.nonMaskableIsInjected {
      cpu.pointee.restored_interrupt = 0x502
    }
  }

  /// Delivers what was accepted and has not been delivered yet.
  package func settleInterrupts() { deliverRestoredEvents(cpu) }

  /// What `takeBack` takes.
  package func lend() -> ProcessorState {
    var state = ProcessorState()
    for index in 0..<16 { state.generalRegisters[index] = cpu.registers[index] }
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
    state.extendedFeatures = cpu.pointee.efer
    var events = PendingEvents()
    events.nonMaskableIsBlocked = cpu.pointee.nmi_blocked != 0
    switch cpu.pointee.interrupt_shadow {
    case 0: events.shadow = []
    case 2: events.shadow = .moveToStackSegment
    default: events.shadow = .setInterruptFlag
    }
    state.events = events
    return state
  }

  /// Whether an interrupt could be delivered before the next instruction.
  package var acceptsInterrupts: Bool {
    cpu.pointee.flags_other & SystemFlag.interrupt != 0 && cpu.pointee.interrupt_shadow == 0
      && cpu.pointee.restored_interrupt == 0
  }

  package var nonMaskableIsBlocked: Bool { cpu.pointee.nmi_blocked != 0 }
  /// The register that RDMSR and WRMSR name.
  package var registerNumber: UInt32 { UInt32(truncatingIfNeeded: cpu.registers[Int(SOFT_RCX)]) }
}

// MARK: What stays with the other processor

/// True, and the instruction in hand is left to the other processor, where there is one.
@inline(never)
func leaves(_ cpu: CPU) -> Bool {
  guard cpu.pointee.borrowed != 0 else { return false }
  cpu.pointee.exception = UInt32(SOFT_EXCEPTION_LEAVE)
  cpu.pointee.exception_has_error = 0
  return true
}

/// Of an access to physical memory: the local APIC's page, the I/O APIC's.
@inline(never)
func leavesMemory(_ cpu: CPU, _ physical: UInt64) -> Bool {
  let page = physical >> 12
  guard
    page == 0xFEE00
      || page == 0xFEC00 && cpu.pointee.borrowed & UInt32(SOFT_BORROWED_CHIPS) != 0
  else { return false }
  return leaves(cpu)
}

@inline(never)
func leavesPort(_ cpu: CPU, _ port: UInt64) -> Bool {
  guard cpu.pointee.borrowed & UInt32(SOFT_BORROWED_CHIPS) != 0 else { return false }
  switch port {
  case 0x20, 0x21, 0x40...0x43, 0x61, 0xA0, 0xA1, 0x4D0, 0x4D1: return leaves(cpu)
  default: return false
  }
}

/// Time may be read here and the registers of system calls and segments are here; all others are there.
@inline(never)
func leavesRegister(_ cpu: CPU, _ index: UInt32, isWrite: Bool) -> Bool {
  guard cpu.pointee.borrowed != 0 else { return false }
  switch index {
  case ModelRegister.enterCode, ModelRegister.enterStack, ModelRegister.enterTarget,
    ModelRegister.star, ModelRegister.longStar, ModelRegister.compatibilityStar,
    ModelRegister.callMask, ModelRegister.baseF, ModelRegister.baseG, ModelRegister.kernelBaseG,
    ModelRegister.processorNumber:
    return false
  case ModelRegister.timeStamp, ModelRegister.extendedFeatures:
    return isWrite ? leaves(cpu) : false
  default: return leaves(cpu)
  }
}
