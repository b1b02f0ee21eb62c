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

  /// As firmware does: its registers are reached, and it may use memory.
  private func enableNetwork() {
    board.selectConfiguration(slot: FuzzBoard.networkSlot, function: 0, register: 0x10)
    board.ports.write(port: 0xCFC, width: .doubleword, value: Self.base)
    board.selectConfiguration(slot: FuzzBoard.networkSlot, function: 0, register: 0x04)
    board.ports.write(port: 0xCFC, width: .word, value: 6)
  }

  /// Sets the adapter up and going as a driver does.
  func startNetwork() {
    enableNetwork()
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

  /// Frames of the last try, each other than the rest: a place has to be the right one.
  private static let tryCount: UInt64 = 8
  private static let tryLength: UInt64 = 60
  /// A frame of the least size comes off the wire with its checksum.
  private static let tryReceivedLength = tryLength + 4
  private static let tryRoom = dataBase + 0x1000
  private static let tryRoomSize: UInt64 = 2048

  /// What does not work after power-on: a driver that begins anew gets each frame in the descriptor that the head names
  /// (Intel 317453, 3.2.6 and 13.4.28), in order, and nothing anywhere else.
  func brokenNetwork() -> [String] {
    board.plainCable.isQuiet = true
    board.adapter.pause()
    board.adapter.resume()
    defer {
      board.plainCable.isQuiet = false
      // Its network is waited for again.
      board.adapter.pause()
      board.adapter.resume()
    }
    board.adapter.setUp(true)
    enableNetwork()
    let wrong =
      wrongRegisters() + wrongTransfers(from: random.below(Self.ringCount), startsReceiver: true)
      // Its driver may well begin in the middle, and go on where it was.
      + wrongTransfers(from: load(Register.receiveRing + Register.head), startsReceiver: false)
    return wrong.isEmpty ? [] : ["82540EM (\(wrong.joined(separator: "; ")))"]
  }

  /// What a reset leaves (13.4): both directions off, empty rings, nothing that interrupts.
  private func wrongRegisters() -> [String] {
    [
      ("RCTL", Register.receiveControl), ("TCTL", Register.transmitControl), ("IMS", Register.mask),
      ("RDH", Register.receiveRing + Register.head), ("RDT", Register.receiveRing + Register.tail),
      ("TDH", Register.transmitRing + Register.head),
      ("TDT", Register.transmitRing + Register.tail),
    ].compactMap { name, register in
      let value = load(register)
      return value == 0 ? nil : "\(name) \(value) after the reset"
    }
  }

  /// Sends frames to itself.
  ///
  /// - Parameter start: the place of the receive ring that the first belongs into.
  private func wrongTransfers(from start: UInt64, startsReceiver: Bool) -> [String] {
    let sendStart =
      startsReceiver
      ? random.below(Self.ringCount) : load(Register.transmitRing + Register.head)
    let end = (start + Self.tryCount) % Self.ringCount
    let sendEnd = (sendStart + Self.tryCount) % Self.ringCount
    let mark = UInt8(truncatingIfNeeded: random.next())
    // All of it stands before the receiver may use it.
    for index in 0..<Self.ringCount { offerRoom(index) }
    for number in 0..<Self.tryCount { describeTry(number, mark, from: sendStart) }
    if startsReceiver { startRings(start, sendStart) }
    store(
      Register.receiveRing + Register.tail, (start + Self.ringCount - 1) % Self.ringCount)
    // One alone, which the thread that rings may send itself, and the rest together.
    store(Register.transmitRing + Register.tail, (sendStart + 1) % Self.ringCount)
    store(Register.transmitRing + Register.tail, sendEnd)
    let limit = MonotonicClock.now + 10_000_000_000
    while load(Register.transmitRing + Register.head) != sendEnd
      || load(Register.receiveRing + Register.head) != end
    {
      guard MonotonicClock.now < limit else {
        return [
          "TDH \(load(Register.transmitRing + Register.head)) instead of \(sendEnd), RDH \(load(Register.receiveRing + Register.head)) instead of \(end)"
        ]
      }
      ProcessMemory.rest()
    }
    return (0..<Self.tryCount).flatMap { wrongTry($0, mark, from: sendStart, to: start) }
      + wrongPlaces(beside: (0..<Self.tryCount).map { (start + $0) % Self.ringCount })
  }

  /// As a driver does after a reset, with both heads anywhere.
  private func startRings(_ receiveStart: UInt64, _ sendStart: UInt64) {
    for (ring, place, head) in [
      (Register.receiveRing, receiveRing(), receiveStart),
      (Register.transmitRing, transmitRing(), sendStart),
    ] {
      store(ring, place)
      store(ring + 4, 0)
      store(ring + 8, Self.ringCount * 16)
      store(ring + Register.head, head)
      store(ring + Register.tail, head)
    }
    // Nothing but frames to the address of the EEPROM, and broadcasts.
    store(Register.receiveControl, 0x0000_8002)
    store(Register.transmitControl, 0x0000_010A)
  }

  private func offerRoom(_ index: UInt64) {
    let entry = receiveRing() + 16 * index
    board.memory.store(
      Self.tryRoom + index * Self.tryRoomSize, at: GuestAddress(entry))
    board.memory.store(UInt64(0), at: GuestAddress(entry + 8))
  }

  private static func tryFrame(_ number: UInt64, _ mark: UInt8) -> [UInt8] {
    let sender = HardwareAddress(FuzzBoard.plainAddress.value ^ 1)
    return FuzzBoard.plainAddress.bytes + sender.bytes + [0x88, 0xB5]
      + (14..<UInt8(tryLength)).map { $0 &+ mark &+ UInt8(number) }
  }

  private func describeTry(_ number: UInt64, _ mark: UInt8, from start: UInt64) {
    let address = Self.dataBase + number * 64
    for (offset, byte) in Self.tryFrame(number, mark).enumerated() {
      board.memory.store(byte, at: GuestAddress(address + UInt64(offset)))
    }
    // To its end, with the checksum of the wire and a report.
    write((start + number) % Self.ringCount, address, Self.tryLength | 0xB << 24)
  }

  private func wrongTry(
    _ number: UInt64, _ mark: UInt8, from sendStart: UInt64, to start: UInt64
  ) -> [String] {
    let index = (start + number) % Self.ringCount
    let sent = status(of: transmitRing() + 16 * ((sendStart + number) % Self.ringCount))
    let received = status(of: receiveRing() + 16 * index)
    let length = board.memory.load(UInt16.self, at: GuestAddress(receiveRing() + 16 * index + 8))
    let room = Self.tryRoom + index * Self.tryRoomSize
    let isSame = Self.tryFrame(number, mark).enumerated().allSatisfy { offset, byte in
      board.memory.load(UInt8.self, at: GuestAddress(room + UInt64(offset))) == byte
    }
    var wrong: [String] = []
    if sent & 1 == 0 { wrong.append("frame \(number) is not reported as sent") }
    if received & 3 != 3 || UInt64(length ?? 0) != Self.tryReceivedLength || !isSame {
      wrong.append(
        "frame \(number) is not in descriptor \(index) (status \(received), length \(length ?? 0))")
    }
    return wrong
  }

  private func wrongPlaces(beside used: [UInt64]) -> [String] {
    (0..<Self.ringCount).compactMap { index in
      let status = status(of: receiveRing() + 16 * index)
      return status == 0 || used.contains(index) ? nil : "descriptor \(index) has status \(status)"
    }
  }

  /// DD, EOP and what else the adapter writes back.
  private func status(of entry: UInt64) -> UInt64 {
    board.memory.load(UInt64.self, at: GuestAddress(entry + 8)).map { $0 >> 32 & 0xFF } ?? 0
  }
}
