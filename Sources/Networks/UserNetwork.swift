// A network without any right on the host: libslirp answers the guest's packets with sockets of this process. It serves
// DHCP, DNS and TFTP, and forwards ports of the host.

import CLinux
import CSlirp
import Devices
import Platform
import Synchronization

/// A network of one guest behind address translation.
///
/// libslirp belongs to whoever holds `gate`; its callbacks come from inside.
public final class UserNetwork: NetworkBackend, @unchecked Sendable {
  // @unchecked: everything below `gate` is guarded by it.
  public struct Options: Sendable, Codable, Equatable {
    /// The network that the guest is in; the last byte of the addresses in it is fixed.
    public var network = IPv4Address(0x0A00_0200)
    public var prefixLength = 24
    public var hasVersion6 = true
    /// The guest reaches nobody but the services here.
    public var isIsolated = false
    /// The guest reaches this host, and nobody else.
    public var isLocal = false
    /// Told by DHCP.
    public var guestName: String?
    public var searchDomains: [String] = []
    /// The folder that TFTP serves, read-only.
    public var tftpFolder: String?
    /// What DHCP names as the file to boot.
    public var bootFile: String?
    public var forwards: [PortForward] = []

    public init() {}
  }

  /// Our sockets take whole segments, whatever the wire of the guest could.
  static let internalTransmissionUnit = 65_521

  public let takes = NetworkOffloads.all
  public let gives = NetworkOffloads.all
  public let maximumTransmissionUnit: UInt16 = 1500
  public let options: Options

  let gate = Mutex(())
  private let library: slirp_library
  private var slirp: OpaquePointer?
  weak var receiver: (any NetworkReceiver)?
  var timers: [UserNetworkTimer] = []
  private var polled: [Int] = []
  private weak var set: PollSet?
  private var forwardList: [PortForward] = []
  private var messages: Int = 0
  let fragments = UnsafeMutableRawBufferPointer.allocate(byteCount: 2048, alignment: 16)
  let segment = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536 + 64, alignment: 16)
  let pieces = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536 + 64, alignment: 16)

  /// - Throws: `NetworkError` when a forward's port is taken, or an option cannot be.
  public init(_ options: Options) throws(NetworkError) {
    self.options = options
    guard (8...28).contains(options.prefixLength) else {
      throw NetworkError("a user network's prefix must have 8 to 28 bits")
    }
    library = try SlirpLibrary.loaded.get()
    gate.withLock { _ in slirp = makeStack() }
    guard slirp != nil else {
      throw NetworkError("libslirp refuses the network \(options.network)")
    }
    do {
      for forward in options.forwards { try add(forward) }
    } catch {
      close()
      throw error
    }
  }

  deinit {
    close()
    fragments.deallocate()
    segment.deallocate()
    pieces.deallocate()
  }

  /// Ends every connection. Frames are swallowed from now on.
  public func close() {
    gate.withLock { _ in
      guard let stack = slirp else { return }
      slirp = nil
      receiver = nil
      library.cleanup(stack)
    }
  }

  /// The host as the guest sees it.
  public var hostAddress: IPv4Address { address(2) }
  public var nameServer: IPv4Address { address(3) }
  /// What DHCP gives first.
  public var guestAddress: IPv4Address { address(15) }

  private func address(_ last: UInt32) -> IPv4Address {
    let mask = ~UInt32(0) << UInt32(32 - options.prefixLength)
    return IPv4Address(options.network.value & mask | last)
  }

  // MARK: Forwards

  public var forwards: [PortForward] { gate.withLock { _ in forwardList } }

  /// Listens on a port of the host. While the guest runs, too.
  public func add(_ forward: PortForward) throws(NetworkError) {
    let guest = forward.guestAddress ?? guestAddress
    let code: Int32 = gate.withLock { _ in
      guard let slirp else { return EBADF }
      guard
        library.add_hostfwd(
          slirp, forward.transport == .udp ? 1 : 0, forward.hostAddress.inAddress,
          Int32(forward.hostPort), guest.inAddress, Int32(forward.guestPort)) == 0
      else { return linux_error_number() }
      forwardList.append(forward)
      return 0
    }
    if code != 0 {
      throw NetworkError(
        "cannot listen on \(forward.transport.rawValue) \(forward.hostAddress):\(forward.hostPort): \(String(cString: strerror(code)))"
      )
    }
    gate.withLock { _ in receiver }?.wake()
  }

  public func remove(_ forward: PortForward) throws(NetworkError) {
    let found = gate.withLock { _ in
      guard let slirp, let index = forwardList.firstIndex(of: forward) else { return false }
      forwardList.remove(at: index)
      return library.remove_hostfwd(
        slirp, forward.transport == .udp ? 1 : 0, forward.hostAddress.inAddress,
        Int32(forward.hostPort)) == 0
    }
    guard found else { throw NetworkError("there is no forward \(forward)") }
    // A wait that is going on keeps the socket listening.
    gate.withLock { _ in receiver }?.wake()
  }

  // MARK: NetworkBackend

  public func connect(_ receiver: any NetworkReceiver) {
    gate.withLock { _ in self.receiver = receiver }
  }

  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from sender: any NetworkReceiver
  ) {
    gate.withLock { _ in
      guard let slirp, receiver === sender else { return }
      if options.isLocal && !staysHere(UnsafeRawBufferPointer(frame)) { return }
      prepare(frame, header, for: sender)
      guard let base = frame.baseAddress else { return }
      library.input(slirp, base.assumingMemoryBound(to: UInt8.self), Int32(frame.count))
    }
  }

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      guard let slirp, receiver === sender else { return }
      var timeout = UInt32.max
      self.set = set
      library.pollfds_fill(
        slirp, &timeout,
        { descriptor, events, opaque in
          guard let set = UserNetwork.from(opaque).set else { return -1 }
          return Int32(set.add(descriptor, for: pollEvents(events)))
        }, Unmanaged.passUnretained(self).toOpaque())
      let now = MonotonicClock.now
      if timeout != .max { set.end(at: now + UInt64(timeout) * 1_000_000) }
      for timer in timers { if let time = timer.time { set.end(at: time) } }
    }
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      guard let slirp, receiver === sender else { return }
      self.set = set
      library.pollfds_poll(
        slirp, 0,
        { index, opaque in
          guard let set = UserNetwork.from(opaque).set else { return 0 }
          return slirpEvents(set.events(at: Int(index)))
        }, Unmanaged.passUnretained(self).toOpaque())
      let now = MonotonicClock.now
      // A timer's work may set and free timers.
      for timer in timers {
        if let time = timer.time, time <= now {
          timer.time = nil
          timer.fire()
        }
      }
    }
  }

  // MARK: The stack

  static func from(_ opaque: UnsafeMutableRawPointer?) -> UserNetwork {
    // libslirp hands back what it was given, while this object lives: `close` ends it.
    Unmanaged<UserNetwork>.fromOpaque(opaque.unsafelyUnwrapped).takeUnretainedValue()
  }

  private func makeStack() -> OpaquePointer? {
    var configuration = SlirpConfig()
    configuration.version = 1
    configuration.restricted = options.isIsolated ? 1 : 0
    configuration.in_enabled = true
    configuration.vnetwork = address(0).inAddress
    configuration.vnetmask = IPv4Address(~UInt32(0) << UInt32(32 - options.prefixLength)).inAddress
    configuration.vhost = hostAddress.inAddress
    configuration.vdhcp_start = guestAddress.inAddress
    configuration.vnameserver = nameServer.inAddress
    configuration.in6_enabled = options.hasVersion6
    // fec0::/64, site-local addresses that nothing outside uses.
    configuration.vprefix_addr6 = Self.version6(last: 0)
    configuration.vprefix_len = 64
    configuration.vhost6 = Self.version6(last: 2)
    configuration.vnameserver6 = Self.version6(last: 3)
    configuration.if_mtu = Self.internalTransmissionUnit
    configuration.if_mru = Self.internalTransmissionUnit
    let strings = CStrings([options.guestName, options.tftpFolder, options.bootFile])
    let domains = CStrings(options.searchDomains.map { $0 } + [nil])
    configuration.vhostname = strings[0]
    configuration.tftp_path = strings[1]
    configuration.bootfile = strings[2]
    return domains.withList { list in
      configuration.vdnssearch = options.searchDomains.isEmpty ? nil : list
      return library.create(
        &configuration, UserNetworkCallbacks.table, Unmanaged.passUnretained(self).toOpaque())
    }
  }

  private static func version6(last: UInt8) -> in6_addr {
    var address = in6_addr()
    withUnsafeMutableBytes(of: &address) { bytes in
      bytes[0] = 0xFE
      bytes[1] = 0xC0
      bytes[15] = last
    }
    return address
  }
}

extension IPv4Address {
  var inAddress: in_addr { in_addr(s_addr: value.bigEndian) }
}

private func pollEvents(_ events: Int32) -> PollSet.Events {
  var result: PollSet.Events = []
  if events & Int32(SLIRP_POLL_IN) != 0 { result.insert(.readable) }
  if events & Int32(SLIRP_POLL_OUT) != 0 { result.insert(.writable) }
  if events & Int32(SLIRP_POLL_PRI) != 0 { result.insert(.urgent) }
  return result
}

private func slirpEvents(_ events: PollSet.Events) -> Int32 {
  var result: Int32 = 0
  if events.contains(.readable) { result |= Int32(SLIRP_POLL_IN) }
  if events.contains(.writable) { result |= Int32(SLIRP_POLL_OUT) }
  if events.contains(.urgent) { result |= Int32(SLIRP_POLL_PRI) }
  if events.contains(.error) { result |= Int32(SLIRP_POLL_ERR) }
  if events.contains(.hangup) { result |= Int32(SLIRP_POLL_HUP) }
  return result
}

/// C strings that live as long as this does.
private final class CStrings {
  private var pointers: [UnsafeMutablePointer<CChar>?]

  init(_ strings: [String?]) { pointers = strings.map { $0.flatMap { strdup($0) } } }

  deinit { for pointer in pointers { free(pointer) } }

  subscript(index: Int) -> UnsafePointer<CChar>? { pointers[index].map { UnsafePointer($0) } }

  func withList<Result>(
    _ body: (UnsafeMutablePointer<UnsafePointer<CChar>?>?) -> Result
  ) -> Result {
    var list = pointers.map { $0.map { UnsafePointer($0) } }
    return list.withUnsafeMutableBufferPointer { body($0.baseAddress) }
  }
}
