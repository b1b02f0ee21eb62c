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
  func makeProcessors() throws(MachineError) -> [any BoardProcessor]
  /// The guest's time stands still from now on.
  func stopTime()
  /// And goes on. Without a `stopTime` before it does nothing.
  func continueTime()
  /// The threads have ended and the devices have stopped.
  func stop()
}

extension Virtualization {
  func connect(_ buses: BusAccess) {}
  var completionParts: CompletionParts? { nil }
  func stop() {}
}

/// A processor as a board needs it.
protocol BoardProcessor: Processor {
  /// Whether nothing that the guest has set up can make the processor go on. While it is parked.
  var isStuck: Bool { get }
  /// Accesses to model specific registers that do not exist, answered by #GP inside the processor. While it runs it may
  /// lag behind.
  var unknownRegisterCount: UInt64 { get }
}

extension VirtualProcessor: BoardProcessor {
  var isStuck: Bool { (try? isWaitingForever()) ?? false }
  /// They are exits, which the thread counts.
  var unknownRegisterCount: UInt64 { 0 }
}
