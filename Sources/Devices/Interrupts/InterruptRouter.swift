import Processor
import Synchronization

/// The interrupt chips of a board whose kernel does not have them: two 8259As and an I/O APIC, wired as on a PC.
///
/// ISA IRQ n is input n of the 8259As and pin n of the I/O APIC, except IRQ 0, which is pin 2; pin 0 is the 8259As'
/// INTR (ExtINT). Lines 16 to 23 are pins only. `Outputs` are called with the router's lock held, so that levels arrive
/// in order: they must not call back, and `endOfInterrupt` must be called without locks that an output takes.
package final class InterruptRouter: InterruptSink {
  package struct Outputs: Sendable {
    /// INTR of the 8259As goes up or down.
    package var interruptRequest: @Sendable (Bool) -> Void
    /// Sends a message to the local APICs. False: nobody took it, or the vector was pending already.
    package var deliver: @Sendable (MessageInterrupt) -> Bool
    /// An entry of the redirection table was written: a split irqchip sets the GSI route of that pin.
    package var redirectionChanged:
      (@Sendable (Int, InputOutputInterruptController.Redirection) -> Void)?

    package init(
      interruptRequest: @escaping @Sendable (Bool) -> Void,
      deliver: @escaping @Sendable (MessageInterrupt) -> Bool,
      redirectionChanged: (
        @Sendable (Int, InputOutputInterruptController.Redirection) -> Void
      )? = nil
    ) {
      self.interruptRequest = interruptRequest
      self.deliver = deliver
      self.redirectionChanged = redirectionChanged
    }
  }

  /// Lines beyond the pins, for the event timer's legacy replacement.
  package enum Line {
    /// While it is up, lines 0 and 8 of the interval timer and the real-time clock are cut off.
    package static let legacyReplacement: UInt32 = 0x100
    /// What comes to IRQ 0 instead.
    package static let replacedTimer: UInt32 = 0x101
    /// What comes to IRQ 8 instead.
    package static let replacedClock: UInt32 = 0x102
  }

  package struct State: Codable, Sendable, Equatable {
    var controllers = ProgrammableInterruptController()
    var pins = InputOutputInterruptController()
    /// The event timer stands in for the interval timer and the clock.
    package internal(set) var isReplaced = false
    var output = false

    package func check() throws(DeviceStateError) {
      var possible = controllers
      possible.normalize()
      try DeviceStateError.refuse(controllers, unlike: possible)
      try pins.check()
    }
  }

  private let state: Mutex<State>
  private let outputs: Outputs

  package init(_ outputs: Outputs) {
    state = Mutex(State())
    self.outputs = outputs
  }

  // MARK: InterruptSink

  package func setLine(_ number: UInt32, asserted: Bool) {
    state.withLock { state in
      switch number {
      case Line.legacyReplacement:
        state.isReplaced = asserted
        for line in [0, 8] { set(line, false, &state) }
      case 0, 8: if !state.isReplaced { set(Int(number), asserted, &state) }
      case Line.replacedTimer: if state.isReplaced { set(0, asserted, &state) }
      case Line.replacedClock: if state.isReplaced { set(8, asserted, &state) }
      case 1..<UInt32(InputOutputInterruptController.pinCount):
        set(Int(number), asserted, &state)
      default: break
      }
      settle(&state)
    }
  }

  package func deliver(_ message: MessageInterrupt) { _ = outputs.deliver(message) }

  private func set(_ line: Int, _ level: Bool, _ state: inout State) {
    state.controllers.setInput(line, level)
    state.pins.setPin(line == 0 ? InputOutputInterruptController.timerPin : line, level)
  }

  /// Brings everything that follows from a change to the processors.
  private func settle(_ state: inout State) {
    let output = state.controllers.output
    if output != state.output {
      state.output = output
      state.pins.setPin(0, output)
      outputs.interruptRequest(output)
    }
    while let pin = state.pins.takeChangedPin() {
      outputs.redirectionChanged?(pin, state.pins.entry(pin))
    }
    while let pin = state.pins.takeReadyPin() {
      state.pins.sent(pin, accepted: outputs.deliver(state.pins.entry(pin).message))
    }
  }

  // MARK: The processors' side

  /// INTA: the vector of the 8259As' interrupt that a processor takes now.
  package func acknowledge() -> VectorNumber {
    state.withLock { state in
      let vector = state.controllers.acknowledge()
      settle(&state)
      return VectorNumber(vector)
    }
  }

  /// Level of INTR.
  package var isInterruptRequested: Bool { state.withLock { $0.output } }

  /// A local APIC ended `vector`. Level-triggered vectors must be reported; where edges are reported too, no tick of
  /// the timer is lost.
  package func endOfInterrupt(_ vector: VectorNumber) {
    state.withLock { state in
      state.pins.endOfInterrupt(vector: vector.rawValue)
      settle(&state)
    }
  }

  // MARK: Buses

  /// The 8259As' ports: offsets as `ProgrammableInterruptController.ports` maps them.
  package var portDevice: any BusDevice { Ports(self) }
  /// The I/O APIC's window of `InputOutputInterruptController.size` bytes.
  package var memoryDevice: any BusDevice { Window(self) }

  private final class Ports: BusDevice {
    private let router: InterruptRouter
    init(_ router: InterruptRouter) { self.router = router }

    func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
      router.state.withLock { state in
        var value: UInt64 = 0
        for index in 0..<UInt64(width.rawValue) {
          value |= UInt64(state.controllers.read(at: offset &+ index)) << (index * 8)
        }
        router.settle(&state)
        return value
      }
    }

    func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
      router.state.withLock { state in
        for index in 0..<UInt64(width.rawValue) {
          let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
          state.controllers.write(at: offset &+ index, value: byte)
        }
        router.settle(&state)
      }
    }
  }

  private final class Window: BusDevice {
    private let router: InterruptRouter
    init(_ router: InterruptRouter) { self.router = router }

    func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
      router.state.withLock { state in
        // Registers are 32 bits at multiples of 16; a part of one is that part.
        let register = state.pins.read(at: offset & ~3)
        return UInt64(register) >> ((offset & 3) * 8)
      }
    }

    func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
      guard offset & 3 == 0 else { return }
      router.state.withLock { state in
        state.pins.write(at: offset, value: UInt32(truncatingIfNeeded: value))
        router.settle(&state)
      }
    }
  }
}

extension InterruptRouter: Snapshottable {
  package static let stateVersion = 1

  package func saveState() -> State { state.withLock { $0 } }

  package func check(_ state: State) throws(DeviceStateError) { try state.check() }

  /// Tells the processors INTR and every route again, whatever they were told before.
  package func restoreState(_ newState: State) {
    state.withLock { state in
      state = newState
      state.controllers.normalize()
      state.pins.normalize()
      state.output = state.controllers.output
      outputs.interruptRequest(state.output)
      settle(&state)
    }
  }

  /// Power-on state; lines keep no level, devices that are reset too set theirs again.
  package func reset() { restoreState(State()) }
}
