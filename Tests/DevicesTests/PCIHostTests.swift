import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// Answers with its own number and remembers the last write.
private final class Probe: BusDevice {
  let number: UInt64
  let last = Mutex<(offset: UInt64, value: UInt64)?>(nil)
  init(_ number: UInt64) { self.number = number }
  func read(at offset: UInt64, width: AccessWidth) -> UInt64 { number << 8 | offset & 0xFF }
  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    last.withLock { $0 = (offset, value) }
  }
}

private final class PlainDevice: PCIDevice {
  let function: PCIFunction
  let probe: Probe
  init(
    _ number: UInt64, kind: PCIBaseAddressKind, size: UInt64, index: Int = 0, pin: UInt8 = 0
  ) {
    probe = Probe(number)
    function = PCIFunction(
      PCIIdentity(vendor: 0x1234, device: UInt16(number), classCode: 0x058000), interruptPin: pin)
    function.addBaseAddress(index, kind: kind, size: size, device: probe)
  }
}

private final class RecordingMapper: PCIRegionMapper {
  let mapped = Mutex<[UInt64]>([])
  func mapRegion(_ region: PCIRegion, at base: GuestAddress) -> Bool {
    if base.rawValue < 0x1000_0000 { return false }
    mapped.withLock { $0.append(base.rawValue) }
    return true
  }
  func unmapRegion(_ region: PCIRegion, at base: GuestAddress) {
    mapped.withLock { list in list.removeAll { $0 == base.rawValue } }
  }
}

@Suite struct PCIHostTests {
  @Test func hostBridgeIsWhatSeaBIOSTakesForQEMU() throws {
    let board = try PCITestBoard()
    #expect(board.config(0, 0x00) == 0x1237_8086)
    #expect(board.config(0, 0x2C) == 0x1100_1AF4)
    #expect(board.config(0, 0x08) >> 8 == 0x060000)
    #expect(board.config(0, 0x72, .byte) == 0x02)
  }

  @Test func addressRegisterTakesDoubleWordsOnly() throws {
    let board = try PCITestBoard()
    board.ports.write(port: 0xCF8, width: .doubleword, value: 0xFFFF_FFFF)
    #expect(board.ports.read(port: 0xCF8, width: .doubleword) == 0x80FF_FFFC)
    board.ports.write(port: 0xCF8, width: .word, value: 0)
    board.ports.write(port: 0xCFA, width: .byte, value: 0)
    #expect(board.ports.read(port: 0xCF8, width: .doubleword) == 0x80FF_FFFC)
    #expect(board.ports.read(port: 0xCF8, width: .word) == 0xFFFF)
  }

  @Test func functionsThatAreAbsentReadAsAllOnes() throws {
    let board = try PCITestBoard()
    #expect(board.config(5, 0) == 0xFFFF_FFFF)
    #expect(board.config(0, 0, .word, function: 3) == 0xFFFF)
    // Bus 1, and the enable bit off.
    board.ports.write(port: 0xCF8, width: .doubleword, value: 0x8001_0000)
    #expect(board.ports.read(port: 0xCFC, width: .doubleword) == 0xFFFF_FFFF)
    board.ports.write(port: 0xCF8, width: .doubleword, value: 0)
    #expect(board.ports.read(port: 0xCFC, width: .doubleword) == 0xFFFF_FFFF)
  }

  @Test func bytesAndWordsOfARegisterAreReachedByThePort() throws {
    let board = try PCITestBoard()
    #expect(board.config(0, 0x01, .byte) == 0x80)
    #expect(board.config(0, 0x02, .word) == 0x1237)
    // Across the end of the double word: not decoded.
    board.select(0, 0)
    #expect(board.ports.read(port: 0xCFF, width: .word) == 0xFFFF)
  }

  @Test func resetRegisterIsReachedAsAByteInsideTheAddressRegister() throws {
    let ports = PortBus()
    let probe = Probe(7)
    let host = PCIHost(
      decoding: PCIDecoding(ports: ports, memory: MemoryBus()), sink: RecordingSink(),
      resetRegister: probe)
    host.registerPorts()
    ports.write(port: 0xCF9, width: .byte, value: 6)
    #expect(probe.last.withLock { $0?.value } == 6)
    #expect(ports.read(port: 0xCF9, width: .byte) == 0)
    ports.write(port: 0xCF8, width: .doubleword, value: 0x8000_0600)
    #expect(probe.last.withLock { $0?.value } == 6)
  }

  @Test(
    arguments: [
      (PCIBaseAddressKind.ports, 64, 0xFFFF_FFC1), (.memory32, 4096, 0xFFFF_F000),
      (.memory64, 1 << 20, 0xFFF0_000C),
    ] as [(PCIBaseAddressKind, UInt64, UInt64)])
  func sizeIsFoundByWritingAllOnes(_ kind: PCIBaseAddressKind, _ size: UInt64, _ expected: UInt64)
    throws
  {
    let board = try PCITestBoard()
    board.host.attach(PlainDevice(1, kind: kind, size: size), at: PCIAddress(device: 4))
    board.setConfig(4, 4, 7, .word)
    board.setConfig(4, 0x10, 0xFFFF_FFFF)
    #expect(board.config(4, 0x10) == expected)
    if kind == .memory64 {
      board.setConfig(4, 0x14, 0xFFFF_FFFF)
      #expect(board.config(4, 0x14) == 0xFFFF_FFFF)
    }
    // Registers that are not there are zero and stay so.
    board.setConfig(4, 0x24, 0xFFFF_FFFF)
    #expect(board.config(4, 0x24) == 0)
  }

  @Test func memoryFollowsTheRegisterAndTheCommand() throws {
    let board = try PCITestBoard()
    board.host.attach(
      PlainDevice(1, kind: .memory64, size: 4096), at: PCIAddress(device: 4))
    board.setConfig(4, 0x10, 0xE000_0000)
    #expect(board.load(0xE000_0004, .word) == 0xFFFF, "decoding is off")
    board.setConfig(4, 4, 2, .word)
    #expect(board.load(0xE000_0004, .word) == 0x104)
    #expect(board.load(0xE000_1000, .word) == 0xFFFF)
    board.setConfig(4, 0x14, 0x10)
    #expect(board.load(0xE000_0004, .word) == 0xFFFF)
    #expect(board.load(0x10_E000_0004, .word) == 0x104)
    board.setConfig(4, 4, 0, .word)
    #expect(board.load(0x10_E000_0004, .word) == 0xFFFF)
  }

  @Test func portsThatOverlapAreGivenBackToTheOtherFunction() throws {
    let board = try PCITestBoard()
    for number in 1...2 {
      board.host.attach(
        PlainDevice(UInt64(number), kind: .ports, size: 32),
        at: PCIAddress(device: UInt8(3 + number)))
      board.setConfig(3 + number, 4, 1, .word)
      board.setConfig(3 + number, 0x10, 0xC000)
    }
    #expect(board.ports.read(port: 0xC001, width: .word) == 0x101)
    board.setConfig(4, 0x10, 0xD000)
    #expect(board.ports.read(port: 0xD001, width: .word) == 0x101)
    #expect(board.ports.read(port: 0xC001, width: .word) == 0x201)
    // Beyond the last port, and at zero: nowhere.
    board.setConfig(5, 0x10, 0x1_0000)
    #expect(board.ports.read(port: 0, width: .word) == 0xFFFF)
    board.setConfig(5, 0x10, 0)
    #expect(board.ports.read(port: 1, width: .word) == 0xFFFF)
  }

  @Test func romIsMappedWhereTheMachineCanAndServedByExitsWhereItCannot() throws {
    let mapper = RecordingMapper()
    let board = try PCITestBoard(mapper: mapper)
    let device = PlainDevice(1, kind: .memory32, size: 4096)
    device.function.addROM(PCIRegion(contents: [0x55, 0xAA, 0x01]))
    board.host.attach(device, at: PCIAddress(device: 4))
    board.setConfig(4, 4, 2, .word)
    board.setConfig(4, 0x30, 0xFFFF_FFFE)
    #expect(board.config(4, 0x30) == 0xFFFF_F000)
    board.setConfig(4, 0x30, 0xF000_0000)
    #expect(mapper.mapped.withLock { $0 } == [])
    board.setConfig(4, 0x30, 0xF000_0001)
    #expect(mapper.mapped.withLock { $0 } == [0xF000_0000])
    // The mapper refuses this one.
    board.setConfig(4, 0x30, 0x0800_0001)
    #expect(mapper.mapped.withLock { $0 } == [])
    #expect(board.load(0x0800_0000, .doubleword) == 0xFF01_AA55)
    board.host.reset()
    #expect(board.load(0x0800_0000, .doubleword) == 0xFFFF_FFFF)
  }

  @Test func pinsAreSwizzledBySlotAndOredOntoALine() throws {
    let board = try PCITestBoard()
    let first = PlainDevice(1, kind: .ports, size: 4, pin: 1)
    let second = PlainDevice(2, kind: .ports, size: 4, pin: 2)
    board.host.attach(first, at: PCIAddress(device: 3))
    board.host.attach(second, at: PCIAddress(device: 2))
    #expect(PCIInterruptRouter.line(ofPin: 1, device: 3) == 2)
    #expect(PCIInterruptRouter.line(ofPin: 2, device: 2) == 2)
    first.function.setInterrupt(true)
    #expect(!board.sink.level(11), "not routed yet")
    board.setConfig(1, 0x62, 11, .byte)
    #expect(board.sink.level(11))
    #expect(board.config(3, 6, .word) & 8 != 0)
    second.function.setInterrupt(true)
    first.function.setInterrupt(false)
    #expect(board.sink.level(11), "the second still asks")
    board.setConfig(1, 0x62, 5, .byte)
    #expect(!board.sink.level(11) && board.sink.level(5))
    // INTx disable gates the pin, not the status.
    board.setConfig(2, 4, 0x400, .word)
    #expect(!board.sink.level(5))
    #expect(board.config(2, 6, .word) & 8 != 0)
    board.setConfig(2, 4, 0, .word)
    #expect(board.sink.level(5))
    board.host.reset()
    #expect(!board.sink.level(5))
  }

  @Test func reservedRoutesGoNowhere() throws {
    let board = try PCITestBoard()
    let device = PlainDevice(1, kind: .ports, size: 4, pin: 1)
    board.host.attach(device, at: PCIAddress(device: 1, function: 2))
    device.function.setInterrupt(true)
    for line in [0, 1, 2, 8, 13] { board.setConfig(1, 0x60, UInt64(line), .byte) }
    #expect(board.sink.record.withLock { $0.raises.isEmpty })
  }

  @Test func attributeChangesAreReportedOnce() throws {
    let board = try PCITestBoard()
    let seen = Mutex<[PAMRegisters]>([])
    board.host.attach(
      I440FXBridge { registers in seen.withLock { $0.append(registers) } },
      at: PCIAddress(device: 0))
    board.setConfig(0, 0x59, 0xFF, .byte)
    board.setConfig(0, 0x59, 0x30, .byte)
    for offset in 0x5A...0x5F { board.setConfig(0, offset, 0x33, .byte) }
    let all = seen.withLock { $0 }
    #expect(all.count == 7)
    #expect(all.last?.biosArea == .both)
    #expect(all.last?.area(0) == .both)
    #expect(all.first?.area(0) == .neither)
  }

  @Test func powerManagementRegistersAppearWhereTheGuestPutsThem() throws {
    let board = try PCITestBoard()
    let probe = Probe(9)
    let moves = Mutex<[UInt16?]>([])
    board.host.attach(
      PIIX4PowerManagement(registers: probe, ports: board.ports) { port in
        moves.withLock { $0.append(port) }
      }, at: PCIAddress(device: 1, function: 3))
    #expect(board.config(1, 0, function: 3) == 0x7113_8086)
    #expect(board.config(1, 0x0E, .byte) == 0x80, "several functions")
    #expect(board.config(1, 0x58, function: 3) & 1 << 25 != 0, "SeaBIOS leaves SMM alone")
    board.setConfig(1, 0x40, 0xB001, function: 3)
    #expect(board.ports.read(port: 0xB000, width: .word) == 0xFFFF)
    board.setConfig(1, 0x80, 1, .byte, function: 3)
    #expect(board.ports.read(port: 0xB008, width: .word) == 0x908)
    board.setConfig(1, 0x40, 0x601, function: 3)
    #expect(board.ports.read(port: 0xB008, width: .word) == 0xFFFF)
    #expect(board.ports.read(port: 0x608, width: .word) == 0x908)
    board.host.reset()
    #expect(board.ports.read(port: 0x608, width: .word) == 0xFFFF)
    #expect(moves.withLock { $0 } == [0xB000, 0x600, nil])
  }

  @Test func configurationSpaceSurvivesASnapshotButNotItsIdentity() throws {
    let board = try PCITestBoard()
    let device = PlainDevice(1, kind: .memory32, size: 4096, pin: 1)
    board.host.attach(device, at: PCIAddress(device: 4))
    board.setConfig(1, 0x63, 11, .byte)
    board.setConfig(4, 0x10, 0xE000_0000)
    board.setConfig(4, 4, 2, .word)
    device.function.setInterrupt(true)
    var state = board.host.saveState()
    state.functions[4 << 3]?.configuration[0] = 0x99
    let other = try PCITestBoard()
    other.host.attach(
      PlainDevice(1, kind: .memory32, size: 4096, pin: 1), at: PCIAddress(device: 4))
    other.host.restoreState(state)
    #expect(other.load(0xE000_0004, .word) == 0x104)
    #expect(other.sink.level(11))
    #expect(other.config(4, 0, .word) == 0x1234)
    // A damaged file is not obeyed.
    state.functions[4 << 3]?.configuration = [1, 2, 3]
    other.host.restoreState(state)
    #expect(other.load(0xE000_0004, .word) == 0x104)
  }
}

@Suite struct PCIMessageTests {
  private func entry(_ table: MSIXTable, _ vector: UInt64, data: UInt32, masked: Bool) {
    table.write(at: vector * 16, width: .quadword, value: 0xFEE0_1000)
    table.write(
      at: vector * 16 + 8, width: .quadword, value: UInt64(data) | (masked ? 1 << 32 : 0))
  }

  /// A function with nothing but MSI-X, which a test turns on through configuration space.
  private final class Vectors: PCIDevice, BusDevice {
    let function = PCIFunction(PCIIdentity(vendor: 1, device: 1, classCode: 0))
    let msi: MSICapability
    init(_ sink: any InterruptSink) { msi = MSICapability(vectors: 4, in: function, sink: sink) }
    func read(at offset: UInt64, width: AccessWidth) -> UInt64 { 0 }
    func write(at offset: UInt64, width: AccessWidth, value: UInt64) {}
    func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
      msi.configurationDidChange(range, in: function)
    }
    func configurationWillRead(_ range: Range<Int>) {
      msi.configurationWillRead(range, in: function)
    }
  }

  @Test func maskedVectorIsPendingAndFiresAtUnmask() throws {
    let rig = try VirtioBlockTests.Rig(.modern)
    let table = rig.transport.vectors
    rig.driver.enableVectors(2)
    entry(table, 1, data: 0x77, masked: true)
    table.raise(1)
    #expect(rig.board.sink.messages.isEmpty)
    #expect(table.read(at: table.pendingOffset, width: .quadword) == 2)
    table.write(at: 16 + 12, width: .doubleword, value: 0)
    #expect(rig.board.sink.messages == [MessageInterrupt(address: 0xFEE0_1000, data: 0x77)])
    #expect(table.read(at: table.pendingOffset, width: .doubleword) == 0)
    // The function mask does the same to all.
    let capability = try #require(
      rig.board.capability(3) { rig.board.config(3, $0, .byte) == 0x11 })
    rig.board.setConfig(3, capability + 2, 0xC000, .word)
    table.raise(1)
    #expect(rig.board.sink.messages.count == 1)
    rig.board.setConfig(3, capability + 2, 0x8000, .word)
    #expect(rig.board.sink.messages.count == 2)
    // Off: nothing, not even pending.
    rig.board.setConfig(3, capability + 2, 0, .word)
    table.raise(1)
    #expect(rig.board.sink.messages.count == 2)
    #expect(table.read(at: table.pendingOffset, width: .doubleword) == 0)
  }

  @Test func tableAnswersAnyWidthAndOffset() throws {
    let sink = RecordingSink()
    let table = MSIXTable(count: 3, sink: sink)
    entry(table, 2, data: 0xABCD, masked: false)
    #expect(table.read(at: 32, width: .quadword) == 0xFEE0_1000)
    #expect(table.read(at: 40, width: .doubleword) == 0xABCD)
    #expect(table.read(at: 41, width: .byte) == 0xAB)
    #expect(table.read(at: 12, width: .quadword) == 1, "masked after reset")
    for width in AccessWidth.allCases {
      for offset in [47, 48, 100, table.pendingOffset + 7, table.size - 1, UInt64.max] as [UInt64] {
        _ = table.read(at: offset, width: width)
        table.write(at: offset, width: width, value: .max)
      }
    }
    table.raise(-1)
    table.raise(3)
  }

  @Test func oneFunctionsMessagesDifferInTheLowBits() throws {
    let board = try PCITestBoard()
    let device = Vectors(board.sink)
    board.host.attach(device, at: PCIAddress(device: 6))
    let capability = try #require(board.capability(6) { board.config(6, $0, .byte) == 5 })
    board.setConfig(6, capability + 4, 0xFEE0_0003)
    board.setConfig(6, capability + 12, 0x4043, .word)
    board.setConfig(6, capability + 2, 0x21, .word)
    #expect(device.msi.isEnabled)
    device.msi.raise(2)
    device.msi.raise(9)
    #expect(
      board.sink.messages == [
        MessageInterrupt(address: 0xFEE0_0000, data: 0x4042),
        MessageInterrupt(address: 0xFEE0_0000, data: 0x4040),
      ])
    board.setConfig(6, capability + 16, 0x2)
    device.msi.raise(1)
    #expect(board.config(6, capability + 20) == 2)
    board.setConfig(6, capability + 16, 0)
    #expect(board.sink.messages.last?.data == 0x4041)
    #expect(board.config(6, capability + 20) == 0)
  }
}
