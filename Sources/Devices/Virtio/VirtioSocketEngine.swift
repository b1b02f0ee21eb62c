// The work of a virtio socket device: the queues, and which connection comes next.

import CLinux
import GuestMemory
import Platform
import Synchronization

/// Used by the device's thread, or while that is held.
final class VirtioSocketEngine: DeviceWorkSource, @unchecked Sendable {
  // @unchecked: see above; `link` has a lock of its own.
  /// Connections at one time: each takes a descriptor of this process, and at most `bufferSize` of its memory.
  static let connectionLimit = 512
  /// Resets that wait for the guest's buffers before no more packets are taken from it.
  static let resetLimit = 256
  /// Most bytes of a packet to the guest.
  static let packetLimit: UInt64 = 64 << 10
  /// Packets of one kind between two looks at the other.
  private static let burst = 64

  let link = Mutex<VirtioLink?>(nil)
  let guest: UInt64
  let point: GuestSocketPoint
  private(set) var queues: [VirtioQueue?] = []
  /// The guest is still to be told that its connections are gone.
  var owesReset = false
  var connections: [UInt64: VirtioSocketConnection] = [:]
  /// Connections with something for the guest, first to last; from `listStart` on.
  private var list: [UInt64] = []
  private var listStart = 0
  /// Answers to packets of no connection, and to connections that are gone.
  private var resets: [(hostPort: UInt32, guestPort: UInt32)] = []
  let clients = VirtioSocketClients()
  let watch: FileDescriptor
  private let chain = VirtioChain()
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: Int(packetLimit), alignment: 16)
  private let headerPieces = UnsafeMutableBufferPointer<iovec>.allocate(
    capacity: VirtioSocketHeader.size)

  init(guest: UInt64, point: GuestSocketPoint) throws(PlatformError) {
    self.guest = guest
    self.point = point
    watch = FileDescriptor(
      owning: try systemCall("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    headerPieces.initialize(repeating: iovec())
  }

  deinit {
    scratch.deallocate()
    headerPieces.deallocate()
  }

  // MARK: Life, while held

  func activate(_ queues: [VirtioQueue?]) { self.queues = queues }

  func deactivate() {
    queues = []
    owesReset = false
    closeAll()
  }

  func closeAll() {
    connections.removeAll()
    clients.closeAll()
    list.removeAll()
    listStart = 0
    resets.removeAll()
    point.counters.withLock { $0.connections = 0 }
  }

  private func fail(_ error: VirtioViolation) {
    queues = []
    closeAll()
    link.withLock { $0 }?.fail(error)
  }

  // MARK: DeviceWorkSource

  func prepare(_ set: PollSet) {
    guard !queues.isEmpty else { return }
    set.add(watch.rawValue, for: .readable)
    clients.prepare(set, point, hasRoom: connections.count < Self.connectionLimit)
  }

  func serve(_ set: PollSet) {
    guard !queues.isEmpty else { return }
    serveSockets()
    clients.serve(set, point) { [self] client in
      open(client)
    }
    for key in clients.takeOverdue() {
      guard let connection = connections[key], !connection.isOpen else { continue }
      point.counters.withLock { $0.refused += 1 }
      drop(connection, telling: true)
    }
  }

  // MARK: Steps

  private func queue(_ index: Int) -> VirtioQueue? { index < queues.count ? queues[index] : nil }

  func step() -> Bool {
    guard !queues.isEmpty else { return false }
    do throws(VirtioViolation) {
      var didWork = try sendEvent()
      didWork = try takePackets() || didWork
      didWork = try givePackets() || didWork
      return didWork || sleepWouldMiss()
    } catch {
      fail(error)
      return false
    }
  }

  private var hasPackets: Bool { listStart < list.count || !resets.isEmpty }

  private func sleepWouldMiss() -> Bool {
    var missed = false
    func check(_ index: Int, matters: Bool) {
      guard let queue = queue(index) else { return }
      if matters {
        missed = queue.allowNotifications() || missed
      } else {
        queue.suppressNotifications()
      }
    }
    check(VirtioSocket.transmitQueue, matters: resets.count < Self.resetLimit)
    check(VirtioSocket.receiveQueue, matters: hasPackets)
    check(VirtioSocket.eventQueue, matters: owesReset)
    return missed
  }

  private func finish(_ queue: VirtioQueue) {
    if queue.wantsInterrupt() { link.withLock { $0 }?.signal(queue: queue.index) }
  }

  /// "Transport reset": the guest reads its address anew and ends its connections.
  private func sendEvent() throws(VirtioViolation) -> Bool {
    guard owesReset, let queue = queue(VirtioSocket.eventQueue), try queue.take(into: chain)
    else { return false }
    var event: UInt32 = 0
    guard chain.writableBytes >= 4 else { throw .request }
    _ = withUnsafeBytes(of: &event) { chain.putFront($0) }
    queue.give(chain, written: 4)
    owesReset = false
    finish(queue)
    return true
  }

  // MARK: From the guest

  /// Goes on whether or not the guest has buffers for answers, as long as they are few (5.10.6.2).
  private func takePackets() throws(VirtioViolation) -> Bool {
    guard let queue = queue(VirtioSocket.transmitQueue) else { return false }
    var count = 0
    while count < Self.burst, resets.count < Self.resetLimit, try queue.take(into: chain) {
      if count == 0 { queue.suppressNotifications() }
      count += 1
      takePacket()
      queue.give(chain, written: 0)
    }
    if count > 0 { finish(queue) }
    return count > 0
  }

  private func takePacket() {
    // Copied once: what is judged is what is used.
    let header: VirtioSocketHeader? = withUnsafeTemporaryAllocation(
      byteCount: VirtioSocketHeader.size, alignment: 8
    ) { bytes in
      chain.takeFront(bytes) ? VirtioSocketHeader(UnsafeRawBufferPointer(bytes)) : nil
    }
    guard let header, UInt64(header.length) <= chain.readableBytes, header.source == guest,
      header.target == VirtioSocketHeader.host
    else { return countMalformed() }
    handle(header)
  }

  func countMalformed() { point.counters.withLock { $0.malformed += 1 } }

  /// The bytes behind the header, which were admitted.
  ///
  /// - Returns: false when the host's program is gone.
  func forward(_ length: UInt32, to connection: VirtioSocketConnection) -> Bool {
    var left = Int(length)
    while left > 0 {
      let part = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(min(left, scratch.count)))
      guard chain.takeFront(part), connection.send(UnsafeRawBufferPointer(part)) else {
        return false
      }
      left -= part.count
    }
    point.counters.withLock { $0.bytesFromGuest += UInt64(length) }
    return true
  }

  // MARK: To the guest

  /// Puts a connection at the end of the list, if it is not in it.
  func enlist(_ connection: VirtioSocketConnection) {
    guard !connection.isListed else { return }
    connection.isListed = true
    list.append(connection.key)
  }

  func reset(hostPort: UInt32, guestPort: UInt32) { resets.append((hostPort, guestPort)) }

  private func givePackets() throws(VirtioViolation) -> Bool {
    guard hasPackets, let queue = queue(VirtioSocket.receiveQueue) else { return false }
    var count = 0
    while count < Self.burst, hasPackets, try queue.take(into: chain) {
      guard chain.writableBytes > UInt64(VirtioSocketHeader.size),
        let pieces = chain.reserveFront(VirtioSocketHeader.size, in: headerPieces)
      else { throw .request }
      if let written = nextPacket(pieces) {
        queue.give(chain, written: UInt32(truncatingIfNeeded: written))
        count += 1
      } else {
        // Nobody had anything after all: the buffer stays for later.
        queue.putBack([(chain.head, 0)])
      }
    }
    if count > 0 { finish(queue) }
    return count > 0
  }

  /// Fills the chain with the next packet.
  ///
  /// - Returns: bytes of it; nil when the first of the list had none.
  private func nextPacket(_ pieces: Int) -> Int? {
    if !resets.isEmpty {
      let (hostPort, guestPort) = resets.removeFirst()
      let header = VirtioSocketHeader(
        source: VirtioSocketHeader.host, target: guest, sourcePort: hostPort,
        targetPort: guestPort, operation: VirtioSocketHeader.Operation.reset)
      return put(header, pieces)
    }
    let key = list[listStart]
    listStart += 1
    if listStart == list.count {
      list.removeAll(keepingCapacity: true)
      listStart = 0
    } else if listStart >= 4096 {
      list.removeFirst(listStart)
      listStart = 0
    }
    guard let connection = connections[key] else { return nil }
    connection.isListed = false
    var header = VirtioSocketHeader(
      source: VirtioSocketHeader.host, target: guest, sourcePort: connection.hostPort,
      targetPort: connection.guestPort, operation: 0)
    if announce(connection, &header) {
      connection.announceRoom(in: &header)
      if !connection.announcements.isEmpty || hasData(connection) { enlist(connection) }
      return put(header, pieces)
    }
    guard hasData(connection), let count = readData(connection) else {
      // Something may have come to light by reading.
      if connections[key] != nil, !connection.announcements.isEmpty { enlist(connection) }
      return nil
    }
    header.operation = VirtioSocketHeader.Operation.data
    header.length = UInt32(truncatingIfNeeded: count)
    connection.announceRoom(in: &header)
    if !connection.announcements.isEmpty || hasData(connection) { enlist(connection) }
    return put(header, pieces) + count
  }

  private func put(_ header: VirtioSocketHeader, _ pieces: Int) -> Int {
    withUnsafeTemporaryAllocation(byteCount: VirtioSocketHeader.size, alignment: 8) { bytes in
      header.store(in: bytes)
      var done = 0
      for piece in headerPieces.prefix(pieces) {
        if let target = piece.iov_base, let source = bytes.baseAddress {
          memcpy(target, source + done, piece.iov_len)
        }
        done += piece.iov_len
      }
    }
    return VirtioSocketHeader.size
  }

  /// Reads from the host's socket behind the header.
  ///
  /// - Returns: nil when nothing came: the socket is watched again, or has ended.
  private func readData(_ connection: VirtioSocketConnection) -> Int? {
    chain.limitWritable(to: min(Self.packetLimit, UInt64(connection.credit)))
    let parts = chain.writable
    while true {
      let count = readv(connection.descriptor, parts.baseAddress, Int32(clamping: parts.count))
      if count > 0 {
        connection.didSend(count)
        point.counters.withLock { $0.bytesToGuest += UInt64(count) }
        return count
      }
      let code = count < 0 ? linux_error_number() : 0
      if code == EINTR { continue }
      connection.isReadable = false
      if code != EAGAIN { didEnd(connection, isBroken: code != 0) }
      arm(connection)
      return nil
    }
  }
}
