import Processor
import Testing

/// Real mode, and the way into protected mode and back.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct RealModeTests {
  private func run(_ body: String) throws -> [UInt32] {
    let source = """
      .macro LOG value
        movl \\value, %eax
        outl %eax, $0xE0
      .endm
      .globl _start
      .text
      .code16
      _start:
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x8000, %sp
        movw $0x1000, %ax
        movw %ax, %fs
        jmp body
      finish:
        outl %eax, $0xF4
        jmp finish
      body:
      \(body)
      """
    let code = try Assembler.assemble(source, bits: 32)
    var state = ProcessorState()
    state.codeSegment = SegmentRegister(base: SystemFixture.origin, selector: 0x1000, type: 0xB)
    state.instructionPointer = 0
    let fixture = try SystemFixture()
    let outcome = try fixture.run(code, from: state)
    #expect(outcome.end == .finished)
    return outcome.log
  }

  @Test func interruptsAndFarTransfers() throws {
    let log = try run(
      """
        movw $handler - _start, 0x80
        movw $0x1000, 0x82
        movw $limit - _start, 0x34
        movw $0x1000, 0x36
        stc
        sti
        int $0x20
      back:
        lcall $0x1000, $far - _start
        LOG $3
        # An access across the end of the segment.
        movl $0, %ebx
        movw $0xFFFF, %bx
        movw (%bx), %ax
        LOG $0xBAD
      handler:
        pushfw
        popw %ax
        andl $0x201, %eax
        LOG %eax
        movw %sp, %bp
        movw (%bp), %ax
        subw $back - _start, %ax
        movzwl %ax, %eax
        LOG %eax
        movw 4(%bp), %ax
        andl $0x201, %eax
        LOG %eax
        iretw
      far:
        LOG $2
        lretw
      limit:
        LOG $0x13
        movw %sp, %ax
        movzwl %ax, %eax
        LOG %eax
        jmp finish
      """)
    let expected: [UInt32] = [1, 0, 0x201, 2, 3, 0x13, 0x7FFA]
    #expect(log == expected)
  }

  @Test func bigRealMode() throws {
    let log = try run(
      """
        cli
        lgdtl %fs:gdtr - _start
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        movw $8, %bx
        movw %bx, %ds
        andl $~1, %eax
        movl %eax, %cr0
        xorw %bx, %bx
        movw %bx, %ds
        # The limit stays.
        movl $0x200000, %ebx
        movl $0x55AA, (%ebx)
        LOG (%ebx)
        smsw %ax
        movzwl %ax, %eax
        LOG %eax
        jmp finish
        .balign 8
      gdt: .quad 0
        .quad 0x00CF92000000FFFF
      gdtr: .word 15
        .long gdt
      """)
    let expected: [UInt32] = [0x55AA, 0x10]
    #expect(log == expected)
  }
}
