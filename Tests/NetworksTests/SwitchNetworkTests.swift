import CLinux
import Devices
import Foundation
import Glibc
import Networks
import Platform
import Synchronization
import Testing

@Suite struct SwitchNetworkTests {
  private final class Port {
    let network: SwitchNetwork
    let guest: FrameGuest
    let mac: [UInt8]

    init(_ folder: String, _ number: UInt8, _ offloads: NetworkOffloads = .all) throws {
      network = try SwitchNetwork(name: "lab", in: folder)
      guest = FrameGuest(offloads)
      mac = [2, 0, 0, 0, 0, number]
      network.connect(guest)
    }

    func send(
      to target: [UInt8], _ content: [UInt8] = [1, 2, 3], _ header: NetworkHeader = NetworkHeader()
    ) {
      guest.send(target + mac + [0x88, 0xB5] + content, to: network, header)
    }

    /// What came, as contents.
    var received: [[UInt8]] {
      for _ in 0..<3 { guest.turn(network, milliseconds: 5) }
      return guest.frames.withLock { frames in
        defer { frames = [] }
        return frames.map { Array($0.0.dropFirst(14)) }
      }
    }
  }

  private static let everybody = [UInt8](repeating: 0xFF, count: 6)

  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "uj-switch-\(UInt32.random(in: .min ... .max))"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  @Test func framesForAllReachAllAndAddressesAreLearned() throws {
    try withFolder { folder in
      let ports = try (1...3).map { try Port(folder, $0) }
      ports[0].send(to: Self.everybody, [7])
      #expect(ports[1].received == [[7]])
      #expect(ports[2].received == [[7]])
      // Now the second knows where the first is: the third hears nothing of it.
      ports[1].send(to: ports[0].mac, [8])
      #expect(ports[0].received == [[8]])
      #expect(ports[2].received == [])
      // Nobody knows the third yet: all get what is for it.
      ports[0].send(to: ports[2].mac, [9])
      #expect(ports[2].received == [[9]])
      #expect(ports[1].received == [[9]])
    }
  }

  @Test func portsComeAndGo() throws {
    try withFolder { folder in
      let first = try Port(folder, 1)
      first.send(to: Self.everybody)
      var second: Port? = try Port(folder, 2)
      _ = first.received
      first.send(to: Self.everybody, [4])
      #expect(second?.received == [[4]])
      second?.send(to: Self.everybody, [5])
      #expect(first.received == [[5]])
      second = nil
      _ = first.received
      #expect(first.network.portCount == 0)
      // What a killed process left: a name that nobody listens on.
      let dead = folder + "/lab/zz-1"
      let descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = UInt16(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(dead.utf8)) }
      let code = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      #expect(code == 0)
      close(descriptor)
      _ = first.received
      first.send(to: Self.everybody)
      #expect(access(dead, F_OK) != 0)
    }
  }

  @Test func aPortThatDoesNotReadCostsBoundedMemoryAndGetsTheRestLater() throws {
    try withFolder { folder in
      let sender = try Port(folder, 1)
      let sleeper = try Port(folder, 2)
      let other = try Port(folder, 3)
      let content = [UInt8](repeating: 6, count: 60_000)
      for _ in 0..<300 {
        sender.send(to: Self.everybody, content)
        _ = other.received
      }
      var count = 0
      for _ in 0..<60 {
        let some = sleeper.received
        #expect(some.allSatisfy { $0.count == 60_000 })
        count += some.count
        sender.guest.turn(sender.network, milliseconds: 1)
      }
      #expect(count > 30 && count < 100)
    }
  }

  @Test func aFolderOfOthersIsRefused() throws {
    try withFolder { folder in
      mkdir(folder, 0o755)
      chmod(folder, 0o755)
      #expect(throws: NetworkError.self) { try SwitchNetwork(name: "lab", in: folder) }
    }
  }

  /// A large segment of a guest arrives in pieces that the wire could carry, with right checksums.
  @Test(arguments: [false, true])
  func largeSegmentsAreCutForPlainDrivers(_ isVersion6: Bool) throws {
    try withFolder { folder in
      let sender = try Port(folder, 1)
      let receiver = try Port(folder, 2, [])
      let payload = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      var frame = receiver.mac + sender.mac
      if isVersion6 {
        let length = UInt16(20 + payload.count)
        frame += [0x86, 0xDD, 0x60, 0, 0, 0, UInt8(length >> 8), UInt8(length & 0xFF), 6, 64]
        frame += (0..<32).map { UInt8($0) }
      } else {
        let length = UInt16(40 + payload.count)
        frame += [8, 0, 0x45, 0, UInt8(length >> 8), UInt8(length & 0xFF), 0xFF, 0xFF, 0, 0]
        frame += [64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
      }
      let transport = frame.count
      frame += [0, 80, 0, 81, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0x50, 0x19, 1, 0, 0, 0, 0, 0]
      frame += payload
      var header = NetworkHeader()
      header.needsChecksum = true
      header.segmentation = isVersion6 ? .tcp6 : .tcp4
      header.segmentSize = 1400
      header.checksumStart = UInt16(transport)
      header.checksumOffset = 16
      sender.guest.send(frame, to: sender.network, header)
      for _ in 0..<3 { receiver.guest.turn(receiver.network, milliseconds: 5) }
      let pieces = receiver.guest.frames.withLock { $0.map(\.0) }
      #expect(pieces.count == 4)
      var joined: [UInt8] = []
      for (index, piece) in pieces.enumerated() {
        let sequence = piece[transport + 4..<transport + 8].reduce(UInt32(0)) {
          $0 << 8 | UInt32($1)
        }
        #expect(sequence == 0xFFFF_FF00 &+ UInt32(1400 * index))
        #expect(piece[transport + 13] == (index == 3 ? 0x19 : 0x10))
        let addresses = isVersion6 ? 22..<54 : 26..<34
        let sum = piece.withUnsafeBytes { bytes in
          let pseudo = InternetChecksum.sum(
            UnsafeRawBufferPointer(rebasing: bytes[addresses]),
            6 + UInt32(piece.count - transport))
          return InternetChecksum.sum(
            UnsafeRawBufferPointer(rebasing: bytes[transport...]), UInt32(pseudo))
        }
        #expect(sum == 0xFFFF)
        if !isVersion6 {
          let head = piece.withUnsafeBytes {
            InternetChecksum.sum(UnsafeRawBufferPointer(rebasing: $0[14..<34]))
          }
          #expect(head == 0xFFFF)
          #expect(Int(piece[16]) << 8 | Int(piece[17]) == piece.count - 14)
        }
        joined += piece[(transport + 20)...]
      }
      #expect(joined == payload)
    }
  }
}
