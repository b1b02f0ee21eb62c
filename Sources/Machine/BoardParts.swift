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
  /// What firmware and its tables say about this board.
  let description: BoardDescription
  let firmwareContent: FirmwareContent

  static let memoryGranularity: UInt64 = 1 << 20
  static let diskLimit = 32 - Int(AddressMap.firstDiskSlot)
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
    guard configuration.disks.count <= Self.diskLimit else {
      throw MachineError(
        "\(configuration.name): \(configuration.disks.count) disks, but there is room for \(Self.diskLimit)"
      )
    }
    self.configuration = configuration
    self.serialBackends = serialBackends
    self.debugBackend = debugBackend
    serialRelays = serialBackends.map { _ in SerialRelay() }
    let described = Self.describe(configuration, serialPortCount: serialBackends.count)
    description = described
    do throws(FirmwareError) {
      firmwareContent = try FirmwareContent(described)
    } catch {
      throw MachineError("\(error)")
    }
    boot = try BootContent(configuration.boot, board: described)
    accelerator = try AcceleratorChoice(configuration.accelerator)
    do throws(GuestMemoryError) {
      memory = try GuestMemory(size: configuration.memorySize)
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
    try boot.validate(memory)
    disks = try DiskBackend.open(configuration.disks)
    do throws(PlatformError) {
      clock = try BoardClock()
    } catch {
      for disk in disks { disk.close() }
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  private static func describe(
    _ configuration: MachineConfiguration, serialPortCount: Int
  ) -> BoardDescription {
    var board = BoardDescription(
      name: configuration.name, uuid: configuration.uuid ?? randomUUID(),
      memorySize: configuration.memorySize, processorCount: configuration.processorCount)
    board.serialPorts = Array(BoardDescription.standardSerialPorts.prefix(serialPortCount))
    board.serialConsole = serialPortCount > 0 ? AddressMap.serialPorts[0] : nil
    board.bootOrder = configuration.bootOrder.flatMap { device -> [BootTarget] in
      switch device {
      case .disk:
        configuration.disks.indices.map { .block(slot: AddressMap.firstDiskSlot + UInt8($0)) }
      case .cdrom, .net: []
      }
    }
    board.reservedRanges = KernelVirtualization.reservedRanges
    board.powerManagementBase = AddressMap.powerManagement
    return board
  }

  /// A random UUID of version 4 (RFC 4122).
  private static func randomUUID() -> [UInt8] {
    var bytes = (0..<16).map { _ in UInt8.random(in: 0...255) }
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    return bytes
  }

  /// What the memory of the real-time clock holds at power-on.
  var initialCMOS: [UInt8: UInt8] {
    var content: [UInt8: UInt8] = [:]
    for (index, byte) in firmwareContent.cmos.bytes.enumerated() where index > 0x0D {
      content[UInt8(index)] = byte
    }
    return content
  }

  /// After the last board is gone.
  func close() {
    clock.stop()
    for disk in disks { disk.close() }
  }
}
