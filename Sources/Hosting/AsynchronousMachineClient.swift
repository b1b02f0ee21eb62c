import CLinux
import Inventory
import Platform

/// Talks to a running machine's host without ever waiting, for a program with its own poll(2): watch `descriptor` for
/// reading, and for writing while `wantsToWrite`; call `process` when it is ready.
package final class AsynchronousMachineClient {
  package enum Message: Sendable, Equatable {
    /// The answer to the call of that number.
    case result(Int64, JSONValue)
    case failure(Int64?, String)
    case notification(String, JSONValue)
    /// The connection is over; nothing follows.
    case closed(String)
  }

  package let name: MachineName
  private let socket: FileDescriptor
  private var input = LineBuffer(limit: 1 << 20)
  private var output = OutgoingBuffer()
  private var chunk = [UInt8](repeating: 0, count: 16384)
  private var nextIdentifier: Int64 = 1
  private var isClosed = false
  /// The call whose answer is followed by a raw stream of bytes.
  private var streamIdentifier: Int64?

  /// - Throws: kind `notRunning` when nobody listens.
  package init(_ name: MachineName, at location: InventoryLocation) throws(HostingError) {
    self.name = name
    socket = try Self.connected(name, location.controlSocket(name))
  }

  private static func connected(
    _ name: MachineName, _ path: String
  ) throws(HostingError) -> FileDescriptor {
    do {
      return try ControlSocket.connect(path)
    } catch {
      throw HostingError(.notRunning, "\(name): is not running")
    }
  }

  package var descriptor: Int32 { socket.rawValue }
  package var wantsToWrite: Bool { output.count > 0 }

  /// Queues a call; its answer comes as `result` or `failure` with the number returned.
  @discardableResult
  package func call(_ method: String, _ parameters: JSONValue = [:]) -> Int64 {
    let identifier = nextIdentifier
    nextIdentifier += 1
    output.append(RemoteMessage.callLine(method, parameters, identifier: identifier))
    _ = output.flush(to: socket.rawValue)
    return identifier
  }

  /// Queues `serial.attach`. After its `result` the connection is the port's stream: `takeStream` hands it over.
  @discardableResult
  package func attach(port: Int, isReadOnly: Bool = false, replays: Bool = true) -> Int64 {
    let identifier = call(
      "serial.attach",
      ["port": .unsigned(port), "readOnly": .bool(isReadOnly), "replay": .bool(replays)])
    streamIdentifier = identifier
    return identifier
  }

  /// Sends and receives what is possible now.
  package func process() -> [Message] {
    guard !isClosed else { return [] }
    var messages: [Message] = []
    var reason = output.flush(to: socket.rawValue) ? nil : "its host process is gone"
    // A bounded number of reads, so that one machine cannot keep its caller from the others.
    for _ in 0..<16 where reason == nil {
      guard let count = ControlSocket.receive(socket.rawValue, into: &chunk) else { break }
      if count == 0 {
        reason = "its host process is gone"
      } else {
        input.append(chunk[..<count])
      }
    }
    while let line = input.next() {
      switch RemoteMessage.incoming(line) {
      case .result(let identifier, let value):
        messages.append(.result(identifier, value))
        // What follows are not lines but the guest's bytes, for `takeStream`.
        if identifier == streamIdentifier { return messages }
      case .error(let identifier, let error):
        messages.append(.failure(identifier, printable(error.message)))
      case .call(_, let method, let parameters):
        messages.append(.notification(method, parameters))
      case nil: reason = reason ?? "its host answered with nonsense"
      }
    }
    if input.isOverflown { reason = reason ?? "its host sends lines without end" }
    if let reason {
      isClosed = true
      messages.append(.closed(reason))
    }
    return messages
  }

  /// After the answer to `serial.attach`: the socket, non-blocking and the caller's to close, and what has arrived
  /// already. This client is of no more use.
  package func takeStream() throws(HostingError) -> (descriptor: Int32, received: [UInt8]) {
    isClosed = true
    let copy = try platform { () throws(PlatformError) in try socket.duplicate() }
    return (copy.release(), input.takeRest())
  }
}
