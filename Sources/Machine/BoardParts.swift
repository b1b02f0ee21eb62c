import Devices
import DiskImage
import Firmware
import GuestMemory
import Networks
import Platform

/// What a machine keeps through resets: memory, disks, the host's ends of its ports, CMOS, and what it boots.
final class BoardParts: Sendable {
  let configuration: MachineConfiguration
  let accelerator: AcceleratorChoice
  let memory: GuestMemory
  /// What the first board goes on from; nil: it is switched on.
  let savedState: SavedBoard?
  let clock: BoardClock
  let disks: [DiskBackend]
  /// The disc of the CD-ROM drive; nil without a drive.
  let tray: OpticalTray?
  let networks: [NetworkPort]
  /// What adapters of each model show to firmware that boots from them; empty where no boot ROM is wanted.
  let networkROMs: [NetworkModel: PCIRegion]
  /// nil without a socket device.
  let socketPoint: GuestSocketPoint?
  /// nil without a memory balloon.
  let balloon: MemoryBalloon?
  let serialBackends: [any CharacterBackend]
  let serialRelays: [SerialRelay]
  let consoleBackends: [any CharacterBackend]
  let consoleRelays: [SerialRelay]
  let debugBackend: (any CharacterBackend)?
  let debugPoint = DebugPoint()
  let trace = ExitTrace()
  /// Opened once: the guest's folders stay the same through resets.
  let shares: [SharedFolder]
  let watchdogRecord = WatchdogRecord()
  let boot: BootContent
  /// nil where the kernel is no unikernel: disks and networks are those of a PC.
  let unikernel: UnikernelManifest?
  /// The display's BIOS; nil without a display or a BIOS.
  let displayROM: PCIRegion?
  /// What a person should hear about.
  let notices = BoardNotices()
  /// What a person should know of this configuration on this host.
  let warnings: [String]
  /// What firmware and its tables say about this board.
  let description: BoardDescription
  let firmwareContent: FirmwareContent

  static let memoryGranularity: UInt64 = 1 << 20
  static let diskLimit = Int(AddressMap.socketSlot - AddressMap.firstDiskSlot)
  static let networkLimit = Int(AddressMap.consoleSlot - AddressMap.firstNetworkSlot)
  static let serialPortLimit = AddressMap.serialPorts.count
  static let consolePortLimit = 16
  /// Local APICs are addressed with 8 bits, of which all ones mean everybody.
  static let apicNumberLimit: UInt32 = 255

  /// Opens everything that the configuration names.
  ///
  /// - Throws: `MachineError`, one line that names the thing; nothing stays open then.
  init(
    _ configuration: MachineConfiguration, serialBackends: [any CharacterBackend],
    consoleBackends: [any CharacterBackend], debugBackend: (any CharacterBackend)?
  ) throws(MachineError) {
    try Self.check(configuration, serialPortCount: serialBackends.count)
    guard consoleBackends.count == configuration.consolePorts else {
      throw MachineError(
        "\(configuration.name): \(configuration.consolePorts) console ports, but \(consoleBackends.count) back ends for them"
      )
    }
    self.configuration = configuration
    balloon = configuration.balloon.map {
      MemoryBalloon(memorySize: configuration.memorySize, target: $0.target)
    }
    self.serialBackends = serialBackends
    self.debugBackend = debugBackend
    self.consoleBackends = consoleBackends
    consoleRelays = consoleBackends.map { _ in SerialRelay() }
    serialRelays = serialBackends.map { _ in SerialRelay() }
    let described = Self.describe(configuration, serialPortCount: serialBackends.count)
    description = described
    do throws(FirmwareError) {
      firmwareContent = try FirmwareContent(described)
    } catch {
      throw MachineError("\(error)")
    }
    boot =
      configuration.savedState == nil
      ? try BootContent(configuration.boot, board: described)
      : try BootContent(restoring: configuration.boot, board: described)
    unikernel = try BoardUnikernel.manifest(of: configuration)
    displayROM = try Self.readDisplayROM(configuration)
    accelerator = try AcceleratorChoice(configuration.accelerator)
    warnings = try accelerator.check(configuration)
    savedState = try configuration.savedState.map { (path) throws(MachineError) in
      try SavedBoard(path: path)
    }
    memory = try Self.makeMemory(configuration, savedState)
    try boot.validate(memory)
    tray =
      if let drive = configuration.opticalDrive { try OpticalTray(path: drive.path) } else { nil }
    do {
      disks = try DiskBackend.open(configuration.disks)
    } catch {
      tray?.close()
      throw error
    }
    do {
      networkROMs = try Self.networkROMs(configuration)
      networks = try Self.open(configuration, of: described)
    } catch {
      for disk in disks { disk.close() }
      tray?.close()
      throw error
    }
    do throws(PlatformError) {
      shares = try configuration.shares.map { (share) throws(PlatformError) in
        try SharedFolder(share.path, tag: share.tag, isWritable: share.isWritable)
      }
      socketPoint = try configuration.socketDevice.map { (device) throws(PlatformError) in
        try GuestSocketPoint(path: device.path)
      }
      clock = try BoardClock()
    } catch {
      for network in networks { network.close() }
      for disk in disks { disk.close() }
      tray?.close()
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  private static func makeMemory(
    _ configuration: MachineConfiguration, _ saved: SavedBoard?
  ) throws(MachineError) -> GuestMemory {
    let advice: HugePageAdvice = configuration.prefersHugePages ? .preferred : .refused
    if let saved {
      return try saved.makeMemory(size: configuration.memorySize, hugePages: advice)
    }
    do throws(GuestMemoryError) {
      return try GuestMemory(size: configuration.memorySize, hugePages: advice)
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  /// Guests that are started without firmware find the display set up and need no BIOS of it.
  private static func readDisplayROM(
    _ configuration: MachineConfiguration
  ) throws(MachineError) -> PCIRegion? {
    guard configuration.display == .vga, case .firmware = configuration.boot else { return nil }
    do throws(FirmwareError) {
      return PCIRegion(contents: try DisplayFirmware().image)
    } catch {
      throw MachineError("\(error)")
    }
  }

  private static func open(
    _ machine: MachineConfiguration, of board: BoardDescription
  ) throws(MachineError) -> [NetworkPort] {
    var networks: [NetworkPort] = []
    for (index, configuration) in machine.bootedNetworks.enumerated() {
      do {
        networks.append(
          try NetworkPort(
            configuration,
            address: configuration.address
              ?? NetworkPort.address(for: board.uuid, index: index),
            switches: machine.switchFolder))
      } catch {
        for network in networks { network.close() }
        throw MachineError("network \(index): \(error)")
      }
    }
    return networks
  }

  /// iPXE for each model of adapter, where the firmware is to boot from one.
  private static func networkROMs(
    _ configuration: MachineConfiguration
  ) throws(MachineError) -> [NetworkModel: PCIRegion] {
    guard case .firmware = configuration.boot, configuration.bootOrder.contains(.net) else {
      return [:]
    }
    var images: [NetworkModel: PCIRegion] = [:]
    for model in Set(configuration.networks.map(\.model)) {
      do throws(FirmwareError) {
        images[model] = PCIRegion(contents: try NetworkBootROM(for: model).image)
      } catch {
        throw MachineError("\(error)")
      }
    }
    return images
  }

  /// What can be told without opening anything.
  static func check(
    _ configuration: MachineConfiguration, serialPortCount: Int
  ) throws(MachineError) {
    func refuse(_ reason: String) throws(MachineError) {
      throw MachineError("\(configuration.name): \(reason)")
    }
    let count = configuration.processorCount
    guard configuration.topology.apicNumber(of: count - 1) < apicNumberLimit else {
      return try refuse(
        "\(count) processors in \(configuration.topology.sockets) sockets: the board can number \(apicNumberLimit), and sockets and cores take powers of two of them"
      )
    }
    guard configuration.memorySize > 0, configuration.memorySize % memoryGranularity == 0 else {
      return try refuse("the memory size must be a multiple of 1 MiB")
    }
    guard serialPortCount <= serialPortLimit else {
      return try refuse("\(serialPortCount) serial ports, but a PC has at most \(serialPortLimit)")
    }
    guard configuration.disks.count <= diskLimit else {
      return try refuse(
        "\(configuration.disks.count) disks, but there is room for \(diskLimit)")
    }
    let drives =
      configuration.parallelDisks.count + (configuration.opticalDrive?.bus == .ide ? 1 : 0)
    guard drives <= IDEController.driveLimit else {
      return try refuse(
        "\(drives) IDE drives, but there is room for \(IDEController.driveLimit)")
    }
    guard configuration.networks.count <= networkLimit else {
      return try refuse(
        "\(configuration.networks.count) network adapters, but there is room for \(networkLimit)")
    }
    guard configuration.shares.count <= AddressMap.shareFunctions.count else {
      return try refuse(
        "\(configuration.shares.count) shares, but there is room for \(AddressMap.shareFunctions.count)"
      )
    }
    guard (0...consolePortLimit).contains(configuration.consolePorts) else {
      return try refuse(
        "\(configuration.consolePorts) console ports, but there can be \(consolePortLimit)")
    }
  }

  static func describe(
    _ configuration: MachineConfiguration, serialPortCount: Int
  ) -> BoardDescription {
    var board = BoardDescription(
      name: configuration.name, uuid: configuration.uuid ?? randomUUID(),
      memorySize: configuration.memorySize, processorCount: configuration.processorCount)
    board.topology = configuration.topology
    board.hasEventTimer = true
    board.serialPorts = Array(BoardDescription.standardSerialPorts.prefix(serialPortCount))
    board.serialConsole = serialPortCount > 0 ? AddressMap.serialPorts[0] : nil
    board.bootOrder = configuration.bootOrder.flatMap { device -> [BootTarget] in
      switch device {
      case .disk: diskTargets(configuration)
      case .cdrom: driveTarget(configuration).map { [$0] } ?? []
      case .net:
        configuration.networks.indices.map {
          .network(slot: AddressMap.firstNetworkSlot + UInt8($0))
        }
      }
    }
    board.bootClasses = configuration.bootOrder.map { device in
      switch device {
      case .disk: .disk
      case .cdrom: .cdrom
      case .net: .network
      }
    }
    board.reservedRanges = KernelVirtualization.reservedRanges
    board.powerManagementBase = AddressMap.powerManagement
    board.hasDisplay = configuration.display == .vga
    return board
  }

  private static func diskTargets(_ configuration: MachineConfiguration) -> [BootTarget] {
    configuration.disks.enumerated().map { index, disk in
      switch disk.bus {
      case .virtio: .block(slot: AddressMap.firstDiskSlot + UInt8(index))
      case .ahci:
        .serial(
          slot: AddressMap.serialStorageSlot,
          port: UInt8(configuration.serialDisks.firstIndex(of: index) ?? 0))
      case .ide: parallelTarget(configuration.parallelDisks.firstIndex(of: index) ?? 0)
      }
    }
  }

  private static func driveTarget(_ configuration: MachineConfiguration) -> BootTarget? {
    switch configuration.opticalDrive?.bus {
    case .virtio: .scsi(slot: AddressMap.opticalDriveSlot, target: 0)
    case .ahci:
      .serial(
        slot: AddressMap.serialStorageSlot, port: UInt8(configuration.serialDisks.count))
    case .ide: parallelTarget(configuration.parallelDisks.count)
    case nil: nil
    }
  }

  private static func parallelTarget(_ position: Int) -> BootTarget {
    .parallel(
      slot: AddressMap.southBridgeSlot, function: AddressMap.parallelStorageFunction,
      channel: UInt8(position / 2), unit: UInt8(position % 2))
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
    socketPoint?.close()
    for network in networks { network.close() }
    for disk in disks { disk.close() }
    tray?.close()
  }
}
