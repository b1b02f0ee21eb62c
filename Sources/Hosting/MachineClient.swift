import CLinux
import Inventory
import Platform

/// Talks to a running machine's host and waits for the answers, for commands.
package final class MachineClient {
  private let name: MachineName
  private let socket: FileDescriptor
  private var input = LineBuffer(limit: 1 << 20)
  private var chunk = [UInt8](repeating: 0, count: 16384)
  private var nextIdentifier: Int64 = 1
  /// Notifications that came while an answer was awaited.
  private var notifications: [(method: String, parameters: JSONValue)] = []

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
      switch error.code {
      case ENOENT, ECONNREFUSED, ENOTDIR:
        throw HostingError(.notRunning, "\(name): is not running")
      case EAGAIN:
        throw HostingError(.timeout, "\(name): its host process does not take connections")
      default: throw HostingError(error)
      }
    }
  }

  /// Calls a method and waits for its answer.
  ///
  /// - Parameters:
  ///   - passing: an open file that the host is given ahead of the request.
  ///   - timeout: seconds.
  package func call(
    _ method: String, _ parameters: JSONValue = [:], passing file: SharedDescriptor? = nil,
    timeout: Double = 5
  ) throws(HostingError) -> JSONValue {
    let identifier = nextIdentifier
    nextIdentifier += 1
    let deadline = MonotonicClock.now &+ UInt64(max(0, min(timeout, 1e6)) * 1e9)
    // An empty line, which says nothing, carries it.
    if let file {
      let newline = CChar(bitPattern: UInt8(ascii: "\n"))
      while linux_send_with_descriptor(socket.rawValue, newline, file.rawValue) < 0,
        linux_error_number() == EAGAIN
      {
        guard ControlSocket.wait(socket.rawValue, for: POLLOUT, until: deadline) else {
          throw late()
        }
      }
    }
    try send(RemoteMessage.callLine(method, parameters, identifier: identifier), deadline)
    while true {
      switch try receive(deadline) {
      case .result(identifier, let value): return value
      case .error(let number, let error) where number == identifier || number == nil:
        throw HostingError(.refused, "\(name): \(printable(error.message))")
      case .call(_, let method, let parameters):
        if notifications.count < 1000 { notifications.append((method, parameters)) }
      default: continue
      }
    }
  }

  /// The next notification; nil when the host has ended the connection.
  package func nextNotification(
    timeout: Double
  ) throws(HostingError) -> (method: String, parameters: JSONValue)? {
    if !notifications.isEmpty { return notifications.removeFirst() }
    let deadline = MonotonicClock.now &+ UInt64(max(0, min(timeout, 1e6)) * 1e9)
    while true {
      do {
        if case .call(_, let method, let parameters) = try receive(deadline) {
          return (method, parameters)
        }
      } catch {
        if error.kind == .disconnected { return nil }
        throw error
      }
    }
  }

  /// Puts a disc image into the CD-ROM drive. The file is opened here, with the rights of who asks.
  package func insertDisc(_ path: String, force: Bool) throws(HostingError) {
    _ = try call(
      "cdrom.insert", ["path": .string(path), "force": .bool(force)],
      passing: try Self.openedDisc(path))
  }

  /// What goes ahead of `cdrom.insert`.
  package static func openedDisc(_ path: String) throws(HostingError) -> SharedDescriptor {
    try platform { () throws(PlatformError) in
      SharedDescriptor(try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY))
    }
  }

  package func status(timeout: Double = 2) throws(HostingError) -> MachineStatus {
    guard let status = MachineStatus(try call("status", timeout: timeout)) else {
      throw HostingError(.protocolViolation, "\(name): its host answered with nonsense")
    }
    return status
  }

  /// Turns the connection into a serial port's byte stream.
  ///
  /// - Returns: the socket, non-blocking and the caller's to close, and what has arrived already.
  package consuming func attach(
    port: Int, options: SerialAttachment = SerialAttachment()
  ) throws(HostingError) -> (descriptor: Int32, received: [UInt8]) {
    var parameters = options.parameters
    parameters["port"] = .unsigned(port)
    _ = try call("serial.attach", .object(parameters))
    let rest = input.takeRest()
    let copy = try platform { () throws(PlatformError) in try socket.duplicate() }
    return (copy.release(), rest)
  }

  /// Turns the connection into a packet capture.
  ///
  /// - Returns: the socket, non-blocking and the caller's to close, and what has arrived already.
  package consuming func capture(
    adapter: Int
  ) throws(HostingError) -> (descriptor: Int32, received: [UInt8]) {
    _ = try call("network.capture", ["adapter": .integer(Int64(clamping: adapter))])
    let rest = input.takeRest()
    let copy = try platform { () throws(PlatformError) in try socket.duplicate() }
    return (copy.release(), rest)
  }

  /// Turns the connection into a conversation in GDB's remote protocol; the guest stands still.
  ///
  /// - Returns: the socket, non-blocking and the caller's to close, and what has arrived already.
  package consuming func attachDebugger() throws(HostingError) -> (
    descriptor: Int32, received: [UInt8]
  ) {
    _ = try call("debugger.attach")
    let rest = input.takeRest()
    let copy = try platform { () throws(PlatformError) in try socket.duplicate() }
    return (copy.release(), rest)
  }

  /// Calls a method after whose answer the connection is a stream of bytes.
  ///
  /// - Returns: the socket, non-blocking and the caller's to close, and what has arrived already.
  package consuming func takeOver(
    _ method: String, _ parameters: JSONValue
  ) throws(HostingError) -> (descriptor: Int32, received: [UInt8]) {
    _ = try call(method, parameters)
    let rest = input.takeRest()
    let copy = try platform { () throws(PlatformError) in try socket.duplicate() }
    return (copy.release(), rest)
  }

  private func send(_ line: [UInt8], _ deadline: UInt64) throws(HostingError) {
    var output = OutgoingBuffer()
    output.append(line)
    while true {
      // A host that refuses us says why and hangs up: what it said is read next.
      if !output.flush(to: socket.rawValue) || output.count == 0 { return }
      guard ControlSocket.wait(socket.rawValue, for: POLLOUT, until: deadline) else {
        throw late()
      }
    }
  }

  private func receive(_ deadline: UInt64) throws(HostingError) -> RemoteMessage {
    while true {
      if let line = input.next() {
        if let message = RemoteMessage.incoming(line) { return message }
        throw HostingError(.protocolViolation, "\(name): its host answered with nonsense")
      }
      guard !input.isOverflown else {
        throw HostingError(.protocolViolation, "\(name): its host sends lines without end")
      }
      if let count = ControlSocket.receive(socket.rawValue, into: &chunk) {
        guard count > 0 else { throw gone() }
        input.append(chunk[..<count])
      } else if !ControlSocket.wait(socket.rawValue, for: POLLIN, until: deadline) {
        throw late()
      }
    }
  }

  private func gone() -> HostingError {
    HostingError(.disconnected, "\(name): its host process is gone")
  }
  private func late() -> HostingError {
    HostingError(.timeout, "\(name): its host process does not answer")
  }
}
