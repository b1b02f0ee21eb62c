import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// Drives the optical drive as SeaBIOS and Linux do: commands through the adapter's request queue.
@Suite struct VirtioSCSITests {
  struct Answer: Equatable {
    var response: UInt8
    var status: UInt8
    var sense: [UInt8]
    var residue: UInt32
    var data: [UInt8]

    /// Sense key and additional sense code.
    var failure: [UInt8] {
      status == 2 && sense.count == 18 ? [sense[2], sense[12], sense[13]] : []
    }
  }

  final class Counter: Sendable {
    let count = Atomic<Int>(0)
  }

  final class Rig {
    let board: PCITestBoard
    let disc = MemoryDisk(size: 1 << 20)
    let drive: OpticalDrive
    let adapter: VirtioSCSI
    let transport: VirtioPCITransport
    let driver: VirtioTestDriver
    let ejections = Counter()

    init(_ interface: VirtioTestDriver.Interface = .modern, isEmpty: Bool = false) throws {
      board = try PCITestBoard()
      drive = OpticalDrive(medium: isEmpty ? nil : disc, serial: "cd0") { [ejections] in
        ejections.count.add(1, ordering: .relaxed)
      }
      adapter = try VirtioSCSI(targets: [drive])
      transport = VirtioPCITransport(adapter, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 4))
      driver = VirtioTestDriver(board, device: 4, interface: interface)
      driver.start(queues: 3)
    }

    func run(
      _ command: [UInt8], room: UInt32 = 0, target: UInt8 = 0, unit: UInt8 = 0,
      lunByte: UInt8 = 1
    ) throws -> Answer {
      let request = driver.bufferBase
      let response = request + 0x1000
      let data = request + 0x2000
      var bytes: [UInt8] = [lunByte, target, 0x40, unit, 0, 0, 0, 0]
      bytes += [UInt8](repeating: 0, count: 11)
      bytes += command + [UInt8](repeating: 0, count: 32 - command.count)
      try board.memory.write(bytes, at: GuestAddress(request))
      try board.memory.write(
        [UInt8](repeating: 0xEE, count: 108), at: GuestAddress(response))
      var buffers: [VirtioTestDriver.Buffer] = [
        .init(address: request, length: 51),
        .init(address: response, length: 108, isWritable: true),
      ]
      if room > 0 { buffers.append(.init(address: data, length: room, isWritable: true)) }
      let written = try #require(driver.run(2, buffers))
      let answer = try board.memory.bytes(at: GuestAddress(response), count: 108)
      let count = min(Int(written) - 108, Int(room))
      return Answer(
        response: answer[11], status: answer[10],
        sense: Array(answer[12..<12 + Int(answer[0])]),
        residue: board.memory.load(at: GuestAddress(response + 4)) ?? 0,
        data: try board.memory.bytes(at: GuestAddress(data), count: max(count, 0)))
    }
  }

  @Test(arguments: VirtioBlockTests.interfaces)
  func firmwareFindsAndReadsTheDisc(_ interface: VirtioTestDriver.Interface) throws {
    let rig = try Rig(interface)
    let inquiry = try rig.run([0x12, 0, 0, 0, 36, 0], room: 36)
    #expect(inquiry.data.count == 36)
    #expect(inquiry.data.prefix(2) == [0x05, 0x80])
    #expect(try rig.run([0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], room: 16).data[3] == 8)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).status == 0)
    let capacity = try rig.run([0x25], room: 8)
    #expect(capacity.data == [0, 0, 1, 0xFF, 0, 0, 8, 0])
    let sectors = try rig.run([0x28, 0, 0, 0, 0, 16, 0, 0, 2, 0], room: 4096)
    #expect(sectors.data == Array(rig.disc.contents.withLock { $0.bytes[16 * 2048..<18 * 2048] }))
    #expect(sectors.residue == 0)
  }

  @Test func otherTargetsAndUnitsAreNotThere() throws {
    let rig = try Rig()
    #expect(try rig.run([0, 0, 0, 0, 0, 0], target: 1).response == 3)
    #expect(try rig.run([0, 0, 0, 0, 0, 0], lunByte: 7).response == 3)
    #expect(try rig.run([0, 0, 0, 0, 0, 0], unit: 1).failure == [5, 0x25, 0])
    #expect(try rig.run([0x12, 0, 0, 0, 36, 0], room: 36, unit: 1).data[0] == 0x7F)
    #expect(try rig.run([0xF7]).failure == [5, 0x20, 0])
  }

  @Test func readsAreCheckedAndCutToTheRoom() throws {
    let rig = try Rig()
    #expect(try rig.run([0x28, 0, 0, 0, 2, 0, 0, 0, 1, 0], room: 2048).failure == [5, 0x21, 0])
    #expect(
      try rig.run([0x28, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0], room: 2048).failure
        == [5, 0x21, 0])
    #expect(
      try rig.run([0x88] + [UInt8](repeating: 0xFF, count: 13), room: 2048).failure
        == [5, 0x21, 0])
    let short = try rig.run([0xA8, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0], room: 1000)
    #expect(short.data.count == 1000 && short.residue == 0)
    let long = try rig.run([0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], room: 5000)
    #expect(long.data.count == 2048 && long.residue == 5000 - 2048)
    rig.disc.contents.withLock { $0.failure = .system(5) }
    #expect(try rig.run([0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], room: 2048).failure == [3, 0x11, 0])
  }

  @Test func guestLocksUnlocksAndEjects() throws {
    let rig = try Rig()
    #expect(try rig.run([0x1E, 0, 0, 0, 1, 0]).status == 0)
    #expect(rig.drive.isLocked)
    #expect(try rig.run([0x1B, 0, 0, 0, 2, 0]).failure == [5, 0x53, 2])
    #expect(!rig.drive.eject())
    // The host's wish is a media event.
    let wish = try rig.run([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], room: 8)
    #expect(wish.data == [0, 6, 4, 0x10, 1, 2, 0, 0])
    #expect(try rig.run([0x1E, 0, 0, 0, 0, 0]).status == 0)
    #expect(try rig.run([0x1B, 0, 0, 0, 2, 0]).status == 0)
    #expect(!rig.drive.hasMedium)
    #expect(rig.ejections.count.load(ordering: .relaxed) == 1)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).failure == [2, 0x3A, 2])
    let removal = try rig.run([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], room: 8)
    #expect(removal.data == [0, 6, 4, 0x10, 3, 1, 0, 0])
  }

  @Test func newDiscIsReportedOnce() throws {
    let rig = try Rig(isEmpty: true)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).failure == [2, 0x3A, 1])
    #expect(try rig.run([0x25], room: 8).failure == [2, 0x3A, 1])
    rig.drive.insert(rig.disc)
    // INQUIRY never trips over it.
    #expect(try rig.run([0x12, 0, 0, 0, 36, 0], room: 36).status == 0)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).failure == [6, 0x28, 0])
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).status == 0)
    let event = try rig.run([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], room: 8)
    #expect(event.data[4] == 2)
    #expect(try rig.run([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], room: 8).data[4] == 0)
    rig.drive.insert(rig.disc)
    let sense = try rig.run([0x03, 0, 0, 0, 18, 0], room: 18)
    #expect(sense.data[2] == 6 && sense.data[12] == 0x28)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).status == 0)
  }

  @Test func tableOfContentsHasOneDataTrack() throws {
    let rig = try Rig()
    let blocks = try rig.run([0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0], room: 100)
    #expect(
      blocks.data == [
        0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 2, 0,
      ])
    // 512 blocks and two seconds are 0:08.62.
    let times = try rig.run([0x43, 2, 0, 0, 0, 0, 0xAA, 0, 100, 0], room: 100)
    #expect(times.data == [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 8, 62])
    #expect(try rig.run([0x43, 0, 1, 0, 0, 0, 0, 0, 100, 0], room: 100).data.count == 12)
    #expect(try rig.run([0x43, 0, 2, 0, 0, 0, 0, 0, 100, 0], room: 100).data.count == 48)
    #expect(try rig.run([0x43, 0, 0, 0, 0, 0, 9, 0, 100, 0], room: 100).failure == [5, 0x24, 0])
  }

  @Test func driveDescribesItself() throws {
    let rig = try Rig()
    let configuration = try rig.run([0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0], room: 256)
    #expect(configuration.data[7] == 0x08, "a CD-ROM is in")
    #expect(Int(configuration.data[3]) + 4 == configuration.data.count)
    let mode = try rig.run([0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 128, 0], room: 128)
    #expect(mode.data[8] == 0x2A && Int(mode.data[1]) + 2 == mode.data.count)
    #expect(try rig.run([0x1A, 0, 0x3F, 0, 255, 0], room: 255).status == 0)
    #expect(try rig.run([0x1A, 0, 0x05, 0, 255, 0], room: 255).failure == [5, 0x24, 0])
    for page in [0, 0x80, 0x83] as [UInt8] {
      let answer = try rig.run([0x12, 1, page, 0, 255, 0], room: 255)
      #expect(answer.data[1] == page && Int(answer.data[3]) + 4 == answer.data.count)
    }
    #expect(try rig.run([0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0], room: 34).data.count == 34)
    let capacity = try rig.run([0x9E, 0x10] + [UInt8](repeating: 0, count: 11) + [32], room: 32)
    #expect(capacity.data.count == 32 && capacity.data[6] == 1 && capacity.data[7] == 0xFF)
  }

  @Test func driverChoosesTheSizesOfSenseAndCommand() throws {
    let rig = try Rig()
    #expect(rig.driver.deviceConfiguration(20, .doubleword) == 96)
    rig.driver.writeModern(0x2000 + 20, 10_000, .doubleword)
    rig.driver.writeModern(0x2000 + 24, 0, .doubleword)
    #expect(rig.driver.deviceConfiguration(20, .doubleword) == 96)
    #expect(rig.driver.deviceConfiguration(24, .doubleword) == 32)
    rig.driver.writeModern(0x2000 + 20, 0, .doubleword)
    let request = rig.driver.bufferBase
    try rig.board.memory.write(
      [1, 0, 0x40, 0] + [UInt8](repeating: 0, count: 47), at: GuestAddress(request))
    // With no sense at all the response is 12 bytes; here in pieces of one.
    let pieces = (0..<12).map {
      VirtioTestDriver.Buffer(address: request + 0x1000 + $0, length: 1, isWritable: true)
    }
    #expect(rig.driver.run(2, [.init(address: request, length: 51)] + pieces) == 12)
  }

  @Test func taskManagementAnswersAndResetsTheUnit() throws {
    let rig = try Rig()
    func manage(_ subtype: UInt32, target: UInt8 = 0) throws -> UInt8? {
      let request = rig.driver.bufferBase
      rig.board.memory.store(UInt32(0), at: GuestAddress(request))
      rig.board.memory.store(subtype, at: GuestAddress(request + 4))
      try rig.board.memory.write(
        [1, target, 0x40, 0] + [UInt8](repeating: 0, count: 12), at: GuestAddress(request + 8))
      let answer = request + 0x1000
      #expect(
        rig.driver.run(
          0,
          [
            .init(address: request, length: 24),
            .init(address: answer, length: 1, isWritable: true),
          ]
        ) == 1)
      return rig.board.memory.load(at: GuestAddress(answer))
    }
    #expect(try manage(0) == 0)
    #expect(try manage(99) == 11)
    #expect(try manage(0, target: 9) == 3)
    #expect(try manage(5) == 0)
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).failure == [6, 0x29, 0])
    #expect(try rig.run([0, 0, 0, 0, 0, 0]).status == 0)
  }

  @Test func requestWithoutRoomForTheResponseAsksForAReset() throws {
    let rig = try Rig()
    rig.driver.chain(
      2,
      [
        .init(address: rig.driver.bufferBase, length: 51),
        .init(address: rig.driver.bufferBase + 0x1000, length: 107, isWritable: true),
      ])
    rig.driver.offer(2, head: 0)
    rig.driver.kick(2)
    #expect(eventually { rig.driver.status & 0x40 != 0 })
  }
}
