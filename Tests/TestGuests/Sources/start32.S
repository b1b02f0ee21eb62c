// Multiboot entry of the 32-bit test guest.
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
  cmpl $0x2BADB002, %eax
  movl $stack_top, %esp
  jne not_multiboot
  lgdt gdt_descriptor
  ljmp $0x08, $1f
1:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  pushl 16(%ebx)          // command line
  movl 8(%ebx), %eax      // KiB above 1 MiB
  shll $10, %eax
  addl $0x100000, %eax
  pushl $0
  pushl %eax
  pushl $name
  call guest_main
not_multiboot:
  hlt
  jmp not_multiboot

// IRET at CPL 0 is one of the instructions that nested KVM may not emulate, so handlers return by POPF and a far RET.
  .macro handler name, target
  .globl \name
\name:
  pushal
  cld
  call \target
  popal
  pushl 8(%esp)
  andl $~0x200, (%esp)
  popfl
  // Interrupts stay off until the frame is gone: RETF takes EIP and CS, the flags' slot is dropped, STI follows at the
  // place that was interrupted only by way of this trampoline.
  pushl %eax
  movl 4(%esp), %eax      // EIP
  movl %eax, 12(%esp)     // over the saved flags
  popl %eax
  leal 8(%esp), %esp      // LEA leaves the flags alone
  sti
  ret
  .endm

  handler timer_entry, timer_interrupt
  handler serial_entry, serial_interrupt

  .globl load_idt
load_idt:
  movl 4(%esp), %eax
  lidt (%eax)
  ret
  .globl code_selector
code_selector:
  movl %cs, %eax
  ret

  .section .rodata
name: .asciz "multiboot"
  .align 8
gdt:
  .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdt_descriptor:
  .word 23
  .long gdt

  .bss
  .align 16
  .skip 16384
stack_top:

  .section .note.GNU-stack, "", @progbits
