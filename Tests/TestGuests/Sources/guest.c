// A guest for tests: talks over COM1, takes PIT and UART interrupts, drives a legacy virtio disk.
//
// Compiled for 32 bit (behind start32.S, multiboot) and 64 bit (behind start64.S, Linux boot protocol). It is built by
// the tests with the C compiler; no binary of it is stored.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef __UINTPTR_TYPE__ word;

#define COM1 0x3F8

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 in16(u16 port) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 in32(u16 port) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static void put(char c) {
  while (!(in8(COM1 + 5) & 0x20)) {}
  out8(COM1, c);
}
static void print(const char *text) { for (; *text; text++) put(*text); }
static void hexadecimal(u64 value) {
  int started = 0;
  for (int shift = 60; shift >= 0; shift -= 4) {
    int digit = (value >> shift) & 15;
    if (digit || started || shift == 0) { put("0123456789abcdef"[digit]); started = 1; }
  }
}

// Interrupts -----------------------------------------------------------------------------------------------------

extern void timer_entry(void), serial_entry(void), load_idt(void *);
static volatile u32 ticks;
static volatile u8 received[64];
static volatile u32 received_count;

void timer_interrupt(void) {
  ticks++;
  out8(0x20, 0x20);
}
void serial_interrupt(void) {
  while (in8(COM1 + 5) & 1) {
    u8 c = in8(COM1);
    if (received_count < sizeof received) received[received_count++] = c;
  }
  (void)in8(COM1 + 2);
  out8(0x20, 0x20);
}

static u32 idt[256 * (sizeof(word) / 2)] __attribute__((aligned(16)));
extern u16 code_selector(void);

static void gate(int vector, void (*entry)(void)) {
  u32 *slot = &idt[vector * (sizeof(word) / 2)];
  word address = (word)entry;
  slot[0] = (address & 0xFFFF) | ((u32)code_selector() << 16);
  slot[1] = (address & 0xFFFF0000) | 0x8E00;
#ifdef __x86_64__
  slot[2] = address >> 32;
  slot[3] = 0;
#endif
}

static void start_interrupts(void) {
  struct { u16 limit; word base; } __attribute__((packed)) descriptor = {sizeof idt - 1, (word)idt};
  gate(0x20, timer_entry);
  gate(0x24, serial_entry);
  load_idt(&descriptor);
  out8(0x20, 0x11); out8(0x21, 0x20); out8(0x21, 4); out8(0x21, 1);
  out8(0xA0, 0x11); out8(0xA1, 0x28); out8(0xA1, 2); out8(0xA1, 1);
  out8(0x21, 0xFF); out8(0xA1, 0xFF);
  __asm__ volatile("sti");
}

static void count_ticks(void) {
  ticks = 0;
  out8(0x43, 0x34); out8(0x40, 11932 & 0xFF); out8(0x40, 11932 >> 8);  // 100 Hz
  out8(0x21, 0xFE);
  while (ticks < 10) __asm__ volatile("hlt");
  out8(0x21, 0xFF);
  print("ticks "); hexadecimal(ticks); print("\r\n");
}

static void receive_by_interrupt(void) {
  received_count = 0;
  out8(COM1 + 4, 0x0B);
  out8(COM1 + 1, 1);
  out8(0x21, 0xEF);
  print("waiting\r\n");
  while (!received_count || received[received_count - 1] != '.') __asm__ volatile("hlt");
  out8(COM1 + 1, 0);
  out8(0x21, 0xFF);
  print("got ");
  for (u32 i = 0; i < received_count; i++) put(received[i]);
  print("\r\n");
}

// PCI and a legacy virtio disk -----------------------------------------------------------------------------------

static u32 pci_read(u32 slot, u32 offset) {
  out32(0xCF8, 0x80000000u | slot << 11 | offset);
  return in32(0xCFC);
}
static void pci_write(u32 slot, u32 offset, u32 value) {
  out32(0xCF8, 0x80000000u | slot << 11 | offset);
  out32(0xCFC, value);
}

static u8 rings[16384] __attribute__((aligned(4096)));
static u8 sector[512] __attribute__((aligned(16)));
static struct { u32 type, reserved; u64 sector; } request __attribute__((aligned(16)));
static volatile u8 status;
static u16 disk_port, ring_size, next_available;

static int find_disk(void) {
  if (disk_port) return 1;
  for (u32 slot = 0; slot < 32; slot++) {
    if (pci_read(slot, 0) != 0x10011AF4) continue;
    u32 bar = pci_read(slot, 0x10);
    if (!(bar & ~3u)) pci_write(slot, 0x10, bar = 0xC001);  // no firmware was here
    pci_write(slot, 4, pci_read(slot, 4) | 7);
    disk_port = bar & 0xFFFC;
    out8(disk_port + 0x12, 0);
    out8(disk_port + 0x12, 1);
    out8(disk_port + 0x12, 3);
    (void)in32(disk_port);
    out32(disk_port + 4, 1u << 9);  // FLUSH
    out16(disk_port + 0xE, 0);
    ring_size = in16(disk_port + 0xC);
    if (ring_size == 0 || ring_size > 256) return 0;
    out32(disk_port + 8, (u32)(word)rings >> 12);
    out8(disk_port + 0x12, 7);
    return 1;
  }
  return 0;
}

static int transfer(u32 type, u64 number) {
  struct descriptor { u64 address; u32 length; u16 flags, next; } *table = (void *)rings;
  volatile u16 *available = (void *)(rings + 16 * ring_size);
  volatile u16 *used = (void *)(((word)(available + 3 + ring_size) + 4095) & ~(word)4095);
  request.type = type; request.reserved = 0; request.sector = number; status = 0xFF;
  int data = type != 4;
  table[0] = (struct descriptor){(word)&request, 16, 1, data ? 1 : 2};
  table[1] = (struct descriptor){(word)sector, 512, 1 | (type == 0 ? 2 : 0), 2};
  table[2] = (struct descriptor){(word)&status, 1, 2, 0};
  u16 before = used[1];
  available[2 + next_available % ring_size] = 0;
  next_available++;
  __asm__ volatile("" ::: "memory");
  available[1] = next_available;
  __asm__ volatile("" ::: "memory");
  out16(disk_port + 0x10, 0);
  while (used[1] == before) __asm__ volatile("pause" ::: "memory");
  return status;
}

static void disk(char verb, char value) {
  if (!find_disk()) { print("no disk\r\n"); return; }
  if (verb == 'w') {
    for (int i = 0; i < 512; i++) sector[i] = value;
    int result = transfer(1, 100);
    int flushed = transfer(4, 0);
    print("wrote "); put(value); print(" status "); hexadecimal(result | flushed); print("\r\n");
  } else {
    for (int i = 0; i < 512; i++) sector[i] = '-';
    int result = transfer(0, 100);
    print("read "); put(sector[0] ? sector[0] : '0'); print(" status "); hexadecimal(result); print("\r\n");
  }
}

// The conversation -----------------------------------------------------------------------------------------------

static char get(void) {
  while (!(in8(COM1 + 5) & 1)) __asm__ volatile("pause");
  return in8(COM1);
}

void guest_main(const char *boot, u64 memory, const char *command_line) {
  out8(COM1 + 1, 0); out8(COM1 + 3, 3); out8(COM1 + 2, 7); out8(COM1 + 4, 3);
  print("underjack test guest, "); hexadecimal(sizeof(word) * 8); print(" bit, "); print(boot);
  print(", memory "); hexadecimal(memory); print(", command line '"); print(command_line); print("'\r\n");
  start_interrupts();
  for (;;) {
    print("> ");
    char c = get();
    put(c); print("\r\n");
    switch (c) {
    case 't': count_ticks(); break;
    case 'u': receive_by_interrupt(); break;
    case 'w': disk(c, get()); break;
    case 'r': disk(c, 0); break;
    case 'p': out16(0x604, 0x2000); break;
    case 'x': out8(0xCF9, 2); out8(0xCF9, 6); break;
    case 'f': { u64 none = 0; load_idt(&none); __asm__ volatile("ud2"); break; }
    case 'd': out8(0xF4, 21); break;
    case 'h': __asm__ volatile("cli; hlt"); break;
    case 's': while (1) { out8(0x21, 0xFF); __asm__ volatile("sti; hlt"); }  // idle for good
    default: print("t ticks, u receive, w write, r read, p power off, x reset, f fault, d debug exit\r\n");
    }
  }
}
