import CLinux
import Devices
import Platform
import Synchronization

/// A serial port between the guest and any number of byte-stream clients: remembers what was printed, replays it to
/// whoever attaches, writes the port's log, and never makes a virtual processor wait for a client.
package final class SerialLine: SerialMultiplexer, CharacterBackend, @unchecked Sendable {
  // @unchecked: `clients`, `input` and `device` belong to the loop's thread, everything shared is in `shared`.

  private struct Shared {
    /// Printed and not yet seen by the loop.
    var fresh: [UInt8] = []
    var clientCount = 0
  }
  private final class Client {
    let descriptor: Int32
    let isReadOnly: Bool
    var output = OutgoingBuffer()
    var watched: EventLoop.Readiness = []
    init(_ descriptor: Int32, isReadOnly: Bool) {
      self.descriptor = descriptor
      self.isReadOnly = isReadOnly
    }
  }

  /// What a later client is shown.
  static let historyLimit = 1 << 20
  /// Unread bytes at which a client is cut.
  static let clientLimit = 4 << 20
  /// Keys that wait for the guest; beyond it clients are not read.
  static let inputLimit = 16 << 10
  static let logLimit: off_t = 16 << 20

  private let loop: EventLoop
  private let shared = Mutex(Shared())
  private var thread: PosixThread?
  private let device = Mutex<(any CharacterDevice)?>(nil)
  private var history: [UInt8] = []
  private var clients: [Int32: Client] = [:]
  private var input: [UInt8] = []
  private var log: Int32 = -1
  private let logPath: String?

  package init(_ place: HostParts.SerialPlace) throws(HostingError) {
    loop = try platform { () throws(PlatformError) in try EventLoop() }
    logPath = place.logPath
    openLog()
    let loop = loop
    thread = try platform { () throws(PlatformError) in
      try PosixThread(name: "serial\(place.port)") { try? loop.run() }
    }
  }

  package var backend: any CharacterBackend { self }
  package var clientCount: Int { shared.withLock { $0.clientCount } }
  package var devicePath: String? { nil }

  package func connect(_ device: any CharacterDevice) {
    self.device.withLock { $0 = device }
  }

  package func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    let isFirst = shared.withLock { shared in
      defer {
        // The loop only copies; that it falls so far behind means that the host is out of breath.
        if shared.fresh.count < Self.clientLimit { shared.fresh += bytes }
      }
      return shared.fresh.isEmpty
    }
    if isFirst { loop.perform { [weak self] in self?.distribute() } }
  }

  package func guestCanReceive() {
    loop.perform { [weak self] in self?.offerInput() }
  }

  package func attach(_ descriptor: Int32, input: [UInt8], isReadOnly: Bool, replays: Bool) {
    shared.withLock { $0.clientCount += 1 }
    loop.perform { [weak self] in
      guard let self else { return }
      let client = Client(descriptor, isReadOnly: isReadOnly)
      self.clients[descriptor] = client
      if replays { client.output.append(self.history) }
      if !isReadOnly { self.input += input }
      self.offerInput()
      self.flush(client)
    }
  }

  package func close() {
    loop.perform { [weak self] in
      guard let self else { return }
      self.distribute()
      let deadline = MonotonicClock.now &+ 200_000_000
      for client in self.clients.values {
        while client.output.count > 0, client.output.flush(to: client.descriptor),
          client.output.count > 0,
          ControlSocket.wait(client.descriptor, for: POLLOUT, until: deadline)
        {}
        self.cut(client)
      }
      self.loop.stop()
    }
    thread?.join()
    if log >= 0 { CLinux.close(log) }
    log = -1
  }

  // MARK: On the loop's thread

  private func distribute() {
    let bytes = shared.withLock { shared in
      defer { shared.fresh.removeAll(keepingCapacity: shared.fresh.capacity <= 65536) }
      return shared.fresh
    }
    guard !bytes.isEmpty else { return }
    history += bytes
    if history.count > 2 * Self.historyLimit {
      history.removeFirst(history.count - Self.historyLimit)
    }
    writeLog(bytes)
    for client in clients.values {
      client.output.append(bytes)
      flush(client)
      if client.output.count > Self.clientLimit { cut(client) }
    }
  }

  private func openLog() {
    guard let logPath else { return }
    log = linux_open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
  }

  private func writeLog(_ bytes: [UInt8]) {
    guard log >= 0, let logPath else { return }
    _ = bytes.withUnsafeBytes { write(log, $0.baseAddress, $0.count) }
    if lseek(log, 0, SEEK_END) > Self.logLimit {
      CLinux.close(log)
      rename(logPath, logPath + ".1")
      openLog()
    }
  }

  private func flush(_ client: Client) {
    guard clients[client.descriptor] === client else { return }
    guard client.output.flush(to: client.descriptor) else { return cut(client) }
    watch(client)
  }

  private func watch(_ client: Client) {
    var wanted: EventLoop.Readiness = client.output.count > 0 ? [.writable] : []
    if input.count < Self.inputLimit { wanted.insert(.readable) }
    guard wanted != client.watched else { return }
    client.watched = wanted
    do {
      try loop.watch(client.descriptor, for: wanted) { [weak self, weak client] ready in
        guard let self, let client else { return }
        self.serve(client, ready)
      }
    } catch {
      cut(client)
    }
  }

  private func serve(_ client: Client, _ readiness: EventLoop.Readiness) {
    if readiness.contains(.readable) || readiness.contains(.hangup) {
      var chunk = [UInt8](repeating: 0, count: 4096)
      if let count = ControlSocket.receive(client.descriptor, into: &chunk) {
        guard count > 0 else { return cut(client) }
        if !client.isReadOnly { input += chunk[..<count] }
        offerInput()
      }
    }
    flush(client)
  }

  private func offerInput() {
    let wasFull = input.count >= Self.inputLimit
    if !input.isEmpty, let device = device.withLock({ $0 }) {
      let taken = input.withUnsafeBytes { device.offer($0) }
      input.removeFirst(min(max(taken, 0), input.count))
    }
    if wasFull || input.count >= Self.inputLimit {
      for client in clients.values { watch(client) }
    }
  }

  private func cut(_ client: Client) {
    guard clients.removeValue(forKey: client.descriptor) != nil else { return }
    loop.unwatch(client.descriptor)
    CLinux.close(client.descriptor)
    shared.withLock { $0.clientCount -= 1 }
  }
}
