// A driver for the SATA adapter (Serial ATA AHCI 1.3.1): one disk on port 0, and the way of an interrupt as a plain MSI
// message, masked and not (PCI Local Bus 3.0, 6.8.1).
#include "kernel.h"

static word base;
static int slot;
static u32 capability;
static struct { u32 flags, transferred, table, upper, reserved[4]; } list[32] __attribute__((aligned(1024)));
static u8 frames[256] __attribute__((aligned(256)));
static struct { u8 frame[64], packet[64]; struct { u32 address, upper, reserved, count; } pieces[2]; } table __attribute__((aligned(128)));
static u8 data[1024] __attribute__((aligned(16)));
static volatile u32 interrupts, status_seen;

enum { START = 1, RECEIVE = 1 << 4, RUNNING = 1 << 15 };
#define HOST(offset) MEMORY(u32, base + (offset))
#define PORT(offset) MEMORY(u32, base + 0x100 + (offset))

static void message(struct frame *frame) {
  (void)frame;
  interrupts++;
  status_seen |= PORT(0x10);
  PORT(0x10) = 0xFFFFFFFF;
  HOST(0x08) = 1;
  local_end();
}

static void find_capability(void) {
  capability = 0;
  for (u32 at = pci_read8(slot, 0, 0x34); at; at = pci_read8(slot, 0, at + 1))
    if (pci_read8(slot, 0, at) == 5) capability = at;
}

static void issue(u8 command, u32 sector, u16 count, u16 features, int writes, u32 length) {
  fill(&table, 0, sizeof table);
  table.frame[0] = 0x27;
  table.frame[1] = 0x80;
  table.frame[2] = command;
  table.frame[3] = features;
  table.frame[4] = sector;
  table.frame[5] = sector >> 8;
  table.frame[6] = sector >> 16;
  table.frame[7] = 0x40;
  table.frame[8] = sector >> 24;
  table.frame[11] = features >> 8;
  table.frame[12] = count;
  table.frame[13] = count >> 8;
  // Two pieces, so that the table is more than one entry.
  table.pieces[0].address = (u32)(word)data;
  table.pieces[0].count = 128 - 1;
  table.pieces[1].address = (u32)(word)data + 128;
  table.pieces[1].count = length - 128 - 1;
  list[0].flags = 5 | (writes ? 1 << 6 : 0) | (length ? 2u << 16 : 0);
  list[0].transferred = 0;
  list[0].table = (u32)(word)&table;
  list[0].upper = 0;
  __sync_synchronize();
  if (command == 0x60 || command == 0x61) PORT(0x34) = 1;
  PORT(0x38) = 1;
}

// 1: it is done; 0: it failed, and the port is started again.
static int finish(void) {
  int over = WAIT(!((PORT(0x38) | PORT(0x34)) & 1) || PORT(0x10) >> 24, 2000);
  barrier();
  if (over && !((PORT(0x38) | PORT(0x34)) & 1)) return 1;
  PORT(0x18) = RECEIVE;
  WAIT(!(PORT(0x18) & RUNNING), 500);
  PORT(0x10) = 0xFFFFFFFF;
  PORT(0x30) = 0xFFFFFFFF;
  PORT(0x18) = RECEIVE | START;
  return 0;
}

static int run(u8 command, u32 sector, u16 count, u16 features, int writes, u32 length) {
  issue(command, sector, count, features, writes, length);
  return finish();
}

static int is_sector(u32 number) { return *(const u32 *)data == number && data[4] == 'a' && data[511] == (u8)number; }

static int start(void) {
  u32 command = pci_read(slot, 0, 4) & 0xFFFF;
  if (!(pci_read(slot, 0, 0x24) & ~15u)) {
    pci_write16(slot, 0, 4, command & ~7);
    pci_write(slot, 0, 0x24, 0xEF000000);
  }
  base = pci_read(slot, 0, 0x24) & ~15u;
  pci_write16(slot, 0, 4, (command & ~0x400) | 6);
  HOST(0x04) = BIT(31) | 1;
  if (!WAIT(!(HOST(0x04) & 1), 500)) return 0;
  PORT(0x00) = (u32)(word)list;
  PORT(0x04) = 0;
  PORT(0x08) = (u32)(word)frames;
  PORT(0x0C) = 0;
  PORT(0x30) = 0xFFFFFFFF;
  PORT(0x10) = 0xFFFFFFFF;
  PORT(0x18) = RECEIVE;
  if (!WAIT(!(PORT(0x20) & 0x88), 500)) return 0;
  PORT(0x18) = RECEIVE | START;
  return WAIT(PORT(0x18) & RUNNING, 500);
}

static void disk(void) {
  u32 version = HOST(0x10), ports = HOST(0x0C);
  check("ahci.registers", version == 0x00010301 && ports == 1 && HOST(0x00) & BIT(31), "version %x, ports %x", version, ports);
  check("ahci.link", (PORT(0x28) & 0xF0F) == 0x103 && PORT(0x24) == 0x101, "SSTS %x, SIG %x", PORT(0x28), PORT(0x24));
  int done = run(0xEC, 0, 0, 0, 0, 512);
  const u16 *words = (const u16 *)data;
  check("ahci.identify", done && words[100] == 2048 && words[75] == 31 && words[10] == ('C' << 8 | 'H'), "%u, %u sectors, serial %x", done,
        words[100], words[10]);
  fill(data, 0, sizeof data);
  done = run(0x25, 7, 1, 0, 0, 512);
  check("ahci.read", done && is_sector(7) && list[0].transferred == 512, "%u, %x, %u bytes", done, *(u32 *)data, list[0].transferred);
  done = run(0x60, 2047, 0, 1, 0, 512);
  check("ahci.read-queued", done && is_sector(2047), "%u, %x", done, *(u32 *)data);
  for (int i = 0; i < 512; i++) data[i] = i ^ 0xA5;
  done = run(0x35, 100, 1, 0, 1, 512);
  int flushed = run(0xEA, 0, 0, 0, 0, 0);
  fill(data, 0, sizeof data);
  int again = run(0xC8, 100, 1, 0, 0, 512), same = 1;
  for (int i = 0; i < 512; i++) same &= data[i] == (u8)(i ^ 0xA5);
  check("ahci.write", done && flushed && again && same, "%u %u %u %u", done, flushed, again, same);
  issue(0x25, 2048, 1, 0, 0, 512);
  int failed = WAIT(PORT(0x10) & BIT(30), 1000);
  u32 task = PORT(0x20);
  finish();
  check("ahci.read-beyond", failed && (task & 0xFFFF) == 0x1051, "%u, task file %x", failed, task);
}

static void set_message(u32 enabled) {
  pci_write(slot, 0, capability + 4, LOCAL_APIC);
  pci_write(slot, 0, capability + 8, 0);
  pci_write16(slot, 0, capability + 12, 0x63);
  pci_write16(slot, 0, capability + 2, enabled);
}

static void messages(void) {
  find_capability();
  u32 control = capability ? pci_read(slot, 0, capability) >> 16 : 0;
  check("msi.capability", capability && (control & 0x181) == 0x180, "at %x, control %x", capability, control);
  if (!capability) return;
  local_start();
  handle(0x63, message);
  pci_write(slot, 0, capability + 16, 0);
  set_message(1);
  PORT(0x10) = 0xFFFFFFFF;
  HOST(0x08) = 0xFFFFFFFF;
  PORT(0x14) = 0x7DC0007F;
  HOST(0x04) = BIT(31) | 2;
  interrupts = status_seen = 0;
  fill(data, 0, sizeof data);
  stray_count = 0;
  interrupts_on();
  issue(0x25, 33, 1, 0, 0, 512);
  int came = WAIT(interrupts, 1000);
  sleep(2);
  interrupts_off();
  check("msi.delivery", came && interrupts == 1 && status_seen == 1 && is_sector(33) && !stray_count,
        "%u interrupts, status %x, sector %x, %u others", interrupts, status_seen, *(u32 *)data, stray_count);
  // Masked: pending is set; unmasked: it comes.
  pci_write(slot, 0, capability + 16, 1);
  interrupts = 0;
  interrupts_on();
  issue(0x25, 34, 1, 0, 0, 512);
  int pended = WAIT(pci_read(slot, 0, capability + 20) & 1, 1000);
  u32 early = interrupts;
  pci_write(slot, 0, capability + 16, 0);
  came = WAIT(interrupts, 500);
  interrupts_off();
  check("msi.mask", pended && !early && came && !(pci_read(slot, 0, capability + 20) & 1) && is_sector(34),
        "pending %u, %u early, came %u, pending %x", pended, early, came, pci_read(slot, 0, capability + 20));
  // A message goes to the processor and in the manner that its address and data say: here logical, to the first.
  local_write(0xD0, 0x01000000);
  local_write(0xE0, 0xFFFFFFFF);
  pci_write(slot, 0, capability + 4, LOCAL_APIC | 1 << 12 | 1 << 2);
  interrupts = 0;
  interrupts_on();
  issue(0x25, 35, 1, 0, 0, 512);
  came = WAIT(interrupts, 1000);
  interrupts_off();
  check("msi.logical", came && interrupts == 1 && is_sector(35), "%u interrupts", interrupts);
  // Off: it is a level again, which nobody listens to here; the status in configuration space shows it.
  set_message(0);
  issue(0x25, 36, 1, 0, 0, 512);
  finish();
  int level = WAIT(pci_read(slot, 0, 4) & BIT(19), 500);
  check("msi.off", level && interrupts == 1, "status %x, %u interrupts", pci_read(slot, 0, 4), interrupts);
  handle(0x63, 0);
}

void ahci_checks(void) {
  interrupts_off();
  slot = pci_find(0x8086, 0x2922);
  if (slot < 0) { skip("ahci", "there is none"); return; }
  int started = start();
  CHECK("ahci.start", started);
  if (!started) return;
  disk();
  if (INTERRUPTS_WORK) messages();
  HOST(0x04) = BIT(31) | 1;
  int gone = WAIT(!(HOST(0x04) & 1), 500);
  check("ahci.reset", gone && !(pci_read(slot, 0, 4) & BIT(19)), "%x", HOST(0x04));
}
