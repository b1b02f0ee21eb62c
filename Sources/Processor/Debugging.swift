// What a debugger of the host's asks of a processor. Addresses are linear, as the guest's instructions have them after
// segmentation.

/// What a processor is to stop at.
public struct DebugSettings: Sendable, Equatable {
  /// Before the instructions at these addresses.
  public var breakpoints: [UInt64] = []
  /// After instructions that touch these.
  public var watchpoints: [Watchpoint] = []
  /// After one instruction; interrupts wait meanwhile, where the processor can have them wait.
  public var isStepping = false

  public init() {}
}

/// Memory that is looked after.
public struct Watchpoint: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    case write, read, access
  }
  public var address: UInt64
  /// Bytes.
  public var count: UInt64
  public var kind: Kind

  public init(address: UInt64, count: UInt64, kind: Kind) {
    self.address = address
    self.count = count
    self.kind = kind
  }
}

/// Why a processor has stopped for a debugger.
public struct DebugStop: Sendable, Equatable {
  public enum Reason: Sendable, Equatable {
    case step, breakpoint
    /// Address of the watchpoint.
    case watchpoint(UInt64)
    case other
  }
  public var reason: Reason
  /// Of the next instruction.
  public var address: UInt64

  public init(reason: Reason, address: UInt64) {
    self.reason = reason
    self.address = address
  }
}

/// A processor that a debugger can stop: `run` comes back with `.debug` then.
public protocol DebuggableProcessor: Processor {
  /// While it does not run, on the thread that runs it. A step is made once; the rest holds until it is set anew.
  ///
  /// - Parameter settings: nil: no debugger.
  /// - Throws: where that is more than the processor can look after.
  func setDebugging(_ settings: DebugSettings?) throws(ProcessorError)
  /// After `.debug`.
  var debugStop: DebugStop { get }
}
