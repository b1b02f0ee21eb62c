/// A device whose whole state can be taken and put back.
public protocol Snapshottable {
  associatedtype State: Codable & Sendable
  /// Changed whenever `State` changes its meaning.
  static var stateVersion: Int { get }
  func saveState() -> State
  mutating func restoreState(_ state: State)
}
