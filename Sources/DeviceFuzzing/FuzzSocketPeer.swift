// Programs of the host around a socket device: they listen, answer, come, go and forget to read.

import CLinux
import Devices
import Platform

/// Serves the ports that the fuzzer's guest connects to, on a thread of its own.
final class FuzzSocketPeer: Sendable {
  /// Ports of the host that somebody listens on.
  static let ports: ClosedRange<UInt32> = 1...3

  let point: GuestSocketPoint
  private let folder: String
  private let thread: PeerThread

  init() throws(PlatformError) {
    let folder = try PeerThread.makeFolder("fuzz")
    self.folder = folder
    let point = try GuestSocketPoint(path: "\(folder)/vsock.sock")
    self.point = point
    for port in Self.ports { unlink("\(point.path)_\(port)") }
    let listeners = Self.ports.map { port in
      let number = linux_unix_socket()
      _ = linux_unix_bind(number, "\(point.path)_\(port)")
      listen(number, 16)
      return number
    }
    thread = try PeerThread(name: "fuzz-peers") { goesOn in
      var peers: [Int32] = []
      var generator = SeededGenerator(seed: 7)
      while goesOn() {
        Self.serve(point, listeners, &peers, &generator)
        usleep(1000)
      }
      for number in listeners + peers { CLinux.close(number) }
    }
  }

  /// Ends the thread and removes the sockets.
  func close() {
    thread.stop()
    point.close()
    for port in Self.ports { unlink("\(point.path)_\(port)") }
    rmdir(folder)
  }

  /// A little of everything; at most 64 connections.
  private static func serve(
    _ point: GuestSocketPoint, _ listeners: [Int32], _ peers: inout [Int32],
    _ generator: inout SeededGenerator
  ) {
    for listener in listeners where peers.count < 64 {
      let number = PeerThread.accept(listener)
      if number >= 0 { peers.append(number) }
    }
    if peers.count < 64, generator.rarely(4) {
      let number = linux_unix_socket()
      if linux_unix_connect(number, point.path) == 0 {
        let line = Array("CONNECT \(generator.below(4))\n".utf8)
        _ = line.withUnsafeBytes { linux_send(number, $0.baseAddress, $0.count) }
        peers.append(number)
      } else {
        CLinux.close(number)
      }
    }
    var bytes = [UInt8](repeating: 0x55, count: 4096)
    var kept: [Int32] = []
    for number in peers {
      switch generator.below(16) {
      case 0:
        CLinux.close(number)
        continue
      case 1: _ = shutdown(number, Int32(SHUT_WR))
      case 2...7: _ = recv(number, &bytes, bytes.count, Int32(MSG_DONTWAIT))
      case 8...11:
        let count = Int(generator.below(4096))
        _ = bytes.withUnsafeBytes { linux_send(number, $0.baseAddress, count) }
      default: break
      }
      kept.append(number)
    }
    peers = kept
  }
}
