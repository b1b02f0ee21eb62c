import Glibc
import Machine
import Platform
import TestGuests
import Testing

/// The CD-ROM drive from outside, and real discs and disks through SeaBIOS.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardDiscTests {
  private func image(_ size: Int) throws -> String {
    let path = try TestFolder.make("disc") + "/disc.iso"
    let file = open(path, O_WRONLY | O_CREAT, 0o600)
    #expect(file >= 0)
    defer { close(file) }
    #expect(ftruncate(file, size) == 0)
    return path
  }

  @Test("discs are changed and ejected while the machine runs")
  func change() throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.opticalDrive = .init(path: nil)
    let machine = try Machine(configuration, serialBackends: []) { _ in }
    defer { machine.stop() }
    #expect(machine.disc == nil)
    let (first, second, tiny) = (try image(1 << 20), try image(2 << 20), try image(100))
    try machine.changeDisc(path: first)
    #expect(machine.disc == first)
    try machine.changeDisc(path: second)
    #expect(machine.disc == second)
    for bad in [tiny, "/nowhere.iso", "/tmp"] {
      let error = #expect(throws: MachineError.self) { try machine.changeDisc(path: bad) }
      #expect(error?.description.contains(bad) == true)
    }
    #expect(machine.disc == second)
    try machine.ejectDisc()
    #expect(machine.disc == nil)
    try machine.ejectDisc()
  }

  @Test("a machine without a drive says so, and a missing disc is named")
  func absent() throws {
    var configuration = MachineConfiguration(name: "bare")
    configuration.accelerator = .kvm
    let machine = try Machine(configuration, serialBackends: []) { _ in }
    defer { machine.stop() }
    let error = #expect(throws: MachineError.self) { try machine.changeDisc(path: "/x") }
    #expect(error?.description == "bare has no CD-ROM drive")
    configuration.opticalDrive = .init(path: "/nowhere.iso")
    let missing = #expect(throws: MachineError.self) {
      _ = try Machine(configuration, serialBackends: []) { _ in }
    }
    #expect(missing?.description.contains("/nowhere.iso") == true)
  }

  private static let rescueFolder = "/usr/lib/grub-rescue"

  /// Half a minute each where the kernel emulates the guest's kernel mode, and more beside other work.
  @Test(
    "GRUB's rescue disc and disk reach the prompt through SeaBIOS",
    .enabled(
      if: access("\(rescueFolder)/grub-rescue-cdrom.iso", R_OK) == 0,
      "\(rescueFolder) is missing: install grub-rescue-pc"),
    arguments: [
      (InterruptChip.kernel, 1, true, StorageBus.virtio), (.kernel, 4, false, .ahci),
      (.split, 1, false, .virtio), (.split, 4, true, .ahci),
    ])
  func grub(chip: InterruptChip, processors: Int, isDisc: Bool, bus: StorageBus) throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.interruptChip = chip
    configuration.processorCount = processors
    if isDisc {
      configuration.opticalDrive = .init(
        path: "\(Self.rescueFolder)/grub-rescue-cdrom.iso", bus: bus)
      configuration.bootOrder = [.cdrom]
    } else {
      configuration.disks = [
        .init(path: "\(Self.rescueFolder)/grub-rescue-usb.img", format: .raw, isReadOnly: true)
      ]
      configuration.disks[0].bus = bus
    }
    let conversation = try GuestConversation(configuration)
    try conversation.expect("GNU GRUB", seconds: 400)
    conversation.send("c")
    try conversation.expect("grub>", seconds: 200)
    #expect(conversation.machine.statistics().diskBytesRead > 500_000)
  }
}
