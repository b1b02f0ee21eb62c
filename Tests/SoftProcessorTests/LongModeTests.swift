import Processor
import Testing

/// Long mode: delivery with 64-bit gates and IST, system calls, ring 3, compatibility mode.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct LongModeTests {
  private func run(_ body: String) throws -> [UInt32] {
    let code = try Assembler.assemble(Self.source(body), bits: 64)
    let fixture = try SystemFixture()
    let outcome = try fixture.run(
      code, from: .flat32(entry: UInt32(SystemFixture.origin), codeSelector: 0x08))
    #expect(outcome.end == .finished)
    return outcome.log
  }

  /// Selectors: 0x08 code 64, 0x10 data, 0x18 code 32 ring 3, 0x20 data ring 3, 0x28 code 64 ring 3, 0x30 task state,
  /// 0x40 code 32. Handlers log vector, error code, the low word of CR2 for #PF, and go on at `resume`.
  private static func source(_ body: String) -> String {
    """
    .macro LOG value
      movq \\value, %rax
      outl %eax, $0xE0
    .endm
    .macro EXPECT label
      movq $\\label, resume
    .endm
    .globl _start
    .text
    .code32
    _start:
      # 1 GiB in 2 MiB pages: PML4 at 0x100000, pointers at 0x101000, directory at 0x102000.
      movl $0x101007, 0x100000
      movl $0x102007, 0x101000
      movl $0x102000, %edi
      movl $0x87, %eax
      movl $512, %ecx
    1: movl %eax, (%edi)
      movl $0, 4(%edi)
      addl $8, %edi
      addl $0x200000, %eax
      loop 1b
      # 1 GiB page at 1 GiB.
      movl $0x00000087, 0x101008
      movl $0x100000, %eax
      movl %eax, %cr3
      movl $0xA0, %eax
      movl %eax, %cr4
      movl $0xC0000080, %ecx
      movl $0x901, %eax
      xorl %edx, %edx
      wrmsr
      movl %cr0, %eax
      orl $0x80010000, %eax
      movl %eax, %cr0
      lgdt gdtr
      ljmp $0x08, $1f
    .code64
    1: movl $0x10, %eax
      movl %eax, %ds
      movl %eax, %es
      movl %eax, %ss
      movq $0x9F000, %rsp
      movl $tss, %eax
      movw %ax, gdt + 0x32
      shrl $16, %eax
      movb %al, gdt + 0x34
      movl $idt, %edi
      movl $stubs, %eax
      movl $32, %ecx
    2: movw %ax, (%rdi)
      movw $0x08, 2(%rdi)
      movw $0xEE00, 4(%rdi)
      movl %eax, %edx
      shrl $16, %edx
      movl %edx, 6(%rdi)
      addq $16, %rdi
      addl $16, %eax
      loop 2b
      lidt idtr
      movl $0x30, %eax
      ltr %ax
      jmp body
    finish:
      outl %eax, $0xF4
      jmp finish

    .balign 16
    stubs:
    .set vector, 0
    .rept 32
      .balign 16
      .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
      .else
      pushq $0
      .endif
      pushq $vector
      jmp handler
      .set vector, vector + 1
    .endr
    handler:
      pushq %rax
      pushq %rcx
      movq 16(%rsp), %rcx
      leaq 0xE000(%rcx), %rax
      outl %eax, $0xE0
      cmpl $8, %ecx
      je 1f
      cmpl $10, %ecx
      jb 2f
      cmpl $14, %ecx
      ja 2f
    1: movq 24(%rsp), %rax
      outl %eax, $0xE0
    2: cmpl $14, %ecx
      jne 3f
      movq %cr2, %rax
      outl %eax, $0xE0
    3: movq %rsp, laststack
      movq 40(%rsp), %rax
      movq %rax, lastcode
      movq resume, %rax
      testq %rax, %rax
      jz 4f
      movq %rax, 32(%rsp)
      movq $0, resume
    4: popq %rcx
      popq %rax
      addq $16, %rsp
      iretq

    .balign 8
    resume: .quad 0
    laststack: .quad 0
    lastcode: .quad 0
    gdtr: .word 0x4F
      .long gdt
      .long 0
    idtr: .word 0x1FF
      .quad idt
    .balign 8
    gdt:
      .quad 0
      .quad 0x00AF9A000000FFFF
      .quad 0x00CF92000000FFFF
      .quad 0x00CFFA000000FFFF
      .quad 0x00CFF2000000FFFF
      .quad 0x00AFFA000000FFFF
      .quad 0x0000890000000067
      .quad 0
      .quad 0x00CF9A000000FFFF
      .quad 0
    .balign 16
    tss:
      .long 0
      .quad 0x9E008
      .quad 0, 0
      .quad 0
      .quad 0x9C008
      .fill 64, 1, 0
    .balign 16
    idt: .fill 512, 1, 0
    body:
    \(body)
    """
  }

  @Test func exceptionsAlignTheStackAndUseIST() throws {
    let log = try run(
      """
        movb $1, idt + 12 * 16 + 4
        movq $0x9EFF8, %rsp
        EXPECT 1f
        ud2
        # Stub and handler have pushed 32 bytes below a frame of 40 on a stack cut to 16.
      1: LOG laststack
        movb $1, idt + 3 * 16 + 4
        int3
        LOG laststack
        # The address is not canonical.
        movq $0x0000900000000000, %rbx
        EXPECT 1f
        movq (%rbx), %rax
      1: EXPECT 1f
        movq %rsp, %rbp
        movq %rbx, %rsp
        pushq %rax
      1: movq %rbp, %rsp
        EXPECT 1f
        movq %rbp, %rcx
        movq %rbx, %rbp
        movq (%rbp), %rax
      1: # Where an operand must be aligned, that comes first.
        EXPECT 1f
        cmpxchg16b 2(%rbp)
      1: EXPECT 1f
        cmpxchg16b (%rbp)
      1: # Beyond what is mapped.
        movq $0x80000000, %rbx
        EXPECT 1f
        movq (%rbx), %rax
      1: # The same memory through a page of 1 GiB.
        movl $0x12345678, 0x300000
        LOG 0x40300000
        jmp finish
      """)
    let expected: [UInt32] = [
      0xE006, 0x9EFF0 - 40 - 32, 0xE003, 0x9C000 - 40 - 32, 0xE00D, 0, 0xE00C, 0, 0xE00C,
      0, 0xE00D, 0, 0xE00C, 0, 0xE00E, 0, 0x8000_0000, 0x1234_5678,
    ]
    #expect(log == expected)
  }

  @Test func systemCallsAndRing3() throws {
    let log = try run(
      """
        movl $0xC0000081, %ecx
        xorl %eax, %eax
        movl $0x00180008, %edx
        wrmsr
        movl $0xC0000082, %ecx
        movl $entry, %eax
        xorl %edx, %edx
        wrmsr
        movl $0xC0000084, %ecx
        movl $0x4700, %eax
        xorl %edx, %edx
        wrmsr
        movl $0xC0000101, %ecx
        movl $0x1000, %eax
        xorl %edx, %edx
        wrmsr
        movl $0xC0000102, %ecx
        movl $0x2000, %eax
        xorl %edx, %edx
        wrmsr
        pushq $0x23
        pushq $0x8F000
        pushq $0x3202
        pushq $0x2B
        pushq $user
        iretq
      user:
        movq %cs, %rax
        LOG %rax
        movq %ss, %rax
        LOG %rax
        movl $1, %edi
        syscall
        # Back in ring 3, IF as it was.
        movq %cs, %rax
        LOG %rax
        pushfq
        popq %rax
        andl $0x200, %eax
        LOG %rax
        EXPECT 1f
        hlt
      1: EXPECT 1f
        swapgs
      1: # The handler ran on RSP0.
        LOG laststack
        # Compatibility mode.
        pushq $0x1B
        pushq $compatible
        lretq
        .code32
      compatible:
        movl %cs, %eax
        outl %eax, $0xE0
        movl $0x23, %eax
        movl %eax, %ds
        movl $0x80000000, %ebx
        addl %ebx, %ebx
        movl %ebx, %eax
        outl %eax, $0xE0
        int3
        ljmp $0x2B, $back
        .code64
      back:
        movl $2, %edi
        syscall
      entry:
        cmpl $2, %edi
        je finish
        movq %cs, %rax
        LOG %rax
        movq %ss, %rax
        LOG %rax
        pushfq
        popq %rax
        andl $0x200, %eax
        LOG %rax
        movq %r11, %rax
        andl $0x3200, %eax
        LOG %rax
        swapgs
        movl $0xC0000101, %ecx
        movq $0, saved
        pushq %rcx
        popq %rcx
        rdmsr
        LOG %rax
        movq $aftercall, %rcx
        sysretq
        saved: .quad 0
      aftercall = user + 0
      """.replacing("movq $aftercall, %rcx", with: "movq %r12, %rcx")
        .replacing("cmpl $2, %edi", with: "movq %rcx, %r12\n  cmpl $2, %edi")
        .replacing("aftercall = user + 0", with: ""))
    let expected: [UInt32] = [
      0x2B, 0x23, 0x08, 0x10, 0, 0x3200, 0x2000, 0x2B, 0x200, 0xE00D, 0, 0xE00D, 0,
      0x9E000 - 40 - 32, 0x1B, 0, 0xE003,
    ]
    #expect(log == expected)
  }

  @Test func moreThanOneLevelOfFault() throws {
    let log = try run(
      """
        # The page fault's own handler is beyond the table: a double fault, not a triple.
        movw $0xDF, idtr
        lidt idtr
        EXPECT 1f
        movq $0x80000000, %rbx
        movq (%rbx), %rax
      1: movw $0x1FF, idtr
        lidt idtr
        # #DF needs an IST when the stack itself is gone.
        movb $1, idt + 8 * 16 + 4
        movq %rsp, %rbp
        movq $0xC0000000, %rsp
        EXPECT 1f
        ud2
      1: movq %rbp, %rsp
        LOG $0x600D
        jmp finish
      """)
    let expected: [UInt32] = [0xE008, 0, 0xE008, 0, 0x600D]
    #expect(log == expected)
  }
}
