// A guest for the hvt ABI of Solo5: tries every hypercall, says what came of it, and ends with the status that its
// command line asks for. The structures are those that the ABI describes; nothing of Solo5 is in here.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

struct boot_info { u64 memory, kernel_end, frequency; const char *line; const u8 *manifest; u32 host, guest; u64 ring; };
struct entry { char name[68]; u32 kind; union { struct { u64 capacity; u16 block; } disk; struct { u8 address[6]; u16 mtu; } net; } u; u64 own; u8 attached; u8 pad[7]; };

// Notes: which ABI, and a disk and a network behind the entry that every manifest begins with.
__attribute__((section(".note.abi"), aligned(4), used)) static const struct {
  u32 name_size, size, kind; char name[8]; u32 target, version, reserved[2];
} abi = {6, 16, 0x31494241, "Solo5", 1, 2, {0, 0}};
__attribute__((section(".note.manifest"), aligned(4), used)) static const struct __attribute__((packed)) {
  u32 name_size, size, kind; char name[8]; u32 pad; u32 version, count; struct entry entries[3];
} manifest = {6, 4 + 8 + 3 * sizeof(struct entry), 0x3154464d, "Solo5", 0, 1, 3,
  {{"", 1u << 30}, {"storage", 1}, {"service", 2}}};

static void call(u32 number, volatile void *arguments) {
  __asm__ volatile("outl %0, %1" : : "a"((u32)(u64)arguments), "d"((u16)(0x500 + number)) : "memory");
}

static u64 length(const char *text) {
  u64 count = 0;
  while (text[count]) count++;
  return count;
}

static void say(const char *text) {
  volatile struct { const char *data; u64 size; } arguments = {text, length(text)};
  call(2, &arguments);
}

static void say_number(const char *name, u64 value) {
  char text[24];
  int place = 23;
  text[place] = 0;
  do text[--place] = (char)('0' + value % 10); while (value /= 10);
  say(name);
  say(text + place);
  say("\n");
}

static int same(const u8 *left, const u8 *right, u64 count) {
  for (u64 index = 0; index < count; index++)
    if (left[index] != right[index]) return 0;
  return 1;
}

static int begins(const char *text, const char *with) {
  while (*with)
    if (*text++ != *with++) return 0;
  return 1;
}

static u64 cycles(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}

struct block { u64 handle, offset; void *data; u64 size; int result; };
struct frame { u64 handle; void *data; u64 size; int result; };
struct poll { u64 timeout, ready; int result; };

static void try_disk(const struct entry *entry) {
  static u8 out[512], in[512];
  say_number("disk attached ", entry->attached);
  say_number("capacity ", entry->u.disk.capacity);
  for (int index = 0; index < 512; index++) out[index] = (u8)(index * 7 + 1);
  volatile struct block write = {1, 512, out, 512, 9};
  call(4, &write);
  volatile struct block read = {1, 512, in, 512, 9};
  call(5, &read);
  say_number("write ", write.result);
  say_number("read ", read.result);
  say_number("same ", same(in, out, 512));
  volatile struct block outside = {1, entry->u.disk.capacity, in, 512, 9};
  call(5, &outside);
  say_number("outside ", outside.result);
  volatile struct block wild = {1, 0, (void *)~511ul, 512, 9};
  call(5, &wild);
  say_number("wild ", wild.result);
  volatile struct block none = {2, 0, in, 512, 9};
  call(5, &none);
  say_number("no disk ", none.result);
}

static void try_network(const struct entry *entry) {
  static u8 frame[60], answer[1514];
  const u8 *own = entry->u.net.address;
  say_number("network attached ", entry->attached);
  say_number("mtu ", entry->u.net.mtu);
  // Who has 10.0.2.2?
  static const u8 request[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
  for (int index = 0; index < 6; index++) {
    frame[index] = 0xff;
    frame[6 + index] = frame[22 + index] = own[index];
  }
  for (u64 index = 0; index < sizeof request; index++) frame[12 + index] = request[index];
  static const u8 addresses[] = {10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2};
  for (u64 index = 0; index < sizeof addresses; index++) frame[28 + index] = addresses[index];
  volatile struct frame empty = {2, answer, sizeof answer, 9};
  call(7, &empty);
  volatile struct frame send = {2, frame, sizeof frame, 9};
  call(6, &send);
  say_number("nothing yet ", empty.result);
  say_number("sent ", send.result);
  for (int round = 0; round < 50; round++) {
    volatile struct poll poll = {200000000, 0, 9};
    call(3, &poll);
    if (!poll.ready) continue;
    volatile struct frame read = {2, answer, sizeof answer, 9};
    call(7, &read);
    if (read.result == 0 && answer[12] == 8 && answer[13] == 6 && answer[21] == 2) {
      say_number("ready ", poll.ready);
      say_number("answer of ", answer[31]);
      return;
    }
  }
  say("no answer\n");
}

__attribute__((used)) void start(const struct boot_info *info) {
  const struct entry *entries = (const struct entry *)(info->manifest + 8);
  say("line '");
  say(info->line);
  say("'\n");
  say_number("memory ", info->memory);
  volatile u64 now = 0;
  call(1, &now);
  say_number("seconds ", now / 1000000000);
  u64 before = cycles();
  volatile struct poll poll = {30000000, 9, 9};
  call(3, &poll);
  u64 waited = (cycles() - before) / (info->frequency / 1000000);
  say_number("idle set ", poll.ready);
  say_number("waited ", waited);
  // Numbers with a fraction: SSE is on.
  volatile double third = 1.0;
  third /= 3;
  say_number("third ", (u64)(third * 3000));
  try_disk(&entries[1]);
  try_network(&entries[2]);
  if (begins(info->line, "flood")) {
    // Whatever stands there.
    volatile struct { const char *data; u64 size; } all = {(const char *)(1ul << 20), 8ul << 20};
    call(2, &all);
  }
  if (begins(info->line, "write")) *(volatile u8 *)(u64)start = 0;
  if (begins(info->line, "wait")) for (;;) {
    volatile struct poll idle = {~0ul, 0, 0};
    call(3, &idle);
  }
  volatile struct { void *cookie; int status; } end = {0, begins(info->line, "three") ? 3 : 0};
  say("end\n");
  call(8, &end);
  for (;;) __asm__ volatile("hlt");
}

// The stack is that of a function that was called.
__asm__(".globl _start\n_start: jmp start\n");
