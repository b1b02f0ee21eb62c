import Devices
import GuestMemory
import KVM
import Platform

/// Kicks of virtio queues without an exit (ioeventfd).
final class KernelDoorbells: DoorbellBinding {
  private let machine: VirtualMachine

  init(_ machine: VirtualMachine) { self.machine = machine }

  // Where the kernel refuses, the access exits and the transport signals the notifier itself.

  func bind(_ doorbell: Doorbell, to notifier: EventNotifier) {
    if let request = request(doorbell) { try? machine.attachDoorbell(request, to: notifier) }
  }

  func unbind(_ doorbell: Doorbell, from notifier: EventNotifier) {
    if let request = request(doorbell) { try? machine.detachDoorbell(request, from: notifier) }
  }

  private func request(_ doorbell: Doorbell) -> VirtualMachine.Doorbell? {
    switch doorbell.space {
    case .ports:
      guard let port = UInt16(exactly: doorbell.address) else { return nil }
      return .init(.port(port), length: UInt32(clamping: doorbell.length), value: doorbell.match)
    case .memory:
      return .init(
        .memory(GuestAddress(doorbell.address)), length: UInt32(clamping: doorbell.length),
        value: doorbell.match)
    }
  }
}
