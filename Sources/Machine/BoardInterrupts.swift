import Devices
import KVM
import Processor
import Synchronization

/// The interrupt chips of a board: the kernel's, or ours.
struct BoardInterrupts {
  /// Where devices' lines and messages go.
  let sink: any InterruptSink
  /// Our 8259As and I/O APIC; nil where the kernel has them.
  let router: InterruptRouter?
  /// INTR of our 8259As.
  let external: ExternalInterrupts?

  init(sink: any InterruptSink, router: InterruptRouter?, external: ExternalInterrupts?) {
    self.sink = sink
    self.router = router
    self.external = external
  }

  /// Ours, with the kernel's local APICs.
  init(splitting machine: VirtualMachine) {
    let external = ExternalInterrupts()
    let routes = PinRoutes(machine)
    let router = InterruptRouter(
      InterruptRouter.Outputs(
        interruptRequest: { external.setRequest($0) },
        deliver: { message in
          (try? machine.signalMessage(address: message.address, data: message.data)) ?? false
        },
        redirectionChanged: { pin, entry in routes.set(pin, entry) }))
    self.init(sink: router, router: router, external: external)
  }
}

/// Tells the kernel which vectors are level-triggered pins of our I/O APIC, so that it reports their end.
private final class PinRoutes: Sendable {
  private let machine: VirtualMachine
  private let routes = Mutex(
    [MessageInterrupt?](repeating: nil, count: InputOutputInterruptController.pinCount))

  init(_ machine: VirtualMachine) { self.machine = machine }

  /// Edges need no report, and a pin that is only masked may still be in service: routes are dear to change.
  func set(_ pin: Int, _ entry: InputOutputInterruptController.Redirection) {
    guard entry.isLevelTriggered else { return }
    let message = entry.message
    routes.withLock { routes in
      guard routes.indices.contains(pin), routes[pin] != message else { return }
      do {
        try machine.setMessage(UInt32(pin), address: message.address, data: message.data)
        routes[pin] = message
      } catch {
        routes[pin] = nil
      }
    }
  }
}
