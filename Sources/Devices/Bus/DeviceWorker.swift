// The thread that a device works on, so that neither a virtual processor nor another device waits for it.

import CLinux
import Platform
import Synchronization

/// What a device's thread waits for and serves beside kicks. Both are called on that thread, while nobody holds it.
protocol DeviceWorkSource: AnyObject, Sendable {
  /// Adds descriptors and an end to the wait.
  func prepare(_ set: PollSet)
  /// After the wait. What `prepare` added may be missing: then nothing is ready.
  func serve(_ set: PollSet)
}

/// Calls a device's `step` as long as there is something to do, and sleeps on an eventfd otherwise.
///
/// Whoever holds the worker knows that no step is running and none begins: that is how reset, pause and snapshots keep
/// a device off guest memory.
final class DeviceWorker: Sendable {
  /// Most steps between two looks at the source.
  private static let stepLimit = 16

  /// Signalled by kicks: through the transport, or by the kernel as an ioeventfd.
  let notifier: EventNotifier
  private let name: String
  private let step: @Sendable () -> Bool
  /// Finishes what the device has under way, however long it takes.
  private let settle: @Sendable () -> Void
  /// Another descriptor that is worth a step when it is readable; -1 for none.
  private let answers: @Sendable () -> Int32
  /// What else the thread waits for and serves.
  private let source: (any DeviceWorkSource)?
  /// Held during a step.
  private let gate = Mutex(())
  /// How many hold the worker, or wait to.
  private let holders = Atomic<Int>(0)
  private let isPaused = Atomic<Bool>(false)
  private let isEnding = Atomic<Bool>(false)
  private let thread = Mutex<PosixThread?>(nil)

  /// - Parameters:
  ///   - name: at most 15 bytes.
  ///   - source: what else the thread is to wait for. Must not keep the device alive.
  ///   - answers: a descriptor that becomes readable when work under way is done, asked before each sleep; -1 for none.
  ///   - settle: waits for all work under way. Called by a holder.
  ///   - step: does one bounded piece of work; returns whether there may be more. Must not keep the device alive.
  init(
    name: String, source: (any DeviceWorkSource)? = nil,
    answers: @escaping @Sendable () -> Int32 = { -1 },
    settle: @escaping @Sendable () -> Void = {}, step: @escaping @Sendable () -> Bool
  ) throws(PlatformError) {
    notifier = try EventNotifier()
    self.name = name
    self.source = source
    self.answers = answers
    self.settle = settle
    self.step = step
  }

  /// Starts the thread, if it does not run yet.
  func start() throws(PlatformError) {
    try thread.withLock { (thread) throws(PlatformError) in
      guard thread == nil, !isEnding.load(ordering: .acquiring) else { return }
      thread = try PosixThread(name: name, role: .device) { [self] in run() }
    }
  }

  /// Ends the thread and waits for it.
  func stop() {
    isEnding.store(true, ordering: .releasing)
    notifier.signal()
    let running = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    running?.join()
  }

  /// Waits for the step that runs and for what is under way, and lets no step begin before `release`. Calls nest.
  ///
  /// On the worker's own thread the step that runs is the caller's: a device may lose its last owner during a step, and
  /// ends on this thread then.
  func hold() {
    holders.add(1, ordering: .sequentiallyConsistent)
    if thread.withLock({ $0?.isCurrent ?? false }) {
      settle()
    } else {
      gate.withLock { _ in settle() }
    }
  }

  func release() {
    holders.subtract(1, ordering: .sequentiallyConsistent)
    notifier.signal()
  }

  /// As `hold`, once: a second `pause` changes nothing.
  func pause() {
    if !isPaused.exchange(true, ordering: .sequentiallyConsistent) { hold() }
  }

  /// Ends a `pause`. Without one it changes nothing: a machine also begins by being resumed.
  func resume() {
    if isPaused.exchange(false, ordering: .sequentiallyConsistent) { release() }
  }

  private func run() {
    let polls = PollSet()
    while !isEnding.load(ordering: .acquiring) {
      polls.clear()
      polls.add(notifier.rawDescriptor, for: .readable)
      gate.withLock { _ in
        // A negative descriptor is passed over.
        polls.add(answers(), for: .readable)
        // While held nothing would be served: ready descriptors would end every wait.
        if holders.load(ordering: .sequentiallyConsistent) == 0 { source?.prepare(polls) }
      }
      do throws(PlatformError) { try polls.wait() } catch { return }
      notifier.drain()
      if let source {
        gate.withLock { _ in
          if holders.load(ordering: .sequentiallyConsistent) == 0 { source.serve(polls) }
        }
      }
      var steps = 0
      while !isEnding.load(ordering: .acquiring) && stepOnce() {
        steps &+= 1
        if source != nil && steps == Self.stepLimit {
          // A busy queue must not keep the source waiting: look at it without a sleep.
          notifier.signal()
          break
        }
      }
    }
  }

  private func stepOnce() -> Bool {
    // Looked at inside the gate: a holder that came before has counted itself already.
    gate.withLock { _ in
      holders.load(ordering: .sequentiallyConsistent) == 0 && step()
    }
  }
}
