// The DSDT: the devices of the board as a namespace (ACPI 6.5, chapters 5 and 6).

/// What cannot be found by probing: the PCI host bridge and its interrupts, the ISA devices, power-off.
enum DeviceDescription {
  static func table(_ board: BoardDescription) -> [UInt8] {
    // Revision 2: integers have 64 bits.
    TableHeader.table("DSDT", revision: 2, AMLTerm.encoded(terms(board)))
  }

  static func terms(_ board: BoardDescription) -> [AMLTerm] {
    var system = [hostBridge(board)]
    system += PCIInterruptDescription.links
    system += (0..<board.processorCount).map(processor)
    if board.hasEventTimer { system.append(eventTimer) }
    return [.scope("\\_SB", system), .name("\\_S5", .package([AMLTerm](repeating: off, count: 4)))]
  }

  /// PIIX4's sleep type for "off" as QEMU and its guests know it.
  private static let off = AMLTerm.integer(0)
  private static let present = AMLTerm.name("_STA", .integer(0xF))

  // MARK: Buses

  private static func hostBridge(_ board: BoardDescription) -> AMLTerm {
    var resources = ResourceTemplate()
    resources.addBusWindow(0...0xFF)
    resources.addPorts(0xCF8, count: 8)
    resources.addPortWindow(0...0xCF7)
    resources.addPortWindow(0xD00...0xFFFF)
    resources.addMemoryWindow(0xA_0000...0xB_FFFF, isCacheable: true)
    resources.addMemoryWindow(
      UInt32(truncatingIfNeeded: board.deviceMemoryStart)...UInt32(PCMemory.deviceMemoryEnd - 1))
    if let high = board.highDeviceMemory { resources.addLongMemoryWindow(high) }
    return .device(
      "PCI0",
      [
        .name("_HID", .identifier("PNP0A03")),
        .name("_UID", .integer(0)),
        .name("_BBN", .integer(0)),
        .name("_CRS", resources.term),
        .name("_PRT", PCIInterruptDescription.routing),
        isaBridge(board),
      ])
  }

  private static func isaBridge(_ board: BoardDescription) -> AMLTerm {
    var devices = [AMLTerm.name("_ADR", .integer(0x1_0000))]
    devices += PCIInterruptDescription.routers
    devices.append(clock)
    if board.hasKeyboard { devices.append(keyboard) }
    if board.hasKeyboard && board.hasMouse { devices.append(mouse) }
    let names: [AMLName] = ["COM1", "COM2", "COM3", "COM4"]
    for (index, port) in board.serialPorts.prefix(names.count).enumerated() {
      devices.append(serial(names[index], number: index + 1, port))
    }
    return .device("ISA", devices)
  }

  // MARK: ISA devices

  private static func device(
    _ name: AMLName, _ identifier: AMLTerm, number: Int? = nil,
    _ build: (inout ResourceTemplate) -> Void
  ) -> AMLTerm {
    var resources = ResourceTemplate()
    build(&resources)
    var terms = [AMLTerm.name("_HID", identifier)]
    if let number { terms.append(.name("_UID", .integer(UInt64(number)))) }
    return .device(name, terms + [present, .name("_CRS", resources.term)])
  }

  private static let clock = device("RTC", .identifier("PNP0B00")) {
    $0.addPorts(0x70, count: 2)
    $0.addInterrupt(8)
  }

  private static let keyboard = device("KBD", .identifier("PNP0303")) {
    $0.addPorts(0x60, count: 1)
    $0.addPorts(0x64, count: 1)
    $0.addInterrupt(1)
  }

  private static let mouse = device("MOU", .identifier("PNP0F13")) { $0.addInterrupt(12) }

  private static func serial(
    _ name: AMLName, number: Int, _ port: BoardDescription.SerialPort
  ) -> AMLTerm {
    device(name, .identifier("PNP0501"), number: number) {
      $0.addPorts(port.base, count: 8, alignment: 8)
      $0.addInterrupt(port.interrupt)
    }
  }

  // MARK: Others

  private static let eventTimer = device("HPET", .identifier("PNP0103"), number: 0) {
    $0.addMemory(PCMemory.eventTimer, count: 0x400, isWritable: false)
  }

  /// Processors as devices; `_UID` is the number in the MADT.
  private static func processor(_ index: Int) -> AMLTerm {
    let digits = String(index, radix: 16, uppercase: true)
    let name = "C" + String(repeating: "0", count: max(0, 3 - digits.utf8.count)) + digits.suffix(3)
    return .device(
      AMLName(name),
      [.name("_HID", .string("ACPI0007")), .name("_UID", .integer(UInt64(index)))])
  }
}
