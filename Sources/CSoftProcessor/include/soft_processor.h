// The state of a processor in software, laid out in C so that every offset is fixed: Swift's handlers reach it through
// raw pointers, a translator to host code can use the same offsets, and C's floating-point shims share it.
//
// Nothing here allocates or decides anything.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "soft_debugger.h"

#pragma clang assume_nonnull begin

typedef struct soft_cpu soft_cpu;
typedef struct soft_operation soft_operation;
typedef struct soft_block soft_block;

/// Executes one decoded instruction and ends in a tail call of the next one's handler, or returns to the loop.
typedef void (*soft_handler)(soft_cpu *cpu, const soft_operation *operation);

/// A decoded instruction: 32 bytes. Nothing in it depends on the virtual address of the code.
struct soft_operation {
  soft_handler handler;
  /// The immediate, sign-extended; of a direct branch the displacement from the end of the instruction.
  uint64_t immediate;
  int32_t displacement;
  /// Registers of the effective address: 0 to 15, 16 is the register that is always 0, 17 the address of the next
  /// instruction (RIP-relative where the displacement does not reach from the block's start). 18 is `rip`, the block's
  /// start, which follows the registers: the displacement then counts from there.
  uint8_t base, index;
  /// Shift of the index, 0 to 3.
  uint8_t scale;
  /// 0 to 5: ES, CS, SS, DS, FS, GS.
  uint8_t segment;
  /// ModRM.reg with REX.R, ModRM.rm with REX.B; for byte registers the byte's offset in the register file
  /// (AH is 1, CH 9, DH 17, BH 25).
  uint8_t reg, rm;
  /// 1 to 15.
  uint8_t length;
  /// See SOFT_OPERATION_ below.
  uint8_t flags;
  /// From the start of the block, bytes.
  uint16_t offset;
  /// Opcode map (0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A) << 8 | opcode. The end of a block is 0xFFFF.
  uint16_t opcode;
};

enum {
  /// Operand size: log2 of bytes, 0 to 3.
  SOFT_OPERATION_SIZE_MASK = 3,
  /// Address size: 0 = 16, 1 = 32, 2 = 64 bit.
  SOFT_OPERATION_ADDRESS_SHIFT = 2,
  SOFT_OPERATION_ADDRESS_MASK = 3 << 2,
  SOFT_OPERATION_MEMORY = 1 << 4,
  SOFT_OPERATION_LOCK = 1 << 5,
  SOFT_OPERATION_REP = 1 << 6,   // F3
  SOFT_OPERATION_REPNE = 1 << 7, // F2
};

/// Straight-line code of one physical page (or of one instruction that crosses into the next).
struct soft_block {
  uint64_t physical_address;
  uint32_t mode;
  /// Of the page(s) when the block was decoded.
  uint32_t generation, generation2;
  uint16_t length;
  uint16_t count;
  const uint32_t *page_generation;
  const uint32_t *page_generation2;
  const soft_operation *operations;
  /// What stands before `operations[0]` and counts executions until the block is worth translating, or `operations`.
  const soft_operation *entry;
  /// Where translated code goes on to this block, with its own flags: its translation, or
  /// `soft_enter_interpreted`. Counts the block's instructions itself.
  const void *code;
  /// Successors inside the same virtual page: taken, fall-through.
  soft_block *_Nullable link0;
  soft_block *_Nullable link1;
  soft_block *_Nullable next_in_bucket;
};

typedef struct {
  uint64_t base;
  /// In bytes, granularity applied: the last valid offset.
  uint32_t limit;
  uint16_t selector;
  /// As in bits 40 to 55 of a descriptor: type, S, DPL, P in the low byte; AVL, L, D/B, G in bits 12 to 15.
  /// A null selector loaded in protected mode has P = 0.
  uint16_t attributes;
} soft_segment;

enum { SOFT_ES, SOFT_CS, SOFT_SS, SOFT_DS, SOFT_FS, SOFT_GS, SOFT_LDTR, SOFT_TR, SOFT_SEGMENT_COUNT };
enum { SOFT_RAX, SOFT_RCX, SOFT_RDX, SOFT_RBX, SOFT_RSP, SOFT_RBP, SOFT_RSI, SOFT_RDI, SOFT_ZERO = 16 };

/// A page that is mapped for one access class. A tag is the page's linear address when the access may take the fast
/// path; any low bit set sends it to the slow path. Empty entries hold all ones.
typedef struct {
  uint64_t read_tag, write_tag, fetch_tag;
  /// Host address minus linear address.
  uint64_t addend;
} soft_tlb_entry;

enum {
  SOFT_TLB_BITS = 10,
  SOFT_TLB_COUNT = 1 << SOFT_TLB_BITS,
  /// Access classes: user (CPL 3), supervisor, supervisor with AC = 1 (SMAP off for the moment).
  SOFT_TLB_CLASSES = 3,
  SOFT_TLB_FILL_LIMIT = 2048,
  SOFT_TLB_LARGE_WORDS = 64,
  SOFT_JUMP_CACHE_BITS = 15,
};

typedef struct {
  uint64_t linear;
  soft_block *_Nullable block;
  /// Of soft_cpu.tlb_generation when it was entered.
  uint32_t generation;
  uint32_t mode;
} soft_jump_entry;

/// What a writer must know about a page of RAM that holds decoded code. One for each 4 KiB.
typedef struct {
  /// Grows when a line with code in it is written: every block of the page is stale then.
  uint32_t generation;
  /// Bit n: code was decoded from the 128 bytes at 128 * n.
  uint32_t code_lines;
} soft_page;

enum {
  /// Operations and blocks that one processor keeps decoded; when either is full all are dropped.
  SOFT_CACHE_OPERATIONS = 1 << 20,
  SOFT_CACHE_BLOCKS = 1 << 17,
  SOFT_CACHE_BUCKET_BITS = 16,
};

/// The decoded code of one processor.
typedef struct {
  soft_operation *operations;
  soft_block *blocks;
  soft_block *_Nullable *_Nonnull buckets;
  uint32_t operation_count, block_count;
  /// Grows when everything is dropped.
  uint32_t epoch;
  /// Stands for the page of code that is not in memory.
  soft_page *no_page;
} soft_cache;

/// Memory for translated code, mapped twice: nothing is writable and executable at once.
typedef struct {
  /// Null: nothing is translated.
  uint8_t *_Nullable writable;
  const uint8_t *_Nullable executable;
  uint64_t size, position;
  /// Executions of a block after which it is translated.
  uint64_t threshold;
  /// Blocks translated since the start.
  uint64_t count;
} soft_translations;

/// A range of guest-physical memory with host memory behind it.
typedef struct {
  uint64_t start, end;
  uint8_t *host;
  /// One for each page.
  soft_page *pages;
  /// 0 for ROM: writes go to the bus.
  uint32_t is_writable;
} soft_region;

enum { SOFT_REGION_LIMIT = 64 };

/// What CPUID answers for a leaf or, with `has_index`, a sub-leaf.
typedef struct {
  uint32_t function, index, has_index, eax, ebx, ecx, edx;
} soft_cpuid_leaf;

/// What the processors of a machine share.
typedef struct {
  soft_region regions[SOFT_REGION_LIMIT];
  uint32_t region_count;
  uint32_t processor_count;
  /// processor_count pointers, to post events to the others; null where there is only one.
  soft_cpu *_Nullable *_Nullable processors;
  /// Whether stores are recorded: a translation gets its write tag by a store, which marks the page, and loses it when
  /// marks are taken. Atomic.
  uint32_t tracks_stores;
  /// Marks are being taken at this moment. Atomic.
  uint32_t takes_marks;
  /// The time stamp counter of the host at which the machine's time stands still; 0 while it runs. Atomic.
  uint64_t stopped_ticks;
  /// 0 = address line 20 is masked.
  uint64_t a20_mask;
  void *context;
  uint64_t (*memory_read)(void *context, uint64_t address, uint32_t size);
  void (*memory_write)(void *context, uint64_t address, uint32_t size, uint64_t value);
  uint64_t (*port_read)(void *context, uint32_t port, uint32_t size);
  void (*port_write)(void *context, uint32_t port, uint32_t size, uint64_t value);
} soft_board;

/// Bits of soft_cpu.events: why the loop must be left at the next block. Set from any thread by soft_post.
enum {
  /// The local APIC or the 8259A may have an interrupt: ask.
  SOFT_EVENT_INTERRUPT = 1 << 0,
  SOFT_EVENT_NMI = 1 << 1,
  SOFT_EVENT_INIT = 1 << 2,
  SOFT_EVENT_STARTUP = 1 << 3,
  /// Processor.interrupt() was called.
  SOFT_EVENT_STOP = 1 << 4,
  /// Another processor decoded code from pages: drop the write tags.
  SOFT_EVENT_CODE = 1 << 5,
  /// The memory map or A20 changed: flush everything.
  SOFT_EVENT_MAP = 1 << 6,
  /// Set by the processor itself: leave the loop after this instruction (mode changed, shadow, trap flag, ...).
  SOFT_EVENT_SELF = 1 << 7,
  /// The marks of stores were taken: pages that may have been written since must be marked again, and lose their write
  /// tags.
  SOFT_EVENT_MARKS = 1 << 8,
};

/// The part of the mode that decoding depends on, and that a block is keyed by.
enum {
  SOFT_MODE_CODE64 = 1 << 0,
  SOFT_MODE_CODE32 = 1 << 1,   // CS.D; neither: 16 bit
  SOFT_MODE_STACK32 = 1 << 2,  // SS.B
  SOFT_MODE_PROTECTED = 1 << 3, // CR0.PE and not virtual-8086
  SOFT_MODE_V86 = 1 << 4,
  SOFT_MODE_LONG = 1 << 5,     // EFER.LMA
  SOFT_MODE_FLAT = 1 << 6,     // DS, ES, SS, CS: base 0, limit 4 GiB, expand-up, present, DS/ES/SS writable
  SOFT_MODE_USER = 1 << 7,     // CPL 3
  SOFT_MODE_SINGLE = 1 << 8,   // one instruction a block: trap flag, interrupt shadow, hardware breakpoint in the page
};

enum {
  SOFT_EXCEPTION_NONE = 0xFFFF,
  /// No exception: the instruction in hand is for the processor that this one was borrowed by.
  SOFT_EXCEPTION_LEAVE = 0xFFFE,
};

/// What stays with the processor that borrows this one.
enum {
  /// Local APIC, model specific registers of time, HLT.
  SOFT_BORROWED = 1 << 0,
  /// The I/O APIC, the 8259As and the 8254.
  SOFT_BORROWED_CHIPS = 1 << 1,
};

struct soft_cpu {
  /// RAX to R15, then the one that is always 0, then scratch.
  uint64_t registers[18];
  /// Of the running block's first instruction while a block runs; of the next instruction outside.
  uint64_t rip;
  soft_block *_Nullable block;

  // Lazy arithmetic flags: see Flags.swift.
  uint64_t flag_result, flag_operand1, flag_operand2;
  /// Flags that translated code left: AH of LAHF in the high byte and OF in bit 0, or 0 while the words above hold.
  /// Only translated code runs while it is not 0.
  uint32_t flags_raw;
  /// RFLAGS without the six arithmetic flags (and bit 1 set). DF, IF, TF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
  uint32_t flags_other;

  uint32_t mode;
  /// Current privilege level.
  uint32_t cpl;
  /// Access by __atomic builtins only: soft_post, soft_events.
  uint32_t events;
  /// 1 while the processor's thread sleeps in soft_wait. Atomic.
  uint32_t waiting;
  uint32_t tlb_class;
  soft_tlb_entry *tlb; // of the current access class
  /// SOFT_TLB_CLASSES arrays of SOFT_TLB_COUNT entries.
  soft_tlb_entry *tlb_entries;
  /// Entries filled with translations that are not global, since the last flush: index in `tlb_entries`.
  uint16_t tlb_fills[SOFT_TLB_FILL_LIMIT];
  /// More than SOFT_TLB_FILL_LIMIT: the list is not complete.
  uint32_t tlb_fill_count;
  /// Grows with every flush of a page or more: what is keyed by linear address (the jump cache) is stale then.
  uint32_t tlb_generation;
  /// Large pages of which a part is cached, by hash of the page's number: 2 and 4 MiB, 1 GiB.
  uint64_t tlb_large[SOFT_TLB_LARGE_WORDS];
  soft_jump_entry *jump_cache;
  soft_cache cache;
  soft_translations translations;
  /// Of the operation that translated code leaves to.
  soft_handler leaving;

  soft_segment segments[SOFT_SEGMENT_COUNT];

  // An exception that the instruction in hand raised; SOFT_EXCEPTION_NONE when it did not.
  uint32_t exception;
  uint32_t exception_error;
  uint32_t exception_has_error;
  /// The #GP in hand is for an address that is not canonical: #SS if the operand is on the stack.
  uint32_t noncanonical;
  /// HLT with interrupts off was told to the machine.
  uint32_t halt_reported;
  /// Bits of the decoded instruction that raised an exception, for the loop.
  const soft_operation *_Nullable fault_operation;
  /// EXT of error codes: 1 while an exception or an interrupt from outside is delivered.
  uint32_t external_event;
  /// TF was set when the instruction in hand began.
  uint32_t step_pending;
  /// B0 to B3 of DR6: data breakpoints that the instruction in hand met.
  uint32_t debug_hits;
  /// Value of a slow-path read.
  uint64_t slow_value;
  /// Where the operand of a LOCK instruction that missed in the translation buffer lies, its page's record and its
  /// offset there; null where the host cannot lock it with one access: on the bus, or over the end of a cache line.
  void *_Nullable slow_host;
  soft_page *_Nullable slow_page;
  uint64_t slow_offset;

  uint64_t gdtr_base, idtr_base;
  uint32_t gdtr_limit, idtr_limit;
  uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
  uint64_t efer;
  uint64_t pdpte[4];
  /// DR0 to DR3, DR6, DR7; 4 and 5 are not used.
  uint64_t dr[8];
  uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
  uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
  uint64_t pat, apic_base, misc_enable, mtrr_def_type, tsc_deadline;
  uint64_t mtrr_fixed[11], mtrr_variable[16];
  /// Added to the host's time stamp counter.
  uint64_t tsc_offset;

  soft_cpuid_leaf *_Nullable cpuid;
  uint32_t cpuid_count;
  /// State components that XCR0 may have; 0 without XSAVE.
  uint64_t offered_states;
  /// RDMSR and WRMSR of registers that do not exist.
  uint64_t unknown_registers;
  /// An interrupt whose delivery had begun when the state was saved: vector | 0x100, 0x200 for INT, 0x400 for NMI.
  uint32_t restored_interrupt;

  /// Interrupts are held off for the next instruction: 1 after STI, 2 after MOV SS and POP SS (debug traps too).
  uint32_t interrupt_shadow;
  uint32_t nmi_blocked;
  /// 0 running, 1 halted, 2 waiting for SIPI, 3 shut down (triple fault).
  uint32_t activity;
  uint32_t startup_vector;
  uint64_t instructions; // retired, by blocks
  uint32_t index;
  /// SOFT_BORROWED bits: another processor keeps the local APIC, the clocks and maybe more; see BorrowedProcessor.swift.
  uint32_t borrowed;

  soft_board *board;
  /// Unmanaged references to Swift objects that slow paths use.
  void *owner;
  void *_Nullable apic;
  /// The SoftBoard.
  void *_Nullable soft_board;

  // Floating point and vectors.
  uint16_t fcw, fsw;
  /// Bit n: register n (physical) is not empty.
  uint8_t ftw;
  uint16_t fop;
  uint64_t fip, fdp;
  uint16_t fcs, fds;
  uint32_t mxcsr;
  /// 1: the host's MXCSR holds exception flags of this guest: see soft_vector_leave.
  uint32_t mxcsr_live;
  /// What a comparison of vectors gave, as in RFLAGS.
  uint32_t vector_flags;
  /// RFLAGS for and after an x87 instruction: FCMOVcc reads them, FCOMI writes them.
  uint64_t host_flags;
  /// Physical registers 0 to 7 in 80-bit form, MMX in their low 64 bits.
  __attribute__((aligned(16))) uint8_t x87[8][16];
  /// XMM0 to XMM15 in the low 16 bytes of YMM0 to YMM15.
  __attribute__((aligned(16))) uint8_t vectors[16][32];
  /// Where slow or unaligned vector operands are put together.
  __attribute__((aligned(16))) uint8_t scratch[512];
  /// Null without a debugger.
  soft_debugger *_Nullable debugger;
};

// Pointers into the structs: Swift sees C arrays as tuples.
static inline uint64_t *soft_registers(soft_cpu *cpu) { return cpu->registers; }
static inline soft_segment *soft_segments(soft_cpu *cpu) { return cpu->segments; }
static inline uint8_t *soft_x87_register(soft_cpu *cpu, uint32_t number) { return cpu->x87[number & 7]; }
static inline uint8_t *soft_vector_register(soft_cpu *cpu, uint32_t number) { return cpu->vectors[number & 15]; }
static inline uint8_t *soft_scratch(soft_cpu *cpu) { return cpu->scratch; }
static inline soft_region *soft_regions(soft_board *board) { return board->regions; }

/// Wakes the thread that sleeps in soft_wait. soft_post does it.
void soft_wake(soft_cpu *cpu);
/// Sleeps until there is an event. On the processor's own thread, when it is halted and has taken all events.
void soft_wait(soft_cpu *cpu);
static inline uint16_t *soft_tlb_fills(soft_cpu *cpu) { return cpu->tlb_fills; }
static inline uint64_t *soft_tlb_large(soft_cpu *cpu) { return cpu->tlb_large; }
static inline uint64_t *soft_page_directory_pointers(soft_cpu *cpu) { return cpu->pdpte; }
static inline uint64_t *soft_debug_registers(soft_cpu *cpu) { return cpu->dr; }
static inline uint64_t *soft_fixed_ranges(soft_cpu *cpu) { return cpu->mtrr_fixed; }
static inline uint64_t *soft_variable_ranges(soft_cpu *cpu) { return cpu->mtrr_variable; }

/// Entries of page tables: other processors change them at the same time.
static inline uint32_t soft_entry_load32(const void *entry) {
  return __atomic_load_n((const uint32_t *)entry, __ATOMIC_ACQUIRE);
}
static inline uint64_t soft_entry_load64(const void *entry) {
  return __atomic_load_n((const uint64_t *)entry, __ATOMIC_ACQUIRE);
}
/// Sets accessed and dirty bits, unless the entry has changed meanwhile.
static inline int soft_entry_mark32(void *entry, uint32_t old, uint32_t marked) {
  return __atomic_compare_exchange_n((uint32_t *)entry, &old, marked, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
static inline int soft_entry_mark64(void *entry, uint64_t old, uint64_t marked) {
  return __atomic_compare_exchange_n((uint64_t *)entry, &old, marked, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/// Compare and exchange, for LOCK: gives whether memory held `old`.
static inline int soft_exchange8(void *at, uint8_t old, uint8_t new_) {
  return __atomic_compare_exchange_n((uint8_t *)at, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline int soft_exchange16(void *at, uint16_t old, uint16_t new_) {
  return __atomic_compare_exchange_n((uint16_t *)at, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline int soft_exchange32(void *at, uint32_t old, uint32_t new_) {
  return __atomic_compare_exchange_n((uint32_t *)at, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline int soft_exchange64(void *at, uint64_t old, uint64_t new_) {
  return __atomic_compare_exchange_n((uint64_t *)at, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/// CMPXCHG16B: `old` (low, high) becomes what memory holds; gives whether it was exchanged. 16-byte aligned.
static inline int soft_exchange128(void *at, uint64_t old[_Nonnull 2], uint64_t low, uint64_t high) {
  uint8_t equal;
  __asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
                   : "=q"(equal), "+m"(*(__int128 *)at), "+a"(old[0]), "+d"(old[1])
                   : "b"(low), "c"(high)
                   : "cc", "memory");
  return equal;
}
/// What serializing instructions and changes of the address space do: all stores before are visible to other processors
/// before anything is read afterwards, page tables above all.
static inline void soft_drain_stores(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/// PAUSE: whoever this processor waits for may need its place on the host.
void soft_pause(void);
/// Held by LOCK instructions that cannot be one atomic access of the host.
void soft_lock_bus(void);
void soft_unlock_bus(void);
/// The host's time stamp counter, read after everything before it is done. Without the fence the host reads it ahead of a
/// lock that it still waits for, and time goes back from one processor to the next.
static inline uint64_t soft_cycles(void) {
  __asm__ volatile("lfence" ::: "memory");
  return __builtin_ia32_rdtsc();
}
/// CRC-32C of `size` bytes of `value`, one at a time (polynomial 0x11EDC6F41, reflected).
uint32_t soft_crc32c(uint32_t crc, uint64_t value, uint32_t size);

/// Lines of a page that code was decoded from.
static inline uint32_t soft_code_lines(const soft_page *page) {
  return __atomic_load_n(&page->code_lines, __ATOMIC_RELAXED);
}
/// Adds lines and gives those before.
static inline uint32_t soft_add_code_lines(soft_page *page, uint32_t lines) {
  return __atomic_fetch_or(&page->code_lines, lines, __ATOMIC_SEQ_CST);
}
/// Makes every block of a page stale. Its lines stay marked only until code is decoded from it again.
static inline void soft_page_invalidate(soft_page *page) {
  __atomic_store_n(&page->code_lines, 0, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&page->generation, 1, __ATOMIC_SEQ_CST);
}
static inline uint32_t *soft_generation_of(soft_page *page) { return &page->generation; }
static inline uint32_t soft_page_generation(const uint32_t *generation) {
  return __atomic_load_n(generation, __ATOMIC_RELAXED);
}
static inline soft_block *_Nullable *_Nonnull soft_bucket(soft_cpu *cpu, uint64_t address, uint32_t mode) {
  uint64_t hash = (address ^ (uint64_t)mode << 40) * 0x9E3779B97F4A7C15ull;
  return &cpu->cache.buckets[hash >> (64 - SOFT_CACHE_BUCKET_BITS)];
}

static inline void soft_post(soft_cpu *cpu, uint32_t events) {
  __atomic_fetch_or(&cpu->events, events, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&cpu->waiting, __ATOMIC_SEQ_CST) != 0) soft_wake(cpu);
}
static inline uint32_t soft_events(const soft_cpu *cpu) {
  return __atomic_load_n(&cpu->events, __ATOMIC_RELAXED);
}
/// Clears the bits and says which of them were set.
static inline uint32_t soft_take_events(soft_cpu *cpu, uint32_t events) {
  return __atomic_fetch_and(&cpu->events, ~events, __ATOMIC_SEQ_CST) & events;
}

// Marks of stores, for copies of memory while it changes. Whoever takes marks sets `takes_marks`, clears the marks, posts
// SOFT_EVENT_MARKS and clears `takes_marks` last: a processor that forgets a write tag, after draining its stores, sees
// the one or the other if it stored by that tag after its mark was cleared.
static inline int soft_tracks_stores(const soft_board *board) {
  return __atomic_load_n(&board->tracks_stores, __ATOMIC_RELAXED) != 0;
}
static inline void soft_set_tracks_stores(soft_board *board, int value) {
  __atomic_store_n(&board->tracks_stores, (uint32_t)value, __ATOMIC_SEQ_CST);
}
static inline void soft_set_takes_marks(soft_board *board, int value) {
  __atomic_store_n(&board->takes_marks, (uint32_t)value, __ATOMIC_SEQ_CST);
}
static inline int soft_must_mark(const soft_board *board, const soft_cpu *cpu) {
  if (__atomic_load_n(&board->takes_marks, __ATOMIC_SEQ_CST) != 0) return 1;
  return (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & SOFT_EVENT_MARKS) != 0;
}

/// The time stamp counter of the host as the machine sees it.
static inline uint64_t soft_board_ticks(const soft_board *board) {
  uint64_t stopped = __atomic_load_n(&board->stopped_ticks, __ATOMIC_SEQ_CST);
  return stopped != 0 ? stopped : soft_cycles();
}
static inline void soft_set_stopped_ticks(soft_board *board, uint64_t value) {
  __atomic_store_n(&board->stopped_ticks, value, __ATOMIC_SEQ_CST);
}

#pragma clang assume_nonnull end

#include "soft_translation.h"
