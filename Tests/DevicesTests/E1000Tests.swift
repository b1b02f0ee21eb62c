import CLinux
import Devices
import GuestMemory
import Platform
import Testing

/// The 82540EM by its manual (Intel 317453), through its registers and rings.
@Suite struct E1000Tests {
  private static let mac = HardwareAddress(0x02_11_22_33_44_55)

  private final class Rig {
    let cable = TestCable()
    let adapter: E1000
    let board: PCITestBoard
    static let receiveRing: UInt64 = 0x1_0000
    static let transmitRing: UInt64 = 0x2_0000
    static let buffers: UInt64 = 0x10_0000

    init() throws {
      board = try PCITestBoard()
      adapter = try E1000(backend: cable, options: .init(address: mac), memory: board.memory)
      board.host.attach(adapter, at: PCIAddress(device: 3))
      board.setConfig(3, 0x10, 0xFEB0_0000)
      board.setConfig(3, 0x04, 7, .word)
      for (ring, place) in [(UInt64(0x2800), Self.receiveRing), (0x3800, Self.transmitRing)] {
        self[ring] = UInt32(place)
        self[ring + 8] = 16 * 16
      }
      for index in 0..<16 as Range<UInt64> {
        board.memory.store(
          Self.buffers + index * 0x1000, at: GuestAddress(Self.receiveRing + 16 * index))
      }
      self[0x0400] = 2
      self[0x0100] = 0x0400_8002
      self[0x2818] = 15
    }

    subscript(register: UInt64) -> UInt32 {
      get {
        UInt32(
          truncatingIfNeeded: board.memoryBus.read(
            at: GuestAddress(0xFEB0_0000 + register), width: .doubleword))
      }
      set {
        board.memoryBus.write(
          at: GuestAddress(0xFEB0_0000 + register), width: .doubleword, value: UInt64(newValue))
      }
    }

    func describe(_ index: UInt64, _ low: UInt64, _ high: UInt64) {
      board.memory.store(low, at: GuestAddress(Self.transmitRing + 16 * index))
      board.memory.store(high, at: GuestAddress(Self.transmitRing + 16 * index + 8))
    }

    func waits(_ condition: () -> Bool) -> Bool {
      let end = MonotonicClock.now + 5_000_000_000
      while !condition() {
        if MonotonicClock.now > end { return false }
        usleep(500)
      }
      return true
    }

    /// One bit out of, or into, the EEPROM's pins.
    func clock(_ bit: Bool) -> Bool {
      let pins: UInt32 = 0x42 | (bit ? 4 : 0)
      self[0x10] = pins
      self[0x10] = pins | 1
      self[0x10] = pins
      return self[0x10] & 8 != 0
    }

    func word(_ address: Int) -> UInt16 {
      self[0x10] = 0x42
      for bit in [true, true, false] { _ = clock(bit) }
      for index in 0..<6 { _ = clock(address >> (5 - index) & 1 != 0) }
      let value = (0..<16).reduce(UInt16(0)) { value, _ in value << 1 | (clock(false) ? 1 : 0) }
      self[0x10] = 0x40
      return value
    }
  }

  @Test func theEEPROMSaysTheSameByPinsAndByRegister() throws {
    let rig = try Rig()
    var sum: UInt16 = 0
    for address in 0..<64 {
      rig[0x14] = UInt32(address) << 8 | 1
      let byRegister = UInt16(rig[0x14] >> 16)
      let byPins = rig.word(address)
      #expect(byRegister == byPins, "word \(address)")
      sum &+= byPins
    }
    #expect(sum == 0xBABA)
    #expect(rig.word(0) == 0x1102 && rig.word(1) == 0x3322 && rig.word(2) == 0x5544)
  }

  @Test func theTransceiverHasItsIdentityAndTheLink() throws {
    let rig = try Rig()
    func read(_ register: UInt32) -> UInt32 {
      rig[0x20] = 2 << 26 | 1 << 21 | register << 16
      return rig[0x20]
    }
    #expect(read(2) & 0xFFFF == 0x0141)
    #expect(read(1) & 4 != 0)
    #expect(read(1) >> 28 & 1 == 1)
    rig[0xD0] = 4
    _ = rig[0xC0]
    rig.adapter.setUp(false)
    #expect(read(1) & 4 == 0)
    #expect(rig[0x08] & 2 == 0)
    #expect(rig.board.config(3, 0x06, .word) & 8 != 0)
    #expect(rig[0xC0] & 4 != 0)
    #expect(rig.board.config(3, 0x06, .word) & 8 == 0)
  }

  @Test func framesPassBothWays() throws {
    let rig = try Rig()
    let out = Self.mac.bytes + (0..<60).map { UInt8($0) }
    try rig.board.memory.write(out, at: GuestAddress(0x8_0000))
    // Two old descriptors, the last with its end and a report.
    rig.describe(0, 0x8_0000, 20)
    rig.describe(1, 0x8_0014, UInt64(out.count - 20) | 9 << 24)
    rig[0x3818] = 2
    #expect(rig.waits { rig.cable.sent == [out] })
    #expect(rig[0x3810] == 2)
    #expect(rig[0xC0] & 3 == 3)
    let done = rig.board.memory.load(UInt64.self, at: GuestAddress(Rig.transmitRing + 24))
    #expect((done ?? 0) >> 32 & 1 == 1)

    let small = Self.mac.bytes + [UInt8](repeating: 7, count: 30)
    let large = Self.mac.bytes + [UInt8](repeating: 8, count: 1508)
    let other = HardwareAddress(0x02_99).bytes + [UInt8](repeating: 9, count: 60)
    rig.cable.push([small, other, large])
    #expect(rig.waits { rig[0x2810] == 2 })
    let first = rig.board.memory.load(UInt64.self, at: GuestAddress(Rig.receiveRing + 8)) ?? 0
    let second = rig.board.memory.load(UInt64.self, at: GuestAddress(Rig.receiveRing + 24)) ?? 0
    // Padded to the wire's least; end and done.
    #expect(first & 0xFFFF == 60 && first >> 32 & 3 == 3)
    #expect(second & 0xFFFF == 1514)
    #expect(try rig.board.memory.bytes(at: GuestAddress(Rig.buffers), count: 36) == small)
    #expect(
      try rig.board.memory.bytes(at: GuestAddress(Rig.buffers + 0x1000), count: 1514) == large)
    #expect(rig[0xC0] & 0x80 != 0)
  }

  /// The driver leaves lengths and sums out (3.5.6); the cable gets one large segment with both.
  @Test func aLargeSegmentIsHandedOverWithItsLengthAndSums() throws {
    let rig = try Rig()
    var frame = Self.mac.bytes + Self.mac.bytes + [8, 0]
    frame += [0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]
    frame += [0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]
    frame += [UInt8](repeating: 0x5A, count: 4000)
    try rig.board.memory.write(frame, at: GuestAddress(0x8_0000))
    let command: UInt64 = 1 << 20 | 0x25 << 24
    rig.describe(
      0, 14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40, 0x27 << 24 | 54 << 40 | 1460 << 48)
    rig.describe(1, 0x8_0000, UInt64(frame.count) | command | 0x9 << 24 | 3 << 40)
    rig[0x3818] = 2
    #expect(rig.waits { !rig.cable.sent.isEmpty })
    let sent = try #require(rig.cable.sent.first)
    let header = try #require(rig.cable.headers.first)
    #expect(header.segmentation == .tcp4 && header.segmentSize == 1460)
    #expect(header.needsChecksum && header.checksumStart == 34 && header.checksumOffset == 16)
    #expect(Int(sent[16]) << 8 | Int(sent[17]) == frame.count - 14)
    let sum = sent.withUnsafeBytes {
      InternetChecksum.sum(UnsafeRawBufferPointer(rebasing: $0[14..<34]))
    }
    #expect(sum == 0xFFFF)
    let pseudo = sent.withUnsafeBytes {
      InternetChecksum.sum(
        UnsafeRawBufferPointer(rebasing: $0[26..<34]), 6 + UInt32(frame.count - 34))
    }
    #expect(UInt16(sent[50]) << 8 | UInt16(sent[51]) == pseudo)
  }

  @Test func brokenRingsStopNothing() throws {
    let rig = try Rig()
    // Descriptors of a ring outside RAM, buffers outside RAM, a tail beyond the end.
    rig[0x3800] = 0xFFFF_FFF0
    rig[0x3818] = 5
    rig.describe(0, .max, 0xFFFF | 9 << 24)
    usleep(20_000)
    rig[0x3800] = UInt32(Rig.transmitRing)
    rig[0x3810] = 0
    rig[0x3818] = 0xFFFF
    usleep(20_000)
    rig[0x3818] = 1
    #expect(rig.waits { rig[0x3810] == 1 })
    #expect(rig.cable.sent.isEmpty)
    // Reset by the driver: everything as at first, and the adapter works.
    rig[0x00] = 1 << 26
    #expect(rig[0x3818] == 0 && rig[0x0100] == 0)
    let state = rig.adapter.saveState()
    rig.adapter.restoreState(state)
    #expect(rig[0x5400] == 0x3322_1102)
  }
}
