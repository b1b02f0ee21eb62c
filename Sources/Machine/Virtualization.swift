import Devices
import GuestMemory
import KVM
import Processor

/// What executes a board's processors, and what it brings with it: the kernel's virtual machine, or software.
///
/// Made for one board; everything here is called before the processors' threads start, or while they are parked.
protocol Virtualization: AnyObject, Sendable {
  /// Where the devices' lines and messages go. Called once.
  func makeInterrupts() -> BoardInterrupts
  /// Takes kicks of virtio queues without an exit; nil: every kick is one.
  var doorbells: (any DoorbellBinding)? { get }
  /// Shows memory behind PCI base addresses to the guest; nil: every access is an exit.
  var regionMapper: (any PCIRegionMapper)? { get }
  /// Raises the MSI-X vectors of one function; nil: they go to the interrupts' sink.
  func makeVectors() -> (any MessageVectorBinding)?
  /// Shows the firmware to the guest, read-only, where it ends at 4 GiB.
  func mapFirmware(_ image: FirmwareMapping, at address: GuestAddress) throws(MachineError)
  /// Where accesses to ports and to memory that is not RAM go, for processors that serve them themselves. Called once,
  /// before `makeProcessors`.
  func connect(_ buses: BusAccess)
  /// What completes instructions in software that these processors cannot execute; nil: they can.
  var completionParts: CompletionParts? { get }
  /// The processors of the board, as after power-on. Called once.
  ///
  /// - Parameter shown: what CPUID is to tell each of them, where that is given already: by a saved state.
  func makeProcessors(showing shown: [[CPUIDLeaf]]?) throws(MachineError) -> [any BoardProcessor]
  /// What CPUID tells each processor. After `makeProcessors`.
  var shownLeaves: [[CPUIDLeaf]] { get }
  /// The kernel's chips and the guest's clock; while time stands still.
  func saveState() throws(MachineError) -> VirtualizationState
  /// The same back, after the processors' states and before time goes on.
  func restoreState(_ state: VirtualizationState) throws(MachineError)
  /// The guest's time stands still from now on.
  func stopTime()
  /// And goes on. Without a `stopTime` before it does nothing.
  func continueTime()
  /// Begins to note which memory processors and devices write. While nothing runs; all memory is copied after it.
  ///
  /// - Returns: false where that cannot be had.
  func startTracking() throws(MachineError) -> Bool
  /// Offsets in the memory file that were written since the last call, in whole pages.
  ///
  /// - Parameter isStopped: nothing runs: what was written until now is complete.
  func takeWritten(isStopped: Bool) throws(MachineError) -> [Range<UInt64>]
  func stopTracking()
  /// The threads have ended and the devices have stopped.
  func stop()
}

extension Virtualization {
  func connect(_ buses: BusAccess) {}
  var completionParts: CompletionParts? { nil }
  func stop() {}
}

/// What a virtualization keeps beside its processors.
struct VirtualizationState: Codable, Sendable {
  static let version = 1

  /// Nanoseconds of the guest's paravirtual clock.
  var clock: UInt64
  /// The kernel's; nil where there are none.
  var chips: InterruptChipState?
}

/// A processor as a board needs it.
protocol BoardProcessor: Processor {
  /// Whether nothing that the guest has set up can make the processor go on. While it is parked.
  var isStuck: Bool { get }
  /// Accesses to model specific registers that do not exist, answered by #GP inside the processor. While it runs it may
  /// lag behind.
  var unknownRegisterCount: UInt64 { get }
  /// Since power-on, roughly while it runs; nil where nobody counts them.
  var executedInstructions: UInt64? { get }
}

extension VirtualProcessor: BoardProcessor {
  var isStuck: Bool { (try? isWaitingForever()) ?? false }
  /// They are exits, which the thread counts.
  var unknownRegisterCount: UInt64 { 0 }
  var executedInstructions: UInt64? { nil }
}
