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
  /// Whether what the driver offers now is so little that the thread that rang can see to it. While nobody else works.
  func isLight() -> Bool
  /// Around what that thread does: nothing ends the wait meanwhile but the notifier.
  func setMuted(_ muted: Bool)
}

extension DeviceWorkSource {
  func isLight() -> Bool { false }
  func setMuted(_ muted: Bool) {}
}

/// Calls a device's `step` as long as there is something to do, and sleeps on an eventfd otherwise.
///
/// Whoever holds the worker knows that no step is running and none begins: that is how reset, pause and snapshots keep
/// a device off guest memory.
final class DeviceWorker: Sendable {
  /// Most steps between two looks at the source.
  private static let stepLimit = 16
  /// The same on a thread that rang.
  private static let ringStepLimit = 4
  /// Rings that follow each other within this time, in nanoseconds, are a stream: two threads get further with it.
  private static let ringDistance: UInt64 = 50_000
  private static let ringLimit = 4

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
  private let gate = Mutex(Guarded())
  /// How many hold the worker, or wait to.
  private let holders = Atomic<Int>(0)
  private let isPaused = Atomic<Bool>(false)
  private let isEnding = Atomic<Bool>(false)
  private let thread = Mutex<PosixThread?>(nil)
  /// The thread sleeps, or is about to.
  private let isWaiting = Atomic<Bool>(false)

  private struct Guarded {
    /// What the thread waits for.
    let polls = PollSet()
    /// The same as it would be now.
    let current = PollSet()
    /// The source has prepared for another wait than the one that goes on.
    var isStale = false
    /// When the last ring was served on the thread that rang, and how many followed each other closely.
    var lastRing: UInt64 = 0
    var rings = 0
  }

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
    let polls = gate.withLock { $0.polls }
    while !isEnding.load(ordering: .acquiring) {
      gate.withLock { state in
        prepare(state.polls)
        state.isStale = false
        isWaiting.store(true, ordering: .releasing)
      }
      do throws(PlatformError) { try polls.wait() } catch { return }
      isWaiting.store(false, ordering: .releasing)
      if !polls.events(at: 0).isEmpty { notifier.drain() }
      if let source {
        gate.withLock { state in
          // A wait that others prepared anew is none that the source knows.
          if holders.load(ordering: .sequentiallyConsistent) == 0, !state.isStale {
            source.serve(polls)
          }
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

  /// With the gate held.
  private func prepare(_ set: PollSet) {
    set.clear()
    set.add(notifier.rawDescriptor, for: .readable)
    // A negative descriptor is passed over.
    set.add(answers(), for: .readable)
    // While held nothing would be served: ready descriptors would end every wait.
    if holders.load(ordering: .sequentiallyConsistent) == 0 { source?.prepare(set) }
  }

  // MARK: On the thread that rings

  /// Does at once what the driver asks for, if that is little, the thread sleeps and the driver does not ask all the
  /// time: an answer that is there by then costs no change of threads. From any thread, with no lock of the device held.
  ///
  /// - Returns: false when nothing was done; the notifier is to be signalled then.
  func serveAtOnce() -> Bool {
    guard let source, isWaiting.load(ordering: .acquiring) else { return false }
    return gate.withLockIfAvailable { state in
      guard isWaiting.load(ordering: .acquiring), !state.isStale,
        holders.load(ordering: .sequentiallyConsistent) == 0, source.isLight(),
        isSeldom(&state)
      else { return false }
      source.setMuted(true)
      var isDone = takeSteps()
      prepare(state.current)
      // What the other end has answered already.
      if state.current.look() {
        source.serve(state.current)
        isDone = takeSteps() && isDone
      }
      source.setMuted(false)
      prepare(state.current)
      state.lastRing = MonotonicClock.now
      if !isDone || !state.polls.covers(state.current) {
        state.isStale = true
        notifier.signal()
      }
      return true
    } ?? false
  }

  /// False when there may be more to do.
  private func takeSteps() -> Bool {
    for _ in 0..<Self.ringStepLimit where !step() { return true }
    return false
  }

  private func isSeldom(_ state: inout Guarded) -> Bool {
    let isClose = MonotonicClock.now &- state.lastRing < Self.ringDistance
    state.rings = isClose ? state.rings &+ 1 : 0
    return state.rings < Self.ringLimit
  }

  private func stepOnce() -> Bool {
    // Looked at inside the gate: a holder that came before has counted itself already.
    gate.withLock { _ in
      holders.load(ordering: .sequentiallyConsistent) == 0 && step()
    }
  }
}
