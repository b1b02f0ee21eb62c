// Where the parts of the check guest lie; read by C and by the assembler.
#define IMAGE_START 0x100000   // the flat image: 32-bit part, then the 64-bit part
#define ENTRY64_OFFSET 0x200   // Linux's 64-bit entry
#define STAGE64_START 0x130000
#define STAGE64_TABLES (STAGE64_START + 0x1000)  // PML4, PDPT, four page directories
#define BOOT_INFORMATION 0x1F0000
#define BSS32_START 0x300000
#define BSS64_START 0x400000
#define TRAMPOLINE 0x70000     // start-up page of the other processors
#define PROCESSOR_LIMIT 16
#define STACK_SIZE 8192

// How the image was entered (struct boot_information.protocol).
#define ENTERED_MULTIBOOT 1
#define ENTERED_PVH 2
#define ENTERED_LINUX32 3
#define ENTERED_LINUX64 4
#define ENTERED_FIRMWARE 5
