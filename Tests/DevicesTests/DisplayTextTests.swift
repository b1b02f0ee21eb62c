import DeviceFuzzing
import Devices
import Foundation
import GuestMemory
import Processor
import Testing

@Suite struct DisplayTextTests {
  private func type(_ text: String, at cell: Int, _ attribute: UInt8, _ bench: DisplayBench) {
    for (index, byte) in text.utf8.enumerated() {
      bench.poke(0xB8000 + UInt64(cell + index) * 2, byte)
      bench.poke(0xB8000 + UInt64(cell + index) * 2 + 1, attribute)
    }
  }

  @Test(arguments: [false, true])
  func textIsRead(_ maps: Bool) throws {
    let bench = try DisplayBench(maps: maps)
    type("Hello", at: 80, 0x1E, bench)
    bench.set(0x3D4, 0x0E, 0)
    bench.set(0x3D4, 0x0F, 85)
    let screen = try #require(bench.screen)
    #expect(screen.columns == 80 && screen.rows == 25 && screen.cells.count == 2000)
    let text = screen.text
    #expect(text == "\nHello" + String(repeating: "\n", count: 23))
    let cell = screen.cells[80]
    #expect(cell.foreground == 14 && cell.background == 1 && !cell.isBlinking)
    #expect(screen.cursor == .init(column: 5, row: 1, lines: 13...14, height: 16))
    #expect(screen.palette == TextScreen.standardPalette)
  }

  @Test func attributesBlinkOrShine() throws {
    let bench = try DisplayBench()
    type("x", at: 0, 0xC1, bench)
    #expect(bench.screen?.cells[0].isBlinking == true)
    #expect(bench.screen?.cells[0].background == 4)
    bench.attribute(0x10, 0x04)
    #expect(bench.screen?.cells[0].isBlinking == false)
    #expect(bench.screen?.cells[0].background == 12)
    #expect(bench.screen?.cells[0].isUnderlined == false)
    type("x", at: 0, 0x01, bench)
    bench.set(0x3D4, 0x14, 0x0D)
    #expect(bench.screen?.cells[0].isUnderlined == true)
  }

  @Test func startAddressSplitAndPitch() throws {
    let bench = try DisplayBench()
    type("first", at: 0, 7, bench)
    type("second page", at: 2048, 7, bench)
    bench.set(0x3D4, 0x0C, 0x08)
    #expect(bench.screen?.text(ofRow: 0).hasPrefix("second page") == true)
    // From line 200 on (row 13 begins at line 208) address 0 is shown.
    bench.set(0x3D4, 0x09, 0x0F)
    bench.set(0x3D4, 0x07, 0x0F)
    bench.set(0x3D4, 0x18, 199)
    #expect(bench.screen?.text(ofRow: 13).hasPrefix("first") == true)
    bench.set(0x3D4, 0x13, 0x00)
    #expect(bench.screen?.text(ofRow: 12).hasPrefix("second page") == true, "pitch 0")
  }

  @Test func otherTextModes() throws {
    let bench = try DisplayBench()
    bench.set(0x3D4, 0x09, 0x47)
    #expect(bench.screen?.rows == 50)
    bench.set(0x3D4, 0x11, 0x0E)
    bench.set(0x3D4, 0x01, 0x27)
    #expect(bench.screen?.columns == 40)
    // Nonsense: one line a row and 256 columns.
    bench.set(0x3D4, 0x09, 0x40)
    bench.set(0x3D4, 0x01, 0xFF)
    let screen = try #require(bench.screen)
    #expect(screen.cells.count == screen.columns * screen.rows && screen.cells.count <= 7920)
  }

  @Test func cursorIsHidden() throws {
    let bench = try DisplayBench()
    #expect(bench.screen?.cursor != nil)
    bench.set(0x3D4, 0x0A, 0x2D)
    #expect(bench.screen?.cursor == nil)
    bench.set(0x3D4, 0x0A, 0x00)
    bench.set(0x3D4, 0x0B, 0x0F)
    #expect(bench.screen?.cursor?.isBlock == true)
    bench.set(0x3D4, 0x0E, 0x40)
    #expect(bench.screen?.cursor == nil, "outside the screen")
  }

  @Test func coloursGoThroughPaletteAndConverter() throws {
    let bench = try DisplayBench()
    bench.attribute(0x07, 0x20)
    bench.out(0x3C8, 0x20)
    for value in [0x3F, 0x20, 0x00] as [UInt8] { bench.out(0x3C9, value) }
    #expect(bench.screen?.palette[7] == 0xFF8200)
    bench.attribute(0x14, 0x04)
    #expect(bench.screen?.palette[7] == 0x000000, "entry 0x60 is black")
    bench.attribute(0x10, 0x8C)
    bench.attribute(0x14, 0x02)
    #expect(bench.screen?.palette[7] == 0xFF8200 || bench.screen?.palette[0] == 0xFF8200)
  }

  @Test func generationGrowsWithChangesOnly() throws {
    let bench = try DisplayBench()
    let first = bench.display.snapshot().generation
    #expect(bench.display.snapshot().generation == first)
    bench.poke(0xB8000, 0x41)
    #expect(bench.display.snapshot().generation == first + 1)
    bench.poke(0xB8000, 0x41)
    #expect(bench.display.snapshot().generation == first + 1)
  }

  @Test func codePage437() {
    let all = String((0...255).map { CodePage437.character(UInt8($0)) })
    #expect(all.count == 256)
    #expect(CodePage437.character(0xB3) == "│" && CodePage437.character(0xDB) == "█")
    #expect(CodePage437.character(0x80) == "Ç" && CodePage437.character(0xFE) == "■")
    #expect(CodePage437.character(0x7F) == "⌂" && CodePage437.character(0x41) == "A")
    let isInverse = (0...255).allSatisfy { code in
      let back = CodePage437.code(CodePage437.character(UInt8(code)))
      return back == UInt8(code) || CodePage437.character(UInt8(code)) == " "
    }
    #expect(isInverse)
    #expect(CodePage437.code("€") == 0x20)
  }

  // MARK: The window as memory

  @Test func plainTextIsShownDirectly() throws {
    let bench = try DisplayBench(maps: true)
    let region = try #require(bench.mapper.shown)
    region.host.storeBytes(of: 0x41, as: UInt8.self)
    #expect(bench.screen?.cells[0].code == 0x41)
    // After the last look, so that the window alone has it.
    region.host.storeBytes(of: 0x42, toByteOffset: 2, as: UInt8.self)
    // Loading a font: the window is planes again, and has what was written.
    bench.sequencer(2, 0x04)
    #expect(bench.mapper.shown == nil)
    bench.sequencer(4, 0x06)
    bench.graphics(5, 0)
    bench.graphics(6, 0x04)
    #expect(bench.plane(0, 0) == 0x41 && bench.plane(0, 2) == 0x42)
    bench.poke(0xA0000, 0x99)
    #expect(bench.plane(2, 0) == 0x99)
    bench.sequencer(4, 0x02)
    bench.graphics(4, 0)
    bench.graphics(5, 0x10)
    bench.graphics(6, 0x0E)
    bench.sequencer(2, 0x03)
    #expect(bench.mapper.shown != nil)
    #expect(bench.screen?.cells[0].code == 0x41)
    bench.display.stop()
    #expect(bench.mapper.shown == nil)
  }

  @Test func stateTravels() throws {
    let bench = try DisplayBench(maps: true)
    type("kept", at: 3, 0x2F, bench)
    bench.set(0x3D4, 0x0F, 7)
    bench.out(0x3C8, 0x3F)
    bench.out(0x3C9, 0x11)
    let data = try JSONEncoder().encode(bench.display.saveState())
    let other = try DisplayBench(maps: true)
    type("gone", at: 100, 0x2F, other)
    other.display.restoreState(try JSONDecoder().decode(DisplayAdapter.State.self, from: data))
    #expect(other.screen == bench.screen)
    #expect(other.screen?.text(ofRow: 0).hasPrefix("   kept") == true)
    // Half through the colour's three bytes.
    for each in [bench, other] {
      each.out(0x3C9, 0x22)
      each.out(0x3C9, 0x33)
      each.out(0x3C7, 0x3F)
    }
    let same = (0..<3).allSatisfy { _ in bench.input(0x3C9) == other.input(0x3C9) }
    #expect(same)
  }

  // MARK: Bochs

  @Test func bochsInterface() throws {
    let bench = try DisplayBench()
    #expect(bench.bochs(0) == 0xB0C5)
    bench.bochs(0, 0xB0C2)
    #expect(bench.bochs(0) == 0xB0C2)
    bench.bochs(0, 0xB0C9)
    #expect(bench.bochs(0) == 0xB0C2, "no such version")
    #expect(bench.bochs(0x0A) == 256, "16 MiB")
    bench.bochs(4, 0x02)
    #expect((1...3).map { bench.bochs($0) } == [2560, 1600, 32])
    bench.bochs(4, 0)
    bench.bochs(1, 800)
    bench.bochs(2, 600)
    bench.bochs(3, 7)
    #expect(bench.bochs(3) == 8, "no such depth")
    bench.bochs(3, 32)
    bench.poke(0xB8000, 0x41)
    bench.bochs(4, 0xC1)
    #expect(
      bench.display.snapshot().content == .graphics(.init(width: 800, height: 600, depth: 32)))
    bench.bochs(1, 640)
    #expect(bench.bochs(1) == 800, "not while it is on")
    #expect(bench.bochs(6) == 800)
    bench.bochs(9, 100)
    #expect(bench.bochs(9) == 100)
    bench.bochs(8, 1)
    #expect(bench.bochs(8) == 0, "no room to the right")
    bench.bochs(6, 1024)
    bench.bochs(8, 224)
    #expect(bench.bochs(8) == 224)
    bench.bochs(9, 3600)
    #expect(bench.bochs(9) == 0, "beyond the memory")
    // The window shows 64 KiB of memory from the bank.
    bench.bochs(5, 3)
    bench.poke(0xA0005, 0x5A)
    bench.bochs(5, 0)
    #expect(bench.peek(0xA0005) == 0)
    bench.bochs(5, 3)
    #expect(bench.peek(0xA0005) == 0x5A)
    #expect(bench.peek(0xB0000) == 0xFF)
    bench.bochs(5, 256)
    #expect(bench.bochs(5) == 3, "no such bank")
    bench.bochs(4, 0)
    #expect(bench.screen?.cells[0].code == 0x41, "memory was kept")
    #expect(bench.input(0x1CE) == 0xFF, "bytes are not defined")
  }

  @Test func memoryIsClearedUnlessKept() throws {
    let bench = try DisplayBench()
    bench.bochs(1, 640)
    bench.bochs(2, 480)
    bench.bochs(3, 8)
    bench.bochs(4, 0x41)
    bench.poke(0xA0000, 0x5A)
    bench.bochs(4, 0)
    bench.bochs(4, 0xC1)
    #expect(bench.peek(0xA0000) == 0x5A)
    bench.bochs(4, 0)
    bench.bochs(4, 0x41)
    #expect(bench.peek(0xA0000) == 0)
  }

  // MARK: PCI

  @Test func functionHasMemoryRegistersAndROM() throws {
    let ports = PortBus()
    let memory = MemoryBus()
    let host = PCIHost(decoding: PCIDecoding(ports: ports, memory: memory), sink: LineRecorder())
    host.registerPorts()
    let display = try DisplayAdapter(
      rom: PCIRegion(contents: [0x55, 0xAA, 0x40]), clock: HandClock())
    display.register(ports: ports, memory: memory)
    host.attach(display, at: PCIAddress(device: 2))
    func configuration(_ register: UInt32, _ value: UInt32? = nil) -> UInt32 {
      ports.write(port: 0xCF8, width: .doubleword, value: UInt64(0x8000_1000 | register))
      if let value {
        ports.write(port: 0xCFC, width: .doubleword, value: UInt64(value))
      }
      return UInt32(ports.read(port: 0xCFC, width: .doubleword))
    }
    #expect(configuration(0) == 0x1111_1234)
    #expect(configuration(8) >> 8 == 0x030000)
    #expect(configuration(0x10, .max) == 0xFF00_0008, "16 MiB, prefetchable")
    #expect(configuration(0x18, .max) == 0xFFFF_F000)
    #expect(configuration(0x30, .max & ~1) == 0xFFFF_F000)
    _ = configuration(0x10, 0xE000_0000)
    _ = configuration(0x18, 0xE100_0000)
    _ = configuration(0x30, 0xE101_0001)
    _ = configuration(4, 2)
    func read(_ address: UInt64, _ width: AccessWidth) -> UInt64 {
      memory.read(at: GuestAddress(address), width: width)
    }
    #expect(read(0xE100_0500, .word) == 0xB0C5)
    #expect(read(0xE100_040C, .byte) == 0x67, "port 0x3CC")
    #expect(read(0xE100_0600, .doubleword) == 8)
    #expect(read(0xE100_0000, .doubleword) == 0, "no EDID")
    #expect(read(0xE101_0000, .word) == 0xAA55)
    memory.write(at: GuestAddress(0xE000_0000), width: .doubleword, value: 0x0102_0304)
    #expect(read(0xE000_0002, .byte) == 0x02)
    memory.write(at: GuestAddress(0xE100_0504), width: .word, value: 600)
    #expect(read(0xE100_0504, .word) == 600)
  }
}
