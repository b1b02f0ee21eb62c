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

  /// Chips of ours whose INTR the processors look at themselves.
  init(_ router: InterruptRouter) {
    sink = router
    self.router = router
    external = nil
  }

  /// - Parameter losesEnds: the host's kernel emulates the guest's kernel mode: see `ImpatientSink`.
  init(_ virtualization: KernelVirtualization, chip: InterruptChip, losesEnds: Bool) {
    switch chip {
    case .kernel:
      sink = virtualization
      router = nil
      external = nil
    case .split:
      let external = ExternalInterrupts()
      let routes = PinRoutes(virtualization.machine)
      let machine = virtualization.machine
      let router = InterruptRouter(
        InterruptRouter.Outputs(
          interruptRequest: { external.setRequest($0) },
          deliver: { message in
            (try? machine.signalMessage(address: message.address, data: message.data)) ?? false
          },
          redirectionChanged: { pin, entry in routes.set(pin, entry) }))
      sink = losesEnds ? ImpatientSink(router, routes) : router
      self.router = router
      self.external = external
    }
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

  /// The vector of a level-triggered pin.
  func vector(ofPin pin: Int) -> VectorNumber? {
    routes.withLock { routes in
      guard routes.indices.contains(pin), let message = routes[pin] else { return nil }
      return VectorNumber(UInt8(truncatingIfNeeded: message.data))
    }
  }
}

/// For kernels that emulate the guest's kernel mode: there the report of an end of interrupt waits until the processor
/// comes out for another reason, and is lost in a processor that halts first. A line that has gone down needs no report:
/// its device was served, and an interrupt that comes too early waits in the local APIC.
private final class ImpatientSink: InterruptSink {
  private let router: InterruptRouter
  private let routes: PinRoutes

  init(_ router: InterruptRouter, _ routes: PinRoutes) {
    self.router = router
    self.routes = routes
  }

  func setLine(_ number: UInt32, asserted: Bool) {
    router.setLine(number, asserted: asserted)
    guard !asserted, let vector = routes.vector(ofPin: Int(number)) else { return }
    router.endOfInterrupt(vector)
  }

  func deliver(_ message: MessageInterrupt) { router.deliver(message) }
}
