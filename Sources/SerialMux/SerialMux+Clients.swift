// Clients: attaching with a replay, sending at their own pace, telling those that are too slow, letting go.

import CLinux
import Platform
import Synchronization
import VirtualTerminal

extension SerialMux {
  /// How long a client that takes nothing still counts as reading when the guest may be held up, in nanoseconds.
  private static let patience: UInt64 = 2_000_000_000
  private static let reviewInterval: UInt64 = 100_000_000

  /// Adds a client. Its descriptor, a connected socket or anything that can be written without waiting, is the port's
  /// from now on; it is sent what the guest prints from now on, and the replay before that. From any thread.
  @discardableResult
  public func attach(
    _ descriptor: consuming FileDescriptor, options: SerialMuxClientOptions
  ) -> SerialMuxClientIdentifier {
    let identifier = makeIdentifier()
    let number = descriptor.release()
    let since = output.withLock { $0.beginAttaching() }
    loop.perform {
      self.add(
        identifier, FileDescriptor(owning: number), options: options, since: since, isDevice: false)
      self.output.withLock { $0.endAttaching(since) }
    }
    return identifier
  }

  /// Removes a client and closes its descriptor. From any thread.
  public func detach(_ identifier: SerialMuxClientIdentifier) {
    loop.perform {
      if let client = self.clients.first(where: { $0.identifier == identifier }) {
        self.detach(client, reason: "closed")
      }
    }
  }

  func add(
    _ identifier: SerialMuxClientIdentifier, _ descriptor: consuming FileDescriptor,
    options: SerialMuxClientOptions, since: UInt64, isDevice: Bool
  ) {
    let (start, parsed) = output.withLock { ($0.ring.start, $0.parsed) }
    var position = since
    var replayEnd = since
    var drawing: [UInt8] = []
    switch options.replay {
    case .none: break
    case .screen, .lines:
      var lines = 0
      if case .lines(let count) = options.replay { lines = count }
      drawing = terminal.withLock { $0.renderAsEscapes(scrollbackLines: lines) }
      // What is drawn holds all that was parsed, perhaps more than there was at the call.
      position = parsed
      replayEnd = parsed
    case .scrollback: position = replayStart(start)
    case .position(let wanted): position = min(wanted, since)
    case .resume: position = isDevice ? min(devicePosition, since) : replayStart(start)
    }
    let client = Client(
      identifier, descriptor: descriptor, options: options, isDevice: isDevice,
      position: position, replayEnd: replayEnd)
    if !drawing.isEmpty { client.enqueue(drawing) }
    clients.append(client)
    publishClients()
    report(.clientAttached(identifier))
    flush(client)
    noteReaders()
  }

  /// The oldest byte, or where the first whole line after it begins.
  private func replayStart(_ start: UInt64) -> UInt64 {
    start == 0 ? 0 : output.withLock { $0.ring.lineStart(from: start) }
  }

  func detach(_ client: Client, reason: String) {
    guard let index = clients.firstIndex(where: { $0 === client }) else { return }
    loop.unwatch(client.descriptor.rawValue)
    clients.remove(at: index)
    if client.isDevice {
      devicePosition = client.position
      device?.makeRaw()
    }
    report(.clientDetached(client.identifier, reason: reason))
    noteReaders()
    publishClients()
  }

  func publishClients() {
    let descriptions = clients.map(\.description)
    published.withLock { $0.clients = descriptions }
  }

  /// Sends the state of the terminal to all clients, because it is another than what they were sent.
  func redrawClients() {
    let (drawing, lines) = terminal.withLock { terminal in
      (terminal.renderAsEscapes(), [UInt8]("\u{18}\u{1B}[0m".utf8))
    }
    let end = output.withLock { $0.parsed }
    for client in clients {
      client.enqueue(lines + drawing)
      client.position = max(client.position, end)
      flush(client)
    }
  }

  // MARK: Sending

  /// Sends a client what it takes now.
  func flush(_ client: Client) {
    do {
      let before = client.sentBytes
      let isDone = try sendStream(client)
      if isDone {
        client.blockedSince = nil
      } else if client.sentBytes != before || client.blockedSince == nil {
        client.blockedSince = MonotonicClock.now
      }
      watch(client)
      if !isDone { scheduleReview() }
    } catch {
      detach(
        client, reason: error.code == EPIPE || error.code == ECONNRESET ? "closed" : error.reason)
    }
  }

  /// Sends pending bytes and then the stream. False when the client takes no more now.
  private func sendStream(_ client: Client) throws(PlatformError) -> Bool {
    // One client's burst must not keep the others waiting for long: a ring's worth at most.
    let end = output.withLock { $0.ring.end }
    while true {
      guard try client.sendPending() else { return false }
      skipLost(client)
      guard client.position < end else { return true }
      if client.hasPending { continue }
      let isFiltered = client.position < client.replayEnd || !mayAnswer(client)
      let count = copy(client, filtered: isFiltered)
      // The guest overwrote it just now: what was lost is told in the next round.
      if count == 0 { continue }
      if isFiltered {
        scratch.withUnsafeBytes {
          client.enqueueFiltered(UnsafeRawBufferPointer(rebasing: $0[..<count]))
        }
        client.position += UInt64(count)
        continue
      }
      let sent = try scratch.withUnsafeBytes { bytes in
        client.send(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      }.get()
      client.position += UInt64(sent)
      if sent < count { return false }
    }
  }

  /// Copies the client's next bytes into `scratch`; while old output is replayed not beyond its end.
  private func copy(_ client: Client, filtered: Bool) -> Int {
    var limit = scratch.count
    if client.position < client.replayEnd {
      limit = Int(min(UInt64(limit), client.replayEnd - client.position))
    }
    let position = client.position
    return scratch.withUnsafeMutableBytes { buffer in
      output.withLock {
        $0.ring.copy(
          from: position, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<limit]))
      }
    }
  }

  /// Whether a client sees questions: those of which nothing that it says reaches the guest, and the one that answers.
  private func mayAnswer(_ client: Client) -> Bool {
    if client.options.readOnly || client.inputEnded { return true }
    guard client.isAnswering else { return true }
    return clients.first(where: \.isAnswering) === client
  }

  /// A client that is more than the ring behind is told what it lost, and goes on with the oldest bytes.
  private func skipLost(_ client: Client) {
    let start = output.withLock { $0.ring.start }
    guard client.position < start else { return }
    let next = output.withLock { $0.ring.lineStart(from: start) }
    let lost = next - client.position
    client.position = next
    // Cancel ends a sequence that was cut in the middle.
    let notice =
      "\u{18}\u{1B}[0m\r\n[underjack: \(lost) bytes skipped, this client reads too slowly]\r\n"
    client.enqueue(Array(notice.utf8))
    report(.clientFellBehind(client.identifier, bytes: lost))
  }

  // MARK: Watching

  private func watch(_ client: Client) {
    guard clients.contains(where: { $0 === client }) else { return }
    var wanted: EventLoop.Readiness = []
    if !client.inputEnded && !(inputIsPaused && !client.options.readOnly) {
      wanted.insert(.readable)
    }
    if client.blockedSince != nil { wanted.insert(.writable) }
    guard wanted != client.watched else { return }
    client.watched = wanted
    do {
      try loop.watch(client.descriptor.rawValue, for: wanted) {
        [weak self, weak client] readiness in
        guard let self, let client else { return }
        self.serve(client, readiness)
      }
    } catch {
      detach(client, reason: error.reason)
    }
  }

  private func serve(_ client: Client, _ readiness: EventLoop.Readiness) {
    guard clients.contains(where: { $0 === client }) else { return }
    if readiness.contains(.readable) { readInput(client) }
    if !readiness.isDisjoint(with: .hangup) {
      // What it sent before it left still counts.
      for _ in 0..<16 where !client.inputEnded { readInput(client) }
      detach(client, reason: "closed")
      return
    }
    if readiness.contains(.writable) {
      flush(client)
      noteReaders()
    }
  }

  /// Watches all clients anew, because input was paused or goes on.
  func watchClients() { for client in clients { watch(client) } }

  // MARK: Slow clients

  /// Tells the guest's side how far the slowest client is that does read.
  func noteReaders() {
    guard output.withLock({ $0.waitsForClients }) else { return }
    let now = MonotonicClock.now
    let reading = clients.filter { client in
      client.blockedSince.map { now < $0 + Self.patience } ?? true
    }
    let slowest = reading.map(\.position).min()
    output.withLock { $0.noteReaders(slowest) }
  }

  private func scheduleReview() {
    guard review == nil else { return }
    review = loop.schedule(at: MonotonicClock.now + Self.reviewInterval) { [weak self] in
      self?.reviewClients()
    }
  }

  private func reviewClients() {
    review = nil
    let now = MonotonicClock.now
    let limit = UInt64(max(configuration.stallLimit, 0)) * 1_000_000_000
    for client in clients {
      guard let since = client.blockedSince, limit > 0, now > since + limit else { continue }
      detach(client, reason: "stalled")
    }
    noteReaders()
    publishClients()
    if clients.contains(where: { $0.blockedSince != nil }) { scheduleReview() }
  }

  // MARK: The PTY device

  func watchDevice() {
    guard let device else { return }
    try? loop.watch(device.openings.rawValue, for: .readable) { [weak self] _ in
      guard let self, let device = self.device else { return }
      device.drainOpenings()
      self.attachDevice(device)
    }
    // Somebody may have opened it before we watched.
    attachDevice(device)
  }

  private func attachDevice(_ device: PseudoTerminal) {
    guard device.isInUse, !clients.contains(where: \.isDevice) else { return }
    guard let descriptor = try? device.master.duplicate() else { return }
    add(
      makeIdentifier(), descriptor,
      options: SerialMuxClientOptions(replay: configuration.deviceReplay, label: device.path),
      since: output.withLock { $0.ring.end }, isDevice: true)
  }
}
