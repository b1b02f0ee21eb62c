// Rates: every clock of the machine is read at two moments, each reading between two time stamps; the test on the host
// knows the time stamp counter's rate and compares. Numbers of interrupts are counted over the same span.
//
// 'rate NAME early-before early-after early-value late-before late-after late-value modulus', all hexadecimal; the test
// relates values to stamps. 'mark' lines relate stamps to the host's clock: the host answers '?' at once.
#include "kernel.h"

struct reading { u64 before, after, value; };
struct clock {
  const char *name;
  u64 (*read)(void);
  u64 modulus;  // 0: counts to 2^64
  int present;
  struct reading early, late;
};

static word hpet;
static u16 timer_port = 0x608;

static u64 read_pm_timer(void) { return in32(timer_port) & 0xFFFFFF; }
static u64 read_hpet(void) {
#ifdef __x86_64__
  return MEMORY(u64, hpet + 0xF0);
#else
  return MEMORY(u32, hpet + 0xF0);
#endif
}
static u64 read_pit(void) {  // upwards
  out8(0x43, 0x80);
  u16 low = in8(0x42);
  return (u16)-(low | in8(0x42) << 8);
}
static u64 read_local_timer(void) { return (u32)-local_read(0x390); }

static struct clock clocks[] = {
    {"pm-timer", read_pm_timer, 1 << 24, 1, {0, 0, 0}, {0, 0, 0}},
    {"hpet", read_hpet,
#ifdef __x86_64__
     0,
#else
     1ull << 32,
#endif
     0, {0, 0, 0}, {0, 0, 0}},
    {"pit", read_pit, 1 << 16, 1, {0, 0, 0}, {0, 0, 0}},
    {"local-timer", read_local_timer, 1ull << 32, 1, {0, 0, 0}, {0, 0, 0}},
};

// The tightest of a few tries.
static struct reading read_clock(u64 (*read)(void)) {
  struct reading best = {0, ~0ull, 0};
  for (int i = 0; i < 5; i++) {
    struct reading now;
    now.before = time_stamp();
    now.value = read();
    now.after = time_stamp();
    if (now.after - now.before < best.after - best.before) best = now;
  }
  return best;
}

static void mark(const char *when) {
  for (int i = 0; i < 4; i++) {
    print("?M%s\n", when);
    while (!(in8(COM1 + 5) & 1)) relax();
    u64 stamp = time_stamp();
    in8(COM1);
    print("mark %s %X\n", when, stamp);
  }
}

// When interrupts came. A busy host merges some, so their rate is judged by the median time between two.
#define TICK_LIMIT 256
struct ticks { u32 count; u64 stamps[TICK_LIMIT]; };
static struct ticks timer_ticks, clock_ticks;
static volatile u32 updates;
static volatile u64 update_stamps[4];
static volatile u32 alarms, updates_before_alarm;

static void add_tick(struct ticks *ticks) {
  if (ticks->count < TICK_LIMIT) ticks->stamps[ticks->count++] = time_stamp();
}
static void report_ticks(const char *name, struct ticks *ticks) {
  u32 count = ticks->count;
  if (count < 3) { print("ticks %s %x 0 0 0\n", name, count); return; }
  u64 first = ticks->stamps[0], last = ticks->stamps[count - 1];
  for (u32 i = 0; i + 1 < count; i++) ticks->stamps[i] = ticks->stamps[i + 1] - ticks->stamps[i];
  for (u32 i = 1; i + 1 < count; i++) {  // sorted by insertion
    u64 value = ticks->stamps[i];
    u32 k = i;
    for (; k && ticks->stamps[k - 1] > value; k--) ticks->stamps[k] = ticks->stamps[k - 1];
    ticks->stamps[k] = value;
  }
  print("ticks %s %x %X %X %X\n", name, count, first, last, ticks->stamps[(count - 1) / 2]);
}

static void timer_tick(struct frame *frame) {
  (void)frame;
  add_tick(&timer_ticks);
  pic_end(0);
}
static void clock_tick(struct frame *frame) {
  (void)frame;
  out8(0x70, 0x0C);
  u8 reasons = in8(0x71);
  if (reasons & 0x40) add_tick(&clock_ticks);
  if (reasons & 0x10 && updates < COUNT(update_stamps)) update_stamps[updates++] = time_stamp();
  if (reasons & 0x20 && !alarms++) updates_before_alarm = updates;
  pic_end(8);
}
static u8 next_second(u8 decimal) {
  u8 value = (decimal >> 4) * 10 + (decimal & 15) + 1;
  return value == 60 ? 0 : value / 10 << 4 | value % 10;
}

static void find_hpet(void) {
  const u8 *table = find_table("HPET");
  hpet = table ? *(const u32 *)(table + 44) : 0;
  if (!hpet && (MEMORY(u32, 0xFED00000) & 0xFFFF) != 0xFFFF) hpet = 0xFED00000;
  clocks[1].present = hpet != 0;
}

static void hpet_registers(void) {
  u32 low = MEMORY(u32, hpet), period = MEMORY(u32, hpet + 4);
  check("hpet.identity", (low & 0xFF) && period && period <= 100000000 && (low >> 8 & 31) >= 2, "%x, period %x", low, period);
  MEMORY(u32, hpet + 0x10) = 0;
  u32 a = MEMORY(u32, hpet + 0xF0), b = MEMORY(u32, hpet + 0xF0);
  check("hpet.halts", a == b, "%x %x", a, b);
  MEMORY(u32, hpet + 0xF0) = 0x1000;
  MEMORY(u32, hpet + 0xF4) = 0;
  check("hpet.counter-writable", MEMORY(u32, hpet + 0xF0) == 0x1000, "%x", MEMORY(u32, hpet + 0xF0));
  MEMORY(u32, hpet + 0x10) = 1;
}

static void begin(void) {
  interrupts_off();
  // What the hypervisor tells about rates, in kilohertz.
  if (cpuid(0x40000000, 0).a >= 0x40000010 && cpuid(0x40000000, 0).a < 0x40000100) {
    print("value tsc-kilohertz %x\n", cpuid(0x40000010, 0).a);
    print("value local-timer-kilohertz %x\n", cpuid(0x40000010, 0).b);
  }
  pic_start();
  find_hpet();
  if (hpet) {
    print("value hpet-period %x\n", MEMORY(u32, hpet + 4));
    MEMORY(u32, hpet + 0x10) = 1;
  }
  out8(0x61, (in8(0x61) & ~3) | 1);
  out8(0x43, 0xB4); out8(0x42, 0); out8(0x42, 0);  // counter 2, mode 2, 65536
  local_start();
  local_write(0x3E0, 0xB);         // undivided
  local_write(0x320, BIT(16) | 0xFE);  // masked
  local_write(0x380, 0xFFFFFFFF);
}

static int any_update_missing(u32 wanted) { return updates < wanted; }

static void measure(void) {
  mark("early");
  for (u32 i = 0; i < COUNT(clocks); i++)
    if (clocks[i].present) clocks[i].early = read_clock(clocks[i].read);
  // The PIT's counter turns around every 55 ms: short span for it, long for the others.
  sleep(20);
  clocks[2].late = read_clock(clocks[2].read);
  if (INTERRUPTS_WORK) {
    handle(PIC_BASE, timer_tick);
    handle(PIC_SLAVE_BASE, clock_tick);
    timer_ticks.count = clock_ticks.count = updates = alarms = 0;
    out8(0x43, 0x34); out8(0x40, 23864 & 0xFF); out8(0x40, 23864 >> 8);  // 50 Hz
    out8(0x70, 0x0A); out8(0x71, 0x7A);  // the divider starts anew: half a second to the first update
    u64 released = time_stamp();
    out8(0x70, 0x0A); out8(0x71, 0x2C);  // 16 Hz
    out8(0x70, 0x0C); in8(0x71);
    // The second update from now, in any minute of any hour, is the alarm's.
    out8(0x70, 0x00);
    u8 second = next_second(next_second(in8(0x71)));
    out8(0x70, 0x01); out8(0x71, second);
    out8(0x70, 0x03); out8(0x71, 0xC0);
    out8(0x70, 0x05); out8(0x71, 0xFF);
    out8(0x70, 0x0B); out8(0x71, 0x72);  // periodic, alarm and update-ended
    pic_mask(0xFEFA);
    u64 start = time_stamp();
    // Two ends of an update are a second apart; the processor sleeps in between.
    while (any_update_missing(2) && time_stamp() < start + 3500 * STAMPS_PER_MILLISECOND)
      __asm__ volatile("sti; hlt; cli" ::: "memory");
    u32 requested = pic_requested(), serviced = pic_serviced();
    pic_mask(0xFFFF);
    out8(0x70, 0x0B); out8(0x71, 2);
    out8(0x70, 0x0C); in8(0x71);
    out8(0x43, 0x30); out8(0x40, 0); out8(0x40, 0);
    handle(PIC_BASE, 0);
    handle(PIC_SLAVE_BASE, 0);
    report_ticks("pit", &timer_ticks);
    report_ticks("rtc", &clock_ticks);
    if (updates >= 2) print("update %X %X\n", released, update_stamps[1]);
    check("rtc.update-interrupt", updates >= 2, "%u, IRR %x, ISR %x, %u others, the last %x", updates, requested, serviced,
          stray_count, stray_vector);
    check("rtc.alarm-interrupt", updates < 2 || (alarms == 1 && updates_before_alarm == 2), "%u alarms, the first at update %u", alarms,
          updates_before_alarm);
    pic_start();
  } else {
    sleep(200);
  }
  for (u32 i = 0; i < COUNT(clocks); i++)
    if (i != 2 && clocks[i].present) clocks[i].late = read_clock(clocks[i].read);
  mark("late");
  for (u32 i = 0; i < COUNT(clocks); i++) {
    struct clock *c = &clocks[i];
    if (c->present)
      print("rate %s %X %X %X %X %X %X %X\n", c->name, c->early.before, c->early.after, c->early.value, c->late.before,
            c->late.after, c->late.value, c->modulus);
  }
  local_write(0x380, 0);
}

void clock_checks(void) {
  begin();
  measure();
}

static volatile u32 hpet_interrupts, hpet_status;
static void hpet_interrupt(struct frame *frame) {
  (void)frame;
  hpet_interrupts++;
  hpet_status |= MEMORY(u32, hpet + 0x20);
  MEMORY(u32, hpet + 0x20) = 1;
  local_end();
}

static void hpet_timer(void) {
  u32 routes = MEMORY(u32, hpet + 0x104), pin = 31;
  while (pin && !(routes >> pin & 1)) pin--;
  check("hpet.routes", routes != 0 && pin < 24, "%x", routes);
  if (pin >= 24 || !routes) return;
  handle(0x60, hpet_interrupt);
  for (int level = 0; level < 2; level++) {
    hpet_interrupts = hpet_status = 0;
    io_route(pin, 0x60 | (level ? IO_LEVEL : 0), 0);
    MEMORY(u32, hpet + 0x10) = 0;
    MEMORY(u32, hpet + 0x20) = 1;
    u32 period = MEMORY(u32, hpet + 4);  // femtoseconds
    u32 ticks = 2000000000u / (period / 1000);  // 2 ms
    MEMORY(u32, hpet + 0x100) = pin << 9 | 1 << 2 | level << 1;
    MEMORY(u32, hpet + 0xF0) = 0;
    MEMORY(u32, hpet + 0xF4) = 0;
    MEMORY(u32, hpet + 0x108) = ticks;
    MEMORY(u32, hpet + 0x10C) = 0;
    MEMORY(u32, hpet + 0x10) = 1;
    interrupts_on();
    int came = WAIT(hpet_interrupts, 300);
    sleep(3);
    interrupts_off();
    u32 now = MEMORY(u32, hpet + 0xF0);
    // One more where the local APIC ends an interrupt when it hands it over.
    int number_right = hpet_interrupts == 1 || (level && hpet_interrupts == 2 && !allowed("local-in-service"));
    check(level ? "hpet.level-interrupt" : "hpet.edge-interrupt",
          came && number_right && now >= ticks && (hpet_status & 1) == (u32)level,
          "%u interrupts on pin %u, counter %x, status %x", hpet_interrupts, pin, now, hpet_status);
    MEMORY(u32, hpet + 0x100) = 0;
    io_route(pin, IO_MASKED, 0);
  }
  // Periodic: every 4 ms.
  hpet_interrupts = 0;
  io_route(pin, 0x60, 0);
  MEMORY(u32, hpet + 0x10) = 0;
  if (MEMORY(u32, hpet + 0x100) & BIT(4)) {
    u32 ticks = 4000000000u / (MEMORY(u32, hpet + 4) / 1000);
    MEMORY(u32, hpet + 0xF0) = 0;
    MEMORY(u32, hpet + 0xF4) = 0;
    MEMORY(u32, hpet + 0x100) = pin << 9 | 1 << 6 | 1 << 3 | 1 << 2;
    MEMORY(u32, hpet + 0x108) = ticks;  // first the comparator, then, as VAL_SET is on, the period
    MEMORY(u32, hpet + 0x108) = ticks;
    MEMORY(u32, hpet + 0x10) = 1;
    interrupts_on();
    int came = WAIT(hpet_interrupts >= 3, 300);
    interrupts_off();
    check("hpet.periodic", came && MEMORY(u32, hpet + 0xF0) >= 3 * ticks, "%u interrupts, counter %x", hpet_interrupts,
          MEMORY(u32, hpet + 0xF0));
    MEMORY(u32, hpet + 0x100) = 0;
  }
  io_route(pin, IO_MASKED, 0);
  handle(0x60, 0);
  MEMORY(u32, hpet + 0x10) = 0;
  MEMORY(u32, hpet + 0x10) = 1;
}

// The power button: the host presses it when it is asked to. The system control interrupt is level 9 of the I/O APIC,
// as long as a status bit is set whose enable bit is (ACPI 6.5, 4.8.3.1).
static volatile u32 control_interrupts, power_status;
static void control_interrupt(struct frame *frame) {
  (void)frame;
  control_interrupts++;
  power_status |= in16(0x600);
  out16(0x600, 0x0100);
  local_end();
}

void power_button_checks(void) {
  interrupts_off();
  if (boot->protocol == ENTERED_FIRMWARE) out8(0xB2, 0xF1);
  check("pm1.acpi-mode", in16(0x604) & 1, "%x", in16(0x604));
  out16(0x602, 0);
  out16(0x600, 0x0100);
  // Not enabled: only the status.
  print("press power\n");
  int pressed = WAIT(in16(0x600) & 0x0100, 2000);
  check("power-button.status", pressed, "%x", in16(0x600));
  if (INTERRUPTS_WORK) {
    local_start();
    handle(0x64, control_interrupt);
    control_interrupts = power_status = 0;
    io_route(9, IO_LEVEL | 0x64, 0);
    interrupts_on();
    sleep(2);
    u32 early = control_interrupts;
    // What is set already counts from the moment in which it is enabled.
    out16(0x602, 0x0100);
    int came = WAIT(control_interrupts, 500);
    check("power-button.enable", !early && came && power_status & 0x0100, "%u early, %u, status %x", early, control_interrupts, power_status);
    sleep(2);
    control_interrupts = power_status = 0;
    print("press power\n");
    came = WAIT(control_interrupts, 2000);
    sleep(2);
    interrupts_off();
    int number_right = control_interrupts == 1 || (control_interrupts == 2 && !allowed("local-in-service"));
    check("power-button.interrupt", came && number_right && power_status & 0x0100 && !(in16(0x600) & 0x0100), "%u interrupts, status %x, then %x",
          control_interrupts, power_status, in16(0x600));
    io_route(9, IO_MASKED, 0);
    handle(0x64, 0);
  }
  out16(0x602, 0);
  out16(0x600, 0x0100);
}

// Power management: the timer moves, the status bits can be cleared, the enable bits hold.
void timer_checks(void) {
  interrupts_off();
  u64 first = read_pm_timer();
  int moves = WAIT(read_pm_timer() != first, 20);
  check("pm-timer.moves", moves, "%x", (u32)first);
  u32 control = in16(0x604);
  check("pm1.control", control != 0xFFFF && !(control & 0x2000), "%x", control);
  out16(0x602, 0x0100);
  u32 enabled = in16(0x602);
  out16(0x602, 0);
  check("pm1.enable", enabled == 0x0100, "%x", enabled);
  out16(0x600, 0xFFFF);
  check("pm1.status-clears", !(in16(0x600) & 0x0100), "%x", in16(0x600));
  find_hpet();
  if (!hpet) {
    skip("hpet", "there is none");
    return;
  }
  hpet_registers();
  if (INTERRUPTS_WORK) hpet_timer();
}
