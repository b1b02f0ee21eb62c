import Synchronization

/// A network adapter of any model, as its place on the board sees it.
public protocol NetworkAdapter: AnyObject, Sendable {
  /// Whether the cable is in.
  var isUp: Bool { get }
  /// Puts the cable in or pulls it out.
  func setUp(_ up: Bool)
  /// Asks the driver to tell its neighbours where it is: after a move.
  func announce()
  /// Shows every frame to `tap` from now on.
  func add(_ tap: any NetworkTap)
  func remove(_ tap: any NetworkTap)
}

/// Which adapter a guest sees.
public enum NetworkModel: String, Sendable, Codable, CaseIterable {
  /// For guests with a virtio driver: the quickest.
  case virtio
  /// An Intel 82540EM, which nearly every system has a driver for.
  case e1000
}

/// Sees every frame that passes an adapter: a packet capture.
public protocol NetworkTap: AnyObject, Sendable {
  /// On the adapter's thread. A frame may be larger than the wire's, and its checksum unfinished.
  func didSee(_ frame: UnsafeRawBufferPointer, fromGuest: Bool)
}

/// The taps of one adapter. Without any, a frame costs one load.
final class NetworkTaps: Sendable {
  private let taps = Mutex<[any NetworkTap]>([])
  private let hasTaps = Atomic<Bool>(false)

  func add(_ tap: any NetworkTap) {
    taps.withLock { $0.append(tap) }
    hasTaps.store(true, ordering: .releasing)
  }

  func remove(_ tap: any NetworkTap) {
    let isEmpty = taps.withLock { taps in
      taps.removeAll { $0 === tap }
      return taps.isEmpty
    }
    if isEmpty { hasTaps.store(false, ordering: .releasing) }
  }

  var isUsed: Bool { hasTaps.load(ordering: .acquiring) }

  func show(_ frame: UnsafeRawBufferPointer, fromGuest: Bool) {
    guard hasTaps.load(ordering: .acquiring) else { return }
    for tap in taps.withLock({ $0 }) { tap.didSee(frame, fromGuest: fromGuest) }
  }
}
