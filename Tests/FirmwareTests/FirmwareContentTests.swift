import Devices
import Firmware
import GuestMemory
import Testing

@Suite struct FirmwareContentTests {
  @Test func memorySizesInCMOS() {
    func cmos(_ size: UInt64, _ processors: Int = 1) -> [UInt8] {
      CMOSContent(memorySize: size, processorCount: processors, bootClasses: [.cdrom, .disk]).bytes
    }
    let small = cmos(8 << 20)
    #expect(small.integer(UInt16.self, at: 0x15) == 640)
    #expect(small.integer(UInt16.self, at: 0x17) == 7 << 10)
    #expect(small.integer(UInt16.self, at: 0x34) == 0)
    let medium = cmos(256 << 20, 4)
    #expect(medium.integer(UInt16.self, at: 0x30) == 0xFFFF)
    #expect(medium.integer(UInt16.self, at: 0x34) == 240 * 16)
    #expect(medium[0x5F] == 3 && medium[0x3D] == 0x23 && medium[0x38] == 0x01)
    #expect(medium[0x14] == 0b110)
    let large = cmos(1 << 40)
    #expect(large.integer(UInt16.self, at: 0x34) == UInt16((0xC000_0000 - (16 << 20)) >> 16))
    let high = UInt64(large.integer(UInt16.self, at: 0x5B)) | UInt64(large[0x5D]) << 16
    #expect(high << 16 == (1 << 40) - 0xC000_0000)
    #expect(large[..<0x0E].allSatisfy { $0 == 0 })
    let sum = large[0x10..<0x2E].reduce(0) { $0 + Int($1) }
    #expect(Int(large[0x2E]) << 8 | Int(large[0x2F]) == sum)
  }

  @Test func bootOrderNamesPlaces() {
    let file = BootOrderFile(
      [
        .block(slot: 4), .scsi(slot: 0x1F, function: 2, target: 12),
        .network(slot: 3), .rom(name: "linuxboot_dma.bin"),
      ], stopsAtEnd: true)
    #expect(
      String(decoding: file.bytes, as: UTF8.self) == """
        /pci@i0cf8/scsi@4/disk@0,0
        /pci@i0cf8/scsi@1f,2/channel@0/disk@c,0
        /pci@i0cf8/ethernet@3/ethernet-phy@0
        /rom@genroms/linuxboot_dma.bin
        HALT\0
        """)
  }

  @Test func filesSayWhatTheBoardIs() throws {
    var board = exampleBoard(memory: 5 << 30, processors: 3)
    board.bootOrder = [.block(slot: 2)]
    board.reservedRanges = [0xFEFF_C000..<0xFF00_0000]
    let content = try FirmwareContent(board)
    let map = try #require(content.items.fileBytes("etc/e820"))
    #expect(map.count == 60)
    #expect(map.integer(UInt64.self, at: 8) == 0xC000_0000 && map[16] == 1)
    #expect(map.integer(UInt64.self, at: 20) == 1 << 32)
    #expect(map.integer(UInt64.self, at: 28) == 2 << 30)
    #expect(map.integer(UInt64.self, at: 40) == 0xFEFF_C000 && map[56] == 2)
    #expect(content.items.fileBytes("etc/sercon-port") == [0xF8, 0x03])
    #expect(content.items.fileBytes("etc/boot-fail-wait") == [255, 255, 255, 255])
    #expect(content.items.bytes(5) == [3, 0] && content.items.bytes(0xF) == [3, 0])
    #expect(content.items.bytes(3)?.integer(UInt64.self, at: 0) == 5 << 30)
    #expect(content.items.bytes(0x8002) == [1])
    #expect(content.items.bytes(0x0E) == [0, 0])
  }

  @Test func impossibleBoardsAreRefused() {
    var board = exampleBoard()
    board.processorCount = 0
    #expect(throws: FirmwareError.self) { try FirmwareContent(board) }
    board = exampleBoard()
    board.uuid = [1]
    #expect(throws: FirmwareError.self) { try FirmwareContent(board) }
  }

  @Test(arguments: [UInt64(64) << 20, 20 << 30, 3 << 40])
  func identityIsWellFormed(memory: UInt64) throws {
    var board = exampleBoard(memory: memory)
    board.name = "web-7 \u{1F980}" + String(repeating: "x", count: 100)
    let content = try FirmwareContent(board)
    let anchor = try #require(content.items.fileBytes("etc/smbios/smbios-anchor"))
    let tables = try #require(content.items.fileBytes("etc/smbios/smbios-tables"))
    #expect(anchor.count == 31 && anchor.sum == 0 && Array(anchor[16...]).sum == 0)
    #expect(Int(anchor.integer(UInt16.self, at: 0x16)) == tables.count)
    var types: [UInt8] = []
    var place = 0
    var handles: Set<UInt16> = []
    while place < tables.count {
      let type = tables[place]
      types.append(type)
      #expect(handles.insert(tables.integer(UInt16.self, at: place + 2)).inserted)
      let lengths: [UInt8: UInt8] = [
        0: 24, 1: 27, 3: 22, 4: 48, 16: 23, 17: 40, 19: 31, 32: 11, 127: 4,
      ]
      #expect(tables[place + 1] == lengths[type], "type \(type)")
      if type == 1 {
        let uuid = Array(tables[(place + 8)..<(place + 24)])
        #expect(uuid[..<8] == [0x13, 0x12, 0x11, 0x10, 0x15, 0x14, 0x17, 0x16])
        #expect(Array(uuid[8...]) == Array(0x18..<0x20))
      }
      place += Int(tables[place + 1])
      while tables[place] != 0 || tables[place + 1] != 0 { place += 1 }
      place += 2
    }
    #expect(types.prefix(5) == [0, 1, 3, 4, 16] && types.last == 127)
    #expect(types.count == Int(anchor.integer(UInt16.self, at: 0x1C)))
  }

  @Test func mapsCarveWhatIsReserved() {
    let map = MemoryMap.direct(memorySize: 4 << 30, reserved: [0x20_0000..<0x30_0000])
    #expect(map.entries.map(\.base) == [0, 0x9FC00, 0x10_0000, 0x20_0000, 0x30_0000, 1 << 32])
    #expect(map.entries.map(\.kind) == [.ram, .reserved, .ram, .reserved, .ram, .ram])
    #expect(map.isRAM(0x10_0000..<0x20_0000) && !map.isRAM(0x1F_FFFF..<0x20_0001))
    #expect(map.entries.last?.size == 1 << 30)
  }
}

@Suite struct SystemFirmwareTests {
  private func image(_ size: Int) -> [UInt8] {
    (0..<size).map { UInt8(truncatingIfNeeded: $0 >> 8 ^ $0) }
  }

  private func problem(_ bytes: [UInt8]) -> String? {
    do throws(FirmwareError) {
      _ = try SystemFirmware(BootFile(name: "bios.bin", bytes: bytes))
      return nil
    } catch {
      return error.description
    }
  }

  @Test func lastPartIsShadowed() throws {
    let firmware = try SystemFirmware(BootFile(name: "bios.bin", bytes: image(256 << 10)))
    #expect(firmware.romAddress == GuestAddress(0xFFFC_0000))
    let memory = try GuestMemory(size: 2 << 20)
    try firmware.plan().apply(to: memory)
    #expect(
      try memory.bytes(at: GuestAddress(0xE0000), count: 0x20000)
        == Array(firmware.image.suffix(0x20000)))
    #expect(memory.load(UInt8.self, at: GuestAddress(0xDFFFF)) == 0)
    let small = try SystemFirmware(BootFile(name: "bios.bin", bytes: image(64 << 10)))
    #expect(try small.plan().segments.map(\.address) == [0xF0000])
  }

  @Test func unusableImagesAreNamed() {
    #expect(problem([])?.contains("bios.bin") == true)
    #expect(problem(image(100_000))?.contains("truncated") == true)
    #expect(problem(image(17 << 20)) != nil)
    #expect(problem([UInt8](repeating: 0xFF, count: 65536))?.contains("reset vector") == true)
    #expect(problem(image(65536)) == nil)
    #expect(throws: FirmwareError.self) { try SystemFirmware(path: "/nonexistent/bios.bin") }
    #expect(throws: FirmwareError.self) { try SystemFirmware(path: "/tmp") }
  }

  @Test(
    .enabled(
      if: isExecutable("/usr/share/seabios") && !TemporaryDirectory.isMissing(seabios),
      "needs \(seabios) (apt install seabios)"))
  func distributionImageIsFound() throws {
    let firmware = try SystemFirmware()
    #expect(firmware.image.count % 65536 == 0)
    // A far jump into segment 0xF000.
    #expect(firmware.image[firmware.image.count - 16] == 0xEA)
  }
}

private let seabios = SystemFirmware.usualPaths[0]
