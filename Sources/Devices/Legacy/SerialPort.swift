import Platform
import Synchronization

/// A serial port of a PC: a 16550A between the guest and a `CharacterBackend`. This is the file to read about COM1.
///
/// Guest to host: bytes collect in a buffer that is handed to the backend when it holds `batchSize` bytes, when
/// `batchDelay` has passed since the first of them, or on `flush` (call it before the machine pauses or ends). Host to
/// guest: `offer` fills a queue of `pendingLimit` bytes from which the receiver FIFO takes what it can hold, so that
/// the guest sees no overrun whatever it does. Backends are called without the port's lock, in order, and may call
/// `offer` from inside.
package final class SerialPort: BusDevice, CharacterDevice, @unchecked Sendable {
  // @unchecked: Mutexes guard what is inside and the two buffers; `timer` is set once in `init`.

  /// COM1 to COM4: base port and ISA interrupt.
  package static let standardPorts: [(base: UInt16, interrupt: UInt32)] = [
    (0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3),
  ]
  package static let portCount = UART16550.portCount
  package static let pendingLimit = 4096
  package static let batchSize = 64
  /// Nanoseconds of machine time.
  package static let batchDelay: UInt64 = 500_000
  /// Every virtual processor may add a byte between the moment the batch is full and the flush.
  private static let batchLimit = 4096

  private struct Guarded {
    var uart = UART16550()
    /// Bytes for the guest, as in the receiver FIFO: errors in the high byte.
    var pending = BoundedQueue<UInt16>(capacity: pendingLimit)
    var refused = false
    var batchCount = 0
    var flushAt: MachineTime?
    var output = false
    var breakSent = false
    var deadline: MachineTime?
  }

  private let state: Mutex<Guarded>
  /// Taken before `state`, held while the backend is called: keeps batches in order.
  private let delivery: Mutex<(any CharacterBackend)?>
  /// Bytes from the guest, under `state`, and the batch on its way, under `delivery`.
  private let batch: UnsafeMutablePointer<UInt8>
  private let delivered: UnsafeMutablePointer<UInt8>
  private let receiver: Mutex<(any CharacterBackend)?>
  private let line: InterruptLine
  private let clock: any MachineClock
  private let breakChanged: (@Sendable (Bool) -> Void)?
  private var timer: (any MachineTimer)?

  /// - Parameter backend: kept alive by the port; a backend holds its port weakly.
  /// - Parameter breakChanged: the guest starts or ends a break condition.
  package init(
    line: InterruptLine, clock: any MachineClock, backend: (any CharacterBackend)? = nil,
    breakChanged: (@Sendable (Bool) -> Void)? = nil
  ) {
    self.line = line
    self.clock = clock
    self.breakChanged = breakChanged
    state = Mutex(Guarded())
    delivery = Mutex(nil)
    batch = .allocate(capacity: Self.batchLimit)
    delivered = .allocate(capacity: Self.batchLimit)
    receiver = Mutex(nil)
    timer = clock.makeTimer { [weak self] in self?.timerFired() }
    connect(backend)
  }

  deinit {
    batch.deallocate()
    delivered.deallocate()
  }

  /// Replaces the backend. Bytes not yet delivered go to the new one; without a backend they are dropped.
  package func connect(_ backend: (any CharacterBackend)?) {
    delivery.withLock { $0 = backend }
    receiver.withLock { $0 = backend }
  }

  /// Bytes a second that the guest may send, over time; nil is no limit.
  package func limitRate(bytesPerSecond: UInt32?) {
    access { guarded, _ in guarded.uart.limitRate(bytesPerSecond: bytesPerSecond) }
  }

  /// CTS, DSR, RI and DCD as the cable drives them; all but RI are up from the start.
  package func setModemInputs(_ inputs: UART16550.ModemStatus) {
    access { guarded, _ in guarded.uart.setModemInputs(inputs) }
  }

  /// A reset of the machine: what the guest sent still arrives, and what waits beyond the FIFO stays for its successor.
  package func reset() {
    access { guarded, _ in guarded.uart.reset() }
  }

  // MARK: BusDevice

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    access { guarded, now in guarded.uart.read(at: offset, width: width, now: now) }
  }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    access { guarded, now in
      guarded.uart.write(at: offset, width: width, value: value, now: now)
      if let byte = guarded.uart.takeTransmitted(), guarded.batchCount < Self.batchLimit {
        batch[guarded.batchCount] = byte
        guarded.batchCount += 1
        if guarded.flushAt == nil {
          guarded.flushAt = now.advanced(nanoseconds: Self.batchDelay)
        }
      }
    }
  }

  // MARK: CharacterDevice

  package func offer(_ bytes: UnsafeRawBufferPointer) -> Int {
    access { guarded, now in
      let count = min(bytes.count, guarded.pending.space)
      for index in 0..<count { guarded.pending.append(UInt16(bytes[index])) }
      guarded.refused = count < bytes.count
      return count
    }
  }

  package func sendBreak() {
    let errors: UART16550.LineStatus = [.breakInterrupt, .framingError]
    access { guarded, _ in guarded.pending.append(UInt16(errors.rawValue) << 8) }
  }

  /// Hands everything the guest has sent to the backend now.
  package func flush() {
    delivery.withLock { backend in
      let count = state.withLock { guarded in
        let count = guarded.batchCount
        delivered.update(from: batch, count: count)
        guarded.batchCount = 0
        return count
      }
      if count > 0 {
        backend?.guestDidSend(UnsafeRawBufferPointer(start: delivered, count: count))
      }
    }
  }

  // MARK: Inside

  private func timerFired() {
    let due = state.withLock { guarded in
      guarded.deadline = nil
      guard let flushAt = guarded.flushAt, flushAt <= clock.now else { return false }
      guarded.flushAt = nil
      return true
    }
    if due { flush() }
    access { _, _ in }
  }

  /// One access: time passes, `body`, the FIFO is filled, line and timer follow; then the backend is told, unlocked.
  @discardableResult
  private func access<Result>(_ body: (inout Guarded, MachineTime) -> Result) -> Result {
    var full = false
    var room = false
    var breakNow: Bool?
    let result = state.withLock { guarded in
      let now = clock.now
      guarded.uart.advance(to: now)
      let result = body(&guarded, now)
      pump(&guarded, now)
      update(&guarded)
      full = guarded.batchCount >= Self.batchSize
      if guarded.refused && guarded.pending.space >= Self.pendingLimit / 2 {
        guarded.refused = false
        room = true
      }
      if guarded.uart.isSendingBreak != guarded.breakSent {
        guarded.breakSent.toggle()
        breakNow = guarded.breakSent
      }
      return result
    }
    if full { flush() }
    if room { receiver.withLock { $0 }?.guestCanReceive() }
    if let breakNow { breakChanged?(breakNow) }
    return result
  }

  private func pump(_ guarded: inout Guarded, _ now: MachineTime) {
    while guarded.uart.canReceive, let entry = guarded.pending.popFirst() {
      let errors = UART16550.LineStatus(rawValue: UInt8(entry >> 8))
      guarded.uart.receive(UInt8(truncatingIfNeeded: entry), errors: errors, now: now)
    }
  }

  private func update(_ guarded: inout Guarded) {
    let output = guarded.uart.outputs & 1 != 0
    let pulse = guarded.uart.takePulses() != 0
    if pulse && guarded.output {
      line.set(false)
      line.set(true)
    }
    if output != guarded.output {
      guarded.output = output
      line.set(output)
    }
    var deadline = guarded.uart.deadline
    if let flushAt = guarded.flushAt { deadline = deadline.map { min($0, flushAt) } ?? flushAt }
    if deadline != guarded.deadline {
      guarded.deadline = deadline
      timer?.set(deadline: deadline)
    }
  }
}

extension SerialPort: Snapshottable {
  package struct State: Codable, Sendable, Equatable {
    package var uart: UART16550
    package var pending: BoundedQueue<UInt16>
  }

  package static let stateVersion = 1

  /// What the guest has sent goes to the backend first: it is no part of the state.
  package func saveState() -> State {
    flush()
    return access { guarded, _ in
      State(uart: guarded.uart.saveState(), pending: guarded.pending)
    }
  }

  package func check(_ state: State) throws(DeviceStateError) {
    try access { guarded, _ in guarded.uart }.check(state.uart)
    try DeviceStateError.require(
      state.pending.count <= Self.pendingLimit, "\(state.pending.count) bytes wait for the guest")
  }

  package func restoreState(_ newState: State) {
    access { guarded, _ in
      guarded.uart.restoreState(newState.uart)
      guarded.pending = BoundedQueue(capacity: Self.pendingLimit, contentsOf: newState.pending)
      _ = guarded.uart.takePulses()
      // Drive the line to its level whatever it was: an interrupt that was pending must not be lost.
      guarded.output = guarded.uart.outputs & 1 == 0
    }
  }
}
