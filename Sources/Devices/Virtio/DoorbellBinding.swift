import Platform

/// An access by which a driver kicks one queue.
public struct Doorbell: Hashable, Sendable {
  public enum Space: Hashable, Sendable { case ports, memory }
  public var space: Space
  /// Port or guest-physical address.
  public var address: UInt64
  /// Width of the access in bytes.
  public var length: Int
  /// Only writes of this value are meant; nil: any.
  public var match: UInt64?

  public init(space: Space, address: UInt64, length: Int, match: UInt64?) {
    self.space = space
    self.address = address
    self.length = length
    self.match = match
  }
}

/// Lets the machine take kicks where they happen, as KVM does with ioeventfd. Without it every kick is an exit that
/// reaches the transport, which signals the same notifier.
public protocol DoorbellBinding: AnyObject, Sendable {
  /// From now on a write to `doorbell` signals `notifier`. Failing is allowed: the exit then does it.
  func bind(_ doorbell: Doorbell, to notifier: EventNotifier)
  func unbind(_ doorbell: Doorbell, from notifier: EventNotifier)
}
