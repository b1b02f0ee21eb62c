// The 64-bit part of the check guest: entry, page tables, traps, recovery, CPL 3, the start of other processors.
#include "layout.h"

#define CODE64 0x18
#define DATA 0x10
#define USER_DATA 0x33
#define USER_CODE 0x3B

  .code64
  .section .entry, "ax"
  .globl _start
_start:                               // any 64-bit code segment, memory below 4 GiB mapped one to one
  cli
  cld
  movl $BOOT_INFORMATION, %edi
  cmpl $ENTERED_LINUX64, (%rdi)
  jne 4f
  movl 0x228(%rsi), %eax              // RSI is the zero page: command line, RSDP, end of the last e820 RAM entry
  movl %eax, 4(%rdi)
  movl 0x70(%rsi), %eax
  movl %eax, 8(%rdi)
  movzbl 0x1E8(%rsi), %ecx
  addq $0x2D0, %rsi
  xorl %ebx, %ebx
1:
  testl %ecx, %ecx
  jz 3f
  cmpl $1, 16(%rsi)
  jne 2f
  cmpl $0, 4(%rsi)
  jne 2f
  movl (%rsi), %ebx
  addl 8(%rsi), %ebx
2:
  addq $20, %rsi
  decl %ecx
  jmp 1b
3:
  movl %ebx, 12(%rdi)
4:
  movl $STAGE64_TABLES, %eax
  movq %rax, %cr3
  lgdt table_register
  leaq stack_top(%rip), %rsp
  pushq $CODE64
  leaq 5f(%rip), %rax
  pushq %rax
  lretq
5:
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  xorl %eax, %eax
  movl %eax, %fs
  movl %eax, %gs
  leaq bss_start(%rip), %rdi
  leaq bss_end(%rip), %rcx
  subq %rdi, %rcx
  shrq $3, %rcx
  rep stosq
  leaq stack_top(%rip), %rsp
  call guest_main
stop:
  cli
  hlt
  jmp stop

// The first 4 GiB, one to one, by 2 MiB pages that CPL 3 may write.
  .org 0x1000
tables:
  .quad tables + 0x1000 + 7
  .fill 511, 8, 0
  .quad tables + 0x2000 + 7, tables + 0x3000 + 7, tables + 0x4000 + 7, tables + 0x5000 + 7
  .fill 508, 8, 0
  .set page, 0
  .rept 2048
  .quad (page << 21) + 0x87
  .set page, page + 1
  .endr

  .text
  .align 16
  .globl trap_stubs
trap_stubs:
  .set vector, 0
  .rept 256
  .align 16
  .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
  pushq $0
  .endif
  pushq $vector
  jmp trap_common
  .set vector, vector + 1
  .endr
trap_common:
  pushq %rax; pushq %rcx; pushq %rdx; pushq %rbx; pushq %rbp; pushq %rsi; pushq %rdi
  pushq %r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  cld
  movq %rsp, %rdi
  call trap
  popq %r15; popq %r14; popq %r13; popq %r12; popq %r11; popq %r10; popq %r9; popq %r8
  popq %rdi; popq %rsi; popq %rbp; popq %rbx; popq %rdx; popq %rcx; popq %rax
  addq $16, %rsp
  iretq

  .globl attempt_call, attempt_user_call, recover
attempt_call:                         // (body, argument): -1, or what `recover` is given
  movq %rdi, %rax
  movq %rsi, %rdi
  pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, recovery_stack(%rip)
  subq $8, %rsp
  call *%rax
  addq $8, %rsp
  movl $-1, %eax
1:
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
  ret
recover:
  movl %edi, %eax
  movq recovery_stack(%rip), %rsp
  jmp 1b
attempt_user_call:                    // (body, argument): the same at CPL 3; a trap always ends it
  pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, recovery_stack(%rip)
  movq %rdi, %rax
  movq %rsi, %rdi
  pushq $USER_DATA
  leaq user_stack_top(%rip), %rcx
  pushq %rcx
  pushq $2
  pushq $USER_CODE
  leaq user_start_here(%rip), %rcx
  pushq %rcx
  iretq
user_start_here:
  call *%rax
  .globl user_done
user_done:                            // `trap` knows this place: INT n is one of the things that are on trial
  ud2

// SYSCALL comes here: hands 7 to the caller in RAX and goes back.
  .globl system_call_entry
system_call_entry:
  incl system_calls(%rip)
  movl $7, %eax
  sysretq

// Copied to TRAMPOLINE: from real mode straight into long mode.
  .globl trampoline_start, trampoline_end
  .code16
trampoline_start:
  cli
  movw %cs, %ax
  movw %ax, %ds
  lgdtl (trampoline_register - trampoline_start)
  movl $0x20, %eax                    // PAE
  movl %eax, %cr4
  movl $STAGE64_TABLES, %eax
  movl %eax, %cr3
  movl $0xC0000080, %ecx
  rdmsr
  orl $0x100, %eax                    // LME
  wrmsr
  movl %cr0, %eax
  andl $~0x60000000, %eax             // caches on
  orl $0x80000001, %eax
  movl %eax, %cr0
  ljmpl $CODE64, $processor_start
  .align 8
trampoline_register:
  .word table_end - table - 1
  .long table
trampoline_end:

  .code64
processor_start:
  lgdt table_register                 // the base's upper half
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $1, %eax
  lock xaddl %eax, stacks_taken(%rip)
  cmpl $PROCESSOR_LIMIT, %eax
  jae stop
  incl %eax
  imull $STACK_SIZE, %eax
  leaq processor_stacks(%rip), %rsp
  addq %rax, %rsp
  call processor_main
  jmp stop

  .data
  .globl table, task_descriptor
  .align 8
table:
  // 8 code32, 10 data, 18 code64, 20 data, 28 user code32, 30 user data, 38 user code64, 40 TSS
  .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
  .quad 0x00CFFB000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF
task_descriptor: .quad 0, 0
table_end:
table_register:
  .word table_end - table - 1
  .quad table

  .bss
  .globl stacks_taken, system_calls, trap_stack_top
  .align 16
recovery_stack: .quad 0
stacks_taken: .long 0
system_calls: .long 0
  .align 16
  .skip 16384
stack_top:
  .skip 8192
user_stack_top:
  .skip 8192
trap_stack_top:
processor_stacks: .skip PROCESSOR_LIMIT * STACK_SIZE

  .section .note.GNU-stack, "", @progbits
