import CLinux
import DeviceFuzzing
import Devices
import Networks
import Platform
import Synchronization

/// Two streams, one that listens and one that goes to its peer, and the programs at their other ends: they send frames
/// whole and in pieces, lengths that no frame has and bytes that are nothing, do not read, go in the middle of
/// everything and come back.
final class StreamFuzzer: Sendable {
  let server: StreamNetwork
  let client: StreamNetwork
  private let folder: String
  private let isGood = Atomic<Bool>(false)
  private let thread = Mutex<PeerThread?>(nil)
  /// Connections that the programs have begun or taken.
  let connections = Atomic<Int>(0)

  private var serverPath: String { "\(folder)/server" }
  private var clientPath: String { "\(folder)/client" }

  init(seed: UInt64) throws {
    folder = try PeerThread.makeFolder("stream-fuzz")
    server = try StreamNetwork(.file("\(folder)/server"), listens: true)
    client = try StreamNetwork(.file("\(folder)/client"), listens: false)
    let started = try PeerThread(name: "stream-peers") { [weak self] goesOn in
      var peers = StreamPeers(seed: seed)
      while let self, goesOn() {
        self.serve(&peers)
        usleep(500)
      }
      peers.closeAll()
    }
    thread.withLock { $0 = started }
  }

  private func serve(_ peers: inout StreamPeers) {
    if isGood.load(ordering: .acquiring) {
      peers.behave(serverPath, clientPath)
    } else {
      peers.turn(serverPath, clientPath)
    }
    connections.store(peers.connections, ordering: .relaxed)
  }

  /// How often a peer broke a rule.
  var violations: UInt64 { server.cable.violations + client.cable.violations }

  var framesLost: UInt64 { server.cable.framesLost + client.cable.framesLost }

  /// Whether both ends are there for a peer that behaves. The adapters still run.
  func isAlive() -> Bool {
    isGood.store(true, ordering: .releasing)
    let limit = MonotonicClock.now + 10_000_000_000
    while MonotonicClock.now < limit {
      let states = [server.cable.state, client.cable.state]
      if states.allSatisfy({ $0?.hasPrefix("connected") ?? false }) { return true }
      usleep(10_000)
    }
    return false
  }

  func close() {
    thread.withLock { $0 }?.stop()
    server.close()
    client.close()
    unlink(clientPath)
    rmdir(folder)
  }
}

/// The programs, on one thread.
private struct StreamPeers {
  private var listener: Int32 = -1
  private var sockets: [Int32] = []
  private var random: SeededGenerator
  private var isBehaving = false
  private(set) var connections = 0
  private var bytes = [UInt8](repeating: 0x45, count: 80_000)

  init(seed: UInt64) { random = SeededGenerator(seed: seed ^ 0x57E4) }

  mutating func closeAll() {
    for socket in sockets { CLinux.close(socket) }
    sockets = []
    if listener >= 0 { CLinux.close(listener) }
    listener = -1
  }

  /// One of each, and nothing but whole frames.
  mutating func behave(_ server: String, _ client: String) {
    if !isBehaving {
      closeAll()
      isBehaving = true
    }
    if sockets.isEmpty { connect(server) }
    if listener < 0 { listen(client) }
    accept()
    for socket in sockets {
      drain(socket)
      if random.rarely(64) { send(frame(60), to: socket) }
    }
  }

  mutating func turn(_ server: String, _ client: String) {
    if sockets.count < 4, random.rarely(4) { connect(server) }
    if listener < 0 {
      if random.rarely(16) { listen(client) }
    } else if random.rarely(2000) {
      // Away for a while.
      CLinux.close(listener)
      listener = -1
    }
    accept()
    for index in sockets.indices.reversed() {
      let socket = sockets[index]
      // One that never reads stays for a while.
      if index % 2 == 0 { drain(socket) }
      say(to: socket)
      if random.rarely(64) {
        CLinux.close(socket)
        sockets.remove(at: index)
      }
    }
  }

  private mutating func say(to socket: Int32) {
    switch random.below(64) {
    case 0: sendLength(UInt32(truncatingIfNeeded: random.next()), to: socket)
    case 1: sendLength(random.pick([0, 65_554, 0x8000_0000, .max]), to: socket)
    case 2:
      // Nothing in particular.
      for index in 0..<64 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
      send(Array(bytes.prefix(Int(1 + random.below(64)))), to: socket)
    case 3...12:
      // The rest comes later, or another frame's beginning instead.
      let whole = frame(random.below(4000))
      send(Array(whole.prefix(Int(1 + random.below(UInt64(whole.count))))), to: socket)
    case 13: send(frame(random.pick([65_553, 65_000, 1, 13, 14])), to: socket)
    case 14...20: for _ in 0..<random.below(40) { send(frame(random.below(200)), to: socket) }
    default: send(frame(14 + random.below(1500)), to: socket)
    }
  }

  private func frame(_ count: UInt64) -> [UInt8] {
    let size = max(1, min(UInt32(count), 65_553))
    var frame = withUnsafeBytes(of: size.bigEndian) { Array($0) } + bytes.prefix(Int(size))
    for index in 4..<min(10, frame.count) { frame[index] = 0xFF }
    return frame
  }

  private func sendLength(_ length: UInt32, to socket: Int32) {
    send(withUnsafeBytes(of: length.bigEndian) { Array($0) } + [1, 2, 3], to: socket)
  }

  private func send(_ bytes: [UInt8], to socket: Int32) {
    _ = bytes.withUnsafeBytes { linux_send(socket, $0.baseAddress, $0.count) }
  }

  private mutating func drain(_ socket: Int32) {
    _ = bytes.withUnsafeMutableBytes { read(socket, $0.baseAddress, 4096) }
  }

  // MARK: Coming and going

  private mutating func connect(_ path: String) {
    let number = linux_unix_socket()
    guard number >= 0 else { return }
    guard linux_unix_connect(number, path) == 0 else {
      CLinux.close(number)
      return
    }
    sockets.append(number)
    connections += 1
  }

  private mutating func listen(_ path: String) {
    unlink(path)
    let number = linux_unix_socket()
    guard number >= 0, linux_unix_bind(number, path) == 0, CLinux.listen(number, 4) == 0 else {
      if number >= 0 { CLinux.close(number) }
      return
    }
    listener = number
  }

  private mutating func accept() {
    guard listener >= 0, sockets.count < 6 else { return }
    let number = PeerThread.accept(listener)
    guard number >= 0 else { return }
    sockets.append(number)
    connections += 1
  }
}
