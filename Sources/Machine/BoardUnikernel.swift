import Devices
import Firmware
import GuestMemory
import Networks
import Platform
import Processor

/// A board's devices as a Solo5 unikernel sees them: disks and networks of the definition in the order of its manifest.
final class BoardUnikernel: Sendable {
  private static let sectorSize: UInt16 = 512
  private static let frequencyLeaf: UInt32 = 0x4000_0010

  private let port: UnikernelPort
  private let networks: [UnikernelNetwork]
  private let attachments: [UnikernelManifest.Attachment?]

  /// The manifest of the definition's kernel, where it is a unikernel.
  ///
  /// - Throws: `MachineError` when it wants a device that the definition does not have.
  static func manifest(
    of configuration: MachineConfiguration
  ) throws(MachineError) -> UnikernelManifest? {
    guard case .kernel(let path, _, _) = configuration.boot,
      let manifest = UnikernelManifest(kernel: path)
    else { return nil }
    let disks = manifest.entries.filter { $0.kind == .block }
    let networks = manifest.entries.filter { $0.kind == .network }
    guard configuration.processorCount == 1 else {
      throw MachineError(
        "\(path): a unikernel has one processor, not \(configuration.processorCount)")
    }
    if disks.count > configuration.disks.count {
      throw MachineError(
        "\(path): the unikernel's device '\(disks[configuration.disks.count].name)' needs a disk: it wants \(disks.count), there are \(configuration.disks.count)"
      )
    }
    if networks.count > configuration.networks.count {
      throw MachineError(
        "\(path): the unikernel's device '\(networks[configuration.networks.count].name)' needs a network: it wants \(networks.count), there are \(configuration.networks.count)"
      )
    }
    return manifest
  }

  init(_ manifest: UnikernelManifest, _ context: BoardContext) throws(PlatformError) {
    let parts = context.parts
    var disks = parts.disks[...]
    var ports = parts.networks[...]
    var devices: [UnikernelPort.Device?] = []
    var networks: [UnikernelNetwork] = []
    var attachments: [UnikernelManifest.Attachment?] = []
    for entry in manifest.entries {
      if entry.kind == .block, let disk = disks.popFirst() {
        devices.append(.block(disk, sectorSize: Self.sectorSize))
        // What is behind the last whole sector cannot be reached.
        attachments.append(
          .block(
            capacity: disk.size / UInt64(Self.sectorSize) * UInt64(Self.sectorSize),
            blockSize: Self.sectorSize))
      } else if entry.kind == .network, let port = ports.popFirst() {
        let network = try UnikernelNetwork(
          backend: port.backend, address: port.address, isUp: port.isUp,
          isLocked: port.configuration.isLocked, statistics: port.statistics,
          neighbors: port.neighbors)
        port.connect(network)
        networks.append(network)
        devices.append(.network(network))
        attachments.append(
          .network(address: port.address.bytes, transmissionUnit: network.transmissionUnit))
      } else {
        devices.append(nil)
        attachments.append(nil)
      }
    }
    self.networks = networks
    self.attachments = attachments
    let signals = context.signals
    port = UnikernelPort(
      memory: parts.memory, devices: devices,
      console: parts.serialBackends.first ?? SilentConsole()
    ) { status in
      signals.send(status == 0 ? .powerOff : .debugExit(status: status & 0xFF))
    }
    context.ports.register(port, at: AddressMap.unikernel, count: UnikernelPort.portCount)
  }

  /// The board is complete: tells the guest what it needs to know of it, if it is about to start.
  func connect(
    to runSwitch: RunSwitch, start: UnikernelStart?, leaves: [CPUIDLeaf]?, memory: GuestMemory
  ) {
    port.setTurn(
      .init { [weak runSwitch] in
        !(runSwitch?.allowsRunning ?? false)
      } rest: { [weak runSwitch] in
        runSwitch?.waitUntilAllowed() ?? false
      })
    guard let start else { return }
    let kilohertz = leaves?.first { $0.function == Self.frequencyLeaf }?.eax ?? 0
    for (address, bytes) in start.lateContent(attachments, frequency: UInt64(kilohertz) * 1000) {
      // The plan that was applied covers these addresses.
      try? memory.write(bytes, at: GuestAddress(address))
    }
  }

  func interrupt() { port.interrupt() }

  func resume() { for network in networks { network.resume() } }
  func pause() { for network in networks { network.pause() } }
  func stop() { for network in networks { network.stop() } }
}

/// Where a unikernel prints on a machine without serial ports.
private final class SilentConsole: CharacterBackend {
  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {}
  func guestCanReceive() {}
}
