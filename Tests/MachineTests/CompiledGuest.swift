import Glibc
import Machine
import Platform
import TestGuests

/// Small guests of a test's own: a C body in 32-bit protected mode without paging, started by multiboot, that ends with
/// `finish(value)`, which is seen as `MachineEnd.debugExit`.
enum CompiledGuest {
  /// What `finish(passed)` is seen as.
  static let passed = MachineEnd.debugExit(status: 0x10 << 1 | 1)

  /// A machine with the guest in it.
  ///
  /// - Parameter body: C, with `guest_main` in it.
  static func configuration(
    _ body: String, chip: InterruptChip = .kernel, processors: Int = 1
  ) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.memorySize = 32 << 20
    configuration.hasDebugExit = true
    configuration.interruptChip = chip
    configuration.processorCount = processors
    configuration.boot = .kernel(path: try build(body), initrd: nil, commandLine: "")
    return configuration
  }

  private static func build(_ body: String) throws -> String {
    let folder = try TestFolder.make("compiled")
    try write(start, to: "\(folder)/start.S")
    try write(prelude + body, to: "\(folder)/body.c")
    let output = "\(folder)/guest"
    let compile = ["/usr/bin/cc", "-m32", "-c"]
    try run(compile + ["\(folder)/start.S", "-o", "\(folder)/start.o"])
    try run(
      compile + [
        "-march=i486", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector",
        "-mgeneral-regs-only", "-fno-asynchronous-unwind-tables", "-O1", "-Wall", "-Werror",
        "-Wno-unused-function", "\(folder)/body.c", "-o", "\(folder)/body.o",
      ])
    try run([
      "/usr/bin/ld", "-m", "elf_i386", "-Ttext", "0x100000", "-e", "start", "-o", output,
      "\(folder)/start.o", "\(folder)/body.o",
    ])
    return output
  }

  private static func run(_ arguments: [String]) throws {
    let result = try TestProcess.run(arguments)
    guard result.status == 0 else {
      throw TestGuestError("\(arguments.joined(separator: " ")): \(result.output)")
    }
  }

  private static func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw TestGuestError("cannot write \(path)") }
    defer { fclose(file) }
    fputs(text, file)
  }

  private static let start = """
    .globl start
    start: jmp begin
    .align 4
    .long 0x1BADB002, 3, -(0x1BADB002 + 3)
    begin:
      movl $stack, %esp
      lgdt descriptor
      ljmp $8, $1f
    1: movl $0x10, %eax
      movl %eax, %ds
      movl %eax, %es
      movl %eax, %ss
      call guest_main
    2: cli
      hlt
      jmp 2b
    // Nested KVM may not emulate IRET at CPL 0: the frame is taken down by hand, and all handlers return to code with
    // interrupts on.
      .macro entry name
      .globl \\name\\()_entry
    \\name\\()_entry:
      pushal
      cld
      call \\name
      popal
      pushl %eax
      movl 4(%esp), %eax
      movl %eax, 12(%esp)
      popl %eax
      leal 8(%esp), %esp
      sti
      ret
      .endm
      entry interrupt_a
      entry interrupt_b
      .weak interrupt_a, interrupt_b
    interrupt_a:
    interrupt_b:
      ret
    .align 8
    gdt: .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
    descriptor:
      .word 23
      .long gdt
    .globl trampoline, trampoline_end
    // Where processors start: real mode. Each counts itself, notes its number as CPUID has it, and halts for good.
    .code16
    trampoline:
      cli
      xorw %ax, %ax
      movw %ax, %ds
      movl $1, %eax
      cpuid
      shrl $24, %ebx
      movl %ebx, %ecx
      movl $1, %eax
      shll %cl, %eax
      lock orl %eax, 0x7004
      lock incl 0x7000
    3: hlt
      jmp 3b
    trampoline_end:
    .bss
    .align 16
    .skip 16384
    stack:
    .section .note.GNU-stack, "", @progbits

    """

  private static let prelude = """
    typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32;
    typedef unsigned long long u64;
    enum { passed = 0x10 };
    #define M8(a) (*(volatile u8 *)(a))
    #define M16(a) (*(volatile u16 *)(a))
    #define M32(a) (*(volatile u32 *)(a))
    static inline void out8(u16 p, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(p)); }
    static inline void out32(u16 p, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(p)); }
    static inline u8 in8(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
    static inline u32 in32(u16 p) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
    static void finish(u8 value) { out8(0xF4, value); for (;;) __asm__ volatile("cli; hlt"); }
    void interrupt_a_entry(void); void interrupt_b_entry(void);
    static u32 idt[512];
    static void gate(int vector, void (*entry)(void)) {
      idt[vector * 2] = ((u32)entry & 0xFFFF) | 0x80000;
      idt[vector * 2 + 1] = ((u32)entry & 0xFFFF0000) | 0x8E00;
    }
    static void load_gates(void) {
      struct { u16 limit; u32 base; } __attribute__((packed)) d = {sizeof idt - 1, (u32)idt};
      __asm__ volatile("lidt %0" ::"m"(d));
    }
    // IRQ 0 to 15 are vectors 0x20 to 0x2F; all masked.
    static void set_up_8259(void) {
      out8(0x20, 0x11); out8(0x21, 0x20); out8(0x21, 4); out8(0x21, 1);
      out8(0xA0, 0x11); out8(0xA1, 0x28); out8(0xA1, 2); out8(0xA1, 1);
      out8(0x21, 0xFF); out8(0xA1, 0xFF);
    }
    static inline void wait(void) { __asm__ volatile("sti; hlt" ::: "memory"); }
    #define LAPIC 0xFEE00000
    #define IOAPIC 0xFEC00000
    #define HPET 0xFED00000
    static void set_up_lapic(void) { M32(LAPIC + 0xF0) = 0x1FF; }
    static void end_of_interrupt(void) { M32(LAPIC + 0xB0) = 0; }
    static void set_pin(u32 pin, u32 entry) {
      M32(IOAPIC) = 0x11 + pin * 2; M32(IOAPIC + 0x10) = 0;
      M32(IOAPIC) = 0x10 + pin * 2; M32(IOAPIC + 0x10) = entry;
    }
    static u32 pci_read(u32 slot, u32 offset) {
      out32(0xCF8, 0x80000000u | slot << 11 | offset); return in32(0xCFC);
    }
    static void pci_write(u32 slot, u32 offset, u32 value) {
      out32(0xCF8, 0x80000000u | slot << 11 | offset); out32(0xCFC, value);
    }

    """
}
