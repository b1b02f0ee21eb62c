import KVM
import Machine
import Processor
import TestGuests
import Testing

/// A guest that is saved under one accelerator and goes on under the other.
@Suite(
  .serialized, .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct CrossingTests {
  /// Computes in kernel mode; asked for it with a 'q', it does all of that once more from the start and compares.
  private static let guest =
    CompletionGuest.serial + """
      static u32 table[1024], again[1024];
      static u32 step(u32 x, u32 n, u32 *into) {
        x = x * 1664525 + 1013904223;
        into[x >> 22] ^= x + n;
        return x;
      }
      void guest_main(void) {
        u32 x = 1, n = 0, most = 20000;
        print("counts\\n");
        while (1) {
          // Not further than the slowest of them can compute again.
          if (n < most) x = step(x, ++n, table);
          if (n % 1024 && n < most) continue;
          if (!(in8(0x3FD) & 1)) continue;
          if (in8(0x3F8) == 'e') finish(passed);
          most += 20000;
          u32 y = 1;
          for (u32 i = 0; i < 1024; i++) again[i] = 0;
          for (u32 i = 1; i <= n; i++) y = step(y, i, again);
          int same = x == y;
          for (u32 i = 0; i < 1024; i++) same &= table[i] == again[i];
          check("count", same);
        }
      }
      """

  private func configuration(
    _ accelerator: Accelerator, _ chip: InterruptChip
  ) throws -> MachineConfiguration {
    var configuration = try CompiledGuest.configuration(Self.guest, chip: chip)
    configuration.accelerator = accelerator
    // What both have.
    configuration.processorModel = .v1
    return configuration
  }

  private func ask(_ conversation: GuestConversation) throws {
    conversation.send("q")
    try conversation.expect("count ok\n")
  }

  @Test(
    "It goes on there, and back, in the middle of what it does",
    arguments: [[Accelerator.kvm, .soft, .kvm], [.soft, .kvm, .soft]])
  func thereAndBack(way: [Accelerator]) throws {
    let folder = try TestFolder.make("crossing")
    var configuration = try configuration(way[0], .split)
    var conversation = try GuestConversation(configuration)
    try conversation.expect("counts\n")
    try ask(conversation)
    for (index, accelerator) in way.dropFirst().enumerated() {
      let path = "\(folder)/\(index)"
      _ = try conversation.machine.saveState(to: path, SaveOptions(ends: true)) {}
      #expect(try conversation.end() == .suspended)
      configuration.accelerator = accelerator
      configuration.savedState = path
      conversation = try GuestConversation(configuration)
      try ask(conversation)
    }
    conversation.send("e")
    #expect(try conversation.end() == CompiledGuest.passed)
  }

  /// Counts what comes through the 8254 and the 8259A, and through the local APIC's own timer; asked for it with a 'q', it
  /// waits for ten more of each.
  private static let ticking =
    CompletionGuest.serial + """
      static volatile u32 ticks, own;
      void interrupt_a(void) { ticks++; out8(0x20, 0x20); }
      void interrupt_b(void) { own++; end_of_interrupt(); }
      void guest_main(void) {
        gate(0x20, interrupt_a_entry); gate(0x40, interrupt_b_entry); load_gates();
        set_up_8259(); set_up_lapic();
        out8(0x43, 0x34); out8(0x40, 11932 & 0xFF); out8(0x40, 11932 >> 8);
        out8(0x21, 0xFE);
        // The 8259A comes in at LINT0; the timer repeats, its clock divided by 16.
        M32(LAPIC + 0x350) = 0x700;
        M32(LAPIC + 0x3E0) = 3; M32(LAPIC + 0x320) = 0x20040; M32(LAPIC + 0x380) = 1000000;
        print("ticks\\n");
        while (1) {
          wait();
          if (!(in8(0x3FD) & 1)) continue;
          if (in8(0x3F8) == 'e') finish(passed);
          u32 a = ticks, b = own;
          while (ticks - a < 10 || own - b < 10) wait();
          check("both", 1);
        }
      }
      """

  @Test(
    "With the standard chips, the kernel's here and ours there, interrupts go on arriving",
    arguments: [[Accelerator.kvm, .soft, .kvm], [.soft, .kvm, .soft]])
  func kernelChips(way: [Accelerator]) throws {
    let folder = try TestFolder.make("crossing")
    var configuration = try CompiledGuest.configuration(Self.ticking, chip: .kernel)
    configuration.accelerator = way[0]
    configuration.processorModel = .v1
    var conversation = try GuestConversation(configuration)
    try conversation.expect("ticks\n")
    for index in way.indices {
      conversation.send("q")
      try conversation.expect("both ok\n")
      guard index + 1 < way.count else { break }
      let path = "\(folder)/\(index)"
      _ = try conversation.machine.saveState(to: path, SaveOptions(ends: true)) {}
      #expect(try conversation.end() == .suspended)
      configuration.accelerator = way[index + 1]
      configuration.savedState = path
      conversation = try GuestConversation(configuration)
    }
    conversation.send("e")
    #expect(try conversation.end() == CompiledGuest.passed)
  }

  @Test("What the processor there does not have is named") func features() throws {
    let path = try TestFolder.make("crossing") + "/state"
    var configuration = try configuration(.soft, .split)
    configuration.processorModel = .host
    let conversation = try GuestConversation(configuration)
    try conversation.expect("counts\n")
    _ = try conversation.machine.saveState(to: path, SaveOptions(ends: true)) {}
    configuration.savedState = path
    configuration.accelerator = .kvm
    guard case .emulatesSupervisorMode = KVMSystem.probe() else { return }
    // Such a kernel's guests are not shown all that software has.
    let error = #expect(throws: MachineError.self) { _ = try GuestConversation(configuration) }
    #expect(
      error?.description.contains("uses a processor with what this one does not have: leaf") == true
    )
  }
}
