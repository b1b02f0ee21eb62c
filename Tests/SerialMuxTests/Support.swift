import CLinux
import Foundation
import Platform
import SerialMux
import Synchronization

/// The guest's device: takes input in pieces of a limited size, prints what it is told to.
final class FakeDevice: Sendable {
  private struct State {
    var received: [UInt8] = []
    var room: Int
    var breaks = 0
  }
  private let state: Mutex<State>

  init(room: Int = .max) { state = Mutex(State(room: room)) }

  var received: String { state.withLock { String(decoding: $0.received, as: UTF8.self) } }
  var receivedCount: Int { state.withLock { $0.received.count } }
  var breaks: Int { state.withLock { $0.breaks } }

  func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    state.withLock { state in
      let count = min(bytes.count, state.room)
      state.received.append(contentsOf: bytes.prefix(count))
      if state.room != .max { state.room -= count }
      return count
    }
  }

  func makeRoom(_ room: Int) { state.withLock { $0.room = room } }
  func takeBreak() { state.withLock { $0.breaks += 1 } }
}

/// What a port reported.
final class Events: Sendable {
  private let events = Mutex<[SerialMuxEvent]>([])
  var all: [SerialMuxEvent] { events.withLock { $0 } }
  func add(_ event: SerialMuxEvent) { events.withLock { $0.append(event) } }
}

/// A port with a device and a record of its events.
struct Port {
  let mux: SerialMux
  let device: FakeDevice
  let events = Events()

  init(
    room: Int = .max, loop: EventLoop? = nil,
    _ change: (inout SerialMuxConfiguration) -> Void = { _ in }
  ) throws {
    var configuration = SerialMuxConfiguration()
    configuration.scrollbackLines = 100
    change(&configuration)
    let device = FakeDevice(room: room)
    self.device = device
    let events = events
    mux = try SerialMux(
      configuration: configuration, loop: loop, send: { device.take($0) },
      sendBreak: { device.takeBreak() }, report: { events.add($0) })
  }

  func print(_ text: String) { print(Array(text.utf8)) }
  func print(_ bytes: [UInt8]) { bytes.withUnsafeBytes { mux.guestDidSend($0) } }

  /// A client's end of a connection.
  func attach(_ options: SerialMuxClientOptions = .init()) throws -> Peer {
    var ends: [Int32] = [0, 0]
    try systemCall("socketpair") {
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
    }
    let identifier = mux.attach(FileDescriptor(owning: ends[0]), options: options)
    return Peer(identifier, FileDescriptor(owning: ends[1]))
  }
}

/// A client as its own process has it.
final class Peer: Sendable {
  let identifier: SerialMuxClientIdentifier
  let descriptor: FileDescriptor

  init(_ identifier: SerialMuxClientIdentifier, _ descriptor: consuming FileDescriptor) {
    self.identifier = identifier
    self.descriptor = descriptor
  }

  func send(_ text: String) {
    _ = Array(text.utf8).withUnsafeBytes {
      CLinux.send(descriptor.rawValue, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
  }

  /// Reads until `text` came, the end, or the time is over; returns what came.
  func read(until text: String, milliseconds: UInt64 = 5000) -> String {
    let wanted = Array(text.utf8)
    return String(
      decoding: readBytes(milliseconds: milliseconds) { bytes in
        bytes.suffix(wanted.count + 65536).contains(wanted)
      }, as: UTF8.self)
  }

  func readBytes(milliseconds: UInt64 = 5000, until isDone: ([UInt8]) -> Bool) -> [UInt8] {
    let deadline = MonotonicClock.now + milliseconds * 1_000_000
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while !isDone(bytes), MonotonicClock.now < deadline {
      var poll = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
      guard CLinux.poll(&poll, 1, 50) > 0 else { continue }
      let count = CLinux.read(descriptor.rawValue, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer.prefix(count)
    }
    return bytes
  }
}

/// Waits until something is so; false when it does not become so.
func eventually(milliseconds: UInt64 = 5000, _ condition: () -> Bool) -> Bool {
  let deadline = MonotonicClock.now + milliseconds * 1_000_000
  while !condition() {
    guard MonotonicClock.now < deadline else { return false }
    usleep(2000)
  }
  return true
}

/// A folder of its own for a test, gone afterwards.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  var template = Array("/tmp/underjack-mux-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else {
    throw PlatformError(operation: "mkdtemp", code: linux_error_number())
  }
  let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(path)
}

/// A file's bytes; nil when there is none.
func contents(_ path: String) -> [UInt8]? {
  guard let file = try? FileDescriptor.open(path, O_RDONLY) else { return nil }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65536)
  while case let count = read(file.rawValue, &buffer, buffer.count), count > 0 {
    bytes += buffer.prefix(count)
  }
  return bytes
}
