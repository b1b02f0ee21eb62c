// How the check guest is entered in 32-bit protected mode: multiboot, PVH, Linux's 32-bit entry and our own firmware;
// Linux's 64-bit entry only passes through. Then traps, recovery and the start of other processors for 32-bit code.
#include "layout.h"

  .code32
  .section .entry, "ax"
entry:
  jmp start_linux                     // +0: bzImage, 32-bit entry; ESI is the zero page
  .org 0x10
  jmp start_firmware                  // +0x10: entry16.S
  .org 0x20
#ifdef MULTIBOOT
  .align 4
  .long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)
#endif
  .org ENTRY64_OFFSET
  .code64
  movl $BOOT_INFORMATION, %edi
  movl $ENTERED_LINUX64, (%rdi)
  movl $STAGE64_START, %eax
  jmp *%rax

  .code32
#ifdef PVH
  .section .note.Xen, "a", @note
  .align 4
  .long 4, 4, 18
  .asciz "Xen"
  .long start_pvh
#endif

  .text
  .globl _start
_start:
start_multiboot:
  cmpl $0x2BADB002, %eax
  jne stop
  movl $BOOT_INFORMATION, %edi
  movl $ENTERED_MULTIBOOT, (%edi)
  movl 16(%ebx), %eax                 // command line
  movl %eax, 4(%edi)
  movl $0, 8(%edi)                    // multiboot 1 names no ACPI root: it has to be searched
  movl 8(%ebx), %eax                  // KiB above 1 MiB
  shll $10, %eax
  addl $0x100000, %eax
  movl %eax, 12(%edi)
  jmp started

start_pvh:
  cmpl $0x336EC578, (%ebx)
  jne stop
  movl $BOOT_INFORMATION, %edi
  movl $ENTERED_PVH, (%edi)
  movl 24(%ebx), %eax                 // command line
  movl %eax, 4(%edi)
  movl 32(%ebx), %eax                 // RSDP
  movl %eax, 8(%edi)
  movl 40(%ebx), %esi                 // memory map: 24 bytes an entry
  movl 48(%ebx), %ecx
  movl $24, %edx
  jmp find_memory_end

start_linux:
  movl $BOOT_INFORMATION, %edi
  movl $ENTERED_LINUX32, (%edi)
  movl 0x228(%esi), %eax
  movl %eax, 4(%edi)
  movl 0x70(%esi), %eax
  movl %eax, 8(%edi)
  movzbl 0x1E8(%esi), %ecx            // e820: 20 bytes an entry
  addl $0x2D0, %esi
  movl $20, %edx

find_memory_end:                      // the end of the last entry of type 1 below 4 GiB
  xorl %ebx, %ebx
1:
  testl %ecx, %ecx
  jz 3f
  cmpl $1, 16(%esi)
  jne 2f
  cmpl $0, 4(%esi)
  jne 2f
  movl (%esi), %ebx
  addl 8(%esi), %ebx
2:
  addl %edx, %esi
  decl %ecx
  jmp 1b
3:
  movl %ebx, 12(%edi)
  jmp started

start_firmware:
  movl $BOOT_INFORMATION, %edi
  movl $ENTERED_FIRMWARE, (%edi)
  movl $empty, 4(%edi)
  movl $0, 8(%edi)
  movl $0, 12(%edi)

started:
  cli
  cld
  lgdt table_register
  ljmp $0x08, $1f
1:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  xorl %eax, %eax
  movl %eax, %fs
  movl %eax, %gs
  movl $bss_start, %edi
  movl $bss_end, %ecx
  subl %edi, %ecx
  shrl $2, %ecx
  rep stosl
  movl $stack_top, %esp
  call guest_main

  // The 32-bit part is over: on to long mode.
  .globl enter_long_mode
enter_long_mode:
  movl %cr4, %eax
  orl $0x20, %eax                     // PAE
  movl %eax, %cr4
  movl $STAGE64_TABLES, %eax
  movl %eax, %cr3
  movl $0xC0000080, %ecx
  rdmsr
  orl $0x100, %eax                    // LME
  wrmsr
  movl %cr0, %eax
  orl $0x80000000, %eax
  movl %eax, %cr0
  ljmp $0x18, $STAGE64_START
stop:
  cli
  hlt
  jmp stop

// Traps: one stub of 16 bytes for each vector.
  .align 16
  .globl trap_stubs
trap_stubs:
  .set vector, 0
  .rept 256
  .align 16
  .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
  pushl $0
  .endif
  pushl $vector
  jmp trap_common
  .set vector, vector + 1
  .endr
trap_common:
  pushal
  cld
  pushl %esp
  call trap
  addl $4, %esp
  popal
  addl $8, %esp
  iret

  .globl attempt_call, recover
attempt_call:                         // (body, argument): -1, or what `recover` is given
  movl 4(%esp), %eax
  movl 8(%esp), %edx
  pushl %ebx
  pushl %esi
  pushl %edi
  pushl %ebp
  movl %esp, recovery_stack
  pushl %edx
  call *%eax
  addl $4, %esp
  movl $-1, %eax
  jmp 1f
recover:
  movl 4(%esp), %eax
  movl recovery_stack, %esp
1:
  popl %ebp
  popl %edi
  popl %esi
  popl %ebx
  ret

// Copied to TRAMPOLINE: real mode there, then flat 32 bit here.
  .globl trampoline_start, trampoline_end
  .code16
trampoline_start:
  cli
  movw %cs, %ax
  movw %ax, %ds
  lgdtl (trampoline_register - trampoline_start)
  movl %cr0, %eax
  andl $~0x60000000, %eax             // caches on
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $0x08, $processor_start
  .align 8
trampoline_register:
  .word table_end - table - 1
  .long table
trampoline_end:

  .code32
processor_start:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $1, %eax
  lock xaddl %eax, stacks_taken
  cmpl $PROCESSOR_LIMIT, %eax
  jae stop
  incl %eax
  imull $STACK_SIZE, %eax
  leal processor_stacks(%eax), %esp
  call processor_main
  jmp stop

  .section .rodata
empty: .byte 0
  .align 8
table:
  .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF
table_end:
table_register:
  .word table_end - table - 1
  .long table

  .bss
  .globl stacks_taken
  .align 16
recovery_stack: .long 0
stacks_taken: .long 0
  .align 16
  .skip 16384
stack_top:
processor_stacks: .skip PROCESSOR_LIMIT * STACK_SIZE

  .section .image64, "a"
  .incbin IMAGE64
  .section .note.GNU-stack, "", @progbits
