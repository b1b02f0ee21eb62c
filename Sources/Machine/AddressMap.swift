import GuestMemory

/// Every fixed address, port and interrupt of the board, in one place (an i440FX/PIIX PC).
///
/// RAM itself is `GuestMemory`'s: below `GuestMemory.lowMemoryLimit` and from 4 GiB.
public enum AddressMap {
  // MARK: Memory

  /// The display's window, where there is a display.
  public static let displayWindow = GuestAddress(0xA_0000)
  /// The last 128 KiB of the firmware are seen here too.
  public static let firmwareShadow = GuestAddress(0xE_0000)
  /// The firmware image ends at 4 GiB.
  public static let firmwareEnd: UInt64 = 0x1_0000_0000
  public static let inputOutputInterruptController = GuestAddress(0xFEC0_0000)
  public static let eventTimer = GuestAddress(0xFED0_0000)
  public static let localInterruptController = GuestAddress(0xFEE0_0000)

  // MARK: Ports

  public static let directMemoryAccess: UInt16 = 0x00
  public static let masterInterruptController: UInt16 = 0x20
  public static let intervalTimer: UInt16 = 0x40
  public static let keyboardData: UInt16 = 0x60
  public static let systemControlB: UInt16 = 0x61
  public static let keyboardCommand: UInt16 = 0x64
  public static let realTimeClock: UInt16 = 0x70
  public static let postCode: UInt16 = 0x80
  public static let systemControlA: UInt16 = 0x92
  public static let slaveInterruptController: UInt16 = 0xA0
  public static let systemManagementCommand: UInt16 = 0xB2
  public static let debugExit: UInt16 = 0xF4
  /// The hypercalls of a Solo5 unikernel, where no PC has anything.
  public static let unikernel: UInt16 = 0x500
  public static let debugConsole: UInt16 = 0x402
  public static let edgeLevelControl: UInt16 = 0x4D0
  public static let firmwareConfiguration: UInt16 = 0x510
  public static let firmwareConfigurationDMA: UInt16 = 0x514
  public static let generalPurposeEvents: UInt16 = 0xAFE0
  /// Where the PIIX4's power management registers are put; SeaBIOS does the same.
  public static let powerManagement: UInt16 = 0x600
  public static let pciConfiguration: UInt16 = 0xCF8
  /// The VGA's ports, and the Bochs display interface's.
  public static let display: UInt16 = 0x3B0
  public static let displayInterface: UInt16 = 0x1CE
  /// COM1 to COM4.
  public static let serialPorts: [UInt16] = [0x3F8, 0x2F8, 0x3E8, 0x2E8]

  // MARK: Interrupts (ISA numbers, which are global system interrupts too)

  public static let timerInterrupt: UInt32 = 0
  public static let keyboardInterrupt: UInt32 = 1
  public static let serialInterrupts: [UInt32] = [4, 3, 4, 3]
  public static let realTimeClockInterrupt: UInt32 = 8
  public static let systemControlInterrupt: UInt32 = 9
  public static let mouseInterrupt: UInt32 = 12

  // MARK: PCI slots of bus 0

  public static let hostBridgeSlot: UInt8 = 0
  public static let southBridgeSlot: UInt8 = 1
  /// The IDE controller: the PIIX3's own.
  public static let parallelStorageFunction: UInt8 = 1
  public static let powerManagementFunction: UInt8 = 3
  /// The memory balloon: a function of the south bridge's slot, because all slots are taken.
  public static let balloonFunction: UInt8 = 4
  /// Shared folders: what is left of the same slot.
  public static let shareFunctions: [UInt8] = [2, 5, 6, 7]
  /// Functions of the host bridge's slot.
  public static let watchdogFunction: UInt8 = 1
  public static let panicFunction: UInt8 = 2
  /// The SCSI adapter with the CD-ROM drive, which is its target 0.
  public static let opticalDriveSlot: UInt8 = 2
  public static let entropySlot: UInt8 = 3
  /// Disks take slots from here upwards, to the display's.
  public static let firstDiskSlot: UInt8 = 4
  /// The SATA adapter.
  public static let serialStorageSlot: UInt8 = 23
  /// The socket device. Disks end below.
  public static let socketSlot: UInt8 = 21
  public static let displaySlot: UInt8 = 22
  /// Kept for network adapters.
  public static let firstNetworkSlot: UInt8 = 24
  public static let consoleSlot: UInt8 = 31
}
