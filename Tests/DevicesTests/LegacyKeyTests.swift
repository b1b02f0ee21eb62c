import DeviceFuzzing
import Devices
import Testing

/// Keys of the host on their way to the guest.
@Suite struct LegacyKeyTests {
  private func codes(_ stroke: KeyStroke?) -> [UInt16]? {
    stroke.map { $0.events.map { $0.key.rawValue | ($0.isPressed ? 0 : 0x80) } }
  }

  @Test func layoutOfTheUnitedStates() {
    let printable = (0x20..<0x7F).map { Character(Unicode.Scalar(UInt8($0))) }
    let missing = printable.filter { KeyboardLayout.stroke(for: $0) == nil }
    #expect(missing.isEmpty)
    let distinct = Set(printable.compactMap { KeyboardLayout.stroke(for: $0) })
    #expect(distinct.count == 95)
    #expect(codes(KeyboardLayout.stroke(for: "a")) == [0x1E, 0x9E])
    #expect(codes(KeyboardLayout.stroke(for: "A")) == [0x2A, 0x1E, 0x9E, 0xAA])
    #expect(codes(KeyboardLayout.stroke(for: "|")) == [0x2A, 0x2B, 0xAB, 0xAA])
    #expect(codes(KeyboardLayout.stroke(for: "/")) == [0x35, 0xB5])
    #expect(codes(KeyboardLayout.stroke(for: "\n")) == [0x1C, 0x9C])
    #expect(codes(KeyboardLayout.stroke(for: "\u{3}")) == [0x1D, 0x2E, 0xAE, 0x9D], "Ctrl-C")
    #expect(KeyboardLayout.stroke(for: "ä") == nil)
  }

  @Test func namesAndCombinations() {
    #expect(
      codes(KeyboardLayout.stroke(named: "ctrl-alt-del"))
        == [0x1D, 0x38, 0xE053, 0xE0D3, 0xB8, 0x9D])
    #expect(codes(KeyboardLayout.stroke(named: "F10")) == [0x44, 0xC4])
    #expect(codes(KeyboardLayout.stroke(named: "f12")) == [0x58, 0xD8])
    #expect(codes(KeyboardLayout.stroke(named: "ctrl--")) == [0x1D, 0x0C, 0x8C, 0x9D])
    #expect(codes(KeyboardLayout.stroke(named: "shift")) == [0x2A, 0xAA])
    #expect(codes(KeyboardLayout.stroke(named: "shift-A")) == [0x2A, 0x1E, 0x9E, 0xAA])
    #expect(codes(KeyboardLayout.stroke(named: "alt-sysrq")) == [0x38, 0x54, 0xD4, 0xB8])
    #expect(codes(KeyboardLayout.stroke(named: "ctrl-break")) == [0x1D, 0xE046, 0xE0C6, 0x9D])
    for wrong in ["", "-", "ctrl-", "f13", "hyper-a", "ab", "ctrl-ab"] {
      #expect(wrong == "-" || KeyboardLayout.stroke(named: wrong) == nil, "\(wrong)")
    }
    let unknown = KeyboardLayout.keyNames.filter { name in
      guard let stroke = KeyboardLayout.stroke(named: name) else { return true }
      return (1...3).contains { ScanCode.bytes(of: stroke.key, pressed: true, set: $0).isEmpty }
    }
    #expect(unknown == [], "every key that has a name has codes in all three sets")
  }

  @Test func keysComeAtAPace() {
    let clock = HandClock()
    let device = ChipDevice(KeyboardController(), clock: clock)
    let strokes = "ab".compactMap { KeyboardLayout.stroke(for: $0) }
    let isTyped = device.withChip { chip, now in chip.type(strokes, now: now) }
    #expect(isTyped)
    func take() -> [UInt8] {
      var bytes: [UInt8] = []
      while device.read(at: 4, width: .byte) & 1 != 0 {
        bytes.append(UInt8(device.read(at: 0, width: .byte)))
      }
      return bytes
    }
    #expect(take() == [0x1E], "the first at once, translated to set 1")
    clock.advance(nanoseconds: 4_000_000)
    #expect(take() == [])
    clock.advance(nanoseconds: 1_000_000)
    #expect(take() == [0x9E])
    clock.advance(nanoseconds: 20_000_000)
    #expect(take() == [0x30, 0xB0])
    #expect(!clock.hasDeadline)
  }

  @Test func aGuestThatDoesNotReadIsGivenNoMore() {
    let clock = HandClock()
    let device = ChipDevice(KeyboardController(), clock: clock)
    let strokes = Array(repeating: KeyStroke(.enter), count: 1000)
    var taken = 0
    for _ in 0..<10 where device.withChip({ chip, now in chip.type(strokes, now: now) }) {
      taken += 1
    }
    #expect(taken == 2, "4096 events wait at most")
    clock.advance(nanoseconds: 1_000_000_000)
    let waiting = device.withChip { chip, _ in chip.waitingKeyCount }
    // 64 bytes in the keyboard, of which a key takes one and then two, and one in the controller.
    #expect(waiting < 4000 && waiting > 3900)
    // Nothing is lost: once the guest reads, all come.
    var makes = 0
    for _ in 0..<20_000 {
      clock.advance(nanoseconds: 5_000_000)
      while device.read(at: 4, width: .byte) & 1 != 0 {
        if device.read(at: 0, width: .byte) == 0x1C { makes += 1 }
      }
    }
    #expect(makes == 2000)
  }
}
