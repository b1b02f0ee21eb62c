import Devices
import Firmware
import GuestMemory
import Testing

/// A guest that talks to the device by ports and DMA structures.
private struct Guest {
  let memory: GuestMemory
  let device: FirmwareConfiguration

  init(_ fill: (inout FirmwareItems) throws -> Void) throws {
    memory = try GuestMemory(size: 4 << 20)
    var items = FirmwareItems()
    try fill(&items)
    device = FirmwareConfiguration(items, memory: memory)
  }

  func select(_ key: UInt16) { device.write(at: 0, width: .word, value: UInt64(key)) }

  func read(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(device.read(at: 1, width: .byte)) }
  }

  /// Returns the control word afterwards.
  func transfer(_ control: UInt32, _ length: UInt32, _ address: UInt64, at place: UInt64 = 0x8000)
    -> UInt32
  {
    memory.store(control.bigEndian, at: GuestAddress(place))
    memory.store(length.bigEndian, at: GuestAddress(place + 4))
    memory.store(address.bigEndian, at: GuestAddress(place + 8))
    device.write(at: 4, width: .doubleword, value: UInt64(UInt32(place >> 32).byteSwapped))
    device.write(
      at: 8, width: .doubleword, value: UInt64(UInt32(truncatingIfNeeded: place).byteSwapped))
    return memory.load(UInt32.self, at: GuestAddress(place))?.byteSwapped ?? .max
  }

  /// Keys of all files, from the directory.
  func directory() -> [String: (key: UInt16, size: UInt32)] {
    select(0x19)
    let count = read(4).reduce(0) { $0 << 8 | Int($1) }
    var result: [String: (UInt16, UInt32)] = [:]
    for _ in 0..<count {
      let entry = read(64)
      let size = entry[..<4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      let key = UInt16(entry[4]) << 8 | UInt16(entry[5])
      result[entry.text(at: 8, count: 56)] = (key, size)
    }
    return result
  }
}

private struct Pattern: FirmwareItemSource {
  let count: Int
  func copy(from offset: Int, into buffer: UnsafeMutableRawBufferPointer) {
    for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: offset + index) }
  }
}

@Suite struct FirmwareConfigurationTests {
  @Test func signatureAndVersion() throws {
    let guest = try Guest { _ in }
    guest.select(0)
    #expect(guest.read(6) == Array("QEMU".utf8) + [0, 0])
    guest.select(1)
    #expect(guest.read(4) == [3, 0, 0, 0])
    #expect(guest.device.read(at: 4, width: .doubleword) == 0x554D_4551)
    #expect(guest.device.read(at: 8, width: .doubleword) == 0x4746_4320)
    #expect(guest.device.read(at: 0, width: .word) == 0xFFFF)
  }

  @Test func byteWritesDoNotSelect() throws {
    let guest = try Guest { $0.set(5, integer: UInt16(7)) }
    guest.select(5)
    guest.device.write(at: 0, width: .byte, value: 0)
    guest.device.write(at: 1, width: .byte, value: 99)
    #expect(guest.read(3) == [7, 0, 0])
    // Bit 14 is no part of the number.
    guest.select(0x4005)
    #expect(guest.read(1) == [7])
  }

  @Test func wideReadsKeepTheOrder() throws {
    let guest = try Guest { $0.set(7, [1, 2, 3, 4, 5, 6]) }
    guest.select(7)
    #expect(guest.device.read(at: 1, width: .doubleword) == 0x0403_0201)
    #expect(guest.device.read(at: 1, width: .doubleword) == 0x0605)
    #expect(guest.device.read(at: 1, width: .word) == 0)
  }

  @Test func directoryIsSortedAndLeadsToTheFiles() throws {
    let guest = try Guest {
      try $0.setFile("etc/zebra", .bytes([9]))
      try $0.setFile("bootorder", .bytes([1, 2, 3]))
      try $0.setFile("etc/acpi/rsdp", .source(Pattern(count: 300)))
    }
    let files = guest.directory()
    #expect(files["bootorder"]?.key == 0x20 && files["bootorder"]?.size == 3)
    #expect(files["etc/acpi/rsdp"]?.key == 0x21 && files["etc/acpi/rsdp"]?.size == 300)
    guest.select(0x21)
    #expect(guest.read(3) == [0, 1, 2])
    guest.select(0x22)
    #expect(guest.read(2) == [9, 0])
  }

  @Test func transfersReachRAMOnly() throws {
    let guest = try Guest { try $0.setFile("f", .source(Pattern(count: 300))) }
    // Select, read past the end: the rest is zero.
    for address in 0x9000..<0x9200 as Range<UInt64> {
      guest.memory.store(UInt8(0xEE), at: GuestAddress(address))
    }
    #expect(guest.transfer(0x20 << 16 | 0b1010, 400, 0x9000) == 0)
    let bytes = try guest.memory.bytes(at: GuestAddress(0x9000), count: 401)
    #expect(bytes[299] == 43 && bytes[300] == 0 && bytes[399] == 0 && bytes[400] == 0xEE)
    // Skip, then read.
    #expect(guest.transfer(0x20 << 16 | 0b1100, 10, 0) == 0)
    #expect(guest.transfer(0b10, 1, 0x9000) == 0)
    #expect(guest.memory.load(UInt8.self, at: GuestAddress(0x9000)) == 10)
    // Not RAM, and RAM that ends: refused, nothing consumed.
    #expect(guest.transfer(0b10, 4, 0xFEC0_0000) == 1)
    #expect(guest.transfer(0b10, 16, (4 << 20) - 8) == 1)
    #expect(guest.transfer(0b10, .max, 0x1000) == 1)
    #expect(guest.transfer(0b10, 4, .max - 1) == 1)
    #expect(guest.read(1) == [11])
    // No answer is possible, no harm done.
    #expect(guest.transfer(0b10, 4, 0x9000, at: 0xFEC0_0000) == .max)
    #expect(guest.transfer(0b10, 4, 0x9000, at: .max - 8) == .max)
    #expect(guest.read(1) == [12])
    // Skipping far does not come round.
    #expect(guest.transfer(0b100, .max, 0) == 0)
    #expect(guest.transfer(0b100, .max, 0) == 0)
    #expect(guest.read(1) == [0])
  }

  @Test func writesNeedADeclaration() throws {
    let guest = try Guest {
      try $0.setFile("fixed", .bytes([1, 2, 3]))
      try $0.setFile("open", .bytes([4, 5, 6]), isWritable: true)
    }
    guest.memory.store(UInt16(0xBBAA), at: GuestAddress(0x9000))
    #expect(guest.transfer(0x20 << 16 | 0b1_1000, 2, 0x9000) == 1)
    #expect(guest.transfer(0x21 << 16 | 0b1_1000, 4, 0x9000) == 1)
    #expect(guest.transfer(0x21 << 16 | 0b1_1000, 2, 0x9000) == 0)
    #expect(guest.transfer(0b1_0000, 2, 0x9000) == 1)
    guest.select(0x20)
    #expect(guest.read(3) == [1, 2, 3])
    guest.select(0x21)
    #expect(guest.read(3) == [0xAA, 0xBB, 6])
    #expect(guest.device.content(of: 0x21) == [0xAA, 0xBB, 6])
    let saved = guest.device.saveState()
    guest.device.reset()
    guest.select(0x21)
    #expect(guest.read(3) == [4, 5, 6])
    guest.device.restoreState(saved)
    #expect(guest.read(1) == [0])
    guest.select(0x21)
    #expect(guest.read(3) == [0xAA, 0xBB, 6])
  }

  @Test func foreignStateStaysInBounds() throws {
    let guest = try Guest { try $0.setFile("f", .bytes([1, 2, 3])) }
    var state = FirmwareConfiguration.State()
    state.selected = 0x20
    for offset in [-1, Int.min, Int.max, 4] {
      state.offset = offset
      state.written = [0x20: [7], 0: [1]]
      guest.device.restoreState(state)
      _ = guest.read(5)
      #expect(guest.transfer(0b10, 16, 0x9000) == 0)
    }
    guest.select(0x20)
    #expect(guest.read(3) == [1, 2, 3])
  }

  @Test func namesAreChecked() throws {
    var items = FirmwareItems()
    let long = String(repeating: "a", count: 56)
    #expect(throws: FirmwareItemError.invalidName(long)) { try items.setFile(long, .bytes([])) }
    #expect(throws: FirmwareItemError.invalidName("")) { try items.setFile("", .bytes([])) }
  }

  @Test func anyAccessIsHarmless() throws {
    let guest = try Guest {
      try $0.setFile("a", .bytes([1, 2, 3]), isWritable: true)
      try $0.setFile("b", .source(Pattern(count: 100_000)))
      $0.set(5, integer: UInt16(1))
    }
    var generator = FixedGenerator(1)
    let widths: [AccessWidth] = [.byte, .word, .doubleword]
    for _ in 0..<20_000 {
      let random = generator.next()
      switch random & 3 {
      case 0:
        _ = guest.device.read(at: random >> 8 & 15, width: widths[Int(random >> 16 % 3)])
      case 1:
        guest.device.write(
          at: random >> 8 & 15, width: widths[Int(random >> 16 % 3)],
          value: random >> 24 & 0xFFFF_FFFF)
      default:
        let key = UInt32(random >> 8 & 0x3F) << 16
        _ = guest.transfer(
          key | UInt32(random >> 16 & 0x1F), UInt32(generator.next() >> 40),
          generator.next() >> (32 + random >> 60), at: random >> 24 & 0x1F_FFFF)
      }
    }
  }
}
