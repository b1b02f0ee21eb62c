import Devices
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

  package init(_ place: HostParts.SerialPlace) throws(HostingError) {
    var configuration = SerialMuxConfiguration()
    configuration.log = place.logPath.map { LogConfiguration(path: $0) }
    configuration.deviceLink = place.linkPath
    let guest = Guest()
    self.guest = guest
    let settings = configuration
    multiplexer = try platform { () throws(PlatformError) in
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

  package var clientCount: Int {
    multiplexer.statistics().clients.reduce(0) { $0 + ($1.isDevice ? 0 : 1) }
  }
  package var devicePath: String? { multiplexer.statistics().devicePath }
  package func close() { multiplexer.close() }
}
