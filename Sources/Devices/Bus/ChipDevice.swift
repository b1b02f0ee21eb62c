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
  private var timer: (any MachineTimer)?

  /// - Parameter lines: output i of the chip drives line i; further outputs go nowhere.
  public init(_ chip: Model, lines: [InterruptLine] = [], clock: any MachineClock) {
    state = Mutex(Guarded(chip: chip))
    self.lines = lines
    self.clock = clock
    timer = clock.makeTimer { [weak self] in self?.withChip { _, _ in } }
    withChip { _, _ in }
  }

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    withChip { chip, now in chip.read(at: offset, width: width, now: now) }
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    withChip { chip, now in chip.write(at: offset, width: width, value: value, now: now) }
  }

  /// Does something to the chip, then brings its lines and timer up to date.
  @discardableResult
  public func withChip<Result>(_ body: (inout Model, MachineTime) -> Result) -> Result {
    state.withLock { guarded in
      let now = clock.now
      guarded.chip.advance(to: now)
      let result = body(&guarded.chip, now)
      let outputs = guarded.chip.outputs
      let changed = outputs ^ guarded.outputs
      guarded.outputs = outputs
      // Inside the lock, so that two threads cannot deliver levels in the wrong order.
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
      return result
    }
  }
}
