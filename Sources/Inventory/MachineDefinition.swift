import Devices
import Networks
import Processor

/// What a person says a machine is: the content of `machine.toml`.
///
/// `uj` writes that file when a machine is made and afterwards only on `uj set` and `uj edit`, which keep every comment.
/// Everything that changes by itself (layers, snapshots) is in `MachineState`.
package struct MachineDefinition: Sendable, Equatable {
  package enum Accelerator: String, Sendable, CaseIterable {
    case auto, kvm, soft
  }
  package enum BootDevice: String, Sendable, CaseIterable {
    case disk, cdrom, net
  }
  /// Who models the interrupt controllers: the kernel, or this process beside the kernel's local APICs.
  package enum InterruptChip: String, Sendable, CaseIterable {
    case kernel, split
  }
  /// What the guest shows beside its serial ports.
  package enum Display: String, Sendable, CaseIterable {
    case none, vga
  }
  /// What a disk or the CD-ROM drive hangs on: a virtio function, a port of a SATA adapter, or an IDE channel.
  package enum StorageBus: String, Sendable, CaseIterable {
    case virtio, ahci, ide
  }
  package enum DiskFormat: String, Sendable, CaseIterable {
    case raw, qcow2
  }

  /// A disk: managed (its layers are in `disks/NAME`) or external (`path` is a file of the person's).
  package struct Disk: Sendable, Equatable {
    package var name: String
    /// nil for a managed disk.
    package var path: String?
    package var format: DiskFormat
    package var isReadOnly: Bool
    /// Files outside the inventory that the disk's images may refer to; nothing else is opened, whatever they say.
    package var backing: [String]
    /// At most 20 bytes, seen by the guest.
    package var serial: String
    package var bus: StorageBus

    package init(
      name: String, path: String? = nil, format: DiskFormat = .qcow2, isReadOnly: Bool = false,
      backing: [String] = [], serial: String = "", bus: StorageBus = .virtio
    ) {
      self.name = name
      self.path = path
      self.format = format
      self.isReadOnly = isReadOnly
      self.backing = backing
      self.serial = serial
      self.bus = bus
    }
  }

  package struct Autostart: Sendable, Equatable {
    package var isEnabled = false
    /// Lower numbers start first.
    package var order = 0
    /// Seconds to wait before the next machine starts.
    package var delay = 0
  }

  package static let processorLimit = 255
  package static let memoryLimit: UInt64 = 16 << 40
  /// What a guest must be left, as the balloon device has it.
  package static let smallestMemoryTarget = MemoryBalloon.smallestTarget
  package static let diskLimit = 16
  package static let serialPortLimit = 4
  package static let networkLimit = 7

  package var topology = ProcessorTopology()
  package var processorModel = ProcessorModel.host
  /// The guest may run guests of its own.
  package var allowsNesting = false
  package var interruptChip = InterruptChip.kernel
  package var display = Display.none
  /// Bytes, a multiple of 1 MiB.
  package var memory: UInt64 = 256 << 20
  /// A memory balloon: the guest can give memory back while it runs.
  package var hasBalloon = false
  /// Bytes that the guest is to keep at its start; nil: all. Only with a balloon.
  package var memoryTarget: UInt64?
  /// The host gives memory in pieces of 2 MiB where it can.
  package var prefersHugePages = true
  package var accelerator = Accelerator.auto
  /// COM1, COM2, ... in order.
  package var serialPorts = [SerialTarget.console]
  package var networks: [NetworkConfiguration] = []
  /// nil: no CD-ROM drive.
  package var opticalDrive: OpticalDrive?
  package var opticalDriveBus = StorageBus.virtio
  package var bootOrder: [BootDevice] = [.disk]
  package var firmware: String?
  package var kernel: String?
  package var initrd: String?
  package var commandLine = ""
  package var disks: [Disk] = []
  /// A template cannot be started, so that it cannot change under its clones.
  package var isTemplate = false
  /// The machine that this one was made from.
  package var parent: String?
  /// What a cloud image is told when it first starts; nil: nothing.
  package var cloudInit: CloudInit?
  /// nil: no sockets between guest and host.
  package var socketDevice: SocketDevice?
  /// Folders of the host that the guest can mount.
  package var shares: [Share] = []
  /// What is done when the guest's watchdog has run out; nil: it has none.
  package var watchdog: EventAction?
  /// What is done when the guest's kernel says that it has crashed; nil: it cannot say so.
  package var panicAction: EventAction?
  /// Shown to the guest by SMBIOS.
  package var uuid: UniqueIdentifier?
  package var notes = ""
  package var tags: [String] = []
  package var autostart = Autostart()
  /// Which snapshots `prune` keeps.
  package var retention: RetentionRule?
  /// Snapshots with memory by the clock; nil: none.
  package var autosnap: Autosnap?
  /// Another user of this computer who may control the machine; this user always may.
  package var owner: String?
  /// A group whose members may control the machine.
  package var group: String?
  /// What may be set otherwise in machines made from this one; nil: everything.
  package var allowedInstanceSettings: [InstanceSetting]?

  package init() {}

  /// One socket with a core for each when set.
  package var processors: Int {
    get { topology.processorCount }
    set { topology = ProcessorTopology(processorCount: newValue) }
  }
}

/// A UUID of RFC 9562.
package struct UniqueIdentifier: Sendable, Equatable, CustomStringConvertible {
  /// 16 bytes in the order in which they are written.
  package let bytes: [UInt8]

  /// A random one (version 4).
  package static func random() -> UniqueIdentifier {
    var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    return UniqueIdentifier(bytes: bytes)
  }

  private init(bytes: [UInt8]) {
    self.bytes = bytes
  }

  /// Reads the form 8-4-4-4-12.
  package init?(_ text: String) {
    let groups = text.split(separator: "-", omittingEmptySubsequences: false)
    guard groups.map(\.utf8.count) == [8, 4, 4, 4, 12] else { return nil }
    let digits = Array(groups.joined())
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: 32, by: 2) {
      guard let high = digits[index].hexDigitValue, let low = digits[index + 1].hexDigitValue else {
        return nil
      }
      bytes.append(UInt8(high << 4 | low))
    }
    self.bytes = bytes
  }

  package var description: String {
    let hex = bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
    return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { hex[$0].joined() }
      .joined(separator: "-")
  }
}
