// The 16550A of COM1 (National Semiconductor PC16550D). While it loops back, nothing is printed.
#include "kernel.h"

static void loop_back(void) {
  while (!(in8(COM1 + 5) & 0x40)) relax();  // all is sent
  out8(COM1 + 7, 0xA5);
  u32 scratch = in8(COM1 + 7);
  out8(COM1 + 3, 0x83);
  out8(COM1, 0x34); out8(COM1 + 1, 0x12);
  u32 divisor = in8(COM1) | in8(COM1 + 1) << 8;
  out8(COM1, 1); out8(COM1 + 1, 0);
  out8(COM1 + 3, 3);
  out8(COM1 + 2, 7);  // FIFOs on and cleared
  u32 fifos = in8(COM1 + 2) >> 6;

  out8(COM1 + 4, 0x10);
  u32 none = in8(COM1 + 6) >> 4;
  out8(COM1 + 4, 0x1F);
  u32 all = in8(COM1 + 6) >> 4;
  out8(COM1 + 4, 0x1A);  // RTS and OUT2: CTS and DCD
  u32 some = in8(COM1 + 6) >> 4;
  in8(COM1 + 6);
  out8(COM1 + 4, 0x12);
  u32 changed = in8(COM1 + 6) & 15;

  out8(COM1, 0x5A);
  int came = WAIT(in8(COM1 + 5) & 1, 50);
  u32 echoed = in8(COM1);

  // Sixteen bytes fit into the receiver, the seventeenth is an overrun.
  u32 sent = 0;
  for (; sent < 16; sent++) {
    WAIT(in8(COM1 + 5) & 0x20, 50);
    out8(COM1, 0x40 + sent);
  }
  WAIT(in8(COM1 + 5) & 0x40, 50);
  u32 before = in8(COM1 + 5);
  out8(COM1, 0x77);
  int overrun = WAIT(in8(COM1 + 5) & 2, 50);  // reading clears it
  u32 after = in8(COM1 + 5);
  u32 count = 0, in_order = 1;
  while (in8(COM1 + 5) & 1 && count < 20) in_order &= in8(COM1) == 0x40 + count++;

  // Cause: data at the trigger level of 8, only then; timeout for fewer; transmitter empty.
  out8(COM1 + 2, 0x87);
  out8(COM1 + 1, 1);
  u32 idle = in8(COM1 + 2) & 15;
  for (int i = 0; i < 8; i++) {
    WAIT(in8(COM1 + 5) & 0x20, 50);
    out8(COM1, i);
  }
  int triggered = WAIT((in8(COM1 + 2) & 15) == 4, 50);
  for (int i = 0; i < 5; i++) in8(COM1);
  int timed_out = WAIT((in8(COM1 + 2) & 15) == 12, 50);
  while (in8(COM1 + 5) & 1) in8(COM1);
  u32 read_out = in8(COM1 + 2) & 15;
  out8(COM1 + 1, 2);
  u32 empty = in8(COM1 + 2) & 15, acknowledged = in8(COM1 + 2) & 15;
  // A break is looped back too: a null byte and its mark.
  out8(COM1 + 1, 0);
  out8(COM1 + 3, 0x43);
  int broken = WAIT(in8(COM1 + 5) & 0x10, 50);
  out8(COM1 + 3, 3);
  console_start();

  check("uart.scratch", scratch == 0xA5, "%x", scratch);
  check("uart.divisor", divisor == 0x1234, "%x", divisor);
  check("uart.fifos-on", fifos == 3, "IIR bits 7:6 are %x", fifos);
  check("uart.loop-lines", none == 0 && all == 15 && some == 9, "%x %x %x", none, all, some);
  check("uart.line-changes", changed == 8, "%x", changed);
  check("uart.loop-byte", came && echoed == 0x5A, "%x", echoed);
  check("uart.fifo-depth", !(before & 2) && count == 16 && in_order, "LSR %x, %u bytes, in order %u", before, count, in_order);
  check("uart.overrun", overrun && !(after & 2), "LSR %x", after);
  check("uart.no-cause", idle == 1, "IIR %x", idle);
  check("uart.trigger-level", triggered, "%u", triggered);
  check("uart.timeout", timed_out, "%u", timed_out);
  check("uart.cause-ends", read_out == 1, "IIR %x", read_out);
  check("uart.transmitter-empty", empty == 2 && acknowledged == 1, "IIR %x then %x", empty, acknowledged);
  check("uart.break", broken, "%u", broken);
}

static volatile u32 received, received_count, emptied;
static void serial_interrupt(struct frame *frame) {
  (void)frame;
  for (u32 cause; !((cause = in8(COM1 + 2)) & 1);) {
    switch (cause & 15) {
    case 2: emptied++; break;
    case 4: case 12: received = in8(COM1); received_count++; break;
    case 6: in8(COM1 + 5); break;
    case 0: in8(COM1 + 6); break;
    }
  }
  pic_end(4);
}

static void by_interrupt(void) {
  pic_start();
  handle(PIC_BASE + 4, serial_interrupt);
  received_count = emptied = 0;
  out8(COM1 + 4, 0x0B);
  out8(0x21, 0xEF);
  interrupts_on();
  out8(COM1 + 1, 2);
  int came = WAIT(emptied, 200);
  out8(COM1 + 1, 0);
  interrupts_off();
  check("uart.transmit-interrupt", came, "%u", emptied);
  // The host sends a byte when it sees this line.
  print("?Z\n");
  out8(COM1 + 1, 1);
  interrupts_on();
  came = WAIT(received_count, 2000);
  out8(COM1 + 1, 0);
  interrupts_off();
  check("uart.receive-interrupt", came && received == 'Z' && received_count == 1, "%u bytes, %x", received_count, received);
  handle(PIC_BASE + 4, 0);
  out8(COM1 + 4, 3);
  pic_start();
}

void serial_checks(void) {
  interrupts_off();
  loop_back();
  if (INTERRUPTS_WORK) by_interrupt();
}
