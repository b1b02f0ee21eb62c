import Devices
import Inventory
import Platform
import SerialMux
import Synchronization

/// `SerialMux` as a host uses it.
package final class SerialLine: SerialMultiplexer, CharacterBackend {
  /// The guest's end, which exists only after the machine was built with ours.
  private final class Guest: Sendable {
    let device = Mutex<(any CharacterDevice)?>(nil)
  }
  private let guest: Guest
  private let multiplexer: SerialMux

  /// How long a guest may be held up in all by consoles that do read but are a whole ring behind, milliseconds. After
  /// that they lose bytes, and are told so; one that reads nothing never holds it up.
  private static let guestWaitForClients = 2000

  /// - Throws: also when there is no pseudo-terminal and the port is nothing else; a console does without.
  package init(_ place: HostParts.SerialPlace) throws(HostingError) {
    var configuration = SerialMuxConfiguration()
    configuration.log = place.logPath.map { LogConfiguration(path: $0) }
    configuration.deviceLink = place.linkPath
    configuration.hasDevice = place.target == .pty || place.linkPath != nil
    configuration.guestWaitForClients = Self.guestWaitForClients
    let guest = Guest()
    self.guest = guest
    do {
      multiplexer = try Self.made(configuration, guest)
    } catch {
      guard configuration.hasDevice, place.target != .pty else { throw error }
      // A host without /dev/pts, or without room for another: consoles and the log work all the same.
      configuration.deviceLink = nil
      configuration.hasDevice = false
      multiplexer = try Self.made(configuration, guest)
      HostLog.write("serial port \(place.port) has no pseudo-terminal: \(error)")
    }
  }

  private static func made(
    _ settings: SerialMuxConfiguration, _ guest: Guest
  ) throws(HostingError) -> SerialMux {
    try platform { () throws(PlatformError) in
      try SerialMux(
        configuration: settings,
        send: { bytes in guest.device.withLock { $0 }?.offer(bytes) ?? 0 },
        sendBreak: { guest.device.withLock { $0 }?.sendBreak() },
        report: { event in
          if case .logFailed(let reason) = event { HostLog.write("serial log: \(reason)") }
        })
    }
  }

  package var backend: any CharacterBackend { self }

  package func connect(_ device: any CharacterDevice) {
    guest.device.withLock { $0 = device }
  }

  package func guestDidSend(_ bytes: UnsafeRawBufferPointer) { multiplexer.guestDidSend(bytes) }
  package func guestCanReceive() { multiplexer.guestCanReceive() }

  package func attach(_ descriptor: Int32, input: [UInt8], _ options: SerialAttachment) {
    if !options.isReadOnly, !input.isEmpty { multiplexer.type(input) }
    let replay: SerialMuxReplay =
      switch options.replay {
      case .nothing: .none
      case .everything: .scrollback
      case .screen: .screen
      case .lines(let count): .lines(count)
      }
    multiplexer.attach(
      FileDescriptor(owning: descriptor),
      options: SerialMuxClientOptions(
        readOnly: options.isReadOnly, replay: replay,
        answersQueries: options.answersQueries && !options.isReadOnly, label: options.label))
  }

  package var refusal: String? { nil }
  package var clientCount: Int {
    multiplexer.statistics().clients.reduce(0) { $0 + ($1.isDevice ? 0 : 1) }
  }
  package var traffic: (output: UInt64, input: UInt64) {
    let statistics = multiplexer.statistics()
    return (statistics.outputBytes, statistics.inputBytes)
  }
  package var devicePath: String? { multiplexer.statistics().devicePath }
  package func close() { multiplexer.close() }
}
