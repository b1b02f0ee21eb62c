import CLinux
import Devices
import Foundation
import GuestMemory
import Platform
import Synchronization
import Testing

private final class RecordingBackend: CharacterBackend {
  let received = Mutex<[UInt8]>([])
  let roomReports = Atomic<Int>(0)
  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    received.withLock { $0.append(contentsOf: bytes) }
  }
  func guestCanReceive() { roomReports.add(1, ordering: .relaxed) }
  var text: String { String(decoding: received.withLock { $0 }, as: UTF8.self) }
}

@Suite struct VirtioDeviceTests {
  typealias Driver = VirtioTestDriver

  private func board(_ device: any VirtioDevice, _ interface: Driver.Interface = .modern) throws
    -> (PCITestBoard, VirtioPCITransport, Driver)
  {
    let board = try PCITestBoard()
    let transport = VirtioPCITransport(device, memory: board.memory, sink: board.sink)
    board.host.attach(transport, at: PCIAddress(device: 3))
    return (board, transport, Driver(board, device: 3, interface: interface))
  }

  // MARK: Identity

  @Test func functionsShowTheIdentityOfTheirFace() throws {
    let memory = try PCITestBoard()
    for (face, device, revision, subsystem) in [
      (VirtioPCITransport.Face.transitional, 0x1001, 0, 2), (.modern, 0x1042, 1, 0x1100),
    ] as [(VirtioPCITransport.Face, UInt64, UInt64, UInt64)] {
      let board = try PCITestBoard()
      let block = try VirtioBlock(backend: MemoryDisk(size: 4096))
      board.host.attach(
        VirtioPCITransport(block, face: face, memory: memory.memory, sink: board.sink),
        at: PCIAddress(device: 3))
      #expect(board.config(3, 0) == device << 16 | 0x1AF4)
      #expect(board.config(3, 8, .byte) == revision)
      #expect(board.config(3, 0x2C) == subsystem << 16 | 0x1AF4)
      #expect((board.config(3, 0x10) & 1 == 1) == (face == .transitional))
    }
  }

  // MARK: Block

  @Test func indirectDescriptorsWork() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start()
    let data = rig.driver.bufferBase + 0x1000
    let status = rig.driver.block(
      type: 0, sector: 3, data: [.init(address: data, length: 512, isWritable: true)],
      indirect: rig.driver.bufferBase + 0x8000)
    #expect(status == 0)
    #expect(try rig.bytes(data, 512) == [UInt8](repeating: 3, count: 512))
  }

  @Test func headerAndStatusMayBeCutAnywhere() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start()
    let base = rig.driver.bufferBase
    rig.board.memory.store(UInt64(0), at: GuestAddress(base))
    rig.board.memory.store(UInt64(5), at: GuestAddress(base + 8))
    var buffers = (0..<16).map { Driver.Buffer(address: base + $0, length: 1) }
    // 512 bytes and the status byte in two pieces.
    buffers.append(.init(address: base + 0x1000, length: 100, isWritable: true))
    buffers.append(.init(address: base + 0x1100, length: 413, isWritable: true))
    #expect(rig.driver.run(0, buffers) == 513)
    #expect(try rig.bytes(base + 0x1100, 412) == [UInt8](repeating: 5, count: 412))
    #expect(try rig.bytes(base + 0x1100 + 412, 1) == [0])
  }

  @Test func transfersOutsideTheDiskOrOfPartialSectorsFail() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start()
    let data = rig.driver.bufferBase + 0x1000
    for (sector, length) in [
      (2048, 512), (2047, 1024), (UInt64.max, 512), (1 << 55, 512), (0, 100),
    ] as [(UInt64, UInt32)] {
      let read = rig.driver.block(
        type: 0, sector: sector, data: [.init(address: data, length: length, isWritable: true)])
      #expect(read == 1)
      let write = rig.driver.block(
        type: 1, sector: sector, data: [.init(address: data, length: length)])
      #expect(write == 1)
    }
    #expect(rig.block.statistics.errors == 10)
    #expect(rig.driver.block(type: 99, sector: 0) == 2)
    rig.disk.contents.withLock { $0.failure = .system(EIO) }
    #expect(rig.driver.block(type: 4, sector: 0) == 1)
  }

  @Test func discardAndWriteZeroesCheckEveryRangeFirst() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start()
    let ranges = rig.driver.bufferBase + 0x1000
    func put(_ index: UInt64, sector: UInt64, count: UInt32, flags: UInt32 = 0) {
      rig.board.memory.store(sector, at: GuestAddress(ranges + index * 16))
      rig.board.memory.store(count, at: GuestAddress(ranges + index * 16 + 8))
      rig.board.memory.store(flags, at: GuestAddress(ranges + index * 16 + 12))
    }
    put(0, sector: 8, count: 8)
    put(1, sector: 100, count: 1)
    #expect(rig.driver.block(type: 11, sector: 0, data: [.init(address: ranges, length: 32)]) == 0)
    #expect(rig.disk.contents.withLock { $0.discarded } == [4096..<8192, 51_200..<51_712])
    #expect(rig.driver.block(type: 13, sector: 0, data: [.init(address: ranges, length: 32)]) == 0)
    #expect(rig.disk.contents.withLock { $0.bytes[4096..<8192].allSatisfy { $0 == 0 } })
    #expect(rig.disk.contents.withLock { $0.bytes[8192] } == 16)
    put(0, sector: 16, count: 1)
    put(1, sector: 2048, count: 1)
    #expect(rig.driver.block(type: 13, sector: 0, data: [.init(address: ranges, length: 32)]) == 1)
    #expect(rig.disk.contents.withLock { $0.bytes[8192] } == 16, "the first was not touched either")
    put(0, sector: 16, count: 1, flags: 1)
    #expect(rig.driver.block(type: 11, sector: 0, data: [.init(address: ranges, length: 16)]) == 2)
    for length in [8, 16 * 33] as [UInt32] {
      #expect(
        rig.driver.block(type: 11, sector: 0, data: [.init(address: ranges, length: length)]) == 1)
    }
  }

  @Test func identityIsTwentyBytes() throws {
    let rig = try VirtioBlockTests.Rig(
      .modern, options: VirtioBlock.Options(serial: "a-serial-that-is-much-too-long"))
    rig.driver.start()
    let data = rig.driver.bufferBase + 0x1000
    #expect(
      rig.driver.block(
        type: 8, sector: 0, data: [.init(address: data, length: 20, isWritable: true)]) == 0)
    #expect(try rig.bytes(data, 20) == Array("a-serial-that-is-muc".utf8))
  }

  @Test func readOnlyDiskOffersNoWritesAndRefusesThem() throws {
    let rig = try VirtioBlockTests.Rig(.modern, disk: MemoryDisk(size: 65536, isReadOnly: true))
    rig.driver.start()
    #expect(rig.driver.features & 1 << 5 != 0)
    #expect(rig.driver.features & (1 << 13 | 1 << 14) == 0)
    let data = rig.driver.bufferBase + 0x1000
    #expect(rig.driver.block(type: 1, sector: 0, data: [.init(address: data, length: 512)]) == 1)
  }

  @Test(arguments: VirtioBlockTests.interfaces)
  func configurationTellsCapacityAndCacheMode(_ interface: Driver.Interface) throws {
    let rig = try VirtioBlockTests.Rig(interface)
    rig.driver.start()
    #expect(rig.driver.deviceConfiguration(0, .doubleword) == 2048)
    #expect(rig.driver.deviceConfiguration(4, .doubleword) == 0)
    #expect(rig.driver.deviceConfiguration(20, .doubleword) == 512)
    #expect(rig.driver.deviceConfiguration(32, .byte) == 1)
    guard interface == .modern else { return }
    rig.driver.writeModern(0x2020, 0, .byte)
    let data = rig.driver.bufferBase + 0x1000
    #expect(rig.driver.block(type: 1, sector: 0, data: [.init(address: data, length: 512)]) == 0)
    #expect(rig.disk.contents.withLock { $0.flushes } == 1)
    rig.block.sizeDidChange()
    #expect(rig.driver.readModern(0x15, .byte) == 1, "generation")
    #expect(rig.driver.interruptStatus() & 2 != 0)
  }

  @Test func severalQueuesWorkAtOnce() throws {
    let rig = try VirtioBlockTests.Rig(
      .modern, options: VirtioBlock.Options(queueCount: 3))
    rig.driver.start(queues: 3)
    let data = rig.driver.bufferBase + 0x1000
    for queue in 0..<3 {
      #expect(
        rig.driver.block(
          type: 0, sector: UInt64(queue),
          data: [.init(address: data, length: 512, isWritable: true)], queue: queue) == 0)
      #expect(try rig.bytes(data, 1) == [UInt8(queue)])
    }
  }

  @Test func driverIsToldNothingWhenItWantsNoInterrupt() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start(wanted: ~(1 << 29))
    // VIRTQ_AVAIL_F_NO_INTERRUPT
    rig.board.memory.store(UInt16(1), at: GuestAddress(rig.driver.layouts[0].available))
    #expect(rig.driver.block(type: 4, sector: 0) == 0)
    usleep(5000)
    #expect(rig.driver.interruptStatus() == 0)
  }

  @Test func eventIndexHoldsInterruptsBackUntilTheWantedOne() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.start()
    let usedEvent = rig.driver.layouts[0].available + 4 + 2 * UInt64(rig.driver.size[0])
    #expect(rig.driver.block(type: 4, sector: 0) == 0)
    #expect(eventually { rig.driver.interruptStatus() == 1 }, "the first is always told")
    rig.board.memory.store(UInt16(3), at: GuestAddress(usedEvent))
    for _ in 0..<2 { #expect(rig.driver.block(type: 4, sector: 0) == 0) }
    usleep(5000)
    #expect(rig.driver.interruptStatus() == 0)
    #expect(rig.driver.block(type: 4, sector: 0) == 0)
    #expect(eventually { rig.driver.interruptStatus() == 1 })
  }

  @Test func doorbellsAreBoundWhileTheDeviceRuns() throws {
    final class Binding: DoorbellBinding {
      let bound = Mutex<Set<Doorbell>>([])
      func bind(_ doorbell: Doorbell, to notifier: EventNotifier) {
        bound.withLock { _ = $0.insert(doorbell) }
      }
      func unbind(_ doorbell: Doorbell, from notifier: EventNotifier) {
        bound.withLock { _ = $0.remove(doorbell) }
      }
    }
    let board = try PCITestBoard()
    let binding = Binding()
    let block = try VirtioBlock(backend: MemoryDisk(size: 4096))
    board.host.attach(
      VirtioPCITransport(block, memory: board.memory, sink: board.sink, doorbells: binding),
      at: PCIAddress(device: 3))
    let driver = Driver(board, device: 3, interface: .modern)
    #expect(binding.bound.withLock { $0.isEmpty })
    driver.start()
    #expect(
      binding.bound.withLock { $0 } == [
        Doorbell(space: .ports, address: UInt64(driver.port) + 0x10, length: 2, match: 0),
        Doorbell(space: .memory, address: driver.modern + 0x3000, length: 2, match: nil),
      ])
    board.setConfig(3, 4, 2, .word)
    #expect(binding.bound.withLock { $0.map(\.space) } == [.memory])
    board.setConfig(3, 0x20, 0xF000_0000)
    #expect(binding.bound.withLock { $0.map(\.address) } == [0xF000_3000])
    board.store(0xF000_0014, 0, .byte)
    #expect(binding.bound.withLock { $0.isEmpty })
  }

  @Test func pausedDeviceDoesNothingUntilItResumesElsewhere() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    rig.driver.enableVectors(2)
    rig.driver.negotiate()
    rig.driver.setUpQueue(0, vector: 1)
    rig.driver.status = rig.driver.status | 4
    #expect(rig.driver.block(type: 4, sector: 0) == 0)
    #expect(eventually { rig.board.sink.messages.count == 1 })
    rig.transport.pause()
    rig.transport.pause()
    let data = rig.driver.bufferBase + 0x1000
    rig.board.memory.store(UInt32(0), at: GuestAddress(rig.driver.bufferBase))
    rig.board.memory.store(UInt64(9), at: GuestAddress(rig.driver.bufferBase + 8))
    rig.driver.chain(
      0,
      [
        .init(address: rig.driver.bufferBase, length: 16),
        .init(address: data, length: 512, isWritable: true),
        .init(address: rig.driver.bufferBase + 0x100, length: 1, isWritable: true),
      ])
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    usleep(20_000)
    #expect(rig.driver.usedIndex(0) == 1)
    // Everything goes through bytes, as in a file.
    let host = try JSONEncoder().encode(rig.board.host.saveState())
    let transport = try JSONEncoder().encode(rig.transport.saveState())
    let block = try JSONEncoder().encode(rig.block.saveState())

    let other = try VirtioBlockTests.Rig(.modern)
    let size = Int(rig.board.memory.size)
    try other.board.memory.write(
      UnsafeRawBufferPointer(
        start: rig.board.memory.pointer(at: GuestAddress(0), count: UInt64(size)), count: size),
      at: GuestAddress(0))
    other.transport.pause()
    other.board.host.restoreState(try JSONDecoder().decode(PCIHost.State.self, from: host))
    other.transport.restoreState(
      try JSONDecoder().decode(VirtioPCITransport.State.self, from: transport))
    other.block.restoreState(try JSONDecoder().decode(VirtioBlock.State.self, from: block))
    usleep(20_000)
    #expect(
      other.board.memory.load(UInt16.self, at: GuestAddress(rig.driver.layouts[0].used + 2)) == 1)
    other.transport.resume()
    #expect(
      eventually {
        other.board.memory.load(at: GuestAddress(rig.driver.layouts[0].used + 2)) == UInt16(2)
      })
    #expect(try other.bytes(data, 512) == [UInt8](repeating: 9, count: 512))
    #expect(eventually { other.board.sink.messages.map(\.data) == [0x41] })
  }

  @Test func devicesAndTheirThreadsGoWithTheBoard() throws {
    weak var block: VirtioBlock?
    weak var transport: VirtioPCITransport?
    do {
      let rig = try VirtioBlockTests.Rig(.modern)
      rig.driver.start()
      #expect(rig.driver.block(type: 4, sector: 0) == 0)
      block = rig.block
      transport = rig.transport
    }
    #expect(eventually { block == nil && transport == nil })
  }

  // MARK: Entropy

  @Test func randomFillsAtMostItsLimit() throws {
    let (board, _, driver) = try board(try VirtioRandom())
    driver.start()
    let base = driver.bufferBase
    #expect(driver.run(0, [.init(address: base, length: 64, isWritable: true)]) == 64)
    let bytes = try board.memory.bytes(at: GuestAddress(base), count: 64)
    #expect(Set(bytes).count > 16)
    let written = driver.run(
      0,
      [
        .init(address: base, length: 60_000, isWritable: true),
        .init(address: base + 60_000, length: 60_000, isWritable: true),
      ])
    #expect(written == 65_536)
    #expect(driver.run(0, [.init(address: base, length: 16)]) == 0)
  }

  // MARK: Console

  @Test func plainConsoleCarriesBytesBothWays() throws {
    let backend = RecordingBackend()
    let console = try VirtioConsole(ports: [.init(backend: backend)])
    let (board, _, driver) = try board(console)
    console.setSize(columns: 132, rows: 50)
    driver.start(queues: 2)
    #expect(driver.features & 2 == 0)
    #expect(driver.deviceConfiguration(0, .doubleword) == 50 << 16 | 132)
    try board.memory.write(Array("hello".utf8), at: GuestAddress(driver.bufferBase))
    #expect(driver.run(1, [.init(address: driver.bufferBase, length: 5)]) == 0)
    #expect(backend.text == "hello")
    // Input waits for a buffer, and a buffer for input.
    let taken = "abcdef".utf8.withContiguousStorageIfAvailable {
      console.ports[0].offer(UnsafeRawBufferPointer($0))
    }
    #expect(taken == 6)
    let input = driver.bufferBase + 0x1000
    #expect(driver.run(0, [.init(address: input, length: 4, isWritable: true)]) == 4)
    #expect(driver.run(0, [.init(address: input + 4, length: 4, isWritable: true)]) == 2)
    #expect(try board.memory.bytes(at: GuestAddress(input), count: 6) == Array("abcdef".utf8))
    driver.writeModern(0x2008, 0x21, .doubleword)
    #expect(backend.text == "hello!")
  }

  @Test func consoleInputIsBoundedAndTheBackendIsToldOfRoom() throws {
    let backend = RecordingBackend()
    let console = try VirtioConsole(ports: [.init(backend: backend)])
    let (_, _, driver) = try board(console)
    let bytes = [UInt8](repeating: 65, count: 10_000)
    let taken = bytes.withUnsafeBytes { console.ports[0].offer($0) }
    #expect(taken == VirtioConsolePort.inputLimit)
    driver.start(queues: 2)
    let input = driver.bufferBase + 0x1000
    #expect(driver.run(0, [.init(address: input, length: 10_000, isWritable: true)]) == 4096)
    #expect(eventually { backend.roomReports.load(ordering: .relaxed) == 1 })
  }

  @Test func severalPortsIntroduceThemselves() throws {
    let backends = [RecordingBackend(), RecordingBackend()]
    let console = try VirtioConsole(ports: [
      .init(backend: backends[0]),
      .init(name: "org.underjack.agent", isTerminal: false, backend: backends[1]),
    ])
    let (board, _, driver) = try board(console)
    driver.start(queues: 6)
    #expect(driver.deviceConfiguration(4, .doubleword) == 2)
    func tell(_ port: UInt64, _ event: UInt64, _ value: UInt64) {
      board.memory.store(port | event << 32 | value << 48, at: GuestAddress(driver.bufferBase))
      #expect(driver.run(3, [.init(address: driver.bufferBase, length: 8)]) == 0)
    }
    func hear() throws -> [UInt8] {
      let address = driver.bufferBase + 0x2000
      let count = try #require(
        driver.run(2, [.init(address: address, length: 64, isWritable: true)]))
      return try board.memory.bytes(at: GuestAddress(address), count: Int(count))
    }
    for _ in 0..<20 { tell(0, 0, 1) }
    #expect(try hear() == [0, 0, 0, 0, 1, 0, 1, 0])
    #expect(try hear() == [1, 0, 0, 0, 1, 0, 1, 0])
    tell(1, 3, 1)
    #expect(try hear() == [1, 0, 0, 0, 7, 0, 1, 0] + Array("org.underjack.agent".utf8) + [0])
    #expect(try hear() == [1, 0, 0, 0, 6, 0, 1, 0])
    tell(1, 6, 1)
    #expect(console.ports[1].isGuestOpen)
    tell(77, 6, 1)
    try board.memory.write(Array("x".utf8), at: GuestAddress(driver.bufferBase))
    #expect(driver.run(5, [.init(address: driver.bufferBase, length: 1)]) == 0)
    #expect(backends[1].text == "x")
  }
}
