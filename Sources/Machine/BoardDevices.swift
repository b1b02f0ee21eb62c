import CLinux
import Devices
import Firmware
import GuestMemory
import Platform

/// The chips and PCI functions of a board, on their buses.
final class BoardDevices: Sendable {
  let ports = PortBus()
  let memoryBus = MemoryBus()
  let serialPorts: [SerialPort]
  private let realTimeClock: ChipDevice<RealTimeClock>
  private let power: ChipDevice<PowerManagement>
  private let keyboard: ChipDevice<KeyboardController>
  let pci: PCIHost
  private let powerFunction: PIIX4PowerManagement
  private let disks: [VirtioBlock]
  private let transports: [VirtioPCITransport]
  private let debugConsole: DebugConsole?

  /// - Parameter cmos: what the memory of the clock held on the board before.
  init(
    _ parts: BoardParts, sink: any InterruptSink, doorbells: any DoorbellBinding,
    signals: BoardSignals, cmos: [UInt8: UInt8]?
  ) throws(MachineError) {
    let clock = parts.clock
    let requests: @Sendable (BoardRequests) -> Void = { requests in
      if requests.contains(.powerOff) {
        signals.send(.powerOff)
      } else if requests.contains(.reset) {
        signals.send(.reset)
      }
    }
    func line(_ number: UInt32) -> InterruptLine { InterruptLine(number, of: sink) }

    serialPorts = zip(parts.serialBackends, 0...).map { backend, index in
      SerialPort(
        line: line(AddressMap.serialInterrupts[index]), clock: clock, backend: backend)
    }
    for (port, base) in zip(serialPorts, AddressMap.serialPorts) {
      ports.register(port, at: base, count: SerialPort.portCount)
    }
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    let content = cmos ?? parts.initialCMOS
    realTimeClock = ChipDevice(
      RealTimeClock(
        secondsSince1970: Int64(time.tv_sec), nanoseconds: UInt64(time.tv_nsec), now: clock.now,
        content: content),
      lines: [line(AddressMap.realTimeClockInterrupt)], clock: clock)
    ports.register(realTimeClock, at: AddressMap.realTimeClock, count: 2)

    let firmwareConfiguration = FirmwareConfiguration(
      parts.firmwareContent.items, memory: parts.memory)
    ports.register(
      firmwareConfiguration, at: AddressMap.firmwareConfiguration,
      count: FirmwareConfiguration.portCount)

    keyboard = ChipDevice(
      KeyboardController(),
      lines: [line(AddressMap.keyboardInterrupt), line(AddressMap.mouseInterrupt)], clock: clock,
      requests: requests)
    ports.register(keyboard, at: AddressMap.keyboardData, count: 1, offset: 0)
    ports.register(keyboard, at: AddressMap.keyboardCommand, count: 1, offset: 4)

    let systemControl = ChipDevice(SystemControlPort(), clock: clock, requests: requests)
    ports.register(systemControl, at: SystemControlPort.port, count: 1)
    ports.register(PostCodePort(), at: PostCodePort.port, count: 1)
    debugConsole = parts.debugBackend.map { DebugConsole(backend: $0) }
    if let debugConsole { ports.register(debugConsole, at: DebugConsole.port, count: 1) }
    if parts.configuration.hasDebugExit {
      ports.register(
        DebugExitPort { signals.send(.debugExit(status: Int32($0))) }, at: DebugExitPort.port,
        count: DebugExitPort.portCount)
    }

    power = ChipDevice(
      PowerManagement(), lines: [line(AddressMap.systemControlInterrupt)], clock: clock,
      requests: requests)
    for window in [PowerManagement.Window.generalEvents, PowerManagement.Window.command] {
      ports.register(power, at: window.port, count: window.count, offset: window.offset)
    }
    let resetControl = PowerManagement.Window.resetControl
    ports.register(
      power, at: resetControl.port, count: resetControl.count, offset: resetControl.offset)

    pci = PCIHost(decoding: PCIDecoding(ports: ports, memory: memoryBus), sink: sink)
    pci.registerPorts()
    pci.attach(I440FXBridge(), at: PCIAddress(device: AddressMap.hostBridgeSlot))
    pci.attach(PIIX3Bridge(router: pci.router), at: PCIAddress(device: AddressMap.southBridgeSlot))
    powerFunction = PIIX4PowerManagement(registers: power, ports: ports)
    pci.attach(
      powerFunction,
      at: PCIAddress(
        device: AddressMap.southBridgeSlot, function: AddressMap.powerManagementFunction))
    disks = try Self.makeDisks(parts)
    var transports: [VirtioPCITransport] = []
    for (disk, slot) in zip(disks, AddressMap.firstDiskSlot...) {
      let transport = VirtioPCITransport(
        disk, memory: parts.memory, sink: sink, doorbells: doorbells)
      pci.attach(transport, at: PCIAddress(device: slot))
      transports.append(transport)
    }
    self.transports = transports
  }

  private static func makeDisks(_ parts: BoardParts) throws(MachineError) -> [VirtioBlock] {
    do throws(PlatformError) {
      var disks: [VirtioBlock] = []
      for (backend, disk) in zip(parts.disks, parts.configuration.disks) {
        disks.append(try VirtioBlock(backend: backend, options: .init(serial: disk.serial)))
      }
      return disks
    } catch {
      throw MachineError("\(parts.configuration.name): \(error)")
    }
  }

  /// Puts the power management registers where the tables say, for guests that start without firmware.
  func placePowerManagement(at base: UInt16, inACPIMode: Bool) {
    powerFunction.function.writeConfiguration(at: 0x40, width: .doubleword, value: UInt64(base | 1))
    powerFunction.function.writeConfiguration(at: 0x80, width: .byte, value: 1)
    power.withChip { chip, _ in chip.isACPIEnabled = inACPIMode }
  }

  /// What the memory of the real-time clock holds, for the board after this one.
  var cmosContent: [UInt8: UInt8] {
    realTimeClock.withChip { clock, _ in
      var content: [UInt8: UInt8] = [:]
      for index in UInt8(0x0E)..<0x80 { content[index] = clock[memory: index] }
      return content
    }
  }

  func resume() {
    for disk in disks { disk.resume() }
  }

  /// When this returns, no device works on guest memory.
  func pause() {
    for disk in disks { disk.pause() }
    flushPorts()
  }

  private func flushPorts() {
    for port in serialPorts { port.flush() }
    debugConsole?.flush()
  }

  /// As `pause`, for good.
  func stop() {
    for transport in transports { transport.reset() }
    flushPorts()
  }

  func pressPowerButton() {
    power.withChip { chip, _ in _ = chip.pressPowerButton() }
  }
}
