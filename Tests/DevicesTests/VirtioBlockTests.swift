import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

@Suite struct VirtioBlockTests {
  typealias Driver = VirtioTestDriver

  static let interfaces: [Driver.Interface] = [.legacy, .modern, .window]

  struct Rig {
    let board: PCITestBoard
    let disk: MemoryDisk
    let block: VirtioBlock
    let transport: VirtioPCITransport
    let driver: Driver

    init(
      _ interface: Driver.Interface, disk: MemoryDisk = MemoryDisk(size: 1 << 20),
      options: VirtioBlock.Options = VirtioBlock.Options(serial: "disk-0")
    ) throws {
      board = try PCITestBoard()
      self.disk = disk
      block = try VirtioBlock(backend: disk, options: options)
      transport = VirtioPCITransport(block, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = Driver(board, device: 3, interface: interface)
      // SeaBIOS's routing: PIRQA, B to 10, C, D to 11.
      for (index, line) in [10, 10, 11, 11].enumerated() {
        board.setConfig(1, 0x60 + index, UInt64(line), .byte)
      }
    }

    func bytes(_ address: UInt64, _ count: Int) throws -> [UInt8] {
      try board.memory.bytes(at: GuestAddress(address), count: count)
    }
  }

  @Test(arguments: interfaces)
  func readGivesTheDisksBytesAndRaisesTheInterruptPin(_ interface: Driver.Interface) throws {
    let rig = try Rig(interface)
    rig.driver.start(wanted: ~(1 << 29))
    #expect(rig.driver.status & 0x40 == 0)
    let data = rig.driver.bufferBase + 0x1000
    let status = rig.driver.block(
      type: 0, sector: 7,
      data: [
        .init(address: data, length: 512, isWritable: true),
        .init(address: data + 0x1000, length: 1024, isWritable: true),
      ])
    #expect(status == 0)
    #expect(try rig.bytes(data, 512) == [UInt8](repeating: 7, count: 512))
    #expect(try rig.bytes(data + 0x1000 + 512, 512) == [UInt8](repeating: 9, count: 512))
    // Slot 3, INTA#: PIRQC, line 11.
    #expect(eventually { rig.board.sink.level(11) })
    #expect(rig.driver.interruptStatus() == 1)
    #expect(!rig.board.sink.level(11))
    #expect(rig.driver.interruptStatus() == 0)
    #expect(rig.block.statistics.bytesRead == 1536)
  }

  @Test(arguments: interfaces)
  func writeThenFlushReachesTheDisk(_ interface: Driver.Interface) throws {
    let rig = try Rig(interface)
    rig.driver.start()
    let data = rig.driver.bufferBase + 0x1000
    try rig.board.memory.write([UInt8](repeating: 0xA5, count: 1024), at: GuestAddress(data))
    #expect(rig.driver.block(type: 1, sector: 4, data: [.init(address: data, length: 1024)]) == 0)
    #expect(rig.disk.contents.withLock { $0.bytes[2048..<3072].allSatisfy { $0 == 0xA5 } })
    #expect(rig.disk.contents.withLock { $0.flushes } == 0)
    #expect(rig.driver.block(type: 4, sector: 0) == 0)
    #expect(rig.disk.contents.withLock { $0.flushes } == 1)
  }

  @Test func writesAreFlushedForADriverThatNeverFlushes() throws {
    let rig = try Rig(.legacy)
    rig.driver.start(wanted: ~(1 << 9))
    let data = rig.driver.bufferBase + 0x1000
    #expect(rig.driver.block(type: 1, sector: 4, data: [.init(address: data, length: 512)]) == 0)
    #expect(rig.disk.contents.withLock { $0.flushes } == 1)
  }

  @Test func messagesAreSentByVectorOnceMSIXIsOn() throws {
    let rig = try Rig(.modern)
    rig.driver.enableVectors(2)
    rig.driver.negotiate()
    rig.driver.setUpQueue(0, vector: 1)
    rig.driver.status = rig.driver.status | 4
    let data = rig.driver.bufferBase + 0x1000
    #expect(
      rig.driver.block(
        type: 0, sector: 0, data: [.init(address: data, length: 512, isWritable: true)]) == 0)
    #expect(
      eventually {
        rig.board.sink.messages == [MessageInterrupt(address: 0xFEE0_0000, data: 0x41)]
      })
    #expect(!rig.board.sink.level(11))
  }
}
