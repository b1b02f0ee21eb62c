// What the 32-bit test programs share: descriptor tables, a handler for every vector that logs and goes on where the
// program says, a second stack.
enum SystemProgram32 {
  /// Selectors: 0x08 code, 0x10 data, 0x1B and 0x23 the same for ring 3, 0x28 task state, 0x30 and 0x38 more of them,
  /// 0x40 call gate, 0x48 a 4 KiB data segment, 0x50 expand-down data, 0x58 a segment that is not present, 0x60 conforming
  /// code, 0x68 16-bit code, 0x70 task gate, 0x78 local table, 0x80 read-only data, 0x88 code ring 1, 0x90 data ring 1.
  ///
  /// The handlers log 0xE000 + vector, the error code (for vectors that have one) and, for #PF, CR2, and return to
  /// `resume`. A program ends by `finish`.
  static func source(_ body: String) -> String {
    """
    .macro LOG value
      movl \\value, %eax
      outl %eax, $0xE0
    .endm
    .macro EXPECT label
      movl $\\label, resume
    .endm
    .globl _start
    .text
    .code32
    _start:
      movl $0x9F000, %esp
      call build
      lgdt gdtr
      lidt idtr
      ljmp $0x08, $1f
    1: movl $0x10, %eax
      movl %eax, %ds
      movl %eax, %es
      movl %eax, %ss
      movl %eax, %fs
      movl %eax, %gs
      movl $0x28, %eax
      ltr %ax
      jmp body

    finish:
      outl %eax, $0xF4
      jmp finish

    # Fills in bases that the assembler cannot split.
    build:
      movl $tss0, %eax
      movl $gdt + 0x28, %edi
      call setbase
      movl $tss1, %eax
      movl $gdt + 0x30, %edi
      call setbase
      movl $tss2, %eax
      movl $gdt + 0x38, %edi
      call setbase
      movl $ldt, %eax
      movl $gdt + 0x78, %edi
      call setbase
      movl $0x20000, %eax
      movl $gdt + 0x48, %edi
      call setbase
      movl $idt, %edi
      movl $stubs, %eax
      movl $32, %ecx
    2: movw %ax, (%edi)
      movw $0x08, 2(%edi)
      movw $0xEE00, 4(%edi)
      movl %eax, %edx
      shrl $16, %edx
      movw %dx, 6(%edi)
      addl $8, %edi
      addl $16, %eax
      decl %ecx
      jnz 2b
      ret
    setbase:
      movw %ax, 2(%edi)
      shrl $16, %eax
      movb %al, 4(%edi)
      movb %ah, 7(%edi)
      ret

    .balign 16
    stubs:
    .set vector, 0
    .rept 32
      .balign 16
      .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
      .else
      pushl $0
      .endif
      pushl $vector
      jmp handler
      .set vector, vector + 1
    .endr
    handler:
      pushal
      pushl %ds
      movw $0x10, %ax
      movw %ax, %ds
      movl 36(%esp), %eax
      orl $0xE000, %eax
      outl %eax, $0xE0
      movl 36(%esp), %ecx
      cmpl $8, %ecx
      je 1f
      cmpl $10, %ecx
      jb 2f
      cmpl $14, %ecx
      ja 2f
    1: movl 40(%esp), %eax
      outl %eax, $0xE0
    2: cmpl $14, %ecx
      jne 3f
      movl %cr2, %eax
      outl %eax, $0xE0
    3: movl 44(%esp), %eax
      movl %eax, lasteip
      movl 52(%esp), %eax
      movl %eax, lastflags
      movl resume, %eax
      testl %eax, %eax
      jz 4f
      movl %eax, 44(%esp)
      movl $0, resume
    4: popl %ds
      popal
      addl $8, %esp
      iret

    .balign 8
    resume: .long 0
    lasteip: .long 0
    lastflags: .long 0
    gdtr: .word 0xFF
      .long gdt
    idtr: .word 0x1FF
      .long idt
    .balign 8
    gdt:
      .quad 0
      .quad 0x00CF9A000000FFFF
      .quad 0x00CF92000000FFFF
      .quad 0x00CFFA000000FFFF
      .quad 0x00CFF2000000FFFF
      .quad 0x0000890000000067
      .quad 0x0000890000000067
      .quad 0x0000890000000067
      .quad 0
      .quad 0x0040920000000FFF
      .quad 0x00CF960000000FFF
      .quad 0x00CF12000000FFFF
      .quad 0x00CF9E000000FFFF
      .quad 0x00009A000000FFFF
      .quad 0
      .quad 0x000082000000000F
      .quad 0x00CF90000000FFFF
      .quad 0x00CFBA000000FFFF
      .quad 0x00CFB2000000FFFF
      .fill 13, 8, 0
    ldt:
      .quad 0
      .quad 0x00CF92000000FFFF
    .balign 16
    tss0:
      .long 0, 0x9E000, 0x10, 0x9D000, 0x91
      .fill 84, 1, 0
    tss1:
      .fill 104, 1, 0
    tss2:
      .fill 104, 1, 0
    .balign 8
    idt: .fill 256, 8, 0
    body:
    \(body)
    """
  }
}
