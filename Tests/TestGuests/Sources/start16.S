// Multiboot entry of a program for real mode: takes it down to where it was linked for, and leaves protected mode.
  .code32
  .section .header, "a"
  .align 4
multiboot_header:
  .long 0x1BADB002
  .long 0x00000003
  .long -(0x1BADB002 + 0x00000003)

  .text
  .globl _start
_start:
  cli
  cld
  movl $program, %esi
  movl $0x8000, %edi
  movl $(program_end - program), %ecx
  rep movsb
  lgdt descriptor
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  // A code segment of 16 bits: its own instructions are the first of the program.
  ljmp $0x08, $0x8000

  .section .rodata
  .align 8
gdt:
  .quad 0, 0x00009B000000FFFF, 0x000093000000FFFF
descriptor:
  .word 23
  .long gdt
program:
  .incbin PROGRAM
program_end:

  .section .note.GNU-stack, "", @progbits
