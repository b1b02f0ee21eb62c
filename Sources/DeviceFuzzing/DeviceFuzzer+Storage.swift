// The SATA adapter: commands that are nearly right, broken tables, resets in the middle.

import Devices
import GuestMemory
import Platform
import Processor

extension DeviceFuzzer {
  private typealias Port = FuzzStorageDriver.Port

  /// A command that is mostly right, with one thing wrong now and then.
  func accessStorage() {
    report.storageCommands += 1
    let port = Int(random.below(UInt64(FuzzStorageDriver.portCount)))
    if random.rarely(16) { restartStorage(port) }
    let slot = Int(random.rarely(2) ? random.below(4) : random.below(32))
    let code = random.rarely(64) ? UInt8(truncatingIfNeeded: value()) : commandCode(port)
    storage.build(
      port, slot, flags: headerFlags(), frame: frame(code, slot), packet: packet(),
      pieces: makePieces(port))
    if random.rarely(24) { corruptStorage(port, slot) }
    if code == 0x60 || code == 0x61 || random.rarely(64) {
      storage.store(port, Port.active, 1 << UInt64(slot))
    }
    storage.store(port, Port.issue, random.rarely(64) ? value() & 0xFFFF_FFFF : 1 << UInt64(slot))
    if random.rarely(8) { scribbleStorage(port) }
    if random.rarely(4) { noticeStorage(port) }
  }

  func startStorage() {
    storage.placeBaseAddress()
    storage.setControl(1 << 31 | 2)
    for port in 0..<FuzzStorageDriver.portCount { storage.start(port, overrides: true) }
  }

  private func restartStorage(_ port: Int) {
    report.starts += 1
    if random.rarely(4) { storage.placeBaseAddress() }
    switch random.below(16) {
    case 0: storage.setControl(1 << 31 | 1)
    case 1:
      storage.store(port, Port.control, 0x301)
      storage.store(port, Port.control, 0x300)
    case 2: storage.store(port, Port.command, FuzzStorageDriver.Command.receive)
    default: break
    }
    storage.setControl(1 << 31 | 2)
    storage.start(port, overrides: !random.rarely(4))
  }

  // MARK: Commands

  private func commandCode(_ port: Int) -> UInt8 {
    if port == 1 { return random.pick([0xA0, 0xA0, 0xA0, 0xA1, 0xEC, 0x08, 0xEF]) }
    return random.pick(Self.diskCommands)
  }

  /// Those with data more than once.
  private static let diskCommands: [UInt8] = [
    0x25, 0x25, 0x35, 0x35, 0x60, 0x60, 0x60, 0x61, 0x61, 0x61, 0x20, 0x24, 0x30, 0x34, 0xC8, 0xCA,
    0x3D, 0x06, 0x2F, 0x47, 0x42, 0xB0, 0xC6, 0xE7, 0xEA, 0xEC, 0xEF, 0xF8, 0x27, 0xE5, 0x90,
  ]

  private func headerFlags() -> UInt64 {
    random.rarely(64) ? value() & 0xFFFF : 5 | (random.rarely(64) ? 0x400 : 0)
  }

  /// Sectors near the ends of the disk of 1 MiB, and small counts.
  private func frame(_ code: UInt8, _ slot: Int) -> (UInt64, UInt64) {
    let isCommand: UInt64 = random.rarely(128) ? 0 : 0x80
    let block = random.rarely(16) ? value() & 0xFFFF_FFFF_FFFF : random.below(2060)
    var features =
      random.rarely(2) ? random.below(4) : random.pick([0xD0, 0xD5, 0xD8, 0xDA, 2, 0x82])
    var count = random.rarely(32) ? value() & 0xFFFF : random.below(9)
    var place = block
    if code == 0x60 || code == 0x61 {
      features = count
      count = UInt64(random.rarely(64) ? Int(random.below(32)) : slot) << 3
    }
    if code == 0xB0 { place = 0xC24F00 | block & 0xFF }
    if code == 0x2F || code == 0x47 { (place, count) = (random.pick([0, 0x10, 0x30]), 1) }
    let low =
      0x27 | isCommand << 8 | UInt64(code) << 16 | (features & 0xFF) << 24
      | (place & 0xFF_FFFF) << 32 | (random.rarely(8) ? random.below(256) : 0x40) << 56
    let control = random.rarely(64) ? random.below(8) : 0
    let high = place >> 24 | (features >> 8 & 0xFF) << 24 | count << 32 | control << 56
    return (low, high)
  }

  private func packet() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 16)
    bytes[0] = random.pick(Self.commands)
    for index in 1..<12 where random.rarely(4) { bytes[index] = UInt8(random.below(32)) }
    return bytes
  }

  private func makePieces(_ port: Int) -> [FuzzStorageDriver.Piece] {
    let count = random.rarely(64) ? 200 : Int(random.below(5))
    return (0..<count).map { _ in
      let isOdd = random.rarely(200)
      return FuzzStorageDriver.Piece(
        address: isOdd
          ? value() : storage.data(port) + random.below(FuzzStorageDriver.dataSize / 2),
        last: isOdd
          ? UInt32(truncatingIfNeeded: value())
          : UInt32(random.rarely(8) ? random.below(1 << 16) : 512 * (1 + random.below(8)) - 1))
    }
  }

  /// Tables and lists that are nowhere, or longer than memory.
  private func corruptStorage(_ port: Int, _ slot: Int) {
    let header = storage.list(port) + UInt64(slot) * 32
    let memory = board.memory
    switch random.below(6) {
    case 0: memory.store(value(), at: GuestAddress(header + 8))
    case 1: memory.store(UInt16.max, at: GuestAddress(header + 2))
    case 2: memory.store(UInt8(truncatingIfNeeded: value()), at: GuestAddress(header))
    case 3: memory.store(FuzzBoard.memorySize - 0x80, at: GuestAddress(header + 8))
    case 4: storage.store(port, Port.list + (random.rarely(2) ? 4 : 0), value() & 0xFFFF_FFFF)
    default: storage.store(port, Port.frames + (random.rarely(2) ? 4 : 0), value() & 0xFFFF_FFFF)
    }
  }

  /// Changes list, tables and data while the adapter works on them.
  private func scribbleStorage(_ port: Int) {
    for _ in 0..<random.below(100) {
      let place =
        random.rarely(2)
        ? random.below(0x400) : 0x1_0000 + random.below(32 * FuzzStorageDriver.tableSize)
      board.memory.store(
        UInt16(truncatingIfNeeded: random.rarely(2) ? value() : random.below(8)),
        at: GuestAddress(storage.list(port) + place))
    }
  }

  /// Looks at what became of commands; a port that stands still is started again.
  private func noticeStorage(_ port: Int) {
    let status = storage.load(port, Port.interruptStatus)
    guard status != 0xFFFF_FFFF else { return storage.placeBaseAddress() }
    if status & 0xF != 0 { report.storageCompletions += 1 }
    storage.store(port, Port.interruptStatus, status)
    if status >> 24 != 0 {
      report.storageErrors += 1
      if !random.rarely(4) { storage.start(port, overrides: true) }
    }
  }

  // MARK: The end

  /// The ports that do not answer a proper driver after power-on.
  func brokenStorage() -> [String] {
    storage.placeBaseAddress()
    storage.setControl(1 << 31 | 2)
    return (0..<FuzzStorageDriver.portCount).compactMap { port in
      identifies(port) ? nil : "SATA port \(port) (\(storage.load(port, Port.interruptStatus)))"
    }
  }

  private func identifies(_ port: Int) -> Bool {
    storage.start(port, overrides: false)
    guard waits({ self.storage.load(port, Port.taskFile) & 0x88 == 0 }) else { return false }
    let code: UInt64 = port == 0 ? 0xEC : 0xA1
    storage.build(
      port, 0, flags: 5, frame: (0x8027 | code << 16, 0), packet: [],
      pieces: [.init(address: storage.data(port), last: 511)])
    storage.store(port, Port.issue, 1)
    guard waits({ self.storage.load(port, Port.issue) == 0 }) else { return false }
    return board.memory.load(UInt8.self, at: GuestAddress(storage.data(port) + 510)) == 0xA5
  }

  private func waits(_ condition: () -> Bool) -> Bool {
    let limit = MonotonicClock.now + 10_000_000_000
    while !condition() {
      if MonotonicClock.now > limit { return false }
      ProcessMemory.rest()
    }
    return true
  }
}
