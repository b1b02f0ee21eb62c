import Devices
import GuestMemory
import Synchronization
import Testing

/// Remembers what was asked of it; answers with the offset.
private final class Recorder: BusDevice {
  let writes = Mutex<[UInt64]>([])
  let mark: UInt64
  init(mark: UInt64 = 0) { self.mark = mark }
  func read(at offset: UInt64, width: AccessWidth) -> UInt64 { mark + offset }
  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    writes.withLock { $0.append(offset << 32 | value) }
  }
}

@Suite struct BusTests {
  @Test("ports and memory that nobody owns read all ones in the width of the access")
  func nobody() {
    let ports = PortBus()
    let memory = MemoryBus()
    for width in AccessWidth.allCases {
      #expect(ports.read(port: 0x1234, width: width) == width.mask)
      #expect(memory.read(at: GuestAddress(0xFEB0_0000), width: width) == width.mask)
    }
    ports.write(port: 0x1234, width: .byte, value: 1)
    memory.write(at: GuestAddress(.max), width: .quadword, value: 1)
  }

  @Test("a device sees its own offsets, wherever its ranges are, and only bits of the width")
  func offsets() {
    let ports = PortBus()
    let device = Recorder()
    ports.register(device, at: 0x20, count: 2)
    ports.register(device, at: 0xA0, count: 2, offset: 2)
    #expect(ports.read(port: 0x21, width: .byte) == 1)
    #expect(ports.read(port: 0xA1, width: .byte) == 3)
    ports.write(port: 0xA0, width: .byte, value: 0x1FF)
    #expect(device.writes.withLock { $0 } == [2 << 32 | 0xFF])
    ports.unregister(device, at: 0xA0, count: 2)
    #expect(ports.read(port: 0xA0, width: .byte) == 0xFF)
  }

  @Test("the port range that was registered first stays; the memory range registered last wins")
  func overlaps() {
    let ports = PortBus()
    let (first, second) = (Recorder(mark: 0x10), Recorder(mark: 0x80))
    ports.register(first, at: 0x10, count: 4)
    ports.register(second, at: 0x12, count: 4)
    #expect(ports.read(port: 0x13, width: .byte) == 0x13)
    #expect(ports.read(port: 0x14, width: .byte) == 0x82)
    let memory = MemoryBus()
    memory.register(first, at: GuestAddress(0x1000), count: 0x100)
    memory.register(second, at: GuestAddress(0x1040), count: 0x40)
    #expect(memory.read(at: GuestAddress(0x103F), width: .byte) == 0x4F)
    #expect(memory.read(at: GuestAddress(0x1040), width: .byte) == 0x80)
    #expect(memory.read(at: GuestAddress(0x1080), width: .byte) == 0x90)
    memory.unregister(second, at: GuestAddress(0x1040))
    #expect(memory.read(at: GuestAddress(0x1040), width: .byte) == 0x50)
  }

  @Test("a range that runs past the end of the address space is cut there")
  func endOfAddressSpace() {
    let memory = MemoryBus()
    let device = Recorder()
    memory.register(device, at: GuestAddress(.max - 3), count: 0x1000)
    #expect(memory.read(at: GuestAddress(.max), width: .byte) == 3)
    #expect(memory.read(at: GuestAddress(0), width: .byte) == 0xFF)
    let ports = PortBus()
    ports.register(device, at: 0xFFFE, count: 100)
    #expect(ports.read(port: 0xFFFF, width: .byte) == 1)
    #expect(ports.read(port: 0, width: .byte) == 0xFF)
  }

  @Test("a guest that moves a BAR for ever neither runs out of ports nor fills the host's memory")
  func movingForEver() {
    let ports = PortBus()
    let memory = MemoryBus()
    let device = Recorder()
    for round in 0..<5000 {
      let port = UInt16(0x1000 + round % 4000)
      ports.register(device, at: port, count: 8)
      #expect(ports.read(port: port, width: .byte) == 0)
      ports.unregister(device, at: port, count: 8)
      let address = GuestAddress(0xC000_0000 + UInt64(round) << 12)
      memory.register(device, at: address, count: 4096)
      #expect(memory.read(at: address, width: .byte) == 0)
      memory.unregister(device, at: address)
      if memory.needsCollection { memory.collect() }
      #expect(memory.tableCount < 300)
    }
  }
}
