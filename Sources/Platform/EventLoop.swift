import CLinux
import Synchronization

/// A thread's wait for many descriptors and timers (epoll(7)).
///
/// Registrations and `run` belong to one thread; `perform` and `stop` may be called from any.
public final class EventLoop: @unchecked Sendable {
  /// What a descriptor is ready for.
  public struct Readiness: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let readable = Readiness(rawValue: EPOLLIN.rawValue)
    public static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
    /// The peer is gone or the descriptor is broken. Always reported.
    public static let hangup = Readiness(rawValue: EPOLLHUP.rawValue | EPOLLERR.rawValue)
  }

  /// Names a timer of this loop.
  public struct TimerIdentifier: Hashable, Sendable {
    fileprivate let value: UInt64
  }

  private struct Timer {
    var deadline: UInt64
    var interval: UInt64?
    var body: () -> Void
  }

  private let epoll: FileDescriptor
  private let wakeup: EventNotifier
  private var handlers: [Int32: (Readiness) -> Void] = [:]
  private var timers: [UInt64: Timer] = [:]
  private var nextTimer: UInt64 = 1
  private let pending = Mutex<[@Sendable () -> Void]>([])
  private let stopping = Atomic<Bool>(false)

  public init() throws(PlatformError) {
    epoll = FileDescriptor(
      owning: try systemCall("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    wakeup = try EventNotifier()
    let notifier = wakeup
    try watch(notifier.rawDescriptor, for: .readable) { _ in notifier.drain() }
  }

  /// Calls `handler` on the loop's thread whenever the descriptor is ready. Replaces an earlier handler.
  ///
  /// The caller keeps the descriptor open and calls `unwatch` before closing it.
  public func watch(
    _ descriptor: Int32, for readiness: Readiness, handler: @escaping (Readiness) -> Void
  ) throws(PlatformError) {
    var event = epoll_event()
    event.events = readiness.rawValue
    event.data.fd = descriptor
    let operation = handlers[descriptor] == nil ? EPOLL_CTL_ADD : EPOLL_CTL_MOD
    let number = epoll.rawValue
    try systemCall("epoll_ctl") { epoll_ctl(number, operation, descriptor, &event) }
    handlers[descriptor] = handler
  }

  /// Forgets a descriptor. Harmless when it was not watched.
  public func unwatch(_ descriptor: Int32) {
    guard handlers.removeValue(forKey: descriptor) != nil else { return }
    var event = epoll_event()
    _ = epoll_ctl(epoll.rawValue, EPOLL_CTL_DEL, descriptor, &event)
  }

  /// Calls `body` once at `deadline` (nanoseconds of `MonotonicClock`), then every `interval` nanoseconds if given.
  @discardableResult
  public func schedule(
    at deadline: UInt64, every interval: UInt64? = nil, _ body: @escaping () -> Void
  ) -> TimerIdentifier {
    let identifier = nextTimer
    nextTimer &+= 1
    timers[identifier] = Timer(deadline: deadline, interval: interval, body: body)
    return TimerIdentifier(value: identifier)
  }

  /// Forgets a timer. Harmless when it has fired already.
  public func cancel(_ timer: TimerIdentifier) {
    timers.removeValue(forKey: timer.value)
  }

  /// Runs `body` on the loop's thread soon. Callable from any thread.
  public func perform(_ body: @escaping @Sendable () -> Void) {
    pending.withLock { $0.append(body) }
    wakeup.signal()
  }

  /// Makes `run` return after the handler that is running. Callable from any thread.
  public func stop() {
    stopping.store(true, ordering: .releasing)
    wakeup.signal()
  }

  /// Serves descriptors and timers until `stop`.
  public func run() throws(PlatformError) {
    while !stopping.load(ordering: .acquiring) {
      try runOnce(timeoutMilliseconds: nil)
    }
    stopping.store(false, ordering: .releasing)
  }

  /// Waits for one round of events, at most the given time (nil: until something happens).
  public func runOnce(timeoutMilliseconds: Int32?) throws(PlatformError) {
    var events = [epoll_event](repeating: epoll_event(), count: 64)
    let timeout = waitTime(limit: timeoutMilliseconds)
    let number = epoll.rawValue
    let count: Int32
    do {
      count = try systemCall("epoll_wait", retryOnInterrupt: false) {
        epoll_wait(number, &events, Int32(events.count), timeout)
      }
    } catch  where error.code == EINTR {
      count = 0
    }
    for event in events.prefix(Int(count)) {
      // A handler that ran before in this round may have unwatched this one.
      handlers[event.data.fd]?(Readiness(rawValue: event.events))
    }
    fireTimers()
    let bodies = pending.withLock { bodies in
      defer { bodies.removeAll(keepingCapacity: true) }
      return bodies
    }
    for body in bodies { body() }
  }

  private func waitTime(limit: Int32?) -> Int32 {
    var timeout = limit ?? -1
    if let earliest = timers.values.lazy.map(\.deadline).min() {
      let now = MonotonicClock.now
      let milliseconds = earliest <= now ? 0 : (earliest - now + 999_999) / 1_000_000
      let clamped = Int32(clamping: milliseconds)
      timeout = timeout < 0 ? clamped : min(timeout, clamped)
    }
    return timeout
  }

  private func fireTimers() {
    let now = MonotonicClock.now
    for (identifier, timer) in timers where timer.deadline <= now {
      guard timers[identifier] != nil else { continue }
      if let interval = timer.interval {
        timers[identifier]?.deadline = max(timer.deadline &+ interval, now)
      } else {
        timers.removeValue(forKey: identifier)
      }
      timer.body()
    }
  }
}
