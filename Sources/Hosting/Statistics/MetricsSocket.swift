import CLinux
import Glibc
import Inventory
import Platform

/// Metrics on a Unix socket, by HTTP/1.0: each connection is asked once, answered and closed (RFC 9112). One after the
/// other; whoever is slow is cut, so that nobody holds up the next for long.
package final class MetricsSocket {
  private let path: String
  private let socket: FileDescriptor
  private let metrics: () -> String

  private static let requestLimit = 8192
  /// Nanoseconds for a client's request, and again for it to take the answer.
  private static let patience: UInt64 = 2_000_000_000

  /// - Parameter metrics: made anew for each request.
  /// - Throws: one line; where the path is no socket of a program that has ended, nothing is touched.
  package init(_ path: String, metrics: @escaping () -> String) throws(HostingError) {
    self.path = path
    self.metrics = metrics
    var information = stat()
    if lstat(path, &information) == 0 {
      guard information.st_mode & Glibc.S_IFMT == Glibc.S_IFSOCK else {
        throw HostingError(.io, "\(printable(path)): is there and is no socket")
      }
      guard !Self.isServed(path) else {
        throw HostingError(.io, "\(printable(path)): another program listens there")
      }
    }
    socket = try platform { () throws(PlatformError) in try ControlSocket.listen(path) }
  }

  private static func isServed(_ path: String) -> Bool {
    do throws(PlatformError) {
      _ = try ControlSocket.connect(path)
      return true
    } catch {
      return false
    }
  }

  /// Serves until `isOver` says so, which is asked at least twice a second; then the socket is gone.
  package func run(isOver: () -> Bool) {
    while !isOver() {
      let deadline = MonotonicClock.now &+ 400_000_000
      guard ControlSocket.wait(socket.rawValue, for: POLLIN, until: deadline) else { continue }
      let client = linux_accept4(
        socket.rawValue, Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue))
      guard client >= 0 else {
        // Out of descriptors or memory: not again at once.
        MonotonicClock.sleep(50_000_000)
        continue
      }
      serve(client)
      close(client)
    }
    unlink(path)
  }

  private func serve(_ client: Int32) {
    guard let request = Self.request(client) else { return }
    let words = request.prefix { $0 != "\r" && $0 != "\n" && $0 != "\r\n" }.split(separator: " ")
    guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
      return answer(client, "400 Bad Request", "this is no request of HTTP/1\n")
    }
    guard words[0] == "GET" || words[0] == "HEAD" else {
      return answer(client, "405 Method Not Allowed", "GET /metrics\n")
    }
    let place = words[1].prefix { $0 != "?" }
    guard place == "/metrics" || place == "/" else {
      return answer(client, "404 Not Found", "GET /metrics\n")
    }
    answer(
      client, "200 OK", metrics(), type: PrometheusText.contentType, isHead: words[0] == "HEAD")
  }

  /// Up to the empty line; nil when it does not come.
  private static func request(_ client: Int32) -> String? {
    let deadline = MonotonicClock.now &+ patience
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1024)
    while bytes.count < requestLimit {
      guard ControlSocket.wait(client, for: POLLIN, until: deadline) else { return nil }
      guard let count = ControlSocket.receive(client, into: &chunk) else { continue }
      guard count > 0 else { return nil }
      bytes += chunk[..<count]
      let text = String(decoding: bytes, as: UTF8.self)
      if text.contains("\r\n\r\n") || text.contains("\n\n") { return text }
    }
    return nil
  }

  private func answer(
    _ client: Int32, _ status: String, _ body: String, type: String = "text/plain",
    isHead: Bool = false
  ) {
    let head =
      "HTTP/1.0 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n"
      + "Connection: close\r\n\r\n"
    var output = OutgoingBuffer()
    output.append(Array((head + (isHead ? "" : body)).utf8))
    let deadline = MonotonicClock.now &+ Self.patience
    while output.flush(to: client), output.count > 0 {
      guard ControlSocket.wait(client, for: POLLOUT, until: deadline) else { return }
    }
  }
}
