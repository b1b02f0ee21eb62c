// The interrupt descriptor table, exceptions that a check provokes, and interrupts that it waits for.
//
// An exception under `attempt` never returns by IRET: it goes back to where `attempt` was called.
#include "kernel.h"

extern u8 trap_stubs[];
int attempt_call(void (*)(void *), void *);
void recover(int vector) __attribute__((noreturn));

#ifdef __x86_64__
extern u8 user_done[];
#endif

struct frame trapped;
volatile u32 stray_count, stray_vector;
static handler handlers[256];
static volatile int attempting;
static u32 gates[256 * (sizeof(word) / 2)] __attribute__((aligned(16)));

void traps_load(void) {
  struct { u16 limit; word base; } __attribute__((packed)) table = {sizeof gates - 1, (word)gates};
  __asm__ volatile("lidt %0" ::"m"(table));
}

void traps_start(void) {
  u16 code;
  __asm__ volatile("mov %%cs, %0" : "=r"(code));
  for (u32 vector = 0; vector < 256; vector++) {
    u32 *gate = &gates[vector * (sizeof(word) / 2)];
    word address = (word)trap_stubs + 16 * vector;
    gate[0] = (address & 0xFFFF) | (u32)code << 16;
    gate[1] = (address & 0xFFFF0000) | (vector == USER_CALL || vector == BREAKPOINT ? 0xEE00 : 0x8E00);
#ifdef __x86_64__
    gate[2] = address >> 32;
    gate[3] = 0;
#endif
  }
  traps_load();
}

void handle(u8 vector, handler function) { handlers[vector] = function; }

// A spurious interrupt of a PIC is in service nowhere, but that of the second chip is in service at the first as its
// cascade.
static void end_stray(u32 line) {
  if (pic_serviced() >> line & 1) pic_end(line);
  else if (line >= 8) out8(0x20, 0x62);
}

void trap(struct frame *frame) {
  u32 vector = frame->vector;
  if (handlers[vector]) {
    handlers[vector](frame);
    return;
  }
#ifdef __x86_64__
  if (vector == INVALID_OPCODE && frame->ip == (word)user_done) vector = USER_DONE;
#endif
  if (attempting && (vector < 32 || vector == USER_DONE || vector == USER_CALL)) {
    trapped = *frame;
    attempting = 0;
    recover(vector);
  }
  if (vector < 32) {
    print("FAIL %s.exception %u error %x at %X\n", stage, vector, (u32)frame->error, (u64)frame->ip);
    print("end\n");
    for (;;) __asm__ volatile("cli; hlt");
  }
  stray_vector = vector;
  stray_count++;
  if (vector >= 0x30 && vector < 0xFF) local_end();
  if (vector >= PIC_BASE && vector < PIC_BASE + 16) end_stray(vector - PIC_BASE);
}

int attempt(void (*body)(void *), void *argument) {
  attempting = 1;
  int vector = attempt_call(body, argument);
  attempting = 0;
  return vector;
}

#ifdef __x86_64__
int attempt_user_call(void (*)(void *), void *);
extern u64 task_descriptor[2];
extern u8 trap_stack_top[];

int attempt_user(void (*body)(void *), void *argument) {
  attempting = 1;
  int vector = attempt_user_call(body, argument);
  attempting = 0;
  return vector;
}

// Traps at CPL 3 need a task state segment, which names the stack for them.
void user_start(void) {
  static struct {
    u32 reserved;
    u64 stacks[3];
    u64 reserved2;
    u64 lists[7];
    u64 reserved3;
    u16 reserved4, ports;
  } __attribute__((packed)) task;
  task.stacks[0] = (u64)trap_stack_top;
  task.ports = sizeof task;
  u64 base = (u64)&task;
  task_descriptor[0] = (sizeof task - 1) | (base & 0xFFFFFF) << 16 | 0x89ull << 40 | (base >> 24 & 0xFF) << 56;
  task_descriptor[1] = base >> 32;
  __asm__ volatile("ltr %w0" ::"r"(0x40));
}
#endif
