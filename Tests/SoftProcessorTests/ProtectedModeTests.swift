import Processor
import Testing

/// 32-bit protected mode: exceptions, segments, privilege, tasks, debugging. What the programs log is what the manuals
/// say; each list is in the program's order.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct ProtectedModeTests {
  private func run(_ body: String, end: SystemFixture.End = .finished) throws -> [UInt32] {
    let code = try Assembler.assemble(SystemProgram32.source(body), bits: 32)
    let fixture = try SystemFixture()
    let outcome = try fixture.run(
      code, from: .flat32(entry: UInt32(SystemFixture.origin), codeSelector: 0x08))
    #expect(outcome.end == end)
    return outcome.log
  }

  @Test func exceptionsPushWhatTheyShould() throws {
    let log = try run(
      """
        EXPECT 1f
        xorl %ecx, %ecx
        xorl %edx, %edx
        divl %ecx
      1: EXPECT 1f
        ud2
      1: int3
        movl $0x7FFFFFFF, %eax
        addl $1, %eax
        into
        EXPECT 1f
        movl $0x1234, %eax
        movw %ax, %ds
      1: EXPECT 1f
        movl $0x58, %eax
        movw %ax, %es
      1: EXPECT 1f
        movl $0x58, %eax
        movw %ax, %ss
      1: EXPECT 1f
        movl $0x80, %eax
        movw %ax, %ss
      1: EXPECT 1f
        xorl %eax, %eax
        movw %ax, %ss
      1: EXPECT 1f
        int $0x30
      1: LOG $0x600D
        jmp finish
      """)
    let expected: [UInt32] = [
      0xE000, 0xE006, 0xE003, 0xE004, 0xE00D, 0x1234, 0xE00B, 0x58, 0xE00C, 0x58, 0xE00D, 0x80,
      0xE00D, 0, 0xE00D, 0x182, 0x600D,
    ]
    #expect(log == expected)
  }

  @Test func segmentsHaveLimitsAndTypes() throws {
    let log = try run(
      """
        movl $0x48, %eax
        movw %ax, %fs
        movl $0x11223344, %fs:0xFFC
        EXPECT 1f
        movl $1, %fs:0xFFD
      1: movl %fs:0xFFC, %eax
        LOG %eax
        LOG 0x20FFC
        movl $0x80, %eax
        movw %ax, %gs
        movl %gs:0x20FFC, %eax
        LOG %eax
        EXPECT 1f
        movl %eax, %gs:0x20FFC
      1: xorl %eax, %eax
        movw %ax, %gs
        EXPECT 1f
        movl %gs:0, %eax
      1: EXPECT 1f
        movl %eax, %cs:0x20000
      1: movl $0x48, %eax
        lsl %ax, %ebx
        LOG %ebx
        movl $0x48, %eax
        lar %ax, %ebx
        LOG %ebx
        movl $0x80, %eax
        verw %ax
        setz %al
        movzbl %al, %eax
        LOG %eax
        movl $0x80, %eax
        verr %ax
        setz %al
        movzbl %al, %eax
        LOG %eax
        # The accessed bit was set in the descriptor.
        movzbl gdt + 0x4D, %eax
        LOG %eax
        # A local table.
        movl $0x78, %eax
        lldt %ax
        movl $0x0C, %eax
        movw %ax, %gs
        movl %gs:0x20FFC, %eax
        LOG %eax
        EXPECT 1f
        movl $0x14, %eax
        movw %ax, %gs
      1: jmp finish
      """)
    let expected: [UInt32] = [
      0xE00D, 0, 0x1122_3344, 0x1122_3344, 0x1122_3344, 0xE00D, 0, 0xE00D, 0, 0xE00D, 0, 0xFFF,
      0x0040_9300, 0, 1, 0x93, 0x1122_3344, 0xE00D, 0x14,
    ]
    #expect(log == expected)
  }

  @Test func ringsAndGates() throws {
    let log = try run(
      """
        # A call gate to ring 0 with one parameter, for everyone.
        movl $gate, %eax
        movw %ax, gdt + 0x40
        shrl $16, %eax
        movw %ax, gdt + 0x46
        movw $0x08, gdt + 0x42
        movw $0xEC01, gdt + 0x44
        pushl $0x23
        pushl $0x8F000
        pushl $0x2
        pushl $0x1B
        pushl $outer
        iret
      outer:
        movl %cs, %eax
        movl %eax, %ebx
        movl $0x23, %eax
        movw %ax, %ds
        movw %ax, %es
        pushl %ebx
        lcall $0x43, $0
        # Back with the parameter gone.
        LOG2 %esp
        EXPECT 1f
        cli
      1: EXPECT 1f
        hlt
      1: EXPECT 1f
        movl %cr0, %eax
      1: EXPECT 1f
        inb $0x80, %al
      1: EXPECT 1f
        movl $0x10, %eax
        movw %ax, %ds
      1: EXPECT 1f
        ljmp $0x08, $0
      1: lcall $0x43, $0
      gate:
        movl 8(%esp), %eax
        cmpl $0x1B, %eax
        jne gate2
        LOG %eax
        movl %cs, %eax
        LOG %eax
        movl %ss, %eax
        LOG %eax
        movl %esp, %eax
        LOG %eax
        lret $4
      gate2:
        jmp finish
      """.replacing("LOG2 %esp", with: "movl %esp, %eax\n  lcall $0x43, $0"),
      end: .finished)
    #expect(Array(log.prefix(4)) == [0x1B, 0x08, 0x10, 0x9E000 - 20])
  }

  @Test func innerCodeIsOutOfReach() throws {
    let log = try run(
      """
        # Ports 0xE0 to 0xE7 and 0xF0 to 0xF7 are open for ring 3.
        movw $0x68, tss0 + 0x66
        movw $0x8B, gdt + 0x28
        movb $0x89, gdt + 0x2D
        movw $0x88, gdt + 0x28
        movl $0xFFFFFFFF, %eax
        movl $tss0 + 0x68, %edi
        movl $9, %ecx
        rep stosl
        movb $0, tss0 + 0x68 + 28
        movb $0, tss0 + 0x68 + 30
        movl $0x28, %eax
        ltr %ax
        pushl $0x23
        pushl $0x8F000
        pushl $0x2
        pushl $0x1B
        pushl $outer
        iret
      outer:
        movl $0x23, %eax
        movw %ax, %ds
        movw %ax, %es
        EXPECT 1f
        cli
      1: EXPECT 1f
        hlt
      1: EXPECT 1f
        movl %cr0, %eax
      1: EXPECT 1f
        inb $0x80, %al
      1: EXPECT 1f
        movl $0x10, %eax
        movw %ax, %ds
      1: EXPECT 1f
        ljmp $0x08, $0
      1: EXPECT 1f
        movl $0x88, %eax
        lcall $0x88, $0
      1: int $3
        # Conforming code keeps the level.
        lcall $0x60, $conforming
        pushfl
        popl %eax
        andl $0x3200, %eax
        LOG %eax
        # IF and IOPL cannot be changed from here.
        pushl $0x3202
        popfl
        pushfl
        popl %eax
        andl $0x3200, %eax
        LOG %eax
        jmp finish
      conforming:
        movl %cs, %eax
        LOG %eax
        lret
      """)
    let expected: [UInt32] = [
      0xE00D, 0, 0xE00D, 0, 0xE00D, 0, 0xE00D, 0, 0xE00D, 0x10, 0xE00D, 0x08, 0xE00D, 0x88,
      0xE003, 0x63, 0, 0,
    ]
    #expect(log == expected)
  }

  @Test func tasksSwitch() throws {
    let log = try run(
      """
        movl $task1, tss1 + 0x20
        movl $0x2, tss1 + 0x24
        movl $0x8E000, tss1 + 0x38
        movl $0x10, tss1 + 0x48
        movl $0x08, tss1 + 0x4C
        movl $0x10, tss1 + 0x50
        movl $0x10, tss1 + 0x54
        movl $0x1111, tss1 + 0x28
        movl $task2, tss2 + 0x20
        movl $0x2, tss2 + 0x24
        movl $0x8D000, tss2 + 0x38
        movl $0x10, tss2 + 0x48
        movl $0x08, tss2 + 0x4C
        movl $0x10, tss2 + 0x50
        movl $0x10, tss2 + 0x54
        # A task gate to the second.
        movw $0x38, gdt + 0x72
        movw $0x8500, gdt + 0x74
        movl $0x7777, %ebx
        lcall $0x30, $0
        # Back by IRET of the first.
        LOG %ebx
        movl %cr0, %eax
        andl $8, %eax
        LOG %eax
        str %ax
        movzwl %ax, %eax
        LOG %eax
        movzbl gdt + 0x2D, %eax
        LOG %eax
        movzbl gdt + 0x35, %eax
        LOG %eax
        ljmp $0x70, $0
        LOG $0xBAD
      task1:
        LOG %eax
        pushfl
        popl %eax
        andl $0x4000, %eax
        LOG %eax
        movzwl tss1, %eax
        LOG %eax
        movl $0, %ebx
        clts
        iret
        LOG $0xBAD
      task2:
        str %ax
        movzwl %ax, %eax
        LOG %eax
        movzbl gdt + 0x2D, %eax
        LOG %eax
        # A busy task cannot be entered.
        EXPECT 1f
        ljmp $0x38, $0
      1: jmp finish
      """)
    let expected: [UInt32] = [
      0x1111, 0x4000, 0x28, 0x7777, 8, 0x28, 0x8B, 0x89, 0x38, 0x89, 0xE00D, 0x38,
    ]
    #expect(log == expected)
  }

  @Test func virtual8086Mode() throws {
    let log = try run(
      """
        # Real-mode code at 0x5000: hlt; int3; mov ax, cs; out 0xE0
        movl $virtual, %esi
        movl $0x5000, %edi
        movl $virtualend - virtual, %ecx
        rep movsb
        movl $0x1, resume
        pushl $0
        pushl $0
        pushl $0
        pushl $0
        pushl $0x0600
        pushl $0x1000
        pushl $0x23002
        pushl $0x0500
        pushl $0
        iret
        .code16
      virtual:
        hlt
        movw %cs, %ax
        movzwl %ax, %eax
        outl %eax, $0xE0
        pushfw
        popw %ax
        movzwl %ax, %eax
        andl $0x3200, %eax
        outl %eax, $0xE0
        movw $0x1234, %ax
        movw %ax, %ds
        movw $0xABCD, 0x10
        movl $0, %eax
        movw %ax, %ds
        movw 0x12350, %ax
        movzwl %ax, %eax
        outl %eax, $0xE0
        int3
        movw %cs, %ax
        movzwl %ax, %eax
        outl %eax, $0xE0
        outl %eax, $0xF4
      virtualend:
        .code32
      """.replacing(
        "movw 0x12350, %ax", with: "movw $0x1235, %bx\n  movw %bx, %es\n  movw %es:0, %ax"))
    let expected: [UInt32] = [0xE00D, 0, 0x500, 0x3000, 0xABCD, 0xE003, 0x500]
    #expect(log == expected)
  }

  @Test func singleStepsAndBreakpoints() throws {
    let log = try run(
      """
        pushl $0x102
        popfl
        nop
        nop
        pushl $2
        popfl
        movl %dr6, %eax
        LOG %eax
        # An instruction breakpoint.
        movl $0xFFFF0FF0, %eax
        movl %eax, %dr6
        movl $there, %eax
        movl %eax, %dr0
        movl $0x402, %eax
        movl %eax, %dr7
        EXPECT after
      there:
        LOG $0xBAD
      after:
        movl %dr6, %eax
        LOG %eax
        # A data breakpoint: a trap after the store.
        movl $0xFFFF0FF0, %eax
        movl %eax, %dr6
        movl $0x40010, %eax
        movl %eax, %dr1
        movl $0x00D00408, %eax
        movl %eax, %dr7
        movl $5, 0x40014
        movl $5, 0x40008
        movl $7, 0x40010
      stored:
        LOG 0x40010
        movl lasteip, %eax
        subl $stored, %eax
        LOG %eax
        movl %dr6, %eax
        LOG %eax
        jmp finish
      """)
    // TF is seen after each instruction from the one after POPF on: two NOPs, PUSH, POPF.
    let expected: [UInt32] = [
      0xE001, 0xE001, 0xE001, 0xE001, 0xFFFF_4FF0, 0xE001, 0xFFFF_0FF1, 0xE001, 7, 0, 0xFFFF_0FF2,
    ]
    #expect(log == expected)
  }

  @Test func doubleFaultWhenTheHandlerIsMissing() throws {
    let log = try run(
      """
        # #GP's gate is not present: #NP on the way, two contributory exceptions.
        andb $0x7F, idt + 13 * 8 + 5
        EXPECT 1f
        movl $0x1234, %eax
        movw %ax, %ds
      1: LOG $0x600D
        jmp finish
      """)
    let expected: [UInt32] = [0xE008, 0, 0x600D]
    #expect(log == expected)
  }

  @Test func tripleFaultShutsDown() throws {
    let log = try run(
      """
        movw $0x37, idtr
        lidt idtr
        LOG $1
        movl $0x1234, %eax
        movw %ax, %ds
        LOG $0xBAD
      """, end: .shutdown)
    let expected: [UInt32] = [1]
    #expect(log == expected)
  }

  @Test func theShadowHoldsOneInstruction() throws {
    let log = try run(
      """
        # TF and MOV SS: the trap comes after the next instruction only.
        movl $0x10, %ebx
        pushl $0x102
        popfl
        movw %bx, %ss
        nop
        pushl $2
        popfl
        jmp finish
      """)
    let expected: [UInt32] = [0xE001, 0xE001, 0xE001]
    #expect(log == expected)
  }
}
