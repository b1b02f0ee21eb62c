import Devices
import GuestMemory
import Processor

/// What executes a board's guest and shows it its memory: the kernel's virtual machine, or processors in software.
protocol Virtualization: AnyObject, Sendable {
  /// Shows option ROMs of PCI functions.
  var optionROMs: any PCIRegionMapper { get }
  /// Takes kicks of virtio queues where they happen; nil: the bus write reaches the queue.
  var doorbells: (any DoorbellBinding)? { get }
  /// Carries the MSI-X vectors of one function; nil: they are delivered as messages.
  func makeVectors() -> (any MessageVectorBinding)?
  /// The board's interrupt chips. Once.
  func makeInterrupts(_ chip: InterruptChip) -> BoardInterrupts
  /// Shows the firmware to the guest, read-only, where it ends at 4 GiB.
  func mapFirmware(_ image: FirmwareMapping, at address: GuestAddress) throws(MachineError)
  /// The processors of the board, CPUID set, as after power-on. After the devices are on their buses.
  func makeProcessors(
    _ configuration: MachineConfiguration, buses: BusAccess
  ) throws(MachineError) -> [any Processor]

  /// Called when no processor runs any more: what the guest's paravirtual clock shows, in nanoseconds.
  func pauseClock() -> UInt64?
  /// Before the processors run again.
  func resumeClock(at nanoseconds: UInt64)
  /// Whether nothing can make any processor go on. While none runs.
  func isStuck() -> Bool
  /// After the processors' threads have ended.
  func stop()
}
