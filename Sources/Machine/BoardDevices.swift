import Devices

/// The chips and PCI functions of a board, on their buses.
final class BoardDevices: Sendable {
  let ports = PortBus()
  let memoryBus = MemoryBus()
  let chips: BoardChips
  let functions: BoardFunctions
  let interrupts: BoardInterrupts
  /// The processors' way to all of them.
  let buses: BusAccess

  /// - Parameter cmos: what the memory of the clock held on the board before.
  init(
    _ parts: BoardParts, virtualization: any Virtualization, interrupts: BoardInterrupts,
    signals: BoardSignals, cmos: [UInt8: UInt8]?
  ) throws(MachineError) {
    let context = BoardContext(
      parts: parts, interrupts: interrupts, virtualization: virtualization, signals: signals,
      ports: ports, memoryBus: memoryBus)
    self.interrupts = interrupts
    buses = BusAccess(ports: ports, memory: memoryBus, probe: parts.trace.probe)
    chips = BoardChips(context, cmos: cmos)
    functions = try BoardFunctions(context, power: chips.power)
  }

  /// Puts the power management registers where the tables say, for guests that start without firmware.
  func placePowerManagement(at base: UInt16, inACPIMode: Bool) {
    functions.placePowerManagement(at: base)
    chips.power.withChip { chip, _ in chip.isACPIEnabled = inACPIMode }
  }

  func resume() {
    chips.resume()
    functions.resume()
  }

  /// When this returns, no device works on guest memory.
  func pause() {
    functions.pause()
    chips.flush()
  }

  /// As `pause`, for good.
  func stop() {
    functions.stop()
    chips.flush()
  }
}
