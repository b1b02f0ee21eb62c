// One boot of the check guest: which checks run, and how the run ends.
#include "kernel.h"

// Behind the boot information: kept from the 32-bit to the 64-bit part.
#define OPTIONS ((char *)BOOT_INFORMATION + 0x100)
#define OPTIONS_SIZE 512

static const char *entries[] = {"?", "multiboot", "pvh", "linux32", "linux64", "firmware"};

int allowed(const char *word) {
  const char *p = OPTIONS;
  while (*p) {
    const char *w = word;
    while (*w && *p == *w) { p++; w++; }
    if (!*w && (*p == ' ' || !*p)) return 1;
    while (*p && *p != ' ') p++;
    while (*p == ' ') p++;
  }
  return 0;
}

static void read_options(void) {
  print("check guest, entered by %s, memory %x, command line '%s'\n", entries[boot->protocol],
        boot->memory_end, (const char *)(word)boot->command_line);
  print("options?\n");
  u32 count = 0;
  for (char c; (c = get()) != '\n';)
    if (count < OPTIONS_SIZE - 1) OPTIONS[count++] = c;
  OPTIONS[count] = 0;
}

// After 'end' the host says how the run goes on.
static void finish(void) {
  print("end\n");
  for (;;) {
    switch (get()) {
    case 'p': out16(0x604, 0x2000); break;             // S5: SLP_TYP 0, SLP_EN
    case 'x': out8(0xCF9, 2); out8(0xCF9, 6); break;   // hard reset by the reset control register
    case 'a': out8(0x92, in8(0x92) & ~1); out8(0x92, in8(0x92) | 1); break;
    case 'k': while (in8(0x64) & 2) {} out8(0x64, 0xFE); break;
    case 'f': {                                        // triple fault
      struct { u16 limit; word base; } __attribute__((packed)) none = {0, 0};
      __asm__ volatile("lidt %0; ud2" ::"m"(none));
      break;
    }
    case 'd': out8(0xF4, 21); break;
    }
  }
}

#ifndef __x86_64__
void enter_long_mode(void);
#endif

// With the word 'only', just the groups that are named too.
static void run(const char *group, void (*checks)(void)) {
  if (!allowed("only") || allowed(group)) checks();
}

void guest_main(void) {
  console_start();
#ifdef __x86_64__
  stage = "l64";
  if (boot->protocol == ENTERED_LINUX64) read_options();
#else
  stage = "p32";
  read_options();
#endif
  interrupts_off();
  pic_start();  // firmware leaves the timer running, on vector 8
  traps_start();
  if (!allowed("quick")) {
      print("begin %s\n", stage);
    processor_count = allowed("cpus=4") ? 4 : allowed("cpus=2") ? 2 : 1;
#ifdef __x86_64__
    local_start();
    interrupts_on();  // what the 32-bit part left pending is nobody's
    sleep(3);
    interrupts_off();
    stray_count = 0;
#endif
#ifdef __x86_64__
    user_start();
#endif
    run("processor", processor_checks);
#ifdef __x86_64__
    run("user", user_checks);
#endif
    run("chips", chip_checks);
    run("serial", serial_checks);
    run("pci", pci_checks);
    run("virtio", virtio_checks);
    run("ahci", ahci_checks);
    run("chips", rotation_checks);
    run("apic", apic_checks);
    run("timers", timer_checks);
    run("timers", power_button_checks);
    run("tables", table_checks);
    run("smp", smp_checks);
    run("clocks", clock_checks);
  }
#ifndef __x86_64__
  if (allowed("long")) return;
#endif
  finish();
}
