// What firmware and its tables have to know of a machine: the one value from which everything else here is made.
import GuestMemory
import Processor

/// The machine as its firmware sees it.
package struct BoardDescription: Sendable {
  package struct SerialPort: Sendable, Equatable {
    package var base: UInt16
    package var interrupt: UInt8

    package init(base: UInt16, interrupt: UInt8) {
      self.base = base
      self.interrupt = interrupt
    }
  }

  /// COM1 to COM4 where every PC has them.
  package static let standardSerialPorts = [
    SerialPort(base: 0x3F8, interrupt: 4), SerialPort(base: 0x2F8, interrupt: 3),
    SerialPort(base: 0x3E8, interrupt: 4), SerialPort(base: 0x2E8, interrupt: 3),
  ]

  /// Shown by SMBIOS.
  package var name: String
  /// 16 bytes in the order of the text form; shown by SMBIOS and by SeaBIOS on its screen.
  package var uuid: [UInt8]
  /// Bytes of RAM, laid out as `GuestMemory` does.
  package var memorySize: UInt64
  package var processorCount: Int
  /// How they are arranged, which gives the numbers of their local APICs; nil: one socket, numbered from 0.
  package var topology: ProcessorTopology?
  package var serialPorts: [SerialPort] = Array(standardSerialPorts.prefix(1))
  /// The port base where SeaBIOS shows its screen and takes keys; nil for none.
  package var serialConsole: UInt16? = 0x3F8
  /// First to last.
  package var bootOrder: [BootTarget] = []
  /// For SeaBIOS without `bootOrder`, and for boot sectors that look into CMOS.
  package var bootClasses: [CMOSContent.BootClass] = [.disk, .cdrom, .network]
  /// SeaBIOS waits `bootMenuWait` milliseconds for the key that opens its menu.
  package var hasBootMenu = false
  package var bootMenuWait: UInt32 = 2500
  /// Milliseconds after which SeaBIOS tries again when nothing boots; nil: it stays there.
  package var bootRetryWait: UInt32?
  /// Ranges that guests must leave alone, such as KVM's TSS and identity-map pages.
  package var reservedRanges: [Range<UInt64>] = []
  /// Where 64-bit BARs may go; nil for nowhere above 4 GiB.
  package var highDeviceMemory: Range<UInt64>?
  package var hasKeyboard = true
  package var hasMouse = true
  /// A VGA, which starts in text mode 3.
  package var hasDisplay = false
  /// The high precision event timer at 0xFED00000.
  package var hasEventTimer = false
  /// The ports of PIIX4's power management function. SeaBIOS programs 0x600 when it finds a table loader.
  package var powerManagementBase: UInt16 = 0x600

  package init(name: String, uuid: [UInt8], memorySize: UInt64, processorCount: Int) {
    self.name = name
    self.uuid = uuid
    self.memorySize = memorySize
    self.processorCount = processorCount
  }

  /// The local APIC number of a processor.
  func apicNumber(of index: Int) -> UInt32 {
    topology?.apicNumber(of: index) ?? UInt32(clamping: index)
  }

  /// One more than the largest local APIC number: a topology may leave holes.
  var apicNumberLimit: Int { processorCount > 0 ? Int(apicNumber(of: processorCount - 1)) + 1 : 0 }

  var lowMemorySize: UInt64 { min(memorySize, GuestMemory.lowMemoryLimit) }

  /// Where 32-bit BARs begin: as SeaBIOS places them on an i440FX (src/fw/pciinit.c).
  package var deviceMemoryStart: UInt64 { lowMemorySize <= 0x8000_0000 ? 0x8000_0000 : 0xC000_0000 }
}
