// What `uj run --dry-run` prints: the board of a configuration, without starting it.
import Devices
import Firmware
import GuestMemory
import Networks
import Processor

extension Machine {
  /// The board that a configuration makes, a line a fact. Nothing is opened or started.
  ///
  /// - Throws: `MachineError` as `init` does, for what can be told without opening files.
  public static func listing(
    _ configuration: MachineConfiguration, serialPortCount: Int
  ) throws(MachineError) -> [String] {
    try BoardParts.check(configuration, serialPortCount: serialPortCount)
    let accelerator = try AcceleratorChoice(configuration.accelerator)
    let warnings = try accelerator.check(configuration)
    return BoardListing(
      configuration, serialPortCount: serialPortCount, isSoftware: accelerator.isSoftware
    )
    .lines(accelerator: accelerator.description, warnings: warnings)
  }
}

/// The lines of a board, in groups with a headline each.
struct BoardListing {
  private let configuration: MachineConfiguration
  private let serialPortCount: Int
  /// No chip is the kernel's.
  private let isSoftware: Bool

  init(_ configuration: MachineConfiguration, serialPortCount: Int, isSoftware: Bool) {
    self.isSoftware = isSoftware
    self.configuration = configuration
    self.serialPortCount = serialPortCount
  }

  func lines(accelerator: String, warnings: [String]) -> [String] {
    var lines = ["machine \(configuration.name)", "accelerator: \(accelerator)"]
    lines += warnings.map { "warning: \($0)" }
    lines.append(processors)
    lines.append("boot: \(boot)")
    if case .firmware = configuration.boot { lines.append("boot order: \(bootOrder)") }
    func group(_ title: String, _ rows: [String]) {
      lines.append("\(title):")
      lines += (rows.isEmpty ? ["none"] : rows).map { "  \($0)" }
    }
    group("memory map", memoryMap)
    group("chips", chips)
    group("PCI bus 0", functions)
    group("serial ports", serialPorts)
    return lines
  }

  // MARK: Processors and boot

  private var processors: String {
    let topology = configuration.topology
    func counted(_ count: Int, _ noun: String) -> String {
      "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
    let numbers = (0..<topology.processorCount).map { String(topology.apicNumber(of: $0)) }
    let shown = numbers.count <= 16 ? numbers : numbers.prefix(8) + ["...", numbers.last ?? ""]
    return
      "processors: \(topology.processorCount) (\(counted(topology.sockets, "socket")), \(counted(topology.cores, "core")), \(counted(topology.threads, "thread"))), model \(configuration.processorModel.rawValue), virtualization \(configuration.allowsNesting ? "shown" : "hidden"), local APICs \(shown.joined(separator: " "))"
  }

  private var boot: String {
    switch configuration.boot {
    case .firmware(let path): "firmware \(path ?? "SeaBIOS of this host")"
    case .kernel(let path, let initrd, let commandLine):
      "kernel \(path)\(initrd.map { ", initrd \($0)" } ?? ""), command line '\(commandLine)'"
    }
  }

  private var bootOrder: String {
    let board = BoardParts.describe(configuration, serialPortCount: serialPortCount)
    let paths = board.bootOrder.map(\.path)
    return paths.isEmpty ? "as the firmware likes" : paths.joined(separator: ", ")
  }

  // MARK: Memory

  private struct Range {
    var base: UInt64
    var size: UInt64
    var name: String
    var text: String {
      "\(hex(base, 12))-\(hex(base &+ size &- 1, 12)) \(name)"
    }
  }

  private var memoryMap: [String] {
    var ranges = MemoryMap.ram(memorySize: configuration.memorySize).entries.map {
      Range(base: $0.base, size: $0.size, name: "RAM, \($0.size >> 20) MiB")
    }
    ranges += [
      Range(
        base: AddressMap.inputOutputInterruptController.rawValue,
        size: InputOutputInterruptController.size, name: "I/O APIC (\(owner))"),
      Range(
        base: AddressMap.eventTimer.rawValue, size: HighPrecisionEventTimer.size,
        name: "high precision event timer"),
      Range(
        base: AddressMap.localInterruptController.rawValue, size: 4096,
        name: isSoftware ? "local APICs" : "local APICs (kernel)"),
    ]
    if configuration.display == .vga {
      ranges.append(
        Range(
          base: AddressMap.displayWindow.rawValue,
          size: UInt64(DisplayAdapter.windowRange.count), name: "display"))
    }
    ranges += KernelVirtualization.reservedRanges.map {
      Range(base: $0.lowerBound, size: UInt64($0.count), name: "reserved for KVM")
    }
    if case .firmware = configuration.boot {
      ranges.append(
        Range(
          base: AddressMap.firmwareShadow.rawValue,
          size: PCMemory.highStart - AddressMap.firmwareShadow.rawValue,
          name: "copy of the firmware's end"))
      ranges.append(
        Range(base: AddressMap.firmwareEnd - 4096, size: 4096, name: "firmware (its last page)"))
    }
    return ranges.sorted { $0.base < $1.base }.map(\.text)
  }

  // MARK: Chips

  /// Who models the interrupt chips.
  private var owner: String {
    !isSoftware && configuration.interruptChip == .kernel ? "kernel" : "this process"
  }

  private var chips: [String] {
    typealias Row = (port: UInt16, count: Int, name: String)
    var rows: [Row] = [
      (AddressMap.directMemoryAccess, 16, "8237A DMA, bytes"),
      (AddressMap.masterInterruptController, 2, "8259A, master (\(owner))"),
      (AddressMap.intervalTimer, 4, "8254 timer (\(owner)), IRQ \(AddressMap.timerInterrupt)"),
      (
        AddressMap.keyboardData, 1,
        "i8042 data, keyboard IRQ \(AddressMap.keyboardInterrupt), mouse IRQ \(AddressMap.mouseInterrupt)"
      ),
      (AddressMap.systemControlB, 1, "system control B (\(owner))"),
      (AddressMap.keyboardCommand, 1, "i8042 command"),
      (
        AddressMap.realTimeClock, 2,
        "real-time clock and CMOS, IRQ \(AddressMap.realTimeClockInterrupt)"
      ),
      (AddressMap.postCode, 1, "POST codes"),
      (AddressMap.postCode + 1, 15, "DMA pages"),
      (AddressMap.systemControlA, 1, "system control A"),
      (AddressMap.slaveInterruptController, 2, "8259A, slave (\(owner))"),
      (AddressMap.systemManagementCommand, 2, "APM control"),
      (0xC0, 32, "8237A DMA, words"),
      (AddressMap.debugConsole, 1, "debug console"),
      (AddressMap.edgeLevelControl, 2, "edge/level control (\(owner))"),
      (
        AddressMap.firmwareConfiguration, FirmwareConfiguration.portCount,
        "firmware configuration with DMA"
      ),
      (
        AddressMap.powerManagement, 64,
        "PIIX4 power management, IRQ \(AddressMap.systemControlInterrupt)"
      ),
      (AddressMap.generalPurposeEvents, 4, "general purpose events"),
      (AddressMap.pciConfiguration, 8, "PCI configuration, reset control at 0xcf9"),
    ]
    if configuration.display == .vga {
      rows.append((AddressMap.display, 48, "VGA"))
      rows.append((AddressMap.displayInterface, 3, "Bochs display interface"))
    }
    if configuration.hasDebugExit {
      rows.append((AddressMap.debugExit, DebugExitPort.portCount, "debug exit"))
    }
    return rows.sorted { $0.port < $1.port }.map { row in
      "\(hex(UInt64(row.port), 4))-\(hex(UInt64(row.port) + UInt64(row.count) - 1, 4)) \(row.name)"
    }
  }

  private var serialPorts: [String] {
    (0..<serialPortCount).map { index in
      "COM\(index + 1) at \(hex(UInt64(AddressMap.serialPorts[index]), 4)), IRQ \(AddressMap.serialInterrupts[index])"
    }
  }

  // MARK: PCI

  private var functions: [String] {
    var rows: [(slot: UInt8, function: UInt8, name: String)] = [
      (AddressMap.hostBridgeSlot, 0, "i440FX host bridge"),
      (AddressMap.southBridgeSlot, 0, "PIIX3 ISA bridge"),
      (AddressMap.southBridgeSlot, AddressMap.powerManagementFunction, "PIIX4 power management"),
    ]
    if configuration.balloon != nil {
      rows.append(
        (AddressMap.southBridgeSlot, AddressMap.balloonFunction, "virtio memory balloon"))
    }
    if let action = configuration.watchdog {
      rows.append(
        (
          AddressMap.hostBridgeSlot, AddressMap.watchdogFunction,
          "6300ESB watchdog: \(action.rawValue)"
        ))
    }
    if let action = configuration.panicAction {
      rows.append(
        (
          AddressMap.hostBridgeSlot, AddressMap.panicFunction, "panic device: \(action.rawValue)"
        ))
    }
    for (share, function) in zip(configuration.shares, AddressMap.shareFunctions) {
      let access = share.isWritable ? "" : ", read-only"
      rows.append(
        (
          AddressMap.southBridgeSlot, function,
          "virtio 9P share \(share.tag): \(share.path)\(access)"
        ))
    }
    if let drive = configuration.opticalDrive, drive.bus == .virtio {
      rows.append(
        (AddressMap.opticalDriveSlot, 0, "virtio SCSI, CD-ROM drive: \(drive.path ?? "empty")"))
    }
    if configuration.hasEntropyDevice { rows.append((AddressMap.entropySlot, 0, "virtio entropy")) }
    for (index, disk) in configuration.disks.enumerated() where disk.bus == .virtio {
      rows.append(
        (AddressMap.firstDiskSlot + UInt8(index), 0, "virtio disk: \(Self.text(of: disk))"))
    }
    rows += serialStorage.map { (AddressMap.serialStorageSlot, 0, $0) }
    rows += parallelStorage.map {
      (AddressMap.southBridgeSlot, AddressMap.parallelStorageFunction, $0)
    }
    if let socket = configuration.socketDevice {
      rows.append(
        (
          AddressMap.socketSlot, 0,
          "virtio socket: CID \(socket.contextIdentifier), \(socket.path)"
        ))
    }
    if configuration.display == .vga { rows.append((AddressMap.displaySlot, 0, "standard VGA")) }
    for (index, network) in configuration.bootedNetworks.enumerated() {
      let model = network.model == .e1000 ? "Intel 82540EM" : "virtio"
      rows.append(
        (AddressMap.firstNetworkSlot + UInt8(index), 0, "\(model) network: \(network.text)"))
    }
    if configuration.consolePorts > 0 {
      let noun = configuration.consolePorts == 1 ? "port" : "ports"
      rows.append(
        (AddressMap.consoleSlot, 0, "virtio console, \(configuration.consolePorts) \(noun)"))
    }
    return rows.map { "00:\(hex(UInt64($0.slot), 2)).\($0.function) \($0.name)" }
  }
}

extension BoardListing {
  private static func text(of disk: DiskConfiguration) -> String {
    let access = disk.isReadOnly ? ", read-only" : ""
    let serial = disk.serial.isEmpty ? "" : ", serial \(disk.serial)"
    return "\(disk.path) (\(disk.format.rawValue)\(access)\(serial))"
  }

  /// A line for each port of the SATA adapter.
  private var serialStorage: [String] {
    var drives = configuration.serialDisks.map { "disk: \(Self.text(of: configuration.disks[$0]))" }
    if let drive = configuration.opticalDrive, drive.bus == .ahci {
      drives.append("CD-ROM drive: \(drive.path ?? "empty")")
    }
    return drives.enumerated().map { "AHCI SATA adapter, port \($0), \($1)" }
  }

  /// A line for each drive of the IDE controller.
  private var parallelStorage: [String] {
    var drives = configuration.parallelDisks.map {
      "disk: \(Self.text(of: configuration.disks[$0]))"
    }
    if let drive = configuration.opticalDrive, drive.bus == .ide {
      drives.append("CD-ROM drive: \(drive.path ?? "empty")")
    }
    return drives.enumerated().map { index, drive in
      "PIIX3 IDE, \(index < 2 ? "first" : "second") channel, drive \(index % 2), \(drive)"
    }
  }
}

private func hex(_ value: UInt64, _ digits: Int) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
