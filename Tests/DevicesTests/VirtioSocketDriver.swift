import CLinux
import Devices
import GuestMemory
import Platform

/// A guest's side of a socket device: packets as a driver makes and takes them.
final class VirtioSocketDriver {
  typealias Driver = VirtioTestDriver

  struct Packet: Equatable {
    var hostPort: UInt32 = 0
    var guestPort: UInt32 = 0
    var operation: UInt16 = 0
    var flags: UInt32 = 0
    var bufferSize: UInt32 = 1 << 20
    var forwarded: UInt32 = 0
    var kind: UInt16 = 1
    var source: UInt64 = 5
    var target: UInt64 = 2
    /// nil: as long as the data.
    var length: UInt32?
    var data: [UInt8] = []
  }

  static let bufferSize: UInt32 = 4096
  static let bufferCount = 64

  let folder: String
  let point: GuestSocketPoint
  let device: VirtioSocket
  let board: PCITestBoard
  let transport: VirtioPCITransport
  let driver: Driver
  private var isOffered = false

  init() throws {
    var template = Array("/tmp/underjack-vsock-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw PlatformError(operation: "mkdtemp", code: linux_error_number(), subject: "/tmp")
    }
    folder = String(
      decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    point = try GuestSocketPoint(path: "\(folder)/vsock.sock")
    device = try VirtioSocket(contextIdentifier: 5, point: point)
    board = try PCITestBoard()
    transport = VirtioPCITransport(device, memory: board.memory, sink: board.sink)
    board.host.attach(transport, at: PCIAddress(device: 3))
    driver = Driver(board, device: 3, interface: .modern)
    driver.start(queues: 3)
    for index in 0..<Self.bufferCount { offer(index) }
    driver.kick(0)
  }

  deinit {
    for name in ["vsock.sock", "vsock.sock_80"] { unlink("\(folder)/\(name)") }
    rmdir(folder)
  }

  private func place(_ index: Int) -> UInt64 {
    driver.bufferBase + 0x10_0000 + UInt64(index) * UInt64(Self.bufferSize)
  }

  private func offer(_ index: Int) {
    driver.setDescriptor(0, index, address: place(index), length: Self.bufferSize, flags: 2)
    driver.offer(0, head: UInt16(index))
  }

  static func bytes(_ packet: Packet) -> [UInt8] {
    var bytes: [UInt8] = []
    func put<Value: FixedWidthInteger>(_ value: Value) {
      withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
    put(packet.source)
    put(packet.target)
    put(packet.guestPort)
    put(packet.hostPort)
    put(packet.length ?? UInt32(packet.data.count))
    put(packet.kind)
    put(packet.operation)
    put(packet.flags)
    put(packet.bufferSize)
    put(packet.forwarded)
    return bytes + packet.data
  }

  /// Sends a packet; false when it is not taken.
  func send(_ packet: Packet) throws -> Bool { try send(bytes: Self.bytes(packet)) }

  func send(bytes: [UInt8]) throws -> Bool {
    try board.memory.write(bytes, at: GuestAddress(driver.bufferBase))
    return driver.run(1, [.init(address: driver.bufferBase, length: UInt32(bytes.count))]) != nil
  }

  /// The next packet for the guest; its buffer goes back unless `keeps`.
  func receive(seconds: Double = 5, keeps: Bool = false) throws -> Packet? {
    let slot = UInt64(driver.used[0] & (driver.size[0] &- 1))
    guard let written = driver.waitUsed(0, seconds: seconds), written >= 44 else { return nil }
    let head: UInt32 =
      board.memory.load(at: GuestAddress(driver.layouts[0].used + 4 + 8 * slot)) ?? 0
    let bytes = try board.memory.bytes(at: GuestAddress(place(Int(head))), count: Int(written))
    func load<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type) -> Value {
      bytes.withUnsafeBytes {
        Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type))
      }
    }
    if !keeps {
      offer(Int(head))
      driver.kick(0)
    }
    return Packet(
      hostPort: load(16, as: UInt32.self), guestPort: load(20, as: UInt32.self),
      operation: load(30, as: UInt16.self), flags: load(32, as: UInt32.self),
      bufferSize: load(36, as: UInt32.self), forwarded: load(40, as: UInt32.self),
      kind: load(28, as: UInt16.self), source: load(0, as: UInt64.self),
      target: load(8, as: UInt64.self), length: load(24, as: UInt32.self),
      data: Array(bytes[44...]))
  }

  // MARK: The host's side

  /// A program that connects to the machine's socket.
  func client(_ line: String) -> TestSocket {
    let socket = TestSocket(linux_unix_socket())
    _ = linux_unix_connect(socket.number, point.path)
    socket.send(Array(line.utf8))
    return socket
  }

  /// A program that listens for the guest.
  func server(port: UInt32) -> TestSocket {
    let socket = TestSocket(linux_unix_socket())
    _ = linux_unix_bind(socket.number, "\(point.path)_\(port)")
    listen(socket.number, 8)
    return socket
  }

  /// A connection of guest port 1000 to a server of the host's port 80.
  func connected(to server: TestSocket, guestPort: UInt32 = 1000) throws -> TestSocket? {
    _ = try send(.init(hostPort: 80, guestPort: guestPort, operation: 1))
    guard let answer = try receive(), answer.operation == 2 else { return nil }
    return server.accept()
  }
}

/// A Unix socket of a test, closed with it.
final class TestSocket {
  let number: Int32
  init(_ number: Int32) { self.number = number }
  deinit { close(number) }

  func accept() -> TestSocket? {
    var found: Int32 = -1
    _ = eventually(seconds: 5) {
      found = linux_accept4(number, Int32(SOCK_NONBLOCK.rawValue))
      return found >= 0
    }
    return found >= 0 ? TestSocket(found) : nil
  }

  @discardableResult
  func send(_ bytes: [UInt8]) -> Int {
    bytes.withUnsafeBytes { linux_send(number, $0.baseAddress, $0.count) }
  }

  /// So many bytes, or those that came in time.
  func read(_ count: Int, seconds: Double = 5) -> [UInt8] {
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    _ = eventually(seconds: seconds) {
      let got = CLinux.read(number, &buffer, min(buffer.count, count - result.count))
      if got > 0 { result += buffer[..<got] }
      return got == 0 || result.count >= count
    }
    return result
  }

  /// The end of the stream comes, and nothing before it.
  func isAtEnd(seconds: Double = 5) -> Bool {
    var byte: UInt8 = 0
    var last = -1
    return eventually(seconds: seconds) {
      last = CLinux.read(number, &byte, 1)
      return last >= 0
        || linux_error_number() != EAGAIN && linux_error_number() != EINTR
    } && last <= 0
  }
}
