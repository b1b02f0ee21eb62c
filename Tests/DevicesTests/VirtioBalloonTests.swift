import Devices
import GuestMemory
import Platform
import Testing

/// The memory balloon under a driver that does what Linux's does, and under one that does not.
@Suite struct VirtioBalloonTests {
  private struct Rig {
    let board: PCITestBoard
    let balloon: MemoryBalloon
    let device: VirtioBalloon
    let transport: VirtioPCITransport
    let driver: VirtioTestDriver

    init(_ interface: VirtioTestDriver.Interface = .modern) throws {
      board = try PCITestBoard()
      balloon = MemoryBalloon(memorySize: board.memory.size)
      device = try VirtioBalloon(balloon, memory: board.memory)
      transport = VirtioPCITransport(device, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = VirtioTestDriver(board, device: 3, interface: interface)
    }

    /// Writes page numbers into a buffer and sends it.
    func send(_ pages: [UInt32], queue: Int, length: UInt32? = nil) -> UInt32? {
      let address = driver.bufferBase
      for (index, page) in pages.enumerated() {
        board.memory.store(page, at: GuestAddress(address + UInt64(index) * 4))
      }
      let length = length ?? UInt32(pages.count * 4)
      return driver.run(queue, [.init(address: address, length: length)])
    }

    func fill(_ address: UInt64, _ count: Int) throws {
      try board.memory.write(
        [UInt8](repeating: 0xA5, count: count), at: GuestAddress(address))
    }

    func byte(_ address: UInt64) -> UInt8? { board.memory.load(at: GuestAddress(address)) }

    /// Offers a buffer of figures, without waiting for it.
    func offerStatistics(_ figures: [(tag: UInt16, value: UInt64)], head: UInt16) {
      let address = driver.bufferBase + 0x1000 + UInt64(head) * 0x100
      for (index, figure) in figures.enumerated() {
        let place = address + UInt64(index) * 10
        board.memory.store(figure.tag, at: GuestAddress(place))
        board.memory.store(figure.value, at: GuestAddress(place + 2))
      }
      driver.chain(
        2, [.init(address: address, length: UInt32(figures.count * 10))], first: Int(head))
      driver.offer(2, head: head)
      driver.kick(2)
    }
  }

  private static let place: UInt64 = 8 << 20
  private static let megabytes = 2 << 20

  @Test("pages in the balloon go back to the host, and come back as zeros")
  func inflating() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    try rig.fill(Self.place - 4096, Self.megabytes + 8192)
    let before = rig.board.memory.residentSize
    // Linux finds its pages in any order.
    let pages = (0..<UInt32(512)).map { UInt32(Self.place >> 12) + ($0 * 77) % 512 }
    #expect(rig.send(pages, queue: 0) == 0)
    // Less what the driver's own structures have taken meanwhile.
    #expect(before - rig.board.memory.residentSize >= UInt64(Self.megabytes) - 32768)
    #expect(rig.balloon.report().reclaimed == UInt64(Self.megabytes))
    #expect(rig.byte(Self.place) == 0)
    #expect(rig.byte(Self.place + UInt64(Self.megabytes) - 1) == 0)
    #expect(rig.byte(Self.place - 1) == 0xA5)
    #expect(rig.byte(Self.place + UInt64(Self.megabytes)) == 0xA5)
    #expect(rig.send(pages, queue: 1) == 0)
    try rig.fill(Self.place, 4096)
    #expect(rig.byte(Self.place) == 0xA5)
  }

  @Test("page numbers that are nobody's, and requests of odd sizes, take nothing away")
  func hostileNumbers() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    try rig.fill(Self.place, 8192)
    let end = UInt32(rig.board.memory.size >> 12)
    #expect(rig.send([.max, end, 1 << 31, .max - 1, 0xC_0000], queue: 0) == 0)
    #expect(rig.balloon.report().reclaimed == 0)
    // One number, and three bytes of another.
    let page = UInt32(Self.place >> 12)
    #expect(rig.send([page, page + 1], queue: 0, length: 7) == 0)
    #expect(rig.balloon.report().reclaimed == 4096)
    #expect(rig.byte(Self.place + 4096) == 0xA5)
    // The same page a thousand times.
    #expect(rig.send([UInt32](repeating: page, count: 1000), queue: 0) == 0)
    #expect(rig.balloon.report().reclaimed == 8192)
    #expect(!rig.transport.needsReset)
  }

  @Test("pages that were given back count as written")
  func tracking() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    try rig.board.memory.startDirtyTracking()
    #expect(rig.send([UInt32(Self.place >> 12)], queue: 0) == 0)
    let pages = try #require(rig.board.memory.takeDirtyPages(ofRegion: 0))
    #expect(pages.contains(FrameNumber(rawValue: Self.place >> 12)))
    #expect(!pages.contains(FrameNumber(rawValue: Self.place >> 12 + 1)))
  }

  @Test(
    "the driver is told of another target, and says how far it is",
    arguments: [VirtioTestDriver.Interface.modern, .legacy])
  func target(_ interface: VirtioTestDriver.Interface) throws {
    let memory: UInt64 = 16 << 20
    let balloon = MemoryBalloon(memorySize: memory * 4, target: memory * 3)
    let board = try PCITestBoard()
    let device = try VirtioBalloon(balloon, memory: board.memory)
    let transport = VirtioPCITransport(device, memory: board.memory, sink: board.sink)
    board.host.attach(transport, at: PCIAddress(device: 3))
    let driver = VirtioTestDriver(board, device: 3, interface: interface)
    #expect(!balloon.report().hasDriver)
    driver.start(queues: 3)
    #expect(balloon.report().hasDriver)
    #expect(driver.deviceConfiguration(0, .doubleword) == memory >> 12)
    #expect(!balloon.setTarget(memory * 4 + 1))
    #expect(!balloon.setTarget((16 << 20) - 1))
    #expect(driver.interruptStatus() & 2 == 0)
    #expect(balloon.setTarget(memory * 2))
    #expect(driver.interruptStatus() & 2 != 0)
    #expect(driver.deviceConfiguration(0, .doubleword) == (memory * 2) >> 12)
    // A byte at a time, as legacy drivers have it.
    let actual = memory >> 12
    for byte in 0..<UInt64(4) {
      let value = actual >> (8 * byte) & 0xFF
      if interface == .legacy {
        board.ports.write(port: driver.port + 0x14 + 4 + UInt16(byte), width: .byte, value: value)
      } else {
        driver.writeModern(0x2004 + byte, value, .byte)
      }
    }
    #expect(driver.deviceConfiguration(4, .doubleword) == actual)
    #expect(balloon.report().current == memory * 3)
    #expect(balloon.report().target == memory * 2)
    driver.status = 0
    #expect(balloon.report().current == memory * 4)
    #expect(!balloon.report().hasDriver)
  }

  @Test("the guest's figures are taken, and asked for again when somebody looks")
  func statistics() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    rig.offerStatistics([(4, 1 << 20), (5, 1 << 24), (99, 7), (6, 1 << 21)], head: 0)
    #expect(eventually { rig.balloon.report().statistics != nil })
    let first = try #require(rig.balloon.report().statistics)
    #expect(first.free == 1 << 20)
    #expect(first.total == 1 << 24)
    #expect(first.available == 1 << 21)
    #expect(first.caches == nil)
    // `report` has asked meanwhile, or does now: the buffer comes back.
    #expect(
      eventually { () -> Bool in
        _ = rig.balloon.report()
        return rig.driver.usedIndex(2) == 1
      })
    rig.offerStatistics([(4, 42)], head: 1)
    #expect(eventually { rig.balloon.report().statistics?.free == 42 })
    #expect(rig.balloon.report().statistics?.total == nil)
  }

  @Test(
    "free pages that are reported go back, unless they must keep what they are filled with",
    arguments: [3, 4])
  func reporting(_ queue: Int) throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    try rig.fill(Self.place, Self.megabytes)
    let report = [
      VirtioTestDriver.Buffer(
        address: Self.place, length: UInt32(Self.megabytes), isWritable: true)
    ]
    // PAGE_POISON was negotiated: the guest fills free pages with this.
    rig.driver.writeModern(0x200C, 0xAAAA_AAAA, .doubleword)
    #expect(rig.driver.run(queue, report) == 0)
    #expect(rig.balloon.report().reported == 0)
    #expect(rig.byte(Self.place) == 0xA5)
    rig.driver.writeModern(0x200C, 0, .doubleword)
    #expect(rig.driver.run(queue, report) == 0)
    #expect(rig.balloon.report().reported == UInt64(Self.megabytes))
    #expect(rig.byte(Self.place) == 0)
  }

  @Test("without the feature nobody serves reports")
  func unwantedReports() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5, wanted: ~(1 << 5))
    try rig.fill(Self.place, 4096)
    rig.driver.chain(4, [.init(address: Self.place, length: 4096, isWritable: true)])
    rig.driver.offer(4, head: 0)
    rig.driver.kick(4)
    #expect(rig.send([], queue: 1, length: 4) == 0)
    #expect(rig.driver.usedIndex(4) == 0)
    #expect(rig.byte(Self.place) == 0xA5)
  }

  @Test("a restored device has target and figures, and the buffer that was held")
  func saving() throws {
    let rig = try Rig()
    rig.driver.start(queues: 5)
    rig.offerStatistics([(4, 5)], head: 0)
    // After two more requests the device has looked at every queue. Nobody has asked for figures: it holds the buffer.
    for _ in 0..<2 { #expect(rig.send([UInt32(Self.place >> 12)], queue: 0) == 0) }
    #expect(rig.driver.usedIndex(2) == 0)
    rig.driver.writeModern(0x2004, 3, .doubleword)
    rig.transport.pause()
    let transportState = rig.transport.saveState()
    let deviceState = rig.device.saveState()
    let balloon = MemoryBalloon(memorySize: rig.board.memory.size)
    let device = try VirtioBalloon(balloon, memory: rig.board.memory)
    let transport = VirtioPCITransport(device, memory: rig.board.memory, sink: rig.board.sink)
    transport.pause()
    transport.restoreState(transportState)
    device.restoreState(deviceState)
    transport.resume()
    #expect(balloon.report().current == rig.board.memory.size - 3 * 4096)
    #expect(eventually { balloon.report().statistics?.free == 5 })
    transport.pause()
    // The old one goes on as well.
    rig.transport.resume()
    #expect(rig.send([UInt32(Self.place >> 12)], queue: 0) == 0)
    #expect(eventually { rig.balloon.report().statistics?.free == 5 })
  }
}
