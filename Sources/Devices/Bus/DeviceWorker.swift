// The thread that a device works on, so that neither a virtual processor nor another device waits for it.

import CLinux
import Platform
import Synchronization

/// Calls a device's `step` as long as there is something to do, and sleeps on an eventfd otherwise.
///
/// Whoever holds the worker knows that no step is running and none begins: that is how reset, pause and snapshots keep
/// a device off guest memory.
final class DeviceWorker: Sendable {
  /// Signalled by kicks: through the transport, or by the kernel as an ioeventfd.
  let notifier: EventNotifier
  private let name: String
  private let step: @Sendable () -> Bool
  /// Finishes what the device has under way, however long it takes.
  private let settle: @Sendable () -> Void
  /// Another descriptor that is worth a step when it is readable; -1 for none.
  private let answers: @Sendable () -> Int32
  /// Held during a step.
  private let gate = Mutex(())
  /// How many hold the worker, or wait to.
  private let holders = Atomic<Int>(0)
  private let isPaused = Atomic<Bool>(false)
  private let isEnding = Atomic<Bool>(false)
  private let thread = Mutex<PosixThread?>(nil)

  /// - Parameters:
  ///   - name: at most 15 bytes.
  ///   - answers: a descriptor that becomes readable when work under way is done, asked before each sleep; -1 for none.
  ///   - settle: waits for all work under way. Called by a holder.
  ///   - step: does one bounded piece of work; returns whether there may be more. Must not keep the device alive.
  init(
    name: String, answers: @escaping @Sendable () -> Int32 = { -1 },
    settle: @escaping @Sendable () -> Void = {}, step: @escaping @Sendable () -> Bool
  ) throws(PlatformError) {
    notifier = try EventNotifier()
    self.name = name
    self.answers = answers
    self.settle = settle
    self.step = step
  }

  /// Starts the thread, if it does not run yet.
  func start() throws(PlatformError) {
    try thread.withLock { (thread) throws(PlatformError) in
      guard thread == nil, !isEnding.load(ordering: .acquiring) else { return }
      thread = try PosixThread(name: name) { [self] in run() }
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
  func hold() {
    holders.add(1, ordering: .sequentiallyConsistent)
    gate.withLock { _ in settle() }
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
    let descriptors = UnsafeMutablePointer<pollfd>.allocate(capacity: 2)
    defer { descriptors.deallocate() }
    descriptors[0] = pollfd(fd: notifier.rawDescriptor, events: Int16(POLLIN), revents: 0)
    while !isEnding.load(ordering: .acquiring) {
      // A negative descriptor is passed over.
      let other = gate.withLock { _ in answers() }
      descriptors[1] = pollfd(fd: other, events: Int16(POLLIN), revents: 0)
      if poll(descriptors, 2, -1) < 0 && linux_error_number() != EINTR { return }
      notifier.drain()
      while !isEnding.load(ordering: .acquiring) && stepOnce() {}
    }
  }

  private func stepOnce() -> Bool {
    // Looked at inside the gate: a holder that came before has counted itself already.
    gate.withLock { _ in
      holders.load(ordering: .sequentiallyConsistent) == 0 && step()
    }
  }
}
