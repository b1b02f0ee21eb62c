import Devices
import GuestMemory
import Processor
import Testing

/// A display on buses of its own, driven as a guest does.
final class DisplayBench {
  let ports = PortBus()
  let memory = MemoryBus()
  let clock = HandClock()
  let mapper = WindowMapper()
  let display: DisplayAdapter

  init(maps: Bool = false) throws {
    display = try DisplayAdapter(rom: nil, clock: clock, mapper: maps ? mapper : nil)
    display.register(ports: ports, memory: memory)
  }

  func out(_ port: UInt16, _ value: UInt8) {
    ports.write(port: port, width: .byte, value: UInt64(value))
  }
  func input(_ port: UInt16) -> UInt8 { UInt8(ports.read(port: port, width: .byte)) }
  func outWord(_ port: UInt16, _ value: UInt16) {
    ports.write(port: port, width: .word, value: UInt64(value))
  }
  func inputWord(_ port: UInt16) -> UInt16 { UInt16(ports.read(port: port, width: .word)) }
  /// Index and data in one word, as drivers write them.
  func set(_ port: UInt16, _ index: UInt8, _ value: UInt8) {
    outWord(port, UInt16(index) | UInt16(value) << 8)
  }
  func get(_ port: UInt16, _ index: UInt8) -> UInt8 {
    out(port, index)
    return input(port + 1)
  }
  func sequencer(_ index: UInt8, _ value: UInt8) { set(0x3C4, index, value) }
  func graphics(_ index: UInt8, _ value: UInt8) { set(0x3CE, index, value) }
  func attribute(_ index: UInt8, _ value: UInt8) {
    _ = input(0x3DA)
    out(0x3C0, index | 0x20)
    out(0x3C0, value)
  }
  func bochs(_ index: UInt16, _ value: UInt16) {
    outWord(0x1CE, index)
    outWord(0x1CF, value)
  }
  func bochs(_ index: UInt16) -> UInt16 {
    outWord(0x1CE, index)
    return inputWord(0x1CF)
  }
  func poke(_ address: UInt64, _ value: UInt8) {
    memory.write(at: GuestAddress(address), width: .byte, value: UInt64(value))
  }
  func peek(_ address: UInt64) -> UInt8 {
    UInt8(memory.read(at: GuestAddress(address), width: .byte))
  }
  /// Sixteen colours in planes at 0xA0000.
  func setPlanarMode() {
    sequencer(2, 0x0F)
    sequencer(4, 0x06)
    graphics(5, 0)
    graphics(6, 0x05)
    graphics(8, 0xFF)
    graphics(3, 0)
    graphics(1, 0)
  }
  /// A plane's byte, whatever the mode: by read mode 0.
  func plane(_ plane: UInt8, _ offset: UInt64) -> UInt8 {
    graphics(4, plane)
    return peek(0xA0000 + offset)
  }
  var screen: TextScreen? {
    if case .text(let screen) = display.snapshot().content { screen } else { nil }
  }
}

/// Takes the text window, as a machine's memory does.
final class WindowMapper: PCIRegionMapper, @unchecked Sendable {
  private(set) var shown: PCIRegion?
  private(set) var count = 0
  func mapRegion(_ region: PCIRegion, at base: GuestAddress) -> Bool {
    guard base == GuestAddress(0xB8000) else { return false }
    shown = region
    count += 1
    return true
  }
  func unmapRegion(_ region: PCIRegion, at base: GuestAddress) { shown = nil }
}
