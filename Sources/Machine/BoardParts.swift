import Devices
import DiskImage
import Firmware
import GuestMemory
import Platform

/// What a machine keeps through resets: memory, disks, the host's ends of its ports, CMOS, and what it boots.
final class BoardParts: Sendable {
  let configuration: MachineConfiguration
  let accelerator: AcceleratorChoice
  let memory: GuestMemory
  let clock: BoardClock
  let disks: [DiskBackend]
  let serialBackends: [any CharacterBackend]
  let serialRelays: [SerialRelay]
  let debugBackend: (any CharacterBackend)?
  let boot: BootContent

  static let memoryGranularity: UInt64 = 1 << 20
  static let serialPortLimit = AddressMap.serialPorts.count

  /// Opens everything that the configuration names.
  ///
  /// - Throws: `MachineError`, one line that names the thing; nothing stays open then.
  init(
    _ configuration: MachineConfiguration, serialBackends: [any CharacterBackend],
    debugBackend: (any CharacterBackend)?
  ) throws(MachineError) {
    guard configuration.processorCount == 1 else {
      throw MachineError(
        "\(configuration.name): \(configuration.processorCount) processors asked for, but this version runs one"
      )
    }
    guard configuration.memorySize % Self.memoryGranularity == 0 else {
      throw MachineError("\(configuration.name): the memory size must be a multiple of 1 MiB")
    }
    guard serialBackends.count <= Self.serialPortLimit else {
      throw MachineError(
        "\(configuration.name): \(serialBackends.count) serial ports, but a PC has at most \(Self.serialPortLimit)"
      )
    }
    self.configuration = configuration
    self.serialBackends = serialBackends
    self.debugBackend = debugBackend
    serialRelays = serialBackends.map { _ in SerialRelay() }
    boot = try BootContent(configuration)
    accelerator = try AcceleratorChoice(configuration.accelerator)
    do throws(GuestMemoryError) {
      memory = try GuestMemory(size: configuration.memorySize)
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
    disks = try DiskBackend.open(configuration.disks)
    do throws(PlatformError) {
      clock = try BoardClock()
    } catch {
      for disk in disks { disk.close() }
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  /// After the last board is gone.
  func close() {
    clock.stop()
    for disk in disks { disk.close() }
  }
}
