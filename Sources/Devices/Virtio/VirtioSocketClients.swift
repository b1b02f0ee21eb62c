// Programs of the host that come to a machine's Unix socket: they say `CONNECT port` in a line, and wait for the guest.

import CLinux
import Platform

/// Used by the device's thread, or while that is held.
final class VirtioSocketClients {
  /// One that has said which port of the guest it wants.
  struct Client {
    var descriptor: Int32
    var port: UInt32
  }

  private struct Visitor {
    var descriptor: Int32
    var line: [UInt8] = []
    var deadline: UInt64
  }

  /// Clients that have not said everything at one time.
  private static let visitorLimit = 32
  private static let lineLimit = 32
  /// Nanoseconds that a client has for its line, and a guest for its answer: a guest in software is slow at times.
  private static let patience: UInt64 = 30_000_000_000
  /// Nanoseconds without a look at the socket when there are no descriptors.
  private static let pauseTime: UInt64 = 100_000_000
  /// Ports of the host's side begin here, out of the way of those that programs choose.
  private static let firstPort: UInt32 = 1 << 30

  private var visitors: [Visitor] = []
  private var nextPort = firstPort
  /// Connections that the guest should answer, oldest first.
  private var expected: [(key: UInt64, deadline: UInt64)] = []
  private var listenerIndex: Int?
  private var firstVisitor = 0
  private var pausedUntil: UInt64 = 0

  deinit { closeAll() }

  func closeAll() {
    for visitor in visitors { close(visitor.descriptor) }
    visitors.removeAll()
    expected.removeAll()
  }

  // MARK: Waiting

  func prepare(_ set: PollSet, _ point: GuestSocketPoint, hasRoom: Bool) {
    listenerIndex = nil
    let now = MonotonicClock.now
    if hasRoom, visitors.count < Self.visitorLimit {
      if now >= pausedUntil {
        listenerIndex = set.add(point.listener.rawValue, for: .readable)
      } else {
        set.end(at: pausedUntil)
      }
    }
    firstVisitor = set.count
    for visitor in visitors {
      set.add(visitor.descriptor, for: .readable)
      set.end(at: visitor.deadline)
    }
    if let first = expected.first { set.end(at: first.deadline) }
  }

  /// - Parameter opened: takes a client over, with its socket.
  func serve(_ set: PollSet, _ point: GuestSocketPoint, opened: (Client) -> Void) {
    let now = MonotonicClock.now
    var kept: [Visitor] = []
    for (index, visitor) in visitors.enumerated() {
      var visitor = visitor
      if set.events(at: firstVisitor + index).isEmpty {
        if now < visitor.deadline { kept.append(visitor) } else { close(visitor.descriptor) }
        continue
      }
      switch listen(to: &visitor) {
      case .waits: kept.append(visitor)
      case .leaves: close(visitor.descriptor)
      case .wants(let port): opened(Client(descriptor: visitor.descriptor, port: port))
      }
    }
    visitors = kept
    guard let listenerIndex, !set.events(at: listenerIndex).isEmpty else { return }
    self.listenerIndex = nil
    while visitors.count < Self.visitorLimit {
      switch point.accept() {
      case .success(let descriptor?):
        visitors.append(Visitor(descriptor: descriptor, deadline: now &+ Self.patience))
      case .success(nil): return
      case .failure:
        // It stays readable: looking again at once would be looking for ever.
        pausedUntil = now &+ Self.pauseTime
        return
      }
    }
  }

  // MARK: The line

  private enum Answer {
    case waits, leaves
    case wants(UInt32)
  }

  /// Reads no byte behind the line: those are the guest's.
  private func listen(to visitor: inout Visitor) -> Answer {
    var bytes = [UInt8](repeating: 0, count: Self.lineLimit - visitor.line.count)
    let seen = recv(visitor.descriptor, &bytes, bytes.count, Int32(MSG_PEEK))
    if seen < 0 {
      let code = linux_error_number()
      return code == EAGAIN || code == EINTR ? .waits : .leaves
    }
    let end = bytes.prefix(seen).firstIndex(of: UInt8(ascii: "\n"))
    let count = end.map { $0 + 1 } ?? seen
    guard seen > 0, recv(visitor.descriptor, &bytes, count, 0) == count else { return .leaves }
    visitor.line += bytes.prefix(count)
    guard end != nil else { return visitor.line.count < Self.lineLimit ? .waits : .leaves }
    return Self.port(visitor.line).map(Answer.wants) ?? .leaves
  }

  /// `CONNECT 1234`, in any case, with a carriage return or without.
  static func port(_ line: [UInt8]) -> UInt32? {
    let words = String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    guard words.count == 2, words[0].lowercased() == "connect",
      words[1].utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else { return nil }
    return UInt32(words[1])
  }

  // MARK: Ports and answers

  /// A port of the host's side that is free towards `guestPort`.
  func freePort(
    for guestPort: UInt32, _ connections: [UInt64: VirtioSocketConnection]
  ) -> UInt32? {
    // More tries than there can be connections.
    for _ in 0...VirtioSocketEngine.connectionLimit {
      let port = nextPort
      nextPort = nextPort == Self.firstPort &* 2 &- 1 ? Self.firstPort : nextPort + 1
      if connections[VirtioSocketConnection.key(hostPort: port, guestPort: guestPort)] == nil {
        return port
      }
    }
    return nil
  }

  func expectAnswer(_ key: UInt64, _ connections: [UInt64: VirtioSocketConnection]) {
    // Those that were answered are forgotten before there are many.
    if expected.count >= 4 * VirtioSocketEngine.connectionLimit {
      expected.removeAll { connections[$0.key].map(\.isOpen) ?? true }
    }
    expected.append((key, MonotonicClock.now &+ Self.patience))
  }

  /// Connections that had an answer to wait for, and whose time is over.
  func takeOverdue() -> [UInt64] {
    let now = MonotonicClock.now
    let count = expected.prefix { $0.deadline <= now }.count
    guard count > 0 else { return [] }
    defer { expected.removeFirst(count) }
    return expected.prefix(count).map(\.key)
  }
}
