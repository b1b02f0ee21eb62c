// The check guest's own small kernel: what all of its files share. Everything is compiled twice, for 32-bit protected
// mode without paging and for 64-bit long mode.
#ifndef KERNEL_H
#define KERNEL_H
#include "layout.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef __UINTPTR_TYPE__ word;

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define BIT(number) (1u << (number))

// Instructions ---------------------------------------------------------------------------------------------------

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 in16(u16 port) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 in32(u16 port) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u64 time_stamp(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return (u64)high << 32 | low;
}
static inline u64 read_msr(u32 number) {
  u32 low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number) : "memory");
  return (u64)high << 32 | low;
}
static inline void write_msr(u32 number, u64 value) {
  __asm__ volatile("wrmsr" ::"a"((u32)value), "d"((u32)(value >> 32)), "c"(number) : "memory");
}
struct cpuid { u32 a, b, c, d; };
static inline struct cpuid cpuid(u32 leaf, u32 index) {
  struct cpuid r;
  __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(index));
  return r;
}
static inline void relax(void) { __asm__ volatile("pause" ::: "memory"); }
static inline void interrupts_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void interrupts_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void barrier(void) { __asm__ volatile("" ::: "memory"); }
#define MEMORY(type, address) (*(volatile type *)(word)(address))

// Console (COM1) and reports -------------------------------------------------------------------------------------

#define COM1 0x3F8
void console_start(void);
void put(char c);
char get(void);
// %s, %u (decimal), %x (hexadecimal), %X (64 bit, hexadecimal), %c
void print(const char *format, ...);
// One line for each check: 'ok STAGE.NAME' or 'FAIL STAGE.NAME what was seen'.
void check(const char *name, int passed, const char *format, ...);
#define CHECK(name, condition) check(name, (condition) != 0, "%s", #condition)
// 'skip STAGE.NAME reason': the machine has no such part; the test on the host knows whether it should have.
void skip(const char *name, const char *reason);
extern const char *stage;
int text_equal(const char *a, const char *b);
void fill(void *target, u8 value, u32 count);
void copy(void *target, const void *source, u32 count);

// What the host allows this run to execute, sent as a line of words before the checks.
int allowed(const char *word);

// Time -----------------------------------------------------------------------------------------------------------

// Time stamps in about a millisecond: good enough to give up waiting.
#define STAMPS_PER_MILLISECOND 2500000ull
// Looks some thousand times at least: a busy host may let the time go by between two looks.
#define WAIT(condition, milliseconds)                                                 \
  ({                                                                                  \
    u64 limit_ = time_stamp() + (milliseconds) * STAMPS_PER_MILLISECOND;              \
    u32 looks_ = 0;                                                                   \
    int met_;                                                                         \
    while (!(met_ = (condition) != 0) && (looks_++ < 3000 || time_stamp() < limit_)) relax(); \
    met_;                                                                             \
  })

static inline void sleep(u32 milliseconds) {
  u64 limit = time_stamp() + milliseconds * STAMPS_PER_MILLISECOND;
  while (time_stamp() < limit) relax();
}

// Traps ----------------------------------------------------------------------------------------------------------

struct frame {
#ifdef __x86_64__
  u64 r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax, vector, error, ip, cs, flags, sp, ss;
#else
  u32 di, si, bp, unused, bx, dx, cx, ax, vector, error, ip, cs, flags;
#endif
};
enum {
  DIVIDE = 0, DEBUG = 1, NMI = 2, BREAKPOINT = 3, INVALID_OPCODE = 6, NO_COPROCESSOR = 7, DOUBLE_FAULT = 8,
  GENERAL_PROTECTION = 13, PAGE_FAULT = 14, USER_CALL = 0x80, USER_DONE = 0x100
};
void traps_start(void);
void traps_load(void);
typedef void (*handler)(struct frame *);
void handle(u8 vector, handler function);
// Runs `body`; returns the vector of the exception that ended it, or -1. `trapped` is the frame of the last one.
int attempt(void (*body)(void *), void *argument);
extern struct frame trapped;
#ifdef __x86_64__
// As `attempt`, at CPL 3; a body that ends well gives USER_DONE.
int attempt_user(void (*body)(void *), void *argument);
void user_start(void);
#endif
// Handlers return by IRET, which some hosts cannot execute in 32-bit protected mode.
#ifdef __x86_64__
#define INTERRUPTS_WORK 1
#else
#define INTERRUPTS_WORK allowed("iret32")
#endif
// Interrupts that nobody had asked for.
extern volatile u32 stray_count, stray_vector;

// Interrupt chips ------------------------------------------------------------------------------------------------

#define PIC_BASE 0x20
#define PIC_SLAVE_BASE 0x28
void pic_start(void);                 // vectors 0x20 to 0x2F, all masked, edges, special fully nested off
void pic_mask(u16 mask);              // bit n: interrupt n is masked
void pic_end(u8 line);                // non-specific EOI
u16 pic_requested(void);              // IRR of both
u16 pic_serviced(void);               // ISR of both
void set_level_triggered(u16 lines);  // ELCR

#define LOCAL_APIC 0xFEE00000u
#define IO_APIC 0xFEC00000u
static inline u32 local_read(u32 offset) { return MEMORY(u32, LOCAL_APIC + offset); }
static inline void local_write(u32 offset, u32 value) { MEMORY(u32, LOCAL_APIC + offset) = value; }
void local_start(void);               // enabled, LINT0 from the PICs on processor 0, spurious vector 0xFF
void local_end(void);
u32 io_read(u8 index);
void io_write(u8 index, u32 value);
void io_route(u8 pin, u32 low, u8 destination);
#define IO_MASKED BIT(16)
#define IO_LEVEL BIT(15)
#define IO_REMOTE_IRR BIT(14)
#define IO_LOGICAL BIT(11)

// PCI ------------------------------------------------------------------------------------------------------------

u32 pci_read(u32 device, u32 function, u32 offset);
void pci_write(u32 device, u32 function, u32 offset, u32 value);
u8 pci_read8(u32 device, u32 function, u32 offset);
void pci_write8(u32 device, u32 function, u32 offset, u8 value);
void pci_write16(u32 device, u32 function, u32 offset, u16 value);
// -1 if there is none.
int pci_find(u32 vendor, u32 product);

// Virtio ---------------------------------------------------------------------------------------------------------

#define QUEUE_SIZE 8
struct descriptor { u64 address; u32 length; u16 flags, next; };
struct queue {
  struct descriptor table[QUEUE_SIZE] __attribute__((aligned(16)));
  volatile u16 available[QUEUE_SIZE + 3] __attribute__((aligned(2)));
  volatile u32 used[QUEUE_SIZE * 2 + 3] __attribute__((aligned(4)));
  volatile u16 *doorbell;
  u16 next;
};
struct virtio {
  int slot;
  word common, isr, device, notify;
  u32 multiplier;
  word vectors, pending;    // MSI-X table and pending bits
  u32 vector_capability;
  u16 queue_vector;         // what the device took
};
// Resets the device and negotiates; `features` are wished beyond VERSION_1. 0 if that failed.
int virtio_start(struct virtio *device, int slot, u64 features);
int virtio_queue(struct virtio *device, u16 index, struct queue *queue, u16 vector);
void virtio_ready(struct virtio *device);
// `readable` parts come first; returns the head's slot in flight. `poll` waits for the completion; returns its length or -1.
struct part { void *address; u32 length; int writable; };
void virtio_submit(struct queue *queue, const struct part *parts, u32 count);
int virtio_wait(struct queue *queue);
int virtio_is_done(struct queue *queue);

// The groups of checks -------------------------------------------------------------------------------------------

struct boot_information {
  u32 protocol;
  u32 command_line;
  u32 root_pointer;
  u32 memory_end;
};
#define boot ((const struct boot_information *)BOOT_INFORMATION)

void processor_checks(void);
void user_checks(void);
void chip_checks(void);
void timer_checks(void);
void serial_checks(void);
void apic_checks(void);
void pci_checks(void);
void virtio_checks(void);
void ahci_checks(void);
void rotation_checks(void);
void power_button_checks(void);
void table_checks(void);
void smp_checks(void);
void clock_checks(void);
// From the tables: local APIC identifiers of all processors; the count.
u32 processors_of_tables(u8 *identifiers, u32 limit);
extern u32 processor_count;
// The ACPI table with that name, or 0.
const u8 *find_table(const char *name);

#endif
