import CLinux
import Inventory
import Platform

/// What the control server asks of the machine behind it. Called on the loop's thread; must not block.
package protocol ControlService: AnyObject {
  func answer(_ method: String, _ parameters: JSONValue, _ client: ControlServer.Client)
    -> ControlServer.Answer
}

/// Serves `control.sock`: JSON-RPC 2.0, one object a line, to at most 64 clients of this user. Nobody is waited for:
/// a client that does not read is cut.
///
/// Belongs to its loop's thread.
package final class ControlServer {
  package enum Answer: Sendable {
    case result(JSONValue)
    case error(RemoteError)
    /// Comes later: another thread does the work, which must end with one call. Other requests go on meanwhile.
    case later(_ work: @Sendable (_ answer: @escaping @Sendable (Answer) -> Void) -> Void)
    /// After the result line the connection is a raw stream of bytes: it is handed over with what came after the
    /// request's line.
    case handOver(JSONValue, @Sendable (_ descriptor: Int32, _ input: [UInt8]) -> Void)
  }

  /// What notifications a client wants.
  package struct Topics: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let statistics = Topics(rawValue: 1)
    package static let events = Topics(rawValue: 2)
  }

  /// One connection.
  package final class Client {
    package fileprivate(set) var topics: Topics = []
    fileprivate let descriptor: Int32
    fileprivate var input = LineBuffer(limit: RemoteMessage.lineLimit)
    fileprivate var output = OutgoingBuffer()
    fileprivate var handOver: ((Int32, [UInt8]) -> Void)?
    fileprivate var watchesOutput = false

    /// Never used twice, unlike descriptors.
    fileprivate let number: UInt64
    fileprivate var pendingAnswers = 0
    /// A process of the user whose machine it is, or root.
    fileprivate let isOwn: Bool

    fileprivate init(_ descriptor: Int32, number: UInt64, isOwn: Bool) {
      self.descriptor = descriptor
      self.number = number
      self.isOwn = isOwn
    }

    /// An open file that came ahead of the request, for whoever answers that: paths lead nowhere in a sandbox.
    fileprivate var passed: SharedDescriptor?

    /// Takes the file that came ahead of the request.
    package func takePassed() -> SharedDescriptor? {
      defer { passed = nil }
      return passed
    }

    package func subscribe(_ topic: Topics, _ on: Bool) {
      if on { topics.insert(topic) } else { topics.remove(topic) }
    }
  }

  package static let clientLimit = 64
  /// Unread bytes at which a client is cut.
  static let outputLimit = 256 << 10
  /// Unread bytes at which no more requests of a client are read.
  static let outputPause = 64 << 10

  private let loop: EventLoop
  private let listener: FileDescriptor
  private let path: String
  private weak var service: (any ControlService)?
  private var clients: [Int32: Client] = [:]
  private var nextNumber: UInt64 = 0
  private var chunk = [UInt8](repeating: 0, count: 16384)
  private let access: ControlAccess

  package init(
    loop: EventLoop, path: String, access: ControlAccess = ControlAccess(),
    service: any ControlService
  ) throws(HostingError) {
    self.loop = loop
    self.path = path
    self.access = access
    self.service = service
    listener = try platform { () throws(PlatformError) in
      try ControlSocket.listen(path, access: access)
    }
    let number = listener.rawValue
    try platform { () throws(PlatformError) in
      try loop.watch(number, for: .readable) { [weak self] _ in self?.accept() }
    }
  }

  package var clientCount: Int { clients.count }

  package func hasClients(of topic: Topics) -> Bool {
    clients.values.contains { $0.topics.contains(topic) }
  }

  /// Sends a notification to everybody who wants it.
  package func notify(_ topic: Topics, _ method: String, _ parameters: JSONValue) {
    guard hasClients(of: topic) else { return }
    let line = RemoteMessage.callLine(method, parameters, identifier: nil)
    for client in clients.values where client.topics.contains(topic) { send(line, to: client) }
  }

  /// Closes everything, after a short time for clients to take what they have been sent.
  package func close() {
    loop.unwatch(listener.rawValue)
    unlink(path)
    let deadline = MonotonicClock.now &+ 200_000_000
    for client in clients.values {
      while client.output.count > 0, client.output.flush(to: client.descriptor),
        client.output.count > 0,
        ControlSocket.wait(client.descriptor, for: POLLOUT, until: deadline)
      {}
      cut(client)
    }
  }

  private func accept() {
    let descriptor = linux_accept4(listener.rawValue, Int32(SOCK_CLOEXEC.rawValue) | O_NONBLOCK)
    guard descriptor >= 0 else { return }
    guard let peer = ControlSocket.peer(descriptor),
      access.admits(
        user: peer.user, peer.group, others: { ControlSocket.peerGroups(descriptor) })
    else {
      refuse(descriptor, "this machine belongs to another user; its owner may name you or a group")
      return
    }
    guard clients.count < Self.clientLimit else {
      refuse(descriptor, "\(Self.clientLimit) clients are connected; close one")
      return
    }
    nextNumber += 1
    let client = Client(
      descriptor, number: nextNumber, isOwn: access.isOwn(user: peer.user))
    clients[descriptor] = client
    watch(client, for: .readable)
  }

  private func refuse(_ descriptor: Int32, _ reason: String) {
    let line = RemoteMessage.errorLine(.null, RemoteError(reason))
    _ = line.withUnsafeBytes { linux_send(descriptor, $0.baseAddress, $0.count) }
    CLinux.close(descriptor)
  }

  private func watch(_ client: Client, for readiness: EventLoop.Readiness) {
    do {
      try loop.watch(client.descriptor, for: readiness) { [weak self, weak client] ready in
        guard let self, let client else { return }
        self.serve(client, ready)
      }
    } catch {
      cut(client)
    }
  }

  private func cut(_ client: Client) {
    guard clients.removeValue(forKey: client.descriptor) != nil else { return }
    loop.unwatch(client.descriptor)
    CLinux.close(client.descriptor)
  }

  private func serve(_ client: Client, _ readiness: EventLoop.Readiness) {
    guard clients[client.descriptor] === client else { return }
    if readiness.contains(.writable) { flush(client) }
    guard clients[client.descriptor] === client, client.handOver == nil else { return }
    if readiness.contains(.readable) || readiness.contains(.hangup) {
      var passed: Int32 = -1
      guard
        let count = ControlSocket.receive(client.descriptor, into: &chunk, passed: &passed)
      else { return }
      if passed >= 0 { client.passed = SharedDescriptor(owning: passed) }
      guard count > 0 else { return cut(client) }
      client.input.append(chunk[..<count])
    }
    handleLines(client)
  }

  private func handleLines(_ client: Client) {
    while client.handOver == nil, client.output.count < Self.outputPause,
      clients[client.descriptor] === client
    {
      guard let line = client.input.next() else { break }
      if !line.isEmpty { handle(line, client) }
    }
    if client.input.isOverflown, clients[client.descriptor] === client {
      let error = RemoteError(
        code: RemoteError.invalidRequest,
        "a line is longer than \(RemoteMessage.lineLimit) bytes")
      send(RemoteMessage.errorLine(.null, error), to: client)
      cut(client)
    }
  }

  private func handle(_ line: [UInt8], _ client: Client) {
    let identifier: JSONValue?
    let method: String
    let parameters: JSONValue
    switch RemoteMessage.request(line) {
    case .success(.call(let value, let name, let values)):
      (identifier, method, parameters) = (value, name, values)
    case .success: return
    case .failure(let error):
      return send(RemoteMessage.errorLine(.null, error), to: client)
    }
    guard let service else { return cut(client) }
    guard client.isOwn || ControlAccess.guestMethods.contains(method) else {
      let refusal = RemoteError("\(printable(method.prefix(60))): is for the machine's user only")
      return give(.error(refusal), identifier, client)
    }
    give(service.answer(method, parameters, client), identifier, client)
  }

  private func give(_ answer: Answer, _ identifier: JSONValue?, _ client: Client) {
    switch answer {
    case .later(let work):
      client.pendingAnswers += 1
      let number = client.number
      work { [weak self] answer in
        guard let server = self else { return }
        server.loop.perform { server.complete(answer, identifier, number) }
      }
    case .result(let value):
      if let identifier { send(RemoteMessage.resultLine(identifier, value), to: client) }
    case .error(let error):
      if let identifier { send(RemoteMessage.errorLine(identifier, error), to: client) }
    case .handOver(let value, let take):
      client.handOver = take
      client.topics = []
      send(RemoteMessage.resultLine(identifier ?? .null, value), to: client)
    }
  }

  /// An answer that came later; its client may be gone.
  private func complete(_ answer: Answer, _ identifier: JSONValue?, _ number: UInt64) {
    guard let client = clients.values.first(where: { $0.number == number }) else { return }
    client.pendingAnswers -= 1
    give(answer, identifier, client)
  }

  private func send(_ line: [UInt8], to client: Client) {
    client.output.append(line)
    flush(client)
    if client.output.count > Self.outputLimit { cut(client) }
  }

  private func flush(_ client: Client) {
    guard clients[client.descriptor] === client else { return }
    guard client.output.flush(to: client.descriptor) else { return cut(client) }
    if client.output.count == 0, let take = client.handOver {
      clients.removeValue(forKey: client.descriptor)
      loop.unwatch(client.descriptor)
      return take(client.descriptor, client.input.takeRest())
    }
    let needsOutput = client.output.count > 0
    if needsOutput != client.watchesOutput {
      client.watchesOutput = needsOutput
      // Level-triggered: a client that asks much and reads nothing is not listened to meanwhile.
      watch(client, for: needsOutput ? [.writable] : [.readable])
    }
    if !needsOutput, clients[client.descriptor] === client, client.handOver == nil {
      resumeLines(client)
    }
  }

  /// Requests that waited for room in the output are served by the loop's next round, not by recursion.
  private func resumeLines(_ client: Client) {
    guard client.input.hasPending else { return }
    loop.schedule(at: MonotonicClock.now) { [weak self, weak client] in
      guard let self, let client, self.clients[client.descriptor] === client else { return }
      self.handleLines(client)
    }
  }
}

// Closures of answers that come later carry it to another thread and back to its loop's, where alone it is touched.
extension ControlServer: @unchecked Sendable {}
