import CLinux
import GuestMemory
import KVM
import Platform
import Processor
import SoftProcessor

/// Executes in software what the kernel cannot emulate, on the thread of the processor that came to it.
///
/// The kernel keeps the processor: its local APIC, its clocks and its interrupts. Only what an instruction may change
/// goes over and comes back.
final class InstructionCompletion {
  enum Outcome {
    /// The kernel can go on.
    case completed
    /// Triple fault.
    case reset
    /// Nobody can execute this instruction; the kernel's state is untouched.
    case refused
  }

  private let processor: VirtualProcessor
  private let parts: CompletionParts
  private let counters: CompletionCounters
  private let buses: CompletionBuses
  private let board: SoftBoard
  private let software: SoftProcessor
  private var generation = 0
  /// Instructions completed.
  private(set) var count = 0
  private var regions: [CompletionParts.Region] = []
  /// Completions in a row that changed nothing at all.
  private var standstill = 0

  private static let standstillLimit = 64
  /// Instructions that follow one that the kernel lacks often are of its kind: a switch of processors costs as much as
  /// dozens of them.
  private static let followers = 256

  /// - Throws: when the host gives no memory.
  init(
    _ processor: VirtualProcessor, _ parts: CompletionParts, buses access: BusAccess,
    counters: CompletionCounters
  ) throws(PlatformError) {
    self.processor = processor
    self.parts = parts
    self.counters = counters
    buses = CompletionBuses(access, hasKernelChips: parts.hasKernelChips)
    board = try SoftBoard(
      memory: parts.memory, hole: parts.hole, apicNumbers: [0], bus: buses.functions)
    // Its timers and its interrupts are nobody's: the kernel has those of the guest.
    board.stop()
    // The kernel's log does not have what is stored here.
    board.noteAllStores()
    software = try SoftProcessor(index: 0, board: board)
  }

  /// After a run that ended with `failure`.
  func complete(_ failure: ProcessorFailure) -> Outcome {
    do {
      let old = try processor.readExecutionState()
      guard let state = try execute(old, failure) else { return .refused }
      if state.events?.tripleFaultIsPending == true { return .reset }
      standstill = state == old ? standstill + 1 : 0
      guard standstill < Self.standstillLimit else { return .refused }
      try processor.writeExecutionState(state, after: old)
      return .completed
    } catch {
      return .refused
    }
  }

  /// The state after the instruction, or nil.
  private func execute(
    _ old: ProcessorState, _ failure: ProcessorFailure
  ) throws(ProcessorError) -> ProcessorState? {
    showRegions()
    try software.adopt(Self.given(old, components: software.stateComponents))
    // What the software makes of the state: only differences to it are the instruction's.
    let before = try software.saveState()
    buses.hasTouchedKernel = false
    let instruction = software.nextInstruction()
    let kind = CompletedInstruction(instruction)
    let exception: VectorNumber?
    var area = old.extendedState
    let isTransfer = instruction.map { software.transfersComponents($0) } ?? false
    if isTransfer {
      guard area.count >= 576 else { return nil }
      exception = software.transferComponents(&area, enabled: Self.enabledComponents(old))
    } else {
      exception = software.executeInstruction()
    }
    guard !buses.hasTouchedKernel, !(exception == VectorNumber(6) && isBeyond(failure, old)) else {
      return nil
    }
    counters.note(kind)
    count += 1
    // The vectors that were loaded are not in the software's registers.
    if kind != .delivery, !isTransfer { runOn() }
    var state = Self.merge(old, before: before, after: try software.saveState())
    if isTransfer { state.extendedState = area }
    return state
  }

  private func runOn() {
    for _ in 0..<Self.followers {
      guard software.isSupervisor, let instruction = software.nextInstruction(),
        instruction.isHarmless
      else { return }
      let checkpoint = software.checkpoint()
      let exception = software.executeInstruction()
      if buses.hasTouchedKernel { return software.goBack(to: checkpoint) }
      if exception != nil { return }
    }
  }

  /// Option ROMs come and go with the guest's base addresses.
  private func showRegions() {
    guard let now = parts.regions(since: &generation) else { return }
    for region in regions { board.unmap(at: region.address) }
    for region in now {
      guard let host = UnsafeMutableRawPointer(bitPattern: region.host) else { continue }
      // What does not fit is read through the bus.
      try? board.map(
        host, size: region.size, at: region.address, isWritable: region.isWritable,
        owner: region.owner)
    }
    regions = now
  }

  // MARK: What goes over and what comes back

  /// The kernel's state without what the software does not have.
  ///
  /// - Parameter components: of the XSAVE area, that the software has.
  static func given(_ old: ProcessorState, components: UInt64) -> ProcessorState {
    var state = old
    // The local APIC stays in the kernel: its page is nobody's here.
    state.apicBase &= ~0xC00
    let components = components | 3
    if state.extendedState.count >= 520 {
      for byte in 0..<8 {
        state.extendedState[512 + byte] &= UInt8(truncatingIfNeeded: components >> UInt64(8 * byte))
      }
    }
    // Pending, not begun: the kernel delivers it.
    state.events?.nonMaskableIsPending = false
    return state
  }

  /// The kernel's state with what an instruction changed in the software's.
  static func merge(
    _ old: ProcessorState, before: ProcessorState, after: ProcessorState
  ) -> ProcessorState {
    var state = old
    func take<Value: Equatable>(_ path: WritableKeyPath<ProcessorState, Value>) {
      if after[keyPath: path] != before[keyPath: path] {
        state[keyPath: path] = after[keyPath: path]
      }
    }
    take(\.generalRegisters)
    take(\.instructionPointer)
    take(\.flags)
    take(\.codeSegment)
    take(\.dataSegment)
    take(\.extraSegment)
    take(\.extraSegmentF)
    take(\.extraSegmentG)
    take(\.stackSegment)
    take(\.taskRegister)
    take(\.localTable)
    take(\.globalDescriptors)
    take(\.interruptDescriptors)
    take(\.control0)
    take(\.control2)
    take(\.control3)
    take(\.control4)
    take(\.extendedFeatures)
    take(\.pageDirectoryPointers)
    take(\.debugAddresses)
    take(\.debug6)
    take(\.debug7)
    if after.multiprocessing == .halted { state.multiprocessing = .halted }
    mergeExtendedState(&state, before: before, after: after)
    mergeRegisters(&state, before: before, after: after)
    var events = old.events ?? PendingEvents()
    let changed = after.events ?? PendingEvents()
    // Whatever had begun has been delivered.
    events.exception = nil
    events.interrupt = nil
    events.interruptIsSoftware = false
    events.nonMaskableIsInjected = false
    events.nonMaskableIsBlocked = changed.nonMaskableIsBlocked
    events.shadow = changed.shadow
    events.tripleFaultIsPending = changed.tripleFaultIsPending
    state.events = events
    return state
  }

  private static func mergeExtendedState(
    _ state: inout ProcessorState, before: ProcessorState, after: ProcessorState
  ) {
    guard after.extendedState != before.extendedState, state.extendedState.count >= 576 else {
      return
    }
    // x87 and XMM registers; the mask of MXCSR and what follows are the kernel's.
    for offset in 0..<416 where !(28..<32).contains(offset) {
      state.extendedState[offset] = after.extendedState[offset]
    }
    state.extendedState[512] |= 3
    let upper = 576..<832
    guard after.extendedState.count >= upper.upperBound,
      state.extendedState.count >= upper.upperBound,
      after.extendedState[upper] != before.extendedState[upper]
    else { return }
    state.extendedState.replaceSubrange(upper, with: after.extendedState[upper])
    state.extendedState[512] |= 4
  }

  private static func mergeRegisters(
    _ state: inout ProcessorState, before: ProcessorState, after: ProcessorState
  ) {
    let timeStamp: UInt32 = 0x10
    for register in after.modelSpecificRegisters where register.index != timeStamp {
      guard !before.modelSpecificRegisters.contains(register),
        let position = state.modelSpecificRegisters.firstIndex(where: {
          $0.index == register.index
        })
      else { continue }
      state.modelSpecificRegisters[position] = register
    }
    for control in after.extendedControls where !before.extendedControls.contains(control) {
      state.extendedControls.removeAll { $0.index == control.index }
      state.extendedControls.append(control)
    }
  }

  // MARK: What the software does not have

  /// XCR0.
  private static func enabledComponents(_ state: ProcessorState) -> UInt64 {
    state.extendedControls.first { $0.index == 0 }?.value ?? 1
  }

  /// Whether bytes that are no instruction for the software are one for a processor with the guest's features: AVX and
  /// later, where the guest has turned their state on. Without that they are #UD for everybody.
  private func isBeyond(_ failure: ProcessorFailure, _ state: ProcessorState) -> Bool {
    let extendedSave: UInt64 = 1 << 18
    guard state.control4 & extendedSave != 0, Self.enabledComponents(state) & 4 != 0 else {
      return false
    }
    let bytes =
      failure.byteCount > 0
      ? (0..<min(failure.byteCount, 15)).map { failure.bytes[$0] }
      : FailureReport.bytes(at: state, of: processor, parts.memory)
    let prefixes: Set<UInt8> = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3]
    guard let first = bytes.first(where: { !prefixes.contains($0) }) else { return false }
    return [0xC4, 0xC5, 0x62].contains(first)
  }
}
