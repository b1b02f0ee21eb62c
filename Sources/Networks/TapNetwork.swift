// A tap device of the host: frames go through /dev/net/tun with a virtio header before each (tuntap.rst, "Virtio net
// header").

import CLinux
import Devices
import Platform
import Synchronization

/// One queue of a tap. The kernel is the other end: bridges, routes and firewalls are its own.
public final class TapNetwork: NetworkBackend, @unchecked Sendable {
  // @unchecked: `buffer` and `index` belong to the adapter's thread; the rest is guarded.
  /// Frames of one round.
  private static let burst = 64
  private static let largest = 65_536 + 128

  public let takes: NetworkOffloads
  public let gives: NetworkOffloads
  public let maximumTransmissionUnit: UInt16 = 1500
  /// The other queues of a tap that has several.
  public let otherQueues: [any NetworkBackend]
  private let name: String
  private let device: SharedDescriptor
  /// A tap that another program opened may be without.
  private let hasHeader: Bool
  /// What concerns the whole device is its first queue's.
  private let isFirst: Bool
  private let current = Mutex<(receiver: Weak, offloads: NetworkOffloads)>((Weak(), []))
  private let isGone = Atomic<Bool>(false)
  private let isAttached: Atomic<Bool>
  private let lost = Atomic<UInt64>(0)
  private let lines = Mutex(LineReport())
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: largest, alignment: 16)
  private var index = -1
  /// Readable when the device is, unless it is muted (epoll(7)); nil: the process had no descriptor left for it.
  private let waking: SharedDescriptor?
  private var isMuted = false

  private struct Weak: @unchecked Sendable {
    // @unchecked: guarded by the mutex around it.
    weak var receiver: (any NetworkReceiver)?
  }

  /// An existing tap.
  ///
  /// - Throws: `NetworkError` when there is no such tap or it belongs to somebody else.
  public convenience init(name: String, queues: Int = 1) throws(NetworkError) {
    try self.init(devices: try TapDevice.open(name, queues: queues))
  }

  /// A new tap on a bridge of the host.
  public convenience init(bridge: String, queues: Int = 1) throws(NetworkError) {
    try self.init(devices: try BridgeTap.open(bridge, queues: queues))
  }

  /// Descriptors of one tap that whoever started this process opened; they are taken over.
  public convenience init(descriptors: [Int32]) throws(NetworkError) {
    try self.init(devices: try TapDevice.take(descriptors))
  }

  convenience init(devices: [SharedDescriptor]) throws(NetworkError) {
    guard let first = devices.first, let (name, hasHeader) = TapDevice.describe(first) else {
      throw NetworkError("tap: the device is gone")
    }
    let number = first.rawValue
    if hasHeader {
      do throws(PlatformError) {
        try systemCall("TUNSETVNETHDRSZ", name) {
          linux_tap_set_header_size(number, Int32(NetworkHeader.size))
        }
      } catch {
        throw NetworkError("tap \(name): \(error.reason)")
      }
    }
    let others = devices.dropFirst().map {
      TapNetwork($0, name, hasHeader: hasHeader, isFirst: false, others: [])
    }
    self.init(first, name, hasHeader: hasHeader, isFirst: true, others: others)
    // Until a driver asks for them.
    for other in others { other.setAttached(false) }
  }

  private init(
    _ device: SharedDescriptor, _ name: String, hasHeader: Bool, isFirst: Bool,
    others: [TapNetwork]
  ) {
    self.device = device
    self.name = name
    self.hasHeader = hasHeader
    self.isFirst = isFirst
    otherQueues = others
    isAttached = Atomic(true)
    takes = hasHeader ? .all : []
    gives = hasHeader ? .all : []
    waking = Self.makeWaking(device.rawValue)
  }

  private static func makeWaking(_ device: Int32) -> SharedDescriptor? {
    do throws(PlatformError) {
      let set = SharedDescriptor(
        owning: try systemCall("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
      var event = epoll_event()
      event.events = EPOLLIN.rawValue
      guard epoll_ctl(set.rawValue, EPOLL_CTL_ADD, device, &event) == 0 else { return nil }
      return set
    } catch {
      return nil
    }
  }

  /// The answer to a frame comes while the frame is being sent where the host itself is meant: to wake the thread for it
  /// would cost more than the rest.
  public func setMuted(_ muted: Bool, for sender: any NetworkReceiver) {
    guard isMuted != muted, let set = waking?.rawValue, !muted || isCurrent(sender) else { return }
    var event = epoll_event()
    event.events = muted ? 0 : EPOLLIN.rawValue
    guard epoll_ctl(set, EPOLL_CTL_MOD, device.rawValue, &event) == 0 else { return }
    isMuted = muted
  }

  deinit { buffer.deallocate() }

  public func report(to handler: @escaping @Sendable (String) -> Void) {
    lines.withLock { $0.handler = handler }
    for other in otherQueues { other.report(to: handler) }
  }

  public var cable: NetworkCable {
    let others = otherQueues.reduce(0) { $0 &+ $1.cable.framesLost }
    return NetworkCable(
      state: isGone.load(ordering: .relaxed) ? "the tap \(name) is gone" : "the tap \(name)",
      framesLost: lost.load(ordering: .relaxed) &+ others)
  }

  public func setAttached(_ attached: Bool) {
    guard isAttached.exchange(attached, ordering: .acquiringAndReleasing) != attached else {
      return
    }
    _ = linux_tap_set_queue(device.rawValue, attached ? 1 : 0)
  }

  public func connect(_ receiver: any NetworkReceiver) {
    let offloads = receiver.accepts
    current.withLock { $0 = (Weak(receiver: receiver), offloads) }
    setOffloads(offloads)
  }

  private func setOffloads(_ offloads: NetworkOffloads) {
    guard isFirst, hasHeader else { return }
    var flags: UInt = 0
    if offloads.contains(.checksum) { flags |= UInt(LINUX_TUN_F_CSUM) }
    if offloads.contains(.segmentation4) { flags |= UInt(LINUX_TUN_F_TSO4) }
    if offloads.contains(.segmentation6) { flags |= UInt(LINUX_TUN_F_TSO6) }
    _ = linux_tap_set_offload(device.rawValue, flags)
  }

  /// The receiver, if it is the one connected last; what it accepts may have changed.
  private func isCurrent(_ sender: any NetworkReceiver) -> Bool {
    let accepts = sender.accepts
    let (isCurrent, isNew) = current.withLock { state in
      guard state.receiver.receiver === sender else { return (false, false) }
      defer { state.offloads = accepts }
      return (true, state.offloads != accepts)
    }
    if isNew { setOffloads(accepts) }
    return isCurrent
  }

  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from sender: any NetworkReceiver
  ) {
    guard isCurrent(sender), isAttached.load(ordering: .acquiring) else { return }
    var bytes: (UInt64, UInt64) = (0, 0)
    let sent = withUnsafeMutableBytes(of: &bytes) { bytes in
      header.store(in: bytes, bufferCount: 0)
      var vectors = (
        iovec(iov_base: bytes.baseAddress, iov_len: hasHeader ? NetworkHeader.size : 0),
        iovec(iov_base: frame.baseAddress, iov_len: frame.count)
      )
      return withUnsafePointer(to: &vectors) { pointer in
        pointer.withMemoryRebound(to: iovec.self, capacity: 2) {
          writev(device.rawValue, $0, 2)
        }
      }
    }
    // A full queue loses frames, as a wire does; so does a device that is down.
    if sent < 0 { lost.add(1, ordering: .relaxed) }
  }

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    index = -1
    guard isCurrent(sender), !isGone.load(ordering: .relaxed),
      isAttached.load(ordering: .acquiring)
    else { return }
    // A device that is gone would only be told by itself.
    let number = isMuted ? nil : waking?.rawValue
    index = set.add(number ?? device.rawValue, for: .readable)
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    guard index >= 0, isCurrent(sender) else { return }
    let events = set.events(at: index)
    index = -1
    guard !events.isEmpty else { return }
    let size = hasHeader ? NetworkHeader.size : 0
    for _ in 0..<Self.burst {
      let count = read(device.rawValue, buffer.baseAddress, buffer.count)
      guard count > 0 else { return failed(count < 0 ? linux_error_number() : EBADFD) }
      guard count > size else { continue }
      var header = NetworkHeader()
      if hasHeader {
        guard
          let read = NetworkHeader(UnsafeRawBufferPointer(rebasing: buffer.prefix(count)))
        else { continue }
        header = read
      }
      sender.deliver(UnsafeRawBufferPointer(rebasing: buffer[size..<count]), header)
    }
  }

  private func failed(_ code: Int32) {
    // Detached meanwhile: it may come back.
    guard code != EAGAIN, code != EINTR, isAttached.load(ordering: .acquiring) else { return }
    // Somebody took the device away: waiting for it would end every wait.
    guard !isGone.exchange(true, ordering: .relaxed) else { return }
    lines.withLock { $0.send("the tap \(name) is gone: \(String(cString: strerror(code)))") }
  }
}
