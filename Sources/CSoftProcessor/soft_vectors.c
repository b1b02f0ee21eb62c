// The table of vector instructions, and MXCSR.
#include "soft_vectors.h"

#include <cpuid.h>

#include "vector_kernels.h"

enum { ENTRY_LIMIT = 640 };

soft_vector_entry soft_vector_table[ENTRY_LIMIT];
/// Number 0 stands for no kernel.
static uint32_t entry_count = 1;
static uint32_t host_features;

/// Head of the chain of entries with the same map, prefix and opcode; 0xFFFF ends it.
static uint16_t first_entry[3][4][256];
static uint16_t next_entry[ENTRY_LIMIT];

static uint32_t prefix_number(uint32_t prefix) {
  switch (prefix) {
  case 0x66: return 1;
  case 0xF3: return 2;
  case 0xF2: return 3;
  default: return 0;
  }
}

static void append(const soft_vector_entry *entries, uint32_t count) {
  for (uint32_t n = 0; n < count && entry_count < ENTRY_LIMIT; n++) {
    const soft_vector_entry *entry = &entries[n];
    uint16_t *head =
        &first_entry[entry->map - 1][prefix_number(entry->prefix)][entry->opcode];
    soft_vector_table[entry_count] = *entry;
    next_entry[entry_count] = *head;
    *head = (uint16_t)entry_count++;
  }
}

/// Before main: afterwards the table is read by any thread without a lock.
__attribute__((constructor(200))) static void build_table(void) {
  memset(first_entry, 0xFF, sizeof first_entry);
  append(soft_integer_entries, soft_integer_count);
  append(soft_float_entries, soft_float_count);
  append(soft_move_entries, soft_move_count);
  append(soft_extension_entries, soft_extension_count);

  uint32_t a, b, c, d;
  host_features = 1 << SOFT_FEATURE_BASE;
  if (__get_cpuid(1, &a, &b, &c, &d)) {
    if (c & 1 << 0) host_features |= 1 << SOFT_FEATURE_SSE3;
    if (c & 1 << 9) host_features |= 1 << SOFT_FEATURE_SSSE3;
    if (c & 1 << 19) host_features |= 1 << SOFT_FEATURE_SSE41;
    if (c & 1 << 20) host_features |= 1 << SOFT_FEATURE_SSE42;
    if (c & 1 << 25) host_features |= 1 << SOFT_FEATURE_AES;
    if (c & 1 << 1) host_features |= 1 << SOFT_FEATURE_CLMUL;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1 << 29)
    host_features |= 1 << SOFT_FEATURE_SHA;
}

uint32_t soft_vector_host_has(uint32_t feature) { return host_features >> feature & 1; }
uint32_t soft_vector_count(void) { return entry_count; }
const soft_vector_entry *soft_vector_at(uint32_t number) { return &soft_vector_table[number]; }

uint32_t soft_vector_find(uint32_t map, uint32_t prefix, uint32_t opcode, uint32_t modrm) {
  if (map < 1 || map > 3 || opcode > 0xFF) return SOFT_VECTOR_NONE;
  uint32_t number = first_entry[map - 1][prefix_number(prefix)][opcode];
  for (; number != SOFT_VECTOR_NONE; number = next_entry[number]) {
    const soft_vector_entry *entry = &soft_vector_table[number];
    if (entry->group != SOFT_VECTOR_ANY && entry->group != (modrm >> 3 & 7)) continue;
    uint32_t is_register = modrm >> 6 == 3;
    if (entry->flags & SOFT_VECTOR_REGISTER_ONLY && !is_register) continue;
    if (entry->flags & SOFT_VECTOR_MEMORY_ONLY && is_register) continue;
    return soft_vector_host_has(entry->feature) ? number : SOFT_VECTOR_NONE;
  }
  return SOFT_VECTOR_NONE;
}

void soft_vector_leave(soft_cpu *cpu) {
  if (!cpu->mxcsr_live) return;
  cpu->mxcsr |= host_mxcsr() & MXCSR_FLAGS;
  cpu->mxcsr_live = 0;
}

uint32_t soft_vector_status(soft_cpu *cpu) {
  soft_vector_leave(cpu);
  return cpu->mxcsr;
}

void soft_vector_set_status(soft_cpu *cpu, uint32_t value) {
  cpu->mxcsr_live = 0;
  cpu->mxcsr = value & MXCSR_VALID;
}

/// Whether a result is not zero and below the smallest normal number. The flag of a masked underflow says so only for
/// inexact ones (SDM 1, 11.5.2.5).
static uint32_t has_tiny(const uint8_t *result, uint32_t tiny) {
  uint32_t singles = tiny == TINY_PS ? 4 : tiny == TINY_SS ? 1 : 0;
  uint32_t doubles = tiny == TINY_PD ? 2 : tiny == TINY_SD ? 1 : 0;
  uint32_t halves = tiny == TINY_PH ? 4 : 0;
  for (uint32_t n = 0; n < halves; n++) {
    uint32_t magnitude = LOAD16(result + 2 * n) & 0x7FFFu;
    if (magnitude != 0 && magnitude < 0x0400) return 1;
  }
  for (uint32_t n = 0; n < singles; n++) {
    uint32_t magnitude = LOAD32(result + 4 * n) & 0x7FFFFFFF;
    if (magnitude != 0 && magnitude < 0x00800000) return 1;
  }
  for (uint32_t n = 0; n < doubles; n++) {
    uint64_t magnitude = LOAD64(result + 8 * n) & 0x7FFFFFFFFFFFFFFF;
    if (magnitude != 0 && magnitude < 0x0010000000000000) return 1;
  }
  return 0;
}

uint32_t soft_vector_float_slow(
    soft_cpu *cpu, soft_vector_kernel kernel, void *d, const void *s, uint32_t i, uint32_t tiny) {
  soft_vector_leave(cpu);
  uint32_t control = cpu->mxcsr & 0xFFC0;
  uint32_t unmasked = ~control >> 7 & MXCSR_FLAGS;
  uint32_t host = control | MXCSR_MASKS;
  // Flushing to zero is for masked underflow only (SDM 1, 10.2.3.3).
  if (unmasked & MXCSR_UNDERFLOW) host &= ~(uint32_t)MXCSR_FLUSH;

  uint8_t result[16] __attribute__((aligned(16)));
  memcpy(result, d, 16);
  set_host_mxcsr(host);
  kernel(cpu, result, s, i);
  uint32_t flags = host_mxcsr() & MXCSR_FLAGS;
  set_host_mxcsr(MXCSR_DEFAULT);

  if (unmasked & MXCSR_UNDERFLOW && has_tiny(result, tiny)) flags |= MXCSR_UNDERFLOW;
  const uint32_t before = MXCSR_INVALID | MXCSR_DENORMAL | MXCSR_DIVIDE;
  // Exceptions seen before the computation keep it from happening: no others are found then (SDM 1, 11.5.3).
  if (flags & unmasked & before) flags &= before;
  cpu->mxcsr |= flags;
  if (flags & unmasked) return 1;
  memcpy(d, result, 16);
  return 0;
}
