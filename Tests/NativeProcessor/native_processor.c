// See the header. Signals bring exceptions back; everything else returns through stubs that touch no register and no
// flag before all are saved.
#define _GNU_SOURCE
#include "native_processor.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { SHARED = 0x30000000, NONE = 0xFFFF };

/// Below 4 GiB, for the 32-bit stubs too.
typedef struct {
  native_state state;
  uint64_t host_stack;
  uint64_t slot;
  /// Far pointer to the instruction, and back.
  uint32_t far_offset;
  uint32_t far_selector;
  uint64_t target;
} shared_area;

static shared_area *const shared = (shared_area *)SHARED;
static uint8_t *const code_page = (uint8_t *)(uintptr_t)NATIVE_CODE;
static uint8_t *data_alias;
static int has_32bit;
/// Which kind of code the slots are for now; -1 when there are none.
static int slots_for = -1;
static struct sigaction old_actions[5];
static const int signals[5] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
static stack_t old_stack;
static uint8_t *signal_stack;
enum { SIGNAL_STACK = 1 << 16 };

_Static_assert(__builtin_offsetof(native_state, flags) == 136, "used by the assembly below");
_Static_assert(__builtin_offsetof(native_state, fx) == 144, "used by the assembly below");
_Static_assert(sizeof(native_state) == 672, "used by the assembly below");

// native_enter: saves the host's registers, loads the state, goes to the instruction.
// native_leave: back from 64-bit code. native_leave_32: back from 32-bit code, still in it.
// native_recover: back from a signal, the state has been saved by the handler.
__asm__(
    ".text\n"
    ".set S, 0x30000000\n"
    ".globl native_enter\n.hidden native_enter\n"
    "native_enter:\n"
    "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "subq $8, %rsp\n"
    "movq %rsp, S+672\n"
    "fxrstor64 S+144\n"
    "cmpb $0, S+1280\n je 2f\n"
    "vinsertf128 $1, S+1024, %ymm0, %ymm0\n vinsertf128 $1, S+1040, %ymm1, %ymm1\n vinsertf128 $1, S+1056, %ymm2, %ymm2\n vinsertf128 $1, S+1072, %ymm3, %ymm3\n vinsertf128 $1, S+1088, %ymm4, %ymm4\n vinsertf128 $1, S+1104, %ymm5, %ymm5\n vinsertf128 $1, S+1120, %ymm6, %ymm6\n vinsertf128 $1, S+1136, %ymm7, %ymm7\n vinsertf128 $1, S+1152, %ymm8, %ymm8\n vinsertf128 $1, S+1168, %ymm9, %ymm9\n vinsertf128 $1, S+1184, %ymm10, %ymm10\n vinsertf128 $1, S+1200, %ymm11, %ymm11\n vinsertf128 $1, S+1216, %ymm12, %ymm12\n vinsertf128 $1, S+1232, %ymm13, %ymm13\n vinsertf128 $1, S+1248, %ymm14, %ymm14\n vinsertf128 $1, S+1264, %ymm15, %ymm15\n"
    "2:\n"
    "testl %edi, %edi\n"
    "jnz 1f\n"
    "pushq S+136\n"
    "popfq\n"
    "movq S+0, %rax\n movq S+8, %rcx\n movq S+16, %rdx\n movq S+24, %rbx\n"
    "movq S+32, %rsp\n movq S+40, %rbp\n movq S+48, %rsi\n movq S+56, %rdi\n"
    "movq S+64, %r8\n movq S+72, %r9\n movq S+80, %r10\n movq S+88, %r11\n"
    "movq S+96, %r12\n movq S+104, %r13\n movq S+112, %r14\n movq S+120, %r15\n"
    "jmpq *S+696\n"
    "1:\n"
    "movl $0x2B, %eax\n movl %eax, %ds\n movl %eax, %es\n"
    "pushq S+136\n"
    "popfq\n"
    "movl S+0, %eax\n movl S+8, %ecx\n movl S+16, %edx\n movl S+24, %ebx\n"
    "movl S+32, %esp\n movl S+40, %ebp\n movl S+48, %esi\n movl S+56, %edi\n"
    "ljmpl *S+688\n"

    ".globl native_leave\n.hidden native_leave\n"
    "native_leave:\n"
    "movq %rax, S+0\n movq %rcx, S+8\n movq %rdx, S+16\n movq %rbx, S+24\n"
    "movq %rsp, S+32\n movq %rbp, S+40\n movq %rsi, S+48\n movq %rdi, S+56\n"
    "movq %r8, S+64\n movq %r9, S+72\n movq %r10, S+80\n movq %r11, S+88\n"
    "movq %r12, S+96\n movq %r13, S+104\n movq %r14, S+112\n movq %r15, S+120\n"
    "movq S+672, %rsp\n"
    "pushfq\n popq S+136\n"
    "cld\n"
    "fxsave64 S+144\n"
    ".globl native_recover\n.hidden native_recover\n"
    "native_recover:\n"
    "xorl %eax, %eax\n movl %eax, %ds\n movl %eax, %es\n"
    "pushq $0x202\n popfq\n"
    "cmpb $0, S+1280\n je 3f\n"
    "vextractf128 $1, %ymm0, S+1024\n vextractf128 $1, %ymm1, S+1040\n vextractf128 $1, %ymm2, S+1056\n vextractf128 $1, %ymm3, S+1072\n vextractf128 $1, %ymm4, S+1088\n vextractf128 $1, %ymm5, S+1104\n vextractf128 $1, %ymm6, S+1120\n vextractf128 $1, %ymm7, S+1136\n vextractf128 $1, %ymm8, S+1152\n vextractf128 $1, %ymm9, S+1168\n vextractf128 $1, %ymm10, S+1184\n vextractf128 $1, %ymm11, S+1200\n vextractf128 $1, %ymm12, S+1216\n vextractf128 $1, %ymm13, S+1232\n vextractf128 $1, %ymm14, S+1248\n vextractf128 $1, %ymm15, S+1264\n"
    "vzeroupper\n"
    "3:\n"
    "fninit\n"
    "pushq $0x1F80\n ldmxcsr (%rsp)\n addq $8, %rsp\n"
    "addq $8, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
    "ret\n"

    // Copied into the code page: runs there in 32-bit mode.
    ".code32\n"
    ".globl native_leave_32\n.hidden native_leave_32\n"
    "native_leave_32:\n"
    "movl %eax, S+0\n movl %ecx, S+8\n movl %edx, S+16\n movl %ebx, S+24\n"
    "movl %esp, S+32\n movl %ebp, S+40\n movl %esi, S+48\n movl %edi, S+56\n"
    "ljmpl $0x33, $0x10000D00\n"
    ".globl native_leave_32_end\n.hidden native_leave_32_end\n"
    "native_leave_32_end:\n"
    ".code64\n"
    ".globl native_landing\n.hidden native_landing\n"
    "native_landing:\n"
    "movq S+672, %rsp\n"
    "pushfq\n popq S+136\n"
    "cld\n"
    "fxsave64 S+144\n"
    "jmpq *0x10000DF8\n"
    ".globl native_landing_end\n.hidden native_landing_end\n"
    "native_landing_end:\n");
void native_enter(int is_32bit) __attribute__((visibility("hidden")));
extern const uint8_t native_leave[] __attribute__((visibility("hidden")));
extern const uint8_t native_recover[] __attribute__((visibility("hidden")));
extern const uint8_t native_leave_32[] __attribute__((visibility("hidden")));
extern const uint8_t native_leave_32_end[] __attribute__((visibility("hidden")));
extern const uint8_t native_landing[] __attribute__((visibility("hidden")));
extern const uint8_t native_landing_end[] __attribute__((visibility("hidden")));

static volatile int is_inside;

static void on_signal(int number, siginfo_t *info, void *context) {
  ucontext_t *user = context;
  if (!is_inside) {
    // Not ours: let it end the process as usual.
    signal(number, SIG_DFL);
    return;
  }
  greg_t *from = user->uc_mcontext.gregs;
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (int n = 0; n < 16; n++) shared->state.registers[n] = (uint64_t)from[order[n]];
  shared->state.rip = (uint64_t)from[REG_RIP];
  shared->state.flags = (uint64_t)from[REG_EFL];
  memcpy(shared->state.fx, user->uc_mcontext.fpregs, 512);
  shared->state.vector = (uint32_t)from[REG_TRAPNO];
  shared->state.error = (uint32_t)from[REG_ERR];
  shared->state.address = (uint64_t)from[REG_CR2];
  (void)info;

  from[REG_RIP] = (greg_t)(uintptr_t)native_recover;
  from[REG_RSP] = (greg_t)shared->host_stack;
  from[REG_EFL] = 0x202;
  // CS, GS, FS, SS in one word.
  from[REG_CSGSFS] = (from[REG_CSGSFS] & 0x0000FFFFFFFF0000) | 0x33 | (0x2Bll << 48);
  uint8_t *fx = (uint8_t *)user->uc_mcontext.fpregs;
  memset(fx, 0, 24);
  fx[0] = 0x7F, fx[1] = 3;
  const uint32_t status = 0x1F80;
  memcpy(fx + 24, &status, 4);
}

static void put(uint8_t **to, const void *from, unsigned long count) {
  memcpy(*to, from, count);
  *to += count;
}

static void make_slots(int is_32bit) {
  for (uint32_t n = 0; n < NATIVE_SLOT_COUNT; n++) {
    uint8_t *to = code_page + NATIVE_SLOT_START + n * NATIVE_SLOT_SIZE;
    // mov dword [abs], n; then a jump
    uint32_t where = SHARED + __builtin_offsetof(shared_area, slot);
    if (is_32bit) {
      put(&to, "\xC7\x05", 2), put(&to, &where, 4), put(&to, &n, 4);
    } else {
      put(&to, "\xC7\x04\x25", 3), put(&to, &where, 4), put(&to, &n, 4);
    }
    int32_t distance = NATIVE_CODE + 0xC00 - (int32_t)(uintptr_t)(to + 5);
    put(&to, "\xE9", 1), put(&to, &distance, 4);
  }
  uint8_t *to = code_page + 0xC00;
  if (is_32bit) {
    put(&to, native_leave_32, (unsigned long)(native_leave_32_end - native_leave_32));
  } else {
    // jmp qword [rip+0]
    const uint8_t *target = native_leave;
    put(&to, "\xFF\x25\0\0\0\0", 6), put(&to, &target, 8);
  }
}

int native_open(void) {
  slots_for = -1;
  int fd = memfd_create("native", 0);
  if (fd < 0 || ftruncate(fd, NATIVE_DATA_SIZE + NATIVE_READ_ONLY_SIZE) != 0) return 0;
  // Populated: an error code must tell of protection, not of a page that Linux has yet to bring.
  const int fixed = MAP_FIXED_NOREPLACE;
  void *code = mmap(code_page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  void *data = mmap((void *)NATIVE_DATA, NATIVE_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE | fixed, fd, 0);
  void *constant = mmap((void *)(NATIVE_DATA + NATIVE_DATA_SIZE), NATIVE_READ_ONLY_SIZE, PROT_READ, MAP_SHARED | MAP_POPULATE | fixed, fd, NATIVE_DATA_SIZE);
  void *common = mmap(shared, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  data_alias = mmap(0, NATIVE_DATA_SIZE + NATIVE_READ_ONLY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  signal_stack = mmap(0, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED || data == MAP_FAILED || constant == MAP_FAILED || common == MAP_FAILED
      || data_alias == MAP_FAILED || signal_stack == MAP_FAILED)
    return 0;
  stack_t stack = {.ss_sp = signal_stack, .ss_size = SIGNAL_STACK};
  sigaltstack(&stack, &old_stack);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  for (int n = 0; n < 5; n++) sigaction(signals[n], &action, &old_actions[n]);

  memcpy(code_page + 0xD00, native_landing, (unsigned long)(native_landing_end - native_landing));
  *(uint8_t *)(uintptr_t)(SHARED + 1280) = __builtin_cpu_supports("avx") ? 1 : 0;
  const uint8_t *recover = native_recover;
  memcpy(code_page + 0xDF8, &recover, 8);

  // INC EAX is 40 in 32-bit code; in 64-bit code it would be a prefix.
  native_state state;
  memset(&state, 0, sizeof state);
  const uint32_t status = 0x1F80;
  memcpy(state.fx + 24, &status, 4);
  state.flags = 0x202;
  state.registers[4] = NATIVE_DATA + 0x800;
  has_32bit = 1;
  native_run(&state, (const uint8_t *)"\x40", 1, 1);
  has_32bit = state.vector == NONE && state.registers[0] == 1;
  return 1;
}

int native_has_32bit(void) { return has_32bit; }

void native_close(void) {
  for (int n = 0; n < 5; n++) sigaction(signals[n], &old_actions[n], 0);
  sigaltstack(&old_stack, 0);
  munmap(code_page, 4096);
  munmap((void *)NATIVE_DATA, NATIVE_DATA_SIZE + NATIVE_READ_ONLY_SIZE);
  munmap(shared, 4096);
  munmap(data_alias, NATIVE_DATA_SIZE + NATIVE_READ_ONLY_SIZE);
  munmap(signal_stack, SIGNAL_STACK);
}

uint8_t *native_upper(void) { return (uint8_t *)(uintptr_t)(SHARED + 1024); }
int native_has_avx(void) { return *(volatile uint8_t *)(uintptr_t)(SHARED + 1280); }

uint8_t *native_data(void) { return data_alias; }

void native_run(native_state *state, const uint8_t *code, uint32_t length, int is_32bit) {
  if (slots_for != is_32bit) {
    memset(code_page, 0xCC, 0xC00);
    make_slots(is_32bit);
    slots_for = is_32bit;
  }
  uint8_t *to = code_page + (NATIVE_ENTRY - NATIVE_CODE);
  put(&to, code, length);
  // What follows is slot 0: its number is still there, and the way back.
  int32_t distance = NATIVE_CODE + NATIVE_SLOT_START - (int32_t)(uintptr_t)(to + 5);
  put(&to, "\xE9", 1), put(&to, &distance, 4);

  shared->state = *state;
  shared->state.vector = NONE;
  shared->state.error = 0;
  shared->state.address = 0;
  shared->slot = 0;
  shared->far_offset = (uint32_t)NATIVE_ENTRY;
  shared->far_selector = 0x23;
  shared->target = NATIVE_ENTRY;
  is_inside = 1;
  native_enter(is_32bit);
  is_inside = 0;
  *state = shared->state;
  if (state->vector == NONE) {
    uint64_t slot = shared->slot & 0xFFFF;
    state->rip = slot == 0 ? NATIVE_ENTRY + length
                           : NATIVE_CODE + NATIVE_SLOT_START + slot * NATIVE_SLOT_SIZE;
  }
}
