// What the processor must do at CPL 0: identification, exceptions for what is not allowed, debug registers.
// Intel SDM 3A, 2.5 (control registers), 6.15 (exceptions), 17.2 (debug registers); 2A, CPUID.
#include "kernel.h"

#define CR4_UMIP BIT(11)

static void identification(void) {
  struct cpuid root = cpuid(0, 0);
  check("cpuid.range", root.a >= 1 && root.a < 0x10000 && root.b, "leaf 0: %x %x", root.a, root.b);
  struct cpuid features = cpuid(1, 0);
  check("cpuid.hypervisor", features.c >> 31, "leaf 1 ECX %x", features.c);
  u32 wanted = BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(15);  // FPU PSE TSC MSR PAE CX8 APIC CMOV
  check("cpuid.basics", (features.d & wanted) == wanted, "leaf 1 EDX %x", features.d);
  check("cpuid.long-mode", cpuid(0x80000001, 0).d >> 29 & 1, "leaf 0x80000001 EDX %x", cpuid(0x80000001, 0).d);
  u32 extended = cpuid(0x80000000, 0).a;
  check("cpuid.extended-range", extended >= 0x80000008 && extended < 0x80010000, "%x", extended);
}

static void stamps(void) {
  u64 last = time_stamp(), backwards = 0;
  for (int i = 0; i < 20; i++) {
    u64 now = time_stamp();
    if (now <= last) backwards++;
    last = now;
  }
  check("tsc.monotonic", !backwards, "%u of 20 steps were not forwards", (u32)backwards);
}

// Registers that refuse ----------------------------------------------------------------------------------------

static void set_cr0(void *value) { __asm__ volatile("mov %0, %%cr0" ::"r"(*(word *)value) : "memory"); }
static void set_cr4(void *value) { __asm__ volatile("mov %0, %%cr4" ::"r"(*(word *)value) : "memory"); }
static word get_cr0(void) { word v; __asm__ volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static word get_cr4(void) { word v; __asm__ volatile("mov %%cr4, %0" : "=r"(v)); return v; }

static void refuses(const char *name, void (*set)(void *), word value) {
  int vector = attempt(set, &value);
  check(name, vector == GENERAL_PROTECTION && trapped.error == 0, "vector %x error %x", vector, (u32)trapped.error);
}

struct msr { u32 number; u64 value; };
static void do_read_msr(void *p) { struct msr *m = p; m->value = read_msr(m->number); }
static void do_write_msr(void *p) { struct msr *m = p; write_msr(m->number, m->value); }
static void refuses_msr(const char *name, void (*body)(void *), u32 number, u64 value) {
  struct msr msr = {number, value};
  int vector = attempt(body, &msr);
  check(name, vector == GENERAL_PROTECTION && trapped.error == 0, "vector %x, value %X", vector, msr.value);
}

struct xcr { u32 number; u64 value; };
static void do_xsetbv(void *p) {
  struct xcr *x = p;
  __asm__ volatile(".byte 0x0F, 0x01, 0xD1" ::"a"((u32)x->value), "d"((u32)(x->value >> 32)), "c"(x->number));
}
static u64 read_xcr0(void) {
  u32 low, high;
  __asm__ volatile(".byte 0x0F, 0x01, 0xD0" : "=a"(low), "=d"(high) : "c"(0));
  return (u64)high << 32 | low;
}
static void refuses_xcr(const char *name, u32 number, u64 value) {
  struct xcr xcr = {number, value};
  int vector = attempt(do_xsetbv, &xcr);
  check(name, vector == GENERAL_PROTECTION, "vector %x", vector);
}

static void extended_control(void) {
  word cr4 = get_cr4();
  if (!(cpuid(1, 0).c & BIT(26))) {
    // Without XSAVE, OSXSAVE is a reserved bit and XSETBV no instruction.
    refuses("xcr0.osxsave-without-xsave", set_cr4, cr4 | BIT(18));
    struct xcr xcr = {0, 1};
    int vector = attempt(do_xsetbv, &xcr);
    check("xcr0.no-xsetbv", vector == INVALID_OPCODE, "vector %x", vector);
    return;
  }
  word on = cr4 | BIT(18);
  struct xcr xcr = {0, 1};
  attempt(set_cr4, &cr4);
  int vector = attempt(do_xsetbv, &xcr);
  check("xcr0.needs-osxsave", vector == INVALID_OPCODE, "vector %x", vector);
  set_cr4(&on);
  CHECK("xcr0.osxsave-in-cpuid", cpuid(1, 0).c & BIT(27));
  struct cpuid state = cpuid(0xD, 0);
  u64 possible = (u64)state.d << 32 | state.a;
  refuses_xcr("xcr0.without-x87", 0, 2);
  refuses_xcr("xcr0.avx-without-sse", 0, 5);
  refuses_xcr("xcr0.reserved-bit", 0, 3 | 1ull << 62);
  refuses_xcr("xcr0.other-register", 5, 1);
  for (u32 bit = 2; bit < 63; bit++)
    if (!(possible >> bit & 1)) {
      refuses_xcr("xcr0.unsupported-bit", 0, 3 | 1ull << bit);
      break;
    }
  u64 good = 3 | (possible & 4);
  xcr = (struct xcr){0, good};
  vector = attempt(do_xsetbv, &xcr);
  check("xcr0.accepts", vector == -1, "vector %x", vector);
  if (allowed("xgetbv")) check("xcr0.reads-back", read_xcr0() == good, "XCR0 %X", read_xcr0());
  xcr.value = 1;
  attempt(do_xsetbv, &xcr);
  set_cr4(&cr4);
}

static void control_registers(void) {
  word cr0 = get_cr0(), cr4 = get_cr4();
  refuses("cr0.pg-without-pe", set_cr0, (cr0 & ~(word)1) | BIT(31));
  refuses("cr0.nw-without-cd", set_cr0, (cr0 & ~(word)BIT(30)) | BIT(29));
#ifdef __x86_64__
  if (allowed("cr-upper")) {
    refuses("cr0.upper-half", set_cr0, cr0 | 1ull << 40);
    refuses("cr4.upper-half", set_cr4, cr4 | 1ull << 40);
  }
  refuses("cr4.clear-pae", set_cr4, cr4 & ~(word)BIT(5));
#endif
  refuses("cr4.reserved-bit", set_cr4, cr4 | BIT(15));
  if (!(cpuid(1, 0).c & BIT(5))) refuses("cr4.vmxe-without-vmx", set_cr4, cr4 | BIT(13));
  word flipped = cr4 ^ BIT(3);  // DE
  int vector = attempt(set_cr4, &flipped);
  word now = get_cr4();
  check("cr4.accepts", vector == -1 && now == flipped, "vector %x, CR4 %X", vector, (u64)now);
  set_cr4(&cr4);
  check("cr0.kept", get_cr0() == cr0, "CR0 %X was %X", (u64)get_cr0(), (u64)cr0);
  extended_control();
  refuses_msr("msr.unknown-read", do_read_msr, 0x3FFF0123, 0);
  refuses_msr("msr.unknown-write", do_write_msr, 0x3FFF0123, 1);
  refuses_msr("msr.efer-reserved", do_write_msr, 0xC0000080, read_msr(0xC0000080) | 1ull << 40);
  refuses_msr("msr.apic-base-reserved", do_write_msr, 0x1B, read_msr(0x1B) | 1);
#ifdef __x86_64__
  refuses_msr("msr.efer-lme-while-paging", do_write_msr, 0xC0000080, read_msr(0xC0000080) & ~(u64)BIT(8));
  refuses_msr("msr.fs-base-not-canonical", do_write_msr, 0xC0000100, 1ull << 62);
  write_msr(0xC0000102, 0xFFFF800012345678);
  check("msr.kernel-gs-base", read_msr(0xC0000102) == 0xFFFF800012345678, "%X", read_msr(0xC0000102));
#endif
  write_msr(0x174, 0x18);
  check("msr.sysenter-cs", read_msr(0x174) == 0x18, "%X", read_msr(0x174));
}

// Exceptions -----------------------------------------------------------------------------------------------------

static void do_ud2(void *p) { (void)p; __asm__ volatile("ud2"); }
static void do_divide(void *p) { (void)p; __asm__ volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; mov $1, %%eax; div %%ecx" ::: "eax", "ecx", "edx"); }
static void do_int3(void *p) { (void)p; __asm__ volatile("int3"); }
static void do_long_instruction(void *p) {  // 16 bytes: prefixes beyond the limit
  (void)p;
  __asm__ volatile(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
}
static void do_lock_nop(void *p) { (void)p; __asm__ volatile(".byte 0xF0, 0x90"); }
static void do_bad_selector(void *p) { (void)p; __asm__ volatile("mov %0, %%es" ::"r"(0x1238)); }

static void raises(const char *name, void (*body)(void *), int wanted) {
  int vector = attempt(body, 0);
  check(name, vector == wanted, "vector %x instead of %x", vector, wanted);
}

static void exceptions(void) {
  raises("exception.ud2", do_ud2, INVALID_OPCODE);
  raises("exception.divide", do_divide, DIVIDE);
  raises("exception.lock-nop", do_lock_nop, INVALID_OPCODE);
  if (allowed("long-instruction")) raises("exception.too-long", do_long_instruction, GENERAL_PROTECTION);
  int vector = attempt(do_bad_selector, 0);
  check("exception.bad-selector", vector == GENERAL_PROTECTION && trapped.error == 0x1238, "vector %x error %x",
        vector, (u32)trapped.error);
  if (allowed("int3")) raises("exception.int3", do_int3, BREAKPOINT);
}

// Debug registers ------------------------------------------------------------------------------------------------

static word get_dr6(void) { word v; __asm__ volatile("mov %%dr6, %0" : "=r"(v)); return v; }
static word get_dr7(void) { word v; __asm__ volatile("mov %%dr7, %0" : "=r"(v)); return v; }
static void set_dr6(word v) { __asm__ volatile("mov %0, %%dr6" ::"r"(v)); }
static void set_dr7(word v) { __asm__ volatile("mov %0, %%dr7" ::"r"(v)); }

__attribute__((noinline, aligned(16))) static void do_target(void *p) { __asm__ volatile("" ::"r"(p)); }
static void do_read_dr4(void *p) { (void)p; word v; __asm__ volatile("mov %%dr4, %0" : "=r"(v)); }
static void do_read_dr0(void *p) { __asm__ volatile("mov %%dr0, %0" : "=r"(*(word *)p)); }
static void do_step(void *p) {
  (void)p;
  __asm__ volatile("pushf; orl $0x100, (%%" 
#ifdef __x86_64__
                   "rsp"
#else
                   "esp"
#endif
                   "); popf; nop; nop" ::: "memory", "cc");
}

static void debug_registers(void) {
  word value = 0x12345678, back = 0;
  for (int i = 0; i < 2; i++) {
    if (i) __asm__ volatile("mov %0, %%dr3" ::"r"(value)); else __asm__ volatile("mov %0, %%dr1" ::"r"(value));
    if (i) __asm__ volatile("mov %%dr3, %0" : "=r"(back)); else __asm__ volatile("mov %%dr1, %0" : "=r"(back));
    if (back != value) break;
  }
  check("debug.addresses", back == value, "%X", (u64)back);
  set_dr7(0x400);
  check("debug.dr7-fixed-bit", (get_dr7() & 0xF400) == 0x400, "DR7 %x", (u32)get_dr7());

  set_dr6(0xFFFF0FF0);
  __asm__ volatile("mov %0, %%dr0" ::"r"((word)do_target));
  set_dr7(0x402);  // G0: execution, one byte
  int vector = attempt(do_target, 0);
  word dr6 = get_dr6();
  set_dr7(0x400);
  check("debug.execution-breakpoint", vector == DEBUG && (dr6 & 0xF) == 1 && trapped.ip == (word)do_target,
        "vector %x, DR6 %x, at %X", vector, (u32)dr6, (u64)trapped.ip);
  set_dr6(0xFFFF0FF0);
  vector = attempt(do_target, 0);
  check("debug.off", vector == -1, "vector %x", vector);

  vector = attempt(do_step, 0);
  dr6 = get_dr6();
  check("debug.single-step", vector == DEBUG && (dr6 & 0x400F) == 0x4000, "vector %x, DR6 %x", vector, (u32)dr6);
  set_dr6(0xFFFF0FF0);

  word cr4 = get_cr4(), extended = cr4 | BIT(3);
  set_cr4(&extended);
  raises("debug.dr4-with-de", do_read_dr4, INVALID_OPCODE);
  set_cr4(&cr4);

  set_dr7(0x2400);  // GD: any access to a debug register traps
  vector = attempt(do_read_dr0, &back);
  dr6 = get_dr6();
  set_dr7(0x400);
  check("debug.general-detect", vector == DEBUG && dr6 & 0x2000, "vector %x, DR6 %x", vector, (u32)dr6);
  set_dr6(0xFFFF0FF0);
}

// Where nothing is -----------------------------------------------------------------------------------------------

static void nowhere(void) {
  u32 a = in8(0x5670), b = in16(0x5670), c = in32(0x5670);
  check("nowhere.ports", a == 0xFF && b == 0xFFFF && c == 0xFFFFFFFF, "%x %x %x", a, b, c);
  out8(0x5670, 1);
  out16(0x5670, 1);
  out32(0x5670, 1);
  word hole = 0xFD000000;
  MEMORY(u32, hole) = 0x12345678;
  a = MEMORY(u8, hole + 1);
  b = MEMORY(u16, hole + 2);
  c = MEMORY(u32, hole);
  check("nowhere.memory", a == 0xFF && b == 0xFFFF && c == 0xFFFFFFFF, "%x %x %x", a, b, c);
#ifdef __x86_64__
  u64 wide = MEMORY(u64, hole);
  check("nowhere.memory64", wide == ~0ull, "%X", wide);
#endif
  u8 buffer[8] = {0};
  void *target = buffer;
  u32 count = 8;
  __asm__ volatile("rep insb" : "+D"(target), "+c"(count) : "d"(0x5670) : "memory");
  int all = 1;
  for (u32 i = 0; i < 8; i++) all &= buffer[i] == 0xFF;
  check("nowhere.string-input", all && count == 0, "%x %x, left %u", buffer[0], buffer[7], count);
}

#ifdef __x86_64__
static void do_sse(void *p) { (void)p; __asm__ volatile("pxor %%xmm0, %%xmm0" ::: "memory"); }
static void wide_only(void) {
  u32 a = 0x80000008, a2 = a, b, c, d, b2, c2 = 0, d2;
  c = 0;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  __asm__ volatile(".byte 0x48, 0x0F, 0xA2" : "+a"(a2), "=b"(b2), "+c"(c2), "=d"(d2));
  check("cpuid.rex-prefix", a == a2 && b == b2 && c == c2 && d == d2, "%x instead of %x", a2, a);
  if (allowed("sse0")) {
    word cr0 = get_cr0(), cr4 = get_cr4(), on0 = (cr0 & ~(word)0xC) | 2, on4 = cr4 | BIT(9);
    set_cr0(&on0);
    set_cr4(&on4);
    int vector = attempt(do_sse, 0);
    check("sse.at-cpl0", vector == -1, "vector %x", vector);
    word task = on0 | 8;
    set_cr0(&task);
    vector = attempt(do_sse, 0);
    check("sse.task-switched", vector == NO_COPROCESSOR, "vector %x", vector);
    set_cr0(&on0);
  }
}
#endif

#ifndef __x86_64__
// Paging in 32-bit mode by pages of 4 MiB, one to one but for one that is missing and one that cannot be written.
static u32 directory[1024] __attribute__((aligned(4096)));
#define MISSING 0x7F000000u
#define READ_ONLY 0x02000000u
static void do_read_missing(void *p) { (void)p; (void)MEMORY(u32, MISSING + 8); }
static void do_write_protected(void *p) { (void)p; MEMORY(u32, READ_ONLY + 4) = 1; }

static void paging(void) {
  for (u32 page = 0; page < 1024; page++) directory[page] = page << 22 | 0x83;
  directory[MISSING >> 22] = 0;
  directory[READ_ONLY >> 22] = READ_ONLY | 0x81;
  word cr0 = get_cr0(), cr4 = get_cr4(), large = cr4 | BIT(4), on = cr0 | BIT(31) | BIT(16);
  set_cr4(&large);
  __asm__ volatile("mov %0, %%cr3" ::"r"(directory) : "memory");
  set_cr0(&on);
  int vector = attempt(do_read_missing, 0);
  word address;
  __asm__ volatile("mov %%cr2, %0" : "=r"(address));
  u32 error = trapped.error;
  int other = attempt(do_write_protected, 0);
  u32 other_error = trapped.error, dirty = directory[0] & 0x60;
  set_cr0(&cr0);
  set_cr4(&cr4);
  check("paging.missing", vector == PAGE_FAULT && error == 0 && address == MISSING + 8, "vector %x error %x address %x", vector, error,
        (u32)address);
  check("paging.read-only", other == PAGE_FAULT && other_error == 3, "vector %x error %x", other, other_error);
  check("paging.accessed", dirty & 0x20, "%x", dirty);
}
#endif

void processor_checks(void) {
  identification();
  stamps();
  control_registers();
  exceptions();
  debug_registers();
  nowhere();
#ifdef __x86_64__
  wide_only();
#else
  if (allowed("paging32")) paging();
#endif
}
