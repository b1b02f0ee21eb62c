import KVM
import Machine
import Processor
import TestGuests
import Testing

/// Every chip, device and table through one processor, entered in all five ways.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct MachineChipTests {
  @Test(
    "one processor: everything that a PC has",
    arguments: [
      CheckMachine.Setup(entry: .pvh, chip: .kernel),
      .init(entry: .linux64, chip: .kernel),
      .init(entry: .multiboot, chip: .split),
      .init(entry: .linux32, chip: .split),
      .init(entry: .firmware, chip: .split),
    ])
  func everything(_ setup: CheckMachine.Setup) throws {
    try CheckBoot(setup).run()
  }
}

/// The same with more processors, which have to start, answer and share memory.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct MachineSMPTests {
  @Test(
    "several processors: everything that a PC has",
    arguments: [
      CheckMachine.Setup(entry: .firmware, processors: 2, chip: .kernel),
      .init(entry: .multiboot, processors: 4, chip: .kernel),
      .init(entry: .linux32, processors: 2, chip: .kernel),
      .init(entry: .pvh, processors: 2, chip: .split),
      .init(entry: .linux64, processors: 4, chip: .split),
    ])
  func everything(_ setup: CheckMachine.Setup) throws {
    try CheckBoot(setup).run()
  }
}

/// The same on the software processor, which is asked for everything that hardware does.
@Suite(.serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct SoftMachineChipTests {
  @Test(
    "the software processor: everything that a PC has",
    arguments: [
      CheckMachine.Setup(entry: .pvh, accelerator: .soft),
      .init(entry: .linux64, accelerator: .soft),
      .init(entry: .linux32, processors: 2, accelerator: .soft),
      .init(entry: .multiboot, processors: 4, accelerator: .soft),
      .init(entry: .firmware, processors: 2, accelerator: .soft),
    ])
  func everything(_ setup: CheckMachine.Setup) throws {
    try CheckBoot(setup).run()
  }
}

/// One boot of the check guest, and what has to be seen in it.
struct CheckBoot {
  let setup: CheckMachine.Setup

  init(_ setup: CheckMachine.Setup) { self.setup = setup }

  func run() throws {
    let machine = try CheckMachine(setup)
    let words =
      setup.accelerator == .soft
      ? HostCapability.allWords : HostCapability.words(for: setup.chip)
    let report = try machine.check(words)
    for line in report.failed { Issue.record("\(setup): \(line)") }
    let last = report.lines.suffix(3).joined(separator: " / ")
    #expect(report.brokeOff == nil, "\(setup): the machine ended after '\(last)'")
    let missing = Self.required(setup).subtracting(report.passed)
    #expect(missing.isEmpty, "\(setup): never reported: \(missing.sorted())")
    let entryName = setup.entry.rawValue
    #expect(report.greeting.contains("entered by \(entryName),"), "\(report.greeting)")
    if setup.entry == .firmware {
      #expect(report.skipped.allSatisfy { $0.contains("tables") }, "\(report.skipped)")
    } else {
      #expect(report.skipped.isEmpty, "\(report.skipped)")
      #expect(report.greeting.hasSuffix("\(CheckMachine.commandLine)'"), "\(report.greeting)")
    }
    for (stage, clocks) in report.clocks where !clocks.spans.isEmpty {
      Self.judge(clocks, "\(setup), \(stage)")
    }
    machine.send("p")
    #expect(machine.end() == .powerOff)
    let written = TestFile.read(machine.diskPath, at: 100 * 512, count: 512)
    #expect(written == (0..<512).map { UInt8($0 & 0xFF) ^ 0x5A }, "the sector that was written")
    let serial = TestFile.read(machine.serialDiskPath, at: 100 * 512, count: 512)
    #expect(serial == (0..<512).map { UInt8($0 & 0xFF) ^ 0xA5 }, "the sector of the SATA disk")
  }

  // MARK: Checks that must have been made

  private static func required(_ setup: CheckMachine.Setup) -> Set<String> {
    var names: Set<String> = []
    func add(_ stage: String, _ list: String) {
      for name in list.split(whereSeparator: \.isWhitespace) { names.insert("\(stage).\(name)") }
    }
    let hasInterrupts32 = HostCapability.iret32.isThere
    if setup.entry == .firmware {
      add("r16", "int-iret divide nowhere pic-mask pit-wakes-from-hlt pit-interrupts")
      add("r16", "uart-interrupt rtc-interrupts")
    }
    for stage in setup.entry == .linux64 ? ["l64"] : ["p32", "l64"] {
      add(stage, everywhere)
      if stage == "l64" || hasInterrupts32 { add(stage, byInterrupt) }
      if setup.entry != .firmware {
        add(stage, "acpi.root acpi.madt acpi.processors mp.table mp.processors boot.memory")
      }
      if setup.processors == 1 {
        add(stage, "smp.alone")
      } else {
        add(stage, "smp.start smp.identifiers smp.additions")
        if stage == "l64" || hasInterrupts32 {
          add(stage, "smp.fixed-interrupts smp.broadcast smp.nmi smp.restart smp.time-stamps")
          add(stage, "smp.ioapic-destination")
        }
      }
    }
    add("l64", userMode)
    return names
  }

  /// In 32 and 64 bit, without taking an interrupt.
  private static let everywhere = """
    cpuid.basics tsc.monotonic cr0.pg-without-pe cr0.nw-without-cd cr4.reserved-bit
    msr.unknown-read msr.unknown-write exception.ud2 exception.divide debug.execution-breakpoint
    debug.single-step debug.general-detect nowhere.ports nowhere.memory nowhere.string-input
    pic.mask-registers pic.elcr pic.request-while-masked pic.mask pic.poll pit.mode0 pit.mode2
    pit.mode3 pit.status rtc.time rtc.memory keyboard.self-test keyboard.reset
    keyboard.mouse-reset port61.refresh port92.a20 fw_cfg.signature uart.scratch uart.loop-lines
    uart.loop-byte uart.fifo-depth uart.overrun uart.trigger-level uart.timeout
    uart.transmitter-empty uart.break pci.host-bridge pci.nobody pci.base-address-size rng.bytes
    rng.twice blk.capacity blk.read blk.read-beyond blk.write blk.flush blk.identifier
    cdrom.inquiry cdrom.test-unit-ready cdrom.read-capacity cdrom.read10 cdrom.read-beyond
    apic.base apic.version apic.identifier apic.self-request ioapic.version ioapic.entry
    ahci.registers ahci.link ahci.identify ahci.read ahci.read-queued ahci.write
    ahci.read-beyond ahci.reset pm1.acpi-mode power-button.status
    pm-timer.moves pm1.control hpet.identity hpet.halts
    """

  private static let byInterrupt = """
    pic.delivery pic.waits-for-sti pic.wakes-from-hlt pic.spurious pic.automatic-end pic.cascade
    rtc.periodic-interrupt rtc.update-interrupt keyboard.interrupt uart.transmit-interrupt
    uart.receive-interrupt intx.pic-level intx.withdrawn intx.disabled ioapic.edge ioapic.mask
    ioapic.logical ioapic.uart ioapic.level ioapic.remote-irr ioapic.level-unmask msix.rng
    msix.rng-vector-mask msix.rng-function-mask msix.blk msix.blk-vector-mask
    msix.blk-function-mask apic.self-interrupt apic.task-priority apic.timer-one-shot
    msi.capability msi.delivery msi.mask msi.logical msi.off rtc.alarm-interrupt
    power-button.enable power-button.interrupt pic.fixed-priority pic.set-priority
    pic.specific-end-in-order pic.rotate-on-end pic.rotated pic.rotate-on-specific-end
    pic.rotate-automatically pic.rotation-off
    apic.timer-periodic hpet.edge-interrupt hpet.level-interrupt hpet.periodic
    """

  private static let userMode = """
    cpuid.rex-prefix user.enter user.cpuid-rex-prefix user.ud2 user.int3 user.vmxon user.vmlaunch
    user.vmread user.vmwrite user.vmxoff user.invept user.hlt user.in user.rdmsr user.page-fault
    """

  // MARK: Rates

  /// How far a rate may be off, beyond what could not be measured more exactly.
  private static let tolerance = 0.02

  private static func judge(_ clocks: ClockReadings, _ place: String) {
    guard let stampRate = clocks.stampRate else {
      Issue.record("\(place): the time stamp counter could not be related to the host's clock")
      return
    }
    func judge(_ name: String, _ rate: ClosedRange<Double>?, _ nominal: Double) {
      guard let rate else {
        Issue.record("\(place): \(name) was not measured")
        return
      }
      let isRight =
        rate.lowerBound * (1 - tolerance) <= nominal && nominal <= rate.upperBound * (1 + tolerance)
      #expect(isRight, "\(place): \(name) counts \(rate) instead of \(nominal) a second")
    }
    if let kilohertz = clocks.values["tsc-kilohertz"] {
      judge("the time stamp counter", stampRate, Double(kilohertz) * 1000)
    }
    func judge(_ name: String, _ nominal: Double) {
      judge(name, clocks.rate(of: name, nominal: nominal), nominal)
    }
    judge("pm-timer", 3_579_545)
    judge("pit", 1_193_182)
    if let kilohertz = clocks.values["local-timer-kilohertz"] {
      judge("local-timer", Double(kilohertz) * 1000)
    }
    if let period = clocks.values["hpet-period"], period > 0 {
      judge("hpet", 1e15 / Double(period))
    }

    judgeTicks(clocks, "pit", 1_193_182.0 / 23864, place)
    judgeTicks(clocks, "rtc", 16, place)
    // The second update comes 1.5 s after the divider is let go, never earlier; a busy host may tell it late.
    if let update = clocks.update, let seconds = clocks.seconds(update.0, update.1) {
      #expect((1.45...2.7).contains(seconds), "\(place): \(seconds) s until the second update")
    }
  }

  /// Interrupts that were counted: never too many; the usual time between two is right although a busy host delays and
  /// merges some.
  private static func judgeTicks(
    _ clocks: ClockReadings, _ name: String, _ hertz: Double, _ place: String
  ) {
    guard let ticks = clocks.ticks[name] else { return }
    guard let span = clocks.seconds(ticks.first, ticks.last),
      let median = clocks.seconds(0, ticks.median), ticks.count > 10
    else {
      Issue.record("\(place): \(ticks.count) interrupts of \(name)")
      return
    }
    let most = span * hertz * 1.05 + 2
    #expect(
      Double(ticks.count) <= most, "\(place): \(ticks.count) interrupts of \(name) in \(span) s")
    #expect(
      (0.85...1.15).contains(median * hertz),
      "\(place): \(median) s between interrupts of \(name) instead of \(1 / hertz)")
  }
}
