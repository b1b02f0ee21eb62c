import DeviceFuzzing
import Devices
import Testing

@Suite struct LegacyDirectMemoryAccessTests {
  /// Intel 8237A data sheet: flip-flop, page registers, terminal count.
  @Test func channelsAndPages() {
    var dma = DirectMemoryAccessController()
    dma.write8(0x0C, 0)
    for (offset, value) in [
      (0x04, 0x34), (0x04, 0x12), (0x05, 0x03), (0x05, 0x00), (0x81, 0xAB), (0x0B, 0x46),
    ] as [(UInt64, UInt8)] {
      dma.write8(offset, value)
    }
    #expect(dma.transfer(ofChannel: 2) == nil, "masked")
    dma.write8(0x0A, 0x02)
    let transfer = dma.transfer(ofChannel: 2)
    #expect(transfer?.address == 0xAB1234 && transfer?.count == 4)
    #expect(dma.transferred(channel: 2, count: 3) == false)
    #expect(dma.read8(0x04) == 0x37 && dma.read8(0x04) == 0x12)
    #expect(dma.transferred(channel: 2, count: 1) == true)
    #expect(dma.read8(0x08) == 0x04 && dma.read8(0x08) == 0)
    #expect(dma.transfer(ofChannel: 2) == nil, "masked by the terminal count")
    dma.write8(0xD4, 0x01)
    dma.write8(0x8B, 0x13)
    dma.write8(0xC4, 0x00)
    dma.write8(0xC4, 0x80)
    #expect(dma.transfer(ofChannel: 5)?.address == 0x130000 && dma.transfer(ofChannel: 4) == nil)
    dma.write8(0xDA, 0)
    #expect(dma.transfer(ofChannel: 5) == nil)
    #expect(dma.read8(0x20) == 0xFF)
  }

  @Test func fuzzed() throws {
    try fuzz(DirectMemoryAccessController(), offsets: 0...0xE0, seed: 8) { dma, random, _ in
      let channel = Int(random.next() % 9)
      _ = dma.transfer(ofChannel: channel)
      _ = dma.transferred(channel: channel, count: UInt16(truncatingIfNeeded: random.next()))
    }
  }
}
