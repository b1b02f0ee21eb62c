// What an owner decides about a port, what a client asks for, and what can be told about both.

/// How a port's multiplexer behaves.
public struct SerialMuxConfiguration: Sendable {
  /// Bytes of output kept for clients that are behind or attach later.
  public var ringSize = 4 << 20
  public var columns = 80
  public var rows = 24
  /// Lines of scrollback of the port's terminal.
  public var scrollbackLines = 10_000
  public var log: LogConfiguration?
  /// A PTY device, which other programs may open.
  public var hasDevice = false
  /// Where a symbolic link to the PTY device is made; there is a device then, whatever `hasDevice` says.
  public var deviceLink: String?
  /// What a program that opens the PTY device sees first.
  public var deviceReplay = SerialMuxReplay.resume
  /// Milliseconds that the guest may be held up in all while clients that do read are a full ring behind; counted anew
  /// once they caught up. 0: the guest never waits for a client.
  public var guestWaitForClients = 0
  /// Milliseconds that the guest may be held up at a time while our own terminal and log are a full ring behind and do
  /// not go on.
  public var guestWaitForTerminal = 1000
  /// Bytes of input that wait for the guest; more is not read from clients.
  public var inputLimit = 64 << 10
  /// Seconds after which a client that takes nothing although there is something is cut; 0 for never.
  public var stallLimit = 600

  public init() {}
}

/// What a client is sent before what comes next.
public enum SerialMuxReplay: Sendable, Hashable {
  case none
  /// The screen as it is, drawn by escape sequences.
  case screen
  /// The terminal's scrollback and screen, drawn; at most so many lines.
  case lines(Int)
  /// The bytes in the ring as they came, without the questions that a terminal would answer again.
  case scrollback
  /// The bytes from a position of the stream on; from the oldest when it is gone.
  case position(UInt64)
  /// From where the last user of the PTY device left; from the oldest byte at first. For other clients `scrollback`.
  case resume
}

/// What a client wants.
public struct SerialMuxClientOptions: Sendable {
  /// What it sends is thrown away.
  public var readOnly = false
  public var replay = SerialMuxReplay.none
  /// It is a terminal that answers the guest's questions (size, cursor, identity). False for a viewer that only draws.
  /// Only the first such client sees questions, so that each is answered once; without any the port answers itself.
  public var answersQueries = true
  /// A name for lists of clients.
  public var label = ""

  public init(
    readOnly: Bool = false, replay: SerialMuxReplay = .none, answersQueries: Bool = true,
    label: String = ""
  ) {
    self.readOnly = readOnly
    self.replay = replay
    self.answersQueries = answersQueries
    self.label = label
  }
}

/// Names a client of a port.
public struct SerialMuxClientIdentifier: Hashable, Sendable {
  let value: UInt64
}

/// A client as a list shows it.
public struct SerialMuxClientDescription: Sendable {
  public let identifier: SerialMuxClientIdentifier
  public let label: String
  public let readOnly: Bool
  public let isDevice: Bool
  /// Bytes sent to it.
  public let sentBytes: UInt64
  /// Position in the stream that it has read to.
  public let position: UInt64
}

/// Figures of a port.
public struct SerialMuxStatistics: Sendable {
  /// Bytes that the guest printed: the position of the stream's end.
  public internal(set) var outputBytes: UInt64 = 0
  /// Bytes that the guest took as input.
  public internal(set) var inputBytes: UInt64 = 0
  /// Bytes of input that wait for the guest.
  public internal(set) var waitingInput = 0
  /// Bytes that our own terminal and log never saw, because the guest printed faster than it may be held up.
  public internal(set) var unparsedBytes: UInt64 = 0
  /// Milliseconds that the guest was held up.
  public internal(set) var guestWaitMilliseconds: UInt64 = 0
  public internal(set) var clients: [SerialMuxClientDescription] = []
  public internal(set) var bells: UInt64 = 0
  public internal(set) var title = ""
  /// When the guest last printed, in nanoseconds of `MonotonicClock`; 0 for never.
  public internal(set) var lastOutput: UInt64 = 0
  /// Why the log cannot be written, in words; nil when it can.
  public internal(set) var logFailure: String?
  /// The PTY device's own name, such as /dev/pts/7.
  public internal(set) var devicePath: String?
}

/// Things that happen on a port, told on its loop's thread.
public enum SerialMuxEvent: Sendable, Equatable {
  case clientAttached(SerialMuxClientIdentifier)
  /// Why: "closed", "stalled" or the error.
  case clientDetached(SerialMuxClientIdentifier, reason: String)
  /// A client lost bytes because it was more than the ring behind.
  case clientFellBehind(SerialMuxClientIdentifier, bytes: UInt64)
  case bell
  case title(String)
  case logFailed(String)
}
