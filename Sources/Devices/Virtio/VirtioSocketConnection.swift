// One stream between a port of the guest and a Unix socket of the host.

import CLinux

/// Used by the device's thread, or while that is held.
final class VirtioSocketConnection {
  /// Bytes that the guest may send ahead of what the host's program has taken.
  static let bufferSize = 128 << 10
  /// The guest is told of room when there is so much more than it knows of.
  private static let updateStep: UInt32 = 32 << 10

  /// What the guest is to be told, most urgent first.
  struct Announcements: OptionSet {
    let rawValue: UInt8
    static let request = Announcements(rawValue: 1)
    static let response = Announcements(rawValue: 2)
    static let creditUpdate = Announcements(rawValue: 4)
    static let creditRequest = Announcements(rawValue: 8)
    static let shutdown = Announcements(rawValue: 16)
  }

  /// What the host's socket is watched for.
  struct Interest: OptionSet {
    let rawValue: UInt8
    static let readable = Interest(rawValue: 1)
    static let writable = Interest(rawValue: 2)
    /// Of interest by itself once nothing is read any more.
    static let hangup = Interest(rawValue: 4)
  }

  let hostPort: UInt32
  let guestPort: UInt32
  let descriptor: Int32
  /// The guest has accepted, or asked for the connection.
  var isOpen: Bool
  var announcements: Announcements = []
  /// It stands in the engine's list.
  var isListed = false
  /// The kernel tells of these, once.
  var watched: Interest = []
  var isRegistered = false

  // To the guest.

  /// The socket has something to read, as far as is known.
  var isReadable = false
  /// Nothing more comes from the host.
  var hostEnded = false
  /// The host's end is closed in both directions.
  var hostIsGone = false
  /// The guest still takes data.
  var guestReceives = true
  private var sent: UInt32 = 0
  private var guestBuffer: UInt32 = 0
  private var guestForwarded: UInt32 = 0
  private var hasAskedForCredit = false

  // To the host.

  /// Nothing more comes from the guest.
  var guestEnded = false
  private(set) var received: UInt32 = 0
  private(set) var forwarded: UInt32 = 0
  private var announced: UInt32 = 0
  /// What the host's socket did not take: a ring, made when it is needed first.
  private var waiting: UnsafeMutablePointer<UInt8>?
  private var start = 0
  private(set) var waitingCount = 0

  /// - Parameter descriptor: a connected, non-blocking socket, which is closed with this.
  init(hostPort: UInt32, guestPort: UInt32, descriptor: Int32, isOpen: Bool) {
    self.hostPort = hostPort
    self.guestPort = guestPort
    self.descriptor = descriptor
    self.isOpen = isOpen
  }

  deinit {
    close(descriptor)
    waiting?.deallocate()
  }

  var key: UInt64 { Self.key(hostPort: hostPort, guestPort: guestPort) }

  static func key(hostPort: UInt32, guestPort: UInt32) -> UInt64 {
    UInt64(hostPort) << 32 | UInt64(guestPort)
  }

  // MARK: Credit (5.10.6.3)

  /// Bytes that the guest has room for. One that tells nonsense has none.
  var credit: Int {
    let underWay = sent &- guestForwarded
    return underWay >= guestBuffer ? 0 : Int(guestBuffer - underWay)
  }

  func noteCredit(_ header: VirtioSocketHeader) {
    guestBuffer = header.bufferSize
    guestForwarded = header.forwarded
    if credit > 0 { hasAskedForCredit = false }
  }

  func didSend(_ count: Int) { sent = sent &+ UInt32(truncatingIfNeeded: count) }

  /// Out of credit with something to send: asks once.
  func missesCredit() {
    guard !hasAskedForCredit else { return }
    hasAskedForCredit = true
    announcements.insert(.creditRequest)
  }

  /// Whether the guest may send so much more; then it counts as received.
  func admit(_ count: UInt32) -> Bool {
    let total = UInt64(received &- forwarded) + UInt64(count)
    guard total <= UInt64(Self.bufferSize) else { return false }
    received = received &+ count
    return true
  }

  private func didForward(_ count: Int) {
    forwarded = forwarded &+ UInt32(truncatingIfNeeded: count)
    if forwarded &- announced >= Self.updateStep { announcements.insert(.creditUpdate) }
  }

  /// Fills in what every packet to the guest tells.
  func announceRoom(in header: inout VirtioSocketHeader) {
    header.bufferSize = UInt32(Self.bufferSize)
    header.forwarded = forwarded
    announced = forwarded
    announcements.remove(.creditUpdate)
  }

  // MARK: To the host

  /// Sends bytes that were admitted, and keeps what the socket does not take.
  ///
  /// - Returns: false when the host's program is gone.
  func send(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var done = 0
    while waitingCount == 0, done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      guard let count = transmit(rest.baseAddress, rest.count) else { return false }
      if count == 0 { break }
      done += count
      didForward(count)
    }
    keep(UnsafeRawBufferPointer(rebasing: bytes[done...]))
    return true
  }

  private func keep(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 0, let source = bytes.baseAddress else { return }
    let ring = waiting ?? .allocate(capacity: Self.bufferSize)
    waiting = ring
    // Within what was admitted.
    let count = min(bytes.count, Self.bufferSize - waitingCount)
    let place = (start + waitingCount) % Self.bufferSize
    let first = min(count, Self.bufferSize - place)
    memcpy(ring + place, source, first)
    if count > first { memcpy(ring, source + first, count - first) }
    waitingCount += count
  }

  /// Sends what waits.
  ///
  /// - Returns: false when the host's program is gone.
  func flush() -> Bool {
    while waitingCount > 0, let ring = waiting {
      let piece = min(waitingCount, Self.bufferSize - start)
      guard let count = transmit(ring + start, piece) else { return false }
      if count == 0 { return true }
      start = (start + count) % Self.bufferSize
      waitingCount -= count
      didForward(count)
    }
    // Memory for those that need it: most hosts read at once.
    waiting?.deallocate()
    waiting = nil
    start = 0
    return true
  }

  /// How many bytes the socket took; nil when nobody is there any more.
  private func transmit(_ bytes: UnsafeRawPointer?, _ count: Int) -> Int? {
    while true {
      let done = linux_send(descriptor, bytes, count)
      if done >= 0 { return done }
      let code = linux_error_number()
      if code == EINTR { continue }
      return code == EAGAIN || code == ENOBUFS ? 0 : nil
    }
  }

  /// The host's program reads the end of the stream.
  func endOutput() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// The host's program cannot write any more.
  func endInput() { shutdown(descriptor, Int32(SHUT_RD)) }

  /// Everything that the guest has to say was said and handed on.
  var isFinished: Bool { guestEnded && !guestReceives && waitingCount == 0 }

  /// What the socket should be watched for.
  var interest: Interest {
    var result: Interest = []
    if isOpen, !hostEnded, guestReceives, !isReadable { result.insert(.readable) }
    if waitingCount > 0 { result.insert(.writable) }
    if hostEnded ? !hostIsGone : !isOpen { result.insert(.hangup) }
    return result
  }
}
