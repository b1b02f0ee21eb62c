import Platform
import Processor
import Synchronization

/// Where a debugger and the processors' threads of a machine meet. It outlives boards.
final class DebugPoint: Sendable {
  /// What a thread does when its processor has come back for the debugger.
  enum Answer {
    /// All processors stop; the debugger hears of it.
    case stops
    /// It makes another step.
    case steps
    /// Nobody asked for that.
    case ignored
  }

  private struct State {
    var isAttached = false
    var breakpoints: [UInt64] = []
    var watchpoints: [Watchpoint] = []
    var run = DebugRun()
    var stops: [MachineStop] = []
    var failure: String?
    var wake: (@Sendable () -> Void)?
  }

  private let state = Monitor(State())
  private let count = Atomic<UInt64>(1)

  /// Grows with every change of what is wanted.
  var generation: UInt64 { count.load(ordering: .acquiring) }

  // MARK: The debugger's side

  /// - Parameter wake: called on any thread when a processor has stopped; must not wait.
  /// - Returns: false when there is a debugger already.
  func attach(_ wake: @escaping @Sendable () -> Void) -> Bool {
    state.update { state in
      guard !state.isAttached else { return false }
      state = State()
      state.isAttached = true
      state.wake = wake
      return true
    }
  }

  /// Nothing is stopped at any more. While the machine is paused.
  func detach() {
    state.update { $0 = State() }
    count.add(1, ordering: .releasing)
  }

  /// Forgets what has happened before. While the machine is paused.
  func begin(_ run: DebugRun, breakpoints: [UInt64], watchpoints: [Watchpoint]) {
    state.update { state in
      state.run = run
      state.breakpoints = breakpoints
      state.watchpoints = watchpoints
      state.stops = []
      state.failure = nil
    }
    count.add(1, ordering: .releasing)
  }

  /// What has stopped since `begin`, first to last.
  var stops: [MachineStop] { state.read { $0.stops } }

  /// A line about what a processor could not be told.
  var failure: String? { state.read { $0.failure } }

  // MARK: The threads' side

  func rests(_ processor: Int) -> Bool {
    state.read { $0.isAttached && $0.run.resting.contains(processor) }
  }

  /// nil without a debugger.
  func settings(of processor: Int) -> DebugSettings? {
    state.read { state in
      guard state.isAttached else { return nil }
      var settings = DebugSettings()
      settings.breakpoints = state.breakpoints
      settings.watchpoints = state.watchpoints
      settings.isStepping = state.run.stepping[processor] != nil
      return settings
    }
  }

  func take(_ stop: DebugStop, of processor: Int) -> Answer {
    let (answer, wake) = state.update { state -> (Answer, (@Sendable () -> Void)?) in
      guard state.isAttached else { return (.ignored, nil) }
      if stop.reason == .step, let range = state.run.stepping[processor],
        range.contains(stop.address), !state.breakpoints.contains(stop.address)
      {
        return (.steps, nil)
      }
      // One that is stopped already has nothing more to say.
      if !state.stops.contains(where: { $0.processor == processor }) {
        state.stops.append(MachineStop(processor: processor, stop: stop))
      }
      return (.stops, state.wake)
    }
    wake?()
    return answer
  }

  func note(failure: String) {
    let wake = state.update { state -> (@Sendable () -> Void)? in
      state.failure = state.failure ?? failure
      return state.wake
    }
    wake?()
  }
}

/// How a machine goes on for a debugger.
public struct DebugRun: Sendable, Equatable {
  /// Processors that execute one instruction, or, with a range that is not empty, as many as lie in it.
  public var stepping: [Int: Range<UInt64>] = [:]
  /// Processors that stay where they are.
  public var resting: Set<Int> = []
  public init() {}
}

/// A processor that has stopped, and why.
public struct MachineStop: Sendable, Equatable {
  public var processor: Int
  public var stop: DebugStop

  public init(processor: Int, stop: DebugStop) {
    self.processor = processor
    self.stop = stop
  }
}
