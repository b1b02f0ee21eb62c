import Devices
import GuestMemory
import Platform
import Processor

/// Every chip and function of `Devices` on its buses, as the real board has them, without processors.
package final class FuzzBoard {
  package static let memorySize: UInt64 = 16 << 20
  /// Where the virtio functions stand.
  static let firstVirtioSlot: UInt8 = 2
  static let displaySlot: UInt8 = 11
  static let storageSlot: UInt8 = 9
  static let networkSlot: UInt8 = 10
  /// The guest's address of sockets.
  static let contextIdentifier: UInt32 = 3
  /// Where the fuzzer puts the registers of the plain network adapter.
  static let networkWindow: UInt64 = 0xF900_0000
  /// What the plain network adapter's EEPROM says.
  static let plainAddress = HardwareAddress(0x02_00_00_00_00_02)
  /// Pairs of queues of the virtio network adapter.
  static let networkPairs = 4

  package let ports = PortBus()
  package let memoryBus = MemoryBus()
  package let memory: GuestMemory
  package let clock = FuzzClock()
  let interrupts = FuzzInterrupts()
  let router: InterruptRouter
  package let host: PCIHost
  package let transports: [VirtioPCITransport]
  let serialPorts: [SerialPort]
  let realTimeClock: ChipDevice<RealTimeClock>
  let keyboard: ChipDevice<KeyboardController>
  let power: ChipDevice<PowerManagement>
  /// A disk and an optical drive.
  let storage: AHCIController
  /// The same two kinds of drives.
  let parallelStorage: IDEController
  let watchdog: WatchdogFunction
  let adapter: E1000
  /// Of `adapter`.
  let plainCable: FuzzCable
  /// Of the virtio network adapter.
  let cable: FuzzCable
  let console: VirtioConsole
  let drive: OpticalDrive
  let display: DisplayAdapter
  /// The host's side of the memory balloon.
  let balloon = MemoryBalloon(memorySize: FuzzBoard.memorySize)
  /// The host's side of the socket device.
  let socketPeer: FuzzSocketPeer
  let medium = FuzzDisk(size: 1 << 20, isReadOnly: true)
  /// Ranges of ports that a chip answers from the start.
  let portRanges: [Range<UInt64>]

  /// - Throws: what the host refuses: memory or eventfds.
  ///
  /// - Parameter companions: networks that hang at the virtio adapter's cable and at the other's as well.
  package init(
    companions: (virtio: any NetworkBackend, plain: any NetworkBackend)? = nil
  ) throws {
    cable = FuzzCable(queues: Self.networkPairs, beside: companions?.virtio)
    memory = try GuestMemory(size: Self.memorySize)
    let interrupts = interrupts
    let router = InterruptRouter(
      .init(
        interruptRequest: { _ in }, deliver: { interrupts.deliver($0) },
        redirectionChanged: { _, _ in }))
    self.router = router
    var registry = PortRegistry(bus: ports)
    for range in ProgrammableInterruptController.ports {
      registry.add(router.portDevice, range)
    }
    memoryBus.register(
      router.memoryDevice, at: GuestAddress(InputOutputInterruptController.baseAddress),
      count: InputOutputInterruptController.size)
    let clock = clock
    func line(_ number: UInt32) -> InterruptLine { InterruptLine(number, of: router) }
    let requests: @Sendable (BoardRequests) -> Void = { _ in }

    serialPorts = SerialPort.standardPorts.map { _, interrupt in
      SerialPort(line: line(interrupt), clock: clock, backend: FuzzSponge())
    }
    for (port, place) in zip(serialPorts, SerialPort.standardPorts) {
      registry.add(port, (place.base, SerialPort.portCount, 0))
    }
    realTimeClock = ChipDevice(
      RealTimeClock(secondsSince1970: 1_700_000_000), lines: [line(RealTimeClock.interrupt)],
      clock: clock)
    registry.add(realTimeClock, (RealTimeClock.port, RealTimeClock.portCount, 0))
    keyboard = ChipDevice(
      KeyboardController(), lines: [line(1), line(12)], clock: clock, requests: requests)
    registry.add(keyboard, (KeyboardController.port, 1, 0))
    registry.add(keyboard, (KeyboardController.port + 4, 1, 4))
    registry.add(
      ChipDevice(SystemControlPort(), clock: clock, requests: requests),
      (SystemControlPort.port, 1, 0))
    registry.add(PostCodePort(), (PostCodePort.port, 1, 0))
    registry.add(DebugConsole(backend: FuzzSponge()), (DebugConsole.port, 1, 0))
    registry.add(DebugExitPort { _ in }, (DebugExitPort.port, DebugExitPort.portCount, 0))
    Self.addTimers(&registry, memoryBus, router, clock)
    registry.add(
      FirmwareConfiguration(try Self.firmwareItems(), memory: memory),
      (FirmwareConfiguration.basePort, FirmwareConfiguration.portCount, 0))
    power = ChipDevice(
      PowerManagement(), lines: [line(PowerManagement.systemControlInterrupt)], clock: clock,
      requests: requests)
    for window in [
      PowerManagement.Window.generalEvents, PowerManagement.Window.command,
      PowerManagement.Window.resetControl,
    ] { registry.add(power, window) }

    host = PCIHost(decoding: PCIDecoding(ports: ports, memory: memoryBus), sink: router)
    host.registerPorts()
    registry.note((PCIHost.firstPort, PCIHost.portCount, 0))
    host.attach(I440FXBridge(), at: PCIAddress(device: 0))
    host.attach(PIIX3Bridge(router: host.router), at: PCIAddress(device: 1))
    host.attach(
      PIIX4PowerManagement(registers: power, ports: ports), at: PCIAddress(device: 1, function: 3))
    registry.note((PowerManagement.defaultBase, PowerManagement.Register.blockLength, 0))
    display = try DisplayAdapter(rom: PCIRegion(contents: [0x55, 0xAA, 1]), clock: clock)
    display.register(ports: ports, memory: memoryBus)
    host.attach(display, at: PCIAddress(device: Self.displaySlot))
    registry.note((VGAController.firstPort, VGAController.portCount, 0))
    registry.note((BochsDisplayInterface.indexPort, BochsDisplayInterface.portCount, 0))
    for (base, count) in [(0x1F0, 8), (0x170, 8), (0x3F6, 1), (0x376, 1)] as [(UInt16, Int)] {
      registry.note((base, count, 0))
    }
    portRanges = registry.ranges

    drive = OpticalDrive(medium: medium)
    console = try VirtioConsole(ports: [
      .init(backend: FuzzSponge()),
      .init(name: "second", isTerminal: false, backend: FuzzSponge()),
    ])
    let disk = try VirtioBlock(
      backend: FuzzDisk(size: 1 << 20), options: .init(serial: "fuzz", queueCount: 2))
    let socketPeer = try FuzzSocketPeer()
    self.socketPeer = socketPeer
    let devices: [any VirtioDevice] = [
      disk, try VirtioRandom(), try VirtioSCSI(targets: [drive]), console,
      try VirtioNetwork(
        backend: cable, options: .init(address: HardwareAddress(0x02_00_00_00_00_01))),
      try VirtioSocket(contextIdentifier: Self.contextIdentifier, point: socketPeer.point),
      try VirtioBalloon(balloon, memory: self.memory),
    ]
    let memory = memory
    transports = devices.enumerated().map { index, device in
      VirtioPCITransport(
        device, face: index == 3 ? .modern : .transitional, memory: memory, sink: router,
        rom: index == 0 ? PCIRegion(contents: [0x55, 0xAA, 1]) : nil)
    }
    storage = try AHCIController(
      drives: [
        .disk(ATADisk(backend: FuzzDisk(size: 1 << 20), serial: "fuzz")),
        .optical(OpticalDrive(medium: medium)),
      ], memory: memory, sink: router)
    plainCable = FuzzCable(beside: companions?.plain)
    adapter = try E1000(
      backend: plainCable, options: .init(address: Self.plainAddress),
      memory: memory)
    parallelStorage = try IDEController(
      drives: [
        .disk(ATADisk(backend: FuzzDisk(size: 1 << 20), serial: "fuzz")),
        .optical(OpticalDrive(medium: medium)),
      ], memory: memory, ports: ports, sink: router)
    watchdog = WatchdogFunction(ChipDevice(WatchdogTimer(), clock: clock))
    host.attach(parallelStorage, at: PCIAddress(device: 1, function: 1))
    host.attach(watchdog, at: PCIAddress(device: 0, function: 1))
    host.attach(PanicDevice { _ in }, at: PCIAddress(device: 0, function: 2))
    host.attach(adapter, at: PCIAddress(device: Self.networkSlot))
    host.attach(storage, at: PCIAddress(device: Self.storageSlot))
    for (index, transport) in transports.enumerated() {
      host.attach(transport, at: PCIAddress(device: Self.firstVirtioSlot + UInt8(index)))
    }
  }

  deinit { socketPeer.close() }

  private static func addTimers(
    _ registry: inout PortRegistry, _ memoryBus: MemoryBus, _ router: InterruptRouter,
    _ clock: FuzzClock
  ) {
    let timer = ChipDevice(
      ProgrammableIntervalTimer(),
      lines: [InterruptLine(ProgrammableIntervalTimer.interrupt, of: router)], clock: clock)
    registry.add(timer, (ProgrammableIntervalTimer.port, ProgrammableIntervalTimer.portCount, 0))
    registry.add(
      SystemControlPortB(timer: timer, clock: clock), (SystemControlPortB.port, 1, 0))
    let direct = ChipDevice(DirectMemoryAccessController(), clock: clock)
    for range in DirectMemoryAccessController.ports { registry.add(direct, range) }
    var lines = (0..<UInt32(HighPrecisionEventTimer.Output.pins)).map {
      InterruptLine($0, of: router)
    }
    lines += [
      InterruptLine(InterruptRouter.Line.replacedTimer, of: router),
      InterruptLine(InterruptRouter.Line.replacedClock, of: router),
      InterruptLine(InterruptRouter.Line.legacyReplacement, of: router),
    ]
    memoryBus.register(
      ChipDevice(HighPrecisionEventTimer(), lines: lines, clock: clock),
      at: GuestAddress(HighPrecisionEventTimer.baseAddress), count: HighPrecisionEventTimer.size)
  }

  private static func firmwareItems() throws -> FirmwareItems {
    var items = FirmwareItems()
    items.set(FirmwareItems.Key.processorCount, integer: UInt16(4))
    items.set(FirmwareItems.Key.kernelData, [UInt8](repeating: 3, count: 70_000))
    try items.setFile("etc/acpi/tables", .bytes([UInt8](repeating: 1, count: 8192)))
    try items.setFile(
      "etc/writable", .bytes([UInt8](repeating: 2, count: 4096)), isWritable: true)
    return items
  }
}

/// Puts devices on ports and remembers where.
private struct PortRegistry {
  let bus: PortBus
  var ranges: [Range<UInt64>] = []

  mutating func add(
    _ device: any BusDevice, _ range: (port: UInt16, count: Int, offset: UInt64)
  ) {
    bus.register(device, at: range.port, count: range.count, offset: range.offset)
    note(range)
  }

  mutating func note(_ range: (port: UInt16, count: Int, offset: UInt64)) {
    ranges.append(UInt64(range.port)..<UInt64(range.port) + UInt64(range.count))
  }
}
