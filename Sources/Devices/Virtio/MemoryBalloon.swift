// What a person or a program of the host wants of a guest's memory balloon, and what is known of it.

import Platform
import Synchronization

/// One machine's memory balloon as the host sees it. It outlives resets of the guest.
public final class MemoryBalloon: Sendable {
  /// Bytes of a page in a balloon, whatever pages the guest has (Virtual I/O Device 1.2, 5.5.6).
  static let pageSize: UInt64 = 4096
  /// What a guest is left at least, in bytes.
  public static let smallestTarget: UInt64 = 16 << 20
  /// Nanoseconds for which the guest's figures count as new.
  static let statisticsAge: UInt64 = 1_000_000_000

  /// What the guest says of its memory (5.5.6.3). nil: it has not said that.
  public struct Statistics: Sendable, Equatable, Codable {
    /// Bytes that were read from swap space and written to it since the guest's start.
    public var swappedIn: UInt64?
    public var swappedOut: UInt64?
    /// Page faults that read a disk, and that did not.
    public var majorFaults: UInt64?
    public var minorFaults: UInt64?
    /// Bytes: unused, in all, to be had without swapping, and cached content of disks.
    public var free: UInt64?
    public var total: UInt64?
    public var available: UInt64?
    public var caches: UInt64?
    /// Huge pages that were given to programs, and that could not be given.
    public var hugePages: UInt64?
    public var hugePageFailures: UInt64?
    /// Programs that were ended because memory was short.
    public var kills: UInt64?
    public init() {}

    /// Takes one entry in; tags that nobody knows are passed over.
    mutating func set(tag: UInt16, _ value: UInt64) {
      switch tag {
      case 0: swappedIn = value
      case 1: swappedOut = value
      case 2: majorFaults = value
      case 3: minorFaults = value
      case 4: free = value
      case 5: total = value
      case 6: available = value
      case 7: caches = value
      case 8: hugePages = value
      case 9: hugePageFailures = value
      case 10: kills = value
      default: break
      }
    }
  }

  /// A moment's state.
  public struct Report: Sendable, Equatable {
    /// Bytes that the guest is to keep.
    public var target: UInt64
    /// Bytes that it keeps: all but what is in the balloon.
    public var current: UInt64
    /// A driver serves the balloon.
    public var hasDriver: Bool
    /// Bytes that were given back to the host since the start: out of the balloon, and free pages that the guest reported.
    public var reclaimed: UInt64
    public var reported: UInt64
    /// nil until the guest has sent figures.
    public var statistics: Statistics?

    public init(
      target: UInt64, current: UInt64, hasDriver: Bool, reclaimed: UInt64, reported: UInt64,
      statistics: Statistics?
    ) {
      self.target = target
      self.current = current
      self.hasDriver = hasDriver
      self.reclaimed = reclaimed
      self.reported = reported
      self.statistics = statistics
    }
  }

  struct Guarded {
    /// Pages that are to be in the balloon.
    var wantedPages: UInt32
    /// Pages that the driver says are in it.
    var actualPages: UInt32 = 0
    var hasDriver = false
    var reclaimed: UInt64 = 0
    var reported: UInt64 = 0
    var statistics: Statistics?
    /// When the guest was last asked for its figures.
    var askedAt: UInt64?
    weak var device: VirtioBalloon?
  }

  /// Bytes of the guest's memory.
  public let memorySize: UInt64
  private let guarded: Mutex<Guarded>

  /// - Parameters:
  ///   - memorySize: bytes.
  ///   - target: what the guest is to keep, in bytes; nil: all.
  public init(memorySize: UInt64, target: UInt64? = nil) {
    self.memorySize = memorySize
    let kept = min(max(target ?? memorySize, Self.smallestTarget), memorySize)
    guarded = Mutex(Guarded(wantedPages: Self.pages(memorySize &- kept)))
  }

  private static func pages(_ bytes: UInt64) -> UInt32 { UInt32(clamping: bytes / pageSize) }

  // MARK: For the host

  /// Asks the guest to keep so many bytes, and to give the rest to the host; it does what it can.
  ///
  /// - Returns: false where that is less than `smallestTarget`, or more than the guest has.
  public func setTarget(_ bytes: UInt64) -> Bool {
    guard bytes <= memorySize, bytes >= min(Self.smallestTarget, memorySize) else { return false }
    let device = guarded.withLock { state -> VirtioBalloon? in
      state.wantedPages = Self.pages(memorySize &- bytes)
      return state.device
    }
    device?.targetDidChange()
    return true
  }

  /// What is known now. Asks the guest for new figures where the last ones are old: they are there when this is called again.
  public func report() -> Report {
    let now = MonotonicClock.now
    let (report, device) = guarded.withLock { state -> (Report, VirtioBalloon?) in
      let isOld = state.askedAt.map { now &- $0 >= Self.statisticsAge } ?? true
      if isOld { state.askedAt = now }
      let report = Report(
        target: memorySize &- min(UInt64(state.wantedPages) &* Self.pageSize, memorySize),
        current: memorySize &- min(UInt64(state.actualPages) &* Self.pageSize, memorySize),
        hasDriver: state.hasDriver, reclaimed: state.reclaimed, reported: state.reported,
        statistics: state.statistics)
      return (report, isOld && state.hasDriver ? state.device : nil)
    }
    device?.requestStatistics()
    return report
  }

  // MARK: For the device

  func connect(_ device: VirtioBalloon) { guarded.withLock { $0.device = device } }

  var wantedPages: UInt32 {
    get { guarded.withLock { $0.wantedPages } }
    set {
      let most = Self.pages(memorySize)
      guarded.withLock { $0.wantedPages = min(newValue, most) }
    }
  }

  func noteActual(_ pages: UInt32) { guarded.withLock { $0.actualPages = pages } }

  func noteDriver(_ isThere: Bool) {
    guarded.withLock { state in
      state.hasDriver = isThere
      if !isThere {
        state.actualPages = 0
        state.statistics = nil
        state.askedAt = nil
      }
    }
  }

  func noteReclaimed(_ bytes: UInt64) { guarded.withLock { $0.reclaimed &+= bytes } }
  func noteReported(_ bytes: UInt64) { guarded.withLock { $0.reported &+= bytes } }
  func note(_ statistics: Statistics) { guarded.withLock { $0.statistics = statistics } }
}
