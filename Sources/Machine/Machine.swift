import Devices

/// The board: processors, memory, devices and firmware put together, and the threads that run them.
///
/// All methods may be called from any thread.
public final class Machine: Sendable {
  public let configuration: MachineConfiguration

  /// Opens and builds everything; the guest does not run yet.
  ///
  /// - Parameters:
  ///   - serialBackends: the host's end of COM1, COM2, ... in order (at most four).
  ///   - debugBackend: the host's end of port 0x402, where SeaBIOS reports.
  ///   - events: called on a thread of the machine's.
  /// - Throws: `MachineError`, one line.
  public init(
    _ configuration: MachineConfiguration, serialBackends: [any CharacterBackend],
    debugBackend: (any CharacterBackend)? = nil,
    events: @escaping @Sendable (MachineEvent) -> Void
  ) throws(MachineError) {
    throw MachineError("the board is not there yet")
  }

  /// Which accelerator runs the guest and why, in one line.
  public var acceleratorDescription: String { "" }

  /// The guest's ends of the serial ports, in the order of the back ends.
  public var serialDevices: [any CharacterDevice] { [] }

  public var runState: MachineRunState { .stopped }

  /// Starts the processors' threads.
  public func start() throws(MachineError) {}
  public func pause() {}
  public func resume() {}
  /// Presses the power button: the guest is asked to shut down.
  public func pressPowerButton() {}
  /// The reset button.
  public func reset() {}
  /// Ends the run at once, flushes and closes the disks, and waits for all threads. The end is reported as
  /// `MachineEvent.ended`.
  public func stop() {}
  public func statistics() -> MachineStatistics { MachineStatistics() }
}
