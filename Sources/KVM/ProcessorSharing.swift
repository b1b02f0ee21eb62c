import CLinux
import Glibc
import Platform
import Processor

// A processor whose instructions software executes, while its local APIC, its interrupts and its clocks stay in the
// kernel. Registers go to and fro in the page of KVM_RUN (KVM_CAP_SYNC_REGS), because on hosts where that is of use each
// ioctl costs as much as thousands of instructions.
extension VirtualProcessor {
  /// Numbers of Documentation/virt/kvm/api.rst whose macros Swift does not import.
  private enum Number {
    /// KVM_SET_SIGNAL_MASK.
    static let setSignalMask: UInt = 0x4004_AE8B
    /// KVM_GET_DEVICE_ATTR, with KVM_VCPU_TSC_CTRL and KVM_VCPU_TSC_OFFSET, which are both 0.
    static let getDeviceAttribute: UInt = 0x4018_AEE2
    /// KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, KVM_SYNC_X86_EVENTS.
    static let registerSets: UInt64 = 7
    /// KVM_VCPUEVENT_VALID_SHADOW.
    static let shadowIsValid: UInt32 = 4
  }

  /// Ends KVM_RUN before the guest is entered. Blocked but inside KVM_RUN.
  private static let pollSignal = linux_realtime_signal(1)

  /// Begins the sharing, on the thread that runs the processor: every instruction of the guest that KVM_RUN executes
  /// from now on ends it with `.debug`.
  ///
  /// - Returns: false where the kernel cannot (before Linux 4.17).
  package func beginSharing() throws(ProcessorError) -> Bool {
    let sets = UInt64(max(0, machine.capability(KVM_CAP_SYNC_REGS)))
    guard sets & Number.registerSets == Number.registerSets else { return false }
    do {
      try setDebugging(singleStep: true)
    } catch {
      throw error.asProcessorError
    }
    guard admitPollSignal() else { return false }
    shared.pointee.kvm_valid_regs = Number.registerSets
    return true
  }

  /// Blocks the signal in this thread and lets it through inside KVM_RUN, with what goes through outside.
  private func admitPollSignal() -> Bool {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, Self.pollSignal)
    guard pthread_sigmask(SIG_BLOCK, &set, nil) == 0,
      pthread_sigmask(SIG_BLOCK, nil, &set) == 0
    else { return false }
    sigdelset(&set, Self.pollSignal)
    // Length and the kernel's set of 64 signals, which begins the C library's.
    var mask = [UInt8](repeating: 0, count: 12)
    mask[0] = 8
    withUnsafeBytes(of: set) { bytes in
      for index in 0..<8 { mask[4 + index] = bytes[index] }
    }
    return mask.withUnsafeMutableBytes {
      linux_ioctl(rawDescriptor, Number.setSignalMask, UInt(bitPattern: $0.baseAddress)) == 0
    }
  }

  /// What the guest's time stamp counter is ahead of the host's, exactly; nil before Linux 5.16.
  package var timeStampOffset: UInt64? {
    var offset: UInt64 = 0
    let result = withUnsafeMutablePointer(to: &offset) { target in
      var attribute = kvm_device_attr()
      attribute.addr = UInt64(UInt(bitPattern: target))
      return withUnsafeMutablePointer(to: &attribute) {
        linux_ioctl(rawDescriptor, Number.getDeviceAttribute, UInt(bitPattern: $0))
      }
    }
    return result == 0 ? offset : nil
  }

  // MARK: Registers in the page

  private var page: UnsafeMutablePointer<kvm_sync_regs> {
    let offset = MemoryLayout<kvm_run>.offset(of: \.s) ?? 304
    return (UnsafeMutableRawPointer(shared) + offset).assumingMemoryBound(to: kvm_sync_regs.self)
  }

  /// General and system registers and events, as the last `run` left them.
  package var sharedState: ProcessorState {
    var state = ProcessorState()
    state.takeGeneralRegisters(page.pointee.regs)
    state.takeSystemRegisters(kvm_sregs2(page.pointee.sregs))
    state.events = sharedEvents
    return state
  }

  private var sharedEvents: PendingEvents {
    let value = page.pointee.events
    var events = PendingEvents()
    if value.interrupt.injected != 0 { events.interrupt = VectorNumber(value.interrupt.nr) }
    events.shadow = PendingEvents.InterruptShadow(rawValue: value.interrupt.shadow)
    events.nonMaskableIsInjected = value.nmi.injected != 0
    events.nonMaskableIsBlocked = value.nmi.masked != 0
    return events
  }

  /// Makes the next `run` begin with these general and system registers, and with nothing on its way to be delivered.
  ///
  /// - Parameter isWhole: the state also has what belongs to the local APIC; otherwise that stays as it is.
  package func share(_ state: ProcessorState, isWhole: Bool = false) {
    page.pointee.regs = kvm_regs(state)
    var registers = kvm_sregs(kvm_sregs2(state))
    if !isWhole {
      registers.apic_base = page.pointee.sregs.apic_base
      registers.cr8 = page.pointee.sregs.cr8
    }
    page.pointee.sregs = registers
    shareEvents(
      shadow: state.events?.shadow.rawValue ?? 0,
      nonMaskableIsBlocked: state.events?.nonMaskableIsBlocked ?? false)
    shared.pointee.kvm_dirty_regs = Number.registerSets
  }

  private func shareEvents(shadow: UInt8, nonMaskableIsBlocked: Bool) {
    var events = kvm_vcpu_events()
    events.interrupt.shadow = shadow
    events.nmi.masked = nonMaskableIsBlocked ? 1 : 0
    events.flags = Number.shadowIsValid
    page.pointee.events = events
  }

  // MARK: Interrupts

  /// What `acceptInterrupt` found.
  package enum Acceptance {
    /// These are to be delivered by the caller; the kernel has given them away. May be empty.
    case events(PendingEvents)
    /// The guest was not entered: something for the board comes first.
    case exit(ProcessorExit)
    /// The kernel has changed the registers: INIT.
    case restarted
  }

  /// Takes what the local APIC would interrupt the guest with, without executing an instruction.
  ///
  /// - Parameters:
  ///   - maskable: the guest takes external interrupts now.
  ///   - nonMaskableIsBlocked: it is in a handler of an NMI.
  package func acceptInterrupt(
    maskable: Bool, nonMaskableIsBlocked: Bool
  ) throws(ProcessorError) -> Acceptance {
    let interruptFlag: UInt64 = 0x200
    page.pointee.regs.rflags =
      maskable
      ? page.pointee.regs.rflags | interruptFlag : page.pointee.regs.rflags & ~interruptFlag
    // Nobody looks at the others: they only tell whether the kernel has set them anew.
    let instruction = page.pointee.regs.rip
    shareEvents(shadow: 0, nonMaskableIsBlocked: nonMaskableIsBlocked)
    shared.pointee.kvm_dirty_regs = Number.registerSets & ~2
    _ = linux_signal_thread(linux_gettid(), Self.pollSignal)
    let result = linux_kvm_run(rawDescriptor)
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, Self.pollSignal)
    var now = timespec()
    sigtimedwait(&set, nil, &now)
    switch result {
    case -EINTR:
      needsCompletion = false
      if page.pointee.regs.rip != instruction { return .restarted }
      let events = sharedEvents
      return .events(events)
    case -EAGAIN: return .restarted
    case 0: return .exit(decodeExit())
    default:
      throw ProcessorError(
        "processor \(index): \(PlatformError(operation: "KVM_RUN", code: -result))")
    }
  }

  /// The next `run` waits for an interrupt that the guest takes.
  package func halt() throws(ProcessorError) {
    do {
      try writeMultiprocessingState(.halted)
    } catch {
      throw error.asProcessorError
    }
  }

  /// Whether the processor executes instructions, and does not wait for one of the others to start it or for an
  /// interrupt.
  package func isRunnable() throws(ProcessorError) -> Bool {
    do {
      return try readMultiprocessingState() == .runnable
    } catch {
      throw error.asProcessorError
    }
  }

  /// The guest's current privilege level: 0 is its kernel, or real mode.
  package func privilegeLevel() throws(ProcessorError) -> UInt8 {
    var state = ProcessorState()
    do {
      try readSystemRegisters(into: &state)
    } catch {
      throw error.asProcessorError
    }
    return state.control0 & ControlBits.protection == 0 ? 0 : state.stackSegment.privilegeLevel
  }

  /// Takes a kick away that `run` has not answered.
  package func takeKick() -> Bool {
    guard hasKick else { return false }
    clearKick()
    return true
  }
}
