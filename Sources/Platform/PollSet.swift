import CLinux

/// Descriptors to wait for, put together anew before every wait (poll(2)). Used by one thread at a time.
public final class PollSet: @unchecked Sendable {
  // @unchecked: its owner's thread alone touches it.
  /// What a descriptor is asked for, or has. Hang-ups and errors are always told.
  public struct Events: OptionSet, Sendable {
    public let rawValue: Int16
    public init(rawValue: Int16) { self.rawValue = rawValue }
    public static let readable = Events(rawValue: Int16(POLLIN))
    public static let writable = Events(rawValue: Int16(POLLOUT))
    public static let urgent = Events(rawValue: Int16(POLLPRI))
    public static let error = Events(rawValue: Int16(POLLERR))
    public static let hangup = Events(rawValue: Int16(POLLHUP))
  }

  private var entries: UnsafeMutablePointer<pollfd>
  private var capacity = 16
  public private(set) var count = 0
  private var deadline: UInt64?

  public init() { entries = .allocate(capacity: capacity) }

  deinit { entries.deallocate() }

  /// Nothing to wait for, and no end of the wait.
  public func clear() {
    count = 0
    deadline = nil
  }

  /// Adds a descriptor and returns its index. A negative one is passed over.
  @discardableResult
  public func add(_ descriptor: Int32, for events: Events) -> Int {
    if count == capacity { grow() }
    (entries + count).initialize(
      to: pollfd(fd: descriptor, events: events.rawValue, revents: 0))
    count &+= 1
    return count &- 1
  }

  private func grow() {
    let larger = UnsafeMutablePointer<pollfd>.allocate(capacity: capacity * 2)
    larger.moveInitialize(from: entries, count: count)
    entries.deallocate()
    entries = larger
    capacity *= 2
  }

  /// Ends the wait at `time` (nanoseconds of `MonotonicClock`) or earlier.
  public func end(at time: UInt64) { deadline = min(deadline ?? time, time) }

  /// What the descriptor of `index` had at the end of the wait.
  public func events(at index: Int) -> Events {
    guard index >= 0 && index < count else { return [] }
    return Events(rawValue: entries[index].revents)
  }

  /// Whether a wait for this set ends no later than one for `other`: the same descriptors, and no later end.
  public func covers(_ other: PollSet) -> Bool {
    guard count == other.count, (deadline ?? .max) <= (other.deadline ?? .max) else {
      return false
    }
    for index in 0..<count {
      guard entries[index].fd == other.entries[index].fd,
        entries[index].events == other.entries[index].events
      else { return false }
    }
    return true
  }

  /// Finds out what is ready, without a wait.
  ///
  /// - Returns: whether anything is.
  public func look() -> Bool {
    if poll(entries, nfds_t(count), 0) >= 0 {
      return (0..<count).contains { entries[$0].revents != 0 }
    }
    for index in 0..<count { entries[index].revents = 0 }
    return false
  }

  /// Waits until a descriptor is ready, the end comes, or a signal.
  ///
  /// - Throws: `PlatformError` when the kernel refuses.
  public func wait() throws(PlatformError) {
    var timeout: Int32 = -1
    if let deadline {
      let now = MonotonicClock.now
      let left = deadline <= now ? 0 : deadline - now
      // Rounded up: a wait that ends too early would only be repeated.
      timeout = Int32(clamping: (left + 999_999) / 1_000_000)
    }
    if poll(entries, nfds_t(count), timeout) < 0 {
      let code = linux_error_number()
      for index in 0..<count { entries[index].revents = 0 }
      if code != EINTR { throw PlatformError(operation: "poll", code: code) }
    }
  }
}
