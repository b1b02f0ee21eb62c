import CLinux
import Devices
import Foundation
import Glibc
import Networks
import Platform
import Synchronization
import Testing

@Suite struct StreamNetworkTests {
  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "uj-stream-\(UInt32.random(in: .min ... .max))"
    mkdir(folder, 0o700)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  private static func frame(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
    [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xB5]
      + (0..<(count - 14)).map { UInt8(truncatingIfNeeded: $0 &* 31) &+ seed }
  }

  /// Another program at the end of the stream.
  private final class Peer {
    let descriptor: FileDescriptor

    init(listeningAt path: String) throws {
      let number = linux_unix_socket()
      descriptor = FileDescriptor(owning: number)
      try #require(linux_unix_bind(number, path) == 0)
      try #require(listen(number, 4) == 0)
    }

    init(_ number: Int32) throws {
      descriptor = FileDescriptor(owning: number)
      try #require(number >= 0)
    }

    init(connectingTo path: String) throws {
      let number = linux_unix_socket()
      descriptor = FileDescriptor(owning: number)
      try #require(linux_unix_connect(number, path) == 0)
    }

    func send(_ bytes: [UInt8]) {
      _ = bytes.withUnsafeBytes { linux_send(descriptor.rawValue, $0.baseAddress, $0.count) }
    }

    /// nil: nothing is there; empty: the end.
    func read(_ limit: Int = 1 << 20) -> [UInt8]? {
      var bytes = [UInt8](repeating: 0, count: limit)
      let count = Glibc.read(descriptor.rawValue, &bytes, limit)
      return count < 0 ? nil : Array(bytes[..<count])
    }
  }

  private static func prefixed(_ frame: [UInt8]) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: frame.count >> (24 - 8 * $0)) } + frame
  }

  private func turn(_ guest: FrameGuest, _ network: StreamNetwork, _ count: Int = 4) {
    for _ in 0..<count { guest.turn(network, milliseconds: 5) }
  }

  private func taken(_ guest: FrameGuest) -> [[UInt8]] {
    guest.frames.withLock { frames in
      defer { frames = [] }
      return frames.map(\.0)
    }
  }

  @Test(arguments: [false, true])
  func twoEndsExchangeFramesOfAllSizes(_ isLoopback: Bool) throws {
    try withFolder { folder in
      let address = try #require(
        StreamAddress(
          isLoopback ? "127.0.0.1:\(UInt16.random(in: 20_000..<60_000))" : folder + "/peer"))
      let server = try StreamNetwork(address, listens: true)
      let client = try StreamNetwork(address, listens: false)
      let first = FrameGuest()
      let second = FrameGuest()
      server.connect(first)
      client.connect(second)
      for _ in 0..<3 {
        turn(second, client)
        turn(first, server)
      }
      #expect(client.cable.state == "connected to \(address)")
      if !isLoopback {
        var state = stat()
        #expect(stat(folder + "/peer", &state) == 0 && state.st_mode & 0o777 == 0o600)
      }
      for size in [14, 60, 1514, 9014, 65_553] {
        let frame = Self.frame(size)
        first.send(frame, to: server)
        let arrived = try #require(second.wait(client) { $0.count == size })
        #expect(arrived.frame == frame)
        second.send(frame, to: client)
        let back = try #require(first.wait(server) { $0.count == size })
        #expect(back.frame == frame)
      }
      server.close()
      if !isLoopback { #expect(access(folder + "/peer", F_OK) != 0) }
    }
  }

  /// The bytes are cut anywhere, also inside a length.
  @Test func framesThatComeInPiecesStayWhole() throws {
    try withFolder { folder in
      let network = try StreamNetwork(.file(folder + "/s"), listens: true)
      let guest = FrameGuest()
      network.connect(guest)
      let peer = try Peer(connectingTo: folder + "/s")
      turn(guest, network)
      let frames = (1...40).map { Self.frame(14 + $0 * 37, UInt8($0)) }
      let bytes = frames.flatMap { Self.prefixed($0) }
      var position = 0
      while position < bytes.count {
        let count = min(bytes.count - position, 1 + (position * 7) % 211)
        peer.send(Array(bytes[position..<position + count]))
        position += count
        turn(guest, network, 1)
      }
      #expect(taken(guest) == frames)
    }
  }

  @Test(arguments: [UInt32(0), 65_554, 0x8000_0000, .max])
  func aLengthThatNoFrameHasEndsTheConnection(_ length: UInt32) throws {
    try withFolder { folder in
      let lines = Mutex<[String]>([])
      let network = try StreamNetwork(.file(folder + "/s"), listens: true)
      network.report { line in lines.withLock { $0.append(line) } }
      let guest = FrameGuest()
      network.connect(guest)
      let peer = try Peer(connectingTo: folder + "/s")
      turn(guest, network)
      let good = Self.frame(60)
      peer.send(
        Self.prefixed(good) + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) })
      turn(guest, network)
      #expect(taken(guest) == [good])
      #expect(peer.read() == [])
      #expect(network.cable.violations == 1)
      #expect(lines.withLock { $0.last }?.contains("sent a frame of \(length) bytes") == true)
      // The next one is welcome.
      let next = try Peer(connectingTo: folder + "/s")
      next.send(Self.prefixed(good))
      turn(guest, network)
      #expect(taken(guest) == [good])
    }
  }

  @Test func aPeerThatDoesNotReadLosesWholeFramesOnly() throws {
    try withFolder { folder in
      let network = try StreamNetwork(.file(folder + "/s"), listens: true)
      let guest = FrameGuest()
      network.connect(guest)
      let peer = try Peer(connectingTo: folder + "/s")
      turn(guest, network)
      let sent = (0..<3000).map {
        Self.frame(100 + ($0 * 977) % 3000, UInt8(truncatingIfNeeded: $0))
      }
      let begin = MonotonicClock.now
      for frame in sent { guest.send(frame, to: network) }
      #expect(MonotonicClock.now - begin < 2_000_000_000)
      #expect(network.cable.framesLost > 500)
      var bytes: [UInt8] = []
      for step in 0..<100_000 {
        // Odd sizes leave room in the socket for parts of frames.
        guard let some = peer.read(1 + (step * 7919) % 60_000) else {
          let before = bytes.count
          turn(guest, network, 2)
          if let more = peer.read() { bytes += more }
          if bytes.count == before { break }
          continue
        }
        bytes += some
      }
      var position = 0
      var next = 0
      var count = 0
      while position + 4 <= bytes.count {
        let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
        position += 4
        try #require(position + length <= bytes.count)
        let frame = Array(bytes[position..<position + length])
        // Each is one that was sent, in order.
        while next < sent.count, sent[next] != frame { next += 1 }
        try #require(next < sent.count)
        next += 1
        count += 1
        position += length
      }
      #expect(position == bytes.count)
      #expect(UInt64(count) + network.cable.framesLost == 3000)
    }
  }

  @Test func aPeerThatIsAwayIsReachedWhenItComes() throws {
    try withFolder { folder in
      let path = folder + "/later"
      let network = try StreamNetwork(.file(path), listens: false)
      let lines = Mutex<[String]>([])
      network.report { line in lines.withLock { $0.append(line) } }
      let guest = FrameGuest()
      network.connect(guest)
      turn(guest, network)
      #expect(network.cable.state == "waits for \(path)")
      guest.send(Self.frame(60), to: network)
      #expect(network.cable.framesLost == 1)
      for round in 0..<2 {
        turn(guest, network)
        let listener = try Peer(listeningAt: path)
        for _ in 0..<12 where network.cable.state != "connected to \(path)" {
          guest.turn(network, milliseconds: 200)
        }
        let peer = try Peer(linux_accept4(listener.descriptor.rawValue, O_NONBLOCK))
        peer.send(Self.prefixed(Self.frame(70, UInt8(round))))
        turn(guest, network)
        #expect(taken(guest) == [Self.frame(70, UInt8(round))])
        unlink(path)
      }
      turn(guest, network)
      #expect(network.cable.state == "waits for \(path)")
      // Nobody's absence is told again and again.
      #expect(lines.withLock { $0.count } <= 7)
    }
  }

  @Test func onlySocketsThatNobodyListensOnAreReplaced() throws {
    try withFolder { folder in
      let path = folder + "/s"
      do {
        _ = try Peer(listeningAt: path)
      }
      // Left by one that is gone.
      let network = try StreamNetwork(.file(path), listens: true)
      do throws(NetworkError) {
        _ = try StreamNetwork(.file(path), listens: true)
        Issue.record("two listen at one place")
      } catch {
        #expect(error.description.contains("another program listens there"))
      }
      #expect(access(path, F_OK) == 0)
      network.close()
      _ = FileManager.default.createFile(atPath: path, contents: Data([1]))
      do throws(NetworkError) {
        _ = try StreamNetwork(.file(path), listens: true)
        Issue.record("a file was replaced")
      } catch {
        #expect(error.description.contains("no socket is in the way"))
      }
    }
  }

  /// The guest may leave checksums and segments to its adapter; the peer gets plain frames.
  @Test func unfinishedChecksumsAreFinishedForThePeer() throws {
    try withFolder { folder in
      let network = try StreamNetwork(.file(folder + "/s"), listens: true)
      let guest = FrameGuest()
      network.connect(guest)
      let peer = try Peer(connectingTo: folder + "/s")
      turn(guest, network)
      var header = NetworkHeader()
      header.needsChecksum = true
      header.checksumStart = 14
      header.checksumOffset = 2
      var frame = Self.frame(64)
      frame[16] = 0
      frame[17] = 0
      guest.send(frame, to: network, header)
      let bytes = try #require(peer.read())
      let sum = bytes.dropFirst(4 + 14).withUnsafeBytes { InternetChecksum.sum($0) }
      #expect(sum == 0xFFFF)
    }
  }
}
