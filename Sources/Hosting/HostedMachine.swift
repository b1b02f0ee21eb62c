import Devices
import Machine

/// What a host needs of a machine; `Machine` is it, and tests have their own.
package protocol HostedMachine: AnyObject, Sendable {
  var acceleratorDescription: String { get }
  var runState: MachineRunState { get }
  var serialDevices: [any CharacterDevice] { get }
  func start() throws(MachineError)
  func pause()
  func resume()
  func pressPowerButton()
  func reset()
  /// Blocks until all is flushed and gone; `MachineEvent.ended` comes before it returns.
  func stop()
  func statistics() -> MachineStatistics
}

extension Machine: HostedMachine {}

/// A serial port's multiplexer, as the host uses it: always on, whoever looks.
package protocol SerialMultiplexer: AnyObject, Sendable {
  /// What the machine writes to.
  var backend: any CharacterBackend { get }
  /// Gives the guest's end, once the machine is built.
  func connect(_ device: any CharacterDevice)
  /// Takes a client's connected socket over, with what it has sent already. The multiplexer closes it.
  func attach(_ descriptor: Int32, input: [UInt8], isReadOnly: Bool, replays: Bool)
  var clientCount: Int { get }
  /// A pseudo-terminal that other programs may open.
  var devicePath: String? { get }
  /// Hands out what is left to clients, briefly, and closes all.
  func close()
}

/// Builds the parts that a host puts together.
package struct HostParts: Sendable {
  package typealias MachineMaker =
    @Sendable (
      MachineConfiguration, [any CharacterBackend], (any CharacterBackend)?,
      @escaping @Sendable (MachineEvent) -> Void
    ) throws(MachineError) -> any HostedMachine

  /// Where a port's output is logged and where its terminal link goes.
  package struct SerialPlace: Sendable {
    package var port: Int
    /// nil: no log.
    package var logPath: String?
    /// Where a link to the pseudo-terminal is put; nil: no pseudo-terminal.
    package var linkPath: String?
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
