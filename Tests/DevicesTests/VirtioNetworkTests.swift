import CLinux
import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// A cable whose other end is the test.
final class TestCable: NetworkBackend {
  struct Guarded: Sendable {
    var sent: [[UInt8]] = []
    var headers: [NetworkHeader] = []
    var waiting: [([UInt8], NetworkHeader)] = []
    /// Sends every frame back at once, as a host that answers.
    var echoes = false
    /// Threads that sent, by the number of the kernel's.
    var threads: [Int32] = []
    /// What the other end waits for once the guest has sent something.
    var answer: EventNotifier?
    var waits = false
  }

  let takes: NetworkOffloads
  let gives: NetworkOffloads
  let maximumTransmissionUnit: UInt16 = 1500
  let otherQueues: [any NetworkBackend]
  let isAttached = Mutex(false)
  let guarded = Mutex(Guarded())
  private let receiver = Mutex<(any NetworkReceiver)?>(nil)

  init(_ offloads: NetworkOffloads = .all, others: [TestCable] = []) {
    takes = offloads
    gives = offloads
    otherQueues = others
  }

  func setAttached(_ attached: Bool) { isAttached.withLock { $0 = attached } }

  func connect(_ receiver: any NetworkReceiver) { self.receiver.withLock { $0 = receiver } }

  func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from receiver: any NetworkReceiver
  ) {
    let echoes = guarded.withLock { state in
      state.sent.append(Array(frame))
      state.headers.append(header)
      state.threads.append(linux_gettid())
      state.waits = state.answer != nil
      return state.echoes
    }
    if echoes { receiver.deliver(UnsafeRawBufferPointer(frame), NetworkHeader()) }
  }

  func prepare(_ set: PollSet, for receiver: any NetworkReceiver) {
    guarded.withLock { state in
      if state.waits, let answer = state.answer { set.add(answer.rawDescriptor, for: .readable) }
    }
  }

  func serve(_ set: PollSet, for receiver: any NetworkReceiver) {
    let frames = guarded.withLock { state in
      defer { state.waiting = [] }
      if state.waits { state.answer?.drain() }
      return state.waiting
    }
    for (frame, header) in frames {
      frame.withUnsafeBytes { receiver.deliver($0, header) }
    }
  }

  func push(_ frames: [[UInt8]], _ header: NetworkHeader = NetworkHeader()) {
    guarded.withLock { $0.waiting += frames.map { ($0, header) } }
    receiver.withLock { $0 }?.wake()
  }

  var sent: [[UInt8]] { guarded.withLock { $0.sent } }
  var headers: [NetworkHeader] { guarded.withLock { $0.headers } }
  var threads: [Int32] { guarded.withLock { $0.threads } }
}

@Suite struct VirtioNetworkTests {
  typealias Driver = VirtioTestDriver
  private static let mac = HardwareAddress(0x02_00_00_00_00_07)
  private static let headerOnly: UInt64 = ~(1 << 15)

  private struct Rig {
    let cable: TestCable
    let adapter: VirtioNetwork
    let board: PCITestBoard
    let transport: VirtioPCITransport
    let driver: Driver

    init(
      _ interface: Driver.Interface = .modern, offloads: NetworkOffloads = .all,
      isLocked: Bool = false
    ) throws {
      cable = TestCable(offloads)
      adapter = try VirtioNetwork(
        backend: cable, options: .init(address: mac, isLocked: isLocked))
      board = try PCITestBoard()
      transport = VirtioPCITransport(adapter, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = Driver(board, device: 3, interface: interface)
    }

    /// Sends header and frame in buffers of their own.
    func send(_ frame: [UInt8], header: [UInt8] = [UInt8](repeating: 0, count: 12)) throws -> Bool {
      let base = driver.bufferBase
      try board.memory.write(header + frame, at: GuestAddress(base))
      return driver.run(
        1,
        [
          .init(address: base, length: UInt32(header.count)),
          .init(address: base + UInt64(header.count), length: UInt32(frame.count)),
        ]) != nil
    }

    /// Offers receive buffers, one descriptor each, at `bufferBase + 1 MiB`.
    func offer(_ count: Int, size: UInt32, first: Int = 0) {
      for index in first..<first + count {
        let address = driver.bufferBase + 0x10_0000 + UInt64(index) * 0x1_0000
        driver.setDescriptor(0, index, address: address, length: size, flags: 2)
        driver.offer(0, head: UInt16(index))
      }
      driver.kick(0)
    }

    func received(_ index: Int, _ count: Int) throws -> [UInt8] {
      try board.memory.bytes(
        at: GuestAddress(driver.bufferBase + 0x10_0000 + UInt64(index) * 0x1_0000), count: count)
    }
  }

  private static func frame(
    to target: HardwareAddress = mac, from source: HardwareAddress = HardwareAddress(0x02_AA),
    type: UInt16 = 0x88B5, count: Int = 100
  ) -> [UInt8] {
    let head = target.bytes + source.bytes + [UInt8(type >> 8), UInt8(type & 0xFF)]
    return head + (head.count..<count).map { UInt8(truncatingIfNeeded: $0) }
  }

  @Test(arguments: [Driver.Interface.legacy, .modern])
  func framesPassBothWays(_ interface: Driver.Interface) throws {
    let rig = try Rig(interface)
    rig.driver.start(queues: 3)
    #expect(rig.driver.deviceConfiguration(0, .doubleword) == 0x0000_0002)
    #expect(rig.driver.deviceConfiguration(4, .doubleword) == 0x0001_0700)
    let out = Self.frame(to: HardwareAddress(0x02_BB), from: Self.mac)
    #expect(try rig.send(out))
    #expect(rig.cable.sent == [out])
    rig.offer(2, size: 2000)
    let frames = [Self.frame(count: 60), Self.frame(count: 1514)]
    rig.cable.push(frames)
    #expect(rig.driver.waitUsed(0) == 72)
    #expect(rig.driver.waitUsed(0) == 1526)
    // One buffer each.
    #expect(try rig.received(0, 72) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0] + frames[0])
    #expect(Array(try rig.received(1, 1526).dropFirst(12)) == frames[1])
    #expect(rig.adapter.statistics.framesReceived == 2)
    #expect(rig.adapter.statistics.bytesSent == 100)
  }

  @Test func legacyDriversWithoutMergingHaveAShortHeader() throws {
    let rig = try Rig(.legacy)
    rig.driver.start(queues: 3, wanted: Self.headerOnly)
    let out = Self.frame(from: Self.mac)
    #expect(try rig.send(out, header: [UInt8](repeating: 0, count: 10)))
    #expect(rig.cable.sent == [out])
    rig.offer(1, size: 1524)
    rig.cable.push([Self.frame(count: 64)])
    #expect(rig.driver.waitUsed(0) == 74)
    #expect(Array(try rig.received(0, 74).dropFirst(10)) == Self.frame(count: 64))
  }

  @Test func aFrameIsSpreadOverSmallBuffersAndAppearsAtOnce() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    let frame = Self.frame(count: 1000)
    // Too few buffers: nothing is used until there are enough.
    rig.offer(3, size: 256)
    rig.cable.push([frame])
    #expect(rig.driver.waitUsed(0, seconds: 0.1) == nil)
    rig.offer(1, size: 256, first: 3)
    let sizes = (0..<4).map { _ in rig.driver.waitUsed(0) }
    #expect(sizes == [256, 256, 256, 244])
    #expect(try rig.received(0, 12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0])
    var bytes: [UInt8] = []
    for index in 0..<4 { bytes += try rig.received(index, Int(sizes[index] ?? 0)) }
    #expect(Array(bytes.dropFirst(12)) == frame)
  }

  @Test func withoutMergingAFrameThatDoesNotFitIsLostAndTheNextIsNot() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3, wanted: Self.headerOnly)
    rig.offer(1, size: 200)
    rig.cable.push([Self.frame(count: 1000), Self.frame(count: 80)])
    #expect(rig.driver.waitUsed(0) == 92)
    #expect(rig.adapter.statistics.framesDropped == 1)
  }

  @Test func framesWaitForBuffersUpToABound() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    rig.cable.push([[UInt8]](repeating: Self.frame(count: 60_000), count: 40))
    #expect(eventually { rig.adapter.statistics.framesDropped == 40 - 17 })
    rig.offer(17, size: 61_000)
    for _ in 0..<17 { #expect(rig.driver.waitUsed(0) == 60_012) }
    #expect(rig.adapter.statistics.framesReceived == 17)
  }

  @Test func anAnswerThatComesDuringTheSendingGoesToItsOwnBuffer() throws {
    let rig = try Rig()
    rig.cable.guarded.withLock { $0.echoes = true }
    rig.driver.start(queues: 3)
    rig.offer(4, size: 2000)
    for count in 0..<4 {
      #expect(try rig.send(Self.frame(from: Self.mac, count: 100 + count)))
      #expect(rig.driver.waitUsed(0) == UInt32(112 + count))
    }
    #expect(rig.driver.status & 0x40 == 0)
  }

  @Test func offloadsAreTakenOnlyAsNegotiated() throws {
    let segment: [UInt8] = [1, 1, 54, 0, 0x64, 5, 34, 0, 16, 0, 0, 0]
    let rig = try Rig()
    rig.driver.start(queues: 3)
    #expect(try rig.send(Self.frame(from: Self.mac, count: 9000), header: segment))
    #expect(rig.cable.headers.first?.segmentation == .tcp4)
    #expect(rig.cable.headers.first?.segmentSize == 0x564)
    let plain = try Rig(offloads: [])
    plain.driver.start(queues: 3)
    #expect(plain.driver.features & 0x1F83 == 0)
    #expect(try plain.send(Self.frame(from: Self.mac), header: segment))
    #expect(plain.cable.sent.isEmpty)
    #expect(plain.adapter.statistics.framesRefused == 1)
  }

  @Test(
    arguments: [
      // A checksum beyond the end, cutting without a size, cutting that does not exist.
      [1, 0, 0, 0, 0, 0, 90, 0, 16, 0, 0, 0], [1, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
      [0, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
    ] as [[UInt8]])
  func absurdHeadersLoseTheirFrameOnly(_ header: [UInt8]) throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    #expect(try rig.send(Self.frame(from: Self.mac), header: header))
    #expect(rig.cable.sent.isEmpty)
    #expect(try rig.send([1, 2, 3]))
    #expect(rig.adapter.statistics.framesRefused == 2)
    #expect(try rig.send(Self.frame(from: Self.mac)))
    #expect(rig.cable.sent.count == 1)
  }

  @Test func aReceiveBufferWithoutRoomForTheHeaderIsAViolation() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    rig.offer(1, size: 8)
    rig.cable.push([Self.frame()])
    #expect(eventually { rig.driver.status & 0x40 != 0 })
    // And after a reset all is well again.
    rig.driver.start(queues: 3)
    rig.offer(1, size: 2000)
    rig.cable.push([Self.frame()])
    #expect(rig.driver.waitUsed(0) == 112)
  }

  @Test func aLockedAdapterRefusesOtherSources() throws {
    let rig = try Rig(isLocked: true)
    rig.driver.start(queues: 3)
    #expect(try rig.send(Self.frame(from: HardwareAddress(0x02_99))))
    #expect(rig.cable.sent.isEmpty)
    #expect(try rig.send(Self.frame(from: Self.mac)))
    #expect(rig.cable.sent.count == 1)
  }

  @Test func aPulledCableIsSeenAndCarriesNothing() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    rig.offer(1, size: 2000)
    rig.adapter.setUp(false)
    #expect(rig.driver.deviceConfiguration(6, .word) == 0)
    #expect(rig.driver.interruptStatus() & 2 != 0)
    #expect(try rig.send(Self.frame(from: Self.mac)))
    #expect(rig.cable.sent.isEmpty)
    rig.cable.push([Self.frame()])
    #expect(eventually { rig.adapter.statistics.framesDropped == 1 })
    rig.adapter.setUp(true)
    rig.cable.push([Self.frame()])
    #expect(rig.driver.waitUsed(0) == 112)
  }

  // MARK: Commands

  private func command(_ rig: Rig, _ bytes: [UInt8]) throws -> UInt8? {
    let base = rig.driver.bufferBase + 0x8000
    try rig.board.memory.write(bytes + [0xEE], at: GuestAddress(base))
    let place = base + UInt64(bytes.count)
    guard
      rig.driver.run(
        2,
        [
          .init(address: base, length: UInt32(bytes.count)),
          .init(address: place, length: 1, isWritable: true),
        ]) == 1
    else { return nil }
    return rig.board.memory.load(at: GuestAddress(place))
  }

  @Test func filtersFollowTheDriver() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    rig.offer(8, size: 2000)
    // Not promiscuous; one multicast address.
    #expect(try command(rig, [0, 0, 0]) == 0)
    let group: [UInt8] = [0x01, 0, 0x5E, 0, 0, 9]
    #expect(try command(rig, [1, 0, 0, 0, 0, 0, 1, 0, 0, 0] + group) == 0)
    let frames = [
      Self.frame(to: HardwareAddress(0x02_77), count: 60),
      Self.frame(to: HardwareAddress(0x0100_5E00_0008), count: 61),
      Self.frame(to: HardwareAddress(0x0100_5E00_0009), count: 62),
      Self.frame(to: HardwareAddress(0xFFFF_FFFF_FFFF), count: 63), Self.frame(count: 64),
    ]
    rig.cable.push(frames)
    let sizes = (0..<3).map { _ in rig.driver.waitUsed(0) }
    #expect(sizes == [74, 75, 76])
    // Another address of its own.
    #expect(try command(rig, [1, 1] + HardwareAddress(0x02_77).bytes) == 0)
    rig.cable.push(frames)
    #expect(rig.driver.waitUsed(0) == 72)
  }

  @Test(
    arguments: [
      [], [0], [9, 9, 9], [0, 0], [0, 77, 1], [1, 0, 0xFF, 0xFF, 0xFF, 0xFF], [1, 1, 2],
      [2, 0, 0, 0x10],
      [2, 5, 0, 0], [5, 0, 1],
    ] as [[UInt8]])
  func commandsThatAreNoneAreAnsweredSo(_ bytes: [UInt8]) throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    if bytes.isEmpty {
      let place = rig.driver.bufferBase
      #expect(rig.driver.run(2, [.init(address: place, length: 1, isWritable: true)]) == 1)
      #expect(rig.board.memory.load(at: GuestAddress(place)) == UInt8(1))
    } else {
      #expect(try command(rig, bytes) == 1)
    }
    #expect(rig.driver.status & 0x40 == 0)
  }

  // MARK: What is seen

  @Test func theGuestsAddressIsFoundInItsPackets() throws {
    let rig = try Rig()
    rig.driver.start(queues: 3)
    let question: [UInt8] =
      [0, 1, 8, 0, 6, 4, 0, 1] + Self.mac.bytes + [10, 0, 2, 15] + [0, 0, 0, 0, 0, 0, 10, 0, 2, 2]
    let head = HardwareAddress(0xFFFF_FFFF_FFFF).bytes + Self.mac.bytes + [8, 6]
    #expect(try rig.send(head + question + [UInt8](repeating: 0, count: 18)))
    #expect(rig.adapter.neighbors.addresses4 == ["10.0.2.15"])
    for last in 0..<20 as Range<UInt8> {
      var other = question
      other[17] = last
      _ = try rig.send(head + other + [UInt8](repeating: 0, count: 18))
    }
    #expect(rig.adapter.neighbors.addresses4.count == 8)
    #expect(rig.adapter.neighbors.addresses4.first == "10.0.2.19")
  }

  @Test func checksumsAreTheInternets() {
    // RFC 1071, section 3.
    let bytes: [UInt8] = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]
    bytes.withUnsafeBytes { #expect(InternetChecksum.sum($0) == 0xDDF2) }
    // Against the plain definition, at every length and position.
    var generator = SystemRandomNumberGenerator()
    for count in 0..<70 {
      let data = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
      var sum: UInt32 = 0
      for index in stride(from: 0, to: count, by: 2) {
        sum += UInt32(data[index]) << 8 | (index + 1 < count ? UInt32(data[index + 1]) : 0)
      }
      while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
      let found = data.withUnsafeBytes { InternetChecksum.sum($0) }
      #expect(UInt32(found) == sum || (found == 0xFFFF && sum == 0))
    }
    #expect(InternetChecksum.updated(0xDD2F, from: 0x5555, to: 0x3285) == 0x0000)
  }
}
