import GuestMemory
import Processor
import SoftProcessor
import Testing

/// What several processors do to the same memory at the same time: LOCK, code that another one changes, interrupts from
/// one to the other, clocks.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct SharedMemoryTests {
  /// FLUSH empties the translation buffer on odd processors, so that a LOCK instruction that misses in it meets others
  /// that hit.
  private static let macros = """
    .macro FLUSH
      testb $1, %dil
      jz 98f
      movq %cr3, %rax
      movq %rax, %cr3
    98:
    .endm
    .macro DONE
      outb %al, $0xF4
    97: cli
      hlt
      jmp 97b
    .endm

    """

  @Test(
    "LOCK is atomic whether the translation buffer knows the page or not",
    arguments: [
      "lock incq counter", "lock addl $1, counter", "movw $1, %bx; lock xaddw %bx, counter",
      "lock btsl $40, latch; jc 1b; incq counter; lock btrl $40, latch",
      "movl $1, %eax; xchgb %al, latch; testb %al, %al; jnz 1b; incq counter; movb $0, latch",
      "movq counter, %rax; 2: leaq 1(%rax), %rdx; lock cmpxchgq %rdx, counter; jnz 2b",
      """
      movq counter, %rax; movq counter+8, %rdx
      2: movq %rbx, %r9; leaq 1(%rax), %rbx; leaq 1(%rdx), %rcx
      lock cmpxchg16b counter; movq %r9, %rbx; jnz 2b
      """,
    ])
  func lockedInstructions(_ instruction: String) throws {
    let fixture = try SharedFixture(count: 4)
    let log = try fixture.run(
      Self.macros + """
        movl $1, %ebx
        movl $20000, %ebp
        1: FLUSH
        \(instruction)
        decl %ebp
        jnz 1b
        lock decl left
        jnz 3f
        movl counter, %eax
        outl %eax, $0xE0
        3: DONE
        .balign 4096
        counter: .quad 0, 0
        latch: .quad 0
        left: .long 4
        """)
    #expect(log == [instruction.contains("xaddw") ? 80000 & 0xFFFF : 80000])
  }

  /// Real processors lock the bus there.
  @Test(
    "LOCK is atomic over the end of a cache line, and of a page", arguments: [61, 4091],
    [
      "lock incq counter", "lock addl $1, counter", "movw $1, %bx; lock xaddw %bx, counter",
      "movq counter, %rax; 2: leaq 1(%rax), %rdx; lock cmpxchgq %rdx, counter; jnz 2b",
      "movl $1, %eax; xchgq %rax, counter+8; testl %eax, %eax; jnz 1b; incl other; "
        + "movq $0, counter+8",
    ])
  func splitLocks(_ offset: Int, _ instruction: String) throws {
    let fixture = try SharedFixture(count: 4)
    // Of a word the second byte is the first of the next line, or page.
    let place = instruction.contains("xaddw") ? offset | 7 : offset
    let source = instruction.contains("counter+8") ? "other" : "counter"
    let log = try fixture.run(
      Self.macros + """
        movl $1, %ebx
        movl $5000, %ebp
        1: FLUSH
        \(instruction)
        decl %ebp
        jnz 1b
        lock decl left
        jnz 3f
        movl \(source), %eax
        outl %eax, $0xE0
        3: DONE
        .balign 4096
        left: .long 4
        other: .long 0
        .balign 4096
        .skip \(source == "other" ? place - 8 : place)
        counter: .quad 0, 0, 0
        """)
    let expected: UInt32 = 20000
    let isRight = log == [expected]
    #expect(isRight, "\(String(describing: log))")
  }

  @Test("LOCK in a page that holds code of other processors") func lockedBesideCode() throws {
    let fixture = try SharedFixture(count: 4)
    let log = try fixture.run(
      Self.macros + """
        movl $20000, %ebp
        jmp 1f
        .balign 4096
        1: lock incq counter
        FLUSH
        decl %ebp
        jnz 1b
        lock decl left
        jnz 3f
        movl counter, %eax
        outl %eax, $0xE0
        3: DONE
        .balign 128
        counter: .quad 0
        left: .long 4
        """)
    #expect(log == [80000])
  }

  @Test("Code that one processor changes is soon run by another that calls it all the time")
  func changedCode() throws {
    let fixture = try SharedFixture(count: 2)
    let log = try fixture.run(
      Self.macros + """
        testl %edi, %edi
        jnz other
        movl $200, %ebp
        1: movl %ebp, routine+1
        2: pause
        cmpl %ebp, seen
        jne 2b
        decl %ebp
        jnz 1b
        movl seen, %eax
        outl %eax, $0xE0
        movl $-1, routine+1
        DONE
        other: pause
        call routine
        movl %eax, seen
        cmpl $-1, %eax
        jne other
        DONE
        .balign 4096
        routine: movl $0, %eax
        ret
        .balign 4096
        seen: .long 0
        """)
    #expect(log == [1])
  }

  @Test("Interrupts from processor to processor wake halted ones, and none is lost")
  func interprocessorInterrupts() throws {
    let fixture = try SharedFixture(count: 4)
    // A token goes round: who gets the interrupt sends it to the next one.
    let log = try fixture.run(
      Self.macros + """
        movl %edi, %ebp
        lgdt gdtr
        pushq $0x10
        pushq $4f
        lretq
        4: lidt idtr
        movl $0xFEE00000, %r8d
        movl $0x1FF, 0xF0(%r8)
        lock incl ready
        5: pause
        cmpl $4, ready
        jne 5b
        testl %ebp, %ebp
        jnz 6f
        call send
        6: sti
        hlt
        cli
        cmpl $0, rounds
        jg 6b
        testl %ebp, %ebp
        jnz 7f
        movl taken, %eax
        outl %eax, $0xE0
        7: DONE
        send: leal 1(%rbp), %eax
        andl $3, %eax
        shll $24, %eax
        movl %eax, 0x310(%r8)
        movl $0x4040, 0x300(%r8)
        ret
        handler: lock incl taken
        lock decl rounds
        call send
        movl $0, 0xB0(%r8)
        iretq
        .balign 16
        gdt: .quad 0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
        gdtr: .word 31
        .quad gdt
        idtr: .word 0x40 * 16 + 15
        .quad gate - 0x40 * 16
        .balign 16
        gate: .word handler - _start
        .word 0x10, 0x8E00, 1, 0, 0, 0, 0
        .balign 4096
        rounds: .long 20000
        taken: .long 0
        ready: .long 0
        """)
    // The four last tokens may be on their way when the count ends.
    let taken = log?.first ?? 0
    #expect((20000...20004).contains(taken), "\(String(describing: log))")
  }

  @Test("Time stamps never go back from one processor to the next") func timeStamps() throws {
    let fixture = try SharedFixture(count: 4)
    let log = try fixture.run(
      Self.macros + """
        movl $300000, %ebp
        1: xorl %eax, %eax
        movl $1, %ecx
        lock cmpxchgl %ecx, latch
        jnz 1b
        2: rdtsc
        shlq $32, %rdx
        orq %rdx, %rax
        cmpq last, %rax
        movq %rax, last
        movl $0, latch
        jb 3f
        decl %ebp
        jnz 1b
        DONE
        3: movl $1, %eax
        outl %eax, $0xE0
        DONE
        .balign 4096
        latch: .quad 0
        last: .quad 0
        """)
    #expect(log == [])
  }
}
