/// Nanoseconds of machine time: runs while the machine runs, stands still while it is paused.
public struct MachineTime: RawRepresentable, Hashable, Comparable, Sendable, Codable {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(nanoseconds: UInt64) { rawValue = nanoseconds }
  @inlinable public static func < (left: Self, right: Self) -> Bool {
    left.rawValue < right.rawValue
  }
  /// The sum; stays at the end of time instead of wrapping.
  @inlinable public func advanced(nanoseconds: UInt64) -> MachineTime {
    let (sum, overflow) = rawValue.addingReportingOverflow(nanoseconds)
    return MachineTime(rawValue: overflow ? .max : sum)
  }
}

/// The time that devices live in. A test has its own.
public protocol MachineClock: AnyObject, Sendable {
  var now: MachineTime { get }
  /// A timer that calls `body` on some thread of the machine's when its deadline has come.
  func makeTimer(_ body: @escaping @Sendable () -> Void) -> any MachineTimer
}

/// One deadline. Setting it again replaces it.
public protocol MachineTimer: AnyObject, Sendable {
  /// nil: never.
  func set(deadline: MachineTime?)
}
