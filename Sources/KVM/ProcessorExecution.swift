import CLinux
import Platform
import Processor

// The part of a processor's state that one instruction works on: quicker to move than the whole.
extension VirtualProcessor {
  /// Registers that an instruction outside of RDMSR and WRMSR reads: time, SYSENTER, page attributes, SYSCALL, SWAPGS,
  /// RDTSCP.
  private static let executionRegisters: [UInt32] =
    [0x10, 0x174, 0x175, 0x176, 0x277] + (0xC000_0081...0xC000_0084) + [0xC000_0102, 0xC000_0103]

  /// The state without local APIC, nested guests and most model specific registers. After a failed emulation it is the
  /// state before that instruction.
  package func readExecutionState() throws(ProcessorError) -> ProcessorState {
    do {
      var state = ProcessorState()
      try readGeneralRegisters(into: &state)
      try readSystemRegisters(into: &state)
      state.extendedState = try readExtendedState()
      state.extendedControls = try readExtendedControls()
      try readDebugRegisters(into: &state)
      state.modelSpecificRegisters = try readRegisters(Self.executionRegisters)
      var events = try readEvents()
      // The kernel has queued #UD for what it cannot emulate: see `readState`.
      if hasFailedEmulation, events.exception?.vector == VectorNumber(6) { events.exception = nil }
      state.events = events
      return state
    } catch {
      throw error.asProcessorError
    }
  }

  /// Sets what differs between two such states, and the events in any case.
  package func writeExecutionState(
    _ state: ProcessorState, after old: ProcessorState
  ) throws(ProcessorError) {
    do {
      hasFailedEmulation = false
      if state.multiprocessing != old.multiprocessing {
        try writeMultiprocessingState(state.multiprocessing)
      }
      try writeGeneralRegisters(state)
      if Self.systemRegistersDiffer(state, old) { try writeSystemRegisters(state) }
      if state.extendedControls != old.extendedControls {
        try writeExtendedControls(state.extendedControls)
      }
      if state.extendedState != old.extendedState { try writeExtendedState(state.extendedState) }
      if state.debugAddresses != old.debugAddresses || state.debug6 != old.debug6
        || state.debug7 != old.debug7
      {
        try writeDebugRegisters(state)
      }
      let changed = state.modelSpecificRegisters.filter { !old.modelSpecificRegisters.contains($0) }
      if !changed.isEmpty { _ = try writeRegisters(changed) }
      try writeEvents(state.events ?? PendingEvents())
    } catch {
      throw error.asProcessorError
    }
  }

  private static func systemRegistersDiffer(_ one: ProcessorState, _ other: ProcessorState) -> Bool
  {
    one.codeSegment != other.codeSegment || one.stackSegment != other.stackSegment
      || one.dataSegment != other.dataSegment || one.extraSegment != other.extraSegment
      || one.extraSegmentF != other.extraSegmentF || one.extraSegmentG != other.extraSegmentG
      || one.taskRegister != other.taskRegister || one.localTable != other.localTable
      || one.globalDescriptors != other.globalDescriptors
      || one.interruptDescriptors != other.interruptDescriptors
      || one.control0 != other.control0 || one.control2 != other.control2
      || one.control3 != other.control3 || one.control4 != other.control4
      || one.extendedFeatures != other.extendedFeatures
      || one.pageDirectoryPointers != other.pageDirectoryPointers
  }
}
