// Local APIC and I/O APIC (Intel SDM 3A, chapter 11; 82093AA data sheet).
#include "kernel.h"

void local_start(void) {
  local_write(0xF0, 0x1FF);                   // on, spurious vector 0xFF
  local_write(0x350, local_read(0x20) >> 24 ? BIT(16) : 0x700);  // LINT0: the PICs, on the first processor
  local_write(0x360, 0x400);                  // LINT1: NMI
  local_write(0x370, BIT(16) | 0xFD);
  local_write(0x80, 0);
}
void local_end(void) { local_write(0xB0, 0); }

u32 io_read(u8 index) {
  MEMORY(u32, IO_APIC) = index;
  return MEMORY(u32, IO_APIC + 0x10);
}
void io_write(u8 index, u32 value) {
  MEMORY(u32, IO_APIC) = index;
  MEMORY(u32, IO_APIC + 0x10) = value;
}
void io_route(u8 pin, u32 low, u8 destination) {
  io_write(0x10 + 2 * pin, IO_MASKED);
  io_write(0x11 + 2 * pin, (u32)destination << 24);
  io_write(0x10 + 2 * pin, low);
}

static volatile u32 counts[256];
static volatile u32 in_service[256];
static void count(struct frame *frame) {
  u32 vector = frame->vector;
  in_service[vector] = local_read(0x100 + 0x10 * (vector / 32)) >> vector % 32 & 1;
  counts[frame->vector]++;
  local_end();
}
static void count_spurious(struct frame *frame) { counts[frame->vector]++; }

static void registers(void) {
  u32 base = (u32)read_msr(0x1B);
  check("apic.base", (base & 0xFFFFF000) == LOCAL_APIC && base & BIT(11) && base & BIT(8), "%x", base);
  u32 version = local_read(0x30);
  check("apic.version", (version & 0xF0) == 0x10 && (version >> 16 & 0xFF) >= 4, "%x", version);
  u32 identifier = local_read(0x20) >> 24, told = cpuid(1, 0).b >> 24;
  check("apic.identifier", identifier == told && identifier == 0, "%u, CPUID says %u", identifier, told);
  local_start();
  check("apic.spurious-register", (local_read(0xF0) & 0x1FF) == 0x1FF, "%x", local_read(0xF0));
  local_write(0x80, 0x50);
  u32 priority = local_read(0xA0);
  check("apic.priority", (priority & 0xF0) == 0x50, "PPR %x", priority);
  local_write(0x80, 0);
  local_write(0xD0, 0x2A000000);
  check("apic.logical-destination", local_read(0xD0) >> 24 == 0x2A, "%x", local_read(0xD0));
  local_write(0xD0, 0x01000000);
  local_write(0xE0, 0xFFFFFFFF);

  u32 io = io_read(1);
  check("ioapic.version", (io & 0xFF) >= 0x11 && (io >> 16 & 0xFF) == 23, "%x", io);
  io_write(0, 0x05000000);
  u32 number = io_read(0) >> 24 & 15;
  io_write(0, 0);
  check("ioapic.identifier", number == 5, "%x", number);
  io_write(0x10 + 2 * 7, IO_MASKED | 0xA7);
  io_write(0x11 + 2 * 7, 0x03000000);
  u32 low = io_read(0x10 + 2 * 7), high = io_read(0x11 + 2 * 7);
  check("ioapic.entry", low == (IO_MASKED | 0xA7) && high == 0x03000000, "%x %x", high, low);
  io_write(0x10 + 2 * 7, IO_MASKED | 0x50A7);  // delivery status and remote IRR cannot be written
  check("ioapic.read-only-bits", !(io_read(0x10 + 2 * 7) & 0x5000), "%x", io_read(0x10 + 2 * 7));
  io_route(7, IO_MASKED, 0);
}

// Without interrupts: a message to oneself is pending in IRR.
static void pending(void) {
  interrupts_off();
  local_write(0x310, 0);
  local_write(0x300, 0x40000 | 0x71);  // shorthand: self
  int requested = WAIT(local_read(0x200 + 0x10 * (0x71 / 32)) >> 0x71 % 32 & 1, 100);
  check("apic.self-request", requested, "IRR %x", local_read(0x230));
  if (!allowed("exact-apic")) return;  // some deliver it
  local_write(0x280, 0);
  local_write(0x300, 0x40000 | 0x03);  // an illegal vector
  local_write(0x280, 0);
  u32 error = local_read(0x280);
  check("apic.illegal-vector", error & 0x20, "ESR %x", error);
}

static void one_shot(u16 clocks) { out8(0x43, 0x30); out8(0x40, clocks); out8(0x40, clocks >> 8); }

static void local_delivery(void) {
  for (u32 vector = 0x40; vector < 0xF0; vector++) handle(vector, count);
  handle(0xFF, count_spurious);
  handle(0x71, count);
  interrupts_on();
  int came = WAIT(counts[0x71], 100);
  check("apic.self-interrupt", came && counts[0x71] == 1, "%u", counts[0x71]);
  if (allowed("local-in-service")) {
    u32 after = local_read(0x130) >> (0x71 % 32) & 1;
    check("apic.in-service", in_service[0x71] && !after, "ISR %u in the handler, %u after", in_service[0x71], after);
  }

  local_write(0x80, 0x80);  // TPR: classes up to 8 wait
  local_write(0x300, 0x40000 | 0x72);
  WAIT(counts[0x72], 3);
  u32 early = counts[0x72];
  local_write(0x80, 0);
  came = WAIT(counts[0x72], 100);
  check("apic.task-priority", !early && came, "%u, then %u", early, counts[0x72]);

  // Two requests: the higher class first.
  interrupts_off();
  local_write(0x300, 0x40000 | 0x45);
  local_write(0x300, 0x40000 | 0xC5);
  interrupts_on();
  came = WAIT(counts[0x45] && counts[0xC5], 100);
  check("apic.two-requests", came, "%u %u", counts[0x45], counts[0xC5]);

  // Timer, one shot and periodic.
  local_write(0x3E0, 0xB);
  local_write(0x320, 0x73);
  local_write(0x380, 2000000);
  came = WAIT(counts[0x73], 300);
  sleep(3);
  check("apic.timer-one-shot", came && counts[0x73] == 1 && local_read(0x390) == 0, "%u, count %x", counts[0x73], local_read(0x390));
  local_write(0x320, 0x20000 | 0x74);
  local_write(0x380, 2000000);
  came = WAIT(counts[0x74] >= 3, 300);
  local_write(0x320, BIT(16) | 0x74);
  local_write(0x380, 0);
  check("apic.timer-periodic", came, "%u", counts[0x74]);
  if (cpuid(1, 0).c & BIT(24)) {
    local_write(0x320, 0x40000 | 0x75);
    u64 deadline = time_stamp() + 5000000;
    write_msr(0x6E0, deadline);
    came = WAIT(counts[0x75], 300);
    u64 now = time_stamp();
    check("apic.timer-deadline", came && counts[0x75] == 1 && now >= deadline && read_msr(0x6E0) == 0, "%u, %X of %X, left %X",
          counts[0x75], now, deadline, read_msr(0x6E0));
    local_write(0x320, BIT(16) | 0x75);
  }
  interrupts_off();
}

static void io_delivery(void) {
  pic_start();
  counts[0x50] = counts[0x51] = 0;
  // The timer arrives at pin 2, as the tables say.
  io_route(2, 0x50, 0);
  interrupts_on();
  one_shot(1000);
  int came = WAIT(counts[0x50], 200);
  check("ioapic.edge", came && counts[0x50] == 1, "%u", counts[0x50]);
  io_route(2, IO_MASKED | 0x50, 0);
  one_shot(1000);
  WAIT(pic_requested() & 1, 100);
  sleep(1);
  check("ioapic.mask", counts[0x50] == 1, "%u", counts[0x50]);
  out8(0x20, 0x60);

  io_route(2, IO_LOGICAL | 0x51, 1);
  one_shot(1000);
  came = WAIT(counts[0x51], 200);
  check("ioapic.logical", came && counts[0x51] == 1, "%u", counts[0x51]);
  io_route(2, IO_MASKED, 0);

  // An edge of the UART: pin 4.
  io_route(4, 0x52, 0);
  out8(COM1 + 4, 0x0B);
  out8(COM1 + 1, 2);
  came = WAIT(counts[0x52], 200);
  out8(COM1 + 1, 0);
  in8(COM1 + 2);
  out8(COM1 + 4, 3);
  io_route(4, IO_MASKED, 0);
  check("ioapic.uart", came && counts[0x52] == 1, "%u", counts[0x52]);
  interrupts_off();
  pic_start();
}

// The same registers by MSR (SDM 3A, 11.12).
static void by_msr(void) {
  if (!(cpuid(1, 0).c & BIT(21))) return;
  u64 base = read_msr(0x1B);
  u32 old_version = local_read(0x30);
  write_msr(0x1B, base | BIT(10));
  u32 identifier = (u32)read_msr(0x802), version = (u32)read_msr(0x803);
  check("x2apic.registers", read_msr(0x1B) & BIT(10) && identifier == cpuid(1, 0).b >> 24 && version == old_version,
        "base %X, identifier %x, version %x", read_msr(0x1B), identifier, version);
  write_msr(0x80F, 0x1FF);
  if (INTERRUPTS_WORK) {
    handle(0x76, count_spurious);  // ends by MSR
    counts[0x76] = 0;
    interrupts_on();
    write_msr(0x83F, 0x76);
    int came = WAIT(counts[0x76], 100);
    interrupts_off();
    write_msr(0x80B, 0);
    check("x2apic.self-interrupt", came && counts[0x76] == 1, "%u", counts[0x76]);
    handle(0x76, 0);
  }
  // The way back leads through off.
  write_msr(0x1B, base & ~(u64)(BIT(11) | BIT(10)));
  write_msr(0x1B, base);
  local_start();
  check("x2apic.back", local_read(0x30) == old_version && (local_read(0xF0) & 0x100), "version %x", local_read(0x30));
}

void apic_checks(void) {
  interrupts_off();
  pic_start();
  registers();
  pending();
  if (INTERRUPTS_WORK) {
    local_delivery();
    io_delivery();
  }
  by_msr();
}
