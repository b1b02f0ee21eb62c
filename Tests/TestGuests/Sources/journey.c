// A guest that is sent through time: counts in memory and, sector by sector, on an IDE disk by its data register, watches
// the time stamp counter, and holds a pattern of random bytes. It polls, and says how it is when it is asked over COM1:
//
//   p: a new pattern.  l: "LOG count bad sum".  e: stops counting and says "END count".
//
// Compiled for 16, 32 and 64 bit.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define COM1 0x3F8
#define IDE 0x1F0
#ifdef SIXTEEN
enum { words = 4096 };
#else
enum { words = 1 << 20 };
#endif
// Sectors of the disk that are written in turn.
enum { ring = 1024 };

static inline void out8(u16 p, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(p)); }
static inline void out16(u16 p, u16 v) { __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(p)); }
static inline u8 in8(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u16 in16(u16 p) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline void out32(u16 p, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(p)); }
static inline u32 in32(u16 p) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u64 stamp(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}

static volatile u32 pattern[words];
static volatile u32 ticks;
void timer_interrupt(void) { ticks++; out8(0x20, 0x20); }
void serial_interrupt(void) { out8(0x20, 0x20); }

static void put(char c) {
  while (!(in8(COM1 + 5) & 0x20)) {}
  out8(COM1, c);
}
static void number(u32 value) {
  char digits[11];
  int count = 0;
  do digits[count++] = '0' + value % 10; while (value /= 10);
  put(' ');
  while (count) put(digits[--count]);
}

static void command(u32 sector, u8 code) {
  while (in8(IDE + 7) & 0x88) {}
  out8(IDE + 6, 0xE0);
  out8(IDE + 2, 1);
  out8(IDE + 3, sector); out8(IDE + 4, sector >> 8); out8(IDE + 5, sector >> 16);
  out8(IDE + 7, code);
  while ((in8(IDE + 7) & 0x88) != 8) {}
}
static void write_sector(u32 sector, u32 value) {
  command(sector, 0x30);
  out16(IDE, value); out16(IDE, value >> 16);
  for (int i = 2; i < 256; i++) out16(IDE, value + i);
  while (in8(IDE + 7) & 0x80) {}
}
static int sector_holds(u32 sector, u32 value) {
  command(sector, 0x20);
  int same = in16(IDE) == (u16)value;
  same &= in16(IDE) == (u16)(value >> 16);
  for (int i = 2; i < 256; i++) same &= in16(IDE) == (u16)(value + i);
  return same;
}

// Without firmware nobody has given the IDE controller its ports yet.
static void enable_ide(void) {
  for (u32 function = 0; function < 256; function++) {
    u32 place = 0x80000000u | function << 8;
    out32(0xCF8, place | 8);
    if (in32(0xCFC) >> 16 != 0x0101) continue;
    out32(0xCF8, place | 4);
    out32(0xCFC, 5);
  }
}

void guest_main(void) {
  u32 count = 0, again = 0, bad = 0, random = 1;
  u64 last = 0;
  enable_ide();
  for (const char *text = "JOURNEY\n"; *text; text++) put(*text);
  while (1) {
    // Two counters that are apart in time only: one of them twice, or not at all, is seen.
    count++;
    write_sector(count % ring, count);
    again++;
    bad += count != again;
    u64 now = stamp();
    bad += now < last;
    last = now;
    if (!(in8(COM1 + 5) & 1)) continue;
    u8 asked = in8(COM1);
    if (asked == 'p') {
      for (int i = 0; i < words; i++) pattern[i] = random = random * 1664525 + 1013904223 + (u32)now;
      put('P'); put('\n');
    } else if (asked == 'l') {
      for (u32 i = 0; i < 16 && i < count; i++) bad += !sector_holds((count - i) % ring, count - i);
      u32 sum = 0;
      for (int i = 0; i < words; i++) sum = (sum << 5 | sum >> 27) ^ pattern[i];
      put('L'); put('O'); put('G');
      number(count); number(bad); number(sum);
      put('\n');
    } else if (asked == 'e') {
      // To the medium, before the machine is switched off.
      out8(IDE + 7, 0xE7);
      while (in8(IDE + 7) & 0x80) {}
      put('E'); put('N'); put('D');
      number(count);
      put('\n');
      while (1) {}
    }
  }
}
