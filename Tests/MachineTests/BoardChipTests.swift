import Machine
import Testing

/// The board's chips at work together, with the kernel's interrupt chips and with ours.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardChipTests {
  private func run(_ body: String, _ chip: InterruptChip) throws -> MachineEnd {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(body, chip: chip))
    return try conversation.end()
  }

  @Test("the 8254's ticks come through the 8259A", arguments: InterruptChip.allCases)
  func intervalTimer(chip: InterruptChip) throws {
    let end = try run(
      """
      static volatile u32 ticks;
      void interrupt_a(void) { ticks++; out8(0x20, 0x20); }
      void guest_main(void) {
        set_up_8259(); gate(0x20, interrupt_a_entry); load_gates();
        out8(0x43, 0x34); out8(0x40, 11932 & 0xFF); out8(0x40, 11932 >> 8);
        u32 start = M32(HPET + 0xF0); M32(HPET + 0x10) = 1;
        out8(0x21, 0xFE);
        while (ticks < 10) wait();
        u32 elapsed = M32(HPET + 0xF0) - start;
        // Ten ticks of 10 ms in units of 10 ns; late ticks are made up for.
        finish(elapsed >= 8900000 ? passed : 1);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }

  @Test("counter 2 and its gate and output at port 0x61", arguments: InterruptChip.allCases)
  func speakerTimer(chip: InterruptChip) throws {
    let stopped = "for (int i = 0; i < 5000; i++) if (in8(0x61) & 0x20) finish(2);"
    let end = try run(
      """
      void guest_main(void) {
        out8(0x61, 0);
        out8(0x43, 0xB0); out8(0x42, 11932 & 0xFF); out8(0x42, 11932 >> 8);
        if (in8(0x61) & 0x20) finish(1);
        // The kernel's counter 2 does not mind its gate in mode 0.
        \(chip == .split ? stopped : "")
        out8(0x61, 1);
        while (!(in8(0x61) & 0x20)) {}
        finish(passed);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }

  @Test(
    "the clock's periodic interrupt comes through the second 8259A",
    arguments: InterruptChip.allCases)
  func realTimeClock(chip: InterruptChip) throws {
    let end = try run(
      """
      static volatile u32 ticks;
      void interrupt_a(void) {
        ticks++; out8(0x70, 0x0C); (void)in8(0x71); out8(0xA0, 0x20); out8(0x20, 0x20);
      }
      void guest_main(void) {
        set_up_8259(); gate(0x28, interrupt_a_entry); load_gates();
        out8(0x70, 0x0A); out8(0x71, 0x2A);  // 64 Hz
        out8(0x70, 0x0B); out8(0x71, 0x42);
        out8(0x70, 0x0C); (void)in8(0x71);
        out8(0x21, 0xFB); out8(0xA1, 0xFE);
        while (ticks < 5) wait();
        finish(passed);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }

  @Test(
    "the event timer takes the place of the 8254 on IRQ 0 and gives it back",
    arguments: InterruptChip.allCases)
  func legacyReplacement(chip: InterruptChip) throws {
    let end = try run(
      """
      static volatile u32 ticks;
      void interrupt_a(void) { ticks++; out8(0x20, 0x20); }
      void guest_main(void) {
        set_up_8259(); gate(0x20, interrupt_a_entry); load_gates();
        out8(0x43, 0x34); out8(0x40, 1193 & 0xFF); out8(0x40, 1193 >> 8);  // 1 kHz, to be cut off
        M32(HPET + 0x10) = 0;
        M32(HPET + 0xF0) = 0; M32(HPET + 0xF4) = 0;
        M32(HPET + 0x100) = 0x14C;  // periodic, 32 bits, interrupt on
        M32(HPET + 0x108) = 1000000;  // 10 ms
        M32(HPET + 0x10) = 3;
        out8(0x21, 0xFE);
        ticks = 0;
        while (ticks < 10) wait();
        u32 elapsed = M32(HPET + 0xF0);
        // One tick of the 8254 may have been waiting.
        if (elapsed < 8900000) finish(1);
        M32(HPET + 0x10) = 1;
        u32 start = M32(HPET + 0xF0);
        ticks = 0;
        M32(HPET + 0x100) = 0;
        while (ticks < 20) wait();
        elapsed = M32(HPET + 0xF0) - start;
        finish(elapsed < 15000000 ? passed : 2);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }

  @Test(
    "a level-triggered I/O APIC pin comes again after each end of interrupt, and not before",
    arguments: InterruptChip.allCases)
  func levelTriggered(chip: InterruptChip) throws {
    let end = try run(
      """
      static volatile u32 ticks;
      void interrupt_a(void) {
        // Nested KVM may add interrupts without a reason: software must bear them.
        if (M32(HPET + 0x20) & 1) {
          ticks++;
          // The line stays up over the first end of interrupt: the same interrupt comes again.
          if (ticks != 1) M32(HPET + 0x20) = 1;
        }
        end_of_interrupt();
      }
      void guest_main(void) {
        set_up_8259(); gate(0x50, interrupt_a_entry); load_gates(); set_up_lapic();
        set_pin(20, 0x8050);
        M32(HPET + 0x10) = 0;
        M32(HPET + 0xF0) = 0; M32(HPET + 0xF4) = 0;
        M32(HPET + 0x100) = 0x14E | 20 << 9;  // level, periodic, 32 bits, interrupt on
        M32(HPET + 0x108) = 1000000;
        M32(HPET + 0x10) = 1;
        while (ticks < 2) __asm__ volatile("sti; nop; nop; cli" ::: "memory");
        if (M32(HPET + 0xF0) < 900000) finish(1);
        while (ticks < 6) wait();
        // Six interrupts, the second at once after the first: five periods.
        finish(M32(HPET + 0xF0) >= 4900000 ? passed : 2);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }

  @Test("DMA registers and page registers keep what is written", arguments: InterruptChip.allCases)
  func directMemoryAccess(chip: InterruptChip) throws {
    let end = try run(
      """
      void guest_main(void) {
        out8(0x0C, 0); out8(0x02, 0x34); out8(0x02, 0x12); out8(0x83, 0x56);
        out8(0x0C, 0);
        u8 low = in8(0x02), high = in8(0x02);
        out8(0x80, 0x77);
        finish(low == 0x34 && high == 0x12 && in8(0x83) == 0x56 ? passed : 1);
      }
      """, chip)
    #expect(end == CompiledGuest.passed)
  }
}
