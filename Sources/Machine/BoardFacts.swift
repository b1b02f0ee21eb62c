// What must be the same where a saved state is used. A state is of one board: devices find their part by their name.
import CChecksum
import Devices
import Networks
import StateFile

extension BoardParts {
  /// The address map and the order of devices: a later one cannot take over what was saved on this one.
  private static let boardVersion = 1
  static let startSubject = "the start"

  var facts: [StateManifest.Fact] {
    let configuration = configuration
    var facts = Self.earlyFacts(configuration, accelerator, boot)
    facts += [
      .init("the number of serial ports", "\(serialBackends.count)"),
      .init("the number of console ports", "\(configuration.consolePorts)"),
      .init("the entropy device", configuration.hasEntropyDevice ? "there" : "not there"),
      .init("the CD-ROM drive", configuration.opticalDrive?.bus.rawValue ?? "not there"),
    ]
    for (index, disk) in configuration.disks.enumerated() {
      let access = disk.isReadOnly ? ", read-only" : ""
      let serial = disk.serial.isEmpty ? "" : ", serial \(disk.serial)"
      facts.append(
        .init("disk \(index)", "\(disk.bus.rawValue), \(disks[index].size) bytes\(access)\(serial)")
      )
    }
    for (index, port) in networks.enumerated() {
      let locked = port.configuration.isLocked ? ", locked" : ""
      facts.append(
        .init(
          "network adapter \(index)",
          "\(port.configuration.model.rawValue), address \(port.address)\(locked)"))
    }
    if configuration.balloon != nil { facts.append(.init("the memory balloon", "there")) }
    if configuration.watchdog != nil { facts.append(.init("the watchdog", "there")) }
    if configuration.panicAction != nil { facts.append(.init("the panic device", "there")) }
    for (index, share) in configuration.shares.enumerated() {
      facts.append(
        .init("share \(index)", "\(share.tag)\(share.isWritable ? "" : ", read-only")"))
    }
    // Its address may be another: the guest reads it anew.
    if configuration.socketDevice != nil { facts.append(.init("the socket device", "there")) }
    return facts
  }

  /// What can be told before anything but the firmware is opened.
  static func earlyFacts(
    _ configuration: MachineConfiguration, _ accelerator: AcceleratorChoice, _ boot: BootContent
  ) -> [StateManifest.Fact] {
    let topology = configuration.topology
    return [
      .init("the board", "version \(boardVersion)"),
      .init("memory", "\(configuration.memorySize >> 20) MiB"),
      .init(
        "the number of processors",
        "\(topology.processorCount) (\(topology.sockets) x \(topology.cores) x \(topology.threads))"
      ),
      .init("the processor model", configuration.processorModel.rawValue),
      .init("nested virtualization", configuration.allowsNesting ? "shown" : "hidden"),
      .init(ChipCrossing.subject, interruptChipOwner(configuration, accelerator)),
      .init(startSubject, start(boot)),
      .init("the display", configuration.display.rawValue),
    ]
  }

  /// In software they are always ours.
  private static func interruptChipOwner(
    _ configuration: MachineConfiguration, _ accelerator: AcceleratorChoice
  ) -> String {
    accelerator.isSoftware ? InterruptChip.split.rawValue : configuration.interruptChip.rawValue
  }

  /// A kernel is in memory; firmware is also in a ROM.
  private static func start(_ boot: BootContent) -> String {
    switch boot {
    case .kernel, .kernelLater: "a kernel"
    case .firmware(let mapping, _, _):
      "firmware with checksum "
        + String(checksum_crc32c(0, mapping.pointer, mapping.size), radix: 16)
    }
  }
}
