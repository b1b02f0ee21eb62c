import CLinux
import Platform
import SerialMux
import Synchronization
import Testing

@Suite(.serialized) struct FloodTests {
  /// Text with its own position in every line, so that a lost or doubled byte is seen.
  private static func stream(_ megabytes: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(megabytes << 20)
    var number = 0
    while bytes.count < megabytes << 20 {
      bytes += Array("line \(number) of a guest that prints as fast as it can, on and on\r\n".utf8)
      number += 1
    }
    return bytes
  }

  private static var residentBytes: Int {
    guard let text = contents("/proc/self/statm") else { return 0 }
    let fields = String(decoding: text, as: UTF8.self).split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
  }

  @Test func sevenReadersGetEveryByteThoughOneIsStopped() throws {
    let bytes = Self.stream(20)
    let port = try Port { configuration in
      configuration.ringSize = 1 << 20
      configuration.guestWaitForClients = 60_000
      configuration.guestWaitForTerminal = 20_000
    }
    defer { port.mux.close() }
    let results = Mutex<[Bool]>([])
    let stopped = try port.attach()
    var threads: [PosixThread] = []
    var peers: [Peer] = []
    for _ in 0..<7 {
      let peer = try port.attach()
      peers.append(peer)
      threads.append(
        try PosixThread(name: "reader") {
          let received = peer.readBytes(milliseconds: 60_000) { $0.count >= bytes.count }
          let isRight = received == bytes
          results.withLock { $0.append(isRight) }
        })
    }
    // The guest begins at once: a client's bytes are kept from the moment of the call that attaches it.
    let before = Self.residentBytes
    // As a virtual processor does it, in pieces of all sizes.
    var index = 0
    var size = 1
    while index < bytes.count {
      let end = min(index + size, bytes.count)
      bytes[index..<end].withUnsafeBytes { port.mux.guestDidSend($0) }
      index = end
      size = size % 9001 * 3 + 1
    }
    for thread in threads { thread.join() }
    #expect(results.withLock { $0 } == Array(repeating: true, count: 7))
    let statistics = port.mux.statistics()
    #expect(statistics.unparsedBytes == 0)
    #expect(statistics.clients.count == 8)
    #expect(peers.count == 7)
    // Seven copies of the stream are the readers' own; the port holds a ring and a screen.
    #expect(Self.residentBytes - before < 7 * bytes.count + (96 << 20))
    // The stopped one is told what it missed, and goes on with what is left.
    let late = stopped.readBytes(milliseconds: 10_000) {
      $0.suffix(bytes.count).count > 1 << 20 && $0.suffix(40) == bytes.suffix(40)
    }
    let text = String(decoding: late, as: UTF8.self)
    #expect(text.contains("bytes skipped, this client reads too slowly]"))
    #expect(late.suffix(5000) == bytes.suffix(5000))
    #expect(port.events.all.contains { if case .clientFellBehind = $0 { true } else { false } })
  }

  @Test func theGuestDoesNotWaitForClientsByDefault() throws {
    let port = try Port { $0.ringSize = 1 << 18 }
    defer { port.mux.close() }
    _ = try port.attach()
    let stopped = try port.attach()
    let bytes = Self.stream(4)
    let start = MonotonicClock.now
    bytes.withUnsafeBytes { port.mux.guestDidSend($0) }
    // Only our own terminal slows it, and that always goes on.
    #expect(MonotonicClock.now - start < 20_000_000_000)
    #expect(port.mux.statistics().unparsedBytes == 0)
    _ = stopped
  }

  @Test func theGuestsPatienceEnds() throws {
    let port = try Port { configuration in
      configuration.ringSize = 1 << 16
      configuration.guestWaitForClients = 200
    }
    defer { port.mux.close() }
    // It reads, but far too slowly: it holds the guest up for the limit, not for its own time.
    let slow = try port.attach()
    let done = Finished()
    let reader = try PosixThread(name: "reader") {
      var buffer = [UInt8](repeating: 0, count: 512)
      while !done.flag.load(ordering: .relaxed) {
        _ = recv(slow.descriptor.rawValue, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        usleep(5000)
      }
    }
    let start = MonotonicClock.now
    port.print(Self.stream(2))
    #expect(MonotonicClock.now - start < 10_000_000_000)
    done.flag.store(true, ordering: .relaxed)
    reader.join()
    #expect(port.mux.statistics().guestWaitMilliseconds < 8000)
  }

  @Test func aStalledClientIsCut() throws {
    let port = try Port { configuration in
      configuration.ringSize = 1 << 20
      configuration.stallLimit = 1
    }
    defer { port.mux.close() }
    let stalled = try port.attach()
    port.print(Self.stream(1))
    #expect(
      eventually(milliseconds: 8000) {
        port.events.all.contains(.clientDetached(stalled.identifier, reason: "stalled"))
      })
    #expect(port.mux.statistics().clients.isEmpty)
  }
}

private final class Finished: Sendable {
  let flag = Atomic<Bool>(false)
}
