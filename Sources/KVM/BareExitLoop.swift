import CLinux
import GuestMemory
import Platform

/// The cheapest loop around KVM_RUN that there can be: the yardstick for the one of the board. Nothing is decoded; the
/// exit reason and the port are looked at, and the kernel is entered again.
package final class BareExitLoop {
  /// Where a program announces its end.
  package static let endPort: UInt16 = 0x81
  /// A guest-physical address without memory, mapped one to one.
  package static let emptyAddress: UInt32 = 0x20_0000

  private let guest: MeasuringGuest

  /// - Throws: where the host has no KVM that this process may use.
  package init() throws(KVMError) { guest = try MeasuringGuest(try KVMSystem()) }

  /// Writes of `value` as 16 bits to `port` signal `notifier` without an exit.
  package func attachDoorbell(
    port: UInt16, value: UInt64, to notifier: EventNotifier
  ) throws(KVMError) {
    try guest.machine.attachDoorbell(.init(.port(port), length: 2, value: value), to: notifier)
  }

  /// Runs `program`, 64-bit code at CPL 0 that ends with OUT to `endPort`, and returns its nanoseconds and exits.
  package func time(_ program: [UInt8]) throws(KVMError) -> (nanoseconds: UInt64, exits: Int) {
    try guest.load(program)
    let descriptor = guest.processor.rawDescriptor
    let shared = guest.processor.shared
    let start = MonotonicClock.now
    var exits = 0
    while true {
      let result = linux_kvm_run(descriptor)
      if result == -EINTR { continue }
      guard result == 0 else {
        throw .system(PlatformError(operation: "KVM_RUN", code: -result))
      }
      switch Int32(bitPattern: shared.pointee.exit_reason) {
      case KVM_EXIT_IO:
        if linux_kvm_io_port(shared) == Self.endPort {
          return (MonotonicClock.now &- start, exits)
        }
      case KVM_EXIT_MMIO: break
      default:
        throw .invalidRequest("the measuring guest stopped (\(shared.pointee.exit_reason))")
      }
      exits &+= 1
    }
  }
}
