// Drivers for modern virtio functions (Virtual I/O Device 1.2), and what they show about disk, CD-ROM, entropy and the
// ways an interrupt can take: INTx as a level, MSI-X.
#include "kernel.h"

enum { COMMON = 1, NOTIFY = 2, ISR = 3, DEVICE = 4 };
enum { NEXT = 1, WRITE = 2 };
#define VERSION_1 (1ull << 32)
#define VECTOR_NONE 0xFFFF

static u32 next_memory = 0xE0000000;

// Where a base address register points; gives it a place if firmware has not.
static word base_address(int slot, u32 bar) {
  u32 offset = 0x10 + 4 * bar, low = pci_read(slot, 0, offset);
  if (!(low & ~15u) && !(low & 1)) {
    pci_write16(slot, 0, 4, pci_read(slot, 0, 4) & ~7);
    pci_write(slot, 0, offset, next_memory);
    if (low & 4) pci_write(slot, 0, offset + 4, 0);
    next_memory += 0x100000;
    low = pci_read(slot, 0, offset);
  }
  return low & ~15u;
}

static void find_structures(struct virtio *device) {
  for (u32 at = pci_read8(device->slot, 0, 0x34); at; at = pci_read8(device->slot, 0, at + 1)) {
    u32 kind = pci_read8(device->slot, 0, at);
    if (kind == 0x11) {
      device->vector_capability = at;
      u32 table = pci_read(device->slot, 0, at + 4), pending = pci_read(device->slot, 0, at + 8);
      device->vectors = base_address(device->slot, table & 7) + (table & ~7u);
      device->pending = base_address(device->slot, pending & 7) + (pending & ~7u);
    }
    if (kind != 9) continue;
    u32 type = pci_read8(device->slot, 0, at + 3);
    if (type < COMMON || type > DEVICE) continue;
    word place = base_address(device->slot, pci_read8(device->slot, 0, at + 4)) + pci_read(device->slot, 0, at + 8);
    switch (type) {
    case COMMON: device->common = place; break;
    case NOTIFY:
      device->notify = place;
      device->multiplier = pci_read(device->slot, 0, at + 16);
      break;
    case ISR: device->isr = place; break;
    case DEVICE: device->device = place; break;
    }
  }
  pci_write16(device->slot, 0, 4, pci_read(device->slot, 0, 4) | 6);
}

int virtio_start(struct virtio *device, int slot, u64 features) {
  fill(device, 0, sizeof *device);
  device->slot = slot;
  find_structures(device);
  word c = device->common;
  if (!c || !device->notify) return 0;
  MEMORY(u8, c + 0x14) = 0;
  if (!WAIT(MEMORY(u8, c + 0x14) == 0, 100)) return 0;
  MEMORY(u8, c + 0x14) = 1;
  MEMORY(u8, c + 0x14) = 3;
  u64 wanted = features | VERSION_1, offered = 0;
  for (u32 half = 0; half < 2; half++) {
    MEMORY(u32, c) = half;
    offered |= (u64)MEMORY(u32, c + 4) << 32 * half;
  }
  if ((offered & VERSION_1) == 0) return 0;
  wanted &= offered;
  for (u32 half = 0; half < 2; half++) {
    MEMORY(u32, c + 8) = half;
    MEMORY(u32, c + 12) = wanted >> 32 * half;
  }
  MEMORY(u8, c + 0x14) = 11;
  if (!(MEMORY(u8, c + 0x14) & 8)) return 0;
  if (device->vector_capability)
    pci_write16(slot, 0, device->vector_capability + 2, pci_read(slot, 0, device->vector_capability) >> 16 & 0x7FF);
  return 1;
}

int virtio_queue(struct virtio *device, u16 index, struct queue *queue, u16 vector) {
  word c = device->common;
  fill(queue, 0, sizeof *queue);
  MEMORY(u16, c + 0x16) = index;
  if (MEMORY(u16, c + 0x18) < QUEUE_SIZE) return 0;
  MEMORY(u16, c + 0x18) = QUEUE_SIZE;
  MEMORY(u16, c + 0x1A) = vector;
  device->queue_vector = MEMORY(u16, c + 0x1A);
  word places[3] = {(word)queue->table, (word)queue->available, (word)queue->used};
  for (u32 i = 0; i < 3; i++) {
    MEMORY(u32, c + 0x20 + 8 * i) = places[i];
    MEMORY(u32, c + 0x24 + 8 * i) = 0;
  }
  queue->doorbell = (volatile u16 *)(device->notify + MEMORY(u16, c + 0x1E) * device->multiplier);
  MEMORY(u16, c + 0x1C) = 1;
  queue->next = index;  // what the doorbell is told
  return MEMORY(u16, c + 0x1C) == 1;
}

void virtio_ready(struct virtio *device) { MEMORY(u8, device->common + 0x14) = 15; }

// One request at a time, so descriptors always begin at 0.
void virtio_submit(struct queue *queue, const struct part *parts, u32 count) {
  for (u32 i = 0; i < count; i++)
    queue->table[i] = (struct descriptor){(word)parts[i].address, parts[i].length,
                                          (parts[i].writable ? WRITE : 0) | (i + 1 < count ? NEXT : 0), i + 1};
  u16 position = queue->available[1];
  queue->available[2 + position % QUEUE_SIZE] = 0;
  __sync_synchronize();
  queue->available[1] = position + 1;
  __sync_synchronize();
  *queue->doorbell = queue->next;
}

int virtio_is_done(struct queue *queue) { return (u16)(queue->used[0] >> 16) == queue->available[1]; }

int virtio_wait(struct queue *queue) {
  if (!WAIT(virtio_is_done(queue), 2000)) return -1;
  barrier();
  u16 position = (u16)(queue->available[1] - 1) % QUEUE_SIZE;
  return queue->used[1 + 2 * position + 1];
}

// Interrupts -----------------------------------------------------------------------------------------------------

static struct queue queue __attribute__((aligned(4096)));
static struct virtio *interrupting;
static volatile u32 interrupts, isr_seen, remote_seen, keep_asserted;
static u8 line;

static void message(struct frame *frame) {
  (void)frame;
  interrupts++;
  local_end();
}
static void level_by_pic(struct frame *frame) {
  (void)frame;
  interrupts++;
  isr_seen |= MEMORY(u8, interrupting->isr);
  pic_end(line);
}
static void level_by_io_apic(struct frame *frame) {
  (void)frame;
  interrupts++;
  remote_seen |= io_read(0x10 + 2 * line) & IO_REMOTE_IRR;
  if (keep_asserted) keep_asserted--;  // not lowered: it has to come again after the end of interrupt
  else isr_seen |= MEMORY(u8, interrupting->isr);
  local_end();
}

static void set_vector(struct virtio *device, u32 entry, u8 vector, u32 control) {
  MEMORY(u32, device->vectors + 16 * entry) = LOCAL_APIC;
  MEMORY(u32, device->vectors + 16 * entry + 4) = 0;
  MEMORY(u32, device->vectors + 16 * entry + 8) = vector;
  MEMORY(u32, device->vectors + 16 * entry + 12) = control;
}
static void enable_vectors(struct virtio *device, u32 bits) {
  u32 control = pci_read(device->slot, 0, device->vector_capability) >> 16 & 0x3FFF;
  pci_write16(device->slot, 0, device->vector_capability + 2, control | bits);
}

// `transfer` starts a request of the device on `queue`.
static void check_messages(const char *names[3], struct virtio *device, void (*transfer)(void)) {
  local_start();
  handle(0x61, message);
  set_vector(device, 1, 0x61, 0);
  enable_vectors(device, 0x8000);
  interrupts = 0;
  interrupts_on();
  transfer();
  virtio_wait(&queue);
  int came = WAIT(interrupts, 300);
  check(names[0], came && interrupts == 1 && device->queue_vector == 1, "%u interrupts, vector %x", interrupts, device->queue_vector);
  // Masked: pending is set; unmasked: it comes.
  MEMORY(u32, device->vectors + 16 + 12) = 1;
  interrupts = 0;
  transfer();
  virtio_wait(&queue);
  int pended = WAIT(MEMORY(u32, device->pending) & 2, 300);
  u32 early = interrupts;
  MEMORY(u32, device->vectors + 16 + 12) = 0;
  came = WAIT(interrupts, 300);
  check(names[1], pended && !early && came && !(MEMORY(u32, device->pending) & 2), "pending %u, %u early, came %u, pending %x",
        pended, early, came, MEMORY(u32, device->pending));
  // The mask of the whole function.
  enable_vectors(device, 0xC000);
  interrupts = 0;
  transfer();
  virtio_wait(&queue);
  pended = WAIT(MEMORY(u32, device->pending) & 2, 300);
  early = interrupts;
  enable_vectors(device, 0x8000);
  came = WAIT(interrupts, 300);
  check(names[2], pended && !early && came, "pending %u, %u early, came %u", pended, early, came);
  enable_vectors(device, 0);
  interrupts_off();
  handle(0x61, 0);
}

static void check_levels(struct virtio *device, void (*transfer)(void)) {
  // The four PIRQ lines to ISA interrupts 10, 10, 11, 11, as SeaBIOS routes them.
  static const u8 lines[4] = {10, 10, 11, 11};
  for (int i = 0; i < 4; i++) pci_write8(1, 0, 0x60 + i, lines[i]);
  u32 pin = pci_read8(device->slot, 0, 0x3D);
  line = lines[(pin - 1 + device->slot - 1) & 3];
  check("intx.pin", pin == 1, "%x", pin);
  interrupting = device;
  pic_start();
  set_level_triggered(0x0C00);
  handle(PIC_SLAVE_BASE + line - 8, level_by_pic);
  interrupts = isr_seen = 0;
  MEMORY(u8, device->isr);
  pic_mask(~(1 << line | 4));
  interrupts_on();
  transfer();
  virtio_wait(&queue);
  int came = WAIT(interrupts, 300);
  sleep(2);
  interrupts_off();
  check("intx.pic-level", came && interrupts == 1 && isr_seen & 1, "%u interrupts on %u, ISR %x", interrupts, line, isr_seen);
  // Raised and lowered while nobody looks: nothing, or the spurious vector of the second chip.
  stray_count = 0;
  transfer();
  virtio_wait(&queue);
  int raised = WAIT(pic_requested() >> line & 1, 300);
  MEMORY(u8, device->isr);
  u16 requested = pic_requested();
  interrupts = 0;
  interrupts_on();
  for (int i = 0; i < 20; i++) relax();
  interrupts_off();
  int fine = !stray_count || ((stray_vector == PIC_SLAVE_BASE + 7 || stray_vector == PIC_BASE + 7));
  if (stray_count) pic_start();
  check("intx.withdrawn", raised && !(requested >> line & 1) && !interrupts && fine, "raised %u, IRR %x, %u interrupts, stray %x",
        raised, requested, interrupts, stray_vector);
  pci_write16(device->slot, 0, 4, (pci_read(device->slot, 0, 4) & 0xFFFF) | 0x400);
  transfer();
  virtio_wait(&queue);
  sleep(2);
  check("intx.disabled", !(pic_requested() >> line & 1) && pci_read(device->slot, 0, 4) & BIT(19), "IRR %x, status and command %x",
        pic_requested(), pci_read(device->slot, 0, 4));
  pci_write16(device->slot, 0, 4, pci_read(device->slot, 0, 4) & ~0x400);
  int again = WAIT(pic_requested() >> line & 1, 100);
  check("intx.enabled-again", again, "IRR %x", pic_requested());
  MEMORY(u8, device->isr);
  handle(PIC_SLAVE_BASE + line - 8, 0);
  pic_start();

  local_start();
  handle(0x62, level_by_io_apic);
  interrupts = isr_seen = remote_seen = 0;
  keep_asserted = 2;
  io_route(line, IO_LEVEL | 0x62, 0);
  interrupts_on();
  transfer();
  virtio_wait(&queue);
  came = WAIT(interrupts >= 3, 300);
  sleep(2);
  interrupts_off();
  // A local APIC that ends an interrupt when it hands it over delivers one more: the line was still up then.
  int number_right = interrupts == 3 || (interrupts == 4 && !allowed("local-in-service"));
  check("ioapic.level", came && number_right && isr_seen & 1, "%u interrupts instead of 3, ISR %x", interrupts, isr_seen);
  check("ioapic.remote-irr", remote_seen && !(io_read(0x10 + 2 * line) & IO_REMOTE_IRR), "in the handler %x, after %x", remote_seen,
        io_read(0x10 + 2 * line));
  // Masked while asserted, then unmasked: it comes.
  io_route(line, IO_MASKED | IO_LEVEL | 0x62, 0);
  interrupts = 0;
  interrupts_on();
  transfer();
  virtio_wait(&queue);
  sleep(2);
  u32 early = interrupts;
  io_write(0x10 + 2 * line, IO_LEVEL | 0x62);
  came = WAIT(interrupts, 300);
  interrupts_off();
  check("ioapic.level-unmask", !early && came, "%u early, %u", early, interrupts);
  io_route(line, IO_MASKED, 0);
  handle(0x62, 0);
  set_level_triggered(0);
}

// Entropy --------------------------------------------------------------------------------------------------------

static u8 bytes[512] __attribute__((aligned(16)));
static struct virtio random_device;

static void random_transfer(void) {
  struct part parts[] = {{bytes, 64, 1}};
  virtio_submit(&queue, parts, 1);
}

static void random_numbers(void) {
  int slot = pci_find(0x1AF4, 0x1005);
  if (slot < 0) slot = pci_find(0x1AF4, 0x1044);
  if (slot < 0) { skip("rng", "there is none"); return; }
  int started = virtio_start(&random_device, slot, 0) && virtio_queue(&random_device, 0, &queue, VECTOR_NONE);
  virtio_ready(&random_device);
  CHECK("rng.start", started);
  if (!started) return;
  fill(bytes, 0, sizeof bytes);
  random_transfer();
  int length = virtio_wait(&queue);
  u32 different = 0;
  for (int i = 1; i < 64; i++) different += bytes[i] != bytes[0];
  check("rng.bytes", length == 64 && different > 40, "length %x, %u differ from the first", length, different);
  copy(bytes + 64, bytes, 64);
  random_transfer();
  virtio_wait(&queue);
  u32 same = 0;
  for (int i = 0; i < 64; i++) same += bytes[i] == bytes[64 + i];
  check("rng.twice", same < 20, "%u of 64 bytes are the same", same);
  if (INTERRUPTS_WORK) {
    static const char *names[3] = {"msix.rng", "msix.rng-vector-mask", "msix.rng-function-mask"};
    virtio_start(&random_device, slot, 0);
    enable_vectors(&random_device, 0x8000);
    virtio_queue(&random_device, 0, &queue, 1);
    virtio_ready(&random_device);
    check_messages(names, &random_device, random_transfer);
  }
  MEMORY(u8, random_device.common + 0x14) = 0;
}

// Disk: sector n begins with n and 'sector', as the test made it ------------------------------------------------------

static struct virtio disk;
static struct { u32 type, reserved; u64 sector; } request;
static volatile u8 status;

static int block(u32 type, u64 sector, void *data, u32 length) {
  request.type = type;
  request.reserved = 0;
  request.sector = sector;
  status = 0xFF;
  struct part parts[] = {{&request, sizeof request, 0}, {data, length, type != 1}, {(void *)&status, 1, 1}};
  if (!length) parts[1] = parts[2];
  virtio_submit(&queue, parts, length ? 3 : 2);
  return virtio_wait(&queue);
}
static void block_transfer(void) {
  request.type = 0;
  request.sector = 1;
  static struct part parts[3];
  parts[0] = (struct part){&request, sizeof request, 0};
  parts[1] = (struct part){bytes, 512, 1};
  parts[2] = (struct part){(void *)&status, 1, 1};
  virtio_submit(&queue, parts, 3);
}

static int is_sector(const u8 *data, u32 number) {
  return *(const u32 *)data == number && data[4] == 's' && data[511] == (u8)number;
}

static void block_device(void) {
  int slot = pci_find(0x1AF4, 0x1001);
  if (slot < 0) slot = pci_find(0x1AF4, 0x1042);
  if (slot < 0) { skip("blk", "there is none"); return; }
  int started = virtio_start(&disk, slot, BIT(9)) && virtio_queue(&disk, 0, &queue, VECTOR_NONE);
  virtio_ready(&disk);
  CHECK("blk.start", started);
  if (!started) return;
  u32 capacity = MEMORY(u32, disk.device);
  check("blk.capacity", capacity == 2048 && MEMORY(u32, disk.device + 4) == 0, "%x sectors", capacity);
  fill(bytes, 0, sizeof bytes);
  int length = block(0, 5, bytes, 512);
  check("blk.read", status == 0 && length == 513 && is_sector(bytes, 5), "status %x length %x, %x", status, length, *(u32 *)bytes);
  length = block(0, 2047, bytes, 512);
  check("blk.read-last", status == 0 && is_sector(bytes, 2047), "status %x, %x", status, *(u32 *)bytes);
  block(0, 2048, bytes, 512);
  check("blk.read-beyond", status == 1, "status %x", status);
  for (int i = 0; i < 512; i++) bytes[i] = i ^ 0x5A;
  block(1, 100, bytes, 512);
  u32 written = status;
  block(4, 0, 0, 0);
  u32 flushed = status;
  fill(bytes, 0, 512);
  block(0, 100, bytes, 512);
  int same = 1;
  for (int i = 0; i < 512; i++) same &= bytes[i] == (u8)(i ^ 0x5A);
  check("blk.write", written == 0 && same, "status %x, the same %u", written, same);
  check("blk.flush", flushed == 0, "status %x", flushed);
  fill(bytes, 0, 20);
  length = block(8, 0, bytes, 20);
  bytes[20] = 0;
  check("blk.identifier", status == 0 && text_equal((char *)bytes, "CHECKDISK"), "status %x, '%s'", status, bytes);
  block(77, 0, bytes, 512);
  check("blk.unsupported", status == 2, "status %x", status);
  if (INTERRUPTS_WORK) {
    check_levels(&disk, block_transfer);
    static const char *names[3] = {"msix.blk", "msix.blk-vector-mask", "msix.blk-function-mask"};
    virtio_start(&disk, slot, BIT(9));
    enable_vectors(&disk, 0x8000);
    virtio_queue(&disk, 0, &queue, 1);
    virtio_ready(&disk);
    check_messages(names, &disk, block_transfer);
  }
  MEMORY(u8, disk.common + 0x14) = 0;
  check("blk.reset", MEMORY(u8, disk.common + 0x14) == 0, "%x", MEMORY(u8, disk.common + 0x14));
}

// CD-ROM: block n of 2048 bytes begins with n and 'cd' --------------------------------------------------------------

static struct { u8 unit[8]; u64 tag; u8 attributes, priority, flags, command[32]; } __attribute__((packed)) scsi_request;
static struct { u32 sense_length, residual; u16 qualifier; u8 status, response, sense[96]; } __attribute__((packed)) scsi_response;
static u8 sectors[4096] __attribute__((aligned(16)));

static int scsi(const u8 *command, u32 size, u32 expected) {
  fill(&scsi_request, 0, sizeof scsi_request);
  fill(&scsi_response, 0xEE, sizeof scsi_response);
  fill(sectors, 0, sizeof sectors);
  scsi_request.unit[0] = 1;
  copy(scsi_request.command, command, size);
  struct part parts[] = {{&scsi_request, sizeof scsi_request, 0}, {&scsi_response, sizeof scsi_response, 1}, {sectors, expected, 1}};
  virtio_submit(&queue, parts, expected ? 3 : 2);
  if (virtio_wait(&queue) < 0) return -1;
  return scsi_response.response << 8 | scsi_response.status;
}
static u32 big32(const u8 *p) { return (u32)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

static void optical_drive(void) {
  static struct virtio adapter;
  int slot = pci_find(0x1AF4, 0x1004);
  if (slot < 0) slot = pci_find(0x1AF4, 0x1048);
  if (slot < 0) { skip("cdrom", "there is no adapter"); return; }
  int started = virtio_start(&adapter, slot, 0) && virtio_queue(&adapter, 2, &queue, VECTOR_NONE);
  virtio_ready(&adapter);
  CHECK("cdrom.start", started);
  if (!started) return;
  int result = scsi((const u8[6]){0x12, 0, 0, 0, 36, 0}, 6, 36);
  check("cdrom.inquiry", result == 0 && sectors[0] == 5 && sectors[1] & 0x80, "result %x, type %x %x", result, sectors[0], sectors[1]);
  // The first command may report a power-on.
  for (int i = 0; i < 3 && (result = scsi((const u8[6]){0}, 6, 0)) == 2; i++) {}
  check("cdrom.test-unit-ready", result == 0, "result %x, sense %x", result, scsi_response.sense[2]);
  result = scsi((const u8[10]){0x25}, 10, 8);
  check("cdrom.read-capacity", result == 0 && big32(sectors) == 63 && big32(sectors + 4) == 2048, "result %x, last %x, size %x", result,
        big32(sectors), big32(sectors + 4));
  result = scsi((const u8[10]){0x28, 0, 0, 0, 0, 17, 0, 0, 2, 0}, 10, 4096);
  check("cdrom.read10", result == 0 && *(u32 *)sectors == 17 && *(u32 *)(sectors + 2048) == 18 && sectors[4] == 'c',
        "result %x, %x %x", result, *(u32 *)sectors, *(u32 *)(sectors + 2048));
  result = scsi((const u8[10]){0x28, 0, 0, 0, 0, 64, 0, 0, 1, 0}, 10, 2048);
  check("cdrom.read-beyond", result == 2 && (scsi_response.sense[2] & 15) == 5 && scsi_response.sense[12] == 0x21,
        "result %x, sense %x %x", result, scsi_response.sense[2], scsi_response.sense[12]);
  result = scsi((const u8[10]){0x2A, 0, 0, 0, 0, 1, 0, 0, 1, 0}, 10, 0);
  check("cdrom.write-refused", result != 0, "result %x", result);
  MEMORY(u8, adapter.common + 0x14) = 0;
}

void virtio_checks(void) {
  interrupts_off();
  random_numbers();
  block_device();
  optical_drive();
}
