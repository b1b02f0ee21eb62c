import Devices
import GuestMemory
import Synchronization
import Testing

/// An adapter with several pairs of queues (Virtual I/O Device 1.2, 5.1.6.5.5).
@Suite struct VirtioNetworkPairTests {
  typealias Driver = VirtioTestDriver
  private static let mac = HardwareAddress(0x02_00_00_00_00_07)
  /// VIRTIO_NET_F_MQ.
  private static let pairsFeature: UInt64 = 1 << 22

  private struct Rig {
    let cables: [TestCable]
    let adapter: VirtioNetwork
    let board: PCITestBoard
    let transport: VirtioPCITransport
    let driver: Driver

    init(pairs: Int = 3) throws {
      let others = (1..<pairs).map { _ in TestCable() }
      let first = TestCable(others: others)
      cables = [first] + others
      adapter = try VirtioNetwork(backend: first, options: .init(address: mac))
      board = try PCITestBoard()
      transport = VirtioPCITransport(adapter, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = Driver(board, device: 3, interface: .modern)
    }

    /// Class 4, command 0; returns the answer, nil when there is none.
    func usePairs(_ count: UInt16, onQueue queue: Int) throws -> UInt8? {
      let base = driver.bufferBase
      let bytes: [UInt8] = [4, 0, UInt8(count & 0xFF), UInt8(count >> 8), 0xEE]
      try board.memory.write(bytes, at: GuestAddress(base))
      let used = driver.run(
        queue,
        [
          .init(address: base, length: 4),
          .init(address: base + 4, length: 1, isWritable: true),
        ])
      guard used != nil else { return nil }
      return try board.memory.bytes(at: GuestAddress(base + 4), count: 1)[0]
    }

    func send(_ frame: [UInt8], queue: Int) throws -> Bool {
      let base = driver.bufferBase + 0x1000
      try board.memory.write([UInt8](repeating: 0, count: 12) + frame, at: GuestAddress(base))
      return driver.run(queue, [.init(address: base, length: UInt32(12 + frame.count))]) != nil
    }

    func offer(_ queue: Int) {
      let address = driver.bufferBase + 0x10_0000 + UInt64(queue) * 0x1_0000
      driver.setDescriptor(queue, 0, address: address, length: 2000, flags: 2)
      driver.offer(queue, head: 0)
      driver.kick(queue)
    }

    var attached: [Bool] { cables.dropFirst().map { cable in cable.isAttached.withLock { $0 } } }
  }

  private static func frame(_ tag: UInt8) -> [UInt8] {
    mac.bytes + HardwareAddress(0x02_AA).bytes + [0x88, 0xB5] + [UInt8](repeating: tag, count: 50)
  }

  @Test func everyPairCarriesItsOwnFrames() throws {
    let rig = try Rig()
    rig.driver.start(queues: 7)
    #expect(rig.driver.deviceConfiguration(8, .word) == 3)
    #expect(rig.attached == [false, false])
    #expect(try rig.usePairs(3, onQueue: 6) == 0)
    #expect(rig.attached == [true, true])
    for pair in 0..<3 {
      let out = Self.frame(UInt8(pair))
      #expect(try rig.send(out, queue: 2 * pair + 1))
      #expect(rig.cables[pair].sent == [out])
      rig.offer(2 * pair)
      rig.cables[pair].push([Self.frame(UInt8(16 + pair))])
      #expect(rig.driver.waitUsed(2 * pair) == 76)
    }
    #expect(rig.adapter.statistics.framesSent == 3)
    #expect(try rig.usePairs(1, onQueue: 6) == 0)
    #expect(rig.attached == [false, false])
  }

  @Test(arguments: [UInt16(0), 4, 0x8000])
  func countsThatThereAreNotAreRefused(_ count: UInt16) throws {
    let rig = try Rig()
    rig.driver.start(queues: 7)
    #expect(try rig.usePairs(2, onQueue: 6) == 0)
    #expect(try rig.usePairs(count, onQueue: 6) == 1)
    #expect(rig.attached == [true, false])
  }

  /// Its command queue is the third, whose doorbell is the second pair's otherwise.
  @Test func aDriverWithoutPairsHasItsCommandQueueWhereItLooks() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3, wanted: ~Self.pairsFeature)
    for _ in 0..<3 { #expect(try rig.usePairs(2, onQueue: 2) == 1) }
    #expect(rig.attached == [false, false])
    #expect(try rig.send(Self.frame(9), queue: 1))
    #expect(rig.cables[0].sent.count == 1)
  }

  @Test func aResetTakesTheOtherPairsAwayAndARestoredStateGivesThemBack() throws {
    let rig = try Rig()
    rig.driver.start(queues: 7)
    #expect(try rig.usePairs(2, onQueue: 6) == 0)
    rig.adapter.pause()
    let state = rig.adapter.saveState()
    rig.adapter.resume()
    rig.transport.reset()
    #expect(rig.attached == [false, false])
    rig.driver.start(queues: 7)
    rig.adapter.pause()
    rig.adapter.restoreState(state)
    rig.adapter.resume()
    #expect(rig.attached == [true, false])
  }

  /// A rule broken on one pair's queue ends the work on all.
  @Test func aViolationStopsEveryPair() throws {
    let rig = try Rig()
    rig.driver.start(queues: 7)
    #expect(try rig.usePairs(3, onQueue: 6) == 0)
    rig.driver.offer(3, head: 0xFFF0)
    rig.driver.kick(3)
    #expect(eventually { rig.driver.status & 0x40 != 0 })
    let base = rig.driver.bufferBase
    rig.driver.setDescriptor(5, 0, address: base, length: 100, flags: 0)
    rig.driver.offer(5, head: 0)
    rig.driver.kick(5)
    #expect(rig.driver.waitUsed(5, seconds: 0.2) == nil)
  }
}
