// A Linux-style image (boot protocol 2.12) with a 64-bit entry at +0x200: boot sector and one set-up sector, then code.
  .section .setup, "a"
setup_start:
  .skip 0x1F1
  .byte 1                 // setup_sects
  .word 0
  .long 0                 // syssize
  .word 0, 0, 0
  .word 0xAA55
  .byte 0xEB, setup_end - . - 1
  .ascii "HdrS"
  .word 0x020C
  .long 0
  .word 0x1000, 0
  .byte 0
  .byte 1                 // loadflags: LOADED_HIGH
  .word 0x8000
  .long 0x100000          // code32_start
  .long 0, 0, 0
  .word 0xFE00
  .byte 0, 0
  .long 0
  .long 0x37FFFFFF        // initrd_addr_max
  .long 0x200000          // kernel_alignment
  .byte 0                 // relocatable_kernel
  .byte 21
  .word 1                 // xloadflags: XLF_KERNEL_64
  .long 255               // cmdline_size
  .long 0
  .quad 0
  .long 0, 0
  .quad 0
  .quad 0x100000          // pref_address
  .long 0x100000          // init_size
  .long 0
setup_end:
  .org 0x400

  .code32
  .section .entry, "ax"
  // 32-bit entry at +0: not used by a loader that knows the 64-bit one.
1: hlt
  jmp 1b
  .org 0x200
  .code64
  .globl _start
_start:
  leaq stack_top(%rip), %rsp
  movq %rsi, %rbx
  leaq gdt(%rip), %rax
  movq %rax, gdt_descriptor + 2(%rip)
  lgdt gdt_descriptor(%rip)
  pushq $0x08
  leaq 2f(%rip), %rax
  pushq %rax
  lretq
2:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  // Memory: the end of the last e820 entry of type 1.
  movzbl 0x1E8(%rbx), %ecx
  leaq 0x2D0(%rbx), %rdi
  xorl %esi, %esi
3:
  testl %ecx, %ecx
  jz 5f
  cmpl $1, 16(%rdi)
  jne 4f
  movq (%rdi), %rsi
  addq 8(%rdi), %rsi
4:
  addq $20, %rdi
  decl %ecx
  jmp 3b
5:
  leaq name(%rip), %rdi
  movl 0x228(%rbx), %edx
  call guest_main
6: hlt
  jmp 6b

  .macro handler name, target
  .globl \name
\name:
  pushq %rax; pushq %rcx; pushq %rdx; pushq %rsi; pushq %rdi
  pushq %r8; pushq %r9; pushq %r10; pushq %r11
  cld
  call \target
  popq %r11; popq %r10; popq %r9; popq %r8
  popq %rdi; popq %rsi; popq %rdx; popq %rcx; popq %rax
  iretq
  .endm

  .text
  handler timer_entry, timer_interrupt
  handler serial_entry, serial_interrupt

  .globl load_idt
load_idt:
  lidt (%rdi)
  ret
  .globl code_selector
code_selector:
  movl %cs, %eax
  ret

  .section .rodata
name: .asciz "bzImage"
  .data
  .align 8
gdt:
  .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_descriptor:
  .word 23
  .quad 0

  .bss
  .align 16
  .skip 16384
stack_top:

  .section .note.GNU-stack, "", @progbits
