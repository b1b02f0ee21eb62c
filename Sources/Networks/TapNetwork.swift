// A tap device of the host: frames go through /dev/net/tun with a virtio header before each (tuntap.rst, "Virtio net
// header").

import CLinux
import Devices
import Platform
import Synchronization

/// An existing tap. The kernel is the other end: bridges, routes and firewalls are its own.
public final class TapNetwork: NetworkBackend, @unchecked Sendable {
  // @unchecked: `buffer` belongs to the adapter's thread; the rest is guarded.
  /// Frames of one round.
  private static let burst = 64

  public let takes = NetworkOffloads.all
  public let gives = NetworkOffloads.all
  public let maximumTransmissionUnit: UInt16 = 1500
  private let name: String
  private let device: FileDescriptor
  private let current = Mutex<(receiver: Weak, offloads: NetworkOffloads)>((Weak(), []))
  private let isGone = Atomic<Bool>(false)
  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: 65_536 + 128, alignment: 16)
  private var index = -1

  private struct Weak: @unchecked Sendable {
    // @unchecked: guarded by the mutex around it.
    weak var receiver: (any NetworkReceiver)?
  }

  /// - Throws: `NetworkError` when there is no such tap or it belongs to somebody else.
  public init(name: String) throws(NetworkError) {
    self.name = name
    do throws(PlatformError) {
      let device = try FileDescriptor.open("/dev/net/tun", O_RDWR | O_NONBLOCK)
      let number = device.rawValue
      try systemCall("TUNSETIFF", name) { linux_tap_attach(number, name) }
      try systemCall("TUNSETVNETHDRSZ", name) {
        linux_tap_set_header_size(number, Int32(NetworkHeader.size))
      }
      self.device = device
    } catch {
      throw NetworkError(Self.advice(name, error))
    }
  }

  deinit { buffer.deallocate() }

  private static func advice(_ name: String, _ error: PlatformError) -> String {
    switch error.code {
    case EPERM, EACCES:
      "tap \(name): not allowed; an administrator makes it for you: ip tuntap add \(name) mode tap user $USER"
    case ENOENT, ENODEV, ENXIO: "tap \(name): this host has no /dev/net/tun (modprobe tun)"
    case EBUSY: "tap \(name): another program uses it"
    default: "tap \(name): \(error.reason)"
    }
  }

  public func connect(_ receiver: any NetworkReceiver) {
    let offloads = receiver.accepts
    current.withLock { $0 = (Weak(receiver: receiver), offloads) }
    setOffloads(offloads)
  }

  private func setOffloads(_ offloads: NetworkOffloads) {
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
    guard isCurrent(sender) else { return }
    var bytes: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &bytes) { bytes in
      header.store(in: bytes, bufferCount: 0)
      var vectors = (
        iovec(iov_base: bytes.baseAddress, iov_len: NetworkHeader.size),
        iovec(iov_base: frame.baseAddress, iov_len: frame.count)
      )
      // A full queue loses frames, as a wire does.
      withUnsafePointer(to: &vectors) { pointer in
        pointer.withMemoryRebound(to: iovec.self, capacity: 2) {
          _ = writev(device.rawValue, $0, 2)
        }
      }
    }
  }

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    index = -1
    guard isCurrent(sender), !isGone.load(ordering: .relaxed) else { return }
    index = set.add(device.rawValue, for: .readable)
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    guard index >= 0, isCurrent(sender) else { return }
    let events = set.events(at: index)
    index = -1
    guard !events.isEmpty else { return }
    for _ in 0..<Self.burst {
      let count = read(device.rawValue, buffer.baseAddress, buffer.count)
      guard count > 0 else {
        let code = linux_error_number()
        // Somebody took the device away: waiting for it would end every wait.
        if count == 0 || code != EAGAIN && code != EINTR {
          isGone.store(true, ordering: .relaxed)
        }
        return
      }
      guard count > NetworkHeader.size,
        let header = NetworkHeader(UnsafeRawBufferPointer(rebasing: buffer.prefix(count)))
      else { continue }
      sender.deliver(
        UnsafeRawBufferPointer(rebasing: buffer[NetworkHeader.size..<count]), header)
    }
  }
}
