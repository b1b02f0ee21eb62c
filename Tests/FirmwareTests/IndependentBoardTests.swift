import Devices
import Firmware
import Glibc
import Testing

/// A plan carried out on a board that is not ours: a small ROM in QEMU copies the plan's bytes into place, takes the
/// processor to the entry state and jumps. What Linux then says of our tables is the judgement.
private struct IndependentBoard {
  static let emulator = "/usr/bin/qemu-system-x86_64"

  private static let imageSize = 256 << 10
  private static let imageAddress: UInt32 = 0xFFFC_0000
  /// The last page: header at 0, code at 0x80, the reset vector at 0xFF0.
  private static let page = imageSize - 4096

  /// Real mode to flat 32-bit mode; PAM registers to RAM; PIIX4 power management at 0x600; copies {address, count,
  /// bytes} until count 0; loads the plan's descriptor table; 64-bit mode if the header says 64; registers; jump.
  private static let code: [UInt8] = [
    0xFA, 0x2E, 0x66, 0x0F, 0x01, 0x16, 0x98, 0xF0, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F,
    0x22, 0xC0, 0x66, 0xEA, 0xB8, 0xF0, 0xFF, 0xFF, 0x08, 0x00, 0x17, 0x00, 0xA0, 0xF0,
    0xFF, 0xFF, 0x66, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF,
    0x00, 0x00, 0x00, 0x9B, 0xCF, 0x00, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x93, 0xCF, 0x00,
    0xB8, 0x10, 0x00, 0x00, 0x00, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBA, 0xF8, 0x0C,
    0x00, 0x00, 0xB8, 0x58, 0x00, 0x00, 0x80, 0xEF, 0xBA, 0xFC, 0x0C, 0x00, 0x00, 0xB8,
    0x00, 0x30, 0x33, 0x33, 0xEF, 0xBA, 0xF8, 0x0C, 0x00, 0x00, 0xB8, 0x5C, 0x00, 0x00,
    0x80, 0xEF, 0xBA, 0xFC, 0x0C, 0x00, 0x00, 0xB8, 0x33, 0x33, 0x33, 0x33, 0xEF, 0xBA,
    0xF8, 0x0C, 0x00, 0x00, 0xB8, 0x40, 0x0B, 0x00, 0x80, 0xEF, 0xBA, 0xFC, 0x0C, 0x00,
    0x00, 0xB8, 0x01, 0x06, 0x00, 0x00, 0xEF, 0xBA, 0xF8, 0x0C, 0x00, 0x00, 0xB8, 0x80,
    0x0B, 0x00, 0x80, 0xEF, 0xBA, 0xFC, 0x0C, 0x00, 0x00, 0xB0, 0x01, 0xEE, 0x8B, 0x35,
    0x40, 0xF0, 0xFF, 0xFF, 0xAD, 0x89, 0xC7, 0xAD, 0x89, 0xC1, 0xE3, 0x04, 0xF3, 0xA4,
    0xEB, 0xF4, 0x0F, 0x01, 0x15, 0x48, 0xF0, 0xFF, 0xFF, 0x83, 0x3D, 0x00, 0xF0, 0xFF,
    0xFF, 0x40, 0x74, 0x3B, 0xEA, 0x41, 0xF1, 0xFF, 0xFF, 0x10, 0x00, 0xB8, 0x18, 0x00,
    0x00, 0x00, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0x8E, 0xE0, 0x8E, 0xE8, 0xA1, 0x20,
    0xF0, 0xFF, 0xFF, 0x8B, 0x1D, 0x28, 0xF0, 0xFF, 0xFF, 0x8B, 0x35, 0x30, 0xF0, 0xFF,
    0xFF, 0x8B, 0x25, 0x38, 0xF0, 0xFF, 0xFF, 0x31, 0xED, 0x31, 0xFF, 0x31, 0xC9, 0x31,
    0xD2, 0xFF, 0x25, 0x18, 0xF0, 0xFF, 0xFF, 0xA1, 0x10, 0xF0, 0xFF, 0xFF, 0x0F, 0x22,
    0xD8, 0x0F, 0x20, 0xE0, 0x83, 0xC8, 0x20, 0x0F, 0x22, 0xE0, 0xB9, 0x80, 0x00, 0x00,
    0xC0, 0x0F, 0x32, 0x0D, 0x00, 0x01, 0x00, 0x00, 0x0F, 0x30, 0x0F, 0x20, 0xC0, 0x0D,
    0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0, 0xEA, 0xA6, 0xF1, 0xFF, 0xFF, 0x10, 0x00,
    0xB8, 0x18, 0x00, 0x00, 0x00, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0x8E, 0xE0, 0x8E,
    0xE8, 0xBF, 0x00, 0xF0, 0xFF, 0xFF, 0x48, 0x8B, 0x47, 0x20, 0x48, 0x8B, 0x5F, 0x28,
    0x48, 0x8B, 0x77, 0x30, 0x48, 0x8B, 0x67, 0x38, 0xFF, 0x67, 0x18,
  ]

  let directory = TemporaryDirectory()

  /// Runs the plan and returns what came out of the first serial port.
  func run(_ plan: LoadPlan, seconds: Int, _ options: String) throws -> String {
    var payload: [UInt8] = []
    var loaders = ""
    for (index, segment) in plan.segments.enumerated() {
      switch segment.source {
      case .bytes(let bytes):
        payload += word(UInt32(segment.address)) + word(UInt32(bytes.count)) + bytes
      case .file(let file, let offset):
        let path = directory.write(
          try file.bytes(at: offset, count: segment.count), to: "segment\(index)")
        loaders += " -device loader,addr=\(segment.address),file=\(path),force-raw=on"
      case .zeros: break
      }
    }
    payload += word(0) + word(0)
    var image = payload + [UInt8](repeating: 0, count: Self.imageSize - payload.count)
    let entry = plan.entry
    let page = Self.page
    image.put(UInt32(entry.mode == .long64 ? 64 : 32), at: page)
    image.put(entry.pageTableAddress, at: page + 16)
    image.put(entry.instructionPointer, at: page + 24)
    for (index, register) in [EntryState.Register.rax, .rbx, .rsi, .rsp].enumerated() {
      image.put(entry[register], at: page + 32 + 8 * index)
    }
    image.put(Self.imageAddress, at: page + 64)
    image.put(entry.descriptorTableLimit, at: page + 72)
    image.put(UInt32(entry.descriptorTableAddress), at: page + 74)
    image.replaceSubrange((page + 0x80)..<(page + 0x80 + Self.code.count), with: Self.code)
    // Jump back to the code.
    image.replaceSubrange((page + 0xFF0)..<(page + 0xFF3), with: [0xE9, 0x8D, 0xF0])
    let bios = directory.write(image, to: "bios")
    return start("-M pc -bios \(bios) \(options)\(loaders)", seconds: seconds)
  }

  /// Runs with the emulator's own firmware.
  func runWithSeaBIOS(_ options: String, seconds: Int) -> String {
    start(options, seconds: seconds)
  }

  private func start(_ options: String, seconds: Int) -> String {
    _ = system(
      "timeout \(seconds) \(Self.emulator) -accel tcg -nodefaults -display none -no-reboot "
        + "-serial file:\(directory.path)/serial \(options) >\(directory.path)/log 2>&1")
    return String(decoding: directory.read("serial"), as: UTF8.self)
  }

  private func word(_ value: UInt32) -> [UInt8] {
    var bytes: [UInt8] = [0, 0, 0, 0]
    bytes.put(value, at: 0)
    return bytes
  }
}

@Suite(
  .enabled(
    if: isExecutable(IndependentBoard.emulator), "needs QEMU (apt install qemu-system-x86)"))
struct IndependentBoardTests {
  private func board() -> BoardDescription {
    var board = exampleBoard(memory: 256 << 20, processors: 2)
    board.name = "judged"
    board.serialPorts = Array(BoardDescription.standardSerialPorts.prefix(1))
    return board
  }

  /// 32-bit code that writes what it finds at `[ebx]` and a letter to the serial port, and stops.
  private static let reporter: [UInt8] =
    [0xBA, 0xF8, 0x03, 0x00, 0x00]  // mov edx, 0x3F8
    + [0x8A, 0x03, 0xEE, 0x8A, 0x43, 0x01, 0xEE]  // the first two bytes at ebx
    + [0xB0, 0x4B, 0xEE]  // 'K'
    + [0xFA, 0xF4]

  @Test func pvhStructureArrives() throws {
    let image = KernelImages.elf32(
      [.init(address: 0x10_0000, bytes: Self.reporter)], entry: 0x10_0000, pvhEntry: 0x10_0000)
    let plan = try KernelLoader(board()).plan(KernelImages.request(image))
    let output = try IndependentBoard().run(plan, seconds: 5, "-m 256")
    #expect(Array(output.unicodeScalars.map(\.value)).suffix(1) == [0x4B])
  }

  static let kernelPath = getenv("UNDERJACK_TEST_LINUX").map { String(cString: $0) } ?? ""

  @Test(.enabled(if: access(kernelPath, R_OK) == 0, "set UNDERJACK_TEST_LINUX to a bzImage"))
  func linuxAcceptsTheTables() throws {
    let request = try KernelRequest(
      kernel: Self.kernelPath, initrd: nil,
      commandLine: "console=ttyS0 panic=-1 acpi.debug_level=0 tsc=reliable")
    let plan = try KernelLoader(board()).plan(request)
    // A PCI device with a driver in the kernel: its interrupt goes through our link devices.
    let output = try IndependentBoard().run(
      plan, seconds: 120,
      "-m 256 -smp 2 -chardev null,id=n -device pci-serial,addr=4,chardev=n")
    if let path = getenv("UNDERJACK_TEST_LOG"), let stream = fopen(path, "w") {
      fputs(output, stream)
      fclose(stream)
    }
    for expected in [
      "DMI: Underjack Underjack Virtual Machine", "ACPI: DSDT", "ACPI: APIC",
      "ACPI: Interpreter enabled", "ACPI: PCI: Interrupt link LNKA configured for IRQ",
      "smp: Brought up 1 node, 2 CPUs", "PCI: Using ACPI for IRQ routing",
      "ACPI: \\_SB_.LNKD: Enabled at IRQ 1",
    ] {
      let isThere = output.contains(expected)
      #expect(isThere, "\(expected)")
    }
    for unwanted in ["ACPI Error", "ACPI BIOS", "ACPI Warning", "[Firmware Bug]"] {
      let isThere = output.contains(unwanted)
      #expect(!isThere, "\(unwanted)")
    }
  }

  @Test(.enabled(if: access(kernelPath, R_OK) == 0, "set UNDERJACK_TEST_LINUX to a bzImage"))
  func seaBIOSCarriesOutTheScript() throws {
    let content = try FirmwareContent(board())
    let independent = IndependentBoard()
    var options = "-m 256 -kernel \(Self.kernelPath) -append 'console=ttyS0 panic=-1'"
    for name in [ACPITables.File.tables, ACPITables.File.root, ACPITables.File.loader] {
      let bytes = try #require(content.items.fileBytes(name))
      let path = independent.directory.write(
        bytes, to: name.split(separator: "/").joined(separator: "-"))
      options += " -fw_cfg name=\(name),file=\(path)"
    }
    // Without tables and power management of its own; Linux therefore cannot enter ACPI mode, but reads what is there.
    let output = independent.runWithSeaBIOS("-M pc,acpi=off \(options)", seconds: 120)
    for expected in ["ACPI: RSDP 0x00000000000F", "ACPI: FACP", "ACPI: APIC", "(v02 UNDRJK)"] {
      let isThere = output.contains(expected)
      #expect(isThere, "\(expected)")
    }
    for unwanted in ["ncorrect checksum", "ACPI BIOS", "Invalid checksum"] {
      let isThere = output.contains(unwanted)
      #expect(!isThere, "\(unwanted)")
    }
    if let path = getenv("UNDERJACK_TEST_LOG"), let stream = fopen(path, "w") {
      fputs(output, stream)
      fclose(stream)
    }
  }
}
