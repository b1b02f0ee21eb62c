// What programs at CPL 3 may and may not do (64-bit mode).
#include "kernel.h"
#ifdef __x86_64__

extern volatile u32 system_calls;
void system_call_entry(void);

static volatile u64 seen[8];

static void do_nothing(void *p) { (void)p; }
static void do_cpuid(void *p) {
  (void)p;
  u32 a = 0x80000008, a2 = a, b, c = 0, d, b2, c2 = 0, d2;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  __asm__ volatile(".byte 0x48, 0x0F, 0xA2" : "+a"(a2), "=b"(b2), "+c"(c2), "=d"(d2));
  seen[0] = (u64)b << 32 | a;
  seen[1] = (u64)b2 << 32 | a2;
  seen[2] = (u64)d << 32 | c;
  seen[3] = (u64)d2 << 32 | c2;
}
static void do_rdtscp(void *p) {
  (void)p;
  u32 low, high, aux;
  u64 before = time_stamp();
  __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
  seen[0] = before;
  seen[1] = (u64)high << 32 | low;
  seen[2] = time_stamp();
  seen[3] = aux;
}
static u8 operand[64] __attribute__((aligned(16)));
static void do_vmxon(void *p) { __asm__ volatile(".byte 0xF3, 0x0F, 0xC7, 0x37" ::"D"(p)); }
static void do_vmclear(void *p) { __asm__ volatile(".byte 0x66, 0x0F, 0xC7, 0x37" ::"D"(p)); }
static void do_vmptrld(void *p) { __asm__ volatile(".byte 0x0F, 0xC7, 0x37" ::"D"(p)); }
static void do_vmptrst(void *p) { __asm__ volatile(".byte 0x0F, 0xC7, 0x3F" ::"D"(p)); }
static void do_vmlaunch(void *p) { (void)p; __asm__ volatile(".byte 0x0F, 0x01, 0xC2"); }
static void do_vmresume(void *p) { (void)p; __asm__ volatile(".byte 0x0F, 0x01, 0xC3"); }
static void do_vmxoff(void *p) { (void)p; __asm__ volatile(".byte 0x0F, 0x01, 0xC4"); }
static void do_vmread(void *p) { (void)p; __asm__ volatile(".byte 0x0F, 0x78, 0xC1" ::: "rcx"); }
static void do_vmwrite(void *p) { (void)p; __asm__ volatile(".byte 0x0F, 0x79, 0xC1" ::: "rax"); }
static void do_invept(void *p) { __asm__ volatile(".byte 0x66, 0x0F, 0x38, 0x80, 0x07" ::"D"(p)); }
static void do_ud2(void *p) { (void)p; __asm__ volatile("ud2"); }
static void do_int3(void *p) { (void)p; __asm__ volatile("int3"); }
static void do_hlt(void *p) { (void)p; __asm__ volatile("hlt"); }
static void do_cli(void *p) { (void)p; __asm__ volatile("cli"); }
static void do_in(void *p) { (void)p; in8(0x80); }
static void do_rdmsr(void *p) { (void)p; read_msr(0x10); }
static void do_cr0(void *p) { (void)p; word v; __asm__ volatile("mov %%cr0, %0" : "=r"(v)); }
static void do_dr7(void *p) { (void)p; word v; __asm__ volatile("mov %%dr7, %0" : "=r"(v)); }
static void do_int32(void *p) { (void)p; __asm__ volatile("int $0x21"); }
static void do_call_gate(void *p) { (void)p; __asm__ volatile("int $0x80"); }
static void do_beyond(void *p) { (void)p; seen[0] = MEMORY(u32, 0x500000000ull); }
static void do_not_canonical(void *p) { (void)p; seen[0] = MEMORY(u32, 0x800000000000ull); }
static void do_store(void *p) { *(volatile u64 *)p = 1; }
static void do_load(void *p) { (void)*(volatile u64 *)p; }
static void do_system_call(void *p) {
  (void)p;
  u64 result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(1) : "rcx", "r11", "memory");
  seen[0] = result;
  u64 stack_segment, code_segment;
  __asm__ volatile("mov %%ss, %0; mov %%cs, %1" : "=r"(stack_segment), "=r"(code_segment));
  seen[1] = (code_segment & 0xFFFF) << 16 | (stack_segment & 0xFFFF);
}
static void do_compare16(void *p) {
  u64 *pair = p;
  pair[0] = 1; pair[1] = 2;
  u8 equal;
  __asm__ volatile("lock cmpxchg16b (%1); sete %0" : "=q"(equal) : "r"(pair), "a"(1ull), "d"(2ull), "b"(3ull), "c"(4ull) : "memory", "cc");
  seen[0] = equal && pair[0] == 3 && pair[1] == 4;
}
__attribute__((noinline, aligned(16))) static void do_target(void *p) { __asm__ volatile("" ::"r"(p)); }
static void do_step(void *p) { (void)p; __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; nop; nop" ::: "memory", "cc"); }

static void raises(const char *name, void (*body)(void *), int wanted) {
  int vector = attempt_user(body, operand);
  check(name, vector == wanted, "vector %x instead of %x", vector, wanted);
}

static void set_debug(u64 address, u64 control) {
  __asm__ volatile("mov %0, %%dr6" ::"r"(0xFFFF0FF0ull));
  __asm__ volatile("mov %0, %%dr2" ::"r"(address));
  __asm__ volatile("mov %0, %%dr7" ::"r"(control));
}
static u64 get_dr6(void) { u64 v; __asm__ volatile("mov %%dr6, %0" : "=r"(v)); return v; }

static void debugging(void) {
  set_debug((u64)do_target, 0x420);  // G2: execution
  int vector = attempt_user(do_target, 0);
  u64 dr6 = get_dr6();
  check("user.execution-breakpoint", vector == DEBUG && (dr6 & 0xF) == 4 && trapped.ip == (u64)do_target,
        "vector %x, DR6 %x, at %X", vector, (u32)dr6, trapped.ip);
  set_debug((u64)&seen[4], 0x420 | 9ull << 24);  // write, 8 bytes
  vector = attempt_user(do_store, (void *)&seen[4]);
  dr6 = get_dr6();
  check("user.write-watchpoint", vector == DEBUG && (dr6 & 0xF) == 4 && seen[4] == 1, "vector %x, DR6 %x", vector, (u32)dr6);
  set_debug((u64)&seen[4], 0x420 | 9ull << 24);
  vector = attempt_user(do_load, (void *)&seen[4]);
  check("user.write-watchpoint-lets-read", vector == USER_DONE, "vector %x", vector);
  set_debug((u64)&seen[4], 0x420 | 0xBull << 24);  // read or write
  vector = attempt_user(do_load, (void *)&seen[4]);
  check("user.access-watchpoint", vector == DEBUG && (get_dr6() & 0xF) == 4, "vector %x", vector);
  set_debug(0, 0x400);
  vector = attempt_user(do_step, 0);
  dr6 = get_dr6();
  check("user.single-step", vector == DEBUG && (dr6 & 0x4000), "vector %x, DR6 %x", vector, (u32)dr6);
  set_debug(0, 0x400);
}

static void virtualization(void) {
  raises("user.vmxon", do_vmxon, INVALID_OPCODE);
  raises("user.vmclear", do_vmclear, INVALID_OPCODE);
  raises("user.vmptrld", do_vmptrld, INVALID_OPCODE);
  raises("user.vmptrst", do_vmptrst, INVALID_OPCODE);
  raises("user.vmlaunch", do_vmlaunch, INVALID_OPCODE);
  raises("user.vmresume", do_vmresume, INVALID_OPCODE);
  raises("user.vmxoff", do_vmxoff, INVALID_OPCODE);
  raises("user.vmread", do_vmread, INVALID_OPCODE);
  raises("user.vmwrite", do_vmwrite, INVALID_OPCODE);
  raises("user.invept", do_invept, INVALID_OPCODE);
}

static void privileges(void) {
  raises("user.hlt", do_hlt, GENERAL_PROTECTION);
  raises("user.cli", do_cli, GENERAL_PROTECTION);
  raises("user.in", do_in, GENERAL_PROTECTION);
  raises("user.rdmsr", do_rdmsr, GENERAL_PROTECTION);
  raises("user.cr0", do_cr0, GENERAL_PROTECTION);
  raises("user.dr7", do_dr7, GENERAL_PROTECTION);
  int vector;
  if (allowed("user-int")) {
    raises("user.int", do_call_gate, USER_CALL);
    vector = attempt_user(do_int32, 0);
    check("user.int-without-gate", vector == GENERAL_PROTECTION && trapped.error == (0x21 << 3 | 2), "vector %x error %x",
          vector, (u32)trapped.error);
  }
  vector = attempt_user(do_beyond, 0);
  u64 address;
  __asm__ volatile("mov %%cr2, %0" : "=r"(address));
  check("user.page-fault", vector == PAGE_FAULT && trapped.error == 4 && address == 0x500000000ull,
        "vector %x error %x address %X", vector, (u32)trapped.error, address);
  raises("user.not-canonical", do_not_canonical, GENERAL_PROTECTION);
}

static void calls(void) {
  write_msr(0xC0000081, 0x18ull << 32 | 0x2Bull << 48);  // STAR
  write_msr(0xC0000082, (u64)system_call_entry);
  write_msr(0xC0000084, 0x200);
  raises("user.syscall-off", do_system_call, INVALID_OPCODE);
  write_msr(0xC0000080, read_msr(0xC0000080) | 1);  // SCE
  u32 before = system_calls;
  int vector = attempt_user(do_system_call, 0);
  check("user.syscall", vector == USER_DONE && system_calls == before + 1 && seen[0] == 7 && seen[1] == 0x3B0033,
        "vector %x, result %X, segments %X", vector, seen[0], seen[1]);
  write_msr(0xC0000080, read_msr(0xC0000080) & ~1ull);
}

void user_checks(void) {
  int vector = attempt_user(do_nothing, 0);
  check("user.enter", vector == USER_DONE && trapped.cs == 0x3B && trapped.ss == 0x33, "vector %x, CS %x", vector, (u32)trapped.cs);
  vector = attempt_user(do_cpuid, 0);
  check("user.cpuid-rex-prefix", vector == USER_DONE && seen[0] == seen[1] && seen[2] == seen[3], "vector %x: %X %X",
        vector, seen[0], seen[1]);
  if (cpuid(0x80000001, 0).d & BIT(27)) {
    write_msr(0xC0000103, 0x1234567);
    check("msr.tsc-aux", read_msr(0xC0000103) == 0x1234567, "%X", read_msr(0xC0000103));
    vector = attempt_user(do_rdtscp, 0);
    check("user.rdtscp", vector == USER_DONE && seen[0] < seen[1] && seen[1] < seen[2] && seen[3] == 0x1234567,
          "vector %x, %X %X %X, TSC_AUX %X", vector, seen[0], seen[1], seen[2], seen[3]);
    if (allowed("rdtscp0")) {
      vector = attempt(do_rdtscp, 0);
      check("rdtscp", vector == -1 && seen[0] < seen[1] && seen[1] < seen[2] && seen[3] == 0x1234567, "vector %x, TSC_AUX %X",
            vector, seen[3]);
    }
  } else if (allowed("hides-instructions")) {
    raises("user.no-rdtscp", do_rdtscp, INVALID_OPCODE);
  }
  raises("user.ud2", do_ud2, INVALID_OPCODE);
  raises("user.int3", do_int3, BREAKPOINT);
  virtualization();
  privileges();
  if (allowed("user-debug")) debugging();
  if (allowed("syscall")) calls();
  if (cpuid(1, 0).c & BIT(13)) {
    vector = attempt_user(do_compare16, operand);
    check("user.cmpxchg16b", vector == USER_DONE && seen[0], "vector %x", vector);
  }
}
#endif
