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
final class VirtioQueueWorker: VirtioQueueThread, @unchecked Sendable {
  private let state: State

  private final class State: VirtioQueueEngine, @unchecked Sendable {
    // @unchecked: touched by a step or a holder of the worker only.
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
    try super.init(name: name, state)
  }

  func attach(_ processor: any VirtioRequestProcessor, link: VirtioLink) {
    change {
      state.processor = processor
      state.link = link
    }
  }
}
