import CLinux
import Devices
import Glibc
import Networks
import Platform
import Synchronization
import Testing

@Suite struct UserNetworkTests {
  private static let mac: [UInt8] = [2, 0, 0, 0, 0, 7]

  private func words(_ values: [UInt16]) -> [UInt8] {
    values.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
  }

  /// An IPv4 packet with its checksum, in a frame to everybody.
  private func packet(
    _ kind: UInt8, from source: [UInt8], to target: [UInt8], _ payload: [UInt8]
  ) -> [UInt8] {
    var header: [UInt8] = [0x45, 0] + words([UInt16(20 + payload.count), 1, 0])
    header += [64, kind, 0, 0] + source + target
    let sum = ~header.withUnsafeBytes { InternetChecksum.sum($0) }
    header[10] = UInt8(sum >> 8)
    header[11] = UInt8(sum & 0xFF)
    return [UInt8](repeating: 0xFF, count: 6) + Self.mac + [8, 0] + header + payload
  }

  private func discovery() -> [UInt8] {
    var message: [UInt8] = [1, 1, 6, 0, 1, 2, 3, 4] + [UInt8](repeating: 0, count: 20)
    message += Self.mac + [UInt8](repeating: 0, count: 202)
    message += [0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]
    message += [UInt8](repeating: 0, count: 40)
    let datagram = words([68, 67, UInt16(8 + message.count), 0]) + message
    return packet(17, from: [0, 0, 0, 0], to: [255, 255, 255, 255], datagram)
  }

  @Test func anAddressIsOffered() throws {
    var options = UserNetwork.Options()
    options.network = try #require(IPv4Address("192.168.77.0"))
    options.bootFile = "pxelinux.0"
    let network = try UserNetwork(options)
    let guest = FrameGuest()
    network.connect(guest)
    guest.send(discovery(), to: network)
    let offer = try #require(
      guest.wait(network) { $0.count > 300 && $0[12] == 8 && $0[13] == 0 && $0[23] == 17 })
    #expect(Array(offer.frame[58..<62]) == [192, 168, 77, 15])
    let file = offer.frame[150..<160]
    #expect(Array(file) == Array("pxelinux.0".utf8))
  }

  @Test(
    .enabled(if: access("/usr/bin/passt", X_OK) == 0, "passt is not installed: apt install passt"))
  func passtOffersAnAddressAndEndsWithTheNetwork() throws {
    var configuration = try NetworkConfiguration(text: "passt,ipv4-only")
    let network = try configuration.open(switches: nil)
    let guest = FrameGuest()
    network.connect(guest)
    guest.send(discovery(), to: network)
    let offer = guest.wait(network) { $0.count > 280 && $0[12] == 8 && $0[23] == 17 }
    #expect(offer != nil)
    #expect(network.cable.state == "connected to passt")
    network.close()
    // A port that is taken is told of at once.
    let taken = try UserNetwork(UserNetwork.Options())
    let port = try #require(FreePort.tcp())
    try taken.add(PortForward(hostPort: port, guestPort: 22))
    configuration.user.forwards = [PortForward(hostPort: port, guestPort: 22)]
    do throws(NetworkError) {
      try configuration.open(switches: nil).close()
      Issue.record("a port was taken twice")
    } catch {
      #expect(error.description.contains("\(port)"), "\(error)")
    }
  }

  /// The guest of a local network reaches this host's services, and nobody else.
  @Test func aLocalNetworkLeadsToThisHostAlone() throws {
    var options = UserNetwork.Options()
    options.isLocal = true
    let network = try UserNetwork(options)
    let guest = FrameGuest()
    network.connect(guest)
    guest.send(discovery(), to: network)
    #expect(guest.wait(network) { $0.count > 300 } != nil)
    // A connection to a port of the host where nobody listens is refused; one to elsewhere is not even tried.
    let port = try #require(FreePort.tcp())
    func knock(_ target: [UInt8]) {
      let segment = words([4000, port, 0, 1, 0, 0, 0x5002, 8192, 0, 0])
      let pseudo = [10, 0, 2, 15] + target + [0, 6, 0, 20]
      let sum = ~(pseudo + segment).withUnsafeBytes { InternetChecksum.sum($0) }
      var whole = segment
      whole[16] = UInt8(sum >> 8)
      whole[17] = UInt8(sum & 0xFF)
      guest.send(packet(6, from: [10, 0, 2, 15], to: target, whole), to: network)
    }
    knock([10, 0, 2, 2])
    let refusal = guest.wait(network) { $0.count >= 54 && $0[23] == 6 }
    #expect(refusal?.frame[47] == 0x14)
    knock([127, 0, 0, 1])
    knock([192, 0, 2, 77])
    for _ in 0..<10 { guest.turn(network) }
    let answers = guest.frames.withLock { $0.filter { $0.0.count >= 54 && $0.0[23] == 6 }.count }
    #expect(answers == 0)
  }

  /// A port of the host leads into the guest, whose answer is a SYN with its own idea of a segment.
  @Test func aForwardReachesTheGuestAndIsRemoved() throws {
    let listener = try #require(FreePort.tcp())
    let network = try UserNetwork(UserNetwork.Options())
    let guest = FrameGuest(.all)
    network.connect(guest)
    guest.send(discovery(), to: network)
    _ = guest.wait(network) { $0.count > 300 }
    let forward = PortForward(hostPort: listener, guestPort: 22)
    try network.add(forward)
    #expect(network.forwards == [forward])
    let taken = #expect(throws: NetworkError.self) { try network.add(forward) }
    #expect(taken?.description.contains("\(listener)") == true)
    let client = FileDescriptor(
      owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0))
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_port = listener.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    _ = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(client.rawValue, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    // The guest's hardware address is known from its question.
    let syn = try #require(
      guest.wait(network) { $0.count >= 54 && $0[13] == 0 && $0[23] == 6 && $0[47] & 2 != 0 })
    #expect(Array(syn.frame[0..<6]) == Self.mac)
    #expect(Array(syn.frame[36..<38]) == [0, 22])
    try network.remove(forward)
    #expect(throws: NetworkError.self) { try network.remove(forward) }
  }

  @Test func anOldBoardsAdapterIsNotHeard() throws {
    let network = try UserNetwork(UserNetwork.Options())
    let old = FrameGuest()
    let new = FrameGuest()
    network.connect(old)
    network.connect(new)
    old.send(discovery(), to: network)
    let set = PollSet()
    network.prepare(set, for: old)
    #expect(set.count == 0)
    #expect(new.frames.withLock { $0.isEmpty })
    network.close()
    new.send(discovery(), to: network)
    #expect(new.frames.withLock { $0.isEmpty })
  }

  /// Anything at all may come from a guest.
  @Test func randomFramesAreSurvived() throws {
    let network = try UserNetwork(UserNetwork.Options())
    let guest = FrameGuest(.all)
    network.connect(guest)
    var generator = SystemRandomNumberGenerator()
    let set = PollSet()
    for round in 0..<20_000 {
      var frame = (0..<Int.random(in: 14...200, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      // Most get past the first look.
      frame.replaceSubrange(12..<14, with: [[8, 0], [8, 6], [0x86, 0xDD]][round % 3])
      if round % 3 == 0, frame.count > 40 {
        frame[14] = 0x45
        frame[23] = [1, 6, 17][round / 3 % 3]
        frame.replaceSubrange(30..<34, with: [10, 0, 2, UInt8.random(in: 0...4)])
      }
      var header = NetworkHeader()
      header.needsChecksum = round % 2 == 0
      header.checksumStart = UInt16.random(in: 0...300)
      header.checksumOffset = UInt16.random(in: 0...300)
      guest.send(frame, to: network, header)
      if round % 100 == 0 {
        set.clear()
        network.prepare(set, for: guest)
        set.end(at: 0)
        try set.wait()
        network.serve(set, for: guest)
        guest.frames.withLock { $0 = [] }
      }
    }
  }
}

private enum FreePort {
  /// A port that nobody listens on now.
  static func tcp() -> UInt16? {
    let descriptor = FileDescriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
    var address = sockaddr_in()
    address.sin_family = UInt16(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        bind(descriptor.rawValue, pointer, size) == 0
          ? getsockname(descriptor.rawValue, pointer, &size) : -1
      }
    }
    return code == 0 ? UInt16(bigEndian: address.sin_port) : nil
  }
}
