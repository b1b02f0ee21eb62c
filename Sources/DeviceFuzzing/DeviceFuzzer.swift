import Devices
import GuestMemory
import Platform
import Processor
import Synchronization

/// What a run of the fuzzer did and saw.
package struct FuzzReport: Sendable, CustomStringConvertible {
  package var seed: UInt64
  /// Accesses by kind.
  package var ports = 0
  package var memory = 0
  package var configuration = 0
  package var virtqueues = 0
  /// Chains that devices gave back, modulo what restarts hid: shows that they were reached.
  package var completions = 0
  /// How often a device was found with DEVICE_NEEDS_RESET.
  package var errorBits = 0
  /// Times that a driver was started properly.
  package var starts = 0
  package var messages: UInt64 = 0
  /// Bytes of this process after the warm-up and at the end.
  package var residentBefore = 0
  package var residentAfter = 0
  /// Devices that did not work after the final power-on reset, by name.
  package var broken: [String] = []

  package var accesses: Int { ports + memory + configuration + virtqueues }
  package var growth: Int { residentAfter - residentBefore }

  package var description: String {
    """
    seed \(seed): \(accesses) accesses (\(ports) ports, \(memory) memory, \(configuration) PCI \
    configuration, \(virtqueues) virtqueue), \(starts) driver starts, \(completions) chains back, \
    \(errorBits) times DEVICE_NEEDS_RESET, \(messages) interrupt messages, growth \(growth / 1024) KiB\
    \(broken.isEmpty ? "" : ", broken: " + broken.joined(separator: ", "))
    """
  }
}

/// A guest gone mad: random accesses, biased to where something is and to values that are nearly right.
///
/// The same seed gives the same accesses; device threads make the interleaving differ from run to run.
package final class DeviceFuzzer {
  package let board: FuzzBoard
  /// Accesses so far, for a watcher on another thread: one that stands still is a hang.
  package let progress: FuzzProgress
  private var random: SeededGenerator
  private var drivers: [FuzzDriver]
  private var report: FuzzReport

  /// How much the process may grow after the warm-up, whatever the number of accesses.
  package static let growthLimit = 32 << 20

  package init(seed: UInt64, progress: FuzzProgress = FuzzProgress()) throws {
    board = try FuzzBoard()
    self.progress = progress
    random = SeededGenerator(seed: seed)
    report = FuzzReport(seed: seed)
    let board = board
    drivers = board.transports.indices.map { FuzzDriver(board, index: $0) }
    for index in drivers.indices { start(index) }
  }

  /// Makes `count` accesses, then resets the machine and tries every device.
  package func run(count: Int) -> FuzzReport {
    let warmUp = min(count / 5, 500_000)
    var isWarm = false
    var round = 0
    while report.accesses < count {
      step()
      round &+= 1
      if round & 0xFF == 0 {
        if board.memoryBus.needsCollection { board.memoryBus.collect() }
        progress.accesses.store(report.accesses, ordering: .relaxed)
      }
      if !isWarm && report.accesses >= warmUp {
        isWarm = true
        report.residentBefore = ProcessMemory.residentBytes()
      }
    }
    report.residentAfter = ProcessMemory.residentBytes()
    report.messages = board.interrupts.messageCount
    tryEverything()
    return report
  }

  private func step() {
    switch random.below(1000) {
    case 0..<330: accessPort()
    case 330..<560: accessMemory()
    case 560..<700: accessConfiguration()
    case 700..<900: accessQueue()
    case 900..<950: passTime()
    case 950..<975: giveInput()
    case 975..<994: endInterrupts()
    case 994..<998: start(Int(random.below(UInt64(drivers.count))))
    default: disturb()
    }
  }

  // MARK: Values

  /// Small and special numbers more often than others.
  private func value() -> UInt64 {
    switch random.below(10) {
    case 0: 0
    case 1: .max
    case 2: random.below(16)
    case 3: 1 << random.below(64)
    case 4: random.below(FuzzBoard.memorySize)
    case 5: random.next() & 0xFFFF
    case 6: random.next() & 0xFF
    case 7: FuzzBoard.memorySize &- random.below(64)
    default: random.next()
    }
  }

  private func width(upTo limit: UInt64) -> AccessWidth {
    switch random.below(limit) {
    case 0: .byte
    case 1: .word
    case 2: .doubleword
    default: .quadword
    }
  }

  private func driver() -> FuzzDriver { drivers[Int(random.below(UInt64(drivers.count)))] }

  // MARK: Accesses

  private func accessPort() {
    report.ports += 1
    let port: UInt16
    switch random.below(8) {
    case 0: port = UInt16(truncatingIfNeeded: random.next())
    case 1...2: port = driver().portBase &+ UInt16(random.below(140))
    default:
      let range = random.pick(board.portRanges)
      port = UInt16(truncatingIfNeeded: range.lowerBound &+ random.below(UInt64(range.count)))
    }
    let width = width(upTo: 3)
    if random.rarely(3) {
      _ = board.ports.read(port: port, width: width)
    } else {
      board.ports.write(port: port, width: width, value: value() & width.mask)
    }
  }

  private func accessMemory() {
    report.memory += 1
    let base: UInt64
    let size: UInt64
    switch random.below(9) {
    case 0: (base, size) = (value(), 16)
    case 8: (base, size) = (VGAPlanes.windowBase, VGAPlanes.windowSize)
    case 1: (base, size) = (InputOutputInterruptController.baseAddress, 0x44)
    case 2: (base, size) = (HighPrecisionEventTimer.baseAddress, 0x180)
    case 3: (base, size) = (driver().vectorBase, 0x1000)
    case 4: (base, size) = (driver().modernBase + 0x1000 * random.below(4), 64)
    default: (base, size) = (driver().modernBase, 0x3A)
    }
    let address = GuestAddress(base &+ random.below(size))
    let width = width(upTo: 4)
    if random.rarely(3) {
      _ = board.memoryBus.read(at: address, width: width)
    } else {
      board.memoryBus.write(at: address, width: width, value: value() & width.mask)
    }
  }

  private func accessConfiguration() {
    report.configuration += 1
    let slot = UInt8(random.rarely(16) ? random.below(32) : random.below(7))
    let function = UInt8(random.rarely(4) ? random.below(8) : 0)
    if random.rarely(8) { return moveBaseAddress(slot) }
    let register = Int(random.next() & 0xFF)
    // I/O base addresses move in `moveBaseAddress`; elsewhere they would mostly be put out of the way.
    board.selectConfiguration(slot: slot, function: function, register: register)
    let width = width(upTo: 3)
    let port = 0xCFC + UInt16(register & 3)
    if random.rarely(3) {
      _ = board.ports.read(port: port, width: width)
    } else if register >= 0x24 || random.rarely(8) {
      board.ports.write(port: port, width: width, value: value() & width.mask)
    }
  }

  /// Puts a base address on top of another one, of a chip, of RAM, of nothing, or where the driver wants it.
  private func moveBaseAddress(_ slot: UInt8) {
    let place: UInt64
    let register: Int
    if random.rarely(2) {
      register = 0x10
      place =
        random.rarely(2)
        ? UInt64(driver().portBase) : random.pick(board.portRanges).lowerBound
    } else {
      register = random.pick([0x14, 0x20, 0x24, 0x30])
      place = random.pick([
        driver().modernBase, driver().vectorBase, InputOutputInterruptController.baseAddress,
        HighPrecisionEventTimer.baseAddress, 0xFEE0_0000, 0, 0xFFFF_FFFF, value(),
      ])
    }
    let address = board
    address.selectConfiguration(slot: slot, function: 0, register: register)
    address.ports.write(
      port: 0xCFC, width: .doubleword, value: place & 0xFFFF_FFFF | random.next() & 1)
    if random.rarely(2), slot >= FuzzBoard.firstVirtioSlot,
      Int(slot - FuzzBoard.firstVirtioSlot) < drivers.count
    {
      drivers[Int(slot - FuzzBoard.firstVirtioSlot)].placeBaseAddresses()
    }
  }

  // MARK: Queues

  /// A chain that is mostly right, with one thing wrong now and then.
  private func accessQueue() {
    report.virtqueues += 1
    let which = Int(random.below(UInt64(drivers.count)))
    let queue = Int(random.below(UInt64(drivers[which].queueCount)))
    guard queue < drivers[which].queues.count, drivers[which].queues[queue].size > 0 else {
      return start(which)
    }
    let size = UInt64(drivers[which].queues[queue].size)
    let first = Int(random.below(size))
    let driver = drivers[which]
    var buffers = makeBuffers(driver)
    writeHeader(at: buffers[0].address)
    if random.rarely(2) { buffers[0].length = random.pick([8, 16, 24, 51]) }
    if random.rarely(2) { buffers[buffers.count - 1] = lastBuffer(buffers, driver) }
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

  private func makeBuffers(_ driver: FuzzDriver) -> [FuzzDriver.Buffer] {
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
  private func writeHeader(at address: UInt64) {
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

  /// Operation codes of MMC and SPC, and one that nobody knows.
  private static let commands: [UInt8] = [
    0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x23, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x52,
    0x55, 0x5A, 0x9E, 0xA0, 0xA8, 0xAD, 0xBD, 0xBE, 0xFF,
  ]

  /// A status byte, as block requests end.
  private func lastBuffer(
    _ buffers: [FuzzDriver.Buffer], _ driver: FuzzDriver
  ) -> FuzzDriver.Buffer {
    FuzzDriver.Buffer(
      address: driver.bufferBase + FuzzDriver.bufferSize / 2 + random.below(4096), length: 1,
      isWritable: true)
  }

  /// Loops, no bytes, no RAM, tables inside tables.
  private func corrupt(_ driver: FuzzDriver, _ queue: Int, _ first: Int, _ table: UInt64?) {
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
  private func scribble(_ driver: FuzzDriver, _ queue: Int) {
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
  private func notice(_ which: Int) {
    let driver = drivers[which]
    let needsReset = board.transports[which].needsReset
    if needsReset { report.errorBits += 1 }
    for queue in driver.queues.indices where driver.queues[queue].size > 0 {
      report.completions += Int(driver.usedIndex(queue) & 0xFF)
    }
    if needsReset && !random.rarely(4) { start(which) }
  }

  private func start(_ which: Int) {
    report.starts += 1
    // VIRTIO_F_VERSION_1 always, to be taken for a modern driver.
    let wanted = random.next() | 1 << 32 | (random.rarely(2) ? 3 << 28 : 0)
    if random.rarely(4) {
      drivers[which].startLegacy(wanted: wanted)
    } else {
      drivers[which].start(wanted: wanted, maximumSize: 1 << UInt16(random.below(9)))
    }
    if random.rarely(2) { drivers[which].enableVectors() }
  }

  // MARK: The world around

  private func passTime() {
    let step: UInt64 =
      switch random.below(64) {
      case 0: random.below(3_000_000_000)
      case 1...8: random.below(10_000_000)
      default: random.below(100_000)
      }
    board.clock.advance(nanoseconds: step)
  }

  private func giveInput() {
    let bytes = (0..<random.below(24)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    switch random.below(11) {
    case 8: _ = board.display.snapshot()
    case 9...10: typeKeys(bytes)
    case 0...1: bytes.withUnsafeBytes { _ = random.pick(board.serialPorts).offer($0) }
    case 2: random.pick(board.serialPorts).sendBreak()
    case 3: bytes.withUnsafeBytes { _ = random.pick(board.console.ports).offer($0) }
    case 4:
      let (x, y) = (Int32(truncatingIfNeeded: value()), Int32(truncatingIfNeeded: value()))
      board.keyboard.withChip { chip, _ in chip.moveMouse(x: x, y: y, wheel: 1, buttons: []) }
    case 5: board.power.withChip { chip, _ in _ = chip.pressPowerButton() }
    case 6: if random.rarely(8) { board.drive.eject(force: random.rarely(2)) }
    default: board.drive.insert(board.medium)
    }
  }

  private func typeKeys(_ bytes: [UInt8]) {
    let strokes = bytes.compactMap {
      KeyboardLayout.stroke(for: Character(Unicode.Scalar($0)))
        ?? KeyboardLayout.stroke(named: random.pick(KeyboardLayout.keyNames))
    }
    board.keyboard.withChip { chip, now in _ = chip.type(strokes, now: now) }
  }

  private func endInterrupts() {
    if random.rarely(2) { _ = board.router.acknowledge() }
    if random.rarely(16) { setUpInterrupts() }
    if let vector = board.interrupts.end(from: UInt8(truncatingIfNeeded: random.next())) {
      board.router.endOfInterrupt(vector)
    }
  }

  /// As a system does at its start: the 8259As initialized, every pin of the I/O APIC open.
  private func setUpInterrupts() {
    for (port, base, cascade): (UInt16, UInt64, UInt64) in [(0x20, 0x20, 4), (0xA0, 0x28, 2)] {
      board.ports.write(port: port, width: .byte, value: 0x11)
      for value in [base, cascade, 1, 0] {
        board.ports.write(port: port + 1, width: .byte, value: value)
      }
    }
    let window = InputOutputInterruptController.baseAddress
    for pin in 0..<UInt64(InputOutputInterruptController.pinCount) {
      let isLevel = random.below(2) << 15
      for (register, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, 0x30 + pin | isLevel)] {
        board.memoryBus.write(at: GuestAddress(window), width: .doubleword, value: register)
        board.memoryBus.write(at: GuestAddress(window + 0x10), width: .doubleword, value: value)
      }
    }
  }

  /// Snapshots and resets in the middle of everything.
  private func disturb() {
    let which = Int(random.below(UInt64(drivers.count)))
    switch random.below(32) {
    case 0...3:
      let transport = board.transports[which]
      transport.pause()
      transport.restoreState(transport.saveState())
      transport.resume()
    case 4...7: board.router.restoreState(board.router.saveState())
    case 22: board.display.restoreState(board.display.saveState())
    case 8: board.host.reset()
    case 9: board.router.reset()
    case 10...13: board.keyboard.restoreState(board.keyboard.saveState())
    case 14...17: board.realTimeClock.restoreState(board.realTimeClock.saveState())
    case 18...21:
      let port = random.pick(board.serialPorts)
      port.restoreState(port.saveState())
    default: break
    }
  }

  // MARK: The end

  /// Power-on: whatever the guest did, a proper driver finds every device at work again.
  private func tryEverything() {
    board.host.reset()
    for which in drivers.indices {
      drivers[which].start(wanted: .max)
      let expected =
        FuzzDriver.Status.driver | FuzzDriver.Status.featuresAccepted | FuzzDriver.Status.ready
      let name = "\(board.transports[which].device.type)"
      guard drivers[which].status == expected else {
        report.broken.append("\(name) (status \(drivers[which].status))")
        continue
      }
      if board.transports[which].device is VirtioBlock, !readsBlock(which) {
        report.broken.append("\(name) (no answer)")
      }
    }
  }

  /// Reads sector 0 through queue 0.
  private func readsBlock(_ which: Int) -> Bool {
    let base = drivers[which].bufferBase
    let memory = board.memory
    memory.store(UInt64(0), at: GuestAddress(base))
    memory.store(UInt64(0), at: GuestAddress(base + 8))
    memory.store(UInt8(0xFF), at: GuestAddress(base + 0x1000))
    drivers[which].chain(
      0,
      [
        .init(address: base, length: 16, isWritable: false),
        .init(address: base + 0x200, length: 512, isWritable: true),
        .init(address: base + 0x1000, length: 1, isWritable: true),
      ], first: 0, indirect: nil)
    drivers[which].offer(0, head: 0)
    drivers[which].kick(0)
    let limit = MonotonicClock.now + 10_000_000_000
    while drivers[which].usedIndex(0) == 0 {
      if MonotonicClock.now > limit { return false }
      ProcessMemory.rest()
    }
    return memory.load(UInt8.self, at: GuestAddress(base + 0x1000)) == 0
  }
}

/// How far a fuzzer has got, readable from any thread.
package final class FuzzProgress: Sendable {
  package let accesses = Atomic<Int>(0)
  package init() {}
}
