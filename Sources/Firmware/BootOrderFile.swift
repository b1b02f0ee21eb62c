// The file `bootorder`: Open Firmware paths, one a line (SeaBIOS, src/boot.c).

/// A place to boot from, as SeaBIOS names it.
package enum BootTarget: Sendable, Equatable {
  /// A virtio block device in a slot of bus 0.
  case block(slot: UInt8, function: UInt8 = 0)
  /// A drive behind a virtio SCSI controller.
  case scsi(slot: UInt8, function: UInt8 = 0, target: UInt16, unit: UInt16 = 0)
  /// A disk or drive on a port of a SATA adapter.
  case serial(slot: UInt8, function: UInt8 = 0, port: UInt8)
  /// A disk or drive of an IDE controller.
  case parallel(slot: UInt8, function: UInt8, channel: UInt8, unit: UInt8)
  /// A network adapter with a boot ROM.
  case network(slot: UInt8, function: UInt8 = 0)
  /// A ROM from the fw_cfg folder `genroms/`.
  case rom(name: String)

  package var path: String {
    switch self {
    case .block(let slot, let function):
      "/pci@i0cf8/scsi@\(Self.place(slot, function))/disk@0,0"
    case .scsi(let slot, let function, let target, let unit):
      "/pci@i0cf8/scsi@\(Self.place(slot, function))/channel@0/disk@"
        + String(target, radix: 16) + "," + String(unit, radix: 16)
    case .serial(let slot, let function, let port):
      "/pci@i0cf8/pci8086,2922@\(Self.place(slot, function))/drive@"
        + String(port, radix: 16) + "/disk@0"
    case .parallel(let slot, let function, let channel, let unit):
      "/pci@i0cf8/ide@\(Self.place(slot, function))/drive@\(channel)/disk@\(unit)"
    case .network(let slot, let function):
      "/pci@i0cf8/ethernet@\(Self.place(slot, function))/ethernet-phy@0"
    case .rom(let name): "/rom@genroms/\(name)"
    }
  }

  private static func place(_ slot: UInt8, _ function: UInt8) -> String {
    let device = String(slot, radix: 16)
    return function == 0 ? device : device + "," + String(function, radix: 16)
  }
}

/// The order of boot devices as a file.
package struct BootOrderFile: Sendable, Equatable {
  package var targets: [BootTarget]
  /// Without it SeaBIOS goes on to devices that are not listed.
  package var stopsAtEnd: Bool

  package init(_ targets: [BootTarget], stopsAtEnd: Bool = false) {
    self.targets = targets
    self.stopsAtEnd = stopsAtEnd
  }

  /// Newline-separated, ended by NUL.
  package var bytes: [UInt8] {
    let lines = targets.map(\.path) + (stopsAtEnd ? ["HALT"] : [])
    return Array(lines.joined(separator: "\n").utf8) + [0]
  }
}
