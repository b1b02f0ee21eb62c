import CLinux
import Devices
import Firmware
import GuestMemory
import Platform

/// What the devices of a board are built on.
struct BoardContext {
  let parts: BoardParts
  let interrupts: BoardInterrupts
  let virtualization: any Virtualization
  let signals: BoardSignals
  let ports: PortBus
  let memoryBus: MemoryBus

  func line(_ number: UInt32) -> InterruptLine { InterruptLine(number, of: interrupts.sink) }

  /// Where chips' wishes for the whole board go. A PC's sleep to memory and disk is not offered by the tables.
  var requests: @Sendable (BoardRequests) -> Void {
    { [signals] requests in
      if requests.contains(.powerOff) {
        signals.send(.powerOff)
      } else if requests.contains(.reset) {
        signals.send(.reset)
      }
    }
  }
}

/// The chips that every PC has, on the port and memory buses.
final class BoardChips: Sendable {
  let serialPorts: [SerialPort]
  let power: ChipDevice<PowerManagement>
  let realTimeClock: ChipDevice<RealTimeClock>
  let keyboard: ChipDevice<KeyboardController>
  let eventTimer: ChipDevice<HighPrecisionEventTimer>
  let systemControl: ChipDevice<SystemControlPort>
  let memoryAccess: ChipDevice<DirectMemoryAccessController>
  let firmwareConfiguration: FirmwareConfiguration
  /// Ours, where the kernel has none.
  let intervalTimer: ChipDevice<ProgrammableIntervalTimer>?
  /// The same; works on the timer.
  let systemControlB: SystemControlPortB?
  private let debugConsole: DebugConsole?

  /// - Parameter cmos: what the memory of the clock held on the board before.
  init(_ context: BoardContext, cmos: [UInt8: UInt8]?) {
    let clock = context.parts.clock
    serialPorts = zip(context.parts.serialBackends, AddressMap.serialInterrupts).map {
      SerialPort(line: context.line($1), clock: clock, backend: $0)
    }
    let now = Self.hostTime
    realTimeClock = ChipDevice(
      RealTimeClock(
        secondsSince1970: now.seconds, nanoseconds: now.nanoseconds, now: clock.now,
        content: cmos ?? context.parts.initialCMOS),
      lines: [context.line(AddressMap.realTimeClockInterrupt)], clock: clock)
    keyboard = ChipDevice(
      KeyboardController(),
      lines: [
        context.line(AddressMap.keyboardInterrupt), context.line(AddressMap.mouseInterrupt),
      ], clock: clock, requests: context.requests)
    power = ChipDevice(
      PowerManagement(), lines: [context.line(AddressMap.systemControlInterrupt)], clock: clock,
      requests: context.requests)
    eventTimer = ChipDevice(
      HighPrecisionEventTimer(), lines: Self.eventTimerLines(context), clock: clock)
    debugConsole = context.parts.debugBackend.map { DebugConsole(backend: $0) }
    intervalTimer =
      context.interrupts.router == nil
      ? nil
      : ChipDevice(
        ProgrammableIntervalTimer(), lines: [context.line(AddressMap.timerInterrupt)], clock: clock)
    systemControlB = intervalTimer.map { SystemControlPortB(timer: $0, clock: clock) }
    systemControl = ChipDevice(SystemControlPort(), clock: clock, requests: context.requests)
    memoryAccess = ChipDevice(DirectMemoryAccessController(), clock: clock)
    firmwareConfiguration = FirmwareConfiguration(
      context.parts.firmwareContent.items, memory: context.parts.memory)
    registerClocks(context)
    registerInterruptChips(context)
    registerOthers(context)
  }

  /// The inputs of the I/O APIC, then the lines of the legacy replacement.
  private static func eventTimerLines(_ context: BoardContext) -> [InterruptLine] {
    (0..<UInt32(HighPrecisionEventTimer.Output.pins)).map { context.line($0) } + [
      context.line(InterruptRouter.Line.replacedTimer),
      context.line(InterruptRouter.Line.replacedClock),
      context.line(InterruptRouter.Line.legacyReplacement),
    ]
  }

  private func registerClocks(_ context: BoardContext) {
    let ports = context.ports
    ports.register(realTimeClock, at: AddressMap.realTimeClock, count: 2)
    context.memoryBus.register(
      eventTimer, at: AddressMap.eventTimer, count: HighPrecisionEventTimer.size)
    if let intervalTimer, let systemControlB {
      ports.register(
        intervalTimer, at: AddressMap.intervalTimer, count: ProgrammableIntervalTimer.portCount)
      ports.register(systemControlB, at: AddressMap.systemControlB, count: 1)
    }
  }

  /// Where they are ours.
  private func registerInterruptChips(_ context: BoardContext) {
    guard let router = context.interrupts.router else { return }
    let device = router.portDevice
    for window in ProgrammableInterruptController.ports {
      context.ports.register(device, at: window.port, count: window.count, offset: window.offset)
    }
    context.memoryBus.register(
      router.memoryDevice, at: AddressMap.inputOutputInterruptController,
      count: InputOutputInterruptController.size)
  }

  private func registerOthers(_ context: BoardContext) {
    let ports = context.ports
    for (port, base) in zip(serialPorts, AddressMap.serialPorts) {
      ports.register(port, at: base, count: SerialPort.portCount)
    }
    ports.register(
      firmwareConfiguration, at: AddressMap.firmwareConfiguration,
      count: FirmwareConfiguration.portCount)
    ports.register(keyboard, at: AddressMap.keyboardData, count: 1, offset: 0)
    ports.register(keyboard, at: AddressMap.keyboardCommand, count: 1, offset: 4)
    ports.register(systemControl, at: AddressMap.systemControlA, count: 1)
    // Before the DMA page registers, of which port 0x80 is none.
    ports.register(PostCodePort(), at: AddressMap.postCode, count: 1)
    for window in DirectMemoryAccessController.ports {
      ports.register(memoryAccess, at: window.port, count: window.count, offset: window.offset)
    }
    if let debugConsole { ports.register(debugConsole, at: AddressMap.debugConsole, count: 1) }
    if context.parts.configuration.hasDebugExit {
      let signals = context.signals
      ports.register(
        DebugExitPort { signals.send(.debugExit(status: Int32($0))) }, at: AddressMap.debugExit,
        count: DebugExitPort.portCount)
    }
    typealias Window = PowerManagement.Window
    for window in [Window.generalEvents, Window.command, Window.resetControl] {
      ports.register(power, at: window.port, count: window.count, offset: window.offset)
    }
  }

  // MARK: Life

  private static var hostTime: (seconds: Int64, nanoseconds: UInt64) {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return (Int64(time.tv_sec), UInt64(time.tv_nsec))
  }

  /// The clock shows the time of day: it did not stand still while the machine was paused.
  func resume() {
    let host = Self.hostTime
    realTimeClock.withChip { clock, now in
      clock.synchronize(
        hostSecondsSince1970: host.seconds, nanoseconds: host.nanoseconds, now: now)
    }
  }

  /// What the memory of the real-time clock holds, for the board after this one.
  var cmosContent: [UInt8: UInt8] {
    realTimeClock.withChip { clock, _ in
      var content: [UInt8: UInt8] = [:]
      for index in UInt8(0x0E)..<0x80 { content[index] = clock[memory: index] }
      return content
    }
  }

  /// Hands on what the ports still hold.
  func flush() {
    for port in serialPorts { port.flush() }
    debugConsole?.flush()
  }

  /// False: too many keys wait already.
  func type(_ strokes: [KeyStroke]) -> Bool {
    keyboard.withChip { chip, now in chip.type(strokes, now: now) }
  }

  func pressPowerButton() {
    power.withChip { chip, _ in _ = chip.pressPowerButton() }
  }
}
