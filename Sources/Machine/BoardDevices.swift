import CLinux
import Devices
import Firmware
import GuestMemory

/// The chips and PCI functions of a board, on their buses.
final class BoardDevices: Sendable {
  let ports = PortBus()
  let memoryBus = MemoryBus()
  let serialPorts: [SerialPort]
  private let realTimeClock: ChipDevice<RealTimeClock>
  private let power: ChipDevice<PowerManagement>
  private let keyboard: ChipDevice<KeyboardController>
  let pci: PCIHost
  private let disks: [VirtioPCITransport]
  private let debugConsole: DebugConsole?

  /// - Parameter cmos: what the memory of the clock held on the board before.
  init(
    _ parts: BoardParts, sink: any InterruptSink, signals: BoardSignals, cmos: [UInt8: UInt8]?
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
    pci = PCIHost(
      decoding: PCIDecoding(ports: ports, memory: memoryBus), sink: sink, resetRegister: nil)
    pci.registerPorts()
    disks = []
  }

  /// What the memory of the real-time clock holds, for the board after this one.
  var cmosContent: [UInt8: UInt8] {
    realTimeClock.withChip { clock, _ in
      var content: [UInt8: UInt8] = [:]
      for index in UInt8(0x0E)..<0x80 { content[index] = clock[memory: index] }
      return content
    }
  }

  func start() {}
  func resume() {}
  func pause() {}
  func stop() {}
  func pressPowerButton() {}
}
