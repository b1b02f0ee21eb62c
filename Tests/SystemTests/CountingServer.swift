import CLinux
import Glibc
import Platform
import TestGuests

/// A server on the host's loopback address that keeps the numbers which guests send it, one a line, by connections.
final class CountingServer: Sendable {
  let port: UInt16
  private let lines: Monitor<[[Int]]>
  private let isOver: Monitor<Bool>
  private let thread: PosixThread

  init() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listens = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(listener, address, size) == 0 && listen(listener, 16) == 0
          && getsockname(listener, address, &size) == 0
      }
    }
    guard listens else { throw TestGuestError("no port: \(String(cString: strerror(errno)))") }
    port = UInt16(bigEndian: address.sin_port)
    let lines = Monitor<[[Int]]>([])
    let isOver = Monitor(false)
    (self.lines, self.isOver) = (lines, isOver)
    thread = try PosixThread(name: "counting server") { Self.serve(listener, lines, isOver) }
  }

  deinit {
    isOver.update { $0 = true }
    thread.join()
  }

  /// What came, a list for each connection.
  var connections: [[Int]] { lines.read { $0 } }

  private static func serve(
    _ listener: Int32, _ lines: Monitor<[[Int]]>, _ isOver: Monitor<Bool>
  ) {
    var sockets: [Int32] = []
    var rests: [[UInt8]] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while !isOver.read({ $0 }) {
      var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
      entries += sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      guard poll(&entries, nfds_t(entries.count), 100) > 0 else { continue }
      if entries[0].revents != 0 {
        sockets.append(accept(listener, nil, nil))
        rests.append([])
        lines.update { $0.append([]) }
      }
      for index in entries.indices.dropFirst() where entries[index].revents != 0 {
        let count = read(sockets[index - 1], &buffer, buffer.count)
        guard count > 0 else {
          close(sockets[index - 1])
          sockets[index - 1] = -1
          continue
        }
        rests[index - 1] += buffer[..<count]
        guard let last = rests[index - 1].lastIndex(of: 10) else { continue }
        let text = String(decoding: rests[index - 1][..<last], as: UTF8.self)
        rests[index - 1].removeSubrange(...last)
        let numbers = text.split(separator: "\n").map { Int($0) ?? -1 }
        lines.update { $0[index - 1] += numbers }
      }
    }
    for number in sockets + [listener] where number >= 0 { close(number) }
  }
}
