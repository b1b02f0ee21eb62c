import Synchronization

/// What an adapter has moved since it was made. Read from any thread.
public final class NetworkStatistics: Sendable {
  private let received = Atomic<UInt64>(0)
  private let receivedSize = Atomic<UInt64>(0)
  private let sent = Atomic<UInt64>(0)
  private let sentSize = Atomic<UInt64>(0)
  private let dropped = Atomic<UInt64>(0)
  private let refused = Atomic<UInt64>(0)

  public init() {}

  /// Frames that the guest was given.
  public var framesReceived: UInt64 { received.load(ordering: .relaxed) }
  public var bytesReceived: UInt64 { receivedSize.load(ordering: .relaxed) }
  /// Frames that the guest sent.
  public var framesSent: UInt64 { sent.load(ordering: .relaxed) }
  public var bytesSent: UInt64 { sentSize.load(ordering: .relaxed) }
  /// Frames for the guest that found no room, or that it does not want while the cable is out.
  public var framesDropped: UInt64 { dropped.load(ordering: .relaxed) }
  /// Frames of the guest that are none, or that it may not send.
  public var framesRefused: UInt64 { refused.load(ordering: .relaxed) }

  func didReceive(_ count: Int) {
    received.add(1, ordering: .relaxed)
    receivedSize.add(UInt64(count), ordering: .relaxed)
  }

  func didSend(_ count: Int) {
    sent.add(1, ordering: .relaxed)
    sentSize.add(UInt64(count), ordering: .relaxed)
  }

  func didDrop() { dropped.add(1, ordering: .relaxed) }
  func didRefuse() { refused.add(1, ordering: .relaxed) }
}
