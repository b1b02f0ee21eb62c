import CLinux
import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// Whatever a driver does wrong, the device asks for a reset, works again after it, and the host goes on.
@Suite struct VirtioViolationTests {
  typealias Driver = VirtioTestDriver
  typealias Rig = VirtioBlockTests.Rig

  /// A started modern device on which nothing has been offered yet.
  private func started(_ interface: Driver.Interface = .modern) throws -> Rig {
    let rig = try Rig(interface)
    rig.driver.start()
    #expect(rig.driver.status & 0x40 == 0)
    return rig
  }

  private func expectNeedsReset(_ rig: Rig, _ location: SourceLocation = #_sourceLocation) {
    #expect(eventually { rig.driver.status & 0x40 != 0 }, sourceLocation: location)
    #expect(rig.driver.usedIndex(0) == 0, "nothing was completed", sourceLocation: location)
    // A reset brings it back to life.
    rig.driver.start()
    #expect(rig.driver.status & 0x40 == 0, sourceLocation: location)
    let data = rig.driver.bufferBase + 0x1000
    let status = rig.driver.block(
      type: 0, sector: 1, data: [.init(address: data, length: 512, isWritable: true)])
    #expect(status == 0, sourceLocation: location)
  }

  /// A correct flush request, so that nothing but the rule under test can be what the device stumbles over.
  private func putFlush(_ rig: Rig, table: UInt64? = nil) {
    let header = rig.driver.bufferBase
    rig.board.memory.store(UInt64(4), at: GuestAddress(header))
    rig.board.memory.store(UInt64(0), at: GuestAddress(header + 8))
    rig.driver.setDescriptor(0, 0, address: header, length: 16, flags: 1, next: 1, table: table)
    rig.driver.setDescriptor(0, 1, address: header + 0x100, length: 1, flags: 2, table: table)
  }

  @Test func availableIndexThatJumpsBeyondTheQueue() throws {
    let rig = try started()
    putFlush(rig)
    rig.board.memory.store(
      UInt16(rig.driver.size[0] + 1), at: GuestAddress(rig.driver.layouts[0].available + 2))
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func headThatIsNotInTheTable() throws {
    let rig = try started()
    rig.driver.offer(0, head: rig.driver.size[0])
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func nextThatIsNotInTheTable() throws {
    let rig = try started()
    rig.driver.setDescriptor(
      0, 0, address: rig.driver.bufferBase, length: 16, flags: 1, next: 0xFFFF)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func chainThatEndsInItself() throws {
    let rig = try started()
    rig.driver.setDescriptor(0, 0, address: rig.driver.bufferBase, length: 16, flags: 1, next: 1)
    rig.driver.setDescriptor(0, 1, address: rig.driver.bufferBase, length: 16, flags: 1, next: 0)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func indirectTableInsideAnIndirectTable() throws {
    let rig = try started()
    let table = rig.driver.bufferBase + 0x2000
    putFlush(rig, table: table + 0x1000)
    rig.driver.setDescriptor(0, 0, address: table, length: 32, flags: 4)
    rig.driver.setDescriptor(0, 0, address: table + 0x1000, length: 32, flags: 4, table: table)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test(arguments: [(0, 4), (40, 4), (15, 4), (1024 * 16 + 16, 4), (32, 5)])
  func indirectTableOfABrokenSizeOrWithANext(_ length: Int, _ flags: Int) throws {
    let rig = try started()
    let table = rig.driver.bufferBase + 0x2000
    putFlush(rig, table: table)
    rig.driver.setDescriptor(
      0, 0, address: table, length: UInt32(length), flags: UInt16(flags), next: 1)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func indirectLoop() throws {
    let rig = try started()
    let table = rig.driver.bufferBase + 0x2000
    rig.driver.setDescriptor(
      0, 0, address: rig.driver.bufferBase, length: 16, flags: 1, next: 0, table: table)
    rig.driver.setDescriptor(0, 0, address: table, length: 16, flags: 4)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func indirectTableThatWasNotNegotiated() throws {
    let rig = try Rig(.modern)
    rig.driver.start(wanted: ~(1 << 28))
    let table = rig.driver.bufferBase + 0x2000
    putFlush(rig, table: table)
    rig.driver.setDescriptor(0, 0, address: table, length: 32, flags: 4)
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  /// Beyond RAM, across its end, wrapping, in the PCI hole, and in the device's own BAR.
  @Test(
    arguments: [
      (0x100_0000, 512), (0xFF_FF00, 512), (UInt64.max - 15, 32), (0xD000_0000, 16),
      (VirtioTestDriver.modernBase + 3 << 16, 16), (0x1000, 0),
    ] as [(UInt64, UInt32)])
  func bufferOutsideRAMOrWithoutBytes(_ address: UInt64, _ length: UInt32) throws {
    let rig = try started()
    rig.driver.chain(
      0,
      [
        .init(address: rig.driver.bufferBase, length: 16),
        .init(address: address, length: length, isWritable: true),
        .init(address: rig.driver.bufferBase + 0x100, length: 1, isWritable: true),
      ])
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func bufferToReadAfterOneToWrite() throws {
    let rig = try started()
    rig.driver.chain(
      0,
      [
        .init(address: rig.driver.bufferBase, length: 16, isWritable: true),
        .init(address: rig.driver.bufferBase + 0x100, length: 16),
      ])
    rig.driver.offer(0, head: 0)
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func requestWithoutHeaderOrStatus() throws {
    for buffers: [Driver.Buffer] in [
      [
        .init(address: 0x20_0000, length: 15),
        .init(address: 0x20_0100, length: 1, isWritable: true),
      ],
      [.init(address: 0x20_0000, length: 16)],
    ] {
      let rig = try started()
      rig.driver.chain(0, buffers)
      rig.driver.offer(0, head: 0)
      rig.driver.kick(0)
      expectNeedsReset(rig)
    }
  }

  @Test(arguments: [0, 3, 100, 512, 0xFFFF] as [UInt16])
  func queueSizeThatIsNoPowerOfTwoOrTooLarge(_ size: UInt16) throws {
    let rig = try Rig(.modern)
    rig.driver.negotiate()
    rig.driver.setUpQueue(0) { $0.size = size }
    rig.driver.status = rig.driver.status | 4
    rig.driver.kick(0)
    expectNeedsReset(rig)
  }

  @Test func ringThatIsMisalignedOrOutsideRAM() throws {
    let changes: [(inout VirtioQueueLayout) -> Void] = [
      { $0.descriptors += 8 }, { $0.available += 1 }, { $0.used += 2 },
      { $0.descriptors = 0x100_0000 - 16 }, { $0.available = .max - 1 },
      { $0.used = VirtioTestDriver.modernBase },
    ]
    for change in changes {
      let rig = try Rig(.modern)
      rig.driver.negotiate()
      rig.driver.setUpQueue(0, change: change)
      rig.driver.status = rig.driver.status | 4
      #expect(rig.driver.status & 0x40 != 0)
    }
  }

  @Test func legacyRingOutsideRAM() throws {
    let rig = try Rig(.legacy)
    rig.driver.negotiate()
    rig.board.ports.write(port: rig.driver.port + 0xE, width: .word, value: 0)
    rig.board.ports.write(port: rig.driver.port + 8, width: .doubleword, value: 0xFFFF_FFFF)
    rig.driver.status = 7
    #expect(rig.driver.status & 0x40 != 0)
  }

  @Test func headOfferedAgainBeforeItWasUsed() throws {
    let memory = try GuestMemory(size: 1 << 20)
    let queue = try VirtioQueue(
      index: 0, layout: VirtioQueueLayout(size: 4, legacyPage: 0x10), maximumSize: 4,
      features: [], memory: memory)
    memory.store(UInt64(0x4000), at: GuestAddress(0x1_0000 + 16))
    memory.store(UInt32(16), at: GuestAddress(0x1_0000 + 24))
    for slot in 0..<2 { memory.store(UInt16(1), at: GuestAddress(0x1_0040 + 4 + 2 * UInt64(slot))) }
    memory.store(UInt16(2), at: GuestAddress(0x1_0040 + 2))
    let chain = VirtioChain()
    #expect(try queue.take(into: chain))
    #expect(throws: VirtioViolation.headInFlight(1)) { try queue.take(into: chain) }
    queue.give(head: 1, written: 0)
    #expect(try queue.take(into: chain))
    #expect(queue.outstanding == 1)
  }

  @Test func queueRegistersAreFrozenWhileTheDeviceRuns() throws {
    let rig = try started()
    let driver = rig.driver
    for (offset, value, width) in [
      (0x18, 0, AccessWidth.word), (0x18, 3, .word), (0x20, 0xFFFF_FFF0, .doubleword),
      (0x28, 1, .doubleword), (0x30, 0xF000_0000, .doubleword), (0x1C, 0, .word),
      (0xC, 0, .doubleword),
    ] as [(UInt64, UInt64, AccessWidth)] {
      driver.writeModern(offset, value, width)
    }
    #expect(driver.readModern(0x18, .word) == UInt64(driver.size[0]))
    #expect(driver.readModern(0x20, .doubleword) == driver.layouts[0].descriptors)
    let data = driver.bufferBase + 0x1000
    #expect(
      driver.block(type: 0, sector: 1, data: [.init(address: data, length: 512, isWritable: true)])
        == 0)
  }

  @Test func queueAndVectorNumbersBeyondTheEndDoNothing() throws {
    let rig = try started()
    rig.driver.writeModern(0x16, 500, .word)
    #expect(rig.driver.readModern(0x18, .word) == 0)
    rig.driver.writeModern(0x1A, 1, .word)
    #expect(rig.driver.readModern(0x1A, .word) == 0xFFFF)
    rig.driver.writeModern(0x1C, 1, .word)
    rig.driver.writeModern(0x16, 0, .word)
    rig.driver.writeModern(0x1A, 2, .word)
    #expect(rig.driver.readModern(0x1A, .word) == 0xFFFF, "only vectors 0 and 1 exist")
    for queue in [1, 2, 1000, 1023] { rig.driver.kick(queue) }
    #expect(rig.driver.status & 0x40 == 0)
  }

  @Test func needsResetIsReportedByAConfigurationInterrupt() throws {
    let rig = try Rig(.modern)
    rig.driver.enableVectors(2)
    rig.driver.negotiate()
    rig.driver.writeModern(0x10, 0, .word)
    rig.driver.setUpQueue(0, vector: 1)
    rig.driver.status = rig.driver.status | 4
    rig.driver.offer(0, head: 0xFFFF)
    rig.driver.kick(0)
    #expect(eventually { rig.board.sink.messages.map(\.data) == [0x40] })
  }

  @Test func resetWaitsForTheRequestThatRunsAndNothingIsCompletedAfterIt() throws {
    let rig = try Rig(.modern)
    rig.driver.start()
    rig.disk.isStalled.store(true, ordering: .releasing)
    let data = rig.driver.bufferBase + 0x1000
    rig.driver.chain(
      0,
      [
        .init(address: rig.driver.bufferBase, length: 16),
        .init(address: data, length: 512, isWritable: true),
        .init(address: rig.driver.bufferBase + 0x100, length: 1, isWritable: true),
      ])
    for _ in 0..<3 { rig.driver.offer(0, head: 0) }
    rig.driver.kick(0)
    #expect(eventually { rig.disk.entered.load(ordering: .acquiring) == 1 })
    let isReset = Mutex(false)
    let transport = rig.transport
    let thread = try PosixThread(name: "vcpu") {
      transport.write(at: VirtioTestDriver.modernTag + 0x14, width: .byte, value: 0)
      isReset.withLock { $0 = true }
    }
    usleep(20_000)
    #expect(!isReset.withLock { $0 }, "still reading into guest memory")
    rig.disk.isStalled.store(false, ordering: .releasing)
    thread.join()
    let used = rig.driver.usedIndex(0)
    #expect(used <= 1)
    usleep(20_000)
    #expect(rig.driver.usedIndex(0) == used)
    #expect(rig.driver.status == 0)
  }
}
