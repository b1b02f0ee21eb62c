// A cable that is a stream of bytes to another program, as QEMU's `-netdev stream` has it: QEMU itself, passt, a switch
// such as VDE's, or another of our machines.

import CLinux
import Devices
import Platform
import Synchronization

/// One end of a stream. It connects, or it listens and has one peer at a time.
///
/// A peer that is away is waited for; one that does not read loses frames; one that sends nonsense loses the connection.
/// The guest's link stays up meanwhile, as with QEMU: what goes with the connection there is the back end's link alone
/// (net/stream_data.c), by which frames are dropped, and the adapter is not told.
public final class StreamNetwork: NetworkBackend, @unchecked Sendable {
  // @unchecked: everything below `gate` is guarded by it.
  /// Who begins.
  enum Role {
    case client(StreamAddress)
    case server(StreamAddress, SharedDescriptor, identity: (device: UInt64, file: UInt64)?)
    case program(PasstProgram)
  }

  /// Between two attempts to reach a peer, nanoseconds.
  private static let pause: UInt64 = 1_000_000_000

  /// A peer gets plain frames: what a guest leaves to its adapter is done here.
  public let takes = NetworkOffloads.all
  public let gives: NetworkOffloads = []
  public let maximumTransmissionUnit: UInt16 = 1500
  private let gate = Mutex(())
  private let role: Role
  private weak var receiver: (any NetworkReceiver)?
  private var connection: SharedDescriptor?
  /// The connection has begun and does not stand yet.
  private var isPending = false
  private var nextAttempt: UInt64 = 0
  private var isClosed = false
  private let reader = StreamFrameReader()
  private let writer = StreamFrameWriter()
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: 65_536 + 128, alignment: 16)
  private var connectionIndex = -1
  private var listenerIndex = -1
  private var outputIndex = -1
  private var report = LineReport()
  private var framesLost: UInt64 = 0
  private var violations: UInt64 = 0

  /// - Throws: `NetworkError` when the address cannot be listened on.
  public init(_ address: StreamAddress, listens: Bool) throws(NetworkError) {
    guard listens else {
      role = .client(address)
      return
    }
    do throws(PlatformError) {
      let listener = SharedDescriptor(try StreamSocket.listen(address))
      var identity: (device: UInt64, file: UInt64)?
      if case .file(let path) = address { identity = StreamSocket.identity(path) }
      role = .server(address, listener, identity: identity)
    } catch {
      throw NetworkError(Self.advice(address, error))
    }
  }

  /// A network that Debian's `passt` makes.
  init(_ program: PasstProgram) throws(NetworkError) {
    role = .program(program)
    connection = try program.start()
  }

  deinit { scratch.deallocate() }

  private static func advice(_ address: StreamAddress, _ error: PlatformError) -> String {
    switch error.code {
    case EADDRINUSE: "stream \(address): another program listens there"
    case EEXIST: "stream \(address): a file that is no socket is in the way"
    default: "stream \(address): \(error.reason)"
    }
  }

  public func close() {
    gate.withLock { _ in
      guard !isClosed else { return }
      isClosed = true
      receiver = nil
      connection = nil
      switch role {
      case .client: break
      case .server(.file(let path), _, let identity?):
        if let now = StreamSocket.identity(path), now == identity { unlink(path) }
      case .server: break
      case .program(let program): program.end()
      }
    }
  }

  public func report(to handler: @escaping @Sendable (String) -> Void) {
    gate.withLock { _ in report.handler = handler }
  }

  public var cable: NetworkCable {
    gate.withLock { _ in
      let isConnected = connection != nil && !isPending
      return NetworkCable(
        state: isConnected ? "connected to \(peer)" : "waits for \(peer)",
        framesLost: framesLost, violations: violations)
    }
  }

  private var peer: String {
    switch role {
    case .client(let address): address.description
    case .server(let address, _, _): "a peer at \(address)"
    case .program: "passt"
    }
  }

  // MARK: The connection

  public func connect(_ receiver: any NetworkReceiver) {
    gate.withLock { _ in self.receiver = receiver }
  }

  private func begin(_ descriptor: SharedDescriptor, isPending: Bool = false) {
    connection = descriptor
    self.isPending = isPending
    reader.forget()
    writer.forget()
    if !isPending { report.send("connected to \(peer)") }
  }

  private func end(_ reason: String) {
    connection = nil
    isPending = false
    connectionIndex = -1
    nextAttempt = MonotonicClock.now &+ Self.pause
    var reason = reason
    if case .program(let program) = role { reason = program.collect() ?? reason }
    report.send("\(peer): \(reason)")
  }

  private func attempt() {
    let now = MonotonicClock.now
    guard connection == nil, now >= nextAttempt else { return }
    nextAttempt = now &+ Self.pause
    switch role {
    case .server: break
    case .client(let address):
      do throws(PlatformError) {
        let (socket, isPending) = try StreamSocket.connect(address)
        begin(socket, isPending: isPending)
      } catch {
        report.send("\(peer): \(error.reason); tries again every second")
      }
    case .program(let program):
      do throws(NetworkError) {
        begin(try program.start())
      } catch {
        report.send(error.description)
      }
    }
  }

  private func accept(_ listener: SharedDescriptor) {
    let number = linux_accept4(listener.rawValue, Int32(SOCK_CLOEXEC.rawValue) | O_NONBLOCK)
    guard number >= 0 else { return }
    // Harmless on a Unix socket.
    linux_tcp_without_delay(number)
    begin(SharedDescriptor(owning: number))
  }

  // MARK: From the guest

  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from sender: any NetworkReceiver
  ) {
    gate.withLock { _ in
      guard receiver === sender else { return }
      SegmentCutter.deliver(
        UnsafeRawBufferPointer(frame), header, accepting: [], scratch: scratch
      ) { piece, _ in put(UnsafeMutableRawBufferPointer(mutating: piece)) }
    }
  }

  private func put(_ frame: UnsafeMutableRawBufferPointer) {
    guard let connection, !isPending, frame.count <= StreamFraming.longest else {
      framesLost &+= 1
      return
    }
    switch writer.send(frame, to: connection.rawValue) {
    case .taken: break
    case .lost: framesLost &+= 1
    case .closed:
      framesLost &+= 1
      end("the connection is gone")
    }
  }

  // MARK: Waiting

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      connectionIndex = -1
      listenerIndex = -1
      outputIndex = -1
      guard receiver === sender, !isClosed else { return }
      attempt()
      if case .program(let program) = role, let output = program.output {
        outputIndex = set.add(output, for: .readable)
      }
      if let connection {
        connectionIndex = set.add(
          connection.rawValue,
          for: isPending ? .writable : writer.isWaiting ? [.readable, .writable] : .readable)
      } else if case .server(_, let listener, _) = role {
        // One peer at a time: another waits until this one goes.
        listenerIndex = set.add(listener.rawValue, for: .readable)
      } else {
        set.end(at: nextAttempt)
      }
    }
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      guard receiver === sender, !isClosed else { return }
      if case .program(let program) = role, outputIndex >= 0,
        !set.events(at: outputIndex).isEmpty
      {
        program.readOutput()
      }
      if case .server(_, let listener, _) = role, listenerIndex >= 0,
        !set.events(at: listenerIndex).isEmpty, connection == nil
      {
        accept(listener)
      }
      guard connectionIndex >= 0, let connection else { return }
      let events = set.events(at: connectionIndex)
      if isPending {
        if !events.isEmpty { finishConnecting(connection) }
        return
      }
      if events.contains(.writable), !writer.sendWaiting(to: connection.rawValue) {
        return end("the connection is gone")
      }
      guard !events.subtracting(.writable).isEmpty else { return }
      switch reader.read(connection.rawValue, { sender.deliver($0, NetworkHeader()) }) {
      case nil: break
      case .closed: end("has closed the connection")
      case .length(let length):
        violations &+= 1
        end("sent a frame of \(length) bytes; the connection is ended")
      }
    }
  }

  private func finishConnecting(_ connection: SharedDescriptor) {
    let code = linux_socket_error(connection.rawValue)
    guard code == 0 else {
      return end("\(String(cString: strerror(code))); tries again every second")
    }
    isPending = false
    report.send("connected to \(peer)")
  }
}

/// Lines for a person about something that others can make happen again and again: not twice the same, and not too many.
struct LineReport {
  /// Lines at once, and the time after which there may be one more, nanoseconds.
  private static let burst = 16
  private static let interval: UInt64 = 60_000_000_000

  /// Lines that come before anybody listens are kept, a few.
  var handler: (@Sendable (String) -> Void)? {
    didSet {
      for line in early { handler?(line) }
      early = []
    }
  }

  private var early: [String] = []
  private var last: String?
  private var credit = burst
  private var refilled = MonotonicClock.now

  mutating func send(_ line: String) {
    guard line != last else { return }
    let more = (MonotonicClock.now &- refilled) / Self.interval
    if more > 0 {
      credit = min(Self.burst, credit + Int(clamping: more))
      refilled &+= more &* Self.interval
    }
    guard credit > 0 else { return }
    credit -= 1
    last = line
    if let handler { handler(line) } else if early.count < 4 { early.append(line) }
  }
}
