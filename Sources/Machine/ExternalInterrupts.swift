import CLinux
import Devices
import KVM
import Processor
import Synchronization

/// A processor whose local APIC takes interrupts of an 8259A that is outside of it (ExtINT, Intel SDM 3A, 11.5.1).
protocol ExternalInterruptAcceptor: AnyObject, Sendable {
  /// Whether `inject` would be accepted, as of the last exit.
  var canTakeInterrupt: Bool { get }
  /// Makes `run` return as soon as that is so.
  var interruptWindowRequested: Bool { get set }
  /// Delivers a vector at the next entry; false when it cannot now after all.
  func accept(_ vector: VectorNumber) -> Bool
  /// Makes `run` return. From any thread.
  func interrupt()
}

extension VirtualProcessor: ExternalInterruptAcceptor {
  func accept(_ vector: VectorNumber) -> Bool {
    do {
      try inject(vector)
      return true
    } catch {
      return false
    }
  }
}

/// INTR of our 8259As, wired to the boot processor.
///
/// The chips set the level from any thread; the processor's own thread hands the vector over before it enters the
/// guest.
final class ExternalInterrupts: @unchecked Sendable {
  // @unchecked: `acceptor` and `acknowledge` are set once before the threads start; `owed` and `windowIsOpen` belong
  // to the processor's thread.
  private let isRequested = Atomic<Bool>(false)
  private let thread = Atomic<UInt>(0)
  private var acceptor: (any ExternalInterruptAcceptor)?
  private weak var router: InterruptRouter?
  /// A vector that the chips have given away and the processor did not take yet.
  private var owed: VectorNumber?

  /// Connects both ends, before the processors' threads start.
  func connect(_ acceptor: any ExternalInterruptAcceptor, to router: InterruptRouter) {
    self.acceptor = acceptor
    self.router = router
  }

  /// Called by the processor's thread at its start.
  func noteThread() { thread.store(UInt(pthread_self()), ordering: .relaxed) }

  /// The level of INTR. With the chips' lock held.
  func setRequest(_ level: Bool) {
    isRequested.store(level, ordering: .sequentiallyConsistent)
    // The processor's own thread looks before it enters the guest.
    guard level, UInt(pthread_self()) != thread.load(ordering: .relaxed) else { return }
    acceptor?.interrupt()
  }

  /// Hands a waiting interrupt over, or asks to be told when the guest can take it. By the processor's thread, before
  /// each entry.
  @inline(__always)
  func prepare() {
    guard isRequested.load(ordering: .sequentiallyConsistent) || owed != nil || isWaiting else {
      return
    }
    deliver()
  }

  /// Whether the processor was asked to tell when it can take an interrupt.
  private var isWaiting = false

  private func deliver() {
    guard let acceptor, let router else { return }
    if acceptor.canTakeInterrupt && (owed != nil || router.isInterruptRequested) {
      let vector = owed ?? router.acknowledge()
      owed = acceptor.accept(vector) ? nil : vector
    }
    let wanted = owed != nil || router.isInterruptRequested
    if wanted != isWaiting {
      isWaiting = wanted
      acceptor.interruptWindowRequested = wanted
    }
  }
}

extension ExternalInterrupts: Snapshottable {
  struct State: Codable, Sendable {
    var owed: UInt8?
  }

  static let stateVersion = 1

  /// Only while the processor's thread is parked: what the chips have given away is neither in their state nor in the
  /// processor's.
  func saveState() -> State { State(owed: owed?.rawValue) }

  /// After the chips' state.
  func restoreState(_ state: State) { owed = state.owed.map { VectorNumber($0) } }
}
