import DeviceFuzzing
import Devices
import Testing

private typealias Controller = KeyboardController

extension KeyboardController {
  fileprivate mutating func data(_ bytes: UInt8...) { for byte in bytes { write8(0, byte) } }
  fileprivate mutating func command(_ byte: UInt8, _ parameter: UInt8? = nil) {
    write8(4, byte)
    if let parameter { write8(0, parameter) }
  }
  /// Everything that waits in the output buffer, mouse bytes with 0x100.
  fileprivate mutating func drain() -> [Int] {
    var bytes: [Int] = []
    while case let status = read8(4), status & 1 != 0, bytes.count < 200 {
      bytes.append(Int(read8(0)) | (status & 0x20 != 0 ? 0x100 : 0))
    }
    return bytes
  }
  fileprivate mutating func mouse(_ bytes: UInt8...) -> [Int] {
    for byte in bytes { command(0xD4, byte) }
    return drain().map { $0 - 0x100 }
  }
}

@Suite struct LegacyKeyboardControllerTests {
  @Test func selfTestsAndStatus() {
    var chip = Controller()
    chip.command(0xAA)
    #expect(chip.read8(4) == 0x1D)
    #expect(chip.drain() == [0x55])
    for (command, answer) in [(0xA9, 0), (0xAB, 0), (0xA4, 0xF1), (0xC0, 0x80), (0xE0, 0)] {
      chip.command(UInt8(command))
      #expect(chip.drain() == [answer])
    }
    chip.command(0x60, 0x65)
    chip.command(0x20)
    #expect(chip.drain() == [0x65])
    chip.command(0x65, 0x12)
    chip.command(0x25)
    #expect(chip.drain() == [0x12])
    #expect(chip.read8(1) == 0xFF)
    chip.command(0xA5, 1)
    chip.data(2, 0)
    #expect(chip.drain() == [], "a password is swallowed up to its zero")
  }

  @Test func keyboardCommands() {
    var chip = Controller()
    chip.command(0x60, 0x04)
    chip.data(0xFF)
    #expect(chip.drain() == [0xFA, 0xAA])
    chip.data(0xF2)
    #expect(chip.drain() == [0xFA, 0xAB, 0x83])
    chip.data(0xEE)
    #expect(chip.drain() == [0xEE])
    chip.data(0xFE)
    #expect(chip.drain() == [0xEE], "resend")
    chip.data(0xED, 0x05)
    #expect(chip.drain() == [0xFA, 0xFA] && chip.indicators == 5)
    chip.data(0xF3, 0x20)
    #expect(chip.drain() == [0xFA, 0xFA])
    chip.data(0xF0, 0x00)
    #expect(chip.drain() == [0xFA, 0xFA, 2])
    chip.data(0xF0, 0x01, 0xF0, 0x00)
    #expect(chip.drain() == [0xFA, 0xFA, 0xFA, 0xFA, 1])
    chip.data(0x12)
    #expect(chip.drain() == [0xFE])
    chip.data(0xED, 0xF4)
    #expect(chip.drain() == [0xFA, 0xFA], "a command instead of a parameter")
    chip.data(0xF5)
    #expect(chip.key(.escape, pressed: true) == true)
    #expect(chip.drain() == [0xFA], "disabled: no scan codes")
    chip.data(0xF4)
    #expect(chip.key(.escape, pressed: true) == true)
    #expect(chip.drain() == [0xFA, 0x76], "set 2 again after F5")
  }

  @Test func identityIsTranslated() {
    var chip = Controller()
    chip.data(0xF2)
    #expect(chip.drain() == [0xFA, 0xAB, 0x41])
  }

  @Test func scanCodesInAllSets() {
    for (set, press, release, delete) in [
      (1, [0x1E], [0x9E], [0xE0, 0x53]), (2, [0x1C], [0xF0, 0x1C], [0xE0, 0x71]),
      (3, [0x1C], [0xF0, 0x1C], [0x64]),
    ] {
      var chip = Controller()
      chip.command(0x60, 0x04)
      chip.data(0xF0, UInt8(set))
      _ = chip.drain()
      let a = KeyCode(rawValue: 0x1E)
      #expect(chip.key(a, pressed: true) == true)
      #expect(chip.drain() == press)
      #expect(chip.key(a, pressed: false) == true)
      #expect(chip.drain() == release)
      #expect(chip.key(.delete, pressed: true) == true)
      #expect(chip.drain() == delete)
    }
  }

  /// Translation must give back set 1 for every key, pressed and released.
  @Test func translationInvertsSet2() {
    var chip = Controller()
    for prefix in [UInt16(0), 0xE000] {
      for code in UInt16(1)...0x58 where code != 0x55 {
        let key = KeyCode(rawValue: prefix | code)
        let head = prefix == 0 ? [] : [0xE0]
        #expect(chip.key(key, pressed: true) == true)
        #expect(chip.drain() == head + [Int(code)])
        #expect(chip.key(key, pressed: false) == true)
        #expect(chip.drain() == head + [Int(code) | 0x80])
      }
    }
    #expect(chip.key(.pause, pressed: true) == true)
    #expect(chip.drain() == [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5])
    #expect(ScanCode.bytes(of: KeyCode(rawValue: 0x41), pressed: true, set: 2) == [0x83])
  }

  @Test func everyByteIsAnEdge() {
    let lines = LineRecorder()
    let device = ChipDevice(
      Controller(), lines: [InterruptLine(1, of: lines), InterruptLine(12, of: lines)],
      clock: HandClock())
    device.withChip { chip, _ in
      for code in UInt16(2)...6 {
        #expect(chip.key(KeyCode(rawValue: code), pressed: true) == true)
      }
    }
    for code in UInt8(2)...6 {
      #expect(lines.level(1) && lines.rises(1) == Int(code) - 1)
      #expect(device.read8(0) == code)
    }
    #expect(!lines.level(1))
    #expect(device.read8(0) == 6, "an empty buffer repeats the last byte")
    device.write8(4, 0xD4)
    device.write8(0, 0xF4)
    #expect(lines.level(12) && !lines.level(1))
    #expect(device.read8(0) == 0xFA && !lines.level(12))
  }

  @Test func interfacesCanBeDisabled() {
    var chip = Controller()
    chip.command(0xAD)
    #expect(chip.key(.escape, pressed: true) == true)
    #expect(chip.drain() == [])
    chip.command(0xAE)
    #expect(chip.drain() == [0x01])
    chip.command(0x60, 0)
    #expect(chip.key(.escape, pressed: true) == true)
    #expect(chip.outputs == 0, "no interrupt without its enable bit")
    chip.command(0xD3, 0x99)
    _ = chip.drain()
    chip.command(0xD2, 0x77)
    #expect(chip.drain() == [0x77])
  }

  @Test func resetAndAddressLine20() {
    var chip = Controller()
    chip.command(0xD0)
    #expect(chip.drain() == [0xC3])
    chip.command(0xD1, 0x01)
    #expect(chip.takeRequests() == .disableAddressLine20)
    chip.command(0xDF)
    #expect(chip.takeRequests() == .enableAddressLine20)
    chip.command(0xFF)
    #expect(chip.takeRequests() == [])
    chip.command(0xFE)
    #expect(chip.takeRequests() == .reset)
    chip.command(0xD1, 0x02)
    #expect(chip.takeRequests() == .reset)
  }

  @Test func mouseCommandsAndPackets() {
    var chip = Controller()
    #expect(chip.mouse(0xFF) == [0xFA, 0xAA, 0x00])
    #expect(chip.mouse(0xF2) == [0xFA, 0x00])
    chip.moveMouse(x: 5, y: 5, buttons: [])
    #expect(chip.drain() == [], "reporting is off after a reset")
    #expect(chip.mouse(0xF4) == [0xFA])
    chip.moveMouse(x: 5, y: 3, buttons: .left)
    #expect(chip.drain() == [0x129, 0x105, 0x1FD])
    chip.moveMouse(x: 0, y: 0, buttons: [])
    #expect(chip.drain() == [0x108, 0x100, 0x100])
    chip.moveMouse(x: -300, y: 0, buttons: [])
    #expect(chip.drain() == [0x118, 0x101, 0x100, 0x118, 0x1D3, 0x100])
    #expect(chip.mouse(0xE8, 3, 0xE9) == [0xFA, 0xFA, 0xFA, 0x20, 3, 100])
    #expect(chip.mouse(0xE7) == [0xFA])
    chip.moveMouse(x: 4, y: 0, buttons: [])
    #expect(chip.drain() == [0x108, 0x106, 0x100])
    #expect(chip.mouse(0xEE, 0x55, 0xF4) == [0xFA, 0x55, 0xF4], "wrap mode echoes")
    #expect(chip.mouse(0xEC, 0xF0) == [0xFA, 0xFA])
    chip.moveMouse(x: 1, y: 0, buttons: [])
    #expect(chip.drain() == [], "remote mode waits to be asked")
    #expect(chip.mouse(0xEB) == [0xFA, 0x08, 1, 0])
  }

  @Test func wheelMouseAnswersToItsKnock() {
    var chip = Controller()
    _ = chip.mouse(0xF3, 200, 0xF3, 100, 0xF3, 80)
    #expect(chip.mouse(0xF2) == [0xFA, 3])
    _ = chip.mouse(0xF4)
    chip.moveMouse(x: 0, y: 0, wheel: -1, buttons: [])
    #expect(chip.drain() == [0x108, 0x100, 0x100, 0x1FF])
    _ = chip.mouse(0xF3, 200, 0xF3, 200, 0xF3, 80)
    #expect(chip.mouse(0xF2) == [0xFA, 4])
    chip.moveMouse(x: 0, y: 0, wheel: 1, buttons: [.side])
    #expect(chip.drain() == [0x108, 0x100, 0x100, 0x111])
  }

  @Test func queuesAreBounded() {
    var chip = Controller()
    var accepted = 0
    while chip.key(.delete, pressed: false), accepted < 1000 { accepted += 1 }
    #expect(accepted < 40)
    #expect(chip.drain().count == accepted * 2, "no half codes")
    _ = chip.mouse(0xF4)
    for _ in 0..<1000 { chip.moveMouse(x: 1, y: 0, buttons: []) }
    var x = 0
    let bytes = chip.drain().map { $0 - 0x100 }
    for index in stride(from: 1, to: bytes.count, by: 3) { x += bytes[index] }
    #expect(x == 1000, "movement adds up while nobody reads")
    for _ in 0..<1000 { chip.command(0x20) }
    #expect(chip.drain().count < 20)
  }

  @Test func fuzzed() throws {
    try fuzz(Controller(), offsets: 0...5, seed: 3) { chip, random, _ in
      _ = chip.key(
        KeyCode(rawValue: UInt16(truncatingIfNeeded: random.next())),
        pressed: random.next() & 1 == 0)
      chip.moveMouse(
        x: Int32(truncatingIfNeeded: random.next()), y: Int32(truncatingIfNeeded: random.next()),
        wheel: Int32(truncatingIfNeeded: random.next()),
        buttons: .init(rawValue: UInt8(truncatingIfNeeded: random.next())))
    }
  }
}
