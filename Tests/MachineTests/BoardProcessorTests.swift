import Glibc
import Machine
import Platform
import Processor
import TestGuests
import Testing

/// Several processors, and what a machine says of them.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardProcessorTests {
  /// Sends INIT and SIPI to each local APIC whose bit is set, one by one.
  private static let startOthers = """
    extern u8 trampoline[], trampoline_end[];
    static void start_others(u32 numbers) {
      M32(0x7000) = 0; M32(0x7004) = 0;
      for (u32 i = 0; trampoline + i != trampoline_end; i++) M8(0x8000 + i) = trampoline[i];
      set_up_lapic();
      for (u32 number = 0; number < 32; number++) {
        if (!(numbers >> number & 1)) continue;
        M32(LAPIC + 0x310) = number << 24; M32(LAPIC + 0x300) = 0x4500;
        for (int i = 0; i < 300; i++) (void)in8(0x80);
        M32(LAPIC + 0x310) = number << 24; M32(LAPIC + 0x300) = 0x4608;
      }
    }

    """

  @Test(
    "INIT and SIPI start every processor, whatever its local APIC's number",
    arguments: [
      (InterruptChip.kernel, ProcessorTopology(processorCount: 4)),
      (.split, ProcessorTopology(processorCount: 4)),
      // Numbers 0 to 2 and 4 to 6.
      (.kernel, ProcessorTopology(sockets: 2, cores: 3, threads: 1)),
    ])
  func startUp(chip: InterruptChip, topology: ProcessorTopology) throws {
    let numbers = (1..<topology.processorCount).reduce(0) { $0 | 1 << topology.apicNumber(of: $1) }
    var configuration = try CompiledGuest.configuration(
      Self.startOthers + """
        void guest_main(void) {
          start_others(\(numbers));
          while (M32(0x7000) != \(topology.processorCount - 1)) {}
          finish(M32(0x7004) == \(numbers) ? passed : 1);
        }
        """, chip: chip)
    configuration.topology = topology
    let conversation = try GuestConversation(configuration)
    #expect(try conversation.end() == CompiledGuest.passed)
    let statistics = conversation.machine.statistics()
    #expect(statistics.processorTimes.count == topology.processorCount)
    #expect(statistics.processorTimes.allSatisfy { $0 > 0 })
    #expect(statistics.processorTime == statistics.processorTimes.reduce(0, +))
  }

  @Test(
    "SeaBIOS finds six processors in two sockets and goes on", arguments: InterruptChip.allCases)
  func firmware(chip: InterruptChip) throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.topology = ProcessorTopology(sockets: 2, cores: 3)
    configuration.interruptChip = chip
    let conversation = try GuestConversation(configuration)
    try conversation.expect("No bootable device", seconds: 40)
  }

  @Test("pause and resume with four processors, also in quick succession")
  func pauseAndResume() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        Self.startOthers + """
          void guest_main(void) {
            start_others(14);
            while (M32(0x7000) != 3) {}
            out8(0x3F8, '>');
            while (!(in8(0x3FD) & 1)) {}
            finish(in8(0x3F8) == 'x' ? passed : 1);
          }
          """, processors: 4))
    try conversation.expect(">")
    for _ in 0..<50 {
      conversation.machine.pause()
      conversation.machine.resume()
    }
    conversation.machine.pause()
    let deadline = MonotonicClock.now + 5_000_000_000
    while conversation.states.filter({ $0 == .paused }).count < 51 && MonotonicClock.now < deadline
    {
      pauseThread()
    }
    #expect(conversation.machine.runState == .paused)
    conversation.send("x")
    #expect(throws: (any Error).self) { try conversation.end(seconds: 0.2) }
    conversation.machine.resume()
    #expect(try conversation.end() == CompiledGuest.passed)
  }

  @Test("a reset with four processors starts them again")
  func reset() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        Self.startOthers + """
          void guest_main(void) {
            start_others(14);
            while (M32(0x7000) != 3) {}
            out8(0x70, 0x40);
            if (in8(0x71) == 0x5A) finish(passed);
            out8(0x70, 0x40); out8(0x71, 0x5A);
            out8(0xCF9, 6);
            for (;;) {}
          }
          """, processors: 4))
    #expect(try conversation.end() == CompiledGuest.passed)
  }

  @Test("resets leave nothing behind", arguments: InterruptChip.allCases)
  func resets(chip: InterruptChip) throws {
    var configuration = try CompiledGuest.configuration(
      """
      void guest_main(void) {
        set_up_8259(); load_gates();
        out8(0x3F8, '>');
        for (;;) wait();
      }
      """, chip: chip, processors: 2)
    configuration.opticalDrive = .init(path: nil)
    let conversation = try GuestConversation(configuration)
    try conversation.expect(">")
    let before = try virtualMachines()
    for _ in 0..<40 {
      conversation.machine.reset()
      try conversation.expect(">")
    }
    // Other suites have machines of their own meanwhile.
    let left = try virtualMachines() - before
    #expect(left < 20, "\(left) boards more than before")
  }

  /// How many of the kernel's virtual machines this process holds.
  private func virtualMachines() throws -> Int {
    guard let folder = opendir("/proc/self/fd") else { throw TestGuestError("no /proc") }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      var target = [UInt8](repeating: 0, count: 64)
      let length = readlink("/proc/self/fd/" + name, &target, target.count)
      if length > 0, String(decoding: target.prefix(length), as: UTF8.self).hasSuffix("kvm-vm") {
        count += 1
      }
    }
    return count
  }

  @Test("a guest that moves a BAR for ever goes on with all processors", arguments: [1, 4])
  func movingForEver(processors: Int) throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        void guest_main(void) {
          pci_write(3, 4, 2);
          for (u32 i = 0; i < 2000; i++) {
            u32 base = 0xE0000000 + (i & 0xFF) * 0x10000;
            pci_write(3, 0x14, base);
            // Vector control of the first entry: masked.
            if (M32(base + 12) != 1) finish(1);
          }
          finish(passed);
        }
        """, processors: processors))
    #expect(try conversation.end(seconds: 60) == CompiledGuest.passed)
  }

  @Test("a model specific register that nobody has is #GP, and counted")
  func unknownRegister() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        void interrupt_a(void) { finish(passed); }
        void guest_main(void) {
          gate(13, interrupt_a_entry); load_gates();
          u32 low, high;
          __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0x12345678));
          finish(1);
        }
        """))
    #expect(try conversation.end() == CompiledGuest.passed)
    #expect(conversation.machine.statistics().unknownRegisterAccesses == 1)
  }

  @Test("a guest that halted for good is shown so, and a reset wakes it", arguments: [1, 4])
  func halted(processors: Int) throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        void guest_main(void) { for (;;) __asm__ volatile("cli; hlt"); }
        """, processors: processors))
    let deadline = MonotonicClock.now + 10_000_000_000
    while conversation.machine.runState != .halted && MonotonicClock.now < deadline {
      pauseThread()
    }
    #expect(conversation.machine.runState == .halted)
    conversation.machine.reset()
    while conversation.states.last != .running && MonotonicClock.now < deadline { pauseThread() }
    #expect(conversation.states == [.running, .halted, .running])
  }

  @Test("a guest that waits for an interrupt is not shown as halted")
  func waiting() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        "void guest_main(void) { set_up_8259(); load_gates(); for (;;) wait(); }"))
    #expect(throws: (any Error).self) { try conversation.end(seconds: 4) }
    #expect(conversation.machine.runState == .running)
  }

  private static let emulates = (try? AcceleratorReport().runsOperatingSystems) == false

  @Test(
    "an instruction that KVM cannot emulate ends the run with registers and bytes in one block",
    .enabled(if: emulates, "this host's KVM executes every instruction"))
  func failure() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        void guest_main(void) {
          __asm__ volatile("movl $0x5EED1234, %eax; fwait; nop; nop");
          finish(1);
        }
        """))
    guard case .failed(let report) = try conversation.end() else {
      Issue.record("the guest went on")
      return
    }
    #expect(
      report.hasPrefix("processor 0: the kernel cannot emulate an instruction of the guest\n"))
    #expect(report.contains("RAX=000000005eed1234"))
    #expect(report.contains("bytes at RIP: 9b 90 90"))
    #expect(report.contains("32-bit protected, no paging, CPL 0"))
  }

  @Test("what cannot be is refused in one line")
  func limits() throws {
    var configuration = MachineConfiguration(name: "big")
    configuration.accelerator = .kvm
    configuration.processorCount = 256
    #expect(try refusal(configuration).contains("255"))
    configuration.topology = ProcessorTopology(sockets: 60, cores: 3)
    #expect(try refusal(configuration).contains("60 sockets") == false)
    configuration.topology = ProcessorTopology(sockets: 70, cores: 3)
    #expect(try refusal(configuration).contains("70 sockets"))
    configuration = MachineConfiguration(name: "consoles")
    configuration.consolePorts = 2
    #expect(try refusal(configuration).contains("2 console ports, but 0 back ends"))
    configuration.consolePorts = 17
    #expect(try refusal(configuration).contains("17 console ports"))
  }

  /// Why a machine is not built; empty when it is.
  private func refusal(_ configuration: MachineConfiguration) throws -> String {
    do {
      let machine = try Machine(configuration, serialBackends: []) { _ in }
      machine.stop()
      return ""
    } catch {
      #expect(!error.description.contains("\n"))
      return error.description
    }
  }
}
