// The first two sectors of a bzImage (boot protocol 2.12); what follows is the image for 1 MiB. LOAD_FLAGS is 1 for a
// kernel with a 64-bit entry, FLAT the image.
  .text
  .globl _start
_start:
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
  .word LOAD_FLAGS        // xloadflags
  .long 2047              // cmdline_size
  .long 0
  .quad 0
  .long 0, 0
  .quad 0
  .quad 0x100000          // pref_address
  .long 0x500000          // init_size
  .long 0
setup_end:
  .org 0x400
  .incbin FLAT
  .section .note.GNU-stack, "", @progbits
