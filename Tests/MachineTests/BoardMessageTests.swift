import Devices
import GuestMemory
import KVM
import Machine
import Processor
import Testing

/// MSI-X and memory behind PCI base addresses.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardMessageTests {
  @Test(
    "MSI-X of the entropy device: delivered, held while masked, delivered on unmasking",
    arguments: InterruptChip.allCases)
  func messages(chip: InterruptChip) throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        static volatile u32 count;
        void interrupt_a(void) { count++; end_of_interrupt(); }
        static volatile u32 others;
        void interrupt_b(void) { others++; end_of_interrupt(); }
        static struct { u64 address; u32 length; u16 flags, next; } table[8] __attribute__((aligned(16)));
        static volatile u16 available[16] __attribute__((aligned(16)));
        static volatile u32 used[32] __attribute__((aligned(16)));
        static u8 buffer[64];
        static u32 common, notify, multiplier, vectors;
        static void find(void) {
          for (u32 at = pci_read(3, 0x34) & 0xFF; at; at = pci_read(3, at) >> 8 & 0xFF) {
            u32 head = pci_read(3, at);
            if ((head & 0xFF) == 0x11) vectors = at;
            if ((head & 0xFF) != 9) continue;
            u32 base = 0xE0100000 + pci_read(3, at + 8);
            if (head >> 24 == 1) common = base;
            if (head >> 24 == 2) { notify = base; multiplier = pci_read(3, at + 16); }
          }
        }
        static void ask(void) {
          available[2 + (available[1] & 7)] = 0;
          available[1]++;
          M16(notify + M16(common + 0x1E) * multiplier) = 0;
        }
        void guest_main(void) {
          set_up_8259(); gate(0x51, interrupt_a_entry); load_gates(); set_up_lapic();
          if (pci_read(3, 0) != 0x10051AF4) finish(1);
          pci_write(3, 0x14, 0xE0000000); pci_write(3, 0x20, 0xE0100000); pci_write(3, 0x24, 0);
          pci_write(3, 4, 6);
          find();
          if (!common || !notify || !vectors) finish(2);
          M32(0xE0000010) = 0xFEE00000; M32(0xE0000014) = 0; M32(0xE0000018) = 0x51;
          M32(0xE000001C) = 0;
          pci_write(3, vectors, 0x80000000);
          M8(common + 0x14) = 0; M8(common + 0x14) = 1; M8(common + 0x14) = 3;
          M32(common + 8) = 1; M32(common + 12) = 1; M32(common + 8) = 0; M32(common + 12) = 0;
          M8(common + 0x14) = 11;
          if (M8(common + 0x14) != 11) finish(3);
          M16(common + 0x16) = 0; M16(common + 0x18) = 8; M16(common + 0x1A) = 1;
          M32(common + 0x20) = (u32)table; M32(common + 0x24) = 0;
          M32(common + 0x28) = (u32)available; M32(common + 0x2C) = 0;
          M32(common + 0x30) = (u32)used; M32(common + 0x34) = 0;
          M16(common + 0x1C) = 1;
          M8(common + 0x14) = 15;
          table[0].address = (u32)buffer; table[0].length = sizeof buffer; table[0].flags = 2;
          ask();
          while (count < 1) wait();
          if (used[0] >> 16 != 1) finish(4);
          M32(0xE000001C) = 1;
          ask();
          while (used[0] >> 16 != 2) {}
          // The device's thread tells after it has given the buffer back.
          while (!(M32(0xE0000800) & 2)) {}
          if (count != 1) finish(5);
          M32(0xE000001C) = 0;
          while (count < 2) wait();
          if (M32(0xE0000800)) finish(6);
          // Another vector: the route follows.
          gate(0x52, interrupt_b_entry);
          M32(0xE0000018) = 0x52;
          ask();
          while (!others && count < 3) wait();
          finish(others == 1 && count == 2 ? passed : 7);
        }
        """, chip: chip))
    #expect(try conversation.end() == CompiledGuest.passed)
  }

  @Test("an option ROM is read-only memory of the guest's, and refuses to lie over RAM")
  func optionROM() throws {
    let machine = try KVMSystem().makeVirtualMachine()
    let memory = try GuestMemory(size: 1 << 20)
    try machine.setMemory(memory)
    let processor = try machine.makeProcessor(index: 0)
    let mapper = KernelRegionMapper(machine, slots: 16..<17)
    let region = PCIRegion(contents: [0x55, 0xAA])
    let other = PCIRegion(contents: [1])
    #expect(!mapper.mapRegion(region, at: GuestAddress(0x8_0000)))
    #expect(mapper.mapRegion(region, at: GuestAddress(0xC000_0000)))
    #expect(!mapper.mapRegion(other, at: GuestAddress(0xC010_0000)), "there is one slot")
    // movzx eax, word [0xC0000000]; out 0x80, ax; mov [0xC0000000], al; out 0x80, al
    let code: [UInt8] = [
      0x0F, 0xB7, 0x05, 0, 0, 0, 0xC0, 0x66, 0xE7, 0x80, 0xA2, 0, 0, 0, 0xC0, 0xE6, 0x80,
    ]
    try memory.write(code, at: GuestAddress(0x1000))
    var state = try processor.saveState()
    let flat = ProcessorState.flat32(entry: 0x1000, codeSelector: 8, globalTable: DescriptorTable())
    state = flat
    try processor.restoreState(state)
    guard case .portWrite(port: 0x80, width: .word, _, let data) = try processor.run() else {
      Issue.record("no port access")
      return
    }
    #expect(data.load(as: UInt16.self) == 0xAA55)
    guard case .memoryWrite(let address, 1, _) = try processor.run() else {
      Issue.record("the ROM was written")
      return
    }
    #expect(address == GuestAddress(0xC000_0000))
    mapper.unmapRegion(region, at: GuestAddress(0xC000_0000))
    try processor.restoreState(flat)
    guard case .memoryRead(GuestAddress(0xC000_0000), 2, _) = try processor.run() else {
      Issue.record("the ROM is still there")
      return
    }
    #expect(mapper.mapRegion(other, at: GuestAddress(0xC010_0000)))
  }
}
