import Devices
import GuestMemory
import Synchronization
import Testing

@Suite struct AHCITests {
  typealias Driver = AHCITestDriver
  typealias Port = AHCITestDriver.Port
  static let diskSize = 1 << 20

  let disk = MemoryDisk(size: AHCITests.diskSize)

  func rig() throws -> Driver {
    let driver = try Driver([.disk(ATADisk(backend: disk, serial: "SERIAL-7"))])
    #expect(driver.start())
    return driver
  }

  // MARK: Finding it

  @Test("the function and its registers are those of an AHCI adapter") func identity() throws {
    let driver = try Driver([.disk(ATADisk(backend: disk))])
    let board = driver.board
    #expect(board.config(Driver.slot, 0) == 0x2922_8086)
    #expect(board.config(Driver.slot, 8) == 0x0106_0102)
    #expect(driver.read(0x10) == 0x0001_0301)
    #expect(driver.read(0x0C) == 1)
    let capabilities = driver.read(0)
    #expect(capabilities & 0x1F == 0 && capabilities >> 8 & 0x1F == 31)
    #expect(capabilities & 1 << 30 != 0 && capabilities & 1 << 31 != 0)
    // Before anything: a device on the link that has not spoken yet.
    #expect(driver[Port.status] == 0x133 && driver[Port.taskFile] == 0x7F)
    #expect(driver[Port.signature] == .max)
    #expect(driver.start())
    #expect(driver[Port.taskFile] == 0x0150 && driver[Port.signature] == 0x0000_0101)
    #expect(driver.bytes(Driver.frames + 0x40, 4) == [0x34, 0, 0x50, 1])
  }

  @Test("IDENTIFY DEVICE tells size, serial number, queue and trim") func identify() throws {
    let driver = try rig()
    driver.prepare(command: 0xEC)
    #expect(driver.runs())
    let sectors = UInt64(Self.diskSize / 512)
    var told: UInt64 = 0
    for index in 0..<4 { told |= UInt64(driver.word(100 + index)) << UInt64(16 * index) }
    #expect(told == sectors)
    let short = UInt64(driver.word(60)) + UInt64(driver.word(61)) * 65536
    #expect(short == sectors)
    var serial: [UInt8] = []
    for index in 10..<20 {
      serial.append(UInt8(driver.word(index) >> 8))
      serial.append(UInt8(driver.word(index) & 0xFF))
    }
    #expect(serial == Array("SERIAL-7".utf8) + [UInt8](repeating: 0x20, count: 12))
    #expect(driver.word(75) == 31 && driver.word(76) & 1 << 8 != 0)
    #expect(driver.word(169) & 1 == 1 && driver.word(105) == 8)
    let sum = driver.bytes(driver.data(), 512).reduce(0 as UInt8) { $0 &+ $1 }
    #expect(sum == 0 && driver.word(255) & 0xFF == 0xA5)
    // Programmed data ends by its setup frame.
    #expect(driver[Port.interruptStatus] & 3 == 2)
    #expect(driver.bytes(Driver.frames + 0x20, 3) == [0x5F, 0x60, 0x58])
    #expect(driver.transferred == 512)
  }

  // MARK: Data

  @Test(
    "reads in every protocol give the sectors that were asked for, over several pieces",
    arguments: [
      (UInt8(0x25), UInt64(5), UInt16(3), UInt8(0x40)), (0xC8, 5, 3, 0x40), (0x20, 5, 3, 0x40),
      (0x24, 5, 3, 0x40), (0xC4, 5, 3, 0x40),
      // Sector 6 of head 0 on cylinder 0.
      (0xC8, 6, 3, 0x00),
    ])
  func reads(_ command: UInt8, _ block: UInt64, _ count: UInt16, _ device: UInt8) throws {
    let driver = try rig()
    let first = driver.data()
    driver.prepare(
      command: command, block: block, count: count, device: device,
      pieces: [
        .init(address: first, count: 512), .init(address: first + 0x1000, count: 2),
        .init(address: first + 0x2000, count: 1022),
      ])
    #expect(driver.runs())
    #expect(driver.transferred == 1536)
    #expect(driver.isFilled(first, 512, with: 5))
    // Only two bytes of the second piece are written.
    let cut = driver.bytes(first + 0x1000, 3)
    #expect(cut == [6, 6, 0])
    #expect(driver.isFilled(first + 0x2000, 510, with: 6))
    #expect(driver.isFilled(first + 0x2000 + 510, 512, with: 7))
  }

  @Test("a write reaches the disk; forced unit access and a cache that is off flush it")
  func writes() throws {
    let driver = try rig()
    func write(_ command: UInt8, block: UInt64, value: UInt8) {
      for index in UInt64(0)..<512 {
        driver.memory.store(value, at: GuestAddress(driver.data() + index))
      }
      driver.prepare(command: command, block: block, count: 1, writes: true)
      #expect(driver.runs())
      let written = disk.contents.withLock { $0.bytes[Int(block) * 512 + 511] }
      #expect(written == value)
    }
    func flushes() -> Int { disk.contents.withLock { $0.flushes } }
    write(0x35, block: 9, value: 0xA1)
    #expect(flushes() == 0)
    write(0x3D, block: 9, value: 0xA2)
    #expect(flushes() == 1)
    driver.prepare(command: 0xEF, features: 0x82, length: 0)
    #expect(driver.runs())
    write(0xCA, block: 10, value: 0xA3)
    #expect(flushes() == 2)
    driver.prepare(command: 0xEF, features: 0x02, length: 0)
    #expect(driver.runs())
    driver.prepare(command: 0xEA, length: 0)
    #expect(driver.runs())
    #expect(flushes() == 3)
  }

  @Test("TRIM gives ranges back, and none of them when one is outside") func trim() throws {
    let driver = try rig()
    func ask(_ ranges: [UInt64]) {
      for index in 0..<64 {
        let range: UInt64 = index < ranges.count ? ranges[index] : 0
        driver.memory.store(range, at: GuestAddress(driver.data() + 8 * UInt64(index)))
      }
      driver.prepare(command: 0x06, count: 1, features: 1, writes: true)
    }
    ask([8 << 48 | 16, 1 << 48 | 100])
    #expect(driver.runs())
    let discarded = disk.contents.withLock { $0.discarded }
    let expected: [Range<UInt64>] = [8192..<12288, 51200..<51712]
    #expect(discarded == expected)
    ask([8 << 48 | 16, 2 << 48 | 2047])
    #expect(driver.fails(with: 30))
    #expect(disk.contents.withLock { $0.discarded.count } == 2)
  }

  @Test("queued commands run together and are reported by tag") func queue() throws {
    let held = try HeldDisk()
    let driver = try Driver([.disk(ATADisk(backend: held))])
    #expect(driver.start())
    for slot in [UInt32(3), 7, 31] {
      driver.prepare(
        slot, command: 0x60, block: UInt64(slot), count: UInt16(slot) << 3, features: 1)
    }
    for slot in [UInt32(3), 7, 31] { driver.issue(slot, queued: true) }
    #expect(eventually { held.waiting.withLock { $0.count } == 3 })
    // Taken by the device, not done.
    #expect(eventually { driver[Port.issue] == 0 })
    #expect(driver[Port.active] == 0x8000_0088)
    driver[Port.interruptStatus] = .max
    held.finish()
    #expect(eventually { driver[Port.active] == 0 })
    #expect(driver[Port.interruptStatus] & 8 == 8)
    #expect(driver.bytes(Driver.frames + 0x58, 3) == [0xA1, 0x40, 0x50])
    for slot in [UInt32(3), 7, 31] {
      #expect(driver.isFilled(driver.data(slot), 512, with: UInt8(slot)))
    }
  }

  @Test("a queued command that fails ends the queue, and the log names it") func queueError() throws
  {
    let held = try HeldDisk()
    let driver = try Driver([.disk(ATADisk(backend: held))])
    #expect(driver.start())
    for slot in [UInt32(2), 4] {
      driver.prepare(slot, command: 0x60, block: 77, count: UInt16(slot) << 3, features: 1)
      driver.issue(slot, queued: true)
    }
    #expect(eventually { held.waiting.withLock { $0.count } == 2 })
    held.finish(.system(5))
    #expect(eventually { driver[Port.interruptStatus] & 1 << 30 != 0 })
    // Nothing is taken back: the driver sees which were under way.
    #expect(driver[Port.active] == 0x14)
    #expect(driver[Port.taskFile] == 0x4041)
    held.isHeld.store(false, ordering: .releasing)
    #expect(driver.recover())
    #expect(driver[Port.active] == 0)
    driver.prepare(command: 0x2F, block: 0x10, count: 1)
    #expect(driver.runs())
    let log = driver.bytes(driver.data(), 512)
    #expect(log[0] == 4 && log[3] == 0x40 && log[4] == 77)
    driver.prepare(command: 0x2F, block: 0x10, count: 1)
    #expect(driver.runs())
    #expect(driver.bytes(driver.data(), 1) == [0x80])
  }

  // MARK: Interrupts

  @Test("INTA# follows IS and GHC.IE; a message comes for news only, and waits while masked")
  func interrupts() throws {
    let driver = try rig()
    let board = driver.board
    for register in 0x60..<0x64 { board.setConfig(1, register, 11, .byte) }
    driver.prepare(command: 0xEC)
    #expect(driver.runs())
    #expect(eventually { board.sink.level(11) })
    driver.write(0x08, 1)
    #expect(board.sink.level(11), "the port still has something")
    driver[Port.interruptStatus] = .max
    driver.write(0x08, 1)
    #expect(!board.sink.level(11))

    let capability = try #require(
      board.capability(Driver.slot) { board.config(Driver.slot, $0, .byte) == 5 })
    board.setConfig(Driver.slot, capability + 4, 0xFEE0_1000)
    board.setConfig(Driver.slot, capability + 12, 0x4041, .word)
    board.setConfig(Driver.slot, capability + 2, 1, .word)
    #expect(driver.runs())
    #expect(eventually { !board.sink.messages.isEmpty })
    let message = board.sink.messages[0]
    #expect(board.sink.messages.count == 1)
    #expect(message.address == 0xFEE0_1000 && message.data == 0x4041)
    #expect(!board.sink.level(11))
    // A port that stays ready is told again when its bit is cleared.
    driver.write(0x08, 1)
    #expect(board.sink.messages.count == 2)
    driver[Port.interruptStatus] = .max
    driver.write(0x08, 1)
    #expect(board.sink.messages.count == 2)
    board.setConfig(Driver.slot, capability + 16, 1)
    #expect(driver.runs())
    #expect(eventually { board.config(Driver.slot, capability + 20) == 1 })
    #expect(board.sink.messages.count == 2)
    board.setConfig(Driver.slot, capability + 16, 0)
    #expect(board.sink.messages.count == 3)
    #expect(board.config(Driver.slot, capability + 20) == 0)
  }

  // MARK: Resets and snapshots

  @Test("stopping, resetting the link and resetting the adapter let go of commands in flight")
  func resets() throws {
    let held = try HeldDisk()
    let driver = try Driver([.disk(ATADisk(backend: held))])
    #expect(driver.start())
    driver.prepare(command: 0x25, count: 1)
    driver.issue()
    #expect(eventually { held.waiting.withLock { $0.count } == 1 })
    driver[Port.command] = 1 << 4
    #expect(driver[Port.issue] == 0)
    // The disk still writes to memory: the engine says that it runs.
    #expect(driver[Port.command] & 1 << 15 != 0)
    held.isHeld.store(false, ordering: .releasing)
    #expect(eventually { driver[Port.command] & 1 << 15 == 0 })
    #expect(driver[Port.interruptStatus] & 1 == 0, "what was stopped is not reported")

    driver[Port.control] = 0x301
    #expect(driver[Port.status] == 0)
    driver[Port.control] = 0x300
    #expect(driver[Port.status] == 0x133 && driver[Port.error] & 1 << 26 != 0)
    #expect(eventually { driver[Port.taskFile] == 0x0150 })

    held.isHeld.store(true, ordering: .releasing)
    #expect(driver.recover())
    driver.issue()
    #expect(eventually { held.waiting.withLock { $0.count } == 1 })
    driver.write(0x04, 1 << 31 | 1)
    #expect(driver.read(0x04) & 1 == 1)
    held.isHeld.store(false, ordering: .releasing)
    #expect(eventually { driver.read(0x04) == 1 << 31 })
    #expect(driver[Port.command] == 6)
    #expect(driver[Port.active] == 0)
    #expect(driver.start())
    driver.prepare(command: 0xEC)
    #expect(driver.runs())
  }

  @Test("software reset by two control frames gives the signature again") func softReset() throws {
    let driver = try rig()
    driver.prepare(0, command: 0, length: 0, isCommand: false, control: 4, clearsBusy: true)
    driver.prepare(1, command: 0, length: 0, isCommand: false, control: 0)
    driver.memory.store(UInt32(0), at: GuestAddress(Driver.frames + 0x40))
    driver[Port.issue] = 1
    #expect(eventually { driver[Port.issue] == 0 })
    driver[Port.issue] = 2
    #expect(eventually { driver[Port.issue] == 0 && driver[Port.taskFile] == 0x0150 })
    #expect(driver.bytes(Driver.frames + 0x40, 4) == [0x34, 0, 0x50, 1])
  }

  @Test("a restored adapter goes on with the commands of its list") func snapshot() throws {
    let driver = try rig()
    driver.prepare(command: 0x25, block: 12, count: 1)
    driver.controller.pause()
    driver.issue()
    let state = driver.controller.saveState()
    let bus = driver.board.host.saveState()
    driver.controller.resume()
    #expect(eventually { driver[Port.issue] == 0 })

    let second = try Driver([.disk(ATADisk(backend: disk))])
    second.prepare(command: 0x25, block: 12, count: 1)
    second.controller.pause()
    second.board.host.restoreState(bus)
    second.controller.restoreState(state)
    #expect(second[Port.issue] == 1)
    second.controller.resume()
    #expect(eventually { second[Port.issue] == 0 })
    #expect(second.isFilled(second.data(), 512, with: 12))
  }
}
