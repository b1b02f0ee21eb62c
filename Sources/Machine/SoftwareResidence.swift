import CLinux
import KVM
import Platform
import Processor
import SoftProcessor

/// A kernel's processor that lives in software, where the kernel emulates the guest's kernel mode: a hundred times slower
/// than software, and with gaps that cost a millisecond each to fill one by one.
///
/// The local APIC, the clocks and, where the board has them there, the other interrupt chips stay in the kernel. It is
/// asked every few milliseconds for an interrupt, executes the single instructions that work on what it keeps, and waits
/// in the place of a halted guest. User mode is in software too: the kernel has shadows of the guest's page tables, which
/// software's stores do not bring up to date, so that the kernel must never again execute what uses them.
final class SoftwareResidence {
  /// Where the processor's state is.
  private enum Place {
    /// All of it in the kernel.
    case kernel
    case software
    /// General and system registers in the kernel, for one instruction, or until an interrupt; the rest in software.
    case between
  }

  private let processor: VirtualProcessor
  private let home: ResidenceBoard
  private let software: SoftProcessor
  private let prepare: () -> Void
  private var place = Place.kernel
  /// As they were when the processor moved in: see `giveBack`.
  private var original = ProcessorState()
  private var originalInSoftware = ProcessorState()
  /// What the instruction that the kernel executes may change beside registers.
  private var effect = RegisterEffect.none
  /// Instructions in a row that each side left to the other.
  private var refusals = 0
  private var ticksWithoutLook = 0

  private static let refusalLimit = 8
  /// NMIs and INIT come also to a guest that takes no interrupts, but nobody waits for them.
  private static let ticksBetweenLooks = 16

  /// On the processor's own thread, before anything else of it.
  ///
  /// - Parameter prepare: called before the kernel is asked for an interrupt.
  /// - Throws: when the host gives no memory. Nil is returned where the kernel does not share registers.
  init?(
    _ processor: VirtualProcessor, home: ResidenceBoard, prepare: @escaping () -> Void
  ) throws(ProcessorError) {
    guard try processor.beginSharing() else { return nil }
    self.processor = processor
    self.home = home
    self.prepare = prepare
    do {
      software = try home.makeProcessor(processor.index)
    } catch {
      throw ProcessorError("\(error)")
    }
  }

  /// As the processor's own `run`.
  func run() throws(ProcessorError) -> ProcessorExit {
    while true {
      switch place {
      case .kernel:
        try moveIn()
      case .software:
        if let exit = try runSoftware() { return exit }
      case .between:
        let exit = try processor.run()
        switch exit {
        case .debug:
          refusals = 0
          let effect = effect
          takeBack()
          if effect == .sharedPage, let exit = try acceptInterrupt() { return exit }
        case .failure(let failure):
          // What neither can execute.
          refusals += 1
          guard failure.reason == .emulation, refusals < Self.refusalLimit else { return exit }
          takeBack()
        default: return exit
        }
      }
    }
  }

  /// The kernel has the whole state again. Before anybody reads or sets it.
  func giveBack() throws(ProcessorError) {
    guard place != .kernel else { return }
    if place == .between {
      _ = try processor.completeExit()
      takeBack()
    }
    software.settleInterrupts()
    let present = try processor.readExecutionState()
    var state = InstructionCompletion.merge(
      original, before: originalInSoftware, after: try software.saveState())
    state.control8 = present.control8
    state.apicBase = present.apicBase
    state.modelSpecificRegisters.removeAll { $0.index == 0x10 }
    state.multiprocessing = present.multiprocessing
    try processor.writeExecutionState(state, after: present)
    place = .kernel
  }

  private func moveIn() throws(ProcessorError) {
    original = try processor.readExecutionState()
    try software.borrow(
      InstructionCompletion.given(original, components: software.stateComponents),
      apicBase: original.apicBase, timeStampOffset: processor.timeStampOffset)
    originalInSoftware = try software.saveState()
    guard try processor.isRunnable() else {
      // It waits for an interrupt, or for another processor to start it.
      place = .between
      return
    }
    processor.share(original, isWhole: true)
    place = .software
  }

  /// General and system registers go to software.
  private func takeBack() {
    software.takeBack(processor.sharedState)
    if effect == .timeStamp, let offset = processor.timeStampOffset {
      software.setTimeStampOffset(offset)
    }
    effect = .none
    place = .software
  }

  private func runSoftware() throws(ProcessorError) -> ProcessorExit? {
    home.showRegions()
    home.pulse.begin(software)
    let end = software.runBorrowed()
    home.pulse.end(software)
    switch end {
    case .stopped:
      if processor.takeKick() || home.needsCollection { return .interrupted }
      return try lookForInterrupts()
    case .left:
      effect = RegisterEffect(software.registerNumber)
      processor.share(software.lend())
      place = .between
      return nil
    case .halted:
      processor.share(software.lend())
      prepare()
      try processor.halt()
      place = .between
      return nil
    case .shutdown: return .shutdown
    case .debugged: return .debug
    }
  }

  /// The debugger's business, while the processor lives here.
  var debugging: any DebuggableProcessor { software }

  private func lookForInterrupts() throws(ProcessorError) -> ProcessorExit? {
    let isMaskable = software.acceptsInterrupts
    ticksWithoutLook += 1
    guard isMaskable || ticksWithoutLook >= Self.ticksBetweenLooks else { return nil }
    return try acceptInterrupt()
  }

  private func acceptInterrupt() throws(ProcessorError) -> ProcessorExit? {
    ticksWithoutLook = 0
    prepare()
    let isMaskable = software.acceptsInterrupts
    switch try processor.acceptInterrupt(
      maskable: isMaskable, nonMaskableIsBlocked: software.nonMaskableIsBlocked)
    {
    case .events(let events):
      software.accept(events)
      return nil
    case .exit(.interruptWindow):
      prepare()
      return nil
    case .exit(let exit): return exit
    case .restarted:
      // INIT: the processor waits in the kernel until it is started again.
      place = .between
      return nil
    }
  }
}

/// What WRMSR of a register does beside setting it.
private enum RegisterEffect {
  case none
  /// Moves the guest's time stamp counter.
  case timeStamp
  /// The kernel fills a page of the guest when it enters it the next time: clock, stolen time.
  case sharedPage

  init(_ register: UInt32) {
    switch register {
    // IA32_TIME_STAMP_COUNTER, IA32_TSC_ADJUST.
    case 0x10, 0x3B: self = .timeStamp
    // KVM's registers, old and new (Documentation/virt/kvm/x86/msr.rst).
    case 0x11, 0x12, 0x4B56_4D00...0x4B56_4DFF: self = .sharedPage
    default: self = .none
    }
  }
}
