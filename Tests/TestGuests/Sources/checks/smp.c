// The other processors: INIT and start-up messages, interrupts between processors, shared memory
// (Intel SDM 3A, 9.4.4 and 11.6).
#include "kernel.h"

extern u8 trampoline_start[], trampoline_end[];
extern volatile u32 stacks_taken;

#define IPI_VECTOR 0x68
#define WORK_VECTOR 0x69
#define SHORTHAND_OTHERS 0xC0000

static volatile u32 started, identifiers_seen[8], started_twice;
static volatile u32 arrived[256], worked[256], atomic_sum, plain_sum, ticket_next, ticket_now, nonmaskable;
static volatile u32 bus_identifiers[256];
static volatile enum { IDLE, ADD, LEAVE } work;
static volatile u64 stamps[256];

#define ROUNDS 200

static u32 self(void) { return local_read(0x20) >> 24; }

static void add_rounds(void) {
  for (u32 i = 0; i < ROUNDS; i++) {
    __sync_fetch_and_add(&atomic_sum, 1);
    if (i % 8) continue;
    u32 ticket = __sync_fetch_and_add(&ticket_next, 1);  // a ticket lock around a plain addition
    while (ticket_now != ticket) relax();
    plain_sum++;
    barrier();
    ticket_now = ticket + 1;
  }
}

static void received(struct frame *frame) {
  (void)frame;
  __sync_fetch_and_add(&arrived[self()], 1);
  local_end();
}
static void called(struct frame *frame) {
  (void)frame;
  local_end();
  if (work == ADD) add_rounds();
  stamps[self()] = time_stamp();
  worked[self()]++;
}
static void not_masked(struct frame *frame) {
  (void)frame;
  __sync_fetch_and_add(&nonmaskable, 1);
}

// Every other processor, on its own stack, for good.
void processor_main(void);
void processor_main(void) {
  u32 identifier = self();
  bus_identifiers[identifier] = cpuid(1, 0).b >> 24;
  stamps[identifier] = time_stamp();
  traps_load();
  local_start();
  u32 before = __sync_fetch_and_or(&identifiers_seen[identifier / 32], BIT(identifier % 32));
  if (before & BIT(identifier % 32)) __sync_fetch_and_add(&started_twice, 1);
  __sync_fetch_and_add(&started, 1);
  if (!INTERRUPTS_WORK) {
    while (work == IDLE) relax();
    if (work == ADD) add_rounds();
    worked[identifier]++;
    for (;;) __asm__ volatile("cli; hlt");
  }
  for (;;) __asm__ volatile("sti; hlt; cli");
}

static void send(u32 destination, u32 command) {
  local_write(0x310, destination << 24);
  local_write(0x300, command);
  WAIT(!(local_read(0x300) & BIT(12)), 100);
}

static void start_others(void) {
  started = stacks_taken = started_twice = 0;
  fill((void *)identifiers_seen, 0, sizeof identifiers_seen);
  copy((void *)(word)TRAMPOLINE, trampoline_start, trampoline_end - trampoline_start);
  send(0, SHORTHAND_OTHERS | 0x4500);  // INIT
  sleep(10);
  send(0, SHORTHAND_OTHERS | 0x4600 | TRAMPOLINE >> 12);
  WAIT(started == processor_count - 1, 50);
  if (started != processor_count - 1) send(0, SHORTHAND_OTHERS | 0x4600 | TRAMPOLINE >> 12);  // again, as hardware wants it
  WAIT(started == processor_count - 1, 1000);
}

static u32 worked_total(void) {
  u32 total = 0;
  for (u32 i = 0; i < 256; i++) total += worked[i];
  return total;
}

static void check_addition(const char *name) {
  sleep(1);
  u32 wanted = processor_count * ROUNDS, plain = processor_count * (ROUNDS / 8);
  check(name, atomic_sum == wanted && plain_sum == plain, "%u instead of %u, %u instead of %u", atomic_sum, wanted, plain_sum, plain);
}

static void clear_work(void) {
  fill((void *)worked, 0, sizeof worked);
  fill((void *)arrived, 0, sizeof arrived);
  atomic_sum = plain_sum = ticket_next = ticket_now = 0;
}

static void between_processors(void) {
  u8 identifiers[PROCESSOR_LIMIT];
  u32 count = processors_of_tables(identifiers, PROCESSOR_LIMIT);
  if (!count)
    for (; count < processor_count; count++) identifiers[count] = count;
  handle(IPI_VECTOR, received);
  handle(WORK_VECTOR, called);
  handle(NMI, not_masked);
  clear_work();
  u32 wrong = 0;
  for (u32 i = 1; i < count; i++) {
    send(identifiers[i], IPI_VECTOR);
    if (!WAIT(arrived[identifiers[i]] == 1, 500)) wrong++;
  }
  check("smp.fixed-interrupts", !wrong, "%u did not arrive", wrong);
  send(0, SHORTHAND_OTHERS | IPI_VECTOR);
  u32 all = WAIT(({ u32 ready = 0; for (u32 i = 1; i < count; i++) ready += arrived[identifiers[i]] == 2; ready == count - 1; }), 500);
  check("smp.broadcast", all, "%u %u", arrived[identifiers[1]], arrived[identifiers[count - 1]]);
  nonmaskable = 0;
  send(identifiers[count - 1], 0x4400);
  check("smp.nmi", WAIT(nonmaskable == 1, 500), "%u", nonmaskable);
  // An interrupt of the I/O APIC to another processor.
  u32 last = identifiers[count - 1], before = arrived[last];
  io_route(2, IPI_VECTOR, last);
  // The kernel's 8254 drops an edge when the host is late.
  int came = 0;
  for (int attempts = allowed("exact-pit") ? 1 : 3; !came && attempts; attempts--) {
    out8(0x43, 0x30); out8(0x40, 0xE8); out8(0x40, 3);
    came = WAIT(arrived[last] == before + 1, 500);
  }
  io_route(2, IO_MASKED, 0);
  check("smp.ioapic-destination", came, "%u", arrived[last] - before);

  clear_work();
  work = ADD;
  send(0, SHORTHAND_OTHERS | WORK_VECTOR);
  add_rounds();
  WAIT(worked_total() == processor_count - 1, 2000);
  check_addition("smp.additions");
  // Time stamps agree: what another processor read lies between two of ours.
  work = IDLE;
  u32 disorder = 0;
  for (u32 i = 1; i < count; i++) {
    u32 done = worked[identifiers[i]];
    u64 first = time_stamp();
    send(identifiers[i], WORK_VECTOR);
    WAIT(worked[identifiers[i]] != done, 500);
    u64 seen = stamps[identifiers[i]], second = time_stamp();
    if (seen < first || seen > second) disorder++;
  }
  check("smp.time-stamps", !disorder, "%u processors", disorder);
  // INIT takes a processor out, start-up brings it back.
  start_others();
  check("smp.restart", started == processor_count - 1, "%u of %u", started, processor_count - 1);
  handle(IPI_VECTOR, 0);
  handle(WORK_VECTOR, 0);
}

void smp_checks(void) {
  interrupts_off();
  local_start();
  start_others();
  if (processor_count == 1) {
    check("smp.alone", started == 0, "%u processors started", started);
    return;
  }
  u32 matching = 1;
  for (u32 i = 0; i < 256; i++)
    if (identifiers_seen[i / 32] & BIT(i % 32)) matching &= bus_identifiers[i] == i;
  check("smp.start", started == processor_count - 1 && !started_twice, "%u of %u, %u twice", started, processor_count - 1, started_twice);
  check("smp.identifiers", matching, "CPUID and local APIC differ");
  if (INTERRUPTS_WORK) {
    between_processors();
  } else {
    clear_work();
    work = ADD;
    add_rounds();
    WAIT(worked_total() == processor_count - 1, 2000);
    check_addition("smp.additions");
  }
  // They stay out of what follows.
  send(0, SHORTHAND_OTHERS | 0x4500);
  work = IDLE;
}
