import Devices
import Inventory
import Machine
import Platform

/// What a host needs of a machine; `Machine` is it, and tests have their own.
package protocol HostedMachine: AnyObject, Sendable {
  var acceleratorDescription: String { get }
  /// Takes what cannot be had once the process is confined.
  func prepareConfinement()
  /// Makes code at run time and executes it.
  var executesInSoftware: Bool { get }
  var runState: MachineRunState { get }
  var serialDevices: [any CharacterDevice] { get }
  func start() throws(MachineError)
  /// Starts one that goes on from a saved state; its disks do nothing before `commit`, see `Machine`.
  func startRestored(commit: () throws -> Void) throws
  func pause()
  func resume()
  func pressPowerButton()
  func reset()
  /// Blocks until all is flushed and gone; `MachineEvent.ended` comes before it returns.
  func stop()
  func statistics() -> MachineStatistics
  /// Exits by kind and place; they are counted for so many nanoseconds from now on.
  func readTrace(for time: UInt64) -> [ExitTraceRow]
  func expireTrace()
  /// For a process that is about to die, see `Machine`.
  func emergencyReport(_ reason: String) -> String
  /// The disc image in the CD-ROM drive; nil for an empty drive, or none.
  var disc: String? { get }
  /// - Parameter file: the image, open for reading; nil: it is opened by its path.
  func changeDisc(path: String, file: SharedDescriptor?, force: Bool) throws(MachineError)
  func ejectDisc(force: Bool) throws(MachineError)
  /// What the display shows; nil without one.
  func displaySnapshot() -> DisplaySnapshot?
  /// Presses and releases keys by their names, as `Machine.sendKeys`.
  func sendKeys(_ names: [String]) throws(MachineError)
  func type(_ text: String) throws(MachineError)
  /// Puts a fresh layer on each of the disks at one instant; `commit` is called while no request is under way.
  ///
  /// - Returns: nanoseconds for which requests were held up.
  func pushLayers(_ changes: [DiskLayerChange], commit: () throws -> Void) throws -> UInt64
  /// Writes the whole state into a new file, see `Machine`.
  ///
  /// - Returns: nanoseconds for which it stood still.
  func saveState(
    to path: String, _ options: SaveOptions, capture: @escaping @Sendable () throws -> Void,
    commit: @escaping @Sendable () throws -> Void
  ) throws -> UInt64
  /// Gives it to another host, see `Machine`.
  func move(
    to target: any MovingTarget, _ options: MovingOptions, _ progress: MovingProgress
  ) throws -> HandOver
  /// Lets it go on where giving it away had an uncertain end.
  func takeBack(_ sharedDisks: Set<Int>) throws(MachineError)
  func movingDescription() throws(MachineError) -> MovingDescription
  var networkPorts: [NetworkPort] { get }
  var socketPoint: GuestSocketPoint? { get }
  /// nil without a memory balloon.
  var balloon: MemoryBalloon? { get }
  /// Takes hold of it for a debugger, see `Machine`.
  func attachDebugger(
    wake: @escaping @Sendable () -> Void
  ) throws(MachineError) -> MachineDebugger
}

extension HostedMachine {
  package func readTrace(for time: UInt64) -> [ExitTraceRow] { [] }
  package func expireTrace() {}
  package func emergencyReport(_ reason: String) -> String { reason }
  package func prepareConfinement() {}
  package var executesInSoftware: Bool { true }
  package var networkPorts: [NetworkPort] { [] }
  package var socketPoint: GuestSocketPoint? { nil }
  package var balloon: MemoryBalloon? { nil }
  package func attachDebugger(
    wake: @escaping @Sendable () -> Void
  ) throws(MachineError) -> MachineDebugger {
    throw MachineError("this machine cannot be debugged")
  }
  package func startRestored(commit: () throws -> Void) throws {
    try commit()
    try start()
  }
  package func saveState(
    to path: String, _ options: SaveOptions, capture: @escaping @Sendable () throws -> Void,
    commit: @escaping @Sendable () throws -> Void
  ) throws -> UInt64 { throw MachineError("this machine cannot be saved") }
  package func move(
    to target: any MovingTarget, _ options: MovingOptions, _ progress: MovingProgress
  ) throws -> HandOver { throw MachineError("this machine cannot be moved") }
  package func takeBack(_ sharedDisks: Set<Int>) throws(MachineError) { resume() }
  package func movingDescription() throws(MachineError) -> MovingDescription {
    throw MachineError("this machine cannot be moved")
  }
}

extension Machine: HostedMachine {}

/// A serial port's multiplexer, as the host uses it: always on, whoever looks.
package protocol SerialMultiplexer: AnyObject, Sendable {
  /// What the machine writes to.
  var backend: any CharacterBackend { get }
  /// Gives the guest's end, once the machine is built.
  func connect(_ device: any CharacterDevice)
  /// Takes a client's connected socket over, with what it has sent already. The multiplexer closes it.
  func attach(_ descriptor: Int32, input: [UInt8], _ options: SerialAttachment)
  /// Why nobody can be attached, as "serial port 1 of web" goes on; nil when consoles can.
  var refusal: String? { get }
  var clientCount: Int { get }
  /// Bytes that the guest has printed, and has taken.
  var traffic: (output: UInt64, input: UInt64) { get }
  /// A pseudo-terminal that other programs may open.
  var devicePath: String? { get }
  /// Hands out what is left to clients, briefly, and closes all.
  func close()
}

extension SerialMultiplexer {
  package var traffic: (output: UInt64, input: UInt64) { (0, 0) }
}

/// What a client of a serial port wants.
package struct SerialAttachment: Sendable, Equatable {
  /// What it is shown of the past.
  package enum Replay: Sendable, Equatable {
    case nothing
    /// The bytes that are remembered, as they came.
    case everything
    /// The screen as it is, drawn.
    case screen
    /// The screen and lines above it, at most so many in all.
    case lines(Int)
  }
  package var isReadOnly = false
  package var replay = Replay.everything
  /// It is a terminal that answers the guest's questions, not a viewer that only draws.
  package var answersQueries = true
  /// A name for lists.
  package var label = ""

  package init(isReadOnly: Bool = false, replay: Replay = .everything) {
    self.isReadOnly = isReadOnly
    self.replay = replay
  }

  /// Parameters of `serial.attach`; nil when one is of a wrong type.
  init?(_ parameters: JSONValue) {
    switch parameters["replay"] {
    case nil, .bool(true), .string("scrollback"): replay = .everything
    case .bool(false), .string("none"): replay = .nothing
    case .string("screen"): replay = .screen
    case .integer(let count) where count >= 0: replay = .lines(Int(clamping: count))
    default: return nil
    }
    for (key, path) in [
      ("readOnly", \SerialAttachment.isReadOnly), ("answersQueries", \.answersQueries),
    ] {
      guard let value = parameters[key] else { continue }
      guard let flag = value.bool else { return nil }
      self[keyPath: path] = flag
    }
    label = parameters["label"]?.string.map { String($0.prefix(80)) } ?? ""
  }

  var parameters: [String: JSONValue] {
    let replayValue: JSONValue =
      switch replay {
      case .nothing: false
      case .everything: true
      case .screen: "screen"
      case .lines(let count): .unsigned(count)
      }
    return [
      "readOnly": .bool(isReadOnly), "replay": replayValue,
      "answersQueries": .bool(answersQueries), "label": .string(label),
    ]
  }
}

/// Builds the parts that a host puts together.
package struct HostParts: Sendable {
  package typealias MachineMaker =
    @Sendable (
      MachineConfiguration, [any CharacterBackend], (any CharacterBackend)?,
      @escaping @Sendable (MachineEvent) -> Void
    ) throws(MachineError) -> any HostedMachine

  /// Where a port goes, where its output is logged and where its terminal link is.
  package struct SerialPlace: Sendable, Equatable {
    package var port: Int
    package var target = MachineDefinition.SerialTarget.console
    /// nil: no log.
    package var logPath: String?
    /// Where a link to the pseudo-terminal is put; nil: no link, and a console has no pseudo-terminal.
    package var linkPath: String?

    package init(
      port: Int, target: MachineDefinition.SerialTarget = .console, logPath: String? = nil,
      linkPath: String? = nil
    ) {
      self.port = port
      self.target = target
      self.logPath = logPath
      self.linkPath = linkPath
    }
  }
  package typealias SerialMaker =
    @Sendable (SerialPlace) throws(HostingError)
    -> any SerialMultiplexer

  package var makeMachine: MachineMaker
  package var makeSerial: SerialMaker

  package init(makeMachine: @escaping MachineMaker, makeSerial: @escaping SerialMaker) {
    self.makeMachine = makeMachine
    self.makeSerial = makeSerial
  }

  /// The real board.
  package static let board: MachineMaker = {
    (configuration, serial, debug, events) throws(MachineError) in
    try Machine(
      configuration, serialBackends: serial, debugBackend: debug, events: events)
  }
}
