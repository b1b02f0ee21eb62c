// The table of VEX instructions, and how lanes are put together: see soft_vex.h.
#include "soft_vex.h"

#include <cpuid.h>

#include "vector_kernels.h"
#include "vex_kernels.h"

enum { VEX_LIMIT = 512 };

soft_vex_entry soft_vex_table[VEX_LIMIT];
static uint32_t vex_count = 1;
static uint32_t has_vex;
/// Head of the chain of entries with the same map, prefix and opcode; 0 ends it.
static uint16_t first_vex[3][4][256];
static uint16_t next_vex[VEX_LIMIT];

static uint32_t prefix_index(uint32_t prefix) {
  return prefix == 0x66 ? 1 : prefix == 0xF3 ? 2 : prefix == 0xF2 ? 3 : 0;
}

static void append(soft_vex_entry entry) {
  if (vex_count >= VEX_LIMIT) return;
  uint16_t *head = &first_vex[entry.map - 1][prefix_index(entry.prefix)][entry.opcode];
  soft_vex_table[vex_count] = entry;
  next_vex[vex_count] = *head;
  *head = (uint16_t)vex_count++;
}

// Which older instructions have a VEX form, and which (Intel SDM 2A, 2.3 and appendix A).
enum { NOT_PROMOTED = 1 << 15, ONE = SOFT_VEX_ONLY_128, SCALAR = SOFT_VEX_SCALAR, FIRST = SOFT_VEX_FIRST };

static uint32_t promote_plain(uint32_t prefix, uint32_t opcode, uint32_t is_memory_only, uint32_t is_register_only) {
  uint32_t is_scalar = prefix == 0xF3 || prefix == 0xF2;
  switch (opcode) {
  case 0x10: case 0x11:
    if (!is_scalar) return 0;
    if (is_memory_only) return SCALAR;
    if (is_register_only) return SCALAR | FIRST;
    return SCALAR;
  case 0x12: return is_scalar ? 0 : ONE | FIRST;
  case 0x13: case 0x17: return ONE;
  case 0x16: return is_scalar ? 0 : ONE | FIRST;
  case 0x14: case 0x15: case 0xC6: return FIRST;
  case 0x28: case 0x29: case 0x2B: return 0;
  case 0x2A: return is_scalar ? SCALAR | FIRST : NOT_PROMOTED;
  case 0x2C: case 0x2D: return is_scalar ? SCALAR : NOT_PROMOTED;
  case 0x2E: case 0x2F: return SCALAR;
  case 0x50: return 0;
  case 0x51: case 0x52: case 0x53: return is_scalar ? SCALAR | FIRST : 0;
  case 0x5A: return is_scalar ? SCALAR | FIRST : 0;
  case 0x5B: return 0;
  case 0x54: case 0x55: case 0x56: case 0x57: return FIRST;
  case 0x58: case 0x59: case 0x5C: case 0x5D: case 0x5E: case 0x5F: case 0xC2:
    return is_scalar ? SCALAR | FIRST : FIRST;
  case 0x6E: return prefix == 0x66 ? ONE : NOT_PROMOTED;
  case 0x7E: return prefix == 0 ? NOT_PROMOTED : ONE;
  case 0x6F: case 0x7F: return prefix == 0 ? NOT_PROMOTED : 0;
  case 0x70: return prefix == 0 ? NOT_PROMOTED : 0;
  case 0x71: case 0x72: case 0x73: return prefix == 0x66 ? 0 : NOT_PROMOTED;
  case 0x7C: case 0x7D: case 0xD0: return FIRST;
  case 0xC4: return prefix == 0x66 ? ONE | FIRST : NOT_PROMOTED;
  case 0xC5: case 0xF7: return prefix == 0x66 ? ONE : NOT_PROMOTED;
  case 0xD6: return prefix == 0x66 ? ONE : NOT_PROMOTED;
  case 0xD7: case 0xE7: return prefix == 0x66 ? 0 : NOT_PROMOTED;
  case 0xE6: return 0;
  case 0xF0: return prefix == 0xF2 ? 0 : NOT_PROMOTED;
  default: return prefix == 0x66 ? FIRST : NOT_PROMOTED;
  }
}

static uint32_t promote(const soft_vector_entry *entry) {
  if (entry->map == 1)
    return promote_plain(
        entry->prefix, entry->opcode, entry->flags & SOFT_VECTOR_MEMORY_ONLY,
        entry->flags & SOFT_VECTOR_REGISTER_ONLY);
  if (entry->prefix != 0x66) return NOT_PROMOTED;
  if (entry->map == 2) switch (entry->opcode) {
    case 0x10: case 0x14: case 0x15: return NOT_PROMOTED;
    case 0x17: case 0x1C: case 0x1D: case 0x1E: case 0x2A: return 0;
    case 0x20: case 0x21: case 0x22: case 0x23: case 0x24: case 0x25: return 0;
    case 0x30: case 0x31: case 0x32: case 0x33: case 0x34: case 0x35: return 0;
    case 0x41: case 0xDB: return ONE;
    case 0xDC: case 0xDD: case 0xDE: case 0xDF: return ONE | FIRST;
    default: return FIRST;
    }
  switch (entry->opcode) {
  case 0x08: case 0x09: return 0;
  case 0x0A: case 0x0B: return SCALAR | FIRST;
  case 0x14: case 0x15: case 0x16: case 0x17: return ONE;
  case 0x20: case 0x21: case 0x22: case 0x41: case 0x44: return ONE | FIRST;
  case 0x60: case 0x61: case 0x62: case 0x63: case 0xDF: return ONE;
  default: return FIRST;
  }
}

static void append_promoted(uint32_t number) {
  const soft_vector_entry *old = soft_vector_at(number);
  if (old->flags & (SOFT_VECTOR_MMX_REG | SOFT_VECTOR_MMX_RM)) return;
  uint32_t flags = promote(old);
  if (flags & NOT_PROMOTED) return;
  // Comparisons have 32 predicates here: kernels of their own.
  if (old->map == 1 && old->opcode == 0xC2) return;
  soft_vex_entry entry = {
      .kernel = old->kernel, .number = (uint16_t)number, .map = old->map, .prefix = old->prefix,
      .opcode = old->opcode, .group = old->group, .shape = old->shape, .size = old->size,
      .size256 = flags & SCALAR ? old->size : 32, .stride = 16};
  if (old->flags & SOFT_VECTOR_REGISTER_ONLY) flags |= SOFT_VEX_REGISTER_ONLY;
  if (old->flags & SOFT_VECTOR_MEMORY_ONLY) flags |= SOFT_VEX_MEMORY_ONLY;
  if (old->flags & SOFT_VECTOR_IMMEDIATE) flags |= SOFT_VEX_IMMEDIATE;
  if (old->flags & SOFT_VECTOR_FLOAT) flags |= SOFT_VEX_FLOAT;
  uint32_t map = entry.map, opcode = entry.opcode;
  // Only moves that say so mind the alignment.
  if (old->flags & SOFT_VECTOR_ALIGNED
      && ((map == 1 && (opcode == 0x28 || opcode == 0x29 || opcode == 0x2B || opcode == 0xE7
                        || ((opcode == 0x6F || opcode == 0x7F) && entry.prefix == 0x66)))
          || (map == 2 && opcode == 0x2A)))
    flags |= SOFT_VEX_ALIGNED;
  if (map == 1 && entry.prefix == 0x66
      && (opcode >= 0xD1 && (opcode <= 0xD3 || opcode == 0xE1 || opcode == 0xE2
                             || (opcode >= 0xF1 && opcode <= 0xF3)))) {
    // Shifts: one count for all lanes.
    entry.stride = 0;
    entry.size256 = 16;
  } else if ((map == 2 && ((opcode >= 0x20 && opcode <= 0x25) || (opcode >= 0x30 && opcode <= 0x35)))
             || (map == 1 && ((opcode == 0x5A && entry.prefix == 0) || (opcode == 0xE6 && entry.prefix == 0xF3)))) {
    entry.stride = entry.size;
    entry.size256 = entry.size * 2;
  } else if (map == 1 && ((opcode == 0x5A && entry.prefix == 0x66)
                          || (opcode == 0xE6 && entry.prefix != 0xF3))) {
    flags |= SOFT_VEX_NARROW;
  }
  if (map == 1 && opcode == 0xC6 && entry.prefix == 0x66) entry.lane_bits = 2;
  if (map == 3 && opcode == 0x0C) entry.lane_bits = 4;
  if (map == 3 && opcode == 0x0D) entry.lane_bits = 2;
  if (map == 3 && opcode == 0x42) entry.lane_bits = 3;
  entry.flags = (uint16_t)flags;
  append(entry);
  // MOVSS and MOVSD to registers merge with the first source; to memory they have none.
  if (map == 1 && opcode == 0x11 && flags & SCALAR) {
    soft_vex_table[vex_count - 1].flags |= SOFT_VEX_MEMORY_ONLY;
    entry.flags |= SOFT_VEX_REGISTER_ONLY | FIRST;
    append(entry);
  }
}

/// Before main, after the older table.
__attribute__((constructor(201))) static void build_vex_table(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return;
  const uint32_t wanted = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
  if ((c & wanted) != wanted) return;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1 << 5)) return;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 6) != 6) return;
  for (uint32_t n = 1; n < soft_vector_count(); n++)
    if (soft_vector_host_has(soft_vector_at(n)->feature)) append_promoted(n);
  for (uint32_t n = 0; n < soft_vex_new_count; n++) append(soft_vex_new_entries[n]);
  has_vex = 1;
}

uint32_t soft_vex_host_has(void) { return has_vex; }
uint32_t soft_vex_count(void) { return vex_count; }

uint32_t soft_vex_find(
    uint32_t map, uint32_t prefix, uint32_t opcode, uint32_t modrm, uint32_t is_wide, uint32_t is_256) {
  if (map < 1 || map > 3 || opcode > 0xFF) return 0;
  uint32_t is_register = modrm >> 6 == 3;
  for (uint32_t number = first_vex[map - 1][prefix_index(prefix)][opcode]; number != 0;
       number = next_vex[number]) {
    const soft_vex_entry *entry = &soft_vex_table[number];
    uint32_t flags = entry->flags;
    if (entry->group != SOFT_VECTOR_ANY && entry->group != (modrm >> 3 & 7)) continue;
    if (flags & SOFT_VEX_REGISTER_ONLY && !is_register) continue;
    if (flags & SOFT_VEX_MEMORY_ONLY && is_register) continue;
    if (flags & SOFT_VEX_W0 && is_wide) continue;
    if (flags & SOFT_VEX_W1 && !is_wide) continue;
    if (flags & SOFT_VEX_ONLY_128 && is_256) continue;
    if (flags & SOFT_VEX_ONLY_256 && !is_256) continue;
    return number;
  }
  return 0;
}

// MARK: Lanes

static uint32_t lane_count(const soft_vex_entry *entry, uint64_t immediate) {
  return soft_vex_is_256(immediate) && !(entry->flags & SOFT_VEX_SCALAR) ? 2 : 1;
}

uint32_t soft_vex_compute(
    soft_cpu *cpu, uint64_t immediate, uint32_t target, const void *source, uint32_t is_wide,
    uint8_t *result) {
  const soft_vex_entry *entry = soft_vex_of(immediate);
  const uint8_t *from = source;
  const uint8_t *first = cpu->vectors[soft_vex_first(immediate)];
  uint32_t lanes = lane_count(entry, immediate);
  memset(result, 0, 32);
  if (entry->flags & SOFT_VEX_REPEAT) {
    for (uint32_t at = 0; at < 16 * lanes; at += entry->size) memcpy(result + at, from, entry->size);
    return 0;
  }
  if (entry->whole) {
    entry->whole(result, first, from, (uint32_t)(immediate & 0xFF));
    return 0;
  }
  uint32_t raised = 0;
  // Exceptions seen before the computation in one lane keep it from happening in the other too.
  uint32_t is_watched =
      entry->flags & SOFT_VEX_FLOAT && lanes == 2 && (cpu->mxcsr & 0xFFC0) != MXCSR_DEFAULT;
  uint32_t old_flags = 0;
  if (is_watched) {
    soft_vector_leave(cpu);
    old_flags = cpu->mxcsr & MXCSR_FLAGS;
    cpu->mxcsr &= ~(uint32_t)MXCSR_FLAGS;
  }
  for (uint32_t lane = 0; lane < lanes; lane++) {
    uint8_t *to = result + 16 * lane;
    uint32_t i = (uint32_t)(immediate & 0xFF) >> lane * entry->lane_bits;
    i |= (is_wide ? 0x100 : 0) | lane << 9;
    const uint8_t *lane_source = from + entry->stride * lane;
    if (entry->flags & SOFT_VEX_THREE) {
      uint8_t pair[32];
      memcpy(to, cpu->vectors[target & 15] + 16 * lane, 16);
      memcpy(pair, first + 16 * lane, 16);
      memcpy(pair + 16, lane_source, 16);
      raised |= entry->kernel(cpu, to, pair, i);
    } else {
      if (entry->flags & SOFT_VEX_FIRST) memcpy(to, first + 16 * lane, 16);
      if (entry->shape == SOFT_SHAPE_GROUP) memcpy(to, lane_source, 16);
      raised |= entry->kernel(cpu, to, lane_source, i);
    }
  }
  if (is_watched) {
    const uint32_t before = MXCSR_INVALID | MXCSR_DENORMAL | MXCSR_DIVIDE;
    if (cpu->mxcsr & ~cpu->mxcsr >> 7 & before) cpu->mxcsr &= ~(MXCSR_FLAGS & ~before);
    cpu->mxcsr |= old_flags;
  }
  if (entry->flags & SOFT_VEX_NARROW && lanes == 2) {
    memcpy(result + 8, result + 16, 8);
    memset(result + 16, 0, 16);
  }
  return raised;
}

uint32_t soft_vex_run(
    soft_cpu *cpu, uint64_t immediate, uint32_t target, const void *source, uint32_t is_wide) {
  uint8_t result[32];
  if (soft_vex_compute(cpu, immediate, target, source, is_wide, result)) return 1;
  memcpy(cpu->vectors[target & 15], result, 32);
  return 0;
}

uint32_t soft_vex_to_general(
    soft_cpu *cpu, uint64_t immediate, const void *source, uint32_t is_wide, uint64_t *result) {
  const soft_vex_entry *entry = soft_vex_of(immediate);
  uint32_t i = (uint32_t)(immediate & 0xFF) | (is_wide ? 0x100 : 0);
  uint32_t raised = entry->kernel(cpu, result, source, i);
  if (lane_count(entry, immediate) == 2) {
    uint64_t upper = 0;
    raised |= entry->kernel(cpu, &upper, (const uint8_t *)source + 16, i);
    *result |= upper << (entry->opcode == 0xD7 ? 16 : entry->prefix == 0x66 ? 2 : 4);
  }
  return raised;
}

uint32_t soft_vex_compare(soft_cpu *cpu, uint64_t immediate, uint32_t register_, const void *source) {
  const soft_vex_entry *entry = soft_vex_of(immediate);
  uint8_t *first = cpu->vectors[register_ & 15];
  uint32_t raised = entry->kernel(cpu, first, source, 0);
  if (lane_count(entry, immediate) == 2) {
    // Tests of bits: both lanes must have it so.
    uint32_t flags = cpu->vector_flags;
    raised |= entry->kernel(cpu, first + 16, (const uint8_t *)source + 16, 0);
    cpu->vector_flags &= flags;
  }
  return raised;
}

void soft_vex_clear_upper(soft_cpu *cpu, uint32_t number) {
  memset(cpu->vectors[number & 15] + 16, 0, 16);
}

void soft_vex_zero(soft_cpu *cpu, uint32_t count, uint32_t is_all) {
  for (uint32_t n = 0; n < count && n < 16; n++)
    memset(cpu->vectors[n] + (is_all ? 0 : 16), 0, is_all ? 32 : 16);
}

uint64_t soft_states_in_use(const soft_cpu *cpu) {
  uint64_t used = 0;
  uint64_t low = 0, high = 0, x87 = 0;
  for (uint32_t n = 0; n < 16; n++) {
    low |= LOAD64(cpu->vectors[n]) | LOAD64(cpu->vectors[n] + 8);
    high |= LOAD64(cpu->vectors[n] + 16) | LOAD64(cpu->vectors[n] + 24);
  }
  for (uint32_t n = 0; n < 8; n++) x87 |= LOAD64(cpu->x87[n]) | LOAD16(cpu->x87[n] + 8);
  if (x87 != 0 || cpu->fcw != 0x37F || cpu->fsw != 0 || cpu->ftw != 0 || cpu->fop != 0
      || cpu->fip != 0 || cpu->fdp != 0)
    used |= 1;
  if (low != 0) used |= 2;
  if (high != 0) used |= 4;
  return used;
}
