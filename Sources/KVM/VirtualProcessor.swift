import CLinux
import GuestMemory
import Platform
import Processor
import Synchronization

/// A virtual processor of the kernel's.
///
/// One thread at a time runs it and reads or writes its state; `interrupt` is for all threads.
public final class VirtualProcessor: Processor, @unchecked Sendable {
  // @unchecked: `shared` is memory that the kernel writes during `run`; the protocol's rule of one owning thread keeps
  // it consistent. What `interrupt` touches is atomic.

  public let index: Int
  /// Also keeps the machine alive as long as its processors.
  let machine: VirtualMachine
  private let descriptor: FileDescriptor
  let shared: UnsafeMutablePointer<kvm_run>
  private let sharedSize: Int
  /// The thread inside KVM_RUN, or 0.
  private let runningThread = Atomic<Int32>(0)
  /// A kick that no `.interrupted` has answered yet.
  private let isKicked = Atomic<Bool>(false)
  /// The last exit left its instruction half done: KVM finishes it at the next entry.
  var needsCompletion = false
  /// The last exit was an instruction that the kernel could not emulate.
  var hasFailedEmulation = false
  /// DR0 to DR3 as a debugger of the host's has them.
  var debugRegisters: [UInt64] = []
  /// What `reset` goes back to: taken when CPUID is set, before the first run.
  var powerOnState: ProcessorState?

  /// The signal that ends a blocking KVM_RUN. Installed once a process, with a handler that does nothing.
  private static let kickSignal: Int32 = {
    let number = linux_realtime_signal(0)
    _ = linux_install_kick_signal(number)
    return number
  }()

  init(
    machine: VirtualMachine, index: Int, owning descriptor: consuming FileDescriptor
  ) throws(KVMError) {
    _ = Self.kickSignal
    self.machine = machine
    self.index = index
    let number = descriptor.rawValue
    self.descriptor = descriptor
    sharedSize = machine.system.processorMappingSize
    let address = mmap(nil, sharedSize, PROT_READ | PROT_WRITE, MAP_SHARED, number, 0)
    guard let address, address != linux_map_failed() else {
      throw .system(
        PlatformError(operation: "mmap", code: linux_error_number(), subject: "kvm_run"))
    }
    shared = address.assumingMemoryBound(to: kvm_run.self)
  }

  deinit { munmap(shared, sharedSize) }

  var rawDescriptor: Int32 { descriptor.rawValue }

  // MARK: Running

  public func run() throws(ProcessorError) -> ProcessorExit {
    while true {
      // The thread's number first, then the kernel reads immediate_exit; a kick writes immediate_exit first, then
      // reads the number: one of the two always sees the other.
      runningThread.store(
        linux_interruptible_thread(Self.kickSignal), ordering: .sequentiallyConsistent)
      let result = linux_kvm_run(descriptor.rawValue)
      runningThread.store(0, ordering: .sequentiallyConsistent)
      switch result {
      case 0:
        return decodeExit()
      case -EINTR:
        needsCompletion = false
        hasFailedEmulation = false
        clearKick()
        return .interrupted
      case -EAGAIN:
        // An application processor received INIT, or the host asked for patience.
        continue
      default:
        throw ProcessorError(
          "processor \(index): \(PlatformError(operation: "KVM_RUN", code: -result))")
      }
    }
  }

  public func interrupt() {
    isKicked.store(true, ordering: .sequentiallyConsistent)
    linux_kvm_set_immediate_exit(shared, 1)
    let thread = runningThread.load(ordering: .sequentiallyConsistent)
    if thread != 0 { _ = linux_signal_thread(thread, Self.kickSignal) }
  }

  /// A kick is waiting for an answer.
  var hasKick: Bool { isKicked.load(ordering: .sequentiallyConsistent) }

  func clearKick() {
    linux_kvm_set_immediate_exit(shared, 0)
    isKicked.store(false, ordering: .sequentiallyConsistent)
  }

  public func completeExit() throws(ProcessorError) -> ProcessorExit? {
    guard needsCompletion else { return nil }
    while true {
      linux_kvm_set_immediate_exit(shared, 1)
      let result = linux_kvm_run(descriptor.rawValue)
      linux_kvm_set_immediate_exit(shared, 0)
      // A kick that came meanwhile has lost its mark: put it back.
      if isKicked.load(ordering: .sequentiallyConsistent) {
        linux_kvm_set_immediate_exit(shared, 1)
      }
      switch result {
      case -EINTR:
        needsCompletion = false
        return nil
      case 0:
        return decodeExit()
      case -EAGAIN:
        continue
      default:
        throw ProcessorError(
          "processor \(index): \(PlatformError(operation: "KVM_RUN", code: -result))")
      }
    }
  }

  // MARK: Interrupts of a machine whose PIC is not in the kernel

  /// Asks for `.interruptWindow` as soon as the guest can take an external interrupt.
  public var interruptWindowRequested: Bool {
    get { shared.pointee.request_interrupt_window != 0 }
    set { linux_kvm_set_interrupt_window(shared, newValue ? 1 : 0) }
  }

  /// Whether `inject` would be accepted, as of the last exit.
  public var canTakeInterrupt: Bool { shared.pointee.ready_for_interrupt_injection != 0 }

  /// The guest's interrupt flag, as of the last exit.
  public var interruptsAreEnabled: Bool { shared.pointee.if_flag != 0 }

  /// Delivers an external interrupt at the next entry. Only while `canTakeInterrupt`.
  public func inject(_ vector: VectorNumber) throws(KVMError) {
    var argument = kvm_interrupt()
    argument.irq = UInt32(vector.rawValue)
    try request(rawDescriptor, "KVM_INTERRUPT", kvm_request_interrupt(), reading: argument)
  }

  /// Delivers a non-maskable interrupt. From any thread.
  public func injectNonMaskable() throws(KVMError) {
    try request(rawDescriptor, "KVM_NMI", kvm_request_nmi())
  }

  // MARK: Debugging

  /// Reports every instruction, or the first one at up to four addresses, as `.debug` (KVM_SET_GUEST_DEBUG). The
  /// guest's own debug registers rest meanwhile.
  public func setDebugging(singleStep: Bool, breakpoints: [UInt64] = []) throws(KVMError) {
    guard breakpoints.count <= 4 else {
      throw .invalidRequest("\(breakpoints.count) breakpoints are more than a processor has")
    }
    var argument = kvm_guest_debug()
    if singleStep || !breakpoints.isEmpty { argument.control = UInt32(LINUX_KVM_DEBUG_ENABLE) }
    if singleStep { argument.control |= UInt32(LINUX_KVM_DEBUG_SINGLE_STEP) }
    if !breakpoints.isEmpty { argument.control |= UInt32(KVM_GUESTDBG_USE_HW_BP) }
    withUnsafeMutableBytes(of: &argument.arch.debugreg) { bytes in
      let registers = bytes.bindMemory(to: UInt64.self)
      // DR7: exact, and a global execution breakpoint for each address.
      registers[7] = 0x600
      for (number, address) in breakpoints.enumerated() {
        registers[number] = address
        registers[7] |= 2 << UInt64(number * 2)
      }
    }
    try request(
      rawDescriptor, "KVM_SET_GUEST_DEBUG", kvm_request_set_guest_debug(), reading: argument)
  }
}
