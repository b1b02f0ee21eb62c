import Devices
import Testing

@Suite struct DisplayTests {
  // MARK: Registers

  @Test func indexedRegistersKeepTheBitsThatExist() throws {
    let bench = try DisplayBench()
    for (port, index, expected): (UInt16, UInt8, UInt8) in [
      (0x3C4, 0, 0x03), (0x3C4, 1, 0x3D), (0x3C4, 2, 0x0F), (0x3C4, 4, 0x0E),
      (0x3CE, 0, 0x0F), (0x3CE, 3, 0x1F), (0x3CE, 4, 0x03), (0x3CE, 5, 0x7B), (0x3CE, 8, 0xFF),
      (0x3D4, 0x0C, 0xFF), (0x3D4, 0x18, 0xFF), (0x3D4, 0x1F, 0), (0x3CE, 0x0F, 0), (0x3C4, 7, 0),
    ] {
      bench.set(port, index, 0xFF)
      #expect(bench.get(port, index) == expected, "port \(port), index \(index)")
    }
    #expect(bench.input(0x3CC) == 0x67)
    bench.out(0x3C2, 0xFF)
    #expect(bench.input(0x3CC) == 0xEF)
    bench.out(0x3DA, 0xFF)
    #expect(bench.input(0x3CA) == 0x0B)
  }

  @Test func retraceEndProtectsTheTimings() throws {
    let bench = try DisplayBench()
    // Mode 3 leaves bit 7 of register 0x11 set.
    bench.set(0x3D4, 0x00, 0x11)
    #expect(bench.get(0x3D4, 0x00) == 0x5F)
    bench.set(0x3D4, 0x07, 0x00)
    #expect(bench.get(0x3D4, 0x07) == 0x0F, "bit 4, line compare, is not protected")
    bench.set(0x3D4, 0x11, 0x0E)
    bench.set(0x3D4, 0x00, 0x11)
    #expect(bench.get(0x3D4, 0x00) == 0x11)
  }

  @Test func theControllersAddressFollowsMiscellaneousOutput() throws {
    let bench = try DisplayBench()
    bench.set(0x3D4, 0x0E, 0x12)
    #expect(bench.get(0x3B4, 0x0E) == 0xFF, "nobody at the monochrome address")
    bench.out(0x3C2, 0x66)
    #expect(bench.get(0x3B4, 0x0E) == 0x12)
    #expect(bench.input(0x3D5) == 0xFF)
    _ = bench.input(0x3BA)
  }

  @Test func attributeIndexAndDataTakeTurns() throws {
    let bench = try DisplayBench()
    _ = bench.input(0x3DA)
    bench.out(0x3C0, 0x10)
    bench.out(0x3C0, 0xFF)
    bench.out(0x3C0, 0x30)
    #expect(bench.input(0x3C1) == 0xEF)
    _ = bench.input(0x3DA)
    bench.out(0x3C0, 0x34)
    #expect(bench.input(0x3C0) == 0, "data is due")
    _ = bench.input(0x3DA)
    #expect(bench.input(0x3C0) == 0x34, "reading the status makes the next one an index")
    if case .blank = bench.display.snapshot().content { Issue.record("bit 5 shows the screen") }
    bench.out(0x3C0, 0x00)
    #expect(bench.display.snapshot().content == .blank)
  }

  @Test func paletteCountsThroughItsBytes() throws {
    let bench = try DisplayBench()
    bench.out(0x3C8, 255)
    for value in [0x3F, 0xFF, 0x01, 0x2A] as [UInt8] { bench.out(0x3C9, value) }
    bench.out(0x3C7, 255)
    #expect(bench.input(0x3C7) == 3, "asked to read")
    #expect((0..<4).map { _ in bench.input(0x3C9) } == [0x3F, 0x3F, 0x01, 0x2A])
    bench.out(0x3C8, 7)
    #expect(bench.input(0x3C7) == 0)
    #expect(bench.input(0x3C8) == 7)
    bench.out(0x3C6, 0x0F)
    #expect(bench.input(0x3C6) == 0x0F)
  }

  @Test func theBeamGoesRound() throws {
    let bench = try DisplayBench()
    // 449 lines of 31.778 us: retrace in lines 412 and 413, the picture in 0 to 399.
    let line: UInt64 = 31_778
    func status(_ number: UInt64, _ part: UInt64 = 0) -> UInt8 {
      let frame = 449 * line
      let now = bench.clock.now.rawValue
      let target = (now / frame + 1) * frame + number * line + part
      bench.clock.jump(nanoseconds: target - now)
      return bench.input(0x3DA) & 9
    }
    #expect(status(0) == 0)
    #expect(status(10, 30_000) == 1, "between lines")
    #expect(status(399) == 0)
    #expect(status(400) == 1)
    #expect(status(412) == 9)
    #expect(status(413) == 9)
    #expect(status(414) == 1)
    // Nonsense in the registers still lets it come.
    bench.set(0x3D4, 0x11, 0)
    bench.set(0x3D4, 0x10, 0xFF)
    bench.set(0x3D4, 0x07, 0xFF)
    bench.set(0x3D4, 0x06, 0x00)
    var seen: Set<UInt8> = []
    for _ in 0..<5000 {
      bench.clock.jump(nanoseconds: 20_011)
      seen.insert(bench.input(0x3DA) & 8)
    }
    #expect(seen == [0, 8])
  }

  // MARK: Planes

  @Test func writeModeZero() throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    bench.poke(0xA0000, 0xA5)
    #expect((0..<4).map { bench.plane($0, 0) } == [0xA5, 0xA5, 0xA5, 0xA5])
    bench.sequencer(2, 0x05)
    bench.poke(0xA0000, 0x3C)
    #expect((0..<4).map { bench.plane($0, 0) } == [0x3C, 0xA5, 0x3C, 0xA5])
    bench.sequencer(2, 0x0F)
    bench.graphics(0, 0x06)
    bench.graphics(1, 0x0E)
    bench.graphics(3, 0x03)
    bench.poke(0xA0001, 0x81)
    #expect((0..<4).map { bench.plane($0, 1) } == [0x30, 0xFF, 0xFF, 0x00], "rotated right by 3")
    bench.graphics(1, 0)
    bench.graphics(3, 0x18)
    bench.graphics(8, 0x0F)
    _ = bench.peek(0xA0001)
    bench.poke(0xA0001, 0xFF)
    #expect((0..<4).map { bench.plane($0, 1) } == [0x3F, 0xF0, 0xF0, 0x0F], "exclusive or, masked")
  }

  @Test(arguments: [(1, 0x0C, 0x00), (2, 0xCF, 0xFF), (3, 0xC3, 0xFF)] as [(UInt8, UInt8, UInt8)])
  func logicalFunctions(_ function: UInt8, _ first: UInt8, _ second: UInt8) throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    bench.sequencer(2, 0x01)
    bench.poke(0xA0000, 0xCC)
    bench.sequencer(2, 0x02)
    bench.poke(0xA0000, 0xF0)
    bench.sequencer(2, 0x0F)
    bench.graphics(3, function << 3)
    _ = bench.peek(0xA0000)
    bench.poke(0xA0000, 0x0F)
    #expect(bench.plane(0, 0) == first)
    #expect(bench.plane(1, 0) == second)
  }

  @Test func writeModesOneTwoThree() throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    for plane in UInt8(0)..<4 {
      bench.sequencer(2, 1 << plane)
      bench.poke(0xA0010, 0x11 &* (plane + 1))
    }
    bench.sequencer(2, 0x0F)
    bench.graphics(5, 1)
    _ = bench.peek(0xA0010)
    bench.poke(0xA0020, 0)
    bench.graphics(5, 0)
    #expect((0..<4).map { bench.plane($0, 0x20) } == [0x11, 0x22, 0x33, 0x44])
    bench.graphics(5, 2)
    bench.graphics(8, 0xF0)
    _ = bench.peek(0xA0020)
    bench.poke(0xA0020, 0x0A)
    bench.graphics(5, 0)
    #expect((0..<4).map { bench.plane($0, 0x20) } == [0x01, 0xF2, 0x03, 0xF4])
    bench.graphics(5, 3)
    bench.graphics(0, 0x05)
    bench.graphics(3, 0x01)
    bench.graphics(8, 0x3F)
    _ = bench.peek(0xA0020)
    bench.poke(0xA0020, 0x03)  // rotated: 0x81, masked: 0x01
    bench.graphics(5, 0)
    #expect((0..<4).map { bench.plane($0, 0x20) } == [0x01, 0xF2, 0x03, 0xF4])
    bench.graphics(5, 3)
    _ = bench.peek(0xA0020)
    bench.poke(0xA0020, 0x1C)  // rotated: 0x0E
    bench.graphics(5, 0)
    #expect((0..<4).map { bench.plane($0, 0x20) } == [0x0F, 0xF0, 0x0F, 0xF0])
  }

  @Test func readModeOneComparesColours() throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    for (plane, value) in [0xF0, 0xCC, 0x00, 0xAA].enumerated() {
      bench.sequencer(2, 1 << UInt8(plane))
      bench.poke(0xA0000, UInt8(value))
    }
    bench.graphics(5, 0x08)
    bench.graphics(2, 0x03)
    bench.graphics(7, 0x0F)
    #expect(bench.peek(0xA0000) == 0xF0 & 0xCC & 0x55)
    bench.graphics(7, 0x07)
    #expect(bench.peek(0xA0000) == 0xC0, "plane 3 is not cared for")
    bench.graphics(7, 0)
    #expect(bench.peek(0xA0000) == 0xFF)
  }

  @Test func chainFourAndOddEvenSelectPlanes() throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    bench.sequencer(4, 0x0E)
    for offset in UInt64(0)..<8 { bench.poke(0xA0000 + offset, 0x10 + UInt8(offset)) }
    #expect(bench.peek(0xA0006) == 0x16)
    bench.sequencer(4, 0x06)
    #expect((0..<4).map { bench.plane($0, 0) } == [0x10, 0x11, 0x12, 0x13])
    #expect((0..<4).map { bench.plane($0, 4) } == [0x14, 0x15, 0x16, 0x17])
    bench.sequencer(4, 0x02)
    bench.graphics(5, 0x10)
    bench.graphics(6, 0x07)
    bench.sequencer(2, 0x03)
    bench.poke(0xA0000, 0xAA)
    bench.poke(0xA0001, 0xBB)
    bench.graphics(4, 0)
    #expect(bench.peek(0xA0001) == 0xBB)
    bench.sequencer(4, 0x06)
    bench.graphics(5, 0)
    bench.graphics(6, 0x05)
    #expect((0..<4).map { bench.plane($0, 0) } == [0xAA, 0xBB, 0x12, 0x13])
  }

  @Test func theWindowMoves() throws {
    let bench = try DisplayBench()
    bench.setPlanarMode()
    bench.poke(0xA0000, 0x77)
    for (map, first, last): (UInt8, UInt64, UInt64) in [
      (0, 0xA0000, 0xBFFFF), (1, 0xA0000, 0xAFFFF), (2, 0xB0000, 0xB7FFF), (3, 0xB8000, 0xBFFFF),
    ] {
      bench.graphics(6, 0x01 | map << 2)
      #expect(bench.peek(first) == 0x77)
      if first > 0xA0000 { #expect(bench.peek(first - 1) == 0xFF) }
      if last < 0xBFFFF { #expect(bench.peek(last + 1) == 0xFF) }
    }
    bench.out(0x3C2, 0x65)
    #expect(bench.peek(0xB8000) == 0xFF, "memory is switched off")
  }
}
