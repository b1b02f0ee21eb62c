// A request queue of a device with the thread that serves it: what all kinds of queues have in common.

import Platform

/// What a thread does with its queue. The thread's own, or of one that holds it.
protocol VirtioQueueEngine: AnyObject, Sendable {
  var queue: VirtioQueue? { get set }
  var link: VirtioLink? { get set }
  /// Does one bounded piece of work; returns whether there may be more.
  func step() -> Bool
  /// Waits until nothing is in flight.
  func settle()
  /// Readable when something in flight is done; -1 with nothing in flight.
  var descriptor: Int32 { get }
}

extension VirtioQueueEngine {
  func settle() {}
  var descriptor: Int32 { -1 }
}

/// A kind of queue adds how it is attached to its device. Owned by that device, which calls `stop` in its `deinit`.
class VirtioQueueThread: @unchecked Sendable {
  // @unchecked: nothing here changes; subclasses add no state of their own but their engine.
  private let engine: any VirtioQueueEngine
  private let worker: DeviceWorker

  init(name: String, _ engine: any VirtioQueueEngine) throws(PlatformError) {
    self.engine = engine
    worker = try DeviceWorker(
      name: name, answers: { engine.descriptor }, settle: { engine.settle() },
      step: { engine.step() })
  }

  final var notifier: EventNotifier { worker.notifier }

  /// Changes the engine while nothing is served.
  final func change(_ body: () -> Void) {
    worker.hold()
    body()
    worker.release()
  }

  /// Serves `queue` from now on, beginning with what is in it.
  final func activate(_ queue: VirtioQueue?) {
    change { engine.queue = queue }
    guard queue != nil else { return }
    do {
      try worker.start()
    } catch {
      // Without a thread the device cannot work: better a device that reports that than one that hangs.
      engine.link?.fail(.request)
    }
  }

  final func deactivate() { change { engine.queue = nil } }

  final func pause() { worker.pause() }
  final func resume() { worker.resume() }

  /// Only while paused.
  final var position: VirtioQueuePosition? { engine.queue?.position }

  /// Ends the thread.
  final func stop() { worker.stop() }
}
