import CLinux
import Glibc
import Platform
import TestGuests

/// A server on the host's loopback address for one connection: it gives a file by HTTP, or keeps what it is sent.
final class LoopbackServer: Sendable {
  enum Service: Sendable {
    /// Answers any request with the file.
    case give(String)
    /// Writes everything up to the end of the stream into the file.
    case take(String)
    /// Sends a line and closes.
    case say(String)
  }

  let port: UInt16
  private let state = Monitor<Int?>(nil)

  init(_ service: Service) throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(listener, address, size) == 0 && listen(listener, 4) == 0
          && getsockname(listener, address, &size) == 0
      }
    }
    guard code else { throw TestGuestError("no port: \(String(cString: strerror(errno)))") }
    port = UInt16(bigEndian: address.sin_port)
    let state = state
    _ = try PosixThread(name: "server") {
      var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
      // A test that fails before its guest connects must not leave the thread for ever.
      let connection = poll(&entry, 1, 300_000) > 0 ? accept(listener, nil, nil) : -1
      close(listener)
      let count = connection < 0 ? 0 : Self.serve(connection, service)
      if connection >= 0 { close(connection) }
      state.update { $0 = count }
    }
  }

  /// Waits for the end of the connection and returns the bytes that passed.
  func finish(seconds: Double = 300) -> Int? {
    state.wait(until: MonotonicClock.now + UInt64(seconds * 1e9)) { $0 }
  }

  private static func serve(_ connection: Int32, _ service: Service) -> Int {
    var buffer = [UInt8](repeating: 0, count: 1 << 18)
    switch service {
    case .say(let line):
      return Array((line + "\n").utf8).withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
    case .give(let path):
      guard read(connection, &buffer, buffer.count) > 0 else { return 0 }
      let file = open(path, O_RDONLY | O_CLOEXEC)
      defer { close(file) }
      var status = stat()
      fstat(file, &status)
      let head = "HTTP/1.0 200 OK\r\nContent-Length: \(status.st_size)\r\n\r\n"
      _ = Array(head.utf8).withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      return copy(from: file, to: connection, &buffer)
    case .take(let path):
      let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
      defer { close(file) }
      return copy(from: connection, to: file, &buffer)
    }
  }

  private static func copy(from source: Int32, to target: Int32, _ buffer: inout [UInt8]) -> Int {
    var total = 0
    while true {
      let count = read(source, &buffer, buffer.count)
      guard count > 0 else { return total }
      var done = 0
      while done < count {
        let written = buffer.withUnsafeBytes {
          Glibc.write(target, $0.baseAddress.map { $0 + done }, count - done)
        }
        guard written > 0 else { return total }
        done += written
      }
      total += count
    }
  }

  /// A port that nobody listens on now.
  static func freePort() throws -> UInt16 {
    let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(server) }
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let found = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(server, address, size) == 0 && getsockname(server, address, &size) == 0
      }
    }
    guard found else { throw TestGuestError("no port") }
    return UInt16(bigEndian: address.sin_port)
  }

  /// Connects to a port of the loopback address, sends `text`, and returns what came until the end; nil when refused.
  static func ask(_ port: UInt16, _ text: String, seconds: Int = 20) -> String? {
    let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(client) }
    var limit = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = port.bigEndian
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(client, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else { return nil }
    _ = Array(text.utf8).withUnsafeBytes {
      send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(client, &buffer, buffer.count)
      guard count > 0 else { return String(decoding: result, as: UTF8.self) }
      result += buffer[..<count]
    }
  }
}
