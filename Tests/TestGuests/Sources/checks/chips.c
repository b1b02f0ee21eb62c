// The 8259A pair, the 8254, the clock with its memory, the keyboard controller and ports 0x61 and 0x92.
// Intel 8259A and 8254 data sheets; Motorola MC146818A; IBM PS/2 Technical Reference (keyboard controller).
#include "kernel.h"

// 8259A ----------------------------------------------------------------------------------------------------------

void pic_start(void) {
  out8(0x20, 0x11); out8(0x21, PIC_BASE); out8(0x21, 4); out8(0x21, 1);
  out8(0xA0, 0x11); out8(0xA1, PIC_SLAVE_BASE); out8(0xA1, 2); out8(0xA1, 1);
  pic_mask(0xFFFF);
}
void pic_mask(u16 mask) { out8(0x21, mask); out8(0xA1, mask >> 8); }
void pic_end(u8 line) {
  if (line >= 8) out8(0xA0, 0x20);
  out8(0x20, 0x20);
}
u16 pic_requested(void) {
  out8(0x20, 0x0A); out8(0xA0, 0x0A);
  return in8(0x20) | in8(0xA0) << 8;
}
u16 pic_serviced(void) {
  out8(0x20, 0x0B); out8(0xA0, 0x0B);
  return in8(0x20) | in8(0xA0) << 8;
}
void set_level_triggered(u16 lines) { out8(0x4D0, lines); out8(0x4D1, lines >> 8); }

static u8 pic_poll(u16 port) {
  out8(port, 0x0C);
  return in8(port);
}

// Counter 0 in mode 0: one rising edge of interrupt 0 after `count` clocks.
static void one_shot(u16 count) {
  out8(0x43, 0x30); out8(0x40, count); out8(0x40, count >> 8);
}

static void registers(void) {
  pic_start();
  out8(0x21, 0xA5); out8(0xA1, 0x5A);
  u32 a = in8(0x21), b = in8(0xA1);
  check("pic.mask-registers", a == 0xA5 && b == 0x5A, "%x %x", a, b);
  set_level_triggered(0xFFFF);
  u32 levels = in8(0x4D0) | in8(0x4D1) << 8;
  check("pic.elcr", levels == 0xDEF8, "%x: 0, 1, 2, 8 and 13 have to stay edges", levels);
  set_level_triggered(0x0C00);
  levels = in8(0x4D0) | in8(0x4D1) << 8;
  check("pic.elcr-reads-back", levels == 0x0C00, "%x", levels);
  set_level_triggered(0);
  pic_start();
}

// What can be seen without taking an interrupt: request bits and the poll command, which acknowledges.
static void polled(void) {
  interrupts_off();
  pic_start();
  u8 idle = pic_poll(0x20);
  check("pic.poll-nothing", !(idle & 0x80), "%x", idle);
  one_shot(1000);
  // The kernel's 8254 has a thread of its own, which a busy host lets wait.
  int came = WAIT(pic_requested() & 1, 2000);
  check("pic.request-while-masked", came, "IRR %x", pic_requested());
  u8 masked = pic_poll(0x20);
  check("pic.mask", !(masked & 0x80), "poll gave %x though all are masked", masked);
  out8(0x21, 0xFE);
  if (!allowed("exact-pic")) {  // the kernel's chip forgets what was acknowledged by poll
    check("pic.poll", pic_poll(0x20) == 0x80, "IRR %x", pic_requested());
    pic_start();
    return;
  }
  u8 polled = pic_poll(0x20);
  u16 serviced = pic_serviced(), requested = pic_requested();
  check("pic.poll", polled == 0x80 && serviced == 1 && !(requested & 1), "poll %x ISR %x IRR %x", polled, serviced, requested);
  // A second edge waits behind the one in service.
  one_shot(1000);
  WAIT(pic_requested() & 1, 200);
  u8 nested = pic_poll(0x20);
  check("pic.in-service-blocks", !(nested & 0x80) && pic_requested() & 1, "poll %x IRR %x", nested, pic_requested());
  pic_end(0);
  nested = pic_poll(0x20);
  check("pic.end-of-interrupt", nested == 0x80, "poll %x", nested);
  out8(0x20, 0x60);  // specific EOI of 0
  check("pic.specific-end", pic_serviced() == 0, "ISR %x", pic_serviced());
  pic_mask(0xFFFF);
}

static volatile u32 ticks, serviced_in_handler;
static void tick(struct frame *frame) {
  (void)frame;
  serviced_in_handler = pic_serviced();
  ticks++;
  pic_end(0);
}

static volatile u32 clock_interrupts, clock_reasons, clock_serviced;
static void clock_interrupt(struct frame *frame) {
  (void)frame;
  clock_serviced = pic_serviced();
  out8(0x70, 0x0C);
  clock_reasons |= in8(0x71);
  clock_interrupts++;
  pic_end(8);
}

static void rtc_write(u8 index, u8 value) { out8(0x70, index); out8(0x71, value); }
static u8 rtc_read(u8 index) { out8(0x70, index); return in8(0x71); }

static void delivery(void) {
  pic_start();
  handle(PIC_BASE, tick);
  handle(PIC_SLAVE_BASE, clock_interrupt);
  stray_count = 0;
  ticks = 0;
  interrupts_on();
  one_shot(1000);
  WAIT(pic_requested() & 1, 200);
  check("pic.masked-not-delivered", ticks == 0 && !stray_count, "%u interrupts, %u others, last vector %x", ticks, stray_count, stray_vector);
  out8(0x21, 0xFE);
  int came = WAIT(ticks, 200);
  check("pic.delivery", came && ticks == 1 && serviced_in_handler == 1, "%u interrupts, ISR %x", ticks, serviced_in_handler);
  interrupts_off();
  one_shot(1000);
  WAIT(pic_requested() & 1, 200);
  check("pic.waits-for-sti", ticks == 1, "%u interrupts", ticks);
  interrupts_on();
  came = WAIT(ticks == 2, 200);
  check("pic.after-sti", came, "%u interrupts", ticks);

  // The processor sleeps and is woken.
  ticks = 0;
  interrupts_off();
  one_shot(12000);
  __asm__ volatile("sti; hlt");
  check("pic.wakes-from-hlt", ticks == 1, "%u interrupts", ticks);
  interrupts_off();

  // A request that is masked before it is taken must not come, or come as the spurious vector 7 with nothing in service.
  ticks = stray_count = 0;
  out8(0x21, 0xFE);
  one_shot(1000);
  WAIT(pic_requested() & 1, 200);
  out8(0x21, 0xFF);
  interrupts_on();
  for (int i = 0; i < 20; i++) relax();
  interrupts_off();
  int spurious_only = !stray_count || (stray_vector == PIC_BASE + 7 && pic_serviced() == 0);
  check("pic.spurious", ticks == 0 && spurious_only, "%u interrupts, %u others, last vector %x", ticks, stray_count, stray_vector);

  // Automatic end of interrupt: nothing stays in service.
  out8(0x20, 0x11); out8(0x21, PIC_BASE); out8(0x21, 4); out8(0x21, 3);
  out8(0x21, 0xFE);
  ticks = 0;
  serviced_in_handler = 0xFF;
  interrupts_on();
  one_shot(1000);
  WAIT(ticks, 200);
  check("pic.automatic-end", ticks == 1 && serviced_in_handler == 0, "%u interrupts, ISR %x", ticks, serviced_in_handler);
  interrupts_off();
  pic_start();

  // The second chip: the clock's periodic interrupt at 1024 Hz.
  rtc_write(0x0A, 0x26);
  rtc_write(0x0B, 0x42);
  rtc_read(0x0C);
  clock_interrupts = clock_reasons = 0;
  pic_mask(0xFEFB);
  interrupts_on();
  came = WAIT(clock_interrupts >= 2, 300);
  interrupts_off();
  pic_mask(0xFFFF);
  rtc_write(0x0B, 0x02);
  rtc_read(0x0C);
  check("pic.cascade", came && clock_serviced == 0x0104, "%u interrupts, ISR %x", clock_interrupts, clock_serviced);
  check("rtc.periodic-interrupt", came && (clock_reasons & 0xC0) == 0xC0, "register C %x", clock_reasons);
  handle(PIC_BASE, 0);
  handle(PIC_SLAVE_BASE, 0);
  pic_start();
}

// 8254 -----------------------------------------------------------------------------------------------------------

static void gate2(int on) { out8(0x61, (in8(0x61) & ~3) | (on ? 1 : 0)); }
static int out2(void) { return in8(0x61) >> 5 & 1; }
static u8 status2(void) { out8(0x43, 0xE8); return in8(0x42); }
static u16 count2(void) {
  out8(0x43, 0x80);
  u16 low = in8(0x42);
  return low | in8(0x42) << 8;
}
static void load2(u8 mode, u16 count) {
  out8(0x43, 0xB0 | mode << 1); out8(0x42, count); out8(0x42, count >> 8);
}

static void pit_modes(void) {
  int exact = allowed("exact-pit");  // the kernel's chip models neither the gate nor modes 1, 4 and 5 to the end
  gate2(1);
  // 50 ms: the host may take the processor away between two accesses.
  load2(0, 60000);
  int before = out2();
  int came = WAIT(out2(), 100);
  check("pit.mode0", !before && came, "OUT %u then %u", before, out2());
  check("pit.status", (status2() & 0xBF) == 0xB0, "status %x", status2());

  if (exact) {
    load2(0, 40000);
    gate2(0);
    u16 first = count2(), second = count2();
    check("pit.gate-stops-mode0", first == second && first, "%x then %x", first, second);
    gate2(1);
    came = WAIT(count2() != first, 100);
    check("pit.gate-resumes-mode0", came && count2() < first, "%x was %x", count2(), first);

    gate2(0);
    load2(1, 60000);
    int idle = out2();
    gate2(1);
    // The output falls with the next pulse of the chip's clock, which a quick processor does not wait for.
    int low = WAIT(!out2(), 20);
    came = WAIT(out2(), 100);
    check("pit.mode1", idle && low && came, "%u %u %u", idle, low, came);
  }

  gate2(1);
  load2(2, 2000);
  u32 highest = 0, lowest = 0xFFFF;
  for (int i = 0; i < 40; i++) {
    u32 now = count2();
    if (now > highest) highest = now;
    if (now < lowest) lowest = now;
  }
  check("pit.mode2", highest <= 2000 && lowest >= 1 && highest != lowest, "%u to %u", lowest, highest);

  load2(3, 6000);
  int went_low = WAIT(!out2(), 100), went_high = WAIT(out2(), 100);
  check("pit.mode3", went_low && went_high, "%u %u", went_low, went_high);
  u32 odd = 0;
  for (int i = 0; i < 20; i++) odd += count2() & 1;
  check("pit.mode3-by-twos", odd == 0, "%u odd counts", odd);

  if (!exact) {
    gate2(0);
    return;
  }
  load2(4, 30000);
  u8 early = status2();
  came = WAIT(status2() & 0x80 && count2() > 30000, 100);  // past zero it goes on from 0xFFFF
  check("pit.mode4", early & 0x80 && came, "status %x then %x count %x", early, status2(), count2());

  gate2(0);
  load2(5, 3000);
  gate2(1);
  came = WAIT(count2() > 3000, 100);
  check("pit.mode5", came, "count %x", count2());

  gate2(0);
  load2(0, 0x1234);
  out8(0x43, 0xC8);  // read-back: latch count and status of counter 2
  u8 status = in8(0x42), a = in8(0x42), b = in8(0x42);
  check("pit.read-back", (status & 0x3F) == 0x30 && a == 0x34 && b == 0x12, "%x %x %x", status, a, b);
  gate2(1);
  out8(0x43, 0xB1); out8(0x42, 0x99); out8(0x42, 0x99);  // decimal
  int decimal = 1;
  for (int i = 0; i < 8; i++) {
    u32 now = count2();
    for (int digit = 0; digit < 4; digit++) decimal &= (now >> 4 * digit & 15) < 10;
  }
  check("pit.decimal", decimal, "count %x", count2());
  gate2(0);
}

// The clock ------------------------------------------------------------------------------------------------------

static int is_decimal(u8 value) { return (value & 15) < 10 && value >> 4 < 10; }

static void real_time_clock(void) {
  rtc_write(0x0A, 0x26);
  rtc_write(0x0B, 0x02);
  WAIT(!(rtc_read(0x0A) & 0x80), 10);
  u8 seconds = rtc_read(0), minutes = rtc_read(2), hours = rtc_read(4), day = rtc_read(7), month = rtc_read(8), year = rtc_read(9);
  int plausible = is_decimal(seconds) && seconds < 0x60 && is_decimal(minutes) && minutes < 0x60 && is_decimal(hours) &&
                  hours < 0x24 && day >= 1 && day <= 0x31 && month >= 1 && month <= 0x12 && year >= 0x20;
  check("rtc.time", plausible, "%x-%x-%x %x:%x:%x", year, month, day, hours, minutes, seconds);
  check("rtc.valid", rtc_read(0x0D) & 0x80, "register D %x", rtc_read(0x0D));
  rtc_write(0x0B, 0x06);
  WAIT(!(rtc_read(0x0A) & 0x80), 10);
  u8 binary = rtc_read(9);
  rtc_write(0x0B, 0x02);
  check("rtc.binary", binary == (year >> 4) * 10 + (year & 15), "%x in binary, %x in decimal", binary, year);
  u8 kept = rtc_read(0x40);
  rtc_write(0x40, 0x5A);
  u8 a = rtc_read(0x40);
  rtc_write(0x40, 0xA5);
  u8 b = rtc_read(0x40);
  rtc_write(0x40, kept);
  check("rtc.memory", a == 0x5A && b == 0xA5, "%x %x", a, b);
  rtc_write(0x0B, 0x82);  // SET: the time can be written
  rtc_write(4, 0x23);
  u8 hour = rtc_read(4);
  rtc_write(4, hours);
  rtc_write(0x0B, 0x02);
  check("rtc.set", hour == 0x23, "hour %x", hour);
}

// Keyboard controller --------------------------------------------------------------------------------------------

static int controller_ready(void) { return WAIT(!(in8(0x64) & 2), 50); }
static int controller_byte(void) { return WAIT(in8(0x64) & 1, 200) ? in8(0x60) : -1; }
static void command(u8 value) { controller_ready(); out8(0x64, value); }
static void data(u8 value) { controller_ready(); out8(0x60, value); }

static volatile u32 key_interrupts, key_byte;
static void key(struct frame *frame) {
  (void)frame;
  key_byte = in8(0x60);
  key_interrupts++;
  pic_end(1);
}

static void keyboard_controller(void) {
  while (in8(0x64) & 1) in8(0x60);
  command(0xAD);
  command(0xA7);
  command(0xAA);
  int test = controller_byte();
  check("keyboard.self-test", test == 0x55, "%x", test);
  command(0xAB);
  int port = controller_byte();
  check("keyboard.interface-test", port == 0, "%x", port);
  command(0xA9);
  port = controller_byte();
  check("keyboard.mouse-interface-test", port == 0, "%x", port);
  command(0x60);
  data(0x34);
  command(0x20);
  int mode = controller_byte();
  check("keyboard.command-byte", mode == 0x34, "%x", mode);
  command(0xD2);
  data(0x5C);
  int echoed = controller_byte();
  check("keyboard.output-buffer", echoed == 0x5C, "%x", echoed);
  command(0xAE);
  command(0x60);
  data(0x44);
  data(0xFF);
  int a = controller_byte(), b = controller_byte();
  check("keyboard.reset", a == 0xFA && b == 0xAA, "%x %x", a, b);
  data(0xF2);
  a = controller_byte();
  b = controller_byte();
  int c = controller_byte();
  check("keyboard.identify", a == 0xFA && b == 0xAB && (c == 0x83 || c == 0x41), "%x %x %x", a, b, c);
  command(0xA8);
  command(0xD4);
  data(0xFF);
  a = controller_byte();
  b = controller_byte();
  c = controller_byte();
  check("keyboard.mouse-reset", a == 0xFA && b == 0xAA && c == 0, "%x %x %x", a, b, c);
}

static void keyboard_interrupt(void) {
  pic_start();
  handle(PIC_BASE + 1, key);
  key_interrupts = 0;
  command(0x60);
  data(0x45);
  while (in8(0x64) & 1) in8(0x60);
  out8(0x21, 0xFD);
  interrupts_on();
  data(0xEE);  // echo
  int came = WAIT(key_interrupts, 200);
  interrupts_off();
  check("keyboard.interrupt", came && key_byte == 0xEE, "%u interrupts, byte %x", key_interrupts, key_byte);
  handle(PIC_BASE + 1, 0);
  command(0x60);
  data(0x44);
  pic_start();
}

static void system_ports(void) {
  int refresh = in8(0x61) & 0x10;
  int toggles = WAIT((in8(0x61) & 0x10) != refresh, 20);
  check("port61.refresh", toggles, "bit 4 stays %x", refresh);
  u8 kept = in8(0x92);
  out8(0x92, (kept | 2) & ~1);
  u8 on = in8(0x92);
  check("port92.a20", on & 2, "%x", on);
  // Firmware configuration: the signature is item 0.
  out16(0x510, 0);
  u8 signature[4];
  for (int i = 0; i < 4; i++) signature[i] = in8(0x511);
  check("fw_cfg.signature", signature[0] == 'Q' && signature[1] == 'E' && signature[2] == 'M' && signature[3] == 'U',
        "%x %x %x %x", signature[0], signature[1], signature[2], signature[3]);
}

void chip_checks(void) {
  interrupts_off();
  registers();
  polled();
  pit_modes();
  real_time_clock();
  keyboard_controller();
  system_ports();
  if (INTERRUPTS_WORK) {
    delivery();
    keyboard_interrupt();
  }
}

// Rotation of priorities (8259A data sheet, OCW2): which of two requests that wait is taken first ------------------------

static volatile u32 order, order_count;
static u8 end_command;
static void note_order(u32 line) {
  order |= line << 4 * order_count++;
  if (end_command) out8(0x20, end_command & 0x40 ? end_command | line : end_command);
}
static void first_line(struct frame *frame) { (void)frame; note_order(1); }
static void second_line(struct frame *frame) {
  (void)frame;
  in8(COM1 + 2);  // takes the UART's request back
  out8(COM1 + 1, 0);
  note_order(4);
}

// Lets the lines of a mask wait, then lets them in. The answer is the order, lines in hexadecimal from the right.
static u32 taken_of(u32 mask, u32 count, u8 end) {
  end_command = end;
  order = order_count = 0;
  if (mask & 0x10) {
    out8(COM1 + 1, 0);
    out8(COM1 + 4, 0x0B);
    out8(COM1 + 1, 2);
  }
  command(0xD2);  // a byte as if the keyboard had sent it
  data(0x5C);
  WAIT((pic_requested() & mask) == mask, 200);
  out8(0x21, ~mask);
  interrupts_on();
  WAIT(order_count >= count, 200);
  interrupts_off();
  out8(0x21, 0xFF);
  in8(0x60);
  return order;
}
static u32 taken(u8 end) { return taken_of(0x12, 2, end); }
static u32 taken_alone(u8 end) { return taken_of(0x02, 1, end); }

void rotation_checks(void) {
  if (!INTERRUPTS_WORK) return;
  interrupts_off();
  pic_start();
  handle(PIC_BASE + 1, first_line);
  handle(PIC_BASE + 4, second_line);
  while (in8(0x64) & 1) in8(0x60);
  command(0x60);
  data(0x45);
  u32 seen = taken(0x20);
  check("pic.fixed-priority", seen == 0x41, "%x", seen);
  out8(0x20, 0xC1);  // set priority: 1 is last, 2 first
  seen = taken(0x20);
  check("pic.set-priority", seen == 0x14, "%x", seen);
  out8(0x20, 0xC7);
  seen = taken(0x60);
  check("pic.specific-end-in-order", seen == 0x41 && !(pic_serviced() & 0xFF), "%x, ISR %x", seen, pic_serviced());
  // Rotate on a non-specific end: 1 is taken and becomes the last, then 4.
  seen = taken(0xA0);
  u32 next = taken(0x20);
  check("pic.rotate-on-end", seen == 0x41 && next == 0x41, "%x, then %x: after 4 the order begins at 5", seen, next);
  out8(0x20, 0xC7);
  // One alone with rotation: 1 is last then.
  taken_alone(0xA0);
  seen = taken(0x20);
  check("pic.rotated", seen == 0x14, "%x", seen);
  out8(0x20, 0xC7);
  // Rotate on a specific end: each becomes the last in turn; 4 was the last of both.
  out8(0x20, 0xC1);
  seen = taken(0xE0);
  next = taken(0x20);
  check("pic.rotate-on-specific-end", seen == 0x14 && next == 0x14, "%x, then %x: after 1 the order begins at 2", seen, next);
  // Automatic end with rotation.
  out8(0x20, 0x11); out8(0x21, PIC_BASE); out8(0x21, 4); out8(0x21, 3);
  out8(0x21, 0xFF);
  out8(0x20, 0x80);
  out8(0x20, 0xC7);
  taken_alone(0);
  seen = taken(0);
  check("pic.rotate-automatically", seen == 0x14 && !(pic_serviced() & 0xFF), "%x, ISR %x", seen, pic_serviced());
  out8(0x20, 0x00);
  out8(0x20, 0xC7);
  taken_alone(0);
  seen = taken(0);
  check("pic.rotation-off", seen == 0x41, "%x", seen);
  command(0x60);
  data(0x44);
  out8(COM1 + 4, 3);
  handle(PIC_BASE + 1, 0);
  handle(PIC_BASE + 4, 0);
  pic_start();
}
