// Where a program for real mode begins, at 0x8000: in 16-bit protected mode still.
  .code16
  .section .entry, "ax"
  .globl _start
_start:
  movl %cr0, %eax
  andl $~1, %eax
  movl %eax, %cr0
  ljmp $0, $1f
1:
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $0x7F00, %esp
  calll guest_main
2: hlt
  jmp 2b

  .section .note.GNU-stack, "", @progbits
