// A port of the adapter with the thread that serves it.

import Platform

/// Owned by its adapter.
final class AHCIPort: Sendable {
  let device: any ATADevice
  private let engine: AHCIPortEngine
  private let worker: DeviceWorker

  init(_ index: Int, _ device: any ATADevice) throws(PlatformError) {
    let engine = AHCIPortEngine(index, device)
    self.device = device
    self.engine = engine
    worker = try DeviceWorker(
      name: "ahci-\(index)", answers: { engine.descriptor }, settle: { engine.settle() },
      step: { engine.step() })
  }

  /// Begins to serve the port; the adapter calls `stop` before it goes.
  func start(_ controller: AHCIController) throws(PlatformError) {
    worker.hold()
    engine.attach(controller)
    worker.release()
    try worker.start()
  }

  /// There may be something to do.
  func ring() { worker.notifier.signal() }

  /// Waits until nothing is in flight, and begins nothing before `release`.
  func hold() { worker.hold() }
  func release() { worker.release() }
  func pause() { worker.pause() }
  func resume() { worker.resume() }

  /// Ends the thread.
  func stop() {
    worker.hold()
    worker.stop()
  }
}
