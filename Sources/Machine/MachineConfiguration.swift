import Devices
import Networks
import Processor

/// What a machine is made of. A plain value: nothing is opened before `Machine.init`.
public struct MachineConfiguration: Sendable, Codable, Equatable {
  /// Shown in messages and to the guest by SMBIOS.
  public var name: String
  /// Sockets, cores and threads; their product is the number of processors.
  public var topology = ProcessorTopology()
  /// The instruction set that the guest is shown.
  public var processorModel = ProcessorModel.host
  /// Shows VMX or SVM where the host has it, so that the guest can run guests of its own.
  public var allowsNesting = false
  /// Who models the interrupt controllers and the timer chip.
  public var interruptChip = InterruptChip.kernel
  /// Bytes, a multiple of 1 MiB.
  public var memorySize: UInt64 = 256 << 20
  /// Asks the host for pages of 2 MiB: fewer TLB misses; without them a guest takes no more than it touches.
  public var prefersHugePages = true
  public var accelerator = Accelerator.auto
  public var boot = BootSource.firmware(path: nil)
  /// First to last, as SeaBIOS is told by `bootorder`.
  public var bootOrder: [BootDevice] = [.disk]
  public var disks: [DiskConfiguration] = []
  /// The CD-ROM drive, if there is one.
  public var opticalDrive: OpticalDriveConfiguration?
  /// Network adapters.
  public var networks: [NetworkConfiguration] = []
  /// Streams between programs of the guest and of the host; nil: no such device.
  public var socketDevice: SocketDeviceConfiguration?
  /// A way for the guest to give memory back; nil: no such device.
  public var balloon: BalloonConfiguration?
  /// Folders of the host that the guest can mount.
  public var shares: [ShareConfiguration] = []
  /// What is done when the guest's watchdog has run out; nil: it has none.
  public var watchdog: EventAction?
  /// The same when its kernel says that it has crashed.
  public var panicAction: EventAction?
  /// Where the sockets of switches are; nil: there are none.
  public var switchFolder: String?
  /// A virtio entropy device.
  public var hasEntropyDevice = true
  /// The screen and keyboard of the PC, beside its serial ports.
  public var display = DisplayKind.none
  /// Ports of the virtio console; 0 for no such device. Each has a back end in `Machine.init`.
  public var consolePorts = 0
  /// A triple fault or reset ends the run instead of starting the guest again.
  public var stopsOnReset = false
  /// Lets the guest end the run with a status by port 0xF4 (isa-debug-exit), for test programs.
  public var hasDebugExit = false
  /// The state file that the machine goes on from instead of being switched on; it is kept as it is.
  public var savedState: String?
  /// The saved state's memory is compared with its checksums; false where this was just done.
  public var verifiesSavedState = true
  /// 16 bytes, shown to the guest by SMBIOS; nil makes one up.
  public var uuid: [UInt8]?

  public init(name: String) {
    self.name = name
  }

  /// The disks on the SATA adapter, by their place in `disks`: their places here are ports. The drive comes behind.
  var serialDisks: [Int] { disks.indices.filter { disks[$0].bus == .ahci } }
  /// The same for the IDE controller: first and second of its first channel, then of the second.
  var parallelDisks: [Int] { disks.indices.filter { disks[$0].bus == .ide } }

  /// One socket with a core for each when set.
  public var processorCount: Int {
    get { topology.processorCount }
    set { topology = ProcessorTopology(processorCount: newValue) }
  }
}

/// What a machine shows beside its serial ports.
public enum DisplayKind: String, Sendable, Codable, CaseIterable {
  /// No display: firmware and boot loaders use the serial port.
  case none
  /// A VGA with the BIOS of Debian's package `seabios`.
  case vga
}

extension MachineConfiguration {
  /// Addresses that belong to the display and not to RAM.
  var memoryHole: Range<UInt64>? { display == .vga ? DisplayAdapter.windowRange : nil }
}

/// Who models the interrupt controllers (8259A, IOAPIC) and the 8254.
public enum InterruptChip: String, Sendable, Codable, CaseIterable {
  /// The kernel: fewest exits.
  case kernel
  /// This process; the kernel keeps the local APICs (KVM_CAP_SPLIT_IRQCHIP).
  case split
}

/// A CD-ROM drive.
public struct OpticalDriveConfiguration: Sendable, Codable, Equatable {
  /// The ISO image in it, opened read-only; nil is an empty drive.
  public var path: String?
  public var bus = StorageBus.virtio
  public init(path: String?, bus: StorageBus = .virtio) {
    self.path = path
    self.bus = bus
  }
}

/// A virtio socket device.
public struct SocketDeviceConfiguration: Sendable, Codable, Equatable {
  /// The guest's address, 3 or more.
  public var contextIdentifier: UInt32
  /// Where the host's Unix socket is made.
  public var path: String
  public init(contextIdentifier: UInt32, path: String) {
    self.contextIdentifier = contextIdentifier
    self.path = path
  }
}

/// A virtio memory balloon.
public struct BalloonConfiguration: Sendable, Codable, Equatable {
  /// What the guest is to keep at its start, in bytes; nil: all.
  public var target: UInt64?
  public init(target: UInt64? = nil) { self.target = target }
}

/// What a disk or drive hangs on.
public enum StorageBus: String, Sendable, Codable, CaseIterable {
  /// A virtio function: fewest exits.
  case virtio
  /// A port of the SATA adapter (AHCI), for guests without virtio drivers.
  case ahci
  /// The IDE controller (PIIX3), for guests without that either. It has room for four.
  case ide
}

/// Who executes the guest's instructions.
public enum Accelerator: String, Sendable, Codable, CaseIterable {
  case auto, kvm, soft
}

/// What runs first.
public enum BootSource: Sendable, Codable, Equatable {
  /// A BIOS image; nil looks for Debian's SeaBIOS.
  case firmware(path: String?)
  /// A kernel without firmware: multiboot, Linux bzImage, or ELF with PVH entry.
  case kernel(path: String, initrd: String?, commandLine: String)
}

public enum BootDevice: String, Sendable, Codable, CaseIterable {
  case disk, cdrom, net
}

/// One disk of a machine.
public struct DiskConfiguration: Sendable, Codable, Equatable {
  public enum Format: String, Sendable, Codable, CaseIterable {
    case raw, qcow2
  }
  public var path: String
  public var bus = StorageBus.virtio
  /// Stated by the definition, never probed from a file that a guest can write.
  public var format: Format
  public var isReadOnly = false
  /// At most 20 bytes; the guest sees it in /dev/disk/by-id.
  public var serial = ""
  /// Which other files the image may refer to. The image itself is written by the guest and has no say in this.
  public var backing = BackingPermission.refused

  public init(path: String, format: Format, isReadOnly: Bool = false, serial: String = "") {
    self.path = path
    self.format = format
    self.isReadOnly = isReadOnly
    self.serial = serial
  }
}

/// Which backing files a disk image may open.
public enum BackingPermission: Sendable, Codable, Equatable {
  case refused
  /// Exactly these.
  case files([String])
  /// Whatever the image names: for images that the person at the terminal made and named.
  case any
}
