import Devices
import GuestMemory
import Synchronization
import Testing

/// Drivers that break the rules: an error bit says so, and the port works again after a restart.
@Suite struct AHCIViolationTests {
  typealias Driver = AHCITestDriver
  typealias Port = AHCITestDriver.Port

  let disk = MemoryDisk(size: 1 << 20)

  private func rig() throws -> Driver {
    let driver = try Driver([.disk(ATADisk(backend: disk))])
    #expect(driver.start())
    return driver
  }

  private func works(_ driver: Driver) -> Bool {
    guard driver.recover() else { return false }
    driver.prepare(command: 0x25, block: 3, count: 1)
    return driver.runs() && driver.isFilled(driver.data(), 512, with: 3)
  }

  @Test("a table or list outside of RAM is a fatal error of the host bus") func addresses() throws {
    let driver = try rig()
    for table: UInt64 in [0x0FFF_FF80, 1 << 63, .max, 0x00FF_FF80] {
      driver.prepare(command: 0x25, count: 1)
      driver.memory.store(table, at: GuestAddress(Driver.list + 8))
      #expect(driver.fails(with: 29), "table at \(table)")
      #expect(works(driver), "after a table at \(table)")
    }
    #expect(driver.stop())
    driver[Port.list + 4] = .max
    driver[Port.command] = 1 << 4 | 1
    #expect(driver.fails(with: 29))
    driver[Port.list + 4] = 0
    #expect(works(driver))
    #expect(driver.stop())
    driver[Port.frames + 4] = 7
    driver[Port.command] = 1 << 4 | 1
    driver.prepare(command: 0x25, count: 1)
    #expect(driver.fails(with: 29))
    driver[Port.frames + 4] = 0
    #expect(works(driver))
  }

  @Test("data outside of RAM is a fatal data error, and too little room an overflow")
  func data() throws {
    let driver = try rig()
    for address: UInt64 in [16 << 20, (16 << 20) - 2, 1 << 40, .max] {
      driver.prepare(command: 0x25, count: 1, pieces: [.init(address: address, count: 512)])
      #expect(driver.fails(with: 28), "data at \(address)")
      #expect(works(driver))
    }
    driver.prepare(command: 0x25, count: 2, length: 512)
    #expect(driver.fails(with: 24))
    #expect(works(driver))
    driver.prepare(command: 0x35, count: 2, length: 0, writes: true)
    #expect(driver.fails(with: 24))
    #expect(works(driver))
    driver.prepare(command: 0xEC, length: 16)
    #expect(driver.fails(with: 24))
    #expect(works(driver))
  }

  @Test("sectors beyond the end are not found, whatever the numbers") func sectors() throws {
    let driver = try rig()
    for (command, block, count): (UInt8, UInt64, UInt16) in [
      (0x25, 2048, 1), (0x25, 2047, 2), (0x25, 0, 0), (0x25, (1 << 48) - 1, 0xFFFF),
      (0x35, 2048, 1), (0xC8, 0x00FF_FFFF, 0), (0x42, 2048, 1), (0x24, 1 << 47, 1),
    ] {
      driver.prepare(command: command, block: block, count: count, writes: command == 0x35)
      #expect(driver.fails(with: 30), "\(command) \(block) \(count)")
      #expect(driver[Port.taskFile] & 0xFFFF == 0x1051)
      #expect(works(driver))
    }
  }

  @Test("frames that are no command, unknown commands, wrong tags") func frames() throws {
    let driver = try rig()
    driver.prepare(command: 0x25, count: 1)
    driver.memory.store(UInt8(0x46), at: GuestAddress(Driver.tables))
    #expect(driver.fails(with: 27))
    #expect(works(driver))
    driver.prepare(command: 0x25, count: 1)
    driver.memory.store(UInt32(1 << 16 | 2), at: GuestAddress(Driver.list))
    #expect(driver.fails(with: 27))
    #expect(works(driver))
    for command: UInt8 in [0x00, 0xFF, 0xA0, 0xA1, 0xF1, 0x92] {
      driver.prepare(command: command)
      #expect(driver.fails(with: 30))
      #expect(driver[Port.taskFile] & 0xFFFF == 0x0451, "\(command)")
      #expect(works(driver))
    }
    driver.prepare(0, command: 0x60, count: 5 << 3, features: 1)
    driver.issue(0, queued: true)
    #expect(eventually { driver[Port.interruptStatus] & 1 << 30 != 0 })
    #expect(works(driver))
    driver.prepare(0, command: 0x61, block: 4000, count: 0, features: 1, writes: true)
    driver.issue(0, queued: true)
    #expect(eventually { driver[Port.interruptStatus] & 1 << 30 != 0 })
    #expect(works(driver))
  }

  @Test("65535 descriptors of two bytes, and registers that are not there") func bounds() throws {
    let driver = try rig()
    driver.prepare(command: 0x25, block: 0, count: 256, length: 0)
    // The table grows into what lies behind it, up to the end of memory.
    let table: UInt64 = 0x40_0000
    for index in 0..<0x80 as Range<UInt64> {
      let byte = driver.memory.load(UInt8.self, at: GuestAddress(Driver.tables + index)) ?? 0
      driver.memory.store(byte, at: GuestAddress(table + index))
    }
    for index in 0..<65_535 as Range<UInt64> {
      driver.memory.store(0x80_0000 + 2 * index, at: GuestAddress(table + 0x80 + 16 * index))
      driver.memory.store(UInt64(1) << 32, at: GuestAddress(table + 0x88 + 16 * index))
    }
    driver.memory.store(table, at: GuestAddress(Driver.list + 8))
    driver.memory.store(UInt32(65_535 << 16 | 5), at: GuestAddress(Driver.list))
    // 131070 bytes are not 256 sectors.
    #expect(driver.fails(with: 24))
    #expect(driver.recover())
    let narrow = driver.tables255(at: table)
    driver.memory.store(narrow, at: GuestAddress(table + 12))
    #expect(driver.runs())
    #expect(driver.isFilled(0x80_0000 + 254 * 512, 512, with: 254))
    for register: UInt64 in [0x14, 0x28, 0x2C, 0x60, 0xFF, 0x17C, 0x180, 0x10FC, 0x1FFC] {
      driver.write(register, .max)
      _ = driver.read(register)
    }
    for offset in 0..<64 as Range<UInt64> {
      _ = driver.board.load(Driver.base + 0x1FF8 &+ offset % 8, .quadword)
      driver.board.store(Driver.base + 0x100 + offset, 0, .byte)
    }
  }

  @Test("a read-only disk refuses writes and trims; errors of the disk are told") func errors()
    throws
  {
    let driver = try Driver([.disk(ATADisk(backend: MemoryDisk(size: 1 << 20, isReadOnly: true)))])
    #expect(driver.start())
    for command: UInt8 in [0x35, 0x30, 0x06] {
      driver.prepare(
        command: command, count: 1, features: command == 6 ? 1 : 0, writes: true)
      #expect(driver.fails(with: 30))
      #expect(driver[Port.taskFile] & 0xFF00 == 0x0400)
      #expect(driver.recover())
    }
    let bad = try rig()
    disk.contents.withLock { $0.failure = .system(5) }
    bad.prepare(command: 0x25, block: 40, count: 1)
    #expect(bad.fails(with: 30))
    #expect(bad[Port.taskFile] & 0xFFFF == 0x4051)
    #expect(bad.bytes(Driver.frames + 0x44, 1) == [40])
    disk.contents.withLock { $0.failure = nil }
    #expect(works(bad))
  }
}

/// A disk whose read takes as long as the test wants.
private final class SlowDisk: BlockBackend {
  let size: UInt64 = 1 << 20
  let isReadOnly = true
  let hasBegun = Atomic<Bool>(false)
  let mayEnd = Atomic<Bool>(false)

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) {
    hasBegun.store(true, ordering: .releasing)
    _ = eventually { mayEnd.load(ordering: .acquiring) }
  }
  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) {}
  func flush() {}
  func discard(at offset: UInt64, count: UInt64) {}
  func writeZeroes(at offset: UInt64, count: UInt64) {}
  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? { nil }
}

@Suite struct AHCIEndTests {
  @Test("an adapter that loses its owner during a command ends with the command")
  func ownerGoesFirst() throws {
    let disk = SlowDisk()
    var driver: AHCITestDriver? = try AHCITestDriver([.disk(ATADisk(backend: disk))])
    weak let controller = driver?.controller
    #expect(driver?.start() == true)
    driver?.prepare(command: 0x25, block: 8, count: 1)
    driver?.issue()
    #expect(eventually { disk.hasBegun.load(ordering: .acquiring) })
    driver = nil
    #expect(controller != nil)
    disk.mayEnd.store(true, ordering: .releasing)
    #expect(eventually { controller == nil })
  }
}

extension AHCITestDriver {
  /// The count byte of the frame at `table` that makes 255 sectors.
  func tables255(at table: UInt64) -> UInt8 {
    memory.store(UInt8(0), at: GuestAddress(table + 13))
    return 255
  }
}

/// The optical drive behind PACKET.
@Suite struct AHCIPacketTests {
  typealias Driver = AHCITestDriver
  typealias Port = AHCITestDriver.Port

  private func rig() throws -> (Driver, OpticalDrive) {
    let drive = OpticalDrive(medium: MemoryDisk(size: 1 << 20))
    let driver = try Driver([.optical(drive)])
    #expect(driver.start())
    return (driver, drive)
  }

  @Test("signature, IDENTIFY PACKET DEVICE, and what disks answer is refused") func identity()
    throws
  {
    let (driver, _) = try rig()
    #expect(driver[Port.signature] == 0xEB14_0101)
    driver.prepare(command: 0xA1)
    #expect(driver.runs())
    #expect(driver.word(0) == 0x85C0)
    driver.prepare(command: 0xEC)
    #expect(driver.fails(with: 30))
    #expect(driver.bytes(Driver.frames + 0x45, 2) == [0x14, 0xEB])
  }

  @Test("READ (10) gives blocks; a failed packet keeps its sense until it is asked for")
  func packets() throws {
    let (driver, drive) = try rig()
    driver.prepare(
      command: 0xA0, features: 1, length: 4096, packet: [0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0])
    #expect(driver.runs())
    #expect(driver.transferred == 4096)
    #expect(driver.isFilled(driver.data(), 512, with: 12))
    #expect(driver.bytes(Driver.frames + 0x4C, 1) == [3], "the reason register says: done")
    // Programmed, less than there is room for.
    driver.prepare(command: 0xA0, length: 96, packet: [0x12, 0, 0, 0, 96, 0])
    driver[Port.interruptStatus] = .max
    #expect(driver.runs())
    #expect(driver.transferred == 36 && driver[Port.interruptStatus] & 3 == 3)

    driver.prepare(
      command: 0xA0, features: 1, length: 2048, packet: [0x28, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    #expect(driver.fails(with: 30))
    #expect(driver[Port.taskFile] >> 12 & 0xF == 5)
    #expect(driver.recover())
    func sense() -> [UInt8] {
      driver.prepare(command: 0xA0, length: 18, packet: [0x03, 0, 0, 0, 18, 0])
      #expect(driver.runs())
      let bytes = driver.bytes(driver.data(), 18)
      return [bytes[2], bytes[12]]
    }
    #expect(sense() == [5, 0x21])
    #expect(sense() == [0, 0])
    drive.eject()
    driver.prepare(command: 0xA0, length: 0, packet: [0x00])
    #expect(driver.fails(with: 30))
    #expect(driver.recover())
    #expect(sense() == [2, 0x3A])
  }
}
