/// The 16550A universal asynchronous receiver-transmitter as a value (PC16550D data sheet, June 1995).
///
/// A transmitted byte leaves at once: the transmitter is empty again when the write returns, unless a rate limit is
/// set. Received bytes arrive as fast as the guest takes them; there is no baud rate between the machines, the divisor
/// only gives the length of the receiver's time-out. Output 0 is the ISA interrupt line (the pin gated by OUT2).
package struct UART16550: ByteWideChip, Snapshottable, Codable, Equatable {
  /// Depth of each FIFO.
  package static let fifoDepth = 16
  /// Ports from the base.
  package static let portCount = 8
  package static let stateVersion = 1
  /// The crystal divided by 16: the baud rate with divisor 1.
  private static let baudBase: UInt64 = 115_200
  /// A tiny baud rate must not hold back a byte for seconds.
  private static let longestReceiveTimeout: UInt64 = 10_000_000
  /// How far a guest may run ahead of the rate limit before the transmitter looks busy.
  private static let burst: UInt64 = 4096

  private var interruptEnable: InterruptEnable = []
  private var lineControl = LineControl(rawValue: 0x03)
  private var modemControl: ModemControl = .output2
  private var divisor: UInt16 = 12
  private var scratch: UInt8 = 0
  private var fifosEnabled = false
  private var triggerLevel = 1
  /// Bits 7 to 0: the byte; bits 15 to 8: its `LineStatus` errors.
  private var received = BoundedQueue<UInt16>(capacity: fifoDepth)
  private var lineErrors: LineStatus = []
  private var transmitterInterrupt = false
  private var modemInputs: ModemStatus = [.clearToSend, .dataSetReady, .carrierDetect]
  private var modemDeltas: ModemStatus = []
  private var receiveTimeout: MachineTime?
  private var receiveTimedOut = false
  /// When everything written so far would have left at the limited rate.
  private var transmitterFree = MachineTime(rawValue: 0)
  /// Bytes written while the transmitter was busy.
  private var transmitterBacklog = 0
  private var transmitterBusy = false
  private var nanosecondsPerByte: UInt64 = 0
  private var transmitted: UInt8?
  /// The interrupt line was low at some moment since `takePulses`.
  private var dipped = false

  package init() {}

  /// The MR pin. The cable and the host's rate limit stay as they are.
  package mutating func reset() {
    let (inputs, limit) = (modemInputs, nanosecondsPerByte)
    self = Self()
    modemInputs = inputs
    nanosecondsPerByte = limit
  }

  // MARK: The host's side

  /// Bytes a second that the guest may send, over time; nil is no limit. A guest that ignores THRE loses bytes.
  package mutating func limitRate(bytesPerSecond: UInt32?) {
    nanosecondsPerByte = bytesPerSecond.map { 1_000_000_000 / UInt64(max($0, 1)) } ?? 0
  }

  /// The byte that the last access transmitted, once.
  @inline(__always)
  package mutating func takeTransmitted() -> UInt8? {
    let byte = transmitted
    transmitted = nil
    return byte
  }

  /// The guest holds the line in the break condition.
  package var isSendingBreak: Bool {
    lineControl.contains(.setBreak) && !modemControl.contains(.loopback)
  }

  /// Whether `receive` would be heard without an overrun.
  package var canReceive: Bool {
    !modemControl.contains(.loopback) && received.count < receiverDepth
  }

  /// A byte comes in on the line, with the errors it arrived with.
  package mutating func receive(_ byte: UInt8, errors: LineStatus = [], now: MachineTime) {
    guard !modemControl.contains(.loopback) else { return }
    push(byte, errors: errors, now: now)
  }

  /// Sets CTS, DSR, RI and DCD as the cable drives them.
  package mutating func setModemInputs(_ inputs: ModemStatus) {
    changeModem { $0.modemInputs = inputs.intersection(.inputs) }
  }

  // MARK: Chip

  package var outputs: UInt32 {
    modemControl.contains(.output2) && !modemControl.contains(.loopback) && cause != nil ? 1 : 0
  }

  /// An edge-triggered interrupt chip must see that one cause went before the next came.
  package mutating func takePulses() -> UInt32 {
    defer { dipped = false }
    return dipped ? outputs : 0
  }

  package var deadline: MachineTime? {
    var earliest = receiveTimedOut ? nil : receiveTimeout
    if transmitterBusy && interruptEnable.contains(.transmitterEmpty) {
      let free = transmitterReady
      earliest = earliest.map { min($0, free) } ?? free
    }
    return earliest
  }

  package mutating func advance(to now: MachineTime) {
    if let timeout = receiveTimeout, timeout <= now {
      receiveTimeout = nil
      receiveTimedOut = true
    }
    if transmitterBusy && transmitterReady <= now {
      transmitterBusy = false
      transmitterBacklog = 0
      transmitterInterrupt = true
    }
  }

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    defer { dipped = dipped || outputs == 0 }
    let divisorLatch = lineControl.contains(.divisorLatchAccess)
    switch offset {
    case Register.data:
      return divisorLatch ? UInt8(truncatingIfNeeded: divisor) : readReceiver(now)
    case Register.interruptEnable:
      return divisorLatch ? UInt8(divisor >> 8) : interruptEnable.rawValue
    case Register.interruptIdentification:
      return readInterruptIdentification()
    case Register.lineControl: return lineControl.rawValue
    case Register.modemControl: return modemControl.rawValue
    case Register.lineStatus: return readLineStatus()
    case Register.modemStatus:
      defer { modemDeltas = [] }
      return modemLevels.union(modemDeltas).rawValue
    case Register.scratch: return scratch
    default: return 0xFF
    }
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    defer { dipped = dipped || outputs == 0 }
    let divisorLatch = lineControl.contains(.divisorLatchAccess)
    switch offset {
    case Register.data where divisorLatch: divisor = divisor & 0xFF00 | UInt16(value)
    case Register.data: transmit(value, now: now)
    case Register.interruptEnable where divisorLatch:
      divisor = divisor & 0x00FF | UInt16(value) << 8
    case Register.interruptEnable:
      let enabled = InterruptEnable(rawValue: value & InterruptEnable.writable)
      let rose = enabled.subtracting(interruptEnable)
      // Enabling the interrupt while the holding register is empty raises it again.
      if rose.contains(.transmitterEmpty) && !transmitterBusy { transmitterInterrupt = true }
      interruptEnable = enabled
    case Register.interruptIdentification: writeFIFOControl(FIFOControl(rawValue: value), now)
    case Register.lineControl: writeLineControl(LineControl(rawValue: value), now)
    case Register.modemControl:
      changeModem {
        $0.modemControl = ModemControl(rawValue: value & ModemControl.writable)
      }
    // Writing the line status is for factory tests; the modem status is read-only here.
    case Register.scratch: scratch = value
    default: break
    }
  }

  // MARK: Interrupts

  private var receiverDepth: Int { fifosEnabled ? Self.fifoDepth : 1 }

  /// The pending and enabled cause of the highest priority.
  package var cause: InterruptCause? {
    if interruptEnable.isEmpty { return nil }
    if interruptEnable.contains(.lineStatus) && !lineErrors.isEmpty { return .lineStatus }
    if interruptEnable.contains(.receivedData) {
      if received.count >= (fifosEnabled ? triggerLevel : 1) { return .receivedData }
      if receiveTimedOut && !received.isEmpty { return .characterTimeout }
    }
    if interruptEnable.contains(.transmitterEmpty) && transmitterInterrupt {
      return .transmitterEmpty
    }
    if interruptEnable.contains(.modemStatus) && !modemDeltas.isEmpty { return .modemStatus }
    return nil
  }

  private mutating func readInterruptIdentification() -> UInt8 {
    let cause = self.cause
    if cause == .transmitterEmpty { transmitterInterrupt = false }
    let fifos = fifosEnabled ? InterruptCause.fifosEnabled : 0
    return fifos | (cause?.rawValue ?? InterruptCause.none)
  }

  // MARK: Receiver

  private mutating func push(_ byte: UInt8, errors: LineStatus, now: MachineTime) {
    if received.count >= receiverDepth {
      lineErrors.insert(.overrunError)
      // With FIFOs the shift register is lost; without, the new byte replaces the one that was not read.
      if !fifosEnabled { received.replaceFirst(with: UInt16(byte)) }
      return
    }
    let errors = errors.intersection([.parityError, .framingError, .breakInterrupt])
    received.append(UInt16(byte) | UInt16(errors.rawValue) << 8)
    if received.count == 1 { lineErrors.formUnion(errors) }
    startReceiveTimeout(now)
  }

  private mutating func readReceiver(_ now: MachineTime) -> UInt8 {
    guard let entry = received.popFirst() else { return 0 }
    if let next = received.first {
      lineErrors.formUnion(LineStatus(rawValue: UInt8(next >> 8)))
    }
    startReceiveTimeout(now)
    return UInt8(truncatingIfNeeded: entry)
  }

  /// Four character times without a byte moving in or out of a FIFO that is not empty.
  private mutating func startReceiveTimeout(_ now: MachineTime) {
    receiveTimedOut = false
    guard fifosEnabled && !received.isEmpty else {
      receiveTimeout = nil
      return
    }
    receiveTimeout = now.advanced(
      nanoseconds: min(4 * nanosecondsPerCharacter, Self.longestReceiveTimeout))
  }

  /// How long a character takes on the line by divisor and line control.
  package var nanosecondsPerCharacter: UInt64 {
    var bits = 1 + 5 + UInt64(lineControl.intersection(.wordLength).rawValue) + 1
    if lineControl.contains(.stopBits) { bits += 1 }
    if lineControl.contains(.parityEnable) { bits += 1 }
    let divisor = self.divisor == 0 ? 0x1_0000 : UInt64(self.divisor)
    return bits * divisor * 1_000_000_000 / Self.baudBase
  }

  private mutating func readLineStatus() -> UInt8 {
    var status = lineErrors
    if !received.isEmpty { status.insert(.dataReady) }
    if !transmitterBusy { status.formUnion([.transmitterHoldingEmpty, .transmitterEmpty]) }
    if fifosEnabled && received.contains(where: { $0 >> 8 != 0 }) { status.insert(.fifoError) }
    lineErrors = []
    // The errors of the byte at the top have been reported.
    if let top = received.first { received.replaceFirst(with: top & 0xFF) }
    return status.rawValue
  }

  // MARK: Transmitter

  private var transmitterReady: MachineTime {
    MachineTime(
      rawValue: transmitterFree.rawValue
        &- min(nanosecondsPerByte &* Self.burst, transmitterFree.rawValue))
  }

  private mutating func transmit(_ byte: UInt8, now: MachineTime) {
    transmitterInterrupt = false
    dipped = dipped || outputs == 0
    if modemControl.contains(.loopback) {
      push(byte, errors: [], now: now)
      transmitterInterrupt = true
      return
    }
    guard nanosecondsPerByte > 0 else {
      transmitted = byte
      transmitterInterrupt = true
      return
    }
    if transmitterBusy {
      guard transmitterBacklog < receiverDepth else { return }
      transmitterBacklog += 1
    }
    transmitted = byte
    transmitterFree = max(transmitterFree, now).advanced(nanoseconds: nanosecondsPerByte)
    transmitterBusy = transmitterReady > now
    transmitterInterrupt = !transmitterBusy
  }

  // MARK: Control

  private mutating func writeFIFOControl(_ control: FIFOControl, _ now: MachineTime) {
    let enable = control.contains(.enable)
    // Changing the mode clears both FIFOs; the other bits count only with the enable bit.
    if enable != fifosEnabled || (enable && control.contains(.clearReceiver)) {
      received.removeAll()
      receiveTimeout = nil
      receiveTimedOut = false
    }
    // The transmitter's FIFO has nothing to clear: bytes have left when the write returns.
    fifosEnabled = enable
    triggerLevel = enable ? FIFOControl.triggerLevels[Int(control.rawValue >> 6)] : 1
  }

  private mutating func writeLineControl(_ control: LineControl, _ now: MachineTime) {
    let starts = control.contains(.setBreak) && !lineControl.contains(.setBreak)
    lineControl = control
    if starts && modemControl.contains(.loopback) {
      push(0, errors: [.breakInterrupt, .framingError], now: now)
    }
  }

  // MARK: Modem

  /// What the chip sees on its modem inputs: in loopback, its own outputs.
  private var modemLevels: ModemStatus {
    guard modemControl.contains(.loopback) else { return modemInputs }
    var levels: ModemStatus = []
    if modemControl.contains(.requestToSend) { levels.insert(.clearToSend) }
    if modemControl.contains(.dataTerminalReady) { levels.insert(.dataSetReady) }
    if modemControl.contains(.output1) { levels.insert(.ringIndicator) }
    if modemControl.contains(.output2) { levels.insert(.carrierDetect) }
    return levels
  }

  private mutating func changeModem(_ change: (inout Self) -> Void) {
    let before = modemLevels
    change(&self)
    let after = modemLevels
    let changed = before.symmetricDifference(after)
    if changed.contains(.clearToSend) { modemDeltas.insert(.deltaClearToSend) }
    if changed.contains(.dataSetReady) { modemDeltas.insert(.deltaDataSetReady) }
    if changed.contains(.carrierDetect) { modemDeltas.insert(.deltaCarrierDetect) }
    if changed.contains(.ringIndicator) && !after.contains(.ringIndicator) {
      modemDeltas.insert(.trailingEdgeRing)
    }
  }

  // MARK: Snapshottable

  package func saveState() -> UART16550 { self }

  package func check(_ state: Self) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.received.count <= Self.fifoDepth
        && FIFOControl.triggerLevels.contains(state.triggerLevel)
        && (0...Self.fifoDepth).contains(state.transmitterBacklog),
      "its queues cannot be")
  }

  /// The rate limit is the host's and stays as it is.
  package mutating func restoreState(_ state: UART16550) {
    let limit = nanosecondsPerByte
    self = state
    nanosecondsPerByte = limit
    received = BoundedQueue(capacity: Self.fifoDepth, contentsOf: state.received)
    if !FIFOControl.triggerLevels.contains(triggerLevel) { triggerLevel = 1 }
    transmitterBacklog = min(max(transmitterBacklog, 0), Self.fifoDepth)
    if limit == 0 && transmitterBusy {
      transmitterBusy = false
      transmitterInterrupt = true
    }
    transmitted = nil
    dipped = false
  }
}
