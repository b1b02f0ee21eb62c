import CLinux
import DeviceFuzzing
import Devices
import Networks
import Platform
import Synchronization

/// A switch with two good ports, and others that say anything: packets that are no frames, frames of any kind, names of
/// any length, connections that end in the middle.
struct SwitchFuzzer {
  private let folder: String
  private let ports: [SwitchNetwork]
  private let guests: [Station]
  private var sockets: [Int32] = []
  private var random: SeededGenerator
  private(set) var packets = 0

  var delivered: Int { guests.reduce(0) { $0 + $1.count.load(ordering: .relaxed) } }

  init(seed: UInt64) throws {
    folder = "/tmp/uj-switch-fuzz-\(getpid())"
    random = SeededGenerator(seed: seed)
    let path = folder
    ports = try (0..<2).map { _ in try SwitchNetwork(name: "fuzz", in: path) }
    guests = [Station([]), Station(.all)]
    for (port, guest) in zip(ports, guests) { port.connect(guest) }
  }

  func close() {
    for socket in sockets { CLinux.close(socket) }
    for port in ports { port.close() }
    rmdir(folder)
  }

  mutating func run(count: Int) {
    while packets < count {
      packets += 1
      switch random.below(64) {
      case 0...1: connect()
      case 2: disconnect()
      case 3...20: sendFromPort()
      default: sendRaw()
      }
      if packets & 15 == 0 { turn() }
    }
    turn()
  }

  /// Whether a frame still gets from one good port to the other.
  mutating func isAlive() -> Bool {
    for socket in sockets { CLinux.close(socket) }
    sockets = []
    for _ in 0..<100 { turn() }
    // Frames for many are limited by the second.
    usleep(1_100_000)
    let before = guests[1].count.load(ordering: .relaxed)
    var frame = [UInt8](repeating: 0xFF, count: 64)
    frame[6] = 2
    frame.withUnsafeMutableBytes { ports[0].transmit($0, NetworkHeader(), from: guests[0]) }
    for _ in 0..<10 { turn() }
    return guests[1].count.load(ordering: .relaxed) > before
  }

  private func turn() {
    for (port, guest) in zip(ports, guests) {
      let set = PollSet()
      port.prepare(set, for: guest)
      set.end(at: MonotonicClock.now)
      try? set.wait()
      port.serve(set, for: guest)
    }
  }

  private mutating func disconnect() {
    guard !sockets.isEmpty else { return }
    CLinux.close(sockets.remove(at: Int(random.below(UInt64(sockets.count)))))
  }

  /// Connects to a good port as another machine would, and says a name.
  private mutating func connect() {
    if sockets.count > 80 { disconnect() }
    guard let directory = opendir("\(folder)/fuzz") else { return }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    guard !names.isEmpty else { return }
    let target = Array("\(folder)/fuzz/\(random.pick(names))".utf8)
    let number = socket(
      AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = UInt16(AF_UNIX)
    guard number >= 0, target.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: target) }
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        CLinux.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard code == 0 else {
      CLinux.close(number)
      return
    }
    sockets.append(number)
    if !random.rarely(8) { send(bytes(random.rarely(8) ? 200 : 12), to: number) }
  }

  private mutating func bytes(_ limit: UInt64) -> [UInt8] {
    (0..<1 + random.below(limit)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  private func send(_ bytes: [UInt8], to socket: Int32) {
    _ = bytes.withUnsafeBytes { linux_send(socket, $0.baseAddress, $0.count) }
  }

  private mutating func sendRaw() {
    guard !sockets.isEmpty else { return connect() }
    let socket = random.pick(sockets)
    if random.rarely(8) { return send(bytes(64), to: socket) }
    var packet = [UInt8](repeating: 0, count: NetworkHeader.size)
    let (frame, header) = makeFrame()
    packet.withUnsafeMutableBytes { header.store(in: $0, bufferCount: 0) }
    if random.rarely(8) { packet[Int(random.below(12))] = UInt8(truncatingIfNeeded: random.next()) }
    send(packet + frame, to: socket)
  }

  private mutating func sendFromPort() {
    var (frame, header) = makeFrame()
    let which = Int(random.below(2))
    guard header.fits(frame.count, .all) else { return }
    frame.withUnsafeMutableBytes { ports[which].transmit($0, header, from: guests[which]) }
  }

  /// Ethernet, sometimes IP and TCP, with a header that asks for something.
  private mutating func makeFrame() -> ([UInt8], NetworkHeader) {
    let size = random.rarely(8) ? random.below(66_000) : random.below(2000)
    var frame = [UInt8](repeating: 0x45, count: Int(size))
    for index in 0..<min(frame.count, 80) where random.rarely(3) {
      frame[index] = UInt8(truncatingIfNeeded: random.next())
    }
    let start: [UInt8] = [
      random.rarely(2) ? 0xFF : 2, 0, 0, 0, 0, UInt8(random.below(8)), 2, 0, 0, 0, 0,
      UInt8(random.below(8)), random.rarely(4) ? 0x81 : 8, 0, 0x45,
    ]
    for (index, byte) in start.enumerated() where index < frame.count { frame[index] = byte }
    var header = NetworkHeader()
    header.needsChecksum = !random.rarely(3)
    header.segmentation = random.pick([.none, .tcp4, .tcp6, .tcp4])
    header.segmentSize = UInt16(truncatingIfNeeded: random.rarely(4) ? random.next() : 1448)
    header.checksumStart = UInt16(truncatingIfNeeded: random.rarely(4) ? random.next() : 34)
    header.checksumOffset = UInt16(truncatingIfNeeded: random.rarely(8) ? random.next() : 16)
    return (frame, header)
  }
}

/// A guest that counts.
private final class Station: NetworkReceiver {
  let accepts: NetworkOffloads
  let count = Atomic<Int>(0)

  init(_ accepts: NetworkOffloads) { self.accepts = accepts }

  func deliver(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    count.add(1, ordering: .relaxed)
  }
  func wake() {}
}
