// A 64 KiB firmware image of our own: 16-bit real mode from the reset vector. Prints over COM1, counts ten PIT
// interrupts, receives one character by UART interrupt, echoes it, powers off through ACPI's PM1 control register.
  .code16
  .text
  .globl _start
_start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %ss
  movw $0x7000, %sp
  movw $(timer - _start), 0x20 * 4
  movw %cs, 0x20 * 4 + 2
  movw $(serial - _start), 0x24 * 4
  movw %cs, 0x24 * 4 + 2
  movw $0, 0x600          // ticks
  movb $0, 0x602          // received

  movw $0x3FB, %dx
  movb $3, %al
  outb %al, %dx
  movw $0x3FA, %dx
  movb $7, %al
  outb %al, %dx
  movw $0x3FC, %dx
  movb $0x0B, %al
  outb %al, %dx
  movw $(hello - _start), %si
  call print

  movb $0x11, %al
  outb %al, $0x20
  movb $0x20, %al
  outb %al, $0x21
  movb $4, %al
  outb %al, $0x21
  movb $1, %al
  outb %al, $0x21
  movb $0xFE, %al
  outb %al, $0x21
  movb $0x34, %al
  outb %al, $0x43
  movb $(11932 & 255), %al
  outb %al, $0x40
  movb $(11932 >> 8), %al
  outb %al, $0x40
  sti
1:
  hlt
  cmpw $10, 0x600
  jb 1b
  cli
  movw $(ticked - _start), %si
  call print

  movb $0xEF, %al
  outb %al, $0x21
  movw $0x3F9, %dx
  movb $1, %al
  outb %al, %dx
  sti
2:
  hlt
  cmpb $0, 0x602
  je 2b
  cli
  movw $(got - _start), %si
  call print
  movb 0x602, %al
  call put
  movw $(newline - _start), %si
  call print
  movw $0x604, %dx
  movw $0x2000, %ax
  outw %ax, %dx
3: hlt
  jmp 3b

print:
  movb %cs:(%si), %al
  incw %si
  testb %al, %al
  jz 4f
  call put
  jmp print
4: ret
put:
  pushw %ax
5:
  movw $0x3FD, %dx
  inb %dx, %al
  testb $0x20, %al
  jz 5b
  popw %ax
  movw $0x3F8, %dx
  outb %al, %dx
  ret

timer:
  pushw %ax
  incw 0x600
  movb $0x20, %al
  outb %al, $0x20
  popw %ax
  iret
serial:
  pushw %ax
  pushw %dx
  movw $0x3FA, %dx
  inb %dx, %al
  movw $0x3F8, %dx
  inb %dx, %al
  movb %al, 0x602
  movb $0x20, %al
  outb %al, $0x20
  popw %dx
  popw %ax
  iret

hello: .asciz "underjack test guest, 10 bit, firmware\r\n"
ticked: .asciz "ticks a\r\n"
got: .asciz "got "
newline: .asciz "\r\n"

  .org 0xFFF0
  ljmp $0xF000, $0
  .org 0x10000

  .section .note.GNU-stack, "", @progbits
