import Synchronization

/// Puts a `Chip` on a bus: serializes accesses, drives its lines and its timer.
public final class ChipDevice<Model: Chip>: BusDevice, @unchecked Sendable {
  // @unchecked: `state` is a Mutex; `timer` is set once in `init`.
  private struct Guarded {
    var chip: Model
    var outputs: UInt32 = 0
    var deadline: MachineTime?
  }

  private let state: Mutex<Guarded>
  private let lines: [InterruptLine]
  private let clock: any MachineClock
  private let requests: (@Sendable (BoardRequests) -> Void)?
  private var timer: (any MachineTimer)?

  /// - Parameter lines: output i of the chip drives line i; further outputs go nowhere.
  /// - Parameter requests: called without the chip's lock, on the thread whose access asked for it.
  public init(
    _ chip: Model, lines: [InterruptLine] = [], clock: any MachineClock,
    requests: (@Sendable (BoardRequests) -> Void)? = nil
  ) {
    state = Mutex(Guarded(chip: chip))
    self.lines = lines
    self.clock = clock
    self.requests = requests
    timer = clock.makeTimer { [weak self] in self?.timerFired() }
    withChip { _, _ in }
  }

  public var busName: String { Self.words("\(Model.self)") }

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    withChip { chip, now in chip.read(at: offset, width: width, now: now) }
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    withChip { chip, now in chip.write(at: offset, width: width, value: value, now: now) }
  }

  /// Does something to the chip, then brings its lines and timer up to date.
  @discardableResult
  public func withChip<Result>(_ body: (inout Model, MachineTime) -> Result) -> Result {
    var asked: BoardRequests = []
    let result = state.withLock { guarded in
      let now = clock.now
      guarded.chip.advance(to: now)
      let result = body(&guarded.chip, now)
      asked = guarded.chip.takeRequests()
      drive(&guarded)
      return result
    }
    if !asked.isEmpty { requests?(asked) }
    return result
  }

  private func timerFired() {
    // The timer has spent its deadline: it must be set again even where the chip asks for the same time.
    state.withLock { $0.deadline = nil }
    withChip { _, _ in }
  }

  /// Inside the lock, so that two threads cannot deliver levels in the wrong order.
  private func drive(_ guarded: inout Guarded) {
    let outputs = guarded.chip.outputs
    while case let pulses = guarded.chip.takePulses(), pulses != 0 {
      for (index, line) in lines.enumerated() where pulses & (1 << UInt32(index)) != 0 {
        if guarded.outputs & (1 << UInt32(index)) != 0 { line.set(false) }
        line.set(true)
      }
      guarded.outputs |= pulses
    }
    let changed = outputs ^ guarded.outputs
    guarded.outputs = outputs
    if changed != 0 {
      for (index, line) in lines.enumerated() where changed & (1 << UInt32(index)) != 0 {
        line.set(outputs & (1 << UInt32(index)) != 0)
      }
    }
    let deadline = guarded.chip.deadline
    if deadline != guarded.deadline {
      guarded.deadline = deadline
      timer?.set(deadline: deadline)
    }
  }
}

extension ChipDevice: Snapshottable where Model: Snapshottable {
  public static var stateVersion: Int { Model.stateVersion }

  public func saveState() -> Model.State {
    withChip { chip, _ in chip.saveState() }
  }

  public func check(_ newState: Model.State) throws(DeviceStateError) {
    try state.withLock { $0.chip }.check(newState)
  }

  /// Restores the chip and sets every line to its level, whatever it was before. Restore devices before the interrupt
  /// chips, so that the edges this makes are overwritten by the state that these had.
  public func restoreState(_ newState: Model.State) {
    state.withLock { guarded in
      guarded.chip.restoreState(newState)
      // Everything the timer and the lines were told is void.
      guarded.outputs = ~guarded.chip.outputs
      guarded.deadline = nil
      timer?.set(deadline: nil)
      drive(&guarded)
    }
  }
}
