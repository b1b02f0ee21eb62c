// What is at the other end of a network adapter's cable.

import GuestMemory
import Platform

/// Work that the other end can take over from the guest, or leave to it.
public struct NetworkOffloads: OptionSet, Sendable, Codable, Hashable {
  public var rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// Frames with a checksum that stands for the pseudo header only.
  public static let checksum = NetworkOffloads(rawValue: 1 << 0)
  /// TCP segments over IPv4 that are larger than the wire's.
  public static let segmentation4 = NetworkOffloads(rawValue: 1 << 1)
  /// The same over IPv6.
  public static let segmentation6 = NetworkOffloads(rawValue: 1 << 2)

  public static let all: NetworkOffloads = [.checksum, .segmentation4, .segmentation6]
}

/// The other end of a cable: a network in this process, a tap, a switch.
///
/// It has no thread: the adapter that it is plugged into lends it one. All calls but `connect` come from there, or hold
/// the adapter still. A backend outlives the boards that use it: what comes from an adapter that is not the one
/// connected last is ignored.
public protocol NetworkBackend: AnyObject, Sendable {
  /// What it takes from the guest.
  var takes: NetworkOffloads { get }
  /// What it gives to a guest that wants it.
  var gives: NetworkOffloads { get }
  /// Largest IP packet without segmentation, bytes.
  var maximumTransmissionUnit: UInt16 { get }
  /// From now on frames go to `receiver`.
  func connect(_ receiver: any NetworkReceiver)
  /// A frame from the guest. `frame` may be changed in place; it is gone after the call.
  func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from receiver: any NetworkReceiver)
  /// Before a wait: adds what is to be waited for.
  func prepare(_ set: PollSet, for receiver: any NetworkReceiver)
  /// After a wait that `prepare` prepared.
  func serve(_ set: PollSet, for receiver: any NetworkReceiver)
  /// While muted, nothing that the other end does ends a wait that goes on; what `prepare` prepares then is looked at, not
  /// waited for. A network for which waking costs nothing much leaves it out.
  func setMuted(_ muted: Bool, for receiver: any NetworkReceiver)
  /// The machine ends: gives up what others see. Nothing is called afterwards.
  func close()
  /// Where a line for a person goes from now on: the other end came, went, or broke a rule. From any thread.
  func report(to handler: @escaping @Sendable (String) -> Void)
  /// What there is to tell of the other end. From any thread.
  var cable: NetworkCable { get }
  /// Further queues of the same network, each for a thread of its own; they get frames while they are attached. They
  /// are closed with this one.
  var otherQueues: [any NetworkBackend] { get }
  /// For one of `otherQueues`: whether the guest uses it. From any thread.
  func setAttached(_ attached: Bool)
}

extension NetworkBackend {
  public func setMuted(_ muted: Bool, for receiver: any NetworkReceiver) {}
  public func close() {}
  public func report(to handler: @escaping @Sendable (String) -> Void) {}
  public var cable: NetworkCable { NetworkCable() }
  public var otherQueues: [any NetworkBackend] { [] }
  public func setAttached(_ attached: Bool) {}
}

/// What is known of the other end of a cable beside its frames.
public struct NetworkCable: Sendable, Equatable {
  /// Such as "connected" or "waits for /run/peer"; nil where there is nothing that comes and goes.
  public var state: String?
  /// Frames of the guest that the other end did not take.
  public var framesLost: UInt64
  /// How often the other end broke a rule of the connection.
  public var violations: UInt64

  public init(state: String? = nil, framesLost: UInt64 = 0, violations: UInt64 = 0) {
    self.state = state
    self.framesLost = framesLost
    self.violations = violations
  }
}

/// An adapter as its cable sees it.
public protocol NetworkReceiver: AnyObject, Sendable {
  /// What the guest's driver is ready to take.
  var accepts: NetworkOffloads { get }
  /// A frame for the guest. Dropped and counted when there is no room. Only inside `transmit` and `serve`.
  func deliver(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader)
  /// Ends the wait that is going on. From any thread.
  func wake()
}

/// A hardware address: six bytes in the order of the wire.
public struct HardwareAddress: Sendable, Hashable, Codable, CustomStringConvertible {
  /// The first byte of the wire is the most significant of the low 48 bits.
  public let value: UInt64

  public init(_ value: UInt64) { self.value = value & 0xFFFF_FFFF_FFFF }

  /// Reads six bytes.
  init(_ bytes: UnsafePointer<UInt8>) {
    var value: UInt64 = 0
    for index in 0..<6 { value = value << 8 | UInt64(bytes[index]) }
    self.value = value
  }

  /// Reads `02:00:5e:10:20:30`; nil when it is something else.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var value: UInt64 = 0
    for part in parts {
      guard part.utf8.count == 2, part.utf8.allSatisfy({ $0 != 0x2B && $0 != 0x2D }),
        let byte = UInt8(part, radix: 16)
      else { return nil }
      value = value << 8 | UInt64(byte)
    }
    self.value = value
  }

  public var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: value >> (40 - 8 * $0)) } }

  /// For more than one station: the first bit on the wire is set.
  public var isMulticast: Bool { value >> 40 & 1 != 0 }
  public var isBroadcast: Bool { value == 0xFFFF_FFFF_FFFF }

  public var description: String {
    bytes.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }
      .joined(separator: ":")
  }
}
