// How the four PCI interrupt pins reach ISA interrupts through the routers of PIIX3 (Intel 82371SB data sheet, PIRQRC,
// configuration bytes 0x60 to 0x63: bit 7 routing off, bits 3:0 the ISA interrupt). With an I/O APIC, the interrupt is
// the pin of the same number.

/// Link devices LNKA to LNKD, and the table that says which slot uses which.
enum PCIInterruptDescription {
  private static let linkNames: [AMLName] = ["LNKA", "LNKB", "LNKC", "LNKD"]
  private static let routerNames: [AMLName] = ["PRQ0", "PRQ1", "PRQ2", "PRQ3"]
  private static let choices: [UInt32] = [5, 10, 11]
  private static let routingOff: UInt64 = 0x80
  private static let interruptMask: UInt64 = 0x0F
  private static let slotCount: UInt64 = 32

  /// Inside the ISA bridge: its routers as named bytes.
  static let routers: [AMLTerm] = [
    .operationRegion("PIRQ", .pciConfiguration, offset: 0x60, length: 4),
    .field("PIRQ", .byte, routerNames.map { .named($0, bits: 8) }),
  ]

  /// Pin p (0 for INTA#) of slot s comes in at router (p + s - 1) mod 4.
  static let routing = AMLTerm.package(
    (0..<slotCount).flatMap { slot in
      (0..<4).map { pin in
        .package([
          .integer(slot << 16 | 0xFFFF), .integer(pin),
          .reference(AMLName("\\_SB.LNK" + ["A", "B", "C", "D"][Int((pin + slot + 3) % 4)])),
          .integer(0),
        ])
      }
    })

  /// The link devices and the methods that they share.
  static var links: [AMLTerm] {
    [status, currentInterrupt]
      + zip(linkNames, routerNames).enumerated().map { index, names in
        link(names.0, router: AMLName("\\_SB.PCI0.ISA." + names.1.text), number: index)
      }
  }

  /// `_STA`: enabled unless routing is off.
  private static let status = AMLTerm.method(
    "IQST", arguments: 1,
    [
      .ifElse(
        .and(.argument(0), .integer(routingOff)), [.returnValue(.integer(0x9))],
        else: [.returnValue(.integer(0xB))])
    ])

  /// `_CRS`: the chosen interrupt, or 0.
  private static let currentInterrupt = AMLTerm.method(
    "IQCR", arguments: 1, isSerialized: true,
    [
      .store(interrupts([0]).term, in: .local(0)),
      .doubleWordField(of: .local(0), at: interruptOffset, "IRQV"),
      .ifElse(
        .isLess(.argument(0), .integer(routingOff)),
        [.store(.and(.argument(0), .integer(interruptMask)), in: .reference("IRQV"))]),
      .returnValue(.local(0)),
    ])

  /// Where an extended interrupt descriptor holds its first number.
  private static let interruptOffset: UInt64 = 5

  private static func interrupts(_ lines: [UInt32]) -> ResourceTemplate {
    var resources = ResourceTemplate()
    resources.addSharedInterrupts(lines)
    return resources
  }

  private static func link(_ name: AMLName, router: AMLName, number: Int) -> AMLTerm {
    .device(
      name,
      [
        .name("_HID", .identifier("PNP0C0F")),
        .name("_UID", .integer(UInt64(number))),
        .name("_PRS", interrupts(choices).term),
        .method("_STA", [.returnValue(.call("IQST", [.reference(router)]))]),
        .method("_CRS", [.returnValue(.call("IQCR", [.reference(router)]))]),
        .method(
          "_DIS",
          [
            .store(.or(.reference(router), .integer(routingOff)), in: .reference(router))
          ]),
        .method(
          "_SRS", arguments: 1, isSerialized: true,
          [
            .doubleWordField(of: .argument(0), at: interruptOffset, "IRQN"),
            .store(.and(.reference("IRQN"), .integer(interruptMask)), in: .reference(router)),
          ]),
      ])
  }
}
