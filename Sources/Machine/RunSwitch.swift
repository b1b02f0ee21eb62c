import Platform
import Processor

/// What the threads of a board's processors are told to do.
enum RunMode: Sendable {
  case parked, running, exiting
}

/// The switch that all processor threads of a board obey, and the place where they come together.
///
/// A thread looks at it when its processor was interrupted, never on the way of a plain exit. Whoever turns it changes
/// the mode first and kicks the processors then: a kick stays with a processor until it has been answered, so a thread
/// either sees the new mode or is about to be interrupted.
final class RunSwitch: Sendable {
  private struct Control {
    var mode = RunMode.parked
    /// Threads that were started.
    var threads = 0
    /// Threads that are here, and so in no guest code and on no bus.
    var parked = 0
    /// A debugger has stopped the processors: nobody but it, or a person, lets them go on.
    var isHeld = false
    /// All are to come here once, for `work`.
    var isGathering = false
  }

  private let control = Monitor(Control())
  private let processors: [any Processor]
  private let work: @Sendable () -> Void
  private let wake: @Sendable () -> Void

  /// - Parameters:
  ///   - work: what `gather` is for; run while all threads are here.
  ///   - wake: ends waits of processors' threads inside a device.
  init(
    _ processors: [any Processor], wake: @escaping @Sendable () -> Void = {},
    work: @escaping @Sendable () -> Void
  ) {
    self.wake = wake
    self.processors = processors
    self.work = work
  }

  // MARK: The board's side

  func noteStart() { control.update { $0.threads += 1 } }

  func resume() {
    control.update { if $0.mode == .parked, !$0.isHeld { $0.mode = .running } }
  }

  /// Ends a `hold`. The processors go on with the next `resume`.
  func release() { control.update { $0.isHeld = false } }

  /// The processors stop soon.
  func askToPark() {
    control.update { $0.mode = .parked }
    interrupt()
  }

  /// Comes back when no processor executes guest code or works on a bus.
  func park() {
    askToPark()
    control.wait { $0.parked >= $0.threads ? true : nil }
  }

  /// After `park`: lets the threads end.
  func end() { control.update { $0.mode = .exiting } }

  // MARK: The threads' side

  /// Whether a thread that was interrupted may go on.
  var allowsRunning: Bool { control.read { $0.mode == .running && !$0.isGathering } }

  /// The processors stop soon, and `resume` has no effect until `release`.
  func hold() {
    control.update { control in
      guard control.mode != .exiting else { return }
      control.isHeld = true
      control.mode = .parked
    }
    interrupt()
  }

  /// Waits here until the guest may run; false when the thread is to end.
  ///
  /// - Parameter rests: whether this thread stays here while others run. Asked again when the mode changes.
  func waitUntilAllowed(rests: () -> Bool = { false }) -> Bool {
    arrive()
    return control.wait { control in
      guard !control.isGathering else { return nil }
      switch control.mode {
      case .parked: return nil
      case .running:
        guard !rests() else { return nil }
        control.parked -= 1
        return true
      case .exiting: return false
      }
    }
  }

  /// Waits here until the thread is to end: its processor cannot go on.
  func waitForEnd() {
    arrive()
    control.wait { $0.mode == .exiting ? true : nil }
  }

  /// Asks all threads to come here once. The caller must come itself, with `waitUntilAllowed`; the last one to arrive
  /// does the work. While it is under way, or the board is parked anyhow, nothing happens.
  func gather() {
    let isFirst = control.update { control in
      guard control.mode == .running, !control.isGathering else { return false }
      control.isGathering = true
      return true
    }
    guard isFirst else { return }
    interrupt()
  }

  private func interrupt() {
    for processor in processors { processor.interrupt() }
    wake()
  }

  private func arrive() {
    control.update { control in
      control.parked += 1
      guard control.isGathering, control.parked >= control.threads else { return }
      work()
      control.isGathering = false
    }
  }
}
