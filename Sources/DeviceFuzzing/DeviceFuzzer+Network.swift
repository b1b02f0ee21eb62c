// The 82540EM: rings that are nearly right, descriptors of all kinds, registers changed in the middle.

import Devices
import GuestMemory
import Platform
import Processor

extension DeviceFuzzer {
  /// Registers that the adapter acts on (Intel 317453, table 13-2).
  private enum Register {
    static let control: UInt64 = 0x0000
    static let causes: UInt64 = 0x00C0
    static let mask: UInt64 = 0x00D0
    static let receiveControl: UInt64 = 0x0100
    static let transmitControl: UInt64 = 0x0400
    static let receiveRing: UInt64 = 0x2800
    static let transmitRing: UInt64 = 0x3800
    static let head: UInt64 = 0x10
    static let tail: UInt64 = 0x18
  }

  private static let interesting: [UInt64] = [
    0x0000, 0x0008, 0x0010, 0x0014, 0x0020, 0x0038, 0x00C0, 0x00C8, 0x00D0, 0x00D8, 0x0100, 0x0400,
    0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x4074, 0x5000,
    0x5200, 0x5400, 0x5404, 0x5600, 0x5FFC, 0x6000, 0x1_FFFC,
  ]

  private static let base = FuzzBoard.networkWindow
  private static let ringBase: UInt64 = FuzzBoard.memorySize - (1 << 20)
  private static let ringCount: UInt64 = 64
  private static let dataBase = ringBase + 0x1_0000
  private static let dataSize: UInt64 = 0x8_0000

  private func store(_ register: UInt64, _ value: UInt64) {
    board.memoryBus.write(
      at: GuestAddress(Self.base + register), width: .doubleword, value: value & 0xFFFF_FFFF)
  }

  private func load(_ register: UInt64) -> UInt64 {
    board.memoryBus.read(at: GuestAddress(Self.base + register), width: .doubleword)
  }

  private func receiveRing() -> UInt64 { Self.ringBase }
  private func transmitRing() -> UInt64 { Self.ringBase + 0x4000 }

  /// Sets the adapter up and going as a driver does.
  func startNetwork() {
    board.selectConfiguration(slot: FuzzBoard.networkSlot, function: 0, register: 0x10)
    board.ports.write(port: 0xCFC, width: .doubleword, value: Self.base)
    board.selectConfiguration(slot: FuzzBoard.networkSlot, function: 0, register: 0x04)
    board.ports.write(port: 0xCFC, width: .word, value: 6)
    for (ring, place) in [
      (Register.receiveRing, receiveRing()), (Register.transmitRing, transmitRing()),
    ] {
      store(ring, place)
      store(ring + 4, 0)
      store(ring + 8, Self.ringCount * 16)
      store(ring + Register.head, 0)
      store(ring + Register.tail, 0)
    }
    for index in 0..<Self.ringCount { describeBuffer(index) }
    store(0x5404, 0x8000_0000 | random.below(1 << 16))
    store(Register.receiveControl, 0x0000_801A)
    store(Register.transmitControl, 0x0000_010A)
    store(Register.mask, 0x1F6DC)
    store(Register.receiveRing + Register.tail, Self.ringCount - 1)
  }

  private func describeBuffer(_ index: UInt64) {
    let entry = receiveRing() + 16 * index
    board.memory.store(
      random.rarely(200) ? value() : Self.dataBase + random.below(Self.dataSize),
      at: GuestAddress(entry))
    board.memory.store(UInt64(0), at: GuestAddress(entry + 8))
  }

  /// A frame of a few descriptors, or a register.
  func accessNetwork() {
    report.networkFrames += 1
    if random.rarely(200) { startNetwork() }
    if random.rarely(8) {
      let register = random.rarely(8) ? random.below(0x2_0000) & ~3 : random.pick(Self.interesting)
      if random.rarely(2) { _ = load(register) } else { store(register, value()) }
      return
    }
    var tail = load(Register.transmitRing + Register.tail) % Self.ringCount
    if random.rarely(3) {
      writeContext(tail)
      tail = (tail + 1) % Self.ringCount
    }
    let pieces = 1 + random.below(4)
    for piece in 0..<pieces {
      writeData(tail, isLast: piece == pieces - 1 && !random.rarely(32))
      tail = (tail + 1) % Self.ringCount
    }
    store(Register.transmitRing + Register.tail, random.rarely(128) ? value() : tail)
    if random.rarely(4) { refill() }
    if random.rarely(16) { scribbleNetwork() }
  }

  private func writeContext(_ index: UInt64) {
    let isOdd = random.rarely(16)
    let low: UInt64 =
      isOdd ? value() : 14 | 24 << 8 | 33 << 16 | 34 << 32 | random.pick([50, 40]) << 40
    let flags = random.below(8) | 0x20
    let size = random.rarely(8) ? random.below(1 << 16) : 1460
    let high: UInt64 = isOdd ? value() & ~(0xF << 20) : flags << 24 | 54 << 40 | size << 48
    write(index, low, high)
  }

  private func writeData(_ index: UInt64, isLast: Bool) {
    let isOdd = random.rarely(200)
    let address = isOdd ? value() : Self.dataBase + random.below(Self.dataSize)
    let length = random.rarely(8) ? random.below(1 << 16) : 14 + random.below(1500)
    let kind: UInt64 = random.rarely(3) ? 0 : 1 << 20 | 0x20 << 24
    let command: UInt64 =
      (isLast ? 1 : 0) | (random.rarely(3) ? 4 : 0) | (random.rarely(4) ? 0 : 8)
      | (random.rarely(16) ? 0x40 : 0)
    let options = random.below(4) << 40
    write(index, address, isOdd ? value() : length | kind | command << 24 | options)
  }

  private func write(_ index: UInt64, _ low: UInt64, _ high: UInt64) {
    let entry = transmitRing() + 16 * index
    board.memory.store(low, at: GuestAddress(entry))
    board.memory.store(high, at: GuestAddress(entry + 8))
  }

  /// Gives the buffers back that are full.
  private func refill() {
    let head = load(Register.receiveRing + Register.head) % Self.ringCount
    for _ in 0..<4 { describeBuffer(random.below(Self.ringCount)) }
    store(
      Register.receiveRing + Register.tail,
      random.rarely(64) ? value() : (head + Self.ringCount - 1) % Self.ringCount)
    if load(Register.causes) & 0x80 != 0 { report.networkReceptions += 1 }
  }

  private func scribbleNetwork() {
    for _ in 0..<random.below(50) {
      board.memory.store(
        UInt16(truncatingIfNeeded: random.rarely(2) ? value() : random.below(8)),
        at: GuestAddress(Self.ringBase + random.below(0x8000)))
    }
  }

  // MARK: The end

  /// What does not work after power-on: two frames, of which the cable sends the second back.
  func brokenNetwork() -> [String] {
    board.adapter.setUp(true)
    startNetwork()
    store(Register.receiveControl, 0x0000_801A)
    for index in 0..<Self.ringCount {
      let entry = receiveRing() + 16 * index
      board.memory.store(Self.dataBase, at: GuestAddress(entry))
      board.memory.store(UInt64(0), at: GuestAddress(entry + 8))
    }
    for index in 0..<8 as Range<UInt64> {
      write(index, Self.dataBase, 60 | 0x9 << 24)
    }
    store(Register.transmitRing + Register.tail, 8)
    let limit = MonotonicClock.now + 10_000_000_000
    while MonotonicClock.now < limit {
      // A frame that came before the ring was cleared has taken the first place.
      let hasReceived = (0..<Self.ringCount).contains { index in
        board.memory.load(UInt64.self, at: GuestAddress(receiveRing() + 16 * index + 8))
          .map { $0 >> 32 & 3 } == 3
      }
      if load(Register.transmitRing + Register.head) == 8, hasReceived { return [] }
      ProcessMemory.rest()
    }
    return ["82540EM (head \(load(Register.transmitRing + Register.head)))"]
  }
}
