/// What stands between the front end and the machines: a list, actions, and consoles as byte streams.
///
/// No call blocks. Everything that takes time is answered later by events, which `process` hands out; a machine that
/// does not answer can hold up nothing but itself. All calls come from the front end's one thread.
package protocol MachineService: AnyObject {
  /// What it can do beyond the ordinary; keys of the rest are not shown.
  var capabilities: ServiceCapabilities { get }

  /// Descriptors that the front end waits on between events. Asked again before each wait.
  var descriptors: [PollRequest] { get }

  /// When `process` wants to be called even if no descriptor is ready (nanoseconds of `MonotonicClock`); nil: never.
  var deadline: UInt64? { get }

  /// Serves what is ready and returns what happened since the last call, in order.
  func process() -> [ServiceEvent]

  /// Begins an action. Its end is reported by `finished` or `failed` with the same number.
  func perform(_ request: MachineRequest, as number: RequestNumber)

  /// Opens a machine's console. `attached` or `consoleClosed` follows, then `output`.
  func attach(
    _ machine: String, _ source: ConsoleSource, as console: ConsoleNumber, size: Size)

  /// Sends bytes to the guest. What the guest does not take now is kept, at most 1 MiB.
  func send(_ bytes: [UInt8], to console: ConsoleNumber)

  /// Presses keys, by their names in the control protocol, on the keyboard of a display's machine.
  func sendKeys(_ names: [String], to console: ConsoleNumber)

  /// Tells the guest the size of its screen, where a channel for that exists.
  func resize(_ console: ConsoleNumber, to size: Size)

  /// Seconds between statistics.
  func refresh(every seconds: Double)

  /// Closes a console; the machine runs on.
  func detach(_ console: ConsoleNumber)
}

/// Things that some services can not do.
package struct ServiceCapabilities: OptionSet, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }
  /// Snapshots of running machines.
  package static let liveSnapshots = ServiceCapabilities(rawValue: 1 << 0)
  /// Deleting snapshots that others grow from.
  package static let snapshotMerging = ServiceCapabilities(rawValue: 1 << 1)
  package static let snapshotRenaming = ServiceCapabilities(rawValue: 1 << 2)
  /// New machines from any snapshot.
  package static let branching = ServiceCapabilities(rawValue: 1 << 3)
  package static let demonstration = ServiceCapabilities(rawValue: 1 << 4)
  /// Snapshots of running machines may hold their memory.
  package static let memorySnapshots = ServiceCapabilities(rawValue: 1 << 5)
  package static let all = ServiceCapabilities(rawValue: 0x3F)
}

/// A descriptor to wait on.
package struct PollRequest: Hashable, Sendable {
  package var descriptor: Int32
  package var wantsToWrite: Bool
  package init(descriptor: Int32, wantsToWrite: Bool = false) {
    self.descriptor = descriptor
    self.wantsToWrite = wantsToWrite
  }
}

/// Names a request from its beginning to its end.
package struct RequestNumber: Hashable, Sendable {
  package let value: Int
  package init(_ value: Int) { self.value = value }
}

/// Names an attached console.
package struct ConsoleNumber: Hashable, Sendable {
  package let value: Int
  package init(_ value: Int) { self.value = value }
}

/// Something that the service has to say.
package enum ServiceEvent: Sendable {
  /// All machines, sorted by name.
  case machines([MachineSummary])
  case host(HostStatus)
  /// Snapshots of a machine, parents before children; a machine without has none.
  case snapshots(String, [SnapshotStatus])
  /// A request is under way: what it does and how much is done (0 to 1, nil when unknown).
  case progress(RequestNumber, String, Double?)
  /// A request was carried out: what to tell, what would take it back, and the machine to show.
  case finished(RequestNumber, Outcome)
  /// A request failed: one line with what to do.
  case failed(RequestNumber, String)
  /// A console is open; the guest's screen has this size.
  case attached(ConsoleNumber, Size)
  case output(ConsoleNumber, [UInt8])
  /// A console is closed, with the reason.
  case consoleClosed(ConsoleNumber, String)
  /// A guest printed something while nobody looked at it, and whether it rang the bell.
  case activity(String, bell: Bool)
  /// What a definition says, by the keys that `uj set` takes.
  case settings(String, [String: String])
  /// A log's next bytes; `restart` when they are its beginning.
  case log(LogSource, [UInt8], restart: Bool)
  case hostReport(HostReport)
  case images([ImageStatus])
}

/// How a request ended well.
package struct Outcome: Hashable, Sendable {
  /// One line for the message bar.
  package var text: String
  /// What takes it back.
  package var undo: MachineRequest?
  /// A machine that the list should show, such as the one that was made.
  package var select: String?
  /// Open its console at once.
  package var attach: Bool
  /// Lines to show in a dialog of their own.
  package var details: [String] = []

  package init(
    _ text: String, undo: MachineRequest? = nil, select: String? = nil, attach: Bool = false
  ) {
    self.text = text
    self.undo = undo
    self.select = select
    self.attach = attach
  }
}
