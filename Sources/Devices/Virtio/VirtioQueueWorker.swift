// One request queue with the thread that serves it: takes chains one by one, has them processed, gives them back.

import Platform

/// Does what a request asks. Called by one thread a queue.
protocol VirtioRequestProcessor: AnyObject, Sendable {
  /// Processes one chain and returns how many bytes were written into it.
  ///
  /// - Throws: `VirtioViolation` for a chain that is no request at all; the device then stops.
  func process(_ chain: VirtioChain, queue index: Int) throws(VirtioViolation) -> UInt32
}

/// Owned by the device that is its processor.
final class VirtioQueueWorker: @unchecked Sendable {
  // @unchecked: `queue` and `link` change only while the worker is held or before it starts.
  private let worker: VirtioWorker
  private let state: State

  private final class State: @unchecked Sendable {
    let chain = VirtioChain()
    var queue: VirtioQueue?
    var link: VirtioLink?
    /// The owner, which stops the thread before it goes.
    unowned(unsafe) var processor: (any VirtioRequestProcessor)?

    func step() -> Bool {
      guard let queue, let link, let processor else { return false }
      do throws(VirtioViolation) {
        queue.suppressNotifications()
        guard try queue.take(into: chain) else { return queue.allowNotifications() }
        let written = try processor.process(chain, queue: queue.index)
        queue.give(chain, written: written)
        if queue.wantsInterrupt() { link.signal(queue: queue.index) }
        return true
      } catch {
        queue.markWritten(chain)
        self.queue = nil
        link.fail(error)
        return false
      }
    }
  }

  init(name: String) throws(PlatformError) {
    let state = State()
    self.state = state
    worker = try VirtioWorker(name: name) { state.step() }
  }

  var notifier: EventNotifier { worker.notifier }

  func attach(_ processor: any VirtioRequestProcessor, link: VirtioLink) {
    state.processor = processor
    state.link = link
  }

  /// Serves `queue` from now on, beginning with what is in it.
  func activate(_ queue: VirtioQueue?) {
    worker.hold()
    state.queue = queue
    worker.release()
    guard queue != nil else { return }
    do {
      try worker.start()
    } catch {
      // Without a thread the device cannot work: better a device that reports that than one that hangs.
      state.link?.fail(.request)
    }
  }

  func deactivate() {
    worker.hold()
    state.queue = nil
    worker.release()
  }

  func pause() { worker.pause() }
  func resume() { worker.resume() }

  /// Only while paused.
  var position: VirtioQueuePosition? { state.queue?.position }

  /// Ends the thread. The owner calls this in its `deinit`.
  func stop() { worker.stop() }
}
