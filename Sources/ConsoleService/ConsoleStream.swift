import CLinux
import ConsoleUI
import Hosting
import Inventory
import Platform

/// One attached console: first a call on the control socket, then that socket as the byte stream of the serial port.
final class ConsoleStream {
  private enum State {
    /// The host does not listen yet: tried again until the deadline.
    case waiting(retry: UInt64, deadline: UInt64)
    case calling(AsynchronousMachineClient)
    case open(Int32)
    case closed
  }

  let name: MachineName
  private let port: Int
  private let location: InventoryLocation
  private var state: State
  private var pending: [UInt8] = []

  /// Typed and pasted bytes that the host has not taken; more are dropped.
  private static let pendingLimit = 1 << 20
  private static let retryInterval: UInt64 = 50_000_000
  private static let patience: UInt64 = 10_000_000_000
  /// At most so much is read at a time, so that a flood does not keep keys waiting.
  private static let chunk = 65536

  init(_ name: MachineName, port: Int, at location: InventoryLocation) {
    self.name = name
    self.port = port
    self.location = location
    let now = MonotonicClock.now
    state = .waiting(retry: now, deadline: now &+ Self.patience)
    connect()
  }

  deinit { close() }

  var pollRequest: PollRequest? {
    switch state {
    case .waiting, .closed: nil
    case .calling(let client):
      PollRequest(descriptor: client.descriptor, wantsToWrite: client.wantsToWrite)
    case .open(let descriptor):
      PollRequest(descriptor: descriptor, wantsToWrite: !pending.isEmpty)
    }
  }

  var deadline: UInt64? {
    if case .waiting(let retry, _) = state { return retry }
    return nil
  }

  func send(_ bytes: [UInt8]) {
    guard pending.count + bytes.count <= Self.pendingLimit else { return }
    pending += bytes
    flush()
  }

  func close() {
    if case .open(let descriptor) = state { CLinux.close(descriptor) }
    state = .closed
  }

  /// Serves the connection; returns what happened, with the console's number.
  func process(as number: ConsoleNumber) -> [ServiceEvent] {
    switch state {
    case .closed: return []
    case .waiting(let retry, let deadline):
      let now = MonotonicClock.now
      guard now >= retry else { return [] }
      if now > deadline { return end(number, "its host process does not answer") }
      state = .waiting(retry: now &+ Self.retryInterval, deadline: deadline)
      connect()
      return []
    case .calling(let client): return answer(client, number)
    case .open(let descriptor):
      flush()
      return receive(descriptor, number)
    }
  }

  private func connect() {
    guard let client = try? AsynchronousMachineClient(name, at: location) else { return }
    client.attach(port: port)
    state = .calling(client)
  }

  private func answer(
    _ client: AsynchronousMachineClient, _ number: ConsoleNumber
  ) -> [ServiceEvent] {
    for message in client.process() {
      switch message {
      case .result:
        do {
          let stream = try client.takeStream()
          state = .open(stream.descriptor)
          var events: [ServiceEvent] = [.attached(number, Size(columns: 80, rows: 24))]
          if !stream.received.isEmpty { events.append(.output(number, stream.received)) }
          flush()
          return events
        } catch {
          return end(number, error.description)
        }
      case .failure(_, let reason), .closed(let reason): return end(number, reason)
      case .notification: continue
      }
    }
    return []
  }

  private func receive(_ descriptor: Int32, _ number: ConsoleNumber) -> [ServiceEvent] {
    var bytes = [UInt8](repeating: 0, count: Self.chunk)
    let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    if count > 0 { return [.output(number, Array(bytes[..<count]))] }
    if count < 0, [EAGAIN, EINTR].contains(linux_error_number()) { return [] }
    return end(number, "the machine was turned off")
  }

  private func end(_ number: ConsoleNumber, _ reason: String) -> [ServiceEvent] {
    close()
    return [.consoleClosed(number, reason)]
  }

  private func flush() {
    guard case .open(let descriptor) = state, !pending.isEmpty else { return }
    let count = pending.withUnsafeBytes {
      linux_send(descriptor, $0.baseAddress, $0.count)
    }
    if count > 0 { pending.removeFirst(count) }
  }
}
