// What packets and sockets mean to connections: opening, credit, half-close and the end (Virtual I/O Device 1.2,
// 5.10.6.3 to 5.10.6.6).

import CLinux
import Platform
import Synchronization

extension VirtioSocketEngine {
  // MARK: From the guest

  /// A packet whose addresses and length are in order.
  func handle(_ header: VirtioSocketHeader) {
    typealias Operation = VirtioSocketHeader.Operation
    let (hostPort, guestPort) = (header.targetPort, header.sourcePort)
    let key = VirtioSocketConnection.key(hostPort: hostPort, guestPort: guestPort)
    guard header.kind == VirtioSocketHeader.Kind.stream else {
      countMalformed()
      if header.operation != Operation.reset { reset(hostPort: hostPort, guestPort: guestPort) }
      return
    }
    guard let connection = connections[key] else {
      switch header.operation {
      case Operation.request: accept(header)
      case Operation.reset: break
      default: reset(hostPort: hostPort, guestPort: guestPort)
      }
      return
    }
    connection.noteCredit(header)
    switch header.operation {
    case Operation.response: confirm(connection)
    case Operation.reset:
      if !connection.isOpen { point.counters.withLock { $0.refused += 1 } }
      drop(connection, telling: false)
    case Operation.shutdown: shutDown(connection, .init(rawValue: header.flags))
    case Operation.data: take(header.length, connection)
    case Operation.creditUpdate: break
    case Operation.creditRequest: connection.announcements.insert(.creditUpdate)
    default:
      // A request for what is open, or no operation at all.
      countMalformed()
      drop(connection, telling: true)
    }
    if connections[key] === connection { update(connection) }
  }

  /// The guest connects to a program of the host.
  private func accept(_ header: VirtioSocketHeader) {
    guard connections.count < Self.connectionLimit,
      let descriptor = point.connect(port: header.targetPort)
    else {
      point.counters.withLock { $0.refused += 1 }
      return reset(hostPort: header.targetPort, guestPort: header.sourcePort)
    }
    let connection = VirtioSocketConnection(
      hostPort: header.targetPort, guestPort: header.sourcePort, descriptor: descriptor,
      isOpen: true)
    connection.noteCredit(header)
    connection.announcements.insert(.response)
    add(connection)
    didOpen()
    update(connection)
  }

  /// The guest takes a connection that the host asked for.
  private func confirm(_ connection: VirtioSocketConnection) {
    guard !connection.isOpen, !connection.announcements.contains(.request) else {
      countMalformed()
      return drop(connection, telling: true)
    }
    connection.isOpen = true
    let answer = Array("OK \(connection.hostPort)\n".utf8)
    let count = answer.withUnsafeBytes {
      linux_send(connection.descriptor, $0.baseAddress, $0.count)
    }
    // An unread socket of this age has room for a line: otherwise nobody is there.
    if count == answer.count { didOpen() } else { drop(connection, telling: true) }
  }

  private func take(_ length: UInt32, _ connection: VirtioSocketConnection) {
    guard connection.isOpen, !connection.guestEnded, connection.admit(length) else {
      countMalformed()
      return drop(connection, telling: true)
    }
    // Broken off: neither the guest nor we can know what arrived.
    if !forward(length, to: connection) { drop(connection, telling: true) }
  }

  private func shutDown(
    _ connection: VirtioSocketConnection, _ flags: VirtioSocketHeader.Shutdown
  ) {
    guard connection.isOpen else { return drop(connection, telling: true) }
    if flags.contains(.receives), connection.guestReceives {
      connection.guestReceives = false
      connection.endInput()
    }
    if flags.contains(.sends), !connection.guestEnded {
      connection.guestEnded = true
      if connection.waitingCount == 0 { connection.endOutput() }
    }
  }

  // MARK: Life of connections

  private func add(_ connection: VirtioSocketConnection) {
    connections[connection.key] = connection
    point.counters.withLock { $0.connections = connections.count }
  }

  private func didOpen() { point.counters.withLock { $0.opened += 1 } }

  /// Forgets a connection and closes its socket.
  ///
  /// - Parameter telling: the guest does not know yet.
  func drop(_ connection: VirtioSocketConnection, telling: Bool) {
    guard connections.removeValue(forKey: connection.key) != nil else { return }
    point.counters.withLock { $0.connections = connections.count }
    if telling, !connection.announcements.contains(.request) {
      reset(hostPort: connection.hostPort, guestPort: connection.guestPort)
    }
  }

  /// After anything that changed a connection: ends it, lists it, watches its socket.
  private func update(_ connection: VirtioSocketConnection) {
    if connection.isFinished { return drop(connection, telling: true) }
    if !connection.announcements.isEmpty || hasData(connection) { enlist(connection) }
    arm(connection)
  }

  /// A client of the host's socket has said which port it wants.
  func open(_ client: VirtioSocketClients.Client) {
    guard connections.count < Self.connectionLimit,
      let hostPort = clients.freePort(for: client.port, connections)
    else {
      point.counters.withLock { $0.refused += 1 }
      close(client.descriptor)
      return
    }
    let connection = VirtioSocketConnection(
      hostPort: hostPort, guestPort: client.port, descriptor: client.descriptor, isOpen: false)
    connection.announcements.insert(.request)
    add(connection)
    clients.expectAnswer(connection.key, connections)
    update(connection)
  }

  // MARK: To the guest

  /// Takes the connection's next announcement, if there is one.
  func announce(
    _ connection: VirtioSocketConnection, _ header: inout VirtioSocketHeader
  ) -> Bool {
    typealias Operation = VirtioSocketHeader.Operation
    func take(_ announcement: VirtioSocketConnection.Announcements, _ operation: UInt16) -> Bool {
      guard connection.announcements.remove(announcement) != nil else { return false }
      header.operation = operation
      return true
    }
    if take(.request, Operation.request) || take(.response, Operation.response)
      || take(.creditUpdate, Operation.creditUpdate)
      || take(.creditRequest, Operation.creditRequest)
    {
      return true
    }
    guard take(.shutdown, Operation.shutdown) else { return false }
    let flags: VirtioSocketHeader.Shutdown = connection.hostIsGone ? .both : .sends
    header.flags = flags.rawValue
    return true
  }

  /// Whether the host's bytes can go to the guest now.
  func hasData(_ connection: VirtioSocketConnection) -> Bool {
    guard connection.isOpen, connection.isReadable, !connection.hostEnded,
      connection.guestReceives
    else { return false }
    if connection.credit > 0 { return true }
    connection.missesCredit()
    if !connection.announcements.isEmpty { enlist(connection) }
    return false
  }

  /// The host's program sends no more.
  func didEnd(_ connection: VirtioSocketConnection, isBroken: Bool) {
    connection.hostEnded = true
    var entry = pollfd(fd: connection.descriptor, events: 0, revents: 0)
    connection.hostIsGone =
      isBroken || poll(&entry, 1, 0) > 0 && Int32(entry.revents) & POLLHUP != 0
    connection.announcements.insert(.shutdown)
  }

  // MARK: The host's sockets

  /// Lets the kernel tell, once, of what is of interest now.
  func arm(_ connection: VirtioSocketConnection) {
    let interest = connection.interest
    guard !interest.isSubset(of: connection.watched), connections[connection.key] === connection
    else { return }
    connection.watched = interest
    var event = epoll_event()
    event.events = EPOLLONESHOT.rawValue
    if interest.contains(.readable) { event.events |= EPOLLIN.rawValue }
    if interest.contains(.writable) { event.events |= EPOLLOUT.rawValue }
    event.data.u64 = connection.key
    let operation = connection.isRegistered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD
    guard epoll_ctl(watch.rawValue, operation, connection.descriptor, &event) == 0 else {
      return drop(connection, telling: true)
    }
    connection.isRegistered = true
  }

  func serveSockets() {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
      let count = epoll_wait(watch.rawValue, events.baseAddress, 64, 0)
      guard count > 0 else { return }
      for index in 0..<Int(count) {
        guard let connection = connections[events[index].data.u64] else { continue }
        serve(connection, events[index].events)
      }
    }
  }

  private func serve(_ connection: VirtioSocketConnection, _ events: UInt32) {
    connection.watched = []
    let isUnusual = events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
    if connection.hostEnded {
      if isUnusual, !connection.hostIsGone {
        connection.hostIsGone = true
        connection.announcements.insert(.shutdown)
      }
    } else if isUnusual || events & EPOLLIN.rawValue != 0 {
      connection.isReadable = true
    }
    if connection.waitingCount > 0 {
      guard connection.flush() else { return drop(connection, telling: true) }
      if connection.waitingCount == 0, connection.guestEnded { connection.endOutput() }
    }
    // Nobody waits any more for what the guest has not answered yet.
    if isUnusual, !connection.isOpen { return drop(connection, telling: true) }
    update(connection)
  }
}
