// Virtqueues: chains that are nearly right, in the hands of a driver that changes its mind.

import Devices
import GuestMemory
import Processor

extension DeviceFuzzer {
  /// A chain that is mostly right, with one thing wrong now and then.
  func accessQueue() { accessQueue(of: Int(random.below(UInt64(drivers.count)))) }

  func accessQueue(of which: Int) {
    report.virtqueues += 1
    let queue = Int(random.below(UInt64(drivers[which].queueCount)))
    guard queue < drivers[which].queues.count, drivers[which].queues[queue].size > 0 else {
      return start(which)
    }
    let size = UInt64(drivers[which].queues[queue].size)
    let first = Int(random.below(size))
    let driver = drivers[which]
    var buffers = makeBuffers(driver)
    if board.transports[which].device is VirtioSocket {
      makeSocketBuffers(&buffers, queue)
    } else if board.transports[which].device is VirtioBalloon {
      makeBalloonBuffers(&buffers, queue, driver)
    } else if board.transports[which].device is VirtioNetwork, !random.rarely(8) {
      makeNetworkBuffers(&buffers, queue, driver)
    } else {
      writeHeader(at: buffers[0].address)
      if random.rarely(2) { buffers[0].length = random.pick([8, 16, 24, 51]) }
      if random.rarely(2) { buffers[buffers.count - 1] = lastBuffer(buffers, driver) }
    }
    let table = random.rarely(4) ? driver.bufferBase + FuzzDriver.bufferSize - 0x1_0000 : nil
    driver.chain(queue, buffers, first: first, indirect: table)
    if random.rarely(64) { corrupt(driver, queue, first, table) }
    let head = random.rarely(128) ? UInt16(truncatingIfNeeded: value()) : UInt16(first)
    drivers[which].offer(queue, head: head)
    if random.rarely(512) {
      board.memory.store(
        UInt16(truncatingIfNeeded: value()),
        at: GuestAddress(driver.queues[queue].available + 2))
    }
    if random.rarely(2) { driver.kick(random.rarely(64) ? random.below(80) : UInt64(queue)) }
    if random.rarely(8) { scribble(driver, queue) }
    if random.rarely(8) { notice(which) }
  }

  func makeBuffers(_ driver: FuzzDriver) -> [FuzzDriver.Buffer] {
    let count = random.rarely(64) ? 40 : 1 + Int(random.below(5))
    let writable = Int(random.below(UInt64(count + 1)))
    return (0..<count).map { index in
      let isOdd = random.rarely(200)
      return FuzzDriver.Buffer(
        address: isOdd ? value() : driver.bufferBase + random.below(FuzzDriver.bufferSize / 2),
        length: isOdd
          ? UInt32(truncatingIfNeeded: value())
          : UInt32(random.rarely(8) ? 1 + random.below(1 << 16) : 512 * (1 + random.below(3))),
        isWritable: index >= writable)
    }
  }

  /// Something that some device takes for a header: block request, SCSI command, console control message.
  func writeHeader(at address: UInt64) {
    let memory = board.memory
    memory.store(random.rarely(4) ? value() : random.below(15), at: GuestAddress(address))
    memory.store(
      random.rarely(16) ? value() : random.below(4096), at: GuestAddress(address &+ 8))
    guard random.rarely(2) else { return }
    // virtio-scsi: LUN, tag, attributes, then the command block at 19.
    memory.store(UInt64(random.rarely(8) ? random.next() : 0x4000_0001), at: GuestAddress(address))
    memory.store(
      random.pick(Self.commands), at: GuestAddress(address &+ 19))
    for offset in 20..<35 as Range<UInt64> where random.rarely(3) {
      memory.store(UInt8(truncatingIfNeeded: value()), at: GuestAddress(address &+ offset))
    }
  }

  /// Page numbers, figures or free pages, mostly of the balloon's own buffers: pages of other devices' rings would keep them
  /// from their work.
  private func makeBalloonBuffers(
    _ buffers: inout [FuzzDriver.Buffer], _ queue: Int, _ driver: FuzzDriver
  ) {
    let memory = board.memory
    func page() -> UInt32 {
      let own = (driver.bufferBase + random.below(FuzzDriver.bufferSize)) >> 12
      return UInt32(truncatingIfNeeded: random.rarely(16) ? value() : own)
    }
    switch queue {
    case 0, 1:
      let address = buffers[0].address
      for offset in stride(from: UInt64(0), to: 64, by: 4) {
        memory.store(page(), at: GuestAddress(address &+ offset))
      }
    case 2:
      let address = buffers[0].address
      for offset in stride(from: UInt64(0), to: 60, by: 10) {
        memory.store(UInt16(random.below(20)), at: GuestAddress(address &+ offset))
        memory.store(value(), at: GuestAddress(address &+ offset &+ 2))
      }
      if random.rarely(4) { _ = board.balloon.report() }
    default:
      for index in buffers.indices where !random.rarely(8) {
        buffers[index].isWritable = true
        buffers[index].address = UInt64(page()) << 12
        buffers[index].length = UInt32(random.below(5) + 1) << 12
      }
    }
  }

  /// Room for a packet, or a packet; as other devices have it now and then.
  private func makeSocketBuffers(_ buffers: inout [FuzzDriver.Buffer], _ queue: Int) {
    if !random.rarely(64) {
      buffers = [buffers[0]]
      buffers[0].isWritable = queue != 1
      if queue != 1, !random.rarely(64) { buffers[0].length = 4096 }
    }
    if queue == 1 { writePacket(into: &buffers[0]) }
  }

  /// A packet of a socket device, mostly of a connection that is there or could be.
  private func writePacket(into buffer: inout FuzzDriver.Buffer) {
    let memory = board.memory
    let length = random.rarely(2) ? 0 : random.below(4096)
    let address = buffer.address
    if !random.rarely(8) { buffer.length = UInt32(44 + length) }
    func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ offset: UInt64) {
      memory.store(value, at: GuestAddress(address &+ offset))
    }
    func odd(_ value: UInt64) -> UInt64 { random.rarely(64) ? self.value() : value }
    put(odd(UInt64(FuzzBoard.contextIdentifier)), 0)
    put(odd(2), 8)
    put(UInt32(truncatingIfNeeded: odd(random.below(4))), 16)
    // The ports of programs, and those that are given to clients.
    let port = random.rarely(4) ? (1 << 30) + random.below(16) : random.below(5)
    put(UInt32(truncatingIfNeeded: odd(port)), 20)
    put(UInt32(truncatingIfNeeded: odd(length)), 24)
    put(UInt16(truncatingIfNeeded: odd(1)), 28)
    put(UInt16(truncatingIfNeeded: odd(random.pick([1, 1, 2, 3, 4, 5, 5, 5, 6, 7]))), 30)
    put(UInt32(truncatingIfNeeded: odd(random.below(4))), 32)
    put(UInt32(truncatingIfNeeded: odd(1 << 18)), 36)
    put(UInt32(truncatingIfNeeded: value()), 40)
  }

  /// Operation codes of MMC and SPC, and one that nobody knows.
  static let commands: [UInt8] = [
    0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x23, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x52,
    0x55, 0x5A, 0x9E, 0xA0, 0xA8, 0xAD, 0xBD, 0xBE, 0xFF,
  ]

  /// A status byte, as block requests end.
  func lastBuffer(
    _ buffers: [FuzzDriver.Buffer], _ driver: FuzzDriver
  ) -> FuzzDriver.Buffer {
    FuzzDriver.Buffer(
      address: driver.bufferBase + FuzzDriver.bufferSize / 2 + random.below(4096), length: 1,
      isWritable: true)
  }

  /// Loops, no bytes, no RAM, tables inside tables.
  func corrupt(_ driver: FuzzDriver, _ queue: Int, _ first: Int, _ table: UInt64?) {
    let ring = driver.queues[queue].descriptors
    let target = table ?? ring
    let number = table == nil ? first : Int(random.below(3))
    let inside = driver.bufferBase + random.below(4096)
    func put(_ address: UInt64, _ length: UInt32, _ flags: UInt16, _ next: UInt16) {
      driver.describe(
        target, number, .init(address: address, length: length, isWritable: false), flags: flags,
        next: next)
    }
    switch random.below(8) {
    case 0: put(inside, 16, FuzzDriver.Flag.next, UInt16(number))
    case 1: put(inside, 0, 0, 0)
    case 2: put(FuzzBoard.memorySize &- 1, 2, 0, 0)
    case 3: put(.max, .max, 0, 0)
    case 4: put(target, 16, FuzzDriver.Flag.indirect, 0)
    case 5:
      put(inside, UInt32(random.below(64)), FuzzDriver.Flag.indirect | FuzzDriver.Flag.next, 0)
    case 6: put(inside, 16, FuzzDriver.Flag.next, UInt16(truncatingIfNeeded: value()))
    default:
      put(
        value(), UInt32(truncatingIfNeeded: value()), UInt16(random.below(8)),
        UInt16(truncatingIfNeeded: value()))
    }
  }

  /// Changes rings, tables and buffers while the device works on them.
  func scribble(_ driver: FuzzDriver, _ queue: Int) {
    let base = driver.queues[queue].descriptors
    for _ in 0..<random.below(200) {
      let address =
        random.rarely(2)
        ? base + random.below(0x200) : driver.bufferBase + random.below(FuzzDriver.bufferSize)
      board.memory.store(
        UInt16(truncatingIfNeeded: random.rarely(2) ? value() : random.below(8)),
        at: GuestAddress(address))
    }
  }

  /// Looks at a device's error bit, and at what it has done.
  func notice(_ which: Int) {
    let driver = drivers[which]
    let needsReset = board.transports[which].needsReset
    if needsReset { report.errorBits += 1 }
    for queue in driver.queues.indices where driver.queues[queue].size > 0 {
      report.completions += Int(driver.usedIndex(queue) & 0xFF)
    }
    if needsReset && !random.rarely(4) { start(which) }
  }

  func start(_ which: Int) {
    report.starts += 1
    // VIRTIO_F_VERSION_1 always, to be taken for a modern driver.
    var wanted = random.next() | 1 << 32 | (random.rarely(2) ? 3 << 28 : 0)
    if board.transports[which].device is VirtioNetwork, !random.rarely(4) {
      wanted |= Self.pairFeatures
    }
    if random.rarely(4) {
      drivers[which].startLegacy(wanted: wanted)
    } else {
      drivers[which].start(wanted: wanted, maximumSize: 1 << UInt16(random.below(9)))
    }
    if random.rarely(2) { drivers[which].enableVectors() }
  }
}
