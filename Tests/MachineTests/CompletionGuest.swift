/// Guests whose supervisor code is made of what kernels' emulators lack. They print "NAME ok" for each kind.
enum CompletionGuest {
  /// Lines on COM1.
  static let serial = """
    static void print(const char *text) {
      while (*text) {
        while (!(in8(0x3FD) & 0x20)) {}
        out8(0x3F8, *text++);
      }
    }
    static void check(const char *name, int holds) {
      print(name); print(holds ? " ok\\n" : " bad\\n");
      if (!holds) finish(1);
    }

    """

  static let protectedMode = """
    volatile u32 seen;
    void breakpoint_entry(void);
    __asm__(".globl breakpoint_entry\\nbreakpoint_entry: movl $0x1234, seen\\n iret");
    void guest_main(void) {
      u16 status = 1;
      __asm__ volatile("fninit; fwait");
      check("fwait", 1);
      double sum = 0;
      __asm__ volatile("fld1; fld1; faddp; fld1; faddp; fstpl %0; fnstsw %1" : "=m"(sum), "=m"(status));
      check("x87", ((u32 *)&sum)[1] == 0x40080000 && ((u32 *)&sum)[0] == 0 && (status & 0x3F) == 0);
      u32 before, after, flags;
      __asm__ volatile(
          "movl %%esp, %0; pushfl; orl $0x81, (%%esp); pushl %%cs; pushl $1f; iret\\n"
          "1: pushfl; popl %2; movl %%esp, %1"
          : "=&r"(before), "=&r"(after), "=&r"(flags) :: "cc", "memory");
      check("iret", before == after && (flags & 0x81) == 0x81);
      gate(3, breakpoint_entry); load_gates();
      __asm__ volatile("int3" ::: "memory");
      check("int3", seen == 0x1234);
      finish(passed);
    }
    """

  /// Switches to long mode and does each kind there: 64-bit code in a 32-bit program.
  static let longMode = """
    typedef struct { u64 entries[512]; } table;
    static table tables[3] __attribute__((aligned(4096)));
    u32 idt64[4 * 32];
    extern volatile u8 block64[];
    void long_mode(void); void breakpoint64(void); void invalid64(void);
    static void gate64(int vector, void (*entry)(void)) {
      idt64[vector * 4] = ((u32)entry & 0xFFFF) | 0x80000;
      idt64[vector * 4 + 1] = ((u32)entry & 0xFFFF0000) | 0x8E00;
    }
    u32 top_table;
    void guest_main(void) {
      tables[0].entries[0] = (u32)&tables[1] | 3;
      tables[1].entries[0] = (u32)&tables[2] | 3;
      for (u32 i = 0; i < 512; i++) tables[2].entries[i] = (u64)i << 21 | 0x83;
      top_table = (u32)&tables[0];
      gate64(3, breakpoint64); gate64(6, invalid64);
      long_mode();
      const char *names[] = {"int3", "sse", "cmpxchg16b", "stac", "fxrstor", "xrstor", "ud2", "xsave"};
      for (int i = 0; i < 8; i++) check(names[i], block64[i] == 1);
      finish(passed);
    }
    __asm__(
    ".code32\\n"
    ".globl long_mode, breakpoint64, invalid64\\n"
    "long_mode: pushl %ebx; pushl %esi; pushl %edi; pushl %ebp; movl %esp, saved_esp\\n"
    // PAE, OSFXSR, OSXMMEXCPT; MP.
    "  movl %cr4, %eax; orl $0x620, %eax; movl %eax, %cr4\\n"
    "  movl top_table, %eax; movl %eax, %cr3\\n"
    "  movl $0xC0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr\\n"
    "  lgdt descriptor64\\n"
    "  movl %cr0, %eax; andl $~4, %eax; orl $0x80000002, %eax; movl %eax, %cr0\\n"
    "  ljmp $8, $in64\\n"
    ".code64\\n"
    // What it works on: results, two vectors, their sum, a pair, an FXSAVE area, the IDT's descriptor.
    "in64: movl $block64, %edi; lidt 608(%rdi); andq $-16, %rsp; subq $32, %rsp\\n"
    "  xorl %ebx, %ebx; int3; cmpl $0x1234, %ebx; sete (%rdi)\\n"
    "  movaps 32(%rdi), %xmm0; movaps 48(%rdi), %xmm9; addps %xmm9, %xmm0; movaps %xmm0, 64(%rdi)\\n"
    "  movl $0x40400000, %eax; movd %xmm0, %ecx; cmpl %eax, %ecx; jne 1f\\n"
    "  cmpl %eax, 76(%rdi); jne 1f; movb $1, 1(%rdi)\\n"
    "1: movq $1, %rax; movq $2, %rdx; movq $3, %rbx; movq $4, %rcx\\n"
    "  lock cmpxchg16b 80(%rdi); jnz 2f; cmpq $3, 80(%rdi); jne 2f; cmpq $4, 88(%rdi); jne 2f\\n"
    "  cmpxchg16b 80(%rdi); jz 2f; cmpq $3, %rax; jne 2f; cmpq $4, %rdx; jne 2f\\n"
    "  movb $1, 2(%rdi)\\n"
    "2: stac; pushfq; popq %rax; clac; pushfq; popq %rcx\\n"
    "  testl $0x40000, %eax; jz 3f; testl $0x40000, %ecx; jnz 3f; movb $1, 3(%rdi)\\n"
    "3: fxsave 96(%rdi); xorps %xmm0, %xmm0; fxrstor 96(%rdi); movd %xmm0, %ecx\\n"
    "  cmpl $0x40400000, %ecx; jne 4f; movb $1, 4(%rdi)\\n"
    // CR4.OSXSAVE is clear.
    "4: xorl %ebx, %ebx; movl $3, %esi; movl $3, %eax; xorl %edx, %edx; xrstor (%rdi)\\n"
    "  cmpl $0x5678, %ebx; jne 5f; movb $1, 5(%rdi)\\n"
    "5: xorl %ebx, %ebx; movl $2, %esi; ud2\\n"
    "  cmpl $0x5678, %ebx; jne 6f; movb $1, 6(%rdi)\\n"
    // XSAVE itself, where CPUID has it: SSE there and back, then its initial values.
    "6: movl $1, %eax; cpuid; btl $26, %ecx; jnc 8f\\n"
    "  movq %cr4, %rax; orl $0x40000, %eax; movq %rax, %cr4\\n"
    "  xorl %ecx, %ecx; xorl %edx, %edx; movl $3, %eax; xsetbv; xorl %eax, %eax; xgetbv\\n"
    "  cmpl $3, %eax; jne 9f; movl $xsave_area, %esi; movaps 48(%rdi), %xmm3; xsave (%rsi)\\n"
    "  xorps %xmm3, %xmm3; movl $2, %eax; xrstor (%rsi); movd %xmm3, %ecx\\n"
    "  cmpl $0x40000000, %ecx; jne 9f; testb $2, 512(%rsi); jz 9f; cmpq $0, 520(%rsi); jne 9f\\n"
    "  movl $0, 512(%rsi); movl $3, %eax; xrstor (%rsi); movd %xmm3, %ecx\\n"
    "  testl %ecx, %ecx; jnz 9f\\n"
    "8: movb $1, 7(%rdi)\\n"
    "9: pushq $0x18; movl $out64, %eax; pushq %rax; lretq\\n"
    "breakpoint64: movl $0x1234, %ebx; iretq\\n"
    // ESI: bytes to skip.
    "invalid64: movl $0x5678, %ebx; addq %rsi, (%rsp); iretq\\n"
    ".code32\\n"
    "out64: movl %cr0, %eax; andl $0x7FFFFFFF, %eax; movl %eax, %cr0\\n"
    "  movl saved_esp, %esp; popl %ebp; popl %edi; popl %esi; popl %ebx; ret\\n"
    ".data\\n.align 64\\nxsave_area: .skip 4096\\n"
    ".globl block64\\n"
    "block64: .skip 32\\n.float 1, 1, 1, 1, 2, 2, 2, 2\\n.skip 16\\n.quad 1, 2\\n.skip 512\\n"
    ".word 511\\n.long idt64, 0\\n"
    "saved_esp: .long 0\\n"
    "gdt64: .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CF9B000000FFFF\\n"
    "descriptor64: .word 31\\n.long gdt64\\n"
    ".text\\n");
    """
}
