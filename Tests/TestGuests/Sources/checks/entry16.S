// The check guest as firmware: an image that ends at 4 GiB. Checks of real mode with interrupts, then on to the 32-bit
// part. FLAT is the flat image, FLAT_SIZE the room that it has before these last 64 KiB.
#include "layout.h"

#define COM1 0x3F8

  .code16
  .section .firmware, "ax"
firmware:
  .incbin FLAT
  .org FLAT_SIZE
here:
#define AT(label) (label - here)

// 'ok r16.NAME' or, with carry set, 'FAIL r16.NAME'.
  .macro verdict name
  movw $AT(9f), %si
  call report
  jmp 10f
9: .asciz "\name"
10:
  .endm
  // An entry of the real-mode vector table.
  .macro vector number, label
  movw $AT(\label), 4 * \number
  movw %cs, 4 * \number + 2
  .endm

start:
  cli
  cld
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw $0x7000, %sp
  movw $COM1 + 3, %dx
  movb $3, %al
  outb %al, %dx
  movw $COM1 + 2, %dx
  movb $7, %al
  outb %al, %dx
  movw $COM1 + 4, %dx
  movb $0x0B, %al
  outb %al, %dx
  movw $AT(begin), %si
  call print

  // INT and IRET: flags come back, interrupts are off inside.
  vector 0x40, called
  movw $0, 0x600
  stc
  sti
  int $0x40
  pushfw
  cli
  popw %ax
  andw $0x201, %ax
  cmpw $0x201, %ax
  jne 1f
  cmpw $1, 0x600
  jne 1f
  clc
  jmp 2f
1: stc
2: verdict int-iret

  // Division by zero: vector 0, the frame points to the instruction itself.
  vector 0, divided
  movw $0, 0x600
  xorw %cx, %cx
  movw $1, %ax
divide:
  divb %cl
after_divide:
  cmpw $AT(divide), 0x600
  clc
  je 2f
  stc
2: verdict divide

  // Ports where nobody is.
  movw $0x5670, %dx
  inw %dx, %ax
  cmpw $0xFFFF, %ax
  clc
  je 2f
  stc
2: verdict nowhere

  // Interrupt chips: vectors 8 and 0x70, as on a PC.
  call start_chips
  vector 8, timer
  vector 0x0C, serial
  vector 0x70, clock
  movw $0, 0x600
  movw $0, 0x602
  movw $0, 0x604
  movw $1000, %bx
  call one_shot
  sti
  movw $2000, %cx
3: loop 3b
  cli
  cmpw $0, 0x600
  clc
  je 2f
  stc
2: verdict pic-mask
  call start_chips
  movb $0xFE, %al
  outb %al, $0x21
  movw $12000, %bx
  call one_shot
  sti
  hlt                                 // nothing else can wake it
  cli
  cmpw $1, 0x600
  clc
  je 2f
  stc
2: verdict pit-wakes-from-hlt

  // Ten interrupts at 1 kHz.
  movw $0, 0x600
  movb $0x34, %al
  outb %al, $0x43
  movb $(1193 & 255), %al
  outb %al, $0x40
  movb $(1193 >> 8), %al
  outb %al, $0x40
3:
  sti
  hlt
  cli
  cmpw $10, 0x600
  jb 3b
  movb $0x30, %al
  outb %al, $0x43
  xorb %al, %al
  outb %al, $0x40
  outb %al, $0x40
  clc
  verdict pit-interrupts

  // The UART says that its transmitter is empty.
4: movw $COM1 + 5, %dx
  inb %dx, %al
  testb $0x40, %al
  jz 4b
  movb $0xEF, %al
  outb %al, $0x21
  sti
  movw $COM1 + 1, %dx
  movb $2, %al
  outb %al, %dx
  movw $5000, %cx
3:
  cmpw $0, 0x602
  loope 3b
  cli
  xorb %al, %al
  outb %al, %dx
  cmpw $1, 0x602
  clc
  je 2f
  stc
2: verdict uart-interrupt

  // The clock through the second chip: periodic at 1024 Hz.
  movw $0x260A, %ax
  call set_clock
  movw $0x420B, %ax
  call set_clock
  movb $0x0C, %al
  outb %al, $0x70
  inb $0x71, %al
  movb $0xFB, %al
  outb %al, $0x21
  movb $0xFE, %al
  outb %al, $0xA1
3:
  sti
  hlt
  cli
  cmpw $3, 0x604
  jb 3b
  movw $0x020B, %ax
  call set_clock
  clc
  verdict rtc-interrupts

  movb $0xFF, %al
  outb %al, $0x21
  outb %al, $0xA1

  // The 32-bit part.
  lgdtl %cs:AT(table_register)
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  ljmpl $8, $0xF0000 + AT(protected)

// Subroutines ------------------------------------------------------------------------------------------------------

start_chips:
  movb $0x11, %al
  outb %al, $0x20
  outb %al, $0xA0
  movb $8, %al
  outb %al, $0x21
  movb $0x70, %al
  outb %al, $0xA1
  movb $4, %al
  outb %al, $0x21
  movb $2, %al
  outb %al, $0xA1
  movb $1, %al
  outb %al, $0x21
  outb %al, $0xA1
  movb $0xFF, %al
  outb %al, $0x21
  outb %al, $0xA1
  ret
one_shot:                             // BX clocks to an edge of interrupt 0
  movb $0x30, %al
  outb %al, $0x43
  movb %bl, %al
  outb %al, $0x40
  movb %bh, %al
  outb %al, $0x40
  ret
set_clock:                            // AL index, AH value
  outb %al, $0x70
  movb %ah, %al
  outb %al, $0x71
  ret

report:                               // SI: name; carry: failed
  pushw %si
  movw $AT(ok), %si
  jnc 1f
  movw $AT(failed), %si
1:
  call print
  popw %si
  call print
  movb $10, %al
put:
  pushw %dx
  pushw %ax
  movw $COM1 + 5, %dx
1:
  inb %dx, %al
  testb $0x20, %al
  jz 1b
  popw %ax
  movw $COM1, %dx
  outb %al, %dx
  popw %dx
  ret
print:
  movb %cs:(%si), %al
  incw %si
  testb %al, %al
  jz 1f
  call put
  jmp print
1: ret

// Handlers ---------------------------------------------------------------------------------------------------------

called:
  pushfw
  popw %ax
  testw $0x200, %ax
  jnz 1f
  incw 0x600
1: iretw
divided:
  pushw %bp
  movw %sp, %bp
  movw 2(%bp), %ax
  movw %ax, 0x600
  movw $AT(after_divide), 2(%bp)
  popw %bp
  iretw
timer:
  pushw %ax
  incw 0x600
  movb $0x20, %al
  outb %al, $0x20
  popw %ax
  iretw
serial:
  pushw %ax
  pushw %dx
  movw $COM1 + 2, %dx
  inb %dx, %al
  andb $7, %al
  cmpb $2, %al
  jne 1f
  incw 0x602
1:
  movb $0x20, %al
  outb %al, $0x20
  popw %dx
  popw %ax
  iretw
clock:
  pushw %ax
  movb $0x0C, %al
  outb %al, $0x70
  inb $0x71, %al
  testb $0x40, %al
  jz 1f
  incw 0x604
1:
  movb $0x20, %al
  outb %al, $0xA0
  outb %al, $0x20
  popw %ax
  iretw

  .code32
protected:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $-(FLAT_SIZE + 0x10000), %esi  // the image ends at 4 GiB
  movl $IMAGE_START, %edi
  movl $FLAT_SIZE / 4, %ecx
  rep movsl
  movl $IMAGE_START + 0x10, %eax
  jmp *%eax

begin: .asciz "begin r16\n"
ok: .asciz "ok r16."
failed: .asciz "FAIL r16."
  .align 8
table:
  .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
table_register:
  .word 23
  .long 0xF0000 + AT(table)

  .code16
  .org FLAT_SIZE + 0xFFF0
  ljmp $0xF000, $AT(start)
  .org FLAT_SIZE + 0x10000
  .section .note.GNU-stack, "", @progbits
