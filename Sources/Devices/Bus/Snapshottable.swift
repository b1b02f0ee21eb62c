/// A device whose whole state can be taken and put back.
public protocol Snapshottable {
  associatedtype State: Codable & Sendable
  /// Changed whenever `State` changes its meaning.
  static var stateVersion: Int { get }
  func saveState() -> State
  /// Refuses what this device can never have saved; changes nothing. A state from a file is to be seen by this before
  /// `restoreState`, which mends what it must and is not there to tell anybody.
  func check(_ state: State) throws(DeviceStateError)
  mutating func restoreState(_ state: State)
}

extension Snapshottable {
  public func check(_ state: State) throws(DeviceStateError) {}
}

extension Snapshottable where Self: Equatable, State == Self {
  /// For chips that are their own state, and whose `restoreState` does nothing but mend it.
  func checkByRestoring(_ state: State) throws(DeviceStateError) {
    var possible = self
    possible.restoreState(state)
    try DeviceStateError.refuse(state, unlike: possible)
  }
}

/// Why a state cannot be a device's: a phrase.
public struct DeviceStateError: Error, Equatable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }

  /// - Parameter possible: the value as far as a device can have it.
  /// - Throws: naming the first member that is otherwise.
  static func refuse<Value: Equatable>(
    _ value: Value, unlike possible: Value
  ) throws(DeviceStateError) {
    guard value != possible else { return }
    let place = difference(value, possible)
    throw DeviceStateError("its \(place.isEmpty ? "value" : place) cannot be")
  }

  /// - Throws: where `holds` is false.
  static func require(
    _ holds: Bool, _ phrase: @autoclosure () -> String
  ) throws(DeviceStateError) {
    if !holds { throw DeviceStateError(phrase()) }
  }

  /// The way to the first member that differs.
  private static func difference(_ left: Any, _ right: Any) -> String {
    let (own, other) = (Mirror(reflecting: left).children, Mirror(reflecting: right).children)
    for (one, two) in zip(own, other) where "\(one.value)" != "\(two.value)" {
      guard let label = one.label else { return "" }
      let rest = difference(one.value, two.value)
      return rest.isEmpty ? label : "\(label).\(rest)"
    }
    return ""
  }
}
