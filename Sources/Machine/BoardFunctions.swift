import Devices
import Firmware
import Networks
import Platform

/// The PCI bus of a board and what is on it.
final class BoardFunctions: Sendable {
  let bus: PCIHost
  /// The ports of the virtio console.
  let consolePorts: [VirtioConsolePort]
  /// nil without one.
  let display: DisplayAdapter?
  private let powerFunction: PIIX4PowerManagement
  let transports: [VirtioPCITransport]
  /// Nil where nothing hangs on it.
  let serialStorage: AHCIController?
  /// The same.
  let parallelStorage: IDEController?
  let plainAdapters: [E1000]
  /// nil on a PC.
  let unikernel: BoardUnikernel?
  let watchdog: WatchdogFunction?
  let panicDevice: PanicDevice?
  /// nil without a CD-ROM drive.
  let opticalDrive: OpticalDrive?

  init(
    _ context: BoardContext, power: ChipDevice<PowerManagement>
  ) throws(MachineError) {
    bus = PCIHost(
      decoding: PCIDecoding(
        ports: context.ports, memory: context.memoryBus,
        mapper: context.virtualization.regionMapper),
      sink: context.interrupts.sink)
    bus.registerPorts()
    bus.attach(I440FXBridge(), at: PCIAddress(device: AddressMap.hostBridgeSlot))
    bus.attach(PIIX3Bridge(router: bus.router), at: PCIAddress(device: AddressMap.southBridgeSlot))
    powerFunction = PIIX4PowerManagement(registers: power, ports: context.ports)
    bus.attach(
      powerFunction,
      at: PCIAddress(
        device: AddressMap.southBridgeSlot, function: AddressMap.powerManagementFunction))
    watchdog = Self.makeWatchdog(context)
    panicDevice = Self.makePanicDevice(context)
    do throws(PlatformError) {
      display = try Self.makeDisplay(context, bus: bus)
      let drive = context.parts.tray.map { Self.makeDrive($0, context.parts) }
      opticalDrive = drive
      let console = try Self.makeConsole(context.parts)
      consolePorts = console?.ports ?? []
      transports = try Self.makeTransports(context, console: console, drive: drive, bus: bus)
      serialStorage = try Self.makeSerialStorage(context, drive: drive)
      parallelStorage = try Self.makeParallelStorage(context, drive: drive)
      plainAdapters = try Self.makePlainAdapters(context, bus: bus)
      unikernel = try context.parts.unikernel.map { (manifest) throws(PlatformError) in
        try BoardUnikernel(manifest, context)
      }
    } catch {
      throw MachineError("\(context.parts.configuration.name): \(error)")
    }
    if let watchdog {
      bus.attach(
        watchdog,
        at: PCIAddress(
          device: AddressMap.hostBridgeSlot, function: AddressMap.watchdogFunction))
    }
    if let panicDevice {
      bus.attach(
        panicDevice,
        at: PCIAddress(device: AddressMap.hostBridgeSlot, function: AddressMap.panicFunction))
    }
    if let serialStorage {
      bus.attach(serialStorage, at: PCIAddress(device: AddressMap.serialStorageSlot))
    }
    if let parallelStorage {
      bus.attach(
        parallelStorage,
        at: PCIAddress(
          device: AddressMap.southBridgeSlot, function: AddressMap.parallelStorageFunction))
    }
  }

  private static func makeDisplay(
    _ context: BoardContext, bus: PCIHost
  ) throws(PlatformError) -> DisplayAdapter? {
    guard context.parts.configuration.display == .vga else { return nil }
    let display = try DisplayAdapter(
      rom: context.parts.displayROM, clock: context.parts.clock,
      mapper: context.virtualization.regionMapper)
    display.register(ports: context.ports, memory: context.memoryBus)
    bus.attach(display, at: PCIAddress(device: AddressMap.displaySlot))
    return display
  }

  private static func makeTransports(
    _ context: BoardContext, console: VirtioConsole?, drive: OpticalDrive?, bus: PCIHost
  ) throws(PlatformError) -> [VirtioPCITransport] {
    let parts = context.parts
    var transports: [VirtioPCITransport] = []
    func attach(
      _ device: any VirtioDevice, at slot: UInt8, function: UInt8 = 0, rom: PCIRegion? = nil
    ) {
      let transport = VirtioPCITransport(
        device, memory: parts.memory, sink: context.interrupts.sink, rom: rom,
        doorbells: context.virtualization.doorbells,
        vectors: context.virtualization.makeVectors())
      bus.attach(transport, at: PCIAddress(device: slot, function: function))
      transports.append(transport)
    }
    if let drive, parts.configuration.opticalDrive?.bus == .virtio {
      attach(try VirtioSCSI(targets: [drive]), at: AddressMap.opticalDriveSlot)
    }
    if parts.configuration.hasEntropyDevice {
      attach(try VirtioRandom(), at: AddressMap.entropySlot)
    }
    for (index, backend) in parts.disks.enumerated()
    where parts.configuration.disks[index].bus == .virtio && parts.unikernel == nil {
      attach(
        try makeDisk(parts.configuration.disks[index], backend, parts),
        at: AddressMap.firstDiskSlot + UInt8(index))
    }
    for (index, port) in parts.networks.enumerated()
    where port.configuration.model == .virtio && parts.unikernel == nil {
      let adapter = try VirtioNetwork(
        backend: port.backend,
        options: .init(
          address: port.address, isLocked: port.configuration.isLocked, isUp: port.isUp),
        statistics: port.statistics, neighbors: port.neighbors)
      port.connect(adapter)
      attach(
        adapter, at: AddressMap.firstNetworkSlot + UInt8(index), rom: parts.networkROMs[.virtio])
    }
    if let console { attach(console, at: AddressMap.consoleSlot) }
    if let point = parts.socketPoint, let socket = parts.configuration.socketDevice {
      attach(
        try VirtioSocket(contextIdentifier: socket.contextIdentifier, point: point),
        at: AddressMap.socketSlot)
    }
    if let balloon = parts.balloon {
      attach(
        try VirtioBalloon(balloon, memory: parts.memory), at: AddressMap.southBridgeSlot,
        function: AddressMap.balloonFunction)
    }
    for (folder, function) in zip(parts.shares, AddressMap.shareFunctions) {
      attach(
        try VirtioFileSharing(folder), at: AddressMap.southBridgeSlot, function: function)
    }
    return transports
  }

  /// Adapters that are not virtio's.
  private static func makePlainAdapters(
    _ context: BoardContext, bus: PCIHost
  ) throws(PlatformError) -> [E1000] {
    var adapters: [E1000] = []
    for (index, port) in context.parts.networks.enumerated()
    where port.configuration.model == .e1000 && context.parts.unikernel == nil {
      let adapter = try E1000(
        backend: port.backend,
        options: .init(
          address: port.address, isLocked: port.configuration.isLocked, isUp: port.isUp),
        memory: context.parts.memory, rom: context.parts.networkROMs[.e1000],
        statistics: port.statistics, neighbors: port.neighbors)
      port.connect(adapter)
      bus.attach(
        adapter, at: PCIAddress(device: AddressMap.firstNetworkSlot + UInt8(index)))
      adapters.append(adapter)
    }
    return adapters
  }

  private static func makeDrive(_ tray: OpticalTray, _ parts: BoardParts) -> OpticalDrive {
    tray.makeDrive { [notices = parts.notices] in
      notices.send("the guest has taken the disc out of the CD-ROM drive")
    }
  }

  /// Disks first, then the drive.
  private static func makeSerialStorage(
    _ context: BoardContext, drive: OpticalDrive?
  ) throws(PlatformError) -> AHCIController? {
    let parts = context.parts
    var drives = makeDrives(parts.configuration.serialDisks, parts)
    if let drive, parts.configuration.opticalDrive?.bus == .ahci {
      drives.append(.optical(drive))
    }
    guard !drives.isEmpty else { return nil }
    return try AHCIController(
      drives: drives, memory: parts.memory, sink: context.interrupts.sink)
  }

  /// Disks first, then the drive.
  private static func makeParallelStorage(
    _ context: BoardContext, drive: OpticalDrive?
  ) throws(PlatformError) -> IDEController? {
    let parts = context.parts
    var drives = makeDrives(parts.configuration.parallelDisks, parts)
    if let drive, parts.configuration.opticalDrive?.bus == .ide { drives.append(.optical(drive)) }
    guard !drives.isEmpty else { return nil }
    return try IDEController(
      drives: drives, memory: parts.memory, ports: context.ports, sink: context.interrupts.sink)
  }

  /// Disks with ATA's commands.
  private static func makeDrives(
    _ disks: [Int], _ parts: BoardParts
  ) -> [AHCIController.Drive] {
    disks.map { index in
      let disk = parts.configuration.disks[index]
      let report = FirstReport(parts.notices)
      return .disk(
        ATADisk(backend: parts.disks[index], serial: disk.serial) { error in
          report.send("\(disk.path): the guest was told of an error: \(error.reason)")
        })
    }
  }

  /// Beyond four, queues serve nobody on hosts of today's size.
  private static let diskQueueLimit = 4

  private static func makeDisk(
    _ disk: DiskConfiguration, _ backend: DiskBackend, _ parts: BoardParts
  ) throws(PlatformError) -> VirtioBlock {
    let queues = min(parts.configuration.processorCount, diskQueueLimit)
    let report = FirstReport(parts.notices)
    return try VirtioBlock(
      backend: backend, options: .init(serial: disk.serial, queueCount: queues)
    ) { error in
      report.send("\(disk.path): the guest was told of an error: \(error.reason)")
    }
  }

  private static func makeConsole(_ parts: BoardParts) throws(PlatformError) -> VirtioConsole? {
    guard !parts.consoleBackends.isEmpty else { return nil }
    return try VirtioConsole(
      ports: parts.consoleBackends.enumerated().map { index, backend in
        // One alone needs no name: drivers without multiple ports find it as well.
        let isAlone = parts.consoleBackends.count == 1
        return .init(name: isAlone ? "" : "console\(index)", backend: backend)
      })
  }

  /// Puts the power management registers where the tables say, for guests that start without firmware.
  func placePowerManagement(at base: UInt16) {
    powerFunction.function.writeConfiguration(at: 0x40, width: .doubleword, value: UInt64(base | 1))
    powerFunction.function.writeConfiguration(at: 0x80, width: .byte, value: 1)
  }

  // MARK: Life

  func resume() {
    for transport in transports { transport.device.resume() }
    serialStorage?.resume()
    parallelStorage?.resume()
    for adapter in plainAdapters { adapter.resume() }
    unikernel?.resume()
  }

  /// When this returns, no device works on guest memory.
  func pause() {
    for transport in transports { transport.device.pause() }
    serialStorage?.pause()
    parallelStorage?.pause()
    for adapter in plainAdapters { adapter.pause() }
    unikernel?.pause()
  }

  /// As `pause`, for good.
  func stop() {
    display?.stop()
    for transport in transports { transport.reset() }
    serialStorage?.reset()
    parallelStorage?.reset()
    for adapter in plainAdapters { adapter.reset() }
    unikernel?.stop()
  }
}
