import Machine
import Networks
import Processor
import Testing

@Suite(.enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardListingTests {
  @Test("the listing names processors, devices with their places, boot order and serial ports")
  func everything() throws {
    var configuration = MachineConfiguration(name: "shown")
    configuration.topology = ProcessorTopology(sockets: 2, cores: 3)
    configuration.interruptChip = .split
    configuration.opticalDrive = .init(path: "/nowhere/x.iso")
    configuration.bootOrder = [.cdrom, .disk]
    configuration.disks = [.init(path: "/nowhere/a.qcow2", format: .qcow2, serial: "A1")]
    configuration.memorySize = 8 << 30
    configuration.consolePorts = 2
    let lines = try Machine.listing(configuration, serialPortCount: 2)
    func has(_ part: String) -> Bool { lines.contains { $0.contains(part) } }
    #expect(lines.first == "machine shown")
    #expect(lines.allSatisfy { !$0.contains("\n") })
    #expect(has("6 (2 sockets, 3 cores, 1 thread)"))
    #expect(has("local APICs 0 1 2 4 5 6"))
    #expect(has("/pci@i0cf8/scsi@2/channel@0/disk@0,0, /pci@i0cf8/scsi@4/disk@0,0"))
    #expect(has("000100000000-00023fffffff RAM, 5120 MiB"))
    #expect(has("0020-0021 8259A, master (this process)"))
    #expect(has("00:02.0 virtio SCSI, CD-ROM drive: /nowhere/x.iso"))
    #expect(has("00:04.0 virtio disk: /nowhere/a.qcow2 (qcow2, serial A1)"))
    #expect(has("00:1f.0 virtio console, 2 ports"))
    #expect(has("COM2 at 02f8, IRQ 3"))
    #expect(!lines.contains { $0.contains("VGA") })
  }

  @Test("a kernel that is to boot from the network is told to install itself, others are not")
  func installation() throws {
    var configuration = MachineConfiguration(name: "shown")
    let plain = NetworkConfiguration()
    let named = try NetworkConfiguration(text: "user,bootfile=pxelinux.0")
    configuration.networks = [plain, named, NetworkConfiguration(.none)]
    configuration.bootOrder = [.net]
    #expect(configuration.bootedNetworks == configuration.networks)
    configuration.boot = .kernel(path: "/nowhere/bsd", initrd: nil, commandLine: "")
    let files = configuration.bootedNetworks.map(\.user.bootFile)
    #expect(files == ["auto_install", "pxelinux.0", nil])
    configuration.bootOrder = [.disk]
    #expect(configuration.bootedNetworks == configuration.networks)
    configuration.display = .vga
    let withDisplay = try Machine.listing(configuration, serialPortCount: 2)
    for part in [
      "0000000a0000-0000000bffff display", "03b0-03df VGA", "01ce-01d0 Bochs",
      "00:16.0 standard VGA",
    ] { #expect(withDisplay.contains { $0.contains(part) }, "\(part)") }
  }

  @Test("drives on the IDE controller have channels; a fifth has no place")
  func parallelStorage() throws {
    var configuration = MachineConfiguration(name: "shown")
    configuration.opticalDrive = .init(path: "/nowhere/x.iso", bus: .ide)
    configuration.bootOrder = [.cdrom, .disk]
    configuration.disks = ["a", "b", "c"].map { .init(path: "/nowhere/\($0)", format: .raw) }
    configuration.disks[0].bus = .ide
    configuration.disks[2].bus = .ide
    let lines = try Machine.listing(configuration, serialPortCount: 0)
    func has(_ part: String) -> Bool { lines.contains { $0.contains(part) } }
    #expect(has("00:01.1 PIIX3 IDE, first channel, drive 1, disk: /nowhere/c (raw)"))
    #expect(has("00:01.1 PIIX3 IDE, second channel, drive 0, CD-ROM drive: /nowhere/x.iso"))
    let controller = "/pci@i0cf8/ide@1,1"
    #expect(has("boot order: \(controller)/drive@1/disk@0, \(controller)/drive@0/disk@0, "))
    configuration.disks += ["d", "e"].map { .init(path: "/nowhere/\($0)", format: .raw) }
    configuration.disks[3].bus = .ide
    configuration.disks[4].bus = .ide
    #expect(throws: MachineError.self) {
      try Machine.listing(configuration, serialPortCount: 0)
    }
  }

  @Test("drives on the SATA adapter have ports, disks first, also in the boot order")
  func serialStorage() throws {
    var configuration = MachineConfiguration(name: "shown")
    configuration.opticalDrive = .init(path: "/nowhere/x.iso", bus: .ahci)
    configuration.bootOrder = [.cdrom, .disk]
    configuration.disks = ["a", "b", "c"].map { .init(path: "/nowhere/\($0)", format: .raw) }
    configuration.disks[0].bus = .ahci
    configuration.disks[2].bus = .ahci
    let lines = try Machine.listing(configuration, serialPortCount: 0)
    func has(_ part: String) -> Bool { lines.contains { $0.contains(part) } }
    #expect(has("00:17.0 AHCI SATA adapter, port 0, disk: /nowhere/a (raw)"))
    #expect(has("00:17.0 AHCI SATA adapter, port 1, disk: /nowhere/c (raw)"))
    #expect(has("00:17.0 AHCI SATA adapter, port 2, CD-ROM drive: /nowhere/x.iso"))
    #expect(has("00:05.0 virtio disk: /nowhere/b (raw)"))
    let adapter = "/pci@i0cf8/pci8086,2922@17"
    #expect(
      has(
        "boot order: \(adapter)/drive@2/disk@0, \(adapter)/drive@0/disk@0, "
          + "/pci@i0cf8/scsi@5/disk@0,0, \(adapter)/drive@1/disk@0"))
  }

  @Test("what cannot be built is not listed")
  func refused() {
    #expect(throws: MachineError.self) {
      try Machine.listing(MachineConfiguration(name: "x"), serialPortCount: 5)
    }
  }
}
